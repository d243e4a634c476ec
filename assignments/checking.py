"""How a grading test speaks: `check` what came out, or give `credit` for a part of it.

A grading test is an ordinary pytest function in test_NN_name.py. Under pytest `check` raises at
what is wrong. The grader runs the same function and *records* what came out, test by test, and
compares afterwards, in a process of its own: with what is right, and with what each known mistake
gives for the same numbers. So a mistake is named by its values, however it was written.

What a function called slow_... returns goes into `check` as the expected value, and nowhere else:
the hand-out has the values and not the function.
"""

import json
import math
import time
import traceback
import warnings
import zlib
from contextlib import contextmanager

import numpy as np
import torch

RTOL = 1e-5
LIKE = 1e-4  # how near the values of a known mistake are

_entries = None  # of the test that is being recorded


def check(what, got, expected, rtol=RTOL):
    """Under pytest raises AssertionError unless got is expected; else notes it down.

    Numbers are compared relative to their own size; also by a tenth of rtol of the largest.
    """
    got = plain(got)
    if _entries is not None:
        _entries.append({"what": what, "got": got, "right": plain(expected), "rtol": rtol})
        return
    assert close(got, plain(expected), rtol), f"{what}: {got}, not {plain(expected)}"


def credit(what, share):
    """Notes down how much of something is there, 0 .. 1; the test's points are the mean of all.

    what: a sentence for the student, shown if it is not all.
    """
    share = min(1.0, max(0.0, float(share)))
    if _entries is not None:
        _entries.append({"what": what, "credit": share})


def plain(value):
    """A value as JSON has it: numbers and words, in lists."""
    if isinstance(value, torch.Tensor):
        value = value.detach().to(torch.float64 if value.is_floating_point() else value.dtype)
        return plain(value.tolist())
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return [[str(key), plain(item)] for key, item in value.items()]
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return f"a {type(value).__name__}"


def leaves(value):
    """The numbers and words of a value, one by one; a list begins with its length as a word."""
    if not isinstance(value, list):
        yield value
        return
    yield f"list of {len(value)}"
    for item in value:
        yield from leaves(item)


def is_number(value):
    return isinstance(value, (int, float))


def close(a, b, rtol=RTOL):
    """Whether two plain values are alike, of b's size."""
    a = list(leaves(a))
    b = list(leaves(b))
    sizes = [abs(y) for y in b if is_number(y) and math.isfinite(y)]
    floor = rtol / 10 * max(sizes, default=0.0)
    return len(a) == len(b) and all(alike(x, y, rtol, floor) for x, y in zip(a, b))


def alike(x, y, rtol, floor):
    if not (is_number(x) and is_number(y)):
        return x == y
    if not (math.isfinite(x) and math.isfinite(y)):
        return x == y or (math.isnan(x) and math.isnan(y))
    return abs(x - y) <= rtol * abs(y) + floor


# --------------------------------------------------------------------------------------------------
# Running tests


def grading_tests(module):
    return {name: f for name, f in vars(module).items() if name.startswith("test_")}


def title(function):
    """What a test is called in front of the student: the first line of its docstring."""
    return (function.__doc__ or function.__name__).strip().splitlines()[0].rstrip(".")


def generator(name, seed):
    """The numbers of one test, another stream for each test and seed."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


@contextmanager
def recording():
    global _entries
    _entries = []
    try:
        yield _entries
    finally:
        _entries = None


def run_tests(module, seed, folder=None, file=None):
    """What each test of the module records: {name: {"title", "entries", "error"}}.

    A test may ask for `rng`, its random numbers; for their `seed`; for `answers`, what the file of
    answers says; and for the `folder` in which it lies. file: the student's, for the line at which
    an exception was raised.
    """
    return {
        name: run_test(f, name, seed, folder, file) for name, f in grading_tests(module).items()
    }


def run_test(function, name, seed, folder, file):
    given = {"rng": generator(name, seed), "seed": seed, "folder": folder}
    wanted = function.__code__.co_varnames[: function.__code__.co_argcount]
    error = None
    torch.manual_seed(seed)
    with recording() as entries, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if "answers" in wanted:
                given["answers"] = read_answers(file)
            function(**{key: given[key] for key in wanted})
        except BaseException as raised:  # sys.exit and Ctrl-C among them: it is a student's code
            error = describe_error(raised, file)
    return {"title": title(function), "entries": entries, "error": error}


def read_answers(path):
    """The student's answers, a dict. Raises ValueError, in a sentence, if they cannot be read."""
    try:
        answers = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(f"there is no {path.name} in {path.parent}") from None
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from None
    if not isinstance(answers, dict):
        raise ValueError(f"{path.name} must be an object: " + '{"question": answer, ...}')
    return answers


def describe_error(raised, file):
    """Type and words of an exception, and the student's own line if there is one."""
    error = {"type": type(raised).__name__, "message": str(raised)[:300], "line": None}
    for frame in traceback.extract_tb(raised.__traceback__):
        if file and frame.filename == str(file):
            error |= {"line": frame.lineno, "text": frame.line}
    return error


def timed(function, *arguments):
    started = time.monotonic()
    return function(*arguments), time.monotonic() - started


# --------------------------------------------------------------------------------------------------
# Comparing what was recorded


def first_wrong(outcome, right):
    """Of a test's entries the first that is not right, as (what, got, expected); None if none is.

    right: what the same test recorded of the project's own answer.
    """
    for ours, theirs in zip(outcome["entries"], right["entries"]):
        if "credit" not in theirs and not close(ours["got"], theirs["right"], theirs["rtol"]):
            return theirs["what"], ours["got"], theirs["right"]
    return None


def share(outcome, right):
    """How much of a test's points an outcome earns, 0 .. 1."""
    complete = len(outcome["entries"]) == len(right["entries"])
    if outcome["error"] or not complete or first_wrong(outcome, right):
        return 0.0
    parts = [entry["credit"] for entry in outcome["entries"] if "credit" in entry]
    return sum(parts) / len(parts) if parts else 1.0


def same_outcome(a, b):
    """Whether two recordings of a test have the same values, and end in the same way."""
    kinds = [outcome["error"] and outcome["error"]["type"] for outcome in (a, b)]
    same_end = kinds[0] == kinds[1] and len(a["entries"]) == len(b["entries"])
    return same_end and same_values(a["entries"], b["entries"])


def same_values(ours, theirs):
    """Whether entries are alike, as far as both go."""
    key = {"got", "credit"}
    pairs = [[entry[(key & set(entry)).pop()] for entry in pair] for pair in zip(ours, theirs)]
    return all(close(x, y, LIKE) for x, y in pairs)


def same_until_wrong(outcome, right, other):
    """Whether two recordings are alike up to the first value that is wrong, this one included."""
    wrong = first_wrong(outcome, right)
    names = [entry["what"] for entry in right["entries"]]
    count = names.index(wrong[0]) + 1 if wrong else 0
    ours, theirs = outcome["entries"][:count], other["entries"][:count]
    return bool(ours) and len(ours) == len(theirs) and same_values(ours, theirs)


def name_mistake(outcomes, rights, mistakes):
    """The known mistake that the values are those of, or None; and those of single tests.

    mistakes: {name: [{test: outcome} of each way to make it]}. One that explains every test is the
    student's. Else, as few as possible: the one that explains most of the failed tests, then that
    which explains most of the rest. Where two explain as many, neither is named. What is right at
    first and then goes wrong like a mistake goes by its first wrong value.
    """
    failed = [test for test in rights if share(outcomes[test], rights[test]) < 1]
    if not failed:
        return None, {}
    ways = [(name, way) for name, all_ways in mistakes.items() for way in all_ways]
    explained = [
        (name, [test for test in rights if same_outcome(outcomes[test], way[test])])
        for name, way in ways
    ]
    for name, tests in explained:
        if len(tests) == len(rights):
            return name, {}
    alone = cover(failed, explained)
    partly = [
        (name, [t for t in failed if same_until_wrong(outcomes[t], rights[t], way[t])])
        for name, way in ways
        if not alone or name in alone.values()
    ]
    return None, alone | cover([test for test in failed if test not in alone], partly)


def cover(tests, explained):
    """{test: the name that explains it}, of as few names as possible. See name_mistake."""
    found = {}
    left = set(tests)
    while left:
        told = {}  # by each name: which of the tests, and how many in all
        for name, theirs in explained:
            here = (left & set(theirs), len(theirs))
            told[name] = max(here, told.get(name, (set(), 0)), key=lambda c: (len(c[0]), c[1]))
        nothing = (set(), 0)
        best, count = max(told.values(), key=lambda c: (len(c[0]), c[1]), default=nothing)
        if not best:
            break
        names = [name for name, what in told.items() if what == (best, count)]
        if len(names) == 1:
            found |= dict.fromkeys(sorted(best), names[0])
        left -= best
    return found


def is_constant(sets, right_sets):
    """Whether what came out never differs between two sets of numbers where it should."""
    differs = []
    for test in right_sets[0]:
        ours = [outcomes[test]["entries"] for outcomes in sets]
        rights = [outcomes[test]["entries"] for outcomes in right_sets]
        for one, other, right, other_right in zip(*ours, *rights):
            if "credit" not in right and right["right"] != other_right["right"]:
                differs.append(one["got"] != other["got"])
    return bool(differs) and not any(differs)
