"""Mutation check: are the tests worth what they cost?

    python tests/mutants.py                          # all mutants: a quarter of an hour on one core
    python tests/mutants.py --only grpo.py "stop id"    # those with such words in file or name
    python tests/mutants.py --jobs 2                 # two at once
    python tests/mutants.py --check                  # does the table fit the code? plants nothing

A mutant is a realistic bug: in a copy of the repository one piece of the code is replaced by a
wrong one, and then the fast tests are run there, the likeliest first. A test that fails catches it;
a mutant that SURVIVED is a bug that nobody would have noticed. The bugs are those that make RL code
fail in silence: signs, masks, normalisers, positions, streams.

The right piece is looked for in one function and token by token, so that it is still found when the
code is formatted anew, or the function moves to another file. A row of the table that does not fit
the code any more is STALE: it is named, and the others run.
"""

import argparse
import ast
import functools
import io
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import tokenize
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
TABLE = Path(__file__).with_name("mutants.tsv")
SOURCES = ("*.py", "answers/*.py", "lesson/*.py", "support/*.py", "examples/*.py")
SOURCES += ("bench/*.py", "bench/studies/*.py")
COPIED = ("*.py", "*.md", "pyproject.toml", "answers", "lesson", "support", "tests", "bench")
COPIED += ("examples", "data", "models", "reading", "assignments")
FOLDERS = ["tests", "bench/tests"]
# They look at this file, and at the form of the code, not at what it does.
LEFT_OUT = ["tests/test_mutants.py", "tests/test_house.py"]
TIMEOUT = 300  # seconds for the tests of a mutant; a hang is a failure, too
PYTEST_ENDED = 100  # plus pytest's own code: the exit code of a process whose pytest came to an end
LIBRARIES = [
    "pytest",
    "transformers.models.qwen3.modeling_qwen3",
    "transformers.models.auto.modeling_auto",
    "transformers.generation.utils",
]
LAYOUT = {getattr(tokenize, kind) for kind in "COMMENT NL NEWLINE INDENT DEDENT ENDMARKER".split()}


class Mutant(NamedTuple):
    """One row of the table."""

    file: str
    function: str  # "function" or "Class.method"; "" is the code outside of functions
    old: str
    new: str
    name: str

    def __str__(self):
        return f"{self.file}: {self.function or '(no function)'}: {self.name}"


class Stale(ValueError):
    """A row of the table does not fit the code; the message says why."""


# --------------------------------------------------------------------------------------------------
# Finding the right piece, and planting the wrong one


class Token(NamedTuple):
    string: str
    start: int  # where it stands in the text
    end: int
    line: int


def read_tokens(code):
    """The tokens of code, whole or a fragment, without its layout.

    Layout is comments, line breaks, indentation, and a comma before a closing bracket.
    """
    before = [0, *accumulate(map(len, io.StringIO(code)))]  # characters before each line
    tokens = []
    try:
        for kind, string, start, end, _ in tokenize.generate_tokens(io.StringIO(code).readline):
            if string in (")", "]", "}") and tokens and tokens[-1].string == ",":
                tokens.pop()
            if kind not in LAYOUT:
                places = [before[line - 1] + column for line, column in (start, end)]
                tokens.append(Token(string, *places, start[0]))
    except (tokenize.TokenError, SyntaxError) as error:
        if "multi-line statement" not in str(error):  # that is: a bracket is left open
            raise Stale(f"{code!r} cannot be read: {error}") from None
    return tokens


def find_functions(node, prefix=""):
    """(name, lines) of each function and method; nested functions belong to their outer one."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min(part.lineno for part in (child, *child.decorator_list))
            yield prefix + child.name, range(first, child.end_lineno + 1)
        else:
            inner = f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix
            yield from find_functions(child, inner)


class Source(NamedTuple):
    """One file of the code."""

    path: Path
    text: str
    tree: str  # what the program is, whatever its layout
    tokens: list
    functions: list  # of each token the function it is in, or ""


@functools.cache
def read_source(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    by_line = {line: name for name, lines in find_functions(tree) for line in lines}
    tokens = read_tokens(text)
    functions = [by_line.get(token.line, "") for token in tokens]
    return Source(path, text, ast.dump(tree), tokens, functions)


def find_source(mutant, root):
    """The file that has the mutant's function: the one that the table names, or the only other."""
    named = root / mutant.file
    if named.exists() and mutant.function in read_source(named).functions:
        return read_source(named)
    others = [path for pattern in SOURCES for path in root.glob(pattern)]
    having = [path for path in others if mutant.function in read_source(path).functions]
    if len(having) != 1 or not mutant.function:
        raise Stale(f"the function is not there, and {len(having)} other files have such a one")
    return read_source(having[0])


def find_code(source, function, code):
    """The places of a piece of code in a function: (start, end) in the text of the file."""
    strings = [token.string for token in source.tokens]
    wanted = [token.string for token in read_tokens(code)]
    for i in range(len(strings) - len(wanted) + 1):
        j = i + len(wanted)
        if strings[i:j] == wanted and {*source.functions[i:j]} == {function}:
            yield source.tokens[i].start, source.tokens[j - 1].end


def plant(mutant, root=ROOT):
    """The file that has the mutant's function, and its text with the bug; or raises Stale.

    The lines of a new text after its first are indented like the line in which the old one begins.
    """
    source = find_source(mutant, root)
    places = list(find_code(source, mutant.function, mutant.old))
    if len(places) != 1:
        raise Stale(f"the old text is {len(places)} times in the function, not once")
    [(start, end)] = places
    before = source.text[:start]
    indentation = re.match(r"[ \t]*", before[before.rfind("\n") + 1 :])[0]
    changed = before + mutant.new.replace("\n", "\n" + indentation) + source.text[end:]
    try:
        compile(changed, mutant.file, "exec")
        if ast.dump(ast.parse(changed)) == source.tree:
            raise Stale("the new text is the same program as the old one")
    except SyntaxError as error:
        raise Stale(f"with the new text the file is no Python ({error})") from None
    return source.path.relative_to(root).as_posix(), changed


def plant_all(mutants, root=ROOT):
    """[(mutant, file, text with the bug)] of the rows that fit, [(mutant, why)] of the stale."""
    counts = Counter(mutant.name for mutant in mutants)
    planted = []
    stale = []
    for mutant in mutants:
        try:
            if counts[mutant.name] > 1:
                raise Stale("another row has its name")
            planted.append((mutant, *plant(mutant, root)))
        except Stale as why:
            stale.append((mutant, why))
    return planted, stale


def read_rows(columns):
    """The rows of mutants.tsv that have so many columns (its head says what they are)."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").split("\n") if line]
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    assert {len(row) for row in rows} == {2, 5}, f"{TABLE.name}: a row has 2 columns, or 5"
    return [list(map(unescape, row)) for row in rows if len(row) == columns]


def unescape(cell):
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), cell)


def read_table():
    return [Mutant(*row) for row in read_rows(5)]


# --------------------------------------------------------------------------------------------------
# Running the tests


def run_pytest(folder, arguments):
    """In a process of its own: pytest in folder, its words into the file `output` there."""
    os.setsid()
    os.chdir(folder)
    output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.path = [path for path in sys.path if path != str(ROOT / "tests")]
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(folder)}
    code = pytest.main(["-n0", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *arguments])
    sys.exit(PYTEST_ENDED + int(code))


def run_tests(forks, folder, arguments):
    """What catches a bug in folder: a failing test, a hang, or the end of the process; or None."""
    process = forks.Process(target=run_pytest, args=(folder, arguments))
    process.start()
    for _ in range(TIMEOUT):  # in seconds, but for those in which this process itself was paused
        process.join(1)
        if process.exitcode is not None:
            break
    else:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return "a hang"
    if process.exitcode < 0:
        return f"the tests' process ended with {signal.Signals(-process.exitcode).name}"
    if process.exitcode < PYTEST_ENDED:
        return f"the tests' process ended with exit code {process.exitcode}"
    code = process.exitcode - PYTEST_ENDED
    if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return None
    output = (folder / "output").read_text(errors="replace")
    failed = re.search(r"^(?:FAILED|ERROR) (?:tests/)?(.+?)(?: - .*)?$", output, re.MULTILINE)
    return failed[1] if failed else f"pytest ended with exit code {code}"


def catch(forks, file=None, text=None):
    """(What catches the bug that is `text` in the place of a file's own, or None; seconds)."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as folder:
        folder = Path(folder)
        for path in (path for pattern in COPIED for path in ROOT.glob(pattern)):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
        if file:
            (folder / file).write_text(text, encoding="utf-8")
        names = dict(read_rows(2)).get(file, "").split()
        likely = [f"{where}/test_{name}.py" for name in names for where in FOLDERS]
        # Pytest ends with an error where a file is missing, as if the bug had been caught.
        likely = [path for path in likely if (folder / path).exists()]
        rest = [f"--ignore={path}" for path in LEFT_OUT + likely]
        caught = run_tests(forks, folder, likely) if likely else None
        caught = caught or run_tests(forks, folder, [*FOLDERS, *rest])
    return caught, time.monotonic() - started


def run_mutants(planted, jobs, first=True):
    """Tests mutant after mutant, and prints what caught it; returns those that survived.

    first: the tests must pass without any bug.
    """
    # Every process of tests is a fork of one that has imported the large libraries, but nothing of
    # the project; not on Windows.
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(LIBRARIES)
    if failed := first and catch(forks)[0]:
        sys.exit(f"{failed} fails without any bug planted.")
    survived = []
    with ThreadPoolExecutor(jobs) as pool:
        results = pool.map(lambda row: catch(forks, *row[1:]), planted)
        for (mutant, *_), (caught, seconds) in zip(planted, results):
            if not caught:
                survived.append(mutant)
            print(f"{mutant}: {caught or 'SURVIVED'} ({seconds:.0f} s)", flush=True)
    return survived


def main():
    parser = argparse.ArgumentParser(description="Plant bugs: do the tests catch them?")
    parser.add_argument("--only", nargs="+", default=[""], help="words in file, function or name")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once")
    parser.add_argument("--check", action="store_true", help="only check the table")
    args = parser.parse_args()
    planted, stale = plant_all(read_table())

    def is_chosen(mutant):
        return any(word.lower() in str(mutant).lower() for word in args.only)

    planted = [row for row in planted if is_chosen(row[0])]
    stale = [row for row in stale if is_chosen(row[0])]
    for note in sorted({(m.file, m.function, file) for m, file, _ in planted if m.file != file}):
        print("note: {}: {} is in {} now".format(*note))
    for mutant, why in stale:
        print(f"STALE: {mutant}: {why}")
    if not planted and not stale:
        sys.exit(f"no mutant has any of {args.only} in its file, function or name.")
    survived = [] if args.check else run_mutants(planted, args.jobs, first=args.only == [""])
    for mutant in survived:
        print(f"SURVIVED: {mutant}")
    counts = f"{len(planted) - len(survived)} caught, {len(survived)} survived"
    if args.check:
        counts = f"{len(planted)} fit the code"
    print(f"{counts}, {len(stale)} stale")
    sys.exit(1 if survived or stale else 0)


if __name__ == "__main__":
    main()
