"""The runs of bench/paper.py: where they lie, and what its tables and figures read of them.

runs/paper/start.jsonl                      the model before training, in each mode
runs/paper/METHOD-SEED/metrics.jsonl        a line a step, as tfpi.py writes it
runs/paper/METHOD-SEED/evaluations.jsonl    a line a model that was kept, set of problems, mode
runs/paper/METHOD-SEED/evaluated            an empty file: all of them are there
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "runs" / "paper"
TEST = 500  # problems of the test split that every model is asked


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def kept_models(folder):
    """(name, folder, step) of a run's snapshots and stages' ends, in the order of training."""
    ends = {line["stage"]: line["step"] for line in read_lines(folder / "metrics.jsonl")}
    models = [(stage, folder / stage, step) for stage, step in ends.items()]
    for path in folder.glob("step*"):
        step = int(path.name.removeprefix("step"))
        if step not in ends.values():  # a stage's end is kept under the stage's name, too
            models.append((path.name, path, step))
    return sorted(models, key=lambda model: model[2])


@dataclass
class Trained:
    """A run: the lines of its metrics.jsonl and of its evaluations.jsonl."""

    folder: Path
    seed: int
    steps: list
    evaluations: list

    def get(self, name, key, mode="thinking", data="test"):
        """One number of one model's evaluation."""
        wanted = (name, data, mode)
        [line] = [e for e in self.evaluations if (e["name"], e["data"], e["mode"]) == wanted]
        return line[key]

    def metric(self, key):
        """A metric of each step, (steps,); NaN, which no figure shows, where a line lacks it."""
        return np.array([line.get(key, np.nan) for line in self.steps], dtype=float)

    def flops(self, step):
        """The compute up to a step."""
        return self.steps[step - 1].get("flops", np.nan) if step else 0

    def total_flops(self):
        return self.flops(len(self.steps))

    def curve(self, key, stage=None):
        """(step, number) of every model that was asked to think, from the one before training on.

        Up to the end of the run, or of one of its stages.
        """
        last = max(line["step"] for line in self.steps if stage in (None, line["stage"]))
        asked = [e for e in self.evaluations if (e["mode"], e["data"]) == ("thinking", "test")]
        return [(e["step"], e[key]) for e in asked if e["step"] <= last]


def read_runs(folder, method, start="start"):
    """The method's finished and evaluated runs, by seed.

    The evaluations of each begin with those of the model before training.
    """
    folder = Path(folder)
    runs = []
    for path in sorted(folder.glob(f"{method}-[0-9]*")):
        if (path / "evaluated").exists():
            seed = int(path.name.rsplit("-", 1)[1])
            steps = read_lines(path / "metrics.jsonl")
            evaluations = sorted(read_lines(path / "evaluations.jsonl"), key=lambda e: e["step"])
            before = read_lines(folder / f"{start}.jsonl")
            runs.append(Trained(path, seed, steps, before + evaluations))
    return runs


def alone(runs):
    """(FLOPs, accuracy) of one method, a row a seed: (S, P) both."""
    rows = [[(run.flops(step), a) for step, a in run.curve("accuracy")] for run in runs]
    rows = np.array(rows)
    return rows[:, :, 0], rows[:, :, 1]


def tfpi_then_rl(folder):
    """(FLOPs, accuracy) of TFPI and then RL, a row a seed: (S, P) both.

    RL begins with TFPI's last model, and carries its compute.
    """
    rows = []
    for rl in read_runs(folder, "tfpi-rl"):
        [tfpi] = [run for run in read_runs(folder, "tfpi") if run.seed == rl.seed]
        first = [(tfpi.flops(step), a) for step, a in tfpi.curve("accuracy")]
        spent = tfpi.total_flops()
        then = [(spent + rl.flops(step), a) for step, a in rl.curve("accuracy") if step]
        rows.append(first + then)
    rows = np.array(rows)
    return rows[:, :, 0], rows[:, :, 1]


def spread(rows):
    """The standard deviation over seeds, the rows; 0 for one seed."""
    return np.std(rows, axis=0, ddof=1) if len(rows) > 1 else np.zeros(len(rows[0]))
