"""Whether a long run stays within its memory: 500 tiny steps, checkpoints, validations included.

    python bench/longrun.py

The resident memory is read after each step; its slope is that of the least-squares line after a
warm-up of 100 steps, in which allocators and caches fill. The last line is JSON.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tfpi
from problems import load_data
from support.run import Run
from support.start import new_run

OPTIONS = {
    "model": "small",
    "device": "cpu",
    "budgets": "48",
    "full_budget": 64,
    "prompts": 4,
    "group": 4,
    "validate_every": 10,
    "validation_problems": 4,
    "eval_problems": 4,
    "eval_samples": 1,
    "save_every": 50,
}
WARM_UP = 100


def resident():
    """This process's memory in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Watched(Run):
    """A run that notes its memory whenever it logs a step."""

    memory: list = []

    def log(self, line):
        super().log(line)
        self.memory.append(resident())


def measure(steps):
    """Does a run; memory after each step, and what the run was like."""
    with tempfile.TemporaryDirectory() as scratch:
        run = new_run(OPTIONS | {"steps": steps, "out": f"{scratch}/run"}, load_data)
        run.__class__ = Watched
        tfpi.train(run)
        text = (run.folder / "metrics.jsonl").read_text()
    updates = sum(json.loads(line)["updates"] for line in text.splitlines())
    result = {"updates": updates, "seconds": run.seconds(), "metrics_bytes": len(text)}
    return np.array(run.memory), result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500, help=f"more than {WARM_UP} for a slope")
    args = parser.parse_args()
    torch.set_num_threads(1)  # tiny steps: a second thread would only wait
    torch.set_flush_denormal(True)
    memory, result = measure(args.steps)
    for step in [1, *range(50, len(memory) + 1, 50)]:
        print(f"step {step:4}: {memory[step - 1]:7.1f} MB")
    slope = None
    if args.steps > WARM_UP + 1:
        after = memory[WARM_UP:]
        slope = 100 * np.polyfit(np.arange(len(after)), after, 1)[0]
        print(f"after step {WARM_UP} memory grows by {slope:.2f} MB per 100 steps")
    print(
        f"{args.steps} steps, {result['updates']} updates in {result['seconds']:.0f} s; "
        f"metrics.jsonl has {result['metrics_bytes'] / 1e3:.0f} kB"
    )
    numbers = {"mb_per_100_steps": slope, "mb_first": memory[0], "mb_last": memory[-1]}
    print(json.dumps({"bench": "longrun", "steps": args.steps} | result | numbers))


if __name__ == "__main__":
    main()
