"""The golden table of the math reward, `reward_cases.tsv`.

It has one pair a line, under the convention that the pair shows.

A line is `+` (equal) or `-` (not equal), the answer and the gold, separated by tabs.
"""

from pathlib import Path

import pytest

from reward import is_equivalent

TABLE = Path(__file__).parent / "reward_cases.tsv"


def read_cases(lines: list[str]) -> list[tuple[str, bool, str, str]]:
    """Return (tag, verdict, answer, gold) of every line."""
    cases = []
    tag = ""
    for line in filter(None, lines):
        if line.startswith("#"):
            tag = line.removeprefix("# ").split(":")[0]
        else:
            verdict, pred, gold = line.split("\t")
            cases.append((tag, {"+": True, "-": False}[verdict], pred, gold))
    return cases


CASES = read_cases(TABLE.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(
    "tag, equal, pred, gold", CASES, ids=[f"{tag} {p} | {g}" for tag, _, p, g in CASES]
)
def test_verdict(tag, equal, pred, gold):
    assert is_equivalent(pred, gold) is equal


def test_every_case_is_symmetric():
    assert [c for c in CASES if is_equivalent(c[3], c[2]) is not c[1]] == []


def test_no_case_is_listed_twice():
    pairs = [case[2:] for case in CASES]
    assert len(set(pairs)) == len(pairs)
