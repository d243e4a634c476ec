"""Grading tests of assignment 6: group advantages."""

import statistics

import torch
from checking import check

import grpo
from rollout import Rollout


def slow_advantages(rewards, divided=True):
    """One reward at a time."""
    mean = sum(rewards) / len(rewards)
    if max(rewards) == min(rewards):
        return [0.0] * len(rewards)
    found = []
    for reward in rewards:
        found.append((reward - mean) / (statistics.stdev(rewards) if divided else 1.0))
    return found


def slow_groups(rewards):
    return [slow_advantages(group) for group in rewards]


def rewards_of(rng, size):
    """Some rights, some wrongs, at least one of each."""
    right = int(rng.integers(1, size))
    return rng.permutation([1.0] * right + [0.0] * (size - right)).tolist()


def partial(rng, size):
    """Rewards that know partial credit."""
    return rng.uniform(0.0, 1.0, size).round(2).tolist()


def graded(rewards):
    """A group of rollouts with these rewards."""
    tokens = ([1], [5, 2], [-1.0, -1.0], True)
    return [Rollout(*tokens, reward=reward, correct=reward > 0.5) for reward in rewards]


def advantages_after(groups):
    grpo.set_advantages(groups)
    return [[rollout.advantage for rollout in group] for group in groups]


def test_an_ordinary_group(rng):
    """One group: each reward minus the mean, over the std."""
    for rewards in (rewards_of(rng, 4), rewards_of(rng, 8), partial(rng, 5)):
        got = grpo.group_advantages(rewards)
        check(f"the advantages of the rewards {rewards}", got, slow_advantages(rewards))


def test_without_the_std(rng):
    """scale_by_std=False: each reward minus the mean, and no more"""
    rewards = partial(rng, 6)
    got = grpo.group_advantages(rewards, scale_by_std=False)
    check(f"the centred rewards of {rewards}", got, slow_advantages(rewards, divided=False))


def test_a_flat_group(rng):
    """Equal rewards: exactly 0 for each, whatever they are"""
    third = float(rng.uniform(0.1, 0.9))
    for reward, size in ((0.0, 4), (1.0, 8), (0.9, 3), (0.3, 6), (third, 7), (1.0, 1)):
        got = grpo.group_advantages([reward] * size)
        check(f"the advantages of {size} times the reward {reward}", got, [0.0] * size)


def test_the_rewards_stay_as_they_are(rng):
    """A tensor of rewards is the same after the call"""
    rewards = torch.tensor(partial(rng, 6))
    before = rewards.clone()
    grpo.group_advantages(rewards)
    check("whether the rewards are still what they were", torch.equal(rewards, before), True)


def test_each_group_has_its_own_baseline(rng):
    """Several groups: each is compared with itself alone"""
    rewards = [[1.0] + [0.0] * 5, [1.0] * 5 + [0.0], partial(rng, 6), [1.0] * 6, rewards_of(rng, 6)]
    got = advantages_after([graded(group) for group in rewards])
    check(f"the advantages of the groups {rewards}", got, slow_groups(rewards))


def test_truncated_responses_count(rng):
    """A response that was cut at the budget is one of its group like any other"""
    rewards = [rewards_of(rng, 6) for _ in range(2)]
    groups = [graded(group) for group in rewards]
    for group in groups:
        wrong = [i for i, rollout in enumerate(group) if rollout.reward == 0.0]
        group[wrong[0]].finished = False
    check(
        f"the advantages of {rewards}, one cut in each",
        advantages_after(groups),
        slow_groups(rewards),
    )
