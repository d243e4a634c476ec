"""Runs one answer's grading tests in a process of its own, with limits on time and memory.

This is no sandbox: the process may do what its user may do. It keeps a mistake, a hang or a full
memory from the grader, not an attack; for strangers' code use a container.
"""

import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path

import torch
from checking import run_tests, timed
from planting import ROOT, planted
from table import BY_NUMBER

try:
    import resource
except ImportError:  # Windows, where memory has no such limit
    resource = None

MEGABYTES = 2000  # that an answer may take beyond what the project itself has
STARTING = 120  # seconds that the process may take until it begins


class Failed(ValueError):
    """The process did not come to an end of its own; the message says how, in a sentence."""


def address_space():
    """Bytes of memory that this process has addresses for; None where that is not told."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def module_of(row):
    """The project's module that has the functions."""
    return importlib.import_module(row.file.removesuffix(".py").replace("/", "."))


def tests_module(row):
    return importlib.import_module(row.path("test").stem)


def run_planted(row, tree, seed, file=None, folder=None):
    """What the tests record of a tree's functions, in this process."""
    tests = tests_module(row)
    with planted(module_of(row), tree, file or "<answer>"):
        return run_tests(tests, seed, folder, file)


def run_here(row, seed, file=None, folder=None):
    """What the tests record of the project's own functions, or of a file of answers."""
    return run_tests(tests_module(row), seed, folder, file)


def child(connection, number, tree, seeds, file, folder, output):
    """In the process: sends "started", then what the tests record for each seed."""
    if hasattr(os, "setsid"):
        os.setsid()
    row = BY_NUMBER[number]
    with open(output, "w") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    os.chdir(output.parent)
    torch.set_num_threads(1)
    tests_module(row)
    if row.functions:
        module_of(row)
    used = address_space()
    if resource and used:
        limit = used + MEGABYTES * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection.send("started")
    try:
        results = []
        for seed in seeds:
            if row.functions:
                results.append(timed(run_planted, row, tree, seed, file, folder))
            else:
                results.append(timed(run_here, row, seed, file, folder))
        sys.stdout.flush()
    except BaseException as error:  # of a helper beside the function, say, as it is defined
        results = Failed(f"{row.file} cannot be read: {type(error).__name__}: {error}")
    connection.send(results)


def processes():
    """Where there is fork, processes that start at once, with the project already imported."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "assignments")])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["running", "tfpi"])
    return context


def run_apart(row, tree, seeds, file=None, folder=None, seconds=None):
    """([(outcomes, seconds) of each seed], what the answer printed). Raises Failed."""
    seconds = seconds or row.seconds * len(seeds)
    context = processes()
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="grade-") as scratch:
        output = Path(scratch) / "output"
        process = context.Process(
            target=child, args=(theirs, row.number, tree, seeds, file, folder, output)
        )
        process.start()
        theirs.close()
        try:
            receive(ours, STARTING, "did not begin")
            results = receive(ours, seconds, f"took longer than {seconds} s, and was ended")
        finally:
            end(process)
        printed = output.read_text(errors="replace")
    return results, printed


def receive(connection, seconds, late):
    if not connection.poll(seconds):
        raise Failed(f"Your function {late}.")
    try:
        received = connection.recv()
    except (EOFError, OSError):
        raise Failed("Your function ended the process it ran in.") from None
    if isinstance(received, Failed):
        raise received
    return received


def end(process):
    """Ends the process, and what it started."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    process.kill()
    process.join()
