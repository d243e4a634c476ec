"""The questions of problems.py against independent solvers of their text; the loader against good
and bad files.
"""

import ast
import json
import operator
import random
import re
from collections import Counter
from fractions import Fraction

import pytest
from shared import load_split

import problems as problems_module
from lesson.arithmetic import DATA, FAMILIES, draw_problem, write_splits
from problems import load_data, load_problems, take_problems
from support.rows import DataError

SPLITS = ("train", "validation", "test")  # whole ones, by shared.load_split


def parts(data):
    return [data.train, data.validation, data.test]


# --------------------------------------------------------------------------------------------------
# Solvers that see nothing but the question


def calculate(expression):
    """The exact value of an expression of whole numbers, + - * / and brackets, by Python's own
    parser.
    """
    operators = {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Div: operator.truediv,
    }

    def value(node):
        return (
            operators[type(node.op)](value(node.left), value(node.right))
            if isinstance(node, ast.BinOp)
            else Fraction(node.value)
        )

    return value(ast.parse(expression, mode="eval").body)


def solve_arithmetic(question):
    return calculate(re.fullmatch(r"Compute (.+)\.", question)[1])


def solve_remainder(question):
    expression, divisor = re.fullmatch(
        r"What is the remainder when (.+) is divided by (\d+)\?", question
    ).groups()
    return calculate(expression) % int(divisor)


def solve_fraction(question):
    share, whole, then = re.fullmatch(r"What is (\d+/\d+) of (\d+)\?(.*)", question).groups()
    value = Fraction(share) * int(whole)
    for sentence in re.findall(r"[^.]+\.", then):
        n = int(re.search(r"\d+", sentence)[0])
        value = {"Add": value + n, "Take": value - n, "Multiply": value * n, "Divide": value / n}[
            sentence.split()[0]
        ]
    return value


def solve_story(question):
    first, *sentences, asked = re.findall(r"[^.?]+[.?]", question)
    value = Fraction(re.search(r"\d+", first)[0])
    for sentence in sentences:
        n = int(re.search(r"\d+", sentence)[0])
        verb = re.search(r"finds|buys|loses|sells|has|grows|shares|falls|packs", sentence)[0]
        value = {
            "finds": value + n,
            "buys": value + n,
            "loses": value - n,
            "sells": value - n,
            "has": value * n,
            "grows": value * n,
            "shares": value / n,
            "falls": value / n,
            "packs": value % n,
        }[verb]
    assert ("left over" in asked) == ("packs" in question)
    return value


SOLVERS = {
    "arithmetic": solve_arithmetic,
    "remainder": solve_remainder,
    "fraction": solve_fraction,
    "story": solve_story,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_bundled_answer_is_right(family):
    """An exact solver that reads the question alone arrives at each answer; every division comes
    out even.
    """
    problems = [p for split in SPLITS for p in load_split(split) if p.family == family]
    assert len(problems) > 1000
    wrong = [p for p in problems if SOLVERS[family](p.problem) != int(p.answer)]
    assert not wrong


class CountedRandom(random.Random):
    """Random numbers that run out, so that an endless search fails instead of hanging."""

    draws = 0

    def randint(self, low, high):
        self.draws += 1
        assert self.draws < 3_000_000, (
            "the generator searches without end: no numbers fit its operations"
        )
        return super().randint(low, high)


def test_longer_chains_are_found_and_right():
    """Up to five operations, as promised; some sequences of them, such as five multiplications, no
    numbers fit.
    """
    rng = CountedRandom(0)
    for p in (draw_problem(rng, levels=(4, 5)) for _ in range(300)):
        assert SOLVERS[p.family](p.problem) == int(p.answer) and 0 <= int(p.answer) <= 999


def test_start_and_ops_lead_to_the_answer():
    """What the teacher sees is the same problem as the question: the chain of operations ends at
    the answer.
    """
    rng = random.Random(0)
    for p in (draw_problem(rng) for _ in range(500)):
        value = Fraction(p.start)
        for symbol, n in p.ops:
            value = {
                "+": value + n,
                "-": value - n,
                "*": value * n,
                "/": value / n,
                "%": value % n,
            }[symbol]
        assert value == int(p.answer) and p.level == len(p.ops)


# --------------------------------------------------------------------------------------------------
# The bundled splits


def test_no_question_is_in_two_splits_or_twice_in_one():
    """Evaluation problems are never trained on."""
    counts = Counter(p.problem for split in SPLITS for p in load_split(split))
    assert len(counts) == 7500 and set(counts.values()) == {1}


def test_the_bundled_files_are_what_the_generator_writes(tmp_path):
    """Data and generator belong together, byte for byte."""
    write_splits(tmp_path)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == {
        f"{s}.jsonl": (DATA / f"{s}.jsonl").read_bytes() for s in SPLITS
    }


def test_every_split_has_every_family_and_level():
    """No split lacks a kind of problem."""
    for split in SPLITS:
        kinds = {(p.family, p.level) for p in load_split(split)}
        assert kinds >= {(f, level) for f in FAMILIES for level in (2, 3)} | {
            ("arithmetic", 1),
            ("story", 1),
            ("remainder", 1),
        }


def test_without_a_file_the_bundled_splits_are_used(monkeypatch):
    """Training, validation, test, in this order: they differ in size."""
    monkeypatch.setattr(problems_module, "load_split", load_split)
    assert [len(split) for split in parts(load_data())] == [6000, 500, 1000]


# --------------------------------------------------------------------------------------------------
# Your own file


def write(path, *lines):
    path.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    )
    return path


def test_the_loader_knows_the_usual_names(tmp_path):
    """problem, question, prompt; answer, solution, target; numbers as answers; blank lines and
    Windows line ends.
    """
    path = write(
        tmp_path / "own.jsonl",
        {"problem": "a", "answer": "1"},
        b"",
        {"question": "b", "solution": 2},
        b"  \r",
        {"prompt": "c", "target": " 0.5 ", "family": "f", "level": 3},
        {"question": "é", "answer": "∞"},
    )
    assert [(p.problem, p.answer, p.family, p.level) for p in load_problems(path)] == [
        ("a", "1", "", 0),
        ("b", "2", "", 0),
        ("c", "0.5", "f", 3),
        ("é", "∞", "", 0),
    ]


@pytest.mark.parametrize(
    "line, words",
    [
        (b'{"problem": "a", "answer"', "not JSON"),
        (["a", "1"], "not an object"),
        (b'{"problem": "\xff", "answer": "1"}', "UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_line_is_named(tmp_path, line, words):
    """The message has the file, the number of the line (blank ones counted) and what is wrong with
    it.
    """
    path = write(tmp_path / "own.jsonl", {"problem": "a", "answer": "1"}, b"", line)
    with pytest.raises(DataError, match=f"own.jsonl, line 3: .*{words}"):
        load_problems(path)


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_is_named(tmp_path, content):
    """No problems is an error of the file, not a run that never starts."""
    with pytest.raises(DataError, match="own.jsonl: no problems"):
        load_problems(write(tmp_path / "own.jsonl", content))


def test_a_missing_file_is_named(tmp_path):
    """The path that was looked for stands in the message."""
    with pytest.raises(DataError, match="none.jsonl: cannot be read"):
        load_problems(tmp_path / "none.jsonl")


def numbered(path, count):
    return write(path, *({"problem": f"question {i}", "answer": i} for i in range(count)))


@pytest.mark.parametrize("count, held", [(10, 1), (57, 5), (6000, 500)])
def test_own_data_is_split_without_overlap(tmp_path, count, held):
    """A tenth, at most 500, for validation and as many for test; together the splits are the file,
    and they are the same each time.
    """
    splits = parts(load_data(numbered(tmp_path / "own.jsonl", count)))
    assert [len(s) for s in splits] == [count - 2 * held, held, held]
    assert {p.problem for s in splits for p in s} == {f"question {i}" for i in range(count)}
    assert parts(load_data(tmp_path / "own.jsonl")) == splits


def test_copies_of_a_question_do_not_leak(tmp_path):
    """A question that a file has twice must not be trained on and tested on."""
    path = write(
        tmp_path / "own.jsonl",
        *({"problem": f"question {i % 50}", "answer": i % 50} for i in range(100)),
    )
    train, validation, test = ({p.problem for p in split} for split in parts(load_data(path)))
    assert not train & (validation | test) and not validation & test


def test_a_very_small_file_is_used_whole(tmp_path, capsys):
    """Below ten problems nothing can be held out, and the user is told."""
    train, validation, test = parts(load_data(numbered(tmp_path / "own.jsonl", 9)))
    assert train == validation == test and len(train) == 9
    assert "fewer than 10" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------
# The cursor


def test_an_epoch_visits_each_problem_once_in_an_order_of_its_own():
    """Two epochs, taken in uneven pieces: each is a shuffle of all problems, and they differ."""
    problems = list(range(50))
    taken = [p for cursor in range(0, 100, 20) for p in take_problems(problems, cursor, 20, seed=0)]
    assert sorted(taken[:50]) == sorted(taken[50:]) == problems
    assert taken[:50] != taken[50:] and problems not in (taken[:50], taken[50:])


def test_taking_goes_on_where_the_last_call_stopped():
    """Pitfall: resume. 2 + 2 steps take what 4 take, across an epoch's end, and another seed takes
    others.
    """
    problems = list(range(7))
    four = take_problems(problems, 0, 20, seed=3)
    assert take_problems(problems, 0, 10, seed=3) + take_problems(problems, 10, 10, seed=3) == four
    assert take_problems(problems, 0, 20, seed=4) != four
