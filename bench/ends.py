"""When is a stage over? Two rules on recorded curves, beside turning points marked by hand.

    python bench/ends.py                                     # the table
    python bench/ends.py --record runs/small stage1 name     # one more curve, to be marked by hand

tfpi.levelled_off looks at validations, which are few. Every step measures hundreds of rollouts for
nothing: the slope rule fits a line to their accuracy, and one to their truncation, over the last 20
steps, and calls a stage over when neither line, with its standard error on top, still improves by
0.2 points a step. Figure 8's authors went by eye; so does who marks a curve, once its validations,
once its rollouts' accuracy as the mean of seven steps. A curve's file has shares by step,
validations as (step, share), and the two marks (null: no turning point). Left out: how a run goes
on after another end.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
from runs import read_lines

from tfpi import levelled_off

CURVES = Path(__file__).parent / "curves"
WINDOW = 20  # steps
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
        "marks": [None, None],
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(curve) + "\n")


def fit_slope(values):
    """The slope of the least-squares line through values (N,), a step, and its standard error."""
    values = np.asarray(values, dtype=float)
    steps = np.arange(len(values)) - (len(values) - 1) / 2
    spread = steps @ steps
    slope = steps @ values / spread
    rest = values - values.mean() - slope * steps
    return slope, np.sqrt(rest @ rest / (len(values) - 2) / spread)


def still_improves(values):
    """Whether the last WINDOW values may still rise by SLOPE a step, as far as they tell."""
    slope, error = fit_slope(values[-WINDOW:])
    return slope + error >= SLOPE


def end_by_slope(curve):
    """The first step at which neither measure improves any more; None if there is none."""
    accuracy = np.array(curve["accuracy"])
    kept = 1 - np.array(curve["truncated"])
    for step in range(WINDOW, len(accuracy) + 1):
        if not still_improves(accuracy[:step]) and not still_improves(kept[:step]):
            return step
    return None


def end_by_validations(curve):
    """The step at which tfpi.levelled_off would end the stage, had it no cap; None if none."""
    truncated = []
    accuracy = []
    before = 0
    for step, share in curve["validation"]:
        truncated.append(float(np.mean(curve["truncated"][before:step])))
        accuracy.append(share)
        before = step
        if levelled_off(truncated, accuracy):
            return step
    return None


def main():
    parser = argparse.ArgumentParser(description="When is a stage over? Rules on recorded curves.")
    parser.add_argument("--record", nargs=3, metavar=("RUN", "STAGE", "NAME"))
    args = parser.parse_args()
    if args.record:
        run, stage, name = args.record
        return record(Path(run), stage, CURVES / f"{name}.json")
    heads = "curve | budget | steps | by hand: validations, rollouts | slopes | validations"
    print(f"| {heads} |\n{6 * '|---'}|")
    found = []
    for path in sorted(CURVES.glob("*.json")):
        curve = json.loads(path.read_text())
        steps = len(curve["accuracy"])
        ends = {"slopes": end_by_slope(curve), "validations": end_by_validations(curve)}
        found.append({"curve": path.stem, "marks": curve["marks"], **ends})
        marks = ", ".join(map(str, curve["marks"]))
        cells = [path.stem, curve["budget"], steps, marks, *ends.values()]
        print("| " + " | ".join("-" if cell is None else str(cell) for cell in cells) + " |")
    print(json.dumps({"bench": "ends", "curves": found}))


if __name__ == "__main__":
    main()
