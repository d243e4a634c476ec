"""What one answer gets: points, and what is said of each test.

Nothing of a student's runs in this process (running.py); what is wrong is shown without the
grading test's own code.
"""

import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from checking import first_wrong, is_constant, leaves, name_mistake, share
from packs import known_names, right_values, wrong_values
from planting import NoAnswer, read_answer
from running import Failed, run_apart

SHOWN = 5  # numbers of a value that are shown


@dataclass
class Marks:
    """What one answer to one assignment got."""

    row: object
    points: float = 0.0
    lines: list = field(default_factory=list)  # what is shown, test by test
    passed: tuple = (0, 0)  # tests, with the numbers of the hand-out and with others
    mistake: str = ""
    sentence: str = ""  # why there are no points, if it is one reason for all tests
    failed: list = field(default_factory=list)  # titles of tests
    seconds: float = 0.0
    printed: str = ""


def grade(row, folder, seed, other, seconds=None):
    """Marks of the answer in a folder, for two sets of numbers. Never raises for what is in it."""
    marks = Marks(row)
    if not row.functions:
        other = seed  # answers are to the hand-out's own questions
    try:
        tree = None
        file = Path(folder).resolve() / row.file
        if row.functions:
            tree = read_answer(file, row.functions, known_names(row, folder))
        results, marks.printed = run_apart(row, tree, (seed, other), file, folder, seconds)
    except (NoAnswer, Failed) as error:
        marks.sentence = str(error)
        return marks
    sets = [outcomes for outcomes, _ in results]
    marks.seconds = sum(spent for _, spent in results)
    rights = [right_values(row.number, s) or ours for s, ours in zip((seed, other), sets)]
    return judge(marks, sets, rights, seed)


def judge(marks, sets, rights, seed):
    """Fills in the marks by what the tests recorded, for both sets of numbers."""
    row = marks.row
    shares = [{t: share(ours[t], right[t]) for t in right} for ours, right in zip(sets, rights)]
    marks.passed = tuple(sum(s == 1 for s in each.values()) for each in shares)
    marks.sentence = one_reason(row, sets, rights)
    alone = {}
    hints = {}
    if row.functions and marks.passed[0] < len(row.points) and not marks.sentence:
        wrong, hints = wrong_values(row.number, seed)
        name, alone = name_mistake(sets[0], rights[0], wrong)
        marks.mistake = name or "; ".join(dict.fromkeys(alone.values()))
    for test, points in row.points.items():
        earned = 0.0 if marks.sentence else points * min(shares[0][test], shares[1][test])
        marks.points += earned
        title = sets[0][test]["title"]
        if earned < points:
            marks.failed.append(title)
        marks.lines.append(f"  {'pass' if earned == points else 'FAIL'}  {title}")
        if 0 < earned < points:
            marks.lines.append(f"        {earned:.1f} of {points} points")
        if earned < points and not marks.sentence:
            which = 0 if shares[0][test] < 1 else 1
            marks.lines += explain(sets[which][test], rights[which][test], which)
            if name := alone.get(test):
                marks.lines.append(f'        Here your values are those of "{name}".')
                marks.lines += wrapped(hints[name], " " * 8)
    if marks.mistake and not alone:
        marks.lines.append(f'  Your values are those of "{marks.mistake}".')
        marks.lines += wrapped(hints[marks.mistake], "  ")
    return marks


def wrapped(text, indent):
    """A sentence in lines of at most 100 letters."""
    return textwrap.wrap(text, 100, initial_indent=indent, subsequent_indent=indent)


def one_reason(row, sets, rights):
    """Why an answer gets nothing at all, in one sentence; empty if it may get something."""
    errors = [outcome["error"] for ours in sets for outcome in ours.values()]
    kinds = {error["type"] for error in errors if error}
    if "SystemExit" in kinds or "KeyboardInterrupt" in kinds:
        return "Your function ends the program (sys.exit); it must return."
    if all(error and error["type"] == "NotImplementedError" for error in errors):
        return f"Not written yet: {' and '.join(row.functions)}."
    if row.functions and is_constant(sets, rights):
        return "Your function returns the same, whatever it is given."
    return ""


def explain(outcome, right, which):
    """What is wrong with a test, without the grader's own code: lines to show."""
    where = "with other numbers: " if which else ""
    if wrong := first_wrong(outcome, right):
        what, got, expected = wrong
        return [
            f"        {where}{what}",
            f"          expected {shown(expected, got)}",
            f"          yours    {shown(got, expected)}",
        ]
    error = outcome["error"]
    if not error:
        parts = [entry for entry in outcome["entries"] if entry.get("credit", 1) < 1]
        return [line for entry in parts for line in wrapped(entry["what"], " " * 8)]
    words = f"{error['type']}: {error['message']}".removesuffix(": ")
    if error["line"]:
        return [f"        {where}{words}", f"          line {error['line']}: {error['text']}"]
    return [f"        {where}what your function returns, or takes, does not fit: {words}"]


def shown(value, other):
    """A value in at most five parts, from the first on that differs from the other one."""
    ours = [v for v in leaves(value) if not is_head(v)]
    theirs = [v for v in leaves(other) if not is_head(v)]
    if len(ours) == 1:
        return short(ours[0])
    lengths = f" ({len(ours)} in all)" if len(ours) > SHOWN else ""
    pairs = list(zip(ours, theirs))
    first = next((i for i, (x, y) in enumerate(pairs) if short(x) != short(y)), 0)
    first = max(0, min(first, len(ours) - SHOWN))
    at = f"from number {first + 1} on: " if first else ""
    return at + ", ".join(map(short, ours[first : first + SHOWN])) + lengths


def is_head(leaf):
    return isinstance(leaf, str) and leaf.startswith("list of ")


def short(value):
    if isinstance(value, float):
        return f"{value:.6g}"
    text = repr(value)
    return text if len(text) <= 70 else text[:45] + " ... " + text[-20:]
