"""Grading tests of assignment 8: every token counts once."""

from checking import check

import grpo


def slow_weights(lengths, normalizer="dapo", budget=None):
    """One token at a time."""
    found = []
    for length in lengths:
        for _ in range(length):
            if normalizer == "dapo":
                found.append(1 / sum(lengths))
            if normalizer == "grpo":
                found.append(1 / len(lengths) / length)
            if normalizer == "dr_grpo":
                found.append(1 / len(lengths) / budget)
    return found


def lengths_of(rng, count):
    """Unequal lengths, one of them 1."""
    return [1] + rng.permutation(range(2, 3 * count))[: count - 1].tolist()


def compare(lengths, *more):
    got = grpo.token_weights(lengths, *more)
    names = ", ".join([f"lengths {lengths}", *map(str, more)])
    check(f"the weights of each token, {names}", got, slow_weights(lengths, *more))


def test_every_token_counts_once(rng):
    """dapo: each token of the batch has the same weight, and together they weigh 1"""
    compare(lengths_of(rng, 3), "dapo")
    compare(lengths_of(rng, 5), "dapo")
    compare(lengths_of(rng, 4))


def test_every_response_counts_once(rng):
    """grpo: each response has the same weight, shared by its tokens"""
    compare(lengths_of(rng, 3), "grpo")
    compare(lengths_of(rng, 5), "grpo")


def test_the_budget_in_the_place_of_the_length(rng):
    """dr_grpo: as if each response had as many tokens as the budget"""
    for count in (3, 5):
        compare(lengths_of(rng, count), "dr_grpo", int(rng.integers(16, 40)))


def test_one_response(rng):
    """A batch of a single response, and of equally long ones"""
    length = int(rng.integers(2, 9))
    for normalizer in ("dapo", "grpo"):
        compare([length], normalizer)
        compare([length] * 3, normalizer)
    compare([length], "dr_grpo", 20)


def test_an_unknown_normalizer_is_refused(rng):
    """A misspelt option must not train with another loss: ValueError"""
    refused = False
    try:
        grpo.token_weights(lengths_of(rng, 3), "mean")
    except ValueError:
        refused = True
    check("whether normalizer 'mean' is refused by ValueError", refused, True)
