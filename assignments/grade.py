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
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from judging import grade, wrapped
from packs import IS_PROJECT, chosen_rows, seeds_of
from planting import ROOT
from table import BY_NUMBER

PRINTED = 10  # lines of what the answer printed


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


def grade_folder(folder, args):
    """Grades what a folder has, and shows it."""
    seed, other = seeds_of(folder, args.seed)
    for row in chosen_rows(folder, args.numbers):
        if not row.functions and not IS_PROJECT:
            print(f"assignment {row.number} is graded where the whole project is.")
            continue
        marks = grade(row, Path(folder).resolve(), seed, other)
        show(marks, seed, other, args.hint)


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
