"""Teachers of bench/studies/checks.py: their easy steps, their traces, how checks are counted."""

import random
import re

import pytest
from checks import describe_work, mean_and_error, results_of
from teachers import (
    DESIGNS,
    Design,
    add_columns,
    by_columns,
    divide_columns,
    draw_mistaken,
    go_back,
    in_the_head,
    is_mistaken,
    take_columns,
    times_columns,
    write_pass,
    write_trace,
)

from lesson.arithmetic import Exercise, apply_op, draw_problem
from reward import grade

PLANTED = ("tens", "columns", "back")
EASY = re.compile(r"\d+(?: [+*-] \d+)+")


def draw_problems(count=300, seed=1):
    rng = random.Random(seed)
    return [draw_problem(rng) for _ in range(count)]


def text_of(pieces, learnt_only=False):
    return "".join(text for text, learn in pieces if learn or not learnt_only)


def compute(expression):
    assert EASY.fullmatch(expression) or expression.isdigit()
    return eval(expression)


@pytest.mark.parametrize(
    "columns, wanted",
    [
        (add_columns(58, 47), "8 + 7 = 15, 5 + 4 + 1 = 10"),
        (add_columns(358, 47), "8 + 7 = 15, 5 + 4 + 1 = 10, 3 + 1 = 4"),
        (add_columns(311, 47), "1 + 7 = 8, 1 + 4 = 5"),
        (take_columns(405, 47), "15 - 7 = 8, 10 - 4 - 1 = 5, 4 - 1 = 3"),
        (take_columns(96, 56), "6 - 6 = 0, 9 - 5 = 4"),
        (times_columns(85, 6), "5 * 6 = 30, 8 * 6 = 48, 48 + 3 = 51"),
        (times_columns(81, 6), "1 * 6 = 6, 8 * 6 = 48"),
        (times_columns(80, 6), ""),
        (divide_columns(510, 6), "51 = 6 * 8 + 3, 30 = 6 * 5 + 0"),
        (divide_columns(618, 6), "6 = 6 * 1 + 0, 1 = 6 * 0 + 1, 18 = 6 * 3 + 0"),
        (divide_columns(4, 6), "4 = 6 * 0 + 4"),
    ],
)
def test_the_columns_of_a_step(columns, wanted):
    assert ", ".join(columns) == wanted


def test_every_column_is_true_and_easy():
    """Both sides are equal, and no number has more than two digits, so that a table would do."""
    for problem in draw_problems():
        value = problem.start
        for symbol, n in problem.ops:
            head, _, columns = by_columns(value, symbol, n).partition(": ")
            for column in filter(None, columns.removesuffix(": ").split(", ")):
                left, right = column.split(" = ")
                assert compute(left) == compute(right), column
                assert all(int(number) < 100 for number in re.findall(r"\d+", column))
            value = apply_op(value, symbol, n)


def test_the_digits_of_a_result_are_the_last_ones_of_its_columns():
    """So the result is copied together from the columns, and never worked out anew."""
    for a in range(11, 1000, 7):
        for b in range(11, 100, 3):
            for write, result in ((add_columns, a + b), (take_columns, a - b)):
                if result > 0:
                    digits = "".join(column[-1] for column in reversed(write(a, b)))
                    assert str(result)[-len(digits) :] == digits[-len(str(result)) :]


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("thinking", [True, False])
def test_every_trace_ends_with_the_right_answer(name, thinking):
    rng = random.Random(0)
    for problem in draw_problems():
        pieces = write_trace(DESIGNS[name], problem, thinking, rng)
        assert grade(text_of(pieces), problem.answer)[0]


@pytest.mark.parametrize("name", PLANTED)
def test_a_wrong_result_is_not_learnt_and_a_check_says_that_it_differs(name):
    rng, wrong = random.Random(0), 0
    for problem in draw_problems():
        pieces = write_trace(DESIGNS[name], problem, False, rng)
        if any(not learn for text, learn in pieces if text.isdigit()):
            wrong += 1
            assert "Wait, that differs." in text_of(pieces)
        else:
            assert "Wait" not in text_of(pieces)
    assert wrong > 20


def test_a_model_s_own_mistake_is_read_but_not_learnt():
    [problem] = draw_problems(1)
    design = Design(solution=1.0, own={problem: ["1 + 1 = 3."]})
    pieces = write_trace(design, problem, False, random.Random(0))
    assert text_of(pieces).startswith("1 + 1 = 3.\nCheck: ")
    assert "1 + 1 = 3" not in text_of(pieces, learnt_only=True)
    assert grade(text_of(pieces), problem.answer)[0]


def test_which_first_passes_are_mistakes():
    problem = next(p for p in draw_problems() if [symbol for symbol, _ in p.ops] == ["+"])
    [(_, n)] = problem.ops
    line = f"{problem.start} + {n} = "
    assert is_mistaken(f"{line}1.", problem)
    assert not is_mistaken(f"{line}{problem.answer}.", problem)  # right
    assert not is_mistaken(f"{line}1", problem)  # cut off
    assert not is_mistaken(f"{problem.start} - {n} = 1.", problem)  # another operation
    assert not is_mistaken(f"{line}1. 1 + 1 = 2.", problem)  # another chain


def test_going_back_meets_what_is_right_and_finds_every_slip():
    rng, wrong = random.Random(0), 0
    for problem in draw_problems():
        for mistake in (False, True):
            pieces, _ = write_pass(problem, in_the_head, mistake, rng)
            slipped = not all(learn for _, learn in pieces)
            _, met = go_back(problem, pieces)
            assert met == (not slipped)
            wrong += slipped
    assert wrong > 200


@pytest.mark.parametrize(
    "first, wanted, met",
    [
        ("510", "510 / 6: 6 * 80 = 480, 510 - 480 = 30, 30 / 6 = 5, 80 + 5 = 85.", True),
        ("516", "516 / 6: 6 * 80 = 480, 516 - 480 = 36, 36 / 6 = 6, 80 + 6 = 86.", False),
        ("512", "512 mod 6: 6 * 80 = 480, 512 - 480 = 32, 6 * 5 = 30, 32 - 30 = 2.", False),
    ],
)
def test_how_one_step_is_gone_back(first, wanted, met):
    problem = Exercise("Compute 85 * 6.", "510", "arithmetic", 1, 85, (("*", 6),))
    assert go_back(problem, [("85 * 6 = ", True), (first, True), (".", True)]) == (wanted, met)


def test_half_of_the_problems_are_those_that_a_model_got_wrong():
    [own] = draw_problems(1)
    rng = random.Random(0)
    design = Design(own={own: ["1 + 1 = 3."]})
    drawn = [draw_mistaken(design, rng, (own.level,), ("arithmetic",)) for _ in range(200)]
    assert 80 < sum(problem == own for problem in drawn) < 120
    assert own not in [draw_mistaken(design, rng, (5,), ("arithmetic",)) for _ in range(20)]


def test_first_and_last_pass_of_a_response():
    text = "85 * 6 = 410.\nCheck: 85 * 6: 5 * 6 = 30: 510. Wait, that differs.\nSo \\boxed{510}"
    work = describe_work(text, "510", thinking=False)
    assert work == {"first": False, "last": True, "passes": 2, "checked": True}
    thought = "<think>\n85 * 6 = 510.\nSo 510.\n</think>\n\n" + text
    assert describe_work(thought, "510", thinking=True)["passes"] == 1


def test_going_back_is_no_pass():
    text = "85 * 6 = 510.\nCheck from 510 / 6: 51 = 6 * 8 + 3: 85. Same.\nSo 510."
    work = describe_work(text, "510", thinking=False)
    assert work["passes"] == 1 and work["checked"]
    assert results_of(text) == ["510"]


def test_the_error_of_a_mean():
    assert mean_and_error([1, 0, 1, 0]) == pytest.approx([0.5, 0.2887], abs=1e-4)
    assert mean_and_error([])[0] != mean_and_error([])[0]  # nan: nothing to speak of
