"""A training step alone and beside a busy program: one process a core, one thread, or two threads.

    python bench/beside.py
    python bench/beside.py --busy 2 --rounds 1

Steps of the main job's size (64 prompts x 8 rollouts, budget 80, two updates) through the command
line, so that whatever it sets counts. `busy` is a program that does nothing but compute, on one
core; a laptop's browser is less. The ways take turns, alone and beside it; the weights at the end
must be the same alone and beside. The last line is JSON.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = (
    "--model small --device cpu --budgets 80 --eval-problems 2 --eval-samples 1 "
    "--validation-problems 2 --validate-every 100 --save-every 100 --full-budget 96 --minibatches 2"
).split()
WAYS = {
    "a rank a core": [],
    "one rank": ["--ranks", "1"],
    "two threads": ["--ranks", "1", "--threads", "2"],
}
PARTS = ("rollout_seconds", "update_seconds", "step_seconds")


def run(way, steps, scratch):
    """A run's steps but for the first, each a dict of seconds; and a hash of its last weights."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "tfpi.py", *OPTIONS, *WAYS[way], "--out", str(out)]
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
        done = subprocess.run(
            [*command, "--steps", str(steps + 1)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"beside: {way} failed:\n{done.stderr[-2000:]}")
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        weights = (out / "stage1" / "model.safetensors").read_bytes()
    for line in lines:
        line["update_seconds"] = line["step_seconds"] - line["rollout_seconds"]
    return lines[1:], hashlib.sha256(weights).hexdigest()


def measure(args, scratch):
    """{way: {"alone" or "beside": all its steps}}, and whether each way's weights are the same."""
    steps = {way: {"alone": [], "beside": []} for way in args.ways}
    hashes = {way: set() for way in args.ways}
    for _ in range(args.rounds):
        for where in ("alone", "beside"):
            busy = []
            if where == "beside":
                command = [sys.executable, "-c", "while True: pass"]
                busy = [subprocess.Popen(command) for _ in range(args.busy)]
            try:
                for way in args.ways:
                    lines, weights = run(way, args.steps, scratch)
                    steps[way][where] += lines
                    hashes[way].add(weights)
                    seconds = ", ".join(f"{line['step_seconds']:.2f}" for line in lines)
                    print(f"{way}, {where}: {seconds} s", flush=True)
            finally:
                for process in busy:
                    process.kill()
    return steps, {way: len(found) == 1 for way, found in hashes.items()}


def summarise(steps):
    """Medians of the parts of a step, in seconds, and the slowest step."""
    row = {part: statistics.median(step[part] for step in steps) for part in PARTS}
    return row | {"slowest": max(step["step_seconds"] for step in steps)}


def print_table(table, same):
    print(f"\n{'':<26}{'rollouts s':>12}{'update s':>10}{'step s':>8}{'slowest':>9}")
    for way, rows in table.items():
        for where, row in rows.items():
            numbers = f"{row['rollout_seconds']:12.2f}{row['update_seconds']:10.2f}"
            numbers += f"{row['step_seconds']:8.2f}{row['slowest']:9.2f}"
            print(f"{way + ', ' + where:<26}{numbers}")
        ratio = rows["beside"]["step_seconds"] / rows["alone"]["step_seconds"]
        bits = "the same bits" if same[way] else "OTHER BITS"
        print(f"{'':<26}beside / alone {ratio:.2f}; {bits}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=7, help="timed steps, after one to warm up")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each way, alone and beside")
    parser.add_argument("--busy", type=int, default=1, help="busy programs")
    parser.add_argument("--ways", default=",".join(WAYS))
    args = parser.parse_args()
    args.ways = args.ways.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        steps, same = measure(args, scratch)
    table = {way: {where: summarise(s) for where, s in rows.items()} for way, rows in steps.items()}
    print_table(table, same)
    print(json.dumps({"bench": "beside", **vars(args), "table": table, "same": same}))


if __name__ == "__main__":
    main()
