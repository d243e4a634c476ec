"""Records the curves of assignment 12: short runs of the small model, with a bug or without.

    python assignments/record_curves.py      # half an hour on one core; what is there stays

A bug is planted in a copy of the project, as tests/mutants.py does, and `tfpi.py` is run there:
three stages of ten steps, 32 prompts x 8 a step. Of each step's line of metrics what METRICS names
is kept. Not in a hand-out: it tells which bug is which.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CURVES = HERE / "curves"
COPIED = ("*.py", "answers", "lesson", "support", "data", "models")
OPTIONS = "--model small --steps 10 --prompts 32 --eval-problems 20 --eval-samples 1 --device cpu"
OPTIONS = [*OPTIONS.split(), "--validation-problems", "50"]
METRICS = ("reward", "tokens", "truncated", "flat_groups", "entropy", "verification")
METRICS += ("loss", "clipped", "logprob_gap", "grad_norm", "updates", "skipped")
HEALTHY = 5  # seeds


class Bug(NamedTuple):
    cause: str
    seed: int
    file: str
    right: str
    wrong: str


# By the name of its curve.
BUGS = {
    "sign": Bug(
        "the loss has the wrong sign",
        6,
        "grpo.py",
        "loss = -(torch.minimum",
        "loss = (torch.minimum",
    ),
    "temperature": Bug(
        "the trainer's log-probs have another temperature than the sampler's",
        7,
        "grpo.py",
        "temperature=config.temperature",
        "temperature=1.3 * config.temperature",
    ),
    "thinking": Bug(
        "rollouts are drawn on x, not on x'",
        8,
        "tfpi.py",
        "Stage(name, False, budget)",
        "Stage(name, True, budget)",
    ),
    "stream": Bug(
        "all samples of a prompt share one random stream",
        9,
        "rollout.py",
        "draw_uniforms(*self.streams[i], self.budget) for i in requests",
        "draw_uniforms(*self.streams[i // self.samples], self.budget) for i in requests",
    ),
    "rate": Bug(
        "the learning rate is thirty times too large",
        11,
        "support/run.py",
        '{"lr": config.lr,',
        '{"lr": 30 * config.lr,',
    ),
    "truncation": Bug(
        "a truncated response counts as right",
        12,
        "eval.py",
        "rollout.correct, rollout.reward = grade(rollout.text, gold)",
        "rollout.correct, rollout.reward = grade(rollout.text, gold)\n"
        "            if not rollout.finished:\n"
        "                rollout.correct, rollout.reward = True, 1.0",
    ),
}
OTHER = ("healthy-other", 20)  # not in the band, for the student to find


def record(name, seed, bug=None):
    """Runs once, unless it is recorded already, and keeps the curve as curves/NAME.json."""
    target = CURVES / f"{name}.json"
    if target.exists():
        return
    with tempfile.TemporaryDirectory() as root:
        root = Path(root)
        for pattern in COPIED:
            for path in ROOT.glob(pattern):
                copy = shutil.copytree if path.is_dir() else shutil.copy
                copy(path, root / path.name)
        if bug:
            path = root / bug.file
            text = path.read_text(encoding="utf-8")
            assert text.count(bug.right) == 1, f"{bug.right!r} is not once in {bug.file}"
            path.write_text(text.replace(bug.right, bug.wrong), encoding="utf-8")
        command = [sys.executable, "tfpi.py", *OPTIONS, "--seed", str(seed), "--out", "run"]
        subprocess.run(command, cwd=root, check=True, capture_output=True)
        lines = (root / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines]
    curve = {metric: [float(f"{step[metric]:.4g}") for step in steps] for metric in METRICS}
    target.write_text(json.dumps(curve, indent=None) + "\n", encoding="utf-8")
    print(f"{target.name}: {len(steps)} steps", flush=True)


def main():
    CURVES.mkdir(exist_ok=True)
    for seed in range(HEALTHY):
        record(f"healthy-{seed}", seed)
    for name, bug in BUGS.items():
        record(name, bug.seed, bug)
    record(*OTHER)


if __name__ == "__main__":
    main()
