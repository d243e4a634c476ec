"""Teachers whose checks may find mistakes: what checks.py trains models/small on.

The teacher of distill.py checks a pass with another one like it, and the model copies: the last
pass of its thinking is right no more often than the first. All designs here have in common:

    first pass   each step in the head: `85 * 6 = 510`
    a check      in another way, so that no step can be copied; the steps are easier ones:
                 `Check: 85 * 6: 80 * 6 = 480, 5 * 6 = 30, 480 + 30 = 510. Same.`
    mistakes     four of ten first passes that are checked, so that copying costs loss; what is
                 wrong is read, and not learnt
    which wins   the last pass, for it is the careful one; no third one is asked

They differ in how a check is written, and in whose the mistakes are (DESIGNS). As in distill.py,
solutions are drawn from one distribution in both modes; theirs have few checks, so that a short
budget rewards dropping them, and a longer one keeping them.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import distill
from lesson import teacher
from lesson.arithmetic import apply_op, draw_problem

SAME = " Same."
DIFFERS = " Wait, that differs."
RESULT = re.compile(rf"(\d+)\.(?:{re.escape(SAME)}|{re.escape(DIFFERS)})?$")
STEP = re.compile(r"\d+ (\+|-|\*|/|mod) (\d+) = \d+")
INVERSE = {"+": "-", "-": "+", "*": "/", "/": "*"}

# --------------------------------------------------------------------------------------------------
# A step, up to its result: each of these is given (value, symbol, operand)


def in_the_head(value, symbol, n):
    """`85 * 6 = `"""
    return teacher.write_step(value, symbol, n, []) + " = "


def by_tens(value, symbol, n):
    """As distill.py breaks it up: `85 * 6: 80 * 6 = 480, 5 * 6 = 30, 480 + 30 = `"""
    return teacher.write_step(value, symbol, n, teacher.break_up(value, symbol, n)) + " = "


def by_columns(value, symbol, n):
    """Digit by digit: `85 * 6: 5 * 6 = 30, 8 * 6 = 48, 48 + 3 = 51: `"""
    write = {"+": add_columns, "-": take_columns, "*": times_columns}.get(symbol, divide_columns)
    columns = write(value, n)
    text = teacher.write_step(value, symbol, n, [])
    if not columns or (symbol == "/" and len(columns) == 1):
        return f"{text} = "
    return f"{text}: {', '.join(columns)}: "


def add_columns(a, b):
    """58 + 47: `8 + 7 = 15`, then `5 + 4 + 1 = 10`; a digit that stays is not written."""
    columns = []
    carry = 0
    while b or (carry and a):
        digits = [a % 10, b % 10] if b else [a % 10]
        total = sum(digits) + carry
        terms = digits + [1] * carry
        columns.append(f"{' + '.join(map(str, terms))} = {total}")
        carry = total // 10
        a //= 10
        b //= 10
    return columns


def take_columns(a, b):
    """405 - 47: `15 - 7 = 8`, then `10 - 4 - 1 = 5`, then `4 - 1 = 3`."""
    if a < b:
        raise ValueError(f"{a} - {b} is below 0, and would borrow for ever.")
    columns = []
    borrowed = 0
    while b or borrowed:
        taken = b % 10 + borrowed
        top = a % 10
        if top < taken:
            top += 10
        terms = [top] + [b % 10] * (b > 0) + [1] * borrowed
        columns.append(f"{' - '.join(map(str, terms))} = {top - taken}")
        borrowed = top // 10
        a //= 10
        b //= 10
    return columns


def times_columns(a, n):
    """85 * 6: `5 * 6 = 30`, then `8 * 6 = 48`, then `48 + 3 = 51`; none where one is enough."""
    if a < 10 or a % 10 == 0:
        return []
    ones = a % 10 * n
    tens = a // 10 * n
    columns = [f"{a % 10} * {n} = {ones}", f"{a // 10} * {n} = {tens}"]
    if ones >= 10:
        columns.append(f"{tens} + {ones // 10} = {tens + ones // 10}")
    return columns


def divide_columns(a, n):
    """510 / 6: `51 = 6 * 8 + 3`, then `30 = 6 * 5 + 0`: the next digit comes to the remainder."""
    columns = []
    rest = 0
    digits = str(a)
    for i, digit in enumerate(digits):
        rest = 10 * rest + int(digit)
        if columns or rest >= n or i == len(digits) - 1:
            columns.append(f"{rest} = {n} * {rest // n} + {rest % n}")
            rest %= n
    return columns


# --------------------------------------------------------------------------------------------------
# A trace, as in distill.py: a list of (text, learn) pieces


@dataclass
class Design:
    """A teacher: how it checks, how often, and how often there is something to find."""

    check_step: Callable = by_tens
    back: bool = False  # first goes backwards; a pass follows only where that does not meet
    thinking: float = 0.85  # the probability of one more check, of which there are at most three
    solution: float = 0.3
    mistakes: float = 0.4  # of a wrong first pass, if a check follows
    slips: float = 0.05  # of a wrong check, if another follows
    own: dict = field(default_factory=dict)  # problem: wrong first passes, written by a model


DESIGNS = {
    "tens": Design(),
    "columns": Design(by_columns),
    "back": Design(back=True),  # not trained so far
    "own": Design(),  # its `own` are sampled first (checks.py)
}


def write_pass(problem, write_step, mistake, rng):
    """The steps of the chain as (text, learn) pieces, and its result: a wrong one if `mistake`."""
    pieces = []
    value = problem.start
    mistake_at = rng.randrange(len(problem.ops)) if mistake else -1
    for i, (symbol, n) in enumerate(problem.ops):
        right = apply_op(value, symbol, n)
        result = right
        if i == mistake_at:
            result = teacher.slip(right, problem.ops[i + 1 :], rng)
        end = ". " if i < len(problem.ops) - 1 else "."
        pieces += [(write_step(value, symbol, n), True), (str(result), result == right)]
        pieces.append((end, True))
        value = result
    return pieces, value


def first_pass(design, problem, wrong, rng):
    """A pass in the head: (pieces, result). Of a wrong one that a model wrote nothing is learnt."""
    if wrong and design.own:
        text = rng.choice(design.own[problem])
        return [(text, False)], int(RESULT.search(text)[1])
    return write_pass(problem, in_the_head, wrong, rng)


def write_work(design, problem, check, answer, rng):
    """A pass in the head, careful checks, then `So ...`, as (text, learn) pieces.

    The last pass is right.
    """
    checks = 0
    while checks < 3 and rng.random() < check:
        checks += 1
    wrong = checks > 0
    if wrong:
        wrong = problem in design.own if design.own else rng.random() < design.mistakes
    pieces, result = first_pass(design, problem, wrong, rng)
    if design.back and checks:
        text, met = go_back(problem, pieces)
        pieces.append((f"\nCheck from {text}{SAME if met else DIFFERS}", True))
        checks = 0 if met else 1
    for left in reversed(range(checks)):
        slip = left > 0 and rng.random() < design.slips
        steps, again = write_pass(problem, design.check_step, slip, rng)
        verdict = SAME if again == result else DIFFERS
        pieces += [("\nCheck: ", True), *steps, (verdict, True)]
        result = again
    return pieces + [(f"\nSo {answer}", True)]


def go_back(problem, pieces):
    """A pass checked from its result, by the inverse operations: (text, whether they all meet).

    It ends where one does not meet. A remainder says little of what it is left of: done again.
    """
    values = [problem.start] + [int(text) for text, _ in pieces if text.isdigit()]
    steps = []
    for (symbol, n), before, after in reversed(list(zip(problem.ops, values, values[1:]))):
        start, goal, inverse = after, before, INVERSE.get(symbol)
        if inverse is None or (inverse == "-" and after <= n):
            start, goal, inverse = before, after, symbol
        if inverse == "/" and after % n:
            goal, inverse = 0, "%"  # it cannot be divided, which the remainder shows
        found = apply_op(start, inverse, n)
        steps.append(f"{by_tens(start, inverse, n)}{found}.")
        if found != goal:
            return " ".join(steps), False
    return " ".join(steps), True


def write_trace(design, problem, thinking, rng):
    """A whole response, as teacher.write_trace: one distribution of solutions in both modes."""
    block = []
    if thinking:
        work = write_work(design, problem, design.thinking, problem.answer + ".", rng)
        block = [("<think>\n", True), *work, ("\n</think>\n\n", True)]
    boxed = f"\\boxed{{{problem.answer}}}"
    solution = write_work(design, problem, design.solution, boxed, rng)
    return block + solution


# --------------------------------------------------------------------------------------------------
# Mistakes that a model really made


def is_mistaken(line, problem):
    """Whether it is a whole pass in the head, of the problem's operations, with a wrong result."""
    matches = [STEP.fullmatch(step) for step in line.removesuffix(".").split(". ")]
    if not (line.endswith(".") and all(matches)):
        return False
    ops = [(m[1].replace("mod", "%"), int(m[2])) for m in matches]
    return ops == list(problem.ops) and RESULT.search(line)[1] != problem.answer


def draw_mistaken(design, rng, levels, families):
    """A problem; every second time one whose first pass a model got wrong."""
    known = [problem for problem in design.own if problem.level in levels]
    if rng.random() < 0.5 or not known:
        return draw_problem(rng, levels, families)
    return rng.choice(known)


def use(design):
    """Makes distill.draw_batches draw the traces of a design, and nothing else of it another."""
    distill.write_trace = partial(write_trace, design)
    if design.own:
        distill.draw_problem = partial(draw_mistaken, design)


def draw_fresh(count, seed, held_out):
    """Problems that are not held out, to be solved by a model."""
    rng = random.Random(seed)
    problems = [draw_problem(rng) for _ in range(count)]
    return [problem for problem in problems if problem.problem not in held_out]
