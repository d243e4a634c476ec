"""The problems that a run trains on and is measured on: a data file, its splits, their order.

The bundled splits (data/*.jsonl) are written by problems.py.
"""

import json
import math
import random
import re
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent.parent / "data"


@dataclass(frozen=True)
class Problem:
    """One question. The chain, `start` and `ops`, is for the teacher of distill.py alone."""

    problem: str
    answer: str
    family: str = ""
    level: int = 0
    start: int = 0
    ops: tuple = ()  # (symbol, operand) of each operation


class DataError(ValueError):
    """A data file that cannot be used; the message names file, line and remedy."""


def usable(value):
    """Whether a value can be a question or an answer: text that is not blank, or a number."""
    if isinstance(value, str):
        half_character = re.search("[\ud800-\udfff]", value)  # which cannot be encoded
        return bool(value.strip()) and not half_character
    return type(value) is int or (type(value) is float and math.isfinite(value))


def find_column(row, names, where):
    """The text of the first of these columns that is usable."""
    for name in names:
        if usable(row.get(name)):
            return str(row[name]).strip()
    raise DataError(
        f"{where}: no usable {' or '.join(map(repr, names))} (a non-empty string or a number). "
        "Add it or remove the line."
    )


def read_problem(raw, where):
    """The Problem of one line (bytes)."""
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
    family = str(row.get("family", ""))
    level = row.get("level")
    return Problem(question, answer, family, level if isinstance(level, int) else 0)


def load_problems(path):
    """The problems of a JSONL file, in its order: list[Problem].

    Each line is an object with `problem` (or `question`, `prompt`) and `answer` (or `solution`,
    `target`); `family` and `level` are kept where present. Blank lines are skipped. Anything else
    raises DataError with the file and line.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Give --data a JSONL file."
        ) from None
    numbered = enumerate(lines, start=1)
    problems = [read_problem(raw, f"{path}, line {i}") for i, raw in numbered if raw.strip()]
    if not problems:
        raise DataError(f"{path}: no problems in it. Each line must have 'problem' and 'answer'.")
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
    # Questions are split, not lines: copies of a question must not end up on both sides.
    questions = list(dict.fromkeys(problem.problem for problem in problems))
    held = min(500, len(questions) // 10)
    if not held:
        print(f"{path} has fewer than 10 questions: the model is evaluated on what it trains on.")
        return problems, problems, problems
    random.Random(0).shuffle(questions)  # not the run's seed: the split is the same in every run
    validation = set(questions[:held])
    test = set(questions[held : 2 * held])
    train = set(questions[2 * held :])
    return tuple([p for p in problems if p.problem in part] for part in (train, validation, test))


def take_problems(problems, cursor, count, seed):
    """`count` problems from position `cursor` on; epochs never end, each has its own order."""
    chosen = []
    for position in range(cursor, cursor + count):
        epoch, index = divmod(position, len(problems))
        if index == 0 or not chosen:
            order = list(range(len(problems)))
            random.Random(f"{seed} {epoch}").shuffle(order)
        chosen.append(problems[order[index]])
    return chosen
