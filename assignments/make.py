"""Hands out assignments: the project, with the functions to be written taken out.

    python assignments/make.py 7 --out DIR            # one
    python assignments/make.py 1 6 7 8 --out DIR      # an evening
    python assignments/make.py all --out DIR --seed 7 # a term, with numbers of its own

The project is the only solution: bodies are cut out of the code as it is today. What would show
them is left out: the tests and the table of mutants, bench/, examples/, the known mistakes, this
file, and the slow loops in the grading tests, in whose place the hand-out has their values.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import wrong
from packs import HANDOUT, right_values, wrong_values
from planting import ROOT, blank, names_of, replace_bodies
from table import BY_NUMBER, TABLE

COPIED = ("*.py", "answers/*.*", "lesson/*.*", "support/*.*", "requirements.txt", "LICENSE")
COPIED += ("data/*", "models/*/*")
TOOLS = ("checking.py", "grade.py", "hints.py", "judging.py", "packs.py", "planting.py")
TOOLS += ("running.py", "table.py", "tiny.py")
HEAD = """# Your assignments

Write the functions named below in the files of this folder; nothing else needs to change. The rest
of the project is here and works. Then, in this folder:

    python assignments/grade.py              # what is right, what is not; --hint 1, 2, 3 helps
    python assignments/grade.py --watch      # the same each time you save

Your function is run on these numbers and on others, so that a function which knows the numbers by
heart gets nothing. Helpers beside your function are welcome, in the same file: new functions, new
constants, imports. Changes to other functions are not looked at. Hand in this folder, or the files
that you changed.
"""


def blanked(rows):
    """{file: text} of the files that have something to be written."""
    texts = {}
    for row in rows:
        if row.functions:
            text = texts.get(row.file) or (ROOT / row.file).read_text(encoding="utf-8")
            texts[row.file] = blank(text, row)
    return texts


def without_answers(text):
    """A grading test for the hand-out: what its slow functions return is not needed there."""
    names = [name for name in names_of(text) if name.startswith("slow_")]
    return replace_bodies(text, {name: "return None" for name in names})


def hand_out(numbers, folder, seed):
    """Fills the folder, which must be empty or not there."""
    rows = [BY_NUMBER[number] for number in numbers]
    texts = blanked(rows)
    for path in (path for pattern in COPIED for path in ROOT.glob(pattern) if path.is_file()):
        name = path.relative_to(ROOT).as_posix()
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name in texts:
            target.write_text(texts[name], encoding="utf-8")
        else:
            shutil.copyfile(path, target)
    here = folder / "assignments"
    here.mkdir()
    for name in TOOLS:
        shutil.copyfile(ROOT / "assignments" / name, here / name)
    for row in rows:
        for name in (row.path("text").name, *row.extra):
            copy(ROOT / "assignments" / name, here / name)
        if row.functions:
            test = row.path("test")
            text = without_answers(test.read_text(encoding="utf-8"))
            (here / test.name).write_text(text, encoding="utf-8")
        if hasattr(wrong.load(row), "hand_out"):
            wrong.load(row).hand_out(folder, seed)
    tasks = [row.path("text").read_text(encoding="utf-8") for row in rows]
    (folder / "ASSIGNMENT.md").write_text("\n\n".join([HEAD, *tasks]), encoding="utf-8")
    other = seed + 1
    content = {"numbers": numbers, "seed": seed, "other": other}
    content["names"] = {name: sorted(names_of(text)) for name, text in texts.items()}
    content["packs"] = {
        str(r.number): make_pack(r.number, seed, other) for r in rows if r.functions
    }
    (folder / HANDOUT).write_text(json.dumps(content), encoding="utf-8")


def make_pack(number, seed, other):
    """What a hand-out has of one assignment in the place of solution and mistakes."""
    wrong, hints = wrong_values(number, seed)
    return {
        "right": {str(s): bare(right_values(number, s), True) for s in (seed, other)},
        "wrong": {name: [bare(way, False) for way in ways] for name, ways in wrong.items()},
        "hints": hints,
    }


def bare(values, is_right):
    """What of a recording is compared with: of a mistake no expected values, and no words."""
    kept = ("what", "right", "rtol", "credit") if is_right else ("got", "credit")
    return {
        test: {
            "entries": [{k: e[k] for k in kept if k in e} for e in outcome["entries"]],
            "error": outcome["error"] and {"type": outcome["error"]["type"]},
        }
        for test, outcome in values.items()
    }


def copy(source, target):
    """A file, or a folder with all that is in it."""
    (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)


def read_numbers(words):
    """The numbers of `7`, `1 6 7 8` or `all`. Raises ValueError."""
    if words == ["all"]:
        return [row.number for row in TABLE]
    known = ", ".join(map(str, sorted(BY_NUMBER)))
    for word in words:
        if not word.isdigit() or int(word) not in BY_NUMBER:
            raise ValueError(f"there is no assignment {word}; there are {known}, and all.")
    return sorted({int(word) for word in words})


def main(argv=None):
    parser = argparse.ArgumentParser(description="Hand out assignments.")
    parser.add_argument("numbers", nargs="+", help="of assignments, or all")
    parser.add_argument("--out", required=True, help="folder to make, which must not exist yet")
    parser.add_argument("--seed", type=int, default=0, help="of the numbers that the tests use")
    args = parser.parse_args(argv)
    try:
        numbers = read_numbers(args.numbers)
        folder = Path(args.out)
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty. Give --out another name.")
        folder.mkdir(parents=True, exist_ok=True)
        hand_out(numbers, folder, args.seed)
    except (ValueError, OSError) as error:
        sys.exit(f"make: {error}")
    for number in numbers:
        row = BY_NUMBER[number]
        place = ", ".join([row.file, *row.functions])
        print(f"{number:>3}  {row.title}, {row.minutes} minutes: {place}")
    print(f"Begin with {folder / 'ASSIGNMENT.md'}")


if __name__ == "__main__":
    main()
