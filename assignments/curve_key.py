"""The key to assignment 12: which recorded run has which bug, and what counts as evidence.

curves/*.json are made by record_curves.py. Not in a hand-out.
"""

import json
import random
import statistics
from pathlib import Path

from record_curves import BUGS, CURVES, HEALTHY, METRICS, OTHER

WIDTH = 3  # deviations: the healthy band
RUNS = ("run_a", "run_b", "run_c", "run_d", "run_e")
NOTHING = "nothing is wrong"
# What one would see of each cause, and the metrics that it moves.
SIGNS = {
    NOTHING: ("then every curve stays in the band, but for single points", ()),
    "the loss has the wrong sign": (
        "then the reward falls, from the first updates on",
        ("reward", "entropy", "truncated", "tokens", "flat_groups", "verification", "grad_norm"),
    ),
    "the trainer's log-probs have another temperature than the sampler's": (
        "then the two disagree about each token, before the first update already",
        ("logprob_gap", "clipped", "grad_norm", "loss"),
    ),
    "rollouts are drawn on x, not on x'": (
        "then responses begin with a thought, and are as long as the budget, from step 1 on",
        ("tokens", "truncated", "verification", "reward", "flat_groups", "entropy"),
    ),
    "all samples of a prompt share one random stream": (
        "then a group is one response eight times, and nothing is learnt from it",
        ("flat_groups", "updates", "grad_norm", "loss", "logprob_gap", "clipped"),
    ),
    "the learning rate is thirty times too large": (
        "then the policy jumps: many tokens are clipped, and what it knew goes to pieces",
        ("clipped", "grad_norm", "reward", "entropy", "flat_groups", "tokens", "truncated"),
    ),
    "a truncated response counts as right": (
        "then long is good: truncation rises together with the reward",
        ("reward", "truncated", "tokens", "flat_groups", "entropy", "verification"),
    ),
    "the stop token is left out of the loss": (
        "that is hard to see in thirty steps, but these runs have something that is not",
        (),
    ),
    "the budget never grows": ("then truncation does not fall at steps 11 and 21", ()),
    "no answer is ever right": ("then the reward is 0, and every group flat", ()),
    "no group is ever flat": ("then flat_groups is 0 at every step", ()),
    "the gradient is not finite": ("then updates are skipped", ()),
}


def load(name):
    """A recorded curve: {metric: thirty numbers}."""
    return json.loads((CURVES / f"{name}.json").read_text(encoding="utf-8"))


def band():
    """{metric: {"mean": thirty numbers, "sd": thirty numbers}} of the healthy runs."""
    healthy = [load(f"healthy-{seed}") for seed in range(HEALTHY)]
    found = {}
    for metric in METRICS:
        steps = list(zip(*(curve[metric] for curve in healthy)))
        mean = [float(f"{statistics.mean(values):.4g}") for values in steps]
        sd = [float(f"{statistics.stdev(values):.4g}") for values in steps]
        found[metric] = {"mean": mean, "sd": sd}
    return found


def draw(seed):
    """{run: the name of its curve}: four bugs of those that were recorded, and a healthy one."""
    chance = random.Random(seed)
    names = [*chance.sample(list(BUGS), len(RUNS) - 1), OTHER[0]]
    chance.shuffle(names)
    return dict(zip(RUNS, names))


def cause_of(name):
    """The cause of a recorded curve, in the words of the list."""
    return BUGS[name].cause if name in BUGS else NOTHING


def read(answers, run):
    """What the answers say of a run, a dict; an empty one if they say nothing."""
    found = answers.get(run)
    return found if isinstance(found, dict) else {}


def feedback(cause):
    """A sentence on a cause that is not the right one."""
    if not cause:
        return "no cause is given."
    if cause not in SIGNS:
        return f"{str(cause)[:60]!r} is not on the list."
    return f"not {cause!r}: {SIGNS[cause][0]}."


def is_outside(metric, step, value):
    here = band()[metric]
    return abs(value - here["mean"][step - 1]) > WIDTH * here["sd"][step - 1]


def weigh(given, name):
    """What is wrong with the evidence for a run; "" if nothing is."""
    cause = given.get("cause")
    if cause != cause_of(name):
        return "evidence counts for the right cause alone."
    metric, step, value = (given.get(key) for key in ("metric", "step", "value"))
    if cause == NOTHING:
        return "" if not metric else "where nothing is wrong, there is nothing to show."
    if metric not in METRICS:
        return f"{str(metric)[:40]!r} is no metric of the runs."
    whole = isinstance(step, int) and 1 <= step <= len(load(name)[metric])
    if not whole or not isinstance(value, (int, float)):
        return "give a step from 1 to 30, and the value there."
    there = load(name)[metric][step - 1]
    if abs(value - there) > 0.01 * abs(there) + 1e-9:
        return f"{metric} has another value at step {step}."
    if metric not in SIGNS[cause][1]:
        return f"{metric} is not what this cause moves, at most by chance."
    if not is_outside(metric, step, value):
        here = band()[metric]
        mean, reach = here["mean"][step - 1], WIDTH * here["sd"][step - 1]
        return (
            f"{metric} {value} at step {step} is within {mean:.3g} ± {reach:.2g}, as healthy runs."
        )
    return ""


def hand_out(folder, seed):
    """Writes the five runs, the band, and a file for the answers."""
    here = Path(folder) / "assignments" / "curves"
    here.mkdir(parents=True, exist_ok=True)
    for run, name in draw(seed).items():
        (here / f"{run}.json").write_text(json.dumps(load(name)), encoding="utf-8")
    (here / "band.json").write_text(json.dumps(band()), encoding="utf-8")
    empty = {"cause": "", "metric": "", "step": 0, "value": 0}
    text = json.dumps(dict.fromkeys(RUNS, empty), indent=2)
    (Path(folder) / "answers_12.json").write_text(text + "\n", encoding="utf-8")


def evidence(name):
    """Good evidence for a recorded bug: the first value that counts; KeyError if there is none."""
    cause = cause_of(name)
    curve = load(name)
    for metric in SIGNS[cause][1]:
        for step, value in enumerate(curve[metric], start=1):
            if is_outside(metric, step, value):
                return {"metric": metric, "step": step, "value": value}
    raise KeyError(name)
