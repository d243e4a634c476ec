"""Mutation check: are the tests worth what they cost?

    python tests/mutants.py                      # all of them: about a quarter of an hour on one core
    python tests/mutants.py --only "stop id"     # those whose name or file contains the words
    python tests/mutants.py --jobs 2

Each mutant is a realistic bug: one piece of the code replaced by a wrong one, in a copy of the repository, where the
fast tests are then run, the likeliest first. A test that fails catches it; a mutant that SURVIVED is a bug that nobody
would have noticed. The bugs are those that make RL code fail in silence: signs, masks, normalisers, positions, streams.
"""

import argparse
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from mutants_table import TABLE

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("*.py", "pytest.ini", "README.md", "tests", "bench", "data", "models")
TIMEOUT = 300  # seconds for the tests of a mutant; a hang is a failure, too
LIBRARIES = [
    "pytest",
    "torch",
    "transformers.models.qwen3.modeling_qwen3",
    "transformers.models.auto.modeling_auto",
    "transformers.generation.utils",
]
# Where a bug in a file shows first; then all the other fast tests are run.
LIKELY = {
    "grpo.py": ["grpo", "logprobs"],
    "logprobs.py": ["logprobs"],
    "rollout.py": ["rollout", "logprobs"],
    "load.py": ["rollout", "bad_input"],
    "tfpi.py": ["tfpi", "run", "reliability"],
    "run.py": ["reliability", "run"],
    "checkpoint.py": ["reliability", "run"],
    "eval.py": ["eval", "run"],
    "problems.py": ["problems"],
    "reward.py": ["reward", "reward_golden", "reward_fuzz"],
    "distill.py": ["distill"],
    "checks.py": ["bad_input"],
    "plot.py": ["paper"],
}


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str


MUTANTS = [Mutant(name, file, old, new) for file, rows in TABLE.items() for name, old, new in rows]


def mutate(mutant):
    """The mutant's file, with the bug in it; ValueError if the table is out of date or the result is no Python."""
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(
            f"{mutant.name}: {mutant.file} has its old text {text.count(mutant.old)} times, not once."
        )
    changed = text.replace(mutant.old, mutant.new)
    try:
        compile(changed, mutant.file, "exec")
    except SyntaxError as error:
        raise ValueError(f"{mutant.name}: {mutant.file} is no Python any more ({error}).") from None
    return changed


def check_table():
    """Raises ValueError for the first mutant that does not apply, or whose name another one has."""
    for mutant in MUTANTS:
        mutate(mutant)
    [(name, count)] = Counter(m.name for m in MUTANTS).most_common(1)
    if count > 1:
        raise ValueError(f"{count} mutants are called {name!r}.")


def run_pytest(folder, arguments):
    """In a process of its own: pytest on the copy in folder, its words into a file; exits with pytest's code."""
    os.setsid()
    os.chdir(folder)
    output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.path = [path for path in sys.path if path != str(ROOT / "tests")]
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(folder)}
    sys.exit(int(pytest.main(["-x", "-q", "--tb=no", "-p", "no:cacheprovider", *arguments])))


def run_tests(forks, folder, arguments):
    """The first test that fails in folder, "a hang", or None."""
    process = forks.Process(target=run_pytest, args=(folder, arguments))
    process.start()
    for _ in range(
        TIMEOUT
    ):  # seconds, but those for which this process itself was paused do not count
        process.join(1)
        if process.exitcode is not None:
            break
    else:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return "a hang"
    text = (folder / "output").read_text(errors="replace")
    if process.exitcode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (?:tests/)?(.+?)(?: - .*)?$", text, re.MULTILINE)
    if not failed:
        raise RuntimeError(f"pytest ended with {process.exitcode}:\n{text[-2000:]}")
    return failed[1]


def catch(forks, mutant):
    """Plants the mutant, if any, in a copy of the repository, and tests it: (what caught it or None, seconds)."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as folder:
        folder = Path(folder)
        for path in (path for pattern in COPIED for path in ROOT.glob(pattern)):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
        if mutant:
            (folder / mutant.file).write_text(mutate(mutant), encoding="utf-8")
        likely = [f"tests/test_{name}.py" for name in (LIKELY[mutant.file] if mutant else [])]
        # test_mutants.py checks this table against the code, which has just been changed.
        rest = ["--ignore=tests/test_mutants.py", *(f"--ignore={path}" for path in likely)]
        caught = (run_tests(forks, folder, likely) if likely else None) or run_tests(
            forks, folder, rest
        )
    return caught, time.monotonic() - started


def main():
    parser = argparse.ArgumentParser(
        description="Plant bugs, one at a time, and see whether the tests catch them."
    )
    parser.add_argument("--only", default="", help="only mutants whose name or file contains this")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once")
    args = parser.parse_args()
    check_table()
    chosen = [m for m in MUTANTS if args.only.lower() in f"{m.file} {m.name}".lower()]
    if not chosen:
        sys.exit(f"no mutant has {args.only!r} in its name or file.")
    # Every run starts as a copy of a process that has imported the large libraries, but nothing of the project.
    forks = multiprocessing.get_context("forkserver")  # not on Windows
    forks.set_forkserver_preload(LIBRARIES)
    if not args.only and (failed := catch(forks, None)[0]):
        sys.exit(f"{failed} fails without any bug planted.")
    survivors = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for mutant, (caught, seconds) in zip(chosen, pool.map(partial(catch, forks), chosen)):
            if not caught:
                survivors.append(mutant.name)
            print(
                f"{mutant.file}: {mutant.name}: {caught or 'SURVIVED'} ({seconds:.0f} s)",
                flush=True,
            )
    share = 1 - len(survivors) / len(chosen)
    print(
        f"\n{len(chosen) - len(survivors)} of {len(chosen)} mutants were caught ({share:.1%})."
        + "".join(f"\nSURVIVED: {name}" for name in survivors)
    )
    print(json.dumps({"mutants": len(chosen), "caught": share, "survivors": survivors}))


if __name__ == "__main__":
    main()
