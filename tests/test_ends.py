"""bench/ends.py: the rules that would end a stage, on curves whose turning point is known."""

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


def test_the_line_is_the_least_squares_one():
    """Slope and standard error as numpy's own fit gives them."""
    values = np.random.default_rng(0).random(20)
    (slope, _), covariance = np.polyfit(np.arange(20), values, 1, cov=True)
    assert ends.fit_slope(values) == pytest.approx((slope, covariance[0, 0] ** 0.5))


def test_no_end_while_accuracy_rises():
    assert ends.end_by_slope(curve(turn=90)) is None
    assert ends.end_by_validations(curve(turn=90)) is None


@pytest.mark.parametrize("seed", range(5))
def test_the_end_comes_after_the_turn_and_not_long_after(seed):
    """Within a window or so: before, most of the window's steps still rise."""
    assert 40 < ends.end_by_slope(curve(turn=40, seed=seed)) <= 40 + ends.WINDOW + 5
    assert 40 < ends.end_by_validations(curve(turn=40, seed=seed)) <= 75


def test_falling_truncation_keeps_a_stage_going():
    flat = curve(turn=0)
    assert ends.end_by_slope(flat) is not None
    falling = flat | {"truncated": np.linspace(0.9, 0.1, 90).tolist()}
    assert ends.end_by_slope(falling) is None


def test_too_few_steps_say_nothing():
    assert ends.end_by_slope(curve(turn=0, steps=19)) is None
