"""Grading tests of assignment 11: when is a stage over?"""

from checking import check

import tfpi

CURVES = 40  # of each check: so many that no rule agrees with another on all of them by chance


def slow_mean(values):
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


def slow_levelled_off(truncated, accuracy, window=3, tolerance=0.01):
    """Value by value: have the last `window` improved on the `window` before them?"""
    n = len(accuracy)
    if n < 2 * window:
        return False
    earlier = range(n - 2 * window, n - window)
    later = range(n - window, n)
    rise = slow_mean([accuracy[i] for i in later]) - slow_mean([accuracy[i] for i in earlier])
    fall = slow_mean([truncated[i] for i in earlier]) - slow_mean([truncated[i] for i in later])
    return rise < tolerance and fall < tolerance


def draw_curve(rng, steps, start, slope, noise=0.004):
    """Shares that change by `slope` a validation."""
    return [float(start + slope * i + noise * rng.standard_normal()) for i in range(steps)]


def draw_curves(rng, steps, window=3, tolerance=0.01):
    """Pairs (truncated, accuracy); some improve about as much as the rule tolerates."""
    edge = tolerance / window  # a validation
    curves = []
    for _ in range(CURVES):
        fall = edge * rng.choice([-1.5, 0.0, 0.7, 1.5, 3.0])
        rise = edge * rng.choice([-1.5, 0.0, 0.7, 1.5, 3.0])
        noise = tolerance / 3
        truncated = draw_curve(rng, steps, 0.4, -fall, noise)
        curves.append((truncated, draw_curve(rng, steps, 0.5, rise, noise)))
    return curves


def compare(what, curves, **options):
    """Checks the answers to all curves at once, so that saying one thing always earns nothing."""
    answers = [tfpi.levelled_off(list(t), list(a), **options) for t, a in curves]
    check(what, answers, [slow_levelled_off(t, a, **options) for t, a in curves])


def test_both_have_to_level_off(rng):
    """Neither measure improves any more: one that still does keeps the stage going"""
    kinds = [(-0.02, 0.02), (-0.02, 0.0), (0.0, 0.02), (0.0, 0.0)] * 6
    curves = [
        (draw_curve(rng, 6, 0.4, fall, 0.001), draw_curve(rng, 6, 0.5, rise, 0.001))
        for fall, rise in kinds
    ]
    compare("falling or not, rising or not, six validations each", curves)


def test_near_the_edge(rng):
    """A gain of about the tolerance, in the midst of noise: means, not single values"""
    compare("six validations each", draw_curves(rng, 6))


def test_only_the_last_ones_count(rng):
    """What happened before the last two windows is over, and where it began does not matter"""
    curves = []
    for truncated, accuracy in draw_curves(rng, 6):
        height = float(rng.choice([-0.2, -0.02, 0.02, 0.2]))
        early = [height] * 3 + [-height] * int(rng.integers(1, 9))
        fallen = [truncated[0] + change for change in early]
        risen = [accuracy[0] - change for change in early]
        curves.append((fallen + truncated, risen + accuracy))
    compare("ten validations or more", curves)


def test_too_few_validations(rng):
    """Before there are two windows of them, nothing can be said: the stage goes on"""
    curves = [
        (draw_curve(rng, n, 0.3, 0.0, 0.0005), draw_curve(rng, n, 0.6, 0.0, 0.0005))
        for n in (0, 1, 2, 3, 4, 5, 6, 7)
    ]
    compare("none to seven validations, all flat", curves)


def test_getting_worse(rng):
    """A stage that gets worse is over as well: it does not improve"""
    kinds = [(0.03, -0.03), (0.03, 0.0), (0.0, -0.03), (0.03, 0.02), (-0.02, -0.03)] * 4
    curves = [
        (draw_curve(rng, 6, 0.2, fall, 0.001), draw_curve(rng, 6, 0.7, rise, 0.001))
        for fall, rise in kinds
    ]
    compare("worse in both, in one, or better in the other", curves)


def test_another_window_and_tolerance(rng):
    """Both arguments are used"""
    for window, tolerance in ((2, 0.02), (5, 0.004)):
        curves = draw_curves(rng, 2 * window, window, tolerance)
        what = f"window {window}, tolerance {tolerance}"
        compare(what, curves, window=window, tolerance=tolerance)


def test_an_answer_of_the_right_type(rng):
    """True or False, and no lists that were changed"""
    truncated = draw_curve(rng, 8, 0.3, 0.0, 0.02)
    accuracy = draw_curve(rng, 8, 0.5, -0.01, 0.02)
    before = (list(truncated), list(accuracy))
    answer = tfpi.levelled_off(truncated, accuracy)
    check("whether the answer is a bool", isinstance(answer, bool), True)
    check("the answer", answer, slow_levelled_off(*before))
    check("the lists afterwards", [truncated, accuracy], [*before])
