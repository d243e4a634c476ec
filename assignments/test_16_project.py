"""Assignment 16: the machine's part of the project: folders, seeds, one change, arithmetic."""

import statistics

import pytest
from checking import credit
from test_13_predict_then_run import measured_in, read

SIDES = ("baseline", "changed")
# Where a run lies, and what its machine had room for, may differ.
FREE = {"out", "seed", "device", "slots", "recompute", "offload", "dtype", "save_every"}


def runs_of(answers, side, folder):
    """The folders that the answers name; [] if they name none."""
    given = answers.get(side)
    names = given.get("runs") if isinstance(given, dict) else None
    return [folder / str(name) for name in names] if isinstance(names, list) else []


def test_three_seeds(answers, folder):
    """Three whole runs with the change and three without, of the same seeds"""
    seeds = {}
    for side in SIDES:
        runs = runs_of(answers, side, folder)
        credit(f"{side}: {len(runs)} runs, not three", len(runs) == 3)
        whole = [run for run in runs if measured_in(run)]
        credit(f"{side}: of its runs {len(whole)} came to an end", len(whole) == 3)
        seeds[side] = sorted(str(read(run / "config.json").get("seed")) for run in runs)
    three = len(set(seeds["baseline"])) == 3 and seeds["baseline"] == seeds["changed"]
    credit(f"the seeds are {seeds['baseline']} and {seeds['changed']}", three)


def test_one_change(answers, folder):
    """Nothing differs but the option that is named"""
    option = str(answers.get("option"))
    configs = {}
    for side in SIDES:
        configs[side] = [read(run / "config.json") for run in runs_of(answers, side, folder)]
    everything = [config for side in SIDES for config in configs[side]]
    names = set().union(*everything) - FREE if everything else set()
    values = {name: {str(config.get(name)) for config in everything} for name in names}
    others = sorted(name for name in names - {option} if len(values[name]) > 1)
    credit(f"these differ, too: {', '.join(others) or 'no runs'}", bool(everything) and not others)
    within = [{str(config.get(option)) for config in configs[side]} for side in SIDES]
    changed = all(len(side) == 1 for side in within) and within[0] != within[1]
    credit(f"{option!r} does not set the two sides apart", changed)


def test_the_arithmetic(answers, folder):
    """Mean and deviation over the seeds are those of the runs"""
    for side in SIDES:
        found = [measured_in(run).get("accuracy") for run in runs_of(answers, side, folder)]
        given = answers.get(side)
        for name, function in (("mean", statistics.mean), ("sd", statistics.stdev)):
            value = given.get(name) if isinstance(given, dict) else None
            is_number = isinstance(value, (int, float))
            right = len(found) > 1 and None not in found and is_number
            right = right and value == pytest.approx(function(found), abs=0.051)
            credit(f"{side}: {name} is not {value}", right)
