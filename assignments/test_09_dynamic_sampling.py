"""Grading tests of assignment 9: dynamic sampling."""

from checking import check

import grpo
from rollout import Rollout


def slow_is_flat(group):
    right = sum(1 for rollout in group if rollout.correct)
    return right == 0 or right == len(group)


def slow_sampling(draws, wanted, most):
    """What is kept, what was drawn, and which draws were made, by name."""
    kept, drawn, made = [], [], []
    while len(made) < most and len(kept) < wanted:
        for group in draws[len(made)]:
            drawn.append(group)
            if not slow_is_flat(group):
                kept.append(group)
        made.append(len(made))
    return names(kept[:wanted]), names(drawn), made


def names(groups):
    return [[rollout.text for rollout in group] for group in groups]


def group_of(name, correct, rewards=None, cut=()):
    """A group, of which some are correct, and some were cut at the budget."""
    rewards = rewards or [float(c) for c in correct]
    made = []
    for i, (right, reward) in enumerate(zip(correct, rewards)):
        rollout = Rollout([7], [5, 2], [-1.0, -1.0], i not in cut, f"{name}{i}", "4")
        rollout.correct = bool(right)
        rollout.reward = reward
        made.append(rollout)
    return made


def some_draws(rng, count, groups, flat_share=0.5):
    """Draws of groups, of which about half are flat."""
    found = []
    for draw in range(count):
        drawn = []
        for place in range(groups):
            right = int(rng.integers(1, 4))
            if rng.random() < flat_share:
                right = int(rng.choice([0, 4]))
            correct = rng.permutation([1] * right + [0] * (4 - right))
            drawn.append(group_of(f"{draw}{'abcdefgh'[place]}", correct))
        found.append(drawn)
    return found


def run(draws, wanted, most):
    """What the student's function returns, and which draws it asked for."""
    made = []

    def draw_groups(draw):
        made.append(draw)
        return list(draws[draw])

    kept, drawn = grpo.dynamic_sampling(draw_groups, wanted, most)
    return names(kept), names(drawn), made


def compare(what, draws, wanted, most):
    ours = run(draws, wanted, most)
    for i, part in enumerate(("the groups that are kept", "all that was drawn", "the draws made")):
        check(f"{part}, {what}", ours[i], slow_part(i, draws, wanted, most))


def slow_part(part, draws, wanted, most):
    return slow_sampling(draws, wanted, most)[part]


def test_what_is_flat(rng):
    """is_flat: all are correct, or none is, whatever their rewards and ends"""
    for correct in ((1, 1, 1), (0, 0, 0), (1, 0, 1), (0, 0, 1), (1,), (0,)):
        order = rng.permutation(correct)
        got = bool(grpo.is_flat(group_of("x", order)))
        check(f"correct: {order.tolist()}", got, slow_is_flat(group_of("x", order)))
    partial = rng.uniform(0.1, 0.4, 3).round(2).tolist()
    for correct in ((0, 0, 0), (1, 1, 1)):
        got = bool(grpo.is_flat(group_of("x", correct, partial)))
        check(f"correct: {correct}, rewards: {partial}", got, True)
    got = bool(grpo.is_flat(group_of("x", (1, 0, 0), [0.5] * 3)))
    check("correct: (1, 0, 0), rewards: [0.5, 0.5, 0.5]", got, False)
    got = bool(grpo.is_flat(group_of("x", (1, 1, 0), cut=(2,))))
    check("correct: (1, 1, 0), the last cut at the budget", got, False)


def test_draws_go_on_until_there_are_enough(rng):
    """Flat groups are dropped, and replaced by those of further draws"""
    draws = some_draws(rng, 20, 4)
    compare("6 wanted of 4 a draw", draws, 6, 20)
    compare("9 wanted of 4 a draw", draws, 9, 20)


def test_no_surplus(rng):
    """The first so many are kept, in their order; one draw is enough where none is flat"""
    draws = some_draws(rng, 4, 5, flat_share=0.0)
    compare("3 wanted of 5 that are not flat", draws, 3, 4)
    compare("5 wanted of 5 that are not flat", draws, 5, 4)
    compare("7 wanted of 5 a draw that are not flat", draws, 7, 4)


def test_it_gives_up(rng):
    """After so many draws with what there is, be it nothing, and without an error"""
    flat = some_draws(rng, 4, 3, flat_share=1.0)
    compare("all flat, 3 draws", flat, 2, 3)
    few = [[draw[0], draw[1], some] for draw, [some] in zip(flat, some_draws(rng, 4, 1, 0.0))]
    compare("one a draw is not flat, 3 draws, 5 wanted", few, 5, 3)
    compare("one a draw is not flat, 1 draw, 5 wanted", few, 5, 1)


def test_groups_stay_whole(rng):
    """Truncated responses stay in their groups, and two copies of a prompt stay two groups"""
    order = rng.permutation(4)
    groups = [
        group_of("a", order < 2, cut=(1, 2)),
        group_of("b", order < 3, cut=(0, 1, 2, 3)),
        group_of("a", order < 1),
        group_of("c", (1, 0, 0, 1), cut=(2,)),
    ]
    compare("with truncated responses", [groups] * 2, 4, 2)
