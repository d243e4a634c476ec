"""What a hand-out asks for, and what an answer is compared with: the right values, and those of
each known mistake.

In the project they are made on the spot, for any numbers. In a hand-out, which has neither the
solution nor the mistakes, they stand in assignments/handout.json, for two sets of numbers.
"""

import functools
import json
import random
from pathlib import Path

from planting import ROOT, names_of
from running import run_here, run_planted
from table import BY_NUMBER

HANDOUT = "assignments/handout.json"
IS_PROJECT = (ROOT / "assignments" / "make.py").exists()


def read_handout(folder):
    """What make.py wrote into a hand-out: {numbers, seed, other, names, packs}; None if nothing."""
    path = Path(folder) / HANDOUT
    if not path.exists():
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def chosen_rows(folder, numbers):
    """The assignments of a folder; raises ValueError if nobody says which."""
    handout = read_handout(folder)
    if not numbers and not handout:
        raise ValueError(
            f"{folder} is no hand-out of make.py: it has no assignments/handout.json. Say which "
            "assignments to grade: --numbers 6 7."
        )
    return [BY_NUMBER[number] for number in numbers or handout["numbers"]]


def seeds_of(folder, given):
    """The seeds of the hand-out's numbers, and of the others."""
    handout = read_handout(folder) or {"seed": 0, "other": 1}
    if not IS_PROJECT:
        return handout["seed"], handout["other"]
    other = random.randrange(10**6) if given is None else given
    return handout["seed"], other + (other == handout["seed"])


@functools.cache
def right_values(number, seed):
    """{test: what it records of the right answer}; of an answer that is no code nothing."""
    row = BY_NUMBER[number]
    if not IS_PROJECT:
        return read_handout(ROOT)["packs"][str(number)]["right"][str(seed)]
    return run_here(row, seed) if row.functions else {}


@functools.cache
def wrong_values(number, seed):
    """({mistake: [{test: what it records} of each way to make it]}, {mistake: its hint})."""
    row = BY_NUMBER[number]
    if not IS_PROJECT:
        pack = read_handout(ROOT)["packs"][str(number)]
        return pack["wrong"], pack["hints"]
    from wrong import mistakes  # not in a hand-out

    found = mistakes(row)
    values = {mistake.name: [] for mistake in found}
    for mistake in found:
        values[mistake.name].append(run_planted(row, mistake.tree, seed))
    return values, {mistake.name: mistake.hint for mistake in found}


def known_names(row, folder):
    """The names of the row's file as it was handed out: what else is there is the student's."""
    handout = read_handout(folder)
    if handout and row.file in handout["names"]:
        return set(handout["names"][row.file])
    return names_of((ROOT / row.file).read_text(encoding="utf-8"))
