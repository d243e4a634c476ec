"""The mathematics: questions in English with one exact answer, their generator, and a loader for your own.

The paper trains on Polaris-53K, far beyond a 0.6M-parameter model; these problems play its part. Each is a chain of
one to five integer operations, asked in one of four families, so that an operation learnt in one family helps in all:

    arithmetic   Compute (47 + 38) * 6 - 125.
    story        Mia has 47 stamps. She finds 38 more. ... How many stamps does Mia have now?
    remainder    What is the remainder when 47 * 6 + 35 is divided by 7?
    fraction     What is 3/4 of 84? Add 17 to it.

A problem's *level* is the number of operations. The bundled splits (data/train.jsonl, data/validation.jsonl,
data/test.jsonl; levels 1 to 3) never share a question; `python problems.py` writes them again, byte for byte. Left
out: proofs, multiple choice, anything whose answer is not one exact value, since the reward must be able to check it
(Section 2, RL with verifiable rewards).
"""

import argparse
import json
import math
import random
import re
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent / "data"
SIZES = {"train": 6000, "validation": 500, "test": 1000}
FAMILIES = ("arithmetic", "story", "remainder", "fraction")
LARGEST = 999  # every intermediate value stays at or below it


@dataclass(frozen=True)
class Problem:
    """One question. `start` and `ops` (symbol, operand) lead to the answer; only distill.py's teacher sees them."""

    problem: str
    answer: str
    family: str = ""
    level: int = 0
    start: int = 0
    ops: tuple = ()


# ---------------------------------------------------------------------------------------------------------------------
# The generator


def apply_op(value, symbol, operand):
    """The integer result of one operation; `%` is the remainder and `/` an exact division."""
    return {
        "+": value + operand,
        "-": value - operand,
        "*": value * operand,
        "/": value // operand,
        "%": value % operand,
    }[symbol]


def allowed(value, symbol, operand):
    """Whether the operation keeps the chain within the mathematics the small model is meant for."""
    if symbol == "/" and (value % operand or value // operand < 2):
        return False
    if symbol == "*" and not 2 <= value <= 99:
        return False
    if symbol == "%" and value < 20:
        return False
    return 0 < apply_op(value, symbol, operand) <= LARGEST or (symbol == "%" and operand > 2)


def draw_operand(rng, symbol):
    return (
        rng.randint(11, 99)
        if symbol in "+-"
        else rng.randint(3, 9)
        if symbol == "%"
        else rng.randint(2, 9)
    )


def draw_chain(rng, symbols):
    """A start value, the (symbol, operand) pairs, all `allowed`, and the answer; None if no numbers seem to fit."""
    for _ in range(1000):
        start = value = rng.randint(11, 99)
        ops = []
        for symbol in symbols:
            operand = draw_operand(rng, symbol)
            if symbol == "/":  # a divisor that divides, or the chain would nearly always be redrawn
                operand = rng.choice([d for d in range(2, 10) if value % d == 0] or [2])
            if not allowed(value, symbol, operand):
                break
            ops.append((symbol, operand))
            value = apply_op(value, symbol, operand)
        else:
            return start, tuple(ops), value


def write_expression(start, ops):
    """`(47 + 38) * 6` for start 47 and ops + 38, * 6: brackets exactly where the order of operations needs them."""
    text, last = str(start), ""
    for symbol, operand in ops:
        text = f"({text})" if symbol in "*/" and last in ("+", "-") else text
        text, last = f"{text} {symbol} {operand}", symbol
    return text


def write_story(rng, start, ops):
    name, pronoun = rng.choice(
        [
            ("Mia", "She"),
            ("Tom", "He"),
            ("Ana", "She"),
            ("Ben", "He"),
            ("Eva", "She"),
            ("Max", "He"),
        ]
    )
    thing = rng.choice(["stamps", "coins", "shells", "cards", "apples", "beads"])
    sentences, question = (
        [f"{name} has {start} {thing}."],
        f"How many {thing} does {name} have now?",
    )
    for symbol, n in ops:
        sentences.append(
            {
                "+": rng.choice([f"{pronoun} finds {n} more.", f"{pronoun} buys {n} more."]),
                "-": rng.choice([f"{pronoun} loses {n}.", f"{pronoun} sells {n}."]),
                "*": rng.choice(
                    [
                        f"Then {pronoun.lower()} has {n} times as many.",
                        f"The number grows {n} times.",
                    ]
                ),
                "/": rng.choice(
                    [f"{pronoun} shares them among {n} friends.", f"The number falls {n} times."]
                ),
                "%": f"{pronoun} packs them into boxes of {n}.",
            }[symbol]
        )
        if symbol == "%":
            question = f"How many {thing} are left over?"
    return " ".join(sentences + [question])


def draw_problem(rng, levels=(1, 2, 3), families=FAMILIES):
    """One Problem, from a `random.Random`: family and level uniform, then operations, then numbers."""
    family, level, chain = rng.choice(families), rng.choice(levels), None
    while not chain:
        symbols = [rng.choice("++--**/") for _ in range(level)]
        if family == "remainder" or (family == "story" and rng.random() < 0.2):
            symbols[-1] = "%"
        if family == "fraction":
            symbols = ["/", "*"] + symbols[: max(level - 2, 0)]
        chain = draw_chain(rng, symbols)
        while (
            chain and family == "fraction" and chain[1][1][1] >= chain[1][0][1]
        ):  # a proper fraction
            chain = draw_chain(rng, symbols)
    start, ops, answer = chain
    if family == "story":
        text = write_story(rng, start, ops)
    elif family == "remainder":
        text = f"What is the remainder when {write_expression(start, ops[:-1])} is divided by {ops[-1][1]}?"
    elif family == "fraction":
        text = f"What is {ops[1][1]}/{ops[0][1]} of {start}?"
        then = {
            "+": "Add {} to it.",
            "-": "Take {} from it.",
            "*": "Multiply it by {}.",
            "/": "Divide it by {}.",
        }
        text = " ".join([text] + [then[s].format(n) for s, n in ops[2:]])
    else:
        text = f"Compute {write_expression(start, ops)}."
    return Problem(text, str(answer), family, len(ops), start, ops)


def write_splits(folder=DATA, seed=0):
    """Writes the three splits as JSONL. They share `seen`, so that no question is in two splits, or twice in one."""
    rng, seen = random.Random(seed), set()
    Path(folder).mkdir(parents=True, exist_ok=True)
    for split in ("test", "validation", "train"):
        lines = []
        while len(lines) < SIZES[split]:
            p = draw_problem(rng)
            if p.problem not in seen:
                seen.add(p.problem)
                row = {
                    "problem": p.problem,
                    "answer": p.answer,
                    "family": p.family,
                    "level": p.level,
                }
                lines.append(json.dumps(row))
        (Path(folder) / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------------
# The loader


class DataError(ValueError):
    """A data file that cannot be used; the message names file, line and remedy."""


def usable(value):
    """Whether a value can be a question or an answer: whole text, or a finite number."""
    if isinstance(value, str):
        return bool(value.strip()) and not re.search(
            "[\ud800-\udfff]", value
        )  # halves of characters cannot be encoded
    return type(value) is int or type(value) is float and math.isfinite(value)


def find_column(row, names, where):
    for name in names:
        if usable(row.get(name)):
            return str(row[name]).strip()
    raise DataError(
        f"{where}: no usable {' or '.join(repr(n) for n in names)} (a non-empty string or a number). "
        "Add it or remove the line."
    )


def load_problems(path):
    """The problems of a JSONL file, in its order: list[Problem].

    Each line is an object with `problem` (or `question`, `prompt`) and `answer` (or `solution`,
    `target`); `family` and `level` are kept where present. Blank lines are skipped. Anything else raises
    DataError with the file and line.
    """
    path = Path(path)
    try:
        raw_lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Give --data a JSONL file."
        ) from None
    problems = []
    for number, raw in enumerate(raw_lines, start=1):
        where = f"{path}, line {number}"
        if not raw.strip():
            continue
        try:
            row = json.loads(raw.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise DataError(f"{where}: not UTF-8. Save the file as UTF-8.") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not JSON ({error}). Each line must be one object.") from None
        if not isinstance(row, dict):
            raise DataError(f'{where}: not an object. Write {{"problem": "...", "answer": "..."}}.')
        question = find_column(row, ("problem", "question", "prompt"), where)
        answer = find_column(row, ("answer", "solution", "target"), where)
        level = row.get("level")
        problems.append(
            Problem(
                question, answer, str(row.get("family", "")), level if isinstance(level, int) else 0
            )
        )
    if not problems:
        raise DataError(
            f"{path}: no problems in it. Each line must be an object with 'problem' and 'answer'."
        )
    return problems


def load_split(split):
    """A bundled split: 'train', 'validation' or 'test'."""
    return load_problems(DATA / f"{split}.jsonl")


def load_data(path=""):
    """(train, validation, test): the bundled splits, or the user's file.

    Of a file, a tenth (at most 500) is held out for each of the last two.
    """
    if not path:
        return load_split("train"), load_split("validation"), load_split("test")
    problems = load_problems(path)
    # Copies of a question must not end up on both sides.
    questions = list(dict.fromkeys(p.problem for p in problems))
    held = min(500, len(questions) // 10)
    if not held:
        print(
            f"{path} has fewer than 10 questions, so the model is evaluated on those that it trains on."
        )
        return problems, problems, problems
    random.Random(0).shuffle(questions)  # not the run's seed: the split is the same in every run
    parts = [
        set(part) for part in (questions[2 * held :], questions[:held], questions[held : 2 * held])
    ]
    return tuple([p for p in problems if p.problem in part] for part in parts)


def take_problems(problems, cursor, count, seed):
    """`count` problems from position `cursor` on, in an endless sequence of epochs, each in an order of its own."""
    chosen = []
    for position in range(cursor, cursor + count):
        epoch, index = divmod(position, len(problems))
        if index == 0 or not chosen:
            order = list(range(len(problems)))
            random.Random(f"{seed} {epoch}").shuffle(order)
        chosen.append(problems[order[index]])
    return chosen


if __name__ == "__main__":
    argparse.ArgumentParser(
        description="Write data/train.jsonl, data/validation.jsonl and data/test.jsonl again."
    ).parse_args()
    write_splits()
