"""A class at once: a table of marks, what many got wrong alike, and notices of equal code."""

import ast
import csv
from collections import Counter, defaultdict
from pathlib import Path

from judging import grade
from packs import chosen_rows, known_names, seeds_of
from planting import ROOT, NoAnswer, cut, read_answer, shape_of
from table import BY_NUMBER

COLUMNS = ("student", "assignment", "points", "seconds", "mistake", "visible", "other", "seed")
COLUMNS += ("failed", "note")


def grade_class(args):
    """Grades all folders, writes the table, and prints what they have in common."""
    lines = []
    shapes = defaultdict(list)  # {(assignment, shape of the code): students}
    for folder in map(Path, args.folders):
        student = folder.resolve().name
        try:
            seed, other = seeds_of(folder, args.seed)
            rows = chosen_rows(folder, args.numbers)
        except (ValueError, OSError) as error:
            lines.append(dict.fromkeys(COLUMNS, "") | {"student": student, "note": str(error)})
            continue
        for row in rows:
            marks = grade(row, folder, seed, other)
            lines.append(line(student, marks, other))
            print(f"{student}: assignment {row.number}, {marks.points:.3g} points", flush=True)
            if shape := code_of(row, folder):
                shapes[row.number, shape].append(student)
    with open(args.csv, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(lines)
    print("\n".join(statistics(lines) + notices(shapes)))
    print(f"{len(lines)} answers in {args.csv}")


def line(student, marks, other):
    """One row of the table."""
    visible, others = (f"{n}/{len(marks.row.points)}" for n in marks.passed)
    return {
        "student": student,
        "assignment": marks.row.number,
        "points": f"{marks.points:.3g}",
        "seconds": f"{marks.seconds:.2f}",
        "mistake": marks.mistake,
        "visible": visible,
        "other": others,
        "seed": other,
        "failed": "; ".join(marks.failed),
        "note": marks.sentence,
    }


def statistics(lines):
    """How many made each known mistake: the next lecture."""
    answers = Counter(entry["assignment"] for entry in lines)
    made = Counter((e["assignment"], m) for e in lines for m in e["mistake"].split("; ") if m)
    return [
        f"assignment {number}: {count} of {answers[number]}: {mistake}"
        for (number, mistake), count in made.most_common()
    ]


def code_of(row, folder):
    """The shape of a student's answer; None where there is none."""
    if not row.functions:
        return None
    try:
        tree = read_answer(Path(folder) / row.file, row.functions, known_names(row, folder))
    except NoAnswer:
        return None
    return None if f"assignment {row.number}: write" in ast.unparse(tree) else shape_of(tree)


def notices(shapes):
    """Answers that are equal but for their names. A notice, no verdict: short ones are alike."""
    found = []
    for (number, shape), students in shapes.items():
        row = BY_NUMBER[number]
        text = (ROOT / row.file).read_text(encoding="utf-8")
        if shape == shape_of(cut(text, row.functions)):
            students = [*students, "the project's own"]
        if len(students) > 1:
            found.append(f"assignment {number}: equal but for names: {', '.join(students)}")
    return found
