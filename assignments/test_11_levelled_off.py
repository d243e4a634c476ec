"""Grading tests of assignment 11: when is a stage over?"""

import numpy as np
from checking import check

import tfpi

CURVES = 40  # of each check: so many that no rule agrees with another on all of them by chance


def slow_bound(shares):
    """Slope of the least-squares line plus its standard error, sum by sum."""
    n = len(shares)
    middle = (n - 1) / 2
    mean = sum(shares) / n
    sxx = 0.0
    sxy = 0.0
    for x, y in enumerate(shares):
        sxx += (x - middle) ** 2
        sxy += (x - middle) * y
    slope = sxy / sxx
    squares = 0.0
    for x, y in enumerate(shares):
        squares += (y - mean - slope * (x - middle)) ** 2
    return slope + (squares / (n - 2) / sxx) ** 0.5


def slow_may_rise(shares, least):
    return slow_bound(shares) >= least


def slow_levelled_off(truncated, accuracy, window=5, least=0.015):
    """Are both bounds below `least`?"""
    n = len(accuracy)
    if n < window:
        return False
    finished = [1 - truncated[i] for i in range(n - window, n)]
    return max(slow_bound(finished), slow_bound(accuracy[n - window :])) < least


def draw_curve(rng, steps, start, slope, noise=0.004):
    """Shares that change by `slope` a validation."""
    return [float(start + slope * i + noise * rng.standard_normal()) for i in range(steps)]


def draw_curves(rng, steps, least=0.015):
    """Pairs (truncated, accuracy); some improve about as much as the rule wants."""
    curves = []
    for _ in range(CURVES):
        fall = least * rng.choice([-1.5, 0.0, 0.7, 1.1, 2.0])
        rise = least * rng.choice([-1.5, 0.0, 0.7, 1.1, 2.0])
        noise = least * rng.choice([0.3, 1.0])
        truncated = draw_curve(rng, steps, 0.4, -fall, noise)
        curves.append((truncated, draw_curve(rng, steps, 0.5, rise, noise)))
    return curves


def compare(what, curves, **options):
    """Checks the answers to all curves at once, so that saying one thing always earns nothing."""
    answers = [tfpi.levelled_off(list(t), list(a), **options) for t, a in curves]
    check(what, answers, [slow_levelled_off(t, a, **options) for t, a in curves])


def test_the_line_through_the_shares(rng):
    """may_rise: slope and standard error together reach `least`, or not"""
    cases = []
    for n, noise in ((3, 0.02), (4, 0.02), (5, 0.02), (5, 0.02), (6, 2.0), (8, 2.0), (12, 0.02)):
        shares = draw_curve(rng, n, 0.5, noise * rng.standard_normal(), noise)
        cases += [(shares, least * noise) for least in (*np.linspace(-2.5, 2.5, 41), 10, 20, 40)]
    answers = [tfpi.may_rise(list(shares), least) for shares, least in cases]
    check("3 to 12 values, many a `least`", answers, [slow_may_rise(*case) for case in cases])


def test_both_have_to_level_off(rng):
    """Neither measure improves any more: one that still does keeps the stage going"""
    kinds = [(-0.03, 0.03), (-0.03, 0.0), (0.0, 0.03), (0.0, 0.0)] * 6
    curves = [
        (draw_curve(rng, 5, 0.4, fall, 0.001), draw_curve(rng, 5, 0.5, rise, 0.001))
        for fall, rise in kinds
    ]
    compare("falling or not, rising or not, five validations each", curves)


def test_near_the_edge(rng):
    """A gain of about `least`, in more noise and in less"""
    compare("five validations each", draw_curves(rng, 5))


def test_only_the_last_ones_count(rng):
    """What happened before the window is over, and where it began does not matter"""
    curves = []
    for truncated, accuracy in draw_curves(rng, 5):
        height = float(rng.choice([-0.2, -0.02, 0.02, 0.2]))
        early = [height] * 3 + [-height] * int(rng.integers(1, 9))
        fallen = [truncated[0] + change for change in early]
        risen = [accuracy[0] - change for change in early]
        curves.append((fallen + truncated, risen + accuracy))
    compare("nine validations or more", curves)


def test_too_few_validations(rng):
    """Before there are `window` of them, nothing can be said: the stage goes on"""
    curves = [
        (draw_curve(rng, n, 0.3, 0.0, 0.0005), draw_curve(rng, n, 0.6, 0.0, 0.0005))
        for n in (0, 1, 2, 3, 4, 5, 6)
    ]
    compare("none to six validations, all flat", curves)


def test_getting_worse(rng):
    """A stage that gets worse is over as well: it does not improve"""
    kinds = [(0.03, -0.03), (0.03, 0.0), (0.0, -0.03), (0.03, 0.03), (-0.03, -0.03)] * 4
    curves = [
        (draw_curve(rng, 5, 0.2, fall, 0.001), draw_curve(rng, 5, 0.7, rise, 0.001))
        for fall, rise in kinds
    ]
    compare("worse in both, in one, or better in the other", curves)


def test_another_window_and_least(rng):
    """Both arguments are used"""
    for window, least in ((3, 0.03), (8, 0.006)):
        curves = draw_curves(rng, 9, least)
        compare(f"window {window}, least {least}", curves, window=window, least=least)


def test_an_answer_of_the_right_type(rng):
    """True or False, and no lists that were changed"""
    truncated = draw_curve(rng, 8, 0.3, 0.0, 0.02)
    accuracy = draw_curve(rng, 8, 0.5, -0.01, 0.02)
    before = (list(truncated), list(accuracy))
    answer = tfpi.levelled_off(truncated, accuracy)
    check("whether the answer is a bool", isinstance(answer, bool), True)
    check("the answer", answer, slow_levelled_off(*before))
    check("the lists afterwards", [truncated, accuracy], [*before])
