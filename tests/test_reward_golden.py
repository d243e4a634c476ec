"""The golden table of the math reward, `reward_cases.txt`: each line is one pair and its verdict."""

from pathlib import Path

import pytest

from reward import is_equivalent


def read_cases() -> list[tuple[str, bool, str, str]]:
    """Return (tag, verdict, answer, gold) of every line."""
    cases, tag = [], ""
    for line in (Path(__file__).parent / "reward_cases.tsv").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            tag = line[2:].split(":")[0]
        elif line:
            verdict, pred, gold = line.split("\t")
            cases.append((tag, verdict == "+", pred, gold))
    return cases


CASES = read_cases()


@pytest.mark.parametrize("tag, equal, pred, gold", CASES, ids=[f"{c[0]}: {c[2]} | {c[3]}" for c in CASES])
def test_golden(tag, equal, pred, gold):
    assert is_equivalent(pred, gold) is equal


def test_the_table_has_both_verdicts_under_every_tag():
    for tag in {case[0] for case in CASES}:
        verdicts = {equal for t, equal, _, _ in CASES if t == tag}
        assert verdicts == {True, False} or tag in ("layout commands change nothing", "several answers, a bound or a negation where one value is asked for")
