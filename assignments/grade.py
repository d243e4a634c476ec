"""Grades answers to the assignments.

    python assignments/grade.py DIR                  # a folder that make.py made, with your answer
    python assignments/grade.py DIR --hint 1         # with a first hint; 2 and 3 say more
    python assignments/grade.py DIR --watch          # again each time you save
    python assignments/grade.py submissions/*/ --csv marks.csv --seed 7     # a class

Of the folder only the functions that were asked for, and helpers beside them, are taken, planted
into this project in a process of its own, and run on two sets of numbers: those of the hand-out,
and others (--seed, drawn if it is not given). It is no sandbox: see running.py.
"""

import argparse
import os
import random
import sys
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from checking import first_wrong, is_constant, leaves, name_mistake, share
from packs import IS_PROJECT, known_names, read_handout, right_values, wrong_values
from planting import ROOT, NoAnswer, read_answer
from running import Failed, run_apart
from table import BY_NUMBER

SHOWN = 5  # numbers of a value that are shown
PRINTED = 10  # lines of what the answer printed


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


# --------------------------------------------------------------------------------------------------
# What is shown


def show(marks, seed, other, level):
    """Prints the marks of one answer, as its student sees them."""
    row = marks.row
    place = f"{row.file}, {', '.join(row.functions)}" if row.functions else row.file
    head = f"assignment {row.number}   {row.title.lower()}   {place}"
    print(f"{head}   {marks.points:.3g} of {sum(row.points.values())} points")
    print("\n".join([f"  {marks.sentence}"] if marks.sentence else marks.lines))
    count = len(row.points)
    visible, others = marks.passed
    if row.functions and not marks.sentence:
        print(f"  your numbers (seed {seed}): {visible} of {count} tests;", end=" ")
        print(f"other numbers (seed {other}): {others} of {count}")
    lines = marks.printed.strip().splitlines()
    if lines and marks.failed:
        print("  your function printed:")
        print("\n".join(f"    {line}" for line in lines[-PRINTED:]))
    if marks.points < sum(row.points.values()):
        for i, hint in enumerate(row.hints[:level], start=1):
            print("\n".join(wrapped(f"hint {i} of {len(row.hints)}: {hint}", "  ")))
        if level < len(row.hints):
            print(f"  more: --hint {level + 1}")


def chosen_rows(folder, numbers):
    """The assignments of a folder; raises ValueError if nobody says which."""
    handout = read_handout(folder)
    if not numbers and not handout:
        raise ValueError(
            f"{folder} is no hand-out of make.py: it has no assignments/handout.json. Say which "
            "assignments to grade: --numbers 6 7."
        )
    return [BY_NUMBER[number] for number in numbers or handout["numbers"]]


def seeds_of(folder, given):
    """The seeds of the hand-out's numbers, and of the others."""
    handout = read_handout(folder) or {"seed": 0, "other": 1}
    if not IS_PROJECT:
        return handout["seed"], handout["other"]
    other = random.randrange(10**6) if given is None else given
    return handout["seed"], other + (other == handout["seed"])


def grade_folder(folder, args):
    """All marks of a folder, shown."""
    seed, other = seeds_of(folder, args.seed)
    found = []
    for row in chosen_rows(folder, args.numbers):
        if not row.functions and not IS_PROJECT:
            print(f"assignment {row.number} is graded where the whole project is.")
            continue
        found.append(grade(row, Path(folder).resolve(), seed, other))
        show(found[-1], seed, other, args.hint)
    return found


def newest(folder):
    paths = [*Path(folder).glob("*.py"), *Path(folder).glob("*.json")]
    return max((path.stat().st_mtime for path in paths), default=0)


def watch(folder, args):
    """Grades the folder each time one of its files is saved."""
    seen = None
    while True:
        if (last := newest(folder)) != seen:
            seen = last
            print("\033[2J\033[H" if sys.stdout.isatty() else "", end="")
            grade_folder(folder, args)
            print("\nwaiting for you to save; Ctrl-C ends", flush=True)
        time.sleep(0.3)


def parse_arguments(argv):
    parser = argparse.ArgumentParser(description="Grade answers to the assignments.")
    add = parser.add_argument
    add("folders", nargs="*", default=[str(ROOT)], help="that make.py made; several: a class")
    add("--numbers", type=int, nargs="+", choices=sorted(BY_NUMBER), help="of the assignments")
    add("--hint", type=int, default=0, choices=range(4), help="how many hints to show")
    add("--seed", type=int, help="of the other numbers; without it, drawn and shown")
    add("--watch", action="store_true", help="grade each time you save")
    add("--csv", help="write a line for each answer to this file, for the instructor")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    try:
        if args.csv:
            from marks import grade_class  # not in a hand-out

            return grade_class(args)
        for folder in args.folders:
            if len(args.folders) > 1:
                print(f"--- {folder}")
            if args.watch:
                watch(folder, args)
            else:
                grade_folder(folder, args)
    except (ValueError, OSError) as error:
        sys.exit(f"grade: {error}")
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
