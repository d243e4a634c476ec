"""The bundled questions: arithmetic in English with one exact answer, and their generator.

The paper trains on Polaris-53K, far beyond a 0.65M-parameter model; these problems play its part.
Each is a chain of one to five integer operations. It is asked in one of four families, so that an
operation learnt in one family helps in all:

    arithmetic   Compute (47 + 38) * 6 - 125.
    story        Mia has 47 stamps. She finds 38 more. ... How many stamps does Mia have now?
    remainder    What is the remainder when 47 * 6 + 35 is divided by 7?
    fraction     What is 3/4 of 84? Add 17 to it.

A problem's *level* is the number of operations. The bundled splits (data/train.jsonl,
data/validation.jsonl, data/test.jsonl; levels 1 to 3) never share a question, and
`python problems.py` writes them again, byte for byte.

To add a family, write a function like `write_arithmetic` and name it in FAMILIES.

Left out: proofs, multiple choice, anything whose answer is not one exact value, since the reward
must be able to check it (Section 2, RL with verifiable rewards).
"""

import json
import os
import random
from dataclasses import dataclass
from operator import add, floordiv, mod, mul, sub
from pathlib import Path

from support.disk import put_all, try_folder

DATA = Path(__file__).parent.parent / "data"
SIZES = {"test": 1000, "validation": 500, "train": 6000}  # in the order in which they are drawn
# The families that the bundled splits and the small model were made with. They share one stream of
# random numbers; a family added later has its own, so that it changes none of their questions.
FIRST = ("arithmetic", "story", "remainder", "fraction")
LARGEST = 999  # no value of a chain is larger
OPERATIONS = {"+": add, "-": sub, "*": mul, "/": floordiv, "%": mod}  # every division is exact


@dataclass(frozen=True)
class Exercise:
    """One question, and how it was made: `start` and `ops` are for the teacher of distill.py."""

    problem: str
    answer: str
    family: str
    level: int
    start: int
    ops: tuple  # (symbol, operand) of each operation


# --------------------------------------------------------------------------------------------------
# The generator: chains of operations


class NoNumbers(Exception):
    """No numbers seem to fit the operations, such as five multiplications."""


def apply_op(value, symbol, operand):
    """The integer result of one operation."""
    return OPERATIONS[symbol](value, operand)


def allowed(value, symbol, operand):
    """Whether the operation keeps the chain within the mathematics that the small model is for."""
    if symbol == "%":
        return value >= 20
    if symbol == "/" and (value % operand or value // operand < 2):
        return False
    if symbol == "*" and not 2 <= value <= 99:
        return False
    return 0 < apply_op(value, symbol, operand) <= LARGEST


def draw_operand(rng, value, symbol):
    """A number for the operation; for a division one that divides `value`, if any does."""
    if symbol in "+-":
        return rng.randint(11, 99)
    if symbol == "%":
        return rng.randint(3, 9)
    operand = rng.randint(2, 9)
    if symbol == "/":  # the number just drawn would seldom divide
        divisors = [d for d in range(2, 10) if value % d == 0]
        operand = rng.choice(divisors or [2])
    return operand


def draw_chain(rng, symbols):
    """Numbers for the operations: (start, ops, result). Raises NoNumbers."""
    for _ in range(1000):
        start = rng.randint(11, 99)
        value = start
        ops = []
        for symbol in symbols:
            operand = draw_operand(rng, value, symbol)
            if not allowed(value, symbol, operand):
                break
            ops.append((symbol, operand))
            value = apply_op(value, symbol, operand)
        if len(ops) == len(symbols):
            return start, tuple(ops), value
    raise NoNumbers


# --------------------------------------------------------------------------------------------------
# The generator: a function for each family. It is given the symbols of the operations, may put
# others in their place, draws the numbers, and returns (question, start, ops, result).

PEOPLE = {"Mia": "She", "Tom": "He", "Ana": "She", "Ben": "He", "Eva": "She", "Max": "He"}
THINGS = ("stamps", "coins", "shells", "cards", "apples", "beads")
EVENTS = {
    "+": ("{She} finds {n} more.", "{She} buys {n} more."),
    "-": ("{She} loses {n}.", "{She} sells {n}."),
    "*": ("Then {she} has {n} times as many.", "The number grows {n} times."),
    "/": ("{She} shares them among {n} friends.", "The number falls {n} times."),
}
REQUESTS = {
    "+": "Add {n} to it.",
    "-": "Take {n} from it.",
    "*": "Multiply it by {n}.",
    "/": "Divide it by {n}.",
}


def write_expression(start, ops):
    """`(47 + 38) * 6` for 47, + 38, * 6: brackets where the order of operations needs them."""
    text = str(start)
    last = ""
    for symbol, n in ops:
        if symbol in "*/" and last in ("+", "-"):
            text = f"({text})"
        text += f" {symbol} {n}"
        last = symbol
    return text


def write_arithmetic(rng, symbols):
    """The bare expression."""
    start, ops, result = draw_chain(rng, symbols)
    return f"Compute {write_expression(start, ops)}.", start, ops, result


def write_story(rng, symbols):
    """Somebody has some things, and an event changes their number; one story in five packs them."""
    if rng.random() < 0.2:
        symbols = symbols[:-1] + ["%"]
    start, ops, result = draw_chain(rng, symbols)
    name, pronoun = rng.choice(list(PEOPLE.items()))
    thing = rng.choice(THINGS)
    sentences = [f"{name} has {start} {thing}."]
    for symbol, n in ops:
        # Drawn for every symbol, though one is used: the bundled splits were made with these draws.
        events = {s: rng.choice(wordings) for s, wordings in EVENTS.items()}
        events["%"] = "{She} packs them into boxes of {n}."
        sentences.append(events[symbol].format(She=pronoun, she=pronoun.lower(), n=n))
    end = "are left over" if symbols[-1] == "%" else f"does {name} have now"
    sentences.append(f"How many {thing} {end}?")
    return " ".join(sentences), start, ops, result


def write_remainder(rng, symbols):
    """The last operation is the remainder; the others are the expression."""
    start, ops, result = draw_chain(rng, symbols[:-1] + ["%"])
    *others, (_, divisor) = ops
    expression = write_expression(start, others)
    question = f"What is the remainder when {expression} is divided by {divisor}?"
    return question, start, ops, result


def write_fraction(rng, symbols):
    """The first two operations, / 4 and * 3, are the fraction 3/4; it is always less than 1."""
    symbols = ["/", "*"] + symbols[:-2]
    start, ops, result = draw_chain(rng, symbols)
    while ops[1][1] >= ops[0][1]:  # 1 or more: other numbers
        start, ops, result = draw_chain(rng, symbols)
    (_, denominator), (_, numerator), *others = ops
    sentences = [f"What is {numerator}/{denominator} of {start}?"]
    sentences += [REQUESTS[symbol].format(n=n) for symbol, n in others]
    return " ".join(sentences), start, ops, result


FAMILIES = {
    "arithmetic": write_arithmetic,
    "story": write_story,
    "remainder": write_remainder,
    "fraction": write_fraction,
}


def draw_problem(rng, levels=(1, 2, 3), families=FIRST):
    """One Exercise from a `random.Random`: family and level are uniform."""
    family = rng.choice(families)
    level = rng.choice(levels)
    while True:
        symbols = [rng.choice("++--**/") for _ in range(level)]
        try:
            question, start, ops, result = FAMILIES[family](rng, symbols)
        except NoNumbers:
            continue
        return Exercise(question, str(result), family, len(ops), start, ops)


def draw_new(rng, families, count, seen):
    """`count` problems whose questions are not among `seen`; they are added to it."""
    problems = []
    for _ in range(100 * count):
        problem = draw_problem(rng, families=families)
        if problem.problem not in seen:
            seen.add(problem.problem)
            problems.append(problem)
        if len(problems) == count:
            return problems
    raise ValueError(f"{count} new questions are needed, and {', '.join(families)} has too few.")


def make_splits(seed=0):
    """{split: its text as JSON lines}; no question is in two splits, or twice in one."""
    seen = set()
    rng = random.Random(seed)
    splits = {split: draw_new(rng, FIRST, size, seen) for split, size in SIZES.items()}
    for family in [family for family in FAMILIES if family not in FIRST]:
        rng = random.Random(f"{seed} {family}")
        for split, size in SIZES.items():
            splits[split] += draw_new(rng, (family,), size // len(FIRST), seen)
    columns = ("problem", "answer", "family", "level")
    texts = {}
    for split, problems in splits.items():
        rows = [{column: getattr(p, column) for column in columns} for p in problems]
        texts[split] = "".join(json.dumps(row) + "\n" for row in rows)
    return texts


def write_splits(folder=DATA, seed=0):
    """Writes a JSONL file for each split, and returns what it did, a line each.

    Raises ValueError where something else has such a name, OSError where it cannot be written.
    """
    splits = make_splits(seed)
    texts = {Path(folder) / f"{split}.jsonl": text.encode() for split, text in splits.items()}
    there = [path for path in texts if os.path.lexists(path)]
    for path in there:
        if not path.is_file() or path.read_bytes() != texts[path]:
            raise ValueError(
                f"{path} is there, and not what would be written. Move it, or give another --out."
            )

    def fill(beside):
        for path in texts.keys() - there:
            (beside / path.name).write_bytes(texts[path])

    with try_folder(Path(folder)):
        put_all(Path(folder), fill)
    return [f"{path} is as it was" if path in there else f"wrote {path}" for path in texts]
