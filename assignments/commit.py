"""Notes down, before anything runs, what was predicted in answers_13.json, and when.

    python assignments/commit.py

It keeps an honest student honest, and is no proof.
"""

import hashlib
import json
import sys
import time
from pathlib import Path

ANSWERS = "answers_13.json"
NOTE = "committed.json"
RECIPES = ("tfpi", "multistage", "direct")


def digest(answers):
    """Of the predictions alone, not of what is written under "why" afterwards."""
    predicted = {recipe: answers.get(recipe) for recipe in RECIPES}
    return hashlib.sha256(json.dumps(predicted, sort_keys=True).encode()).hexdigest()


def commit(folder):
    """Writes committed.json. Raises ValueError, in a sentence, where that makes no sense."""
    path = folder / ANSWERS
    try:
        answers = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}).") from None
    there = [recipe for recipe in RECIPES if (folder / "runs" / recipe).exists()]
    if there:
        raise ValueError(f"runs/{there[0]} is there already: a prediction comes before its run.")
    note = {"sha256": digest(answers), "time": time.time()}
    (folder / NOTE).write_text(json.dumps(note) + "\n", encoding="utf-8")


def main():
    try:
        commit(Path(__file__).resolve().parent.parent)
    except (ValueError, OSError, AttributeError) as error:
        sys.exit(f"commit: {error}")
    print(f"{NOTE} is written. Now run.")


if __name__ == "__main__":
    main()
