"""bench/studies/ends.py: the rules that would end a stage, on curves with a known turning point."""

import ends
import numpy as np
import pytest


def curve(turn, steps=90, noise=0.02, seed=0):
    """Accuracy rises by a point a step up to `turn`, then stays; truncation does not move."""
    rng = np.random.default_rng(seed)
    level = 0.2 + 0.01 * np.minimum(np.arange(steps), turn)
    shares = level + noise * rng.standard_normal(steps)
    validation = [(step, float(level[step - 1])) for step in range(5, steps + 1, 5)]
    return {
        "accuracy": shares.tolist(),
        "truncated": (0.1 + noise * rng.standard_normal(steps)).tolist(),
        "validation": validation,
    }


def ends_of(curve):
    """Where each rule ends the stage."""
    lines = ends.end_by_validations(curve, ends.levelled_off)
    windows = ends.end_by_validations(curve, ends.windows)
    return lines, windows, ends.end_by_rollouts(curve)


def test_no_end_while_accuracy_rises():
    rising = curve(turn=90) | {"validation": [(s, 0.2 + 0.02 * s / 5) for s in range(5, 91, 5)]}
    assert ends_of(rising) == (None, None, None)


@pytest.mark.parametrize("seed", range(5))
def test_the_end_comes_after_the_turn_and_not_long_after(seed):
    """Within a window or so: before, most of the window still rises."""
    lines, windows, rollouts = ends_of(curve(turn=40, seed=seed))
    assert 40 < lines <= 65
    assert 40 < windows <= 75
    assert 40 < rollouts <= 40 + ends.WINDOW + 5


def test_falling_truncation_keeps_a_stage_going():
    flat = curve(turn=0)
    assert None not in ends_of(flat)
    assert ends_of(flat | {"truncated": np.linspace(0.9, 0.1, 90).tolist()}) == (None, None, None)


def test_two_windows_of_three_are_compared():
    """Means 0.50 and 0.52 are a gain of two points; 0.50 and 0.508 are none."""
    assert not ends.windows([0.1] * 6, [0.5] * 3 + [0.52] * 3)
    assert ends.windows([0.1] * 6, [0.5] * 3 + [0.508] * 3)
    assert not ends.windows([0.12] * 3 + [0.1] * 3, [0.5] * 6)
    assert not ends.windows([0.1] * 5, [0.5] * 5)


def test_too_few_steps_say_nothing():
    assert ends_of(curve(turn=0, steps=19)) == (None, None, None)
