"""When is a stage over? Rules on recorded curves, beside turning points marked by hand.

    python bench/studies/ends.py                                 # the table
    python bench/studies/ends.py --record runs/small stage1 name # one more curve, to be marked

Three rules, of which none is held back by a cap. `lines`: tfpi.levelled_off, lines through the last
validations and the truncation between them. `windows`: the mean of the last three against the three
before. `rollouts`: lines through what each of the last 20 steps measures for nothing, the accuracy
and the truncation of its rollouts. Figure 8's authors went by eye; so do who marks a curve: the
validation from which it is flat, one number a reader, null for none. A curve's file has shares by
step, and validations as (step, share). Left out: how a run goes on after another end.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import numpy as np
from runs import read_lines

from tfpi import levelled_off

CURVES = Path(__file__).parent / "curves"
WINDOW = 20  # steps of rollouts
SLOPE = 0.002  # a step


def record(run, stage, path):
    """Writes a run's stage as a curve, its marks still to be filled in."""
    lines = [line for line in read_lines(run / "metrics.jsonl") if line["stage"] == stage]
    steps = [line["stage_step"] for line in lines]
    curve = {
        "stage": f"{stage} of {run.name}",
        "budget": lines[0]["budget"],
        "accuracy": [round(line["accuracy"], 4) for line in lines],
        "truncated": [round(line["truncated"], 4) for line in lines],
        "validation": [
            (step, round(line["validation"], 4))
            for step, line in zip(steps, lines)
            if line.get("validation") is not None
        ],
        "marks": [],
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(curve) + "\n")


def windows(truncated, accuracy, window=3, tolerance=0.01):
    """Whether neither measure is better in its last `window` validations than in those before."""
    if len(accuracy) < 2 * window:
        return False
    gain = np.mean(accuracy[-window:]) - np.mean(accuracy[-2 * window : -window])
    drop = np.mean(truncated[-2 * window : -window]) - np.mean(truncated[-window:])
    return bool(gain < tolerance and drop < tolerance)


def first_end(rule, steps, truncated, accuracy):
    """The first of the steps at which the rule ends the stage, by what was measured up to it."""
    for seen, step in enumerate(steps, start=1):
        if rule(truncated[:seen], accuracy[:seen]):
            return step
    return None


def end_by_validations(curve, rule):
    """The step of the validation at which `rule` would end the stage; None if none."""
    steps, accuracy = zip(*curve["validation"])
    spans = zip((0, *steps), steps)
    truncated = [float(np.mean(curve["truncated"][start:end])) for start, end in spans]
    return first_end(rule, steps, truncated, accuracy)


def end_by_rollouts(curve):
    """The step at which neither the rollouts' accuracy nor their truncation may still improve."""
    rule = partial(levelled_off, window=WINDOW, least=SLOPE)
    accuracy = curve["accuracy"]
    return first_end(rule, range(1, len(accuracy) + 1), curve["truncated"], accuracy)


def main():
    parser = argparse.ArgumentParser(description="When is a stage over? Rules on recorded curves.")
    parser.add_argument("--record", nargs=3, metavar=("RUN", "STAGE", "NAME"))
    args = parser.parse_args()
    if args.record:
        run, stage, name = args.record
        return record(Path(run), stage, CURVES / f"{name}.json")
    print(f"| curve | budget | steps | by hand | lines | windows | rollouts |\n{7 * '|---'}|")
    found = []
    for path in sorted(CURVES.glob("*.json")):
        curve = json.loads(path.read_text())
        ends = {
            "lines": end_by_validations(curve, levelled_off),
            "windows": end_by_validations(curve, windows),
            "rollouts": end_by_rollouts(curve),
        }
        found.append({"curve": path.stem, "marks": curve["marks"], **ends})
        marks = ", ".join("-" if mark is None else str(mark) for mark in curve["marks"])
        cells = [path.stem, curve["budget"], len(curve["accuracy"]), marks, *ends.values()]
        print("| " + " | ".join("-" if cell is None else str(cell) for cell in cells) + " |")
    print(json.dumps({"bench": "ends", "curves": found}))


if __name__ == "__main__":
    main()
