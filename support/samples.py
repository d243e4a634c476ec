"""What a model wrote: kept beside a run, and marked for whoever looks at it.

    samples-before.json, samples-stage1.json, ...    of each evaluation the first response to each
                                                     of the first 20 test problems, in both modes

They are taken from what an evaluation sampled anyway, so nothing is drawn for them, and they are no
part of a checkpoint: an evaluation that is done again writes them again, alike. page.py shows them
in a browser, show.py in a terminal. A mark says where in a text something is: the thinking, a word
that verifies, the final answer. Left out: the other samples of each problem.
"""

import json
import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import Annotated

from support.config import MODES
from support.disk import put, read_json

KEPT = 20  # problems
KINDS = ("thinking", "verification", "answer")
WORD_END = re.compile(r"\w*")


@dataclass
class Sample:
    """One graded response."""

    text: str
    tokens: Annotated[int, 0, 2**31]
    finished: bool  # False when cut at the budget
    correct: bool
    answer: str | None  # what the grader read as its final answer
    marks: list[list]  # of [start, end, one of KINDS]


@dataclass
class Shown:
    """One problem with a sample of each mode."""

    problem: str
    gold: str
    samples: dict[str, Sample]  # by the mode


def name_of(mode):
    """A mode in front of a reader."""
    return mode.replace("_", "-")


def size_of(sample):
    """`213 tokens`, and whether it was cut."""
    return f"{sample.tokens} tokens" + ("" if sample.finished else ", cut off at the budget")


# --------------------------------------------------------------------------------------------------
# Marks


def find_marks(text, verification, answer):
    """The marks of a response. verification: a pattern; answer: as the grader read it, or None."""
    begin, end = find_thinking(text)
    marks = [[begin, end, "thinking"]] if begin < end else []
    for found in verification.finditer(text):
        # To the end of the word: the pattern finds the `check` of `checking`.
        marks.append([found.start(), WORD_END.match(text, found.end()).end(), "verification"])
    if answer is not None:
        boxes = re.finditer(r"\\boxed\s*\{\s*(" + re.escape(answer) + r")\s*\}", text[end:])
        for box in [*boxes][-1:]:
            marks.append([end + box.start(1), end + box.end(1), "answer"])
    return marks


def find_thinking(text):
    """Where the thinking of a response begins and ends; the grader reads what is behind it."""
    opened = text.rfind("<think>")
    closed = text.rfind("</think>")
    if opened > closed:  # cut off in it
        return text.find("<think>"), len(text)
    if closed < 0:
        return 0, 0
    return max(text.find("<think>"), 0), closed + len("</think>")


def pieces(text, marks):
    """The text, cut where a mark begins or ends: pairs (piece, the kinds of marks that it has)."""
    turns = defaultdict(Counter)  # place: the kinds that begin (1) and end (-1) there
    for begin, end, kind in marks:
        turns[begin][kind] += 1
        turns[end][kind] -= 1
    on = Counter()
    last = 0
    for place in sorted({*turns, len(text)}):
        if place > last:
            yield text[last:place], [kind for kind in KINDS if on[kind] > 0]
        on.update(turns[place])
        last = place


def part(text, marks, begin, end):
    """The text from begin to end, and the marks that lie there, in places of that part."""
    inside = []
    for first, last, kind in marks:
        if first < end and last > begin:
            inside.append([max(first, begin) - begin, min(last, end) - begin, kind])
    return text[begin:end], inside


# --------------------------------------------------------------------------------------------------
# On the disk


def write_samples(folder, name, shown):
    """Writes the samples of one evaluation. Raises OSError."""
    rows = [asdict(one) for one in shown]
    put(folder / f"samples-{name}.json", lambda made: made.write_bytes(json.dumps(rows).encode()))


def read_samples(path):
    """What write_samples wrote: a list of Shown; raises ValueError if the file is anything else."""
    try:
        shown = read_json(path, list[Shown])
        for one in shown:
            for mode in MODES:
                check_marks(one.samples[mode])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} cannot be read, or was not written by tfpi.py ({error}). Move it out of the "
            "run's folder to go without it"
        ) from None
    return shown


def check_marks(sample):
    """Raises ValueError or TypeError for marks that cannot be of its text."""
    for begin, end, kind in sample.marks:
        whole = type(begin) is type(end) is int
        if not (whole and 0 <= begin <= end <= len(sample.text) and kind in KINDS):
            raise ValueError(f"a mark is {[begin, end, kind]}")
