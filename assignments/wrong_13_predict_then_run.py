"""Right and wrong answers to assignment 13, and a folder as it is handed in. See wrong.py."""

import json
import os
import time

from commit import NOTE, RECIPES, digest

MEASURED = {"tfpi": (0.62, 222.0), "multistage": (0.58, 95.0), "direct": (0.60, 266.0)}
CONFIG = {"model": "small", "steps": 12, "prompts": 64, "group": 8}


def right_answers(seed):
    """A perfect file of answers: narrow intervals around what hand_in's runs measured."""
    return {
        recipe: {
            "accuracy": [100 * accuracy - 2, 100 * accuracy + 2],
            "tokens": [tokens - 10, tokens + 10],
        }
        for recipe, (accuracy, tokens) in MEASURED.items()
    }


def hand_in(folder, answers):
    """Runs that came to an end, begun after the answers were committed."""
    note = {"sha256": digest(answers), "time": time.time() - 100}
    (folder / NOTE).write_text(json.dumps(note))
    for recipe, (accuracy, tokens) in MEASURED.items():
        run = folder / "runs" / recipe
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.json").write_text(json.dumps(CONFIG | {"recipe": recipe}))
        after = {"thinking": {"accuracy": accuracy, "tokens": tokens}}
        (run / "summary.json").write_text(json.dumps({"after": after}))
        os.utime(run / "config.json")


def hand_out(folder, seed):
    """A file for the answers."""
    empty = {"accuracy": [0, 100], "tokens": [0, 640]}
    text = json.dumps(dict.fromkeys(RECIPES, empty) | {"why": ""}, indent=2)
    (folder / "answers_13.json").write_text(text + "\n", encoding="utf-8")


def all_of_it(**interval):
    return {recipe: given | interval for recipe, given in right_answers(0).items()}


WRONG_ANSWERS = [
    ("everything is possible", all_of_it(accuracy=[0, 100], tokens=[0, 640])),
    ("too high", all_of_it(accuracy=[90, 94])),
    ("the ends are swapped", all_of_it(tokens=[300, 100])),
    ("numbers, no intervals", all_of_it(accuracy=60, tokens=220)),
    ("words", all_of_it(accuracy=["low", "high"])),
    ("all three alike", dict.fromkeys(RECIPES, right_answers(0)["tfpi"])),
]
