"""Grading tests of assignment 3: pass@k."""

from itertools import combinations
from math import prod

from checking import check

import eval
from rollout import Rollout


def slow_pass_at_k(n, c, k):
    """Of all ways to choose k of n samples, the share with a right one, one by one."""
    right = [True] * c + [False] * (n - c)
    chosen = list(combinations(right, k))
    return sum(any(samples) for samples in chosen) / len(chosen)


def slow_large(n, c, k):
    """The same as a product: each sample that is drawn is wrong."""
    return 1 - prod((n - c - i) / (n - i) for i in range(k))


def slow_rates(counts, n, sizes):
    return {str(k): sum(slow_pass_at_k(n, c, k) for c in counts) / len(counts) for k in sizes}


def graded(n, c):
    """n rollouts, of which c are correct; what is rewarded is another matter."""
    return [Rollout([1], [2], [-1.0], True, correct=i < c, reward=0.3) for i in range(n)]


def refused(*numbers):
    """Whether the function refuses these numbers, by ValueError."""
    try:
        eval.pass_at_k(*numbers)
    except ValueError:
        return True
    return False


def test_few_samples(rng):
    """pass@k of a few samples: the share of all choices of k that have a right one"""
    for _ in range(6):
        n = int(rng.integers(4, 9))
        c, k = int(rng.integers(1, n - 2)), int(rng.integers(2, n - 1))
        check(f"n {n}, c {c}, k {k}", eval.pass_at_k(n, c, k), slow_pass_at_k(n, c, k))
    check("n 2, c 1, k 1", eval.pass_at_k(2, 1, 1), slow_pass_at_k(2, 1, 1))


def test_the_ends(rng):
    """None right, all right, and fewer wrong than k"""
    n = int(rng.integers(4, 9))
    for c, k in ((0, 1), (0, n), (n, 1), (n, n), (n - 1, 2), (1, n)):
        check(f"n {n}, c {c}, k {k}", eval.pass_at_k(n, c, k), slow_pass_at_k(n, c, k))


def test_many_samples(rng):
    """Thousands of samples: no overflow, and no error"""
    for n, k in ((2000, 1000), (10_000, 64)):
        c = int(rng.integers(20, 60))
        check(f"n {n}, c {c}, k {k}", eval.pass_at_k(n, c, k), slow_large(n, c, k), rtol=1e-6)


def test_numbers_that_make_no_sense(rng):
    """More than there are, or none: ValueError"""
    n = int(rng.integers(3, 9))
    check(f"whether pass@{n + 1} of {n} samples is refused", refused(n, 1, n + 1), True)
    check(f"whether pass@0 of {n} samples is refused", refused(n, 1, 0), True)
    check(f"whether pass@{n} of {n} samples is refused", refused(n, 1, n), False)


def test_rates_of_problems(rng):
    """pass_rates: the mean over problems, for k = 1, 2, 4, ... and all samples"""
    for n, sizes in ((6, (1, 2, 4, 6)), (8, (1, 2, 4, 8)), (1, (1,)), (3, (1, 2, 3))):
        counts = [int(c) for c in rng.integers(0, n + 1, 4)] + [0, 1]
        got = eval.pass_rates([graded(n, c) for c in counts])
        check(f"{n} samples, of which {counts} are right", got, slow_rates(counts, n, sizes))
