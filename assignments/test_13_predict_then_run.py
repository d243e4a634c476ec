"""Assignment 13: what was predicted, against what the student's own runs measured."""

import json

from checking import credit
from commit import NOTE, RECIPES, digest

# Of an interval's width: up to the first it counts in full, from the second on not at all.
WIDTHS = {"accuracy": (4, 40), "tokens": (20, 200)}


def read(path):
    """A JSON object; an empty one if there is none to read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def measured_in(run):
    """What a run measured after training, in thinking mode; {} if it did not come to its end."""
    try:
        after = read(run / "summary.json")["after"]["thinking"]
        return {"accuracy": 100 * after["accuracy"], "tokens": after["tokens"]}
    except (KeyError, TypeError):
        return {}


def score(interval, value, widths):
    """1 for a narrow interval that holds the value, less for a wide one, 0 for one that misses."""
    try:
        low, high = map(float, interval)
    except (TypeError, ValueError):
        return 0.0
    narrow, wide = widths
    return (low <= value <= high) * min(1.0, max(0.0, (wide - (high - low)) / (wide - narrow)))


def test_the_commitment(answers, folder):
    """Predicted before anything ran, and not changed since"""
    note = read(folder / NOTE)
    credit("there is no committed.json: run assignments/commit.py before the runs", bool(note))
    same = note.get("sha256") == digest(answers)
    credit("the predictions are not those of committed.json", same)
    begun = [path.stat().st_mtime for path in folder.glob("runs/*/config.json")]
    before = bool(note) and all(note.get("time", 0) <= begin + 1 for begin in begun)
    credit("a run is older than committed.json", before and bool(begun))


def test_the_runs(folder):
    """Three runs of the small model, twelve steps a stage, each to its end"""
    for recipe in RECIPES:
        config = read(folder / "runs" / recipe / "config.json")
        wanted = {"model": "small", "recipe": recipe, "steps": 12, "prompts": 64, "group": 8}
        other = [f"{key} is {config.get(key)}" for key in wanted if config.get(key) != wanted[key]]
        said = f"runs/{recipe}: " + (", ".join(other) if config else "there is no config.json")
        credit(said, not other)
        credit(
            f"runs/{recipe}: there is no whole summary.json",
            bool(measured_in(folder / "runs" / recipe)),
        )


def test_the_predictions(answers, folder):
    """Intervals that hold what was measured, the narrower the better"""
    for recipe in RECIPES:
        found = measured_in(folder / "runs" / recipe)
        given = answers.get(recipe)
        for what, widths in WIDTHS.items():
            interval = given.get(what) if isinstance(given, dict) else None
            value = found.get(what)
            share = 0.0 if value is None else score(interval, value, widths)
            there = "nothing was measured" if value is None else f"measured {value:.1f}"
            credit(f"{recipe}, {what}: predicted {interval}, {there}", share)
