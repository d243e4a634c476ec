"""The mutation check itself (mutants.py): it finds the right piece of code, and says what it
cannot.
"""

import os
import signal
from pathlib import Path

import mutants
import pytest
from mutants import Mutant, plant, plant_all, read_table

CODE = """
def double(x):
    # a comment
    return scale(
        x,
        2,
    )


def half(x):
    return scale(x, 0.5)
"""


@pytest.fixture
def root(tmp_path):
    """A project of one file."""
    (tmp_path / "code.py").write_text(CODE)
    return tmp_path


def test_layout_does_not_matter(root):
    """Line breaks, comments and a comma before a bracket are no part of the code."""
    file, text = plant(Mutant("code.py", "double", "scale(x, 2)", "scale(x, 3)", "three"), root)
    assert file == "code.py" and "scale(x, 3)" in text and "scale(x, 0.5)" in text


def test_a_piece_is_looked_for_in_its_function_alone(root):
    _, text = plant(Mutant("code.py", "half", "scale(x", "scale(-x", "sign"), root)
    assert text.count("-x") == 1 and text.index("-x") > text.index("half")


def test_a_function_that_moved_is_found(root):
    (root / "code.py").rename(root / "other.py")
    (root / "code.py").write_text("")
    assert plant(Mutant("code.py", "double", "2", "3", "three"), root)[0] == "other.py"


@pytest.mark.parametrize(
    "function, old, new",
    [
        ("triple", "2", "3"),  # there is no such function
        ("double", "7", "3"),  # it has no such piece
        ("double", "x", "y"),  # it has two
        ("double", "2", "2"),  # the new one is the same program
        ("double", "2", "2 +"),  # it is no Python
        ("double", "if x:\n        2\n    3", "3"),  # the old one is no Python, even in part
    ],
)
def test_a_row_that_does_not_fit_is_named_and_the_others_run(function, old, new, root):
    rows = [
        Mutant("code.py", function, old, new, "stale"),
        Mutant("code.py", "half", "0.5", "2", "good"),
    ]
    planted, stale = plant_all(rows, root)
    assert [mutant.name for mutant, *_ in planted] == ["good"]
    assert [mutant.name for mutant, _ in stale] == ["stale"]


class Forks:
    """A process that ends as a test says."""

    def __init__(self, exitcode):
        self.exitcode = exitcode
        self.pid = os.getpid()

    def Process(self, target, args):
        return self

    def start(self):
        pass

    def join(self, seconds=0):
        pass


@pytest.mark.parametrize(
    "exitcode, said",
    [(-signal.SIGTERM, "SIGTERM"), (3, "exit code 3"), (mutants.PYTEST_ENDED + 2, "exit code 2")],
)
def test_a_bug_that_ends_the_tests_process_is_caught(exitcode, said, tmp_path):
    (tmp_path / "output").write_text("")
    assert said in mutants.run_tests(Forks(exitcode), Path(tmp_path), [])


def test_every_row_fits_the_code():
    """A row that does not is a bug that nobody plants."""
    _, stale = plant_all(read_table())
    assert [f"{mutant}: {why}" for mutant, why in stale] == []
