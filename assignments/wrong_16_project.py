"""Right and wrong answers to assignment 16, and a folder as it is handed in. See wrong.py."""

import json
import statistics

ACCURACY = {"baseline": (0.651, 0.660, 0.642), "changed": (0.640, 0.652, 0.628)}
NORMALIZER = {"baseline": "dapo", "changed": "grpo"}


def right_answers(seed):
    found = {"option": "normalizer"}
    for side, shares in ACCURACY.items():
        percent = [100 * share for share in shares]
        found[side] = {
            "runs": [f"runs/{side}{i}" for i in range(3)],
            "mean": round(statistics.mean(percent), 1),
            "sd": round(statistics.stdev(percent), 1),
        }
    return found


def hand_in(folder, answers):
    """Six runs: three seeds with each normalizer."""
    for side, shares in ACCURACY.items():
        for i, share in enumerate(shares):
            run = folder / "runs" / f"{side}{i}"
            run.mkdir(parents=True, exist_ok=True)
            config = {"model": "small", "seed": i, "normalizer": NORMALIZER[side], "lr": 1e-4}
            (run / "config.json").write_text(json.dumps(config | {"out": str(run)}))
            after = {"thinking": {"accuracy": share, "tokens": 220.0}}
            (run / "summary.json").write_text(json.dumps({"after": after}))


def hand_out(folder, seed):
    """A file for the answers."""
    side = {"runs": [], "mean": 0, "sd": 0}
    text = json.dumps({"option": "", "baseline": side, "changed": side}, indent=2)
    (folder / "answers_16.json").write_text(text + "\n", encoding="utf-8")


def changed(side, **changes):
    answers = right_answers(0)
    return answers | {side: answers[side] | changes}


WRONG_ANSWERS = [
    ("the sides are one", right_answers(0) | {"changed": right_answers(0)["baseline"]}),
    ("another option is named", right_answers(0) | {"option": "lr"}),
    ("two seeds", changed("changed", runs=["runs/changed0", "runs/changed1"])),
    ("one seed three times", changed("baseline", runs=["runs/baseline0"] * 3)),
    ("a run that is not there", changed("baseline", runs=["runs/a", "runs/b", "runs/c"])),
    ("the deviation of the population", changed("baseline", sd=0.7)),
    ("the best seed for the mean", changed("changed", mean=65.2)),
    ("shares for percent", changed("changed", mean=0.64, sd=0.012)),
]
