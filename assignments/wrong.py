"""The known wrong answers of an assignment, each with its hint, ready to plant.

Most are rows of tests/mutants.tsv that lie in the assignment's functions, so that a bug that
is added there is a wrong answer here, too. wrong_NN_name.py has

    HINTS    {name of the row: hint}
    SKIPPED  {name of the row: why no grading test can see it}
    MORE     [(name, hint, function, right piece, wrong piece)]; where the right piece is "", the
             wrong one is the whole body
    WHOLE    [(name, hint, source of all functions, with helpers)]
    RIGHT    the source of another right answer, for the tests of the tests

and, of an assignment whose answer is no code,

    right_answers(seed)  what a perfect file of answers says, a dict
    WRONG_ANSWERS        [(name, the same of a wrong one)], which shall not get all points
    hand_in(folder, answers)  if more is handed in than the file, which it writes

and of any assignment, if the hand-out needs files of its own, hand_out(folder, seed), which writes
them. None of it is handed out. A hint may say what is wrong, not the line that is right.
"""

import ast
import importlib
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from planting import ROOT, cut, replace_bodies

if str(ROOT / "tests") not in sys.path:
    sys.path.append(str(ROOT / "tests"))

from mutants import Mutant, plant, read_table


class Mistake(NamedTuple):
    name: str
    hint: str
    tree: ast.Module


def load(row):
    """The module wrong_NN_name.py."""
    return importlib.import_module(row.path("wrong").stem)


def mutants_of(row):
    """The rows of tests/mutants.tsv that lie in the assignment's functions."""
    return [
        mutant
        for mutant in read_table()
        if mutant.file == row.file and mutant.function.split(".")[0] in row.functions
    ]


def mistakes(row):
    """All known wrong answers, list[Mistake]."""
    if not row.functions:
        return []
    known = load(row)
    whole = (ROOT / row.file).read_text(encoding="utf-8")
    parts = [ast.get_source_segment(whole, node) for node in cut(whole, row.functions).body]
    text = "\n\n\n".join(parts) + "\n"
    rows = [(m, known.HINTS[m.name]) for m in mutants_of(row) if m.name in known.HINTS]
    found = []
    for name, hint, function, old, new in known.MORE:
        if old:
            rows.append((Mutant(row.file, function, old, new, name), hint))
        else:
            changed = replace_bodies(text, {function: new})
            found.append(Mistake(name, hint, cut(changed, row.functions)))
    with tempfile.TemporaryDirectory() as root:  # of the functions alone, which is quicker
        path = Path(root) / row.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        planted = [(m.name, hint, plant(m, Path(root))[1]) for m, hint in rows]
    whole = getattr(known, "WHOLE", [])
    found += [Mistake(name, hint, cut(code, row.functions)) for name, hint, code in planted]
    return found + [Mistake(name, hint, ast.parse(code)) for name, hint, code in whole]
