"""The bundled questions against independent solvers of their text; splits, order, own files."""

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

SPLITS = ("train", "validation", "test")  # whole ones, by shared.load_split


def parts(data):
    return [data.train, data.validation, data.test]


# --------------------------------------------------------------------------------------------------
# Solvers that see nothing but the question


def calculate(expression):
    """The exact value of whole numbers, + - * / and brackets, by Python's own parser."""
    operators = {ast.Add: operator.add, ast.Sub: operator.sub}
    operators |= {ast.Mult: operator.mul, ast.Div: operator.truediv}

    def value(node):
        if isinstance(node, ast.BinOp):
            return operators[type(node.op)](value(node.left), value(node.right))
        return Fraction(node.value)

    return value(ast.parse(expression, mode="eval").body)


def solve_arithmetic(question):
    return calculate(re.fullmatch(r"Compute (.+)\.", question)[1])


def solve_remainder(question):
    form = r"What is the remainder when (.+) is divided by (\d+)\?"
    expression, divisor = re.fullmatch(form, question).groups()
    return calculate(expression) % int(divisor)


def solve_fraction(question):
    share, whole, then = re.fullmatch(r"What is (\d+/\d+) of (\d+)\?(.*)", question).groups()
    value = Fraction(share) * int(whole)
    for sentence in re.findall(r"[^.]+\.", then):
        n = int(re.search(r"\d+", sentence)[0])
        results = {"Add": value + n, "Take": value - n, "Multiply": value * n, "Divide": value / n}
        value = results[sentence.split()[0]]
    return value


VERBS = {"finds": "+", "buys": "+", "loses": "-", "sells": "-", "has": "*", "grows": "*"}
VERBS |= {"shares": "/", "falls": "/", "packs": "%"}


def apply(value, symbol, n):
    results = {"+": value + n, "-": value - n, "*": value * n, "/": value / n, "%": value % n}
    return results[symbol]


def solve_story(question):
    first, *sentences, asked = re.findall(r"[^.?]+[.?]", question)
    value = Fraction(re.search(r"\d+", first)[0])
    for sentence in sentences:
        n = int(re.search(r"\d+", sentence)[0])
        value = apply(value, VERBS[re.search("|".join(VERBS), sentence)[0]], n)
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
    """An exact solver that reads the question alone arrives at it; divisions come out even."""
    problems = [p for split in SPLITS for p in load_split(split) if p.family == family]
    assert len(problems) > 1000
    wrong = [p for p in problems if SOLVERS[family](p.problem) != int(p.answer)]
    assert not wrong


class CountedRandom(random.Random):
    """Random numbers that run out, so that an endless search fails instead of hanging."""

    draws = 0

    def randint(self, low, high):
        self.draws += 1
        assert self.draws < 3_000_000, "no numbers fit the operations, and the search never ends"
        return super().randint(low, high)


def test_longer_chains_are_found_and_right():
    """Up to five operations, as promised; five multiplications, say, no numbers fit."""
    rng = CountedRandom(0)
    for p in (draw_problem(rng, levels=(4, 5)) for _ in range(300)):
        assert SOLVERS[p.family](p.problem) == int(p.answer) and 0 <= int(p.answer) <= 999


def test_start_and_ops_lead_to_the_answer():
    """What the teacher sees is the same problem as the question."""
    rng = random.Random(0)
    for p in (draw_problem(rng) for _ in range(500)):
        value = Fraction(p.start)
        for symbol, n in p.ops:
            value = apply(value, symbol, n)
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
    right = {f"{split}.jsonl": (DATA / f"{split}.jsonl").read_bytes() for split in SPLITS}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == right


def test_every_split_has_every_family_and_level():
    """No split lacks a kind of problem."""
    kinds = {(family, level) for family in FAMILIES for level in (2, 3)}
    kinds |= {("arithmetic", 1), ("story", 1), ("remainder", 1)}
    for split in SPLITS:
        assert {(p.family, p.level) for p in load_split(split)} >= kinds


def test_without_a_file_the_bundled_splits_are_used(monkeypatch):
    """Training, validation, test, in this order: they differ in size."""
    monkeypatch.setattr(problems_module, "load_split", load_split)
    assert [len(split) for split in parts(load_data())] == [6000, 500, 1000]


# --------------------------------------------------------------------------------------------------
# Your own file


def test_the_loader_knows_the_usual_names(tmp_path):
    """problem, question, prompt; answer, solution, target; numbers; blank lines."""
    (tmp_path / "own.jsonl").write_bytes(
        b'{"problem": "a", "answer": "1"}\n\n{"question": "b", "solution": 2}\n  \r\n'
        b'{"prompt": "c", "target": " 0.5 ", "family": "f", "level": 3}\n'
        + '{"question": "é", "answer": "∞"}'.encode()
    )
    found = load_problems(tmp_path / "own.jsonl")
    right = [("a", "1", "", 0), ("b", "2", "", 0), ("c", "0.5", "f", 3), ("é", "∞", "", 0)]
    assert [(p.problem, p.answer, p.family, p.level) for p in found] == right


def numbered(path, count):
    rows = [{"problem": f"question {i}", "answer": i} for i in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("count, held", [(10, 1), (57, 5), (6000, 500)])
def test_own_data_is_split_without_overlap(tmp_path, count, held):
    """A tenth, at most 500, for validation and as many for test, the same each time."""
    splits = parts(load_data(numbered(tmp_path / "own.jsonl", count)))
    assert [len(s) for s in splits] == [count - 2 * held, held, held]
    assert {p.problem for s in splits for p in s} == {f"question {i}" for i in range(count)}
    assert parts(load_data(tmp_path / "own.jsonl")) == splits


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
    """Pitfall: resume. 2 + 2 steps take what 4 take, also across an epoch's end."""
    problems = list(range(7))
    four = take_problems(problems, 0, 20, seed=3)
    assert take_problems(problems, 0, 10, seed=3) + take_problems(problems, 10, 10, seed=3) == four
    assert take_problems(problems, 0, 20, seed=4) != four
