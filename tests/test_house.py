"""The house: who imports whom, and how long files and functions may be (CONTRIBUTING.md)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONCEPTS = ["tfpi", "thinkfree", "grpo", "logprobs", "rollout", "cache", "reward", "eval"]
CONCEPTS += ["problems", "distill"]
CELLARS = ("answers", "lesson", "support")
FOLDERS = (".", *CELLARS, "bench", "bench/studies", "examples", "assignments")
PATHS = [path for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.py")]


def module_name(path):
    """Of a script of bench/ or assignments/ its bare name, as those beside it import it."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    name = name.removesuffix(".__init__")
    # bench/rollout.py and rollout.py: whoever imports rollout gets the latter.
    bare = name.removeprefix("bench.").removeprefix("studies.").removeprefix("assignments.")
    return name if bare in CONCEPTS else bare


TREES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in PATHS}


def imported(tree):
    """The project's modules that a tree imports, at its head or inside a function."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & TREES.keys()


GRAPH = {name: imported(tree) for name, tree in TREES.items()}


def reached(name):
    """All modules that importing one brings in."""
    found = set()
    waiting = [name]
    while waiting:
        for other in GRAPH[waiting.pop()] - found:
            found.add(other)
            waiting.append(other)
    return found


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def test_no_two_modules_share_a_name():
    assert len(TREES) == len(PATHS)


def test_no_module_imports_itself_by_way_of_others():
    assert [name for name in TREES if name in reached(name)] == []


def test_the_top_holds_the_concepts_alone():
    assert sorted(path.stem for path in ROOT.glob("*.py")) == sorted(CONCEPTS)


@pytest.mark.parametrize("name", [name for name in TREES if name.startswith(CELLARS)])
def test_the_cellar_knows_nothing_of_the_rooms_above(name):
    assert [other for other in GRAPH[name] if not other.startswith(CELLARS)] == []


@pytest.mark.parametrize("name", [name for name in TREES if name.startswith("answers")])
def test_an_answers_algebra_stands_alone(name):
    """So that it can be used elsewhere, without torch."""
    assert [other for other in GRAPH[name] if not other.startswith("answers")] == []


@pytest.mark.parametrize(
    "name, forbidden",
    [
        ("thinkfree", {"tfpi", "eval", "grpo", "rollout"}),
        ("rollout", {"tfpi", "eval", "grpo", "logprobs", "reward", "thinkfree"}),
        ("reward", {"tfpi", "eval", "grpo", "logprobs", "rollout", "thinkfree"}),
        ("problems", {"tfpi", "eval", "grpo", "rollout", "thinkfree", "support.run"}),
        ("logprobs", {"tfpi", "eval", "grpo", "rollout", "reward", "thinkfree"}),
        ("grpo", {"tfpi", "eval", "rollout", "reward", "thinkfree", "problems"}),
        ("eval", {"tfpi", "grpo", "logprobs"}),
    ],
)
def test_imports_go_down_only(name, forbidden):
    """grpo.py never learns where rollouts come from, or whether a prompt is x or x'."""
    assert not reached(name) & forbidden


@pytest.mark.parametrize("name", [name for name in TREES if name in CONCEPTS])
def test_concepts_import_at_their_head(name):
    """An import inside a function hides a circle; only an optional library may stand there."""
    inside = [node for function in functions(TREES[name]) for node in ast.walk(function)]
    assert not [node for node in inside if isinstance(node, (ast.Import, ast.ImportFrom))]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_fits_in_one_sitting(path):
    """But for an answer's algebra, which is to be skipped at first reading."""
    lines = path.read_text(encoding="utf-8").count("\n")
    assert path.name == "algebra.py" or lines <= 350


@pytest.mark.parametrize("name", [name for name in TREES if name in CONCEPTS])
def test_a_function_fits_on_a_screen(name):
    lengths = {f.name: f.end_lineno - f.lineno + 1 for f in functions(TREES[name])}
    assert {function: n for function, n in lengths.items() if n > 45} == {}
