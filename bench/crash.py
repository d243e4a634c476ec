"""Kills a real run with SIGKILL at many moments, resumes it, and compares its end with an
uninterrupted run's.

    python bench/crash.py                # 20 kills, 4 a run

Half of the kills come at any moment of the work, the others where it is most delicate: when the
run's folder is made, and up to 30 ms after a folder (a checkpoint or a stage's model) begins to be
written. A run is right if its models, its optimizer, its metrics and its table are those of the
uninterrupted run, bit for bit, the times left out. The last line is JSON.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = (
    "--model small --device cpu --steps 3 --budgets 48,64 --full-budget 64 --prompts 8 --group 4 "
    "--save-every 1 --validate-every 1 --validation-problems 4 "
    "--eval-problems 4 --eval-samples 1"
).split()
TIMES = ("seconds", "rollout_seconds", "step_seconds")
# On as many threads as a user has: sums whose order the threads decide are the same on one thread
# alone.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}


def start(folder):
    """Starts the run, or goes on with it where it has begun: a process whose output goes to
    FOLDER.log.
    """
    new = not (folder / "config.json").exists()
    command = [sys.executable, "tfpi.py", "--out", str(folder), *(OPTIONS if new else ["--resume"])]
    with open(f"{folder}.log", "a") as log:
        return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=log, stderr=log)


def wait_for(process, condition):
    """Waits until the condition holds; False if the process ended before."""
    while not condition():
        if process.poll() is not None:
            return False
        time.sleep(0.0005)
    return True


def kill_somewhere(process, folder, kind, work, rng):
    """Kills the process at a moment of its kind; False if it ended before."""
    if kind == "folder":  # only a new run makes one
        hit = wait_for(
            process, lambda: folder.exists() or list(folder.parent.glob(".new-run-*/run"))
        )
        delay = rng.uniform(0, 0.002)
    else:
        told = Path(f"{folder}.log")
        size = told.stat().st_size
        hit = wait_for(process, lambda: told.stat().st_size > size)  # loaded, the work begins
        delay = rng.uniform(0, work / 4)
    if hit and kind == "write":
        for _ in range(rng.randint(1, 3)):  # the first, second or third folder that is written
            hit = hit and wait_for(process, lambda: not (folder / "partial").exists())
            hit = hit and wait_for(process, lambda: (folder / "partial").exists())
        delay = rng.uniform(0, 0.03)
    time.sleep(delay)
    hit = hit and process.poll() is None
    process.kill()
    process.wait()
    return hit


def state(folder):
    """Where the run stands on the disk, for the table."""
    names = sorted(
        path.name for path in folder.glob("*") if path.name.startswith(("checkpoint", "partial"))
    )
    return ", ".join(names) or ("config.json" if (folder / "config.json").exists() else "nothing")


def result(folder):
    """All that must be equal: model files, optimizer, metrics and table, the times left out."""
    files = sorted(path for path in folder.rglob("*.safetensors"))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    return {
        "files": {str(path.relative_to(folder)): path.read_bytes() for path in files},
        "metrics": [
            {key: value for key, value in line.items() if key not in TIMES} for line in lines
        ],
        "summary": {key: value for key, value in summary.items() if key not in TIMES},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--kills-a-run", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, kills, runs, equal = random.Random(args.seed), 0, 0, 0
    counts = {"any": 0, "write": 0, "folder": 0}
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole"
        process = start(whole)
        wait_for(process, lambda: Path(f"{whole}.log").stat().st_size > 0)
        started = time.monotonic()
        if process.wait():
            sys.exit(Path(f"{whole}.log").read_text())
        work, expected = time.monotonic() - started, result(whole)
        while kills < args.kills:
            runs += 1
            folder = Path(scratch) / f"run{runs}"
            for attempt in range(args.kills_a_run):
                kind = "folder" if attempt == 0 and runs % 2 else ("any", "write")[attempt % 2]
                if kills == args.kills or not kill_somewhere(
                    start(folder), folder, kind, work, rng
                ):
                    break
                kills, counts[kind] = kills + 1, counts[kind] + 1
                print(
                    f"run {runs}, kill {kills:2} ({kind:6}): on the disk {state(folder)}",
                    flush=True,
                )
            if start(folder).wait():
                sys.exit(Path(f"{folder}.log").read_text())
            found = result(folder)
            equal += found == expected
            print(
                f"run {runs} ends "
                + (
                    "as the uninterrupted one"
                    if found == expected
                    else "OTHERWISE: "
                    + ", ".join(key for key in found if found[key] != expected[key])
                ),
                flush=True,
            )
    print(
        json.dumps(
            {"bench": "crash", "kills": kills, "kinds": counts, "runs": runs, "equal": equal}
        )
    )
    sys.exit(equal != runs)


if __name__ == "__main__":
    main()
