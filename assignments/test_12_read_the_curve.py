"""Assignment 12: which bug was planted into which recorded run, and what shows it?"""

import curve_key
from checking import credit


def test_the_causes(answers, seed):
    """What is wrong with each run"""
    for run, name in curve_key.draw(seed).items():
        given = curve_key.read(answers, run)
        right = given.get("cause") == curve_key.cause_of(name)
        credit(f"{run}: {curve_key.feedback(given.get('cause'))}", right)


def test_the_evidence(answers, seed):
    """What shows it: a value outside of the healthy band, of a metric that the cause moves"""
    for run, name in curve_key.draw(seed).items():
        problem = curve_key.weigh(curve_key.read(answers, run), name)
        credit(f"{run}: {problem}", not problem)
