"""Right and wrong answers to assignment 12. See wrong.py; the key is curve_key.py."""

import curve_key
from curve_key import hand_out

__all__ = ["WRONG_ANSWERS", "hand_out", "right_answers"]


def right_answers(seed):
    """A perfect file of answers."""
    found = {}
    for run, name in curve_key.draw(seed).items():
        found[run] = {"cause": curve_key.cause_of(name)}
        if found[run]["cause"] != curve_key.NOTHING:
            found[run] |= curve_key.evidence(name)
    return found


def changed(**changes):
    """The perfect answers to the numbers 0, with something else in each."""
    return {run: given | changes for run, given in right_answers(0).items()}


WRONG_ANSWERS = [
    ("empty", dict.fromkeys(curve_key.RUNS, {"cause": "", "metric": "", "step": 0, "value": 0})),
    ("nothing is ever wrong", changed(cause=curve_key.NOTHING)),
    ("always the sign", changed(cause="the loss has the wrong sign")),
    ("no evidence", changed(metric="")),
    ("a value that is not there", changed(value=12.345)),
    ("a step that is not there", changed(step=31)),
    ("a metric that means nothing here", changed(metric="skipped")),
    ("words for numbers", changed(step="one", value="high")),
    ("no runs, but lists", dict.fromkeys(curve_key.RUNS, ["the loss has the wrong sign"])),
]
