"""Reading an answer out of a student's file, and planting it into the project.

Planted is only what was asked for, with the helpers beside it: functions, classes, constants and
imports of names that the project's file does not have. All else of the file is left alone.
"""

import ast
import os
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class NoAnswer(ValueError):
    """There is nothing to grade; the message says why, in a sentence."""


def names_bound(node):
    """The names that a top-level statement binds; none for what is no definition."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def names_of(text):
    """All names that a file's top level binds."""
    return set().union(*map(names_bound, ast.parse(text).body))


def read_answer(path, functions, known):
    """The student's functions and helpers, as a tree to plant. known: names of the original file.

    Raises NoAnswer.
    """
    try:
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    except OSError:
        raise NoAnswer(f"There is no file {path}.") from None
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if getattr(error, "lineno", None) else ""
        raise NoAnswer(
            f"{Path(path).name} is no Python{line}: {getattr(error, 'msg', error)}."
        ) from None
    wanted = [node for node in tree.body if names_bound(node) & set(functions)]
    missing = sorted(set(functions) - set().union(*map(names_bound, wanted)))
    if missing:
        raise NoAnswer(f"{Path(path).name} has no {' and no '.join(missing)} any more.")
    helpers = [node for node in tree.body if names_bound(node) and not names_bound(node) & known]
    chosen = [node for node in tree.body if node in wanted or node in helpers]
    return ast.Module(chosen, [])


def cut(text, functions):
    """The source of these functions alone, out of a file's text, as a tree."""
    body = [node for node in ast.parse(text).body if names_bound(node) & set(functions)]
    return ast.Module(body, [])


def project_modules():
    for module in list(sys.modules.values()):
        if (getattr(module, "__file__", None) or "").startswith(f"{ROOT}{os.sep}"):
            yield module


def swap(new_of):
    """Puts new objects in the place of old ones, {id: new}, in all modules of the project."""
    for module in project_modules():
        for name, value in list(vars(module).items()):
            if id(value) in new_of:
                setattr(module, name, new_of[id(value)])


@contextmanager
def planted(module, tree, file):
    """Within it, the module has the tree's functions instead of its own, and so has who imported
    them from there."""
    names = vars(module)
    before = dict(names)
    exec(compile(tree, str(file), "exec"), names)
    changed = {name: (old, names[name]) for name, old in before.items() if old is not names[name]}
    swap({id(old): new for old, new in changed.values()})
    try:
        yield
    finally:
        swap({id(new): old for old, new in changed.values()})
        names.clear()
        names.update(before)


# --------------------------------------------------------------------------------------------------
# The hand-out's text


def body_lines(node):
    """The lines, from 1, of a function's body behind its docstring: (first, last)."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    before = node.body[0].end_lineno if body is not node.body else body[0].lineno - 1
    return before + 1, node.end_lineno


def replace_bodies(text, replacements):
    """The text with other bodies of functions, {name: lines}; docstring and signature stay."""
    lines = text.splitlines(keepends=True)
    for node in reversed(ast.parse(text).body):
        if isinstance(node, ast.FunctionDef) and node.name in replacements:
            first, last = body_lines(node)
            new = [f"    {line}\n" for line in replacements[node.name].splitlines()]
            lines[first - 1 : last] = new
    return "".join(lines)


def blank(text, row):
    """The text of the row's file as it is handed out."""
    words = f'"assignment {row.number}: write {{}}"'
    bodies = {n: f"raise NotImplementedError({words.format(n)})" for n in row.functions}
    text = replace_bodies(text, bodies)
    lines = text.splitlines(keepends=True)
    for node in reversed(ast.parse(text).body):
        if names_bound(node) & set(row.removed):
            del lines[node.lineno - 1 : node.end_lineno + 2]
    return "".join(lines)


def shape_of(tree):
    """What a program is, whatever its names are: for equal answers of two students."""
    numbers = {}

    def renamed(name):
        return f"name{numbers.setdefault(name, len(numbers))}"

    for node in ast.walk(tree):
        for field in ("id", "arg", "name"):
            if isinstance(getattr(node, field, None), str):
                setattr(node, field, renamed(getattr(node, field)))
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)
