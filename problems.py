r"""Problems: questions, each with one exact answer that the reward can check; their splits, order.

The paper trains on Polaris-53K. Here a data file is read as people publish them; nothing is
accepted that could never be rewarded, since a run on such data learns nothing, in silence:

    question   the column problem, question, prompt, messages or query; of messages the user's turn
    answer     the column answer, final_answer, ..., solution (ANSWERS below). Its text if that is
               an answer; else what stands behind the last `####` of it (GSM8K), or in its last
               `\boxed{...}` (MATH); else the next column's

An answer counts if the grader itself can read it (reward.is_readable). Rows without question or
answer are left out, counted and named; more than half of them is an error. The bundled splits
(data/*.jsonl, by lesson/arithmetic.py) are written again, byte for byte, by

    python problems.py

Left out: proofs, multiple choice, questions with a text or an image beside them.
"""

import ast
import hashlib
import json
import math
import random
import re
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from lesson.arithmetic import DATA, write_splits
from reward import extract_answer, is_readable
from support.cli import Parser, check_options, command, expand, say
from support.rows import DataError, read_rows

QUESTIONS = ("problem", "question", "prompt", "messages", "query")
ANSWERS = (
    "answer final_answer expected_answer ground_truth correct_answer gold_answer reference_answer "
    "gold target reward_model answers solution response messages"
).split()
# A question is not whole without these, and nobody here reads them.
NEEDED = (
    "choices options option_a opa choice_a body context passage table image images image_1 "
    "hypothesis diagram figure"
).split()
# What stands for an answer where there is none.
NO_ANSWERS = {"proof", "notfound", "not found", "n/a", "nan", "null", "unknown", "see solution"}


@dataclass(frozen=True)
class Problem:
    """One question and its right answer, without a box."""

    problem: str
    answer: str
    family: str = ""
    level: int = 0


@dataclass
class Data:
    """What a run trains on, by what a stage's end is found, and what is measured."""

    train: list[Problem]
    validation: list[Problem]
    test: list[Problem]

    def fingerprint(self):
        """A hash of all questions and answers, by which a resumed run knows its data again."""
        parts = (self.train, self.validation, self.test)
        texts = [[(p.problem, p.answer) for p in part] for part in parts]
        return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


# --------------------------------------------------------------------------------------------------
# One row


class LeftOut(Exception):
    """A row that cannot be used: the reason, which rows share, and an example."""

    def __init__(self, reason, example=""):
        super().__init__(reason)
        self.reason = reason
        self.example = example


class Gold(NamedTuple):
    text: str
    column: str
    cut_out: bool  # of a worked solution


def is_text(value):
    """Whether it is text that is not blank, and that can be encoded: half a character cannot."""
    return isinstance(value, str) and value.strip() and not re.search("[\ud800-\udfff]", value)


def unpack(value):
    """A list or an object that a cell holds as text, such as `["0.5"]`; else the value itself.

    `[0, 1]` stays: it is an interval. So does what is neither JSON nor a literal of Python.
    """
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "{"):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(value.strip())  # reads constants alone: nothing is run
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return value
    inner = found if isinstance(found, list) else [found]
    whole = inner and all(isinstance(item, (str, dict)) for item in inner)
    return found if whole and isinstance(found, (list, dict)) else value


def turns(messages, role):
    """The texts of one role's turns in a list of messages; of the parts of a turn, the text."""
    texts = []
    for message in messages:
        if not isinstance(message, dict) or message.get("role") != role:
            continue
        content = message.get("content")
        if isinstance(content, list):
            parts = [part if isinstance(part, dict) else {} for part in content]
            if any(part.get("type", "text") != "text" for part in parts):
                raise LeftOut("whose question is more than text")
            content = "".join(str(part.get("text", "")) for part in parts)
        texts.append(content)
    return texts


def find_question(row):
    """The question of a row, and its column. Raises LeftOut."""
    for column in NEEDED:
        value = row.get(column)
        if value and value == value:  # not NaN, as pandas writes what is missing
            raise LeftOut(f"that need {column!r}, which is not read")
    for column in QUESTIONS:
        value = unpack(row.get(column))
        if isinstance(value, list):
            asked = turns(value, "user")
            if len(asked) > 1:
                raise LeftOut(f"whose {column!r} has several turns")
            if turns(value, "system"):
                column += " (without its system turn)"
            value = asked[0] if asked else None
        if is_text(value):
            return value.strip(), column
    raise LeftOut(f"without a question ({', '.join(QUESTIONS)})")


def read_cell(value):
    """What may be the answer in a cell, and whether it was cut out of a solution: none, or one."""
    value = unpack(value)
    if isinstance(value, dict):
        value = value.get("ground_truth")
        return [] if isinstance(value, dict) else read_cell(value)
    if isinstance(value, list):
        if any(isinstance(item, dict) for item in value):  # messages: a solution is the last one
            value = turns(value, "assistant")[-1:]
        return read_cell(value[0]) if len(value) == 1 else []
    if type(value) in (int, float) and math.isfinite(value):
        return [(str(int(value) if value == int(value) else value), False)]
    if not is_text(value):
        return []
    if "####" in value:
        last = value.rpartition("####")[2].strip() or " "
        # Without the marks of GSM8K's calculator, `<<48/2=24>>`.
        return [(re.sub("<<[^<>]*>>", "", last.splitlines()[0]).strip(), True)]
    if boxed := extract_answer(value):
        return [(boxed, True)]
    return [(value.strip(), False)]


def find_gold(row):
    """The right answer of a row: the first that the grader can read. Raises LeftOut."""
    seen = ""
    for column in ANSWERS:
        for text, cut_out in read_cell(row.get(column)):
            if text.lower() not in NO_ANSWERS and is_readable(text):
                return Gold(text, column, cut_out)
            seen = seen or text
    raise LeftOut("without an answer that the grader can read", seen)


# --------------------------------------------------------------------------------------------------
# A file


def to_problem(values):
    """(Problem, its question's column, its Gold) of a row. Raises LeftOut."""
    row = {str(column).strip().lower(): value for column, value in values.items()}
    question, column = find_question(row)
    gold = find_gold(row)
    family = row.get("family")
    level = row.get("level")
    problem = Problem(
        question,
        gold.text,
        family if isinstance(family, str) else "",
        level if isinstance(level, int) else 0,
    )
    return problem, column, gold


def describe_left_out(left_out):
    """Each reason, how often, and the first row that it left out: [(row, LeftOut)] as text."""
    counts = Counter(error.reason for _, error in left_out)
    first = {error.reason: (row, error) for row, error in reversed(left_out)}
    parts = []
    for reason, count in counts.most_common():
        row, error = first[reason]
        example = f", {error.example[:60]!r}" if error.example else ""
        parts.append(f"{count} {reason} (first: {row.where}{example})")
    return "; ".join(parts)


def load_problems(source):
    """The problems of a file or data set (support/rows.py), in its order; says what it read.

    Raises DataError, naming file, line and remedy.
    """
    problems = []
    left_out = []
    rows = read_rows(source)
    for row in rows:
        try:
            problems.append(to_problem(row.values))
        except LeftOut as error:
            left_out.append((row, error))
    if not rows:
        raise DataError(f"{source}: no problems in it. Each row must have 'problem' and 'answer'.")
    if len(left_out) * 2 > len(rows):
        raise DataError(
            f"{source}: {len(left_out)} of {len(rows)} rows cannot be used: "
            f"{describe_left_out(left_out)}. Each row must have a question ('problem') and an "
            "exact answer ('answer') that the reward can check."
        )
    columns = ", ".join(sorted({column for _, column, _ in problems}))
    answers = ", ".join(sorted({gold.column for _, _, gold in problems}))
    cut_out = sum(gold.cut_out for _, _, gold in problems)
    say(
        f"{source}: {len(rows)} rows, questions from {columns}, answers from {answers}"
        + (f" ({cut_out} cut out of a worked solution)" if cut_out else "")
    )
    if left_out:
        say(f"{source}: {len(left_out)} rows are left out: {describe_left_out(left_out)}")
    return [problem for problem, _, _ in problems]


def load_split(split):
    """A bundled split: 'train', 'validation' or 'test'."""
    lines = (DATA / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [Problem(**json.loads(line)) for line in lines]


# --------------------------------------------------------------------------------------------------
# Splits and order


def question_key(problem):
    """What near copies of a question share: they differ in case and blanks alone."""
    return " ".join(problem.problem.casefold().split())


def drop_copies(problems):
    """Each question once, the first of its copies: to measure one twice tells nothing more."""
    return list({question_key(p): p for p in reversed(problems)}.values())[::-1]


def load_data(source=""):
    """The bundled splits, or the user's data, of which a tenth each (at most 500) is held out."""
    if not source:
        return Data(load_split("train"), load_split("validation"), load_split("test"))
    problems = load_problems(source)
    # Questions are split, not rows: copies of a question must not end up on both sides.
    questions = list(dict.fromkeys(map(question_key, problems)))
    held = min(500, len(questions) // 10)
    if not held:
        say(f"{source} has fewer than 10 questions: the model is measured on what it trains on.")
        return Data(problems, drop_copies(problems), drop_copies(problems))
    random.Random(0).shuffle(questions)  # not the run's seed: the split is the same in every run
    validation = set(questions[:held])
    test = set(questions[held : 2 * held])
    return Data(
        [p for p in problems if question_key(p) not in validation | test],
        drop_copies([p for p in problems if question_key(p) in validation]),
        drop_copies([p for p in problems if question_key(p) in test]),
    )


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


# --------------------------------------------------------------------------------------------------
# The command line


def main(argv=None):
    """Writes the bundled splits again."""
    parser = Parser(description="Write the bundled splits again.")
    parser.add_argument("--out", default=str(DATA), help="folder to write; without it, data/")
    with command("problems"):
        args = parser.parse_args(argv)
        check_options(args, {})
        say("\n".join(write_splits(expand(args.out))))
    print(
        "The small model was distilled without seeing validation and test questions, so if those "
        "changed, `python distill.py` must make it again."
    )


if __name__ == "__main__":
    main()
