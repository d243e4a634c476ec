"""Grading tests of assignment 4: sampling at a temperature."""

import math

import numpy as np
import torch
from checking import check

import rollout

NEVER = -math.inf
ALMOST_1 = 1 - 2.0**-24  # the largest uniform number that there is


def slow_distribution(logits, temperature, top_k=0, top_p=1.0):
    """The probabilities of one row, in double precision; with top-k, top-p, of what is left."""
    scaled = [float(x) / temperature for x in logits]
    chances = [math.exp(x - max(scaled)) for x in scaled]
    chances = [c / sum(chances) for c in chances]
    order = sorted(range(len(chances)), key=lambda i: -chances[i])
    kept = order[: top_k or None]
    whole = sum(chances[i] for i in kept)
    left, reached = [], 0.0
    for i in kept:
        if reached < top_p:
            left.append(i)
        reached += chances[i] / whole
    total = sum(chances[i] for i in left)
    return [chances[i] / total if i in left else 0.0 for i in range(len(chances))]


def slow_draws(rows, uniforms, *options):
    """Of each row the token in whose part of 0 .. 1 the number lies, and its log-prob."""
    tokens, logprobs = [], []
    for row, uniform in zip(rows.tolist(), uniforms.tolist()):
        reached = 0.0
        for token, chance in enumerate(slow_distribution(row, *options)):
            reached += chance
            if reached > uniform:
                break
        tokens.append(token)
        logprobs.append(math.log(chance))
    return tokens, logprobs


def slow_tokens(*case):
    return slow_draws(*case)[0]


def slow_logprobs(*case):
    return slow_draws(*case)[1]


def logits_of(rng, rows, spread=1.0):
    """Logits of eight tokens, none of which is unlikely."""
    return torch.tensor(rng.uniform(-spread, spread, (rows, 8)), dtype=torch.float32)


def compare(what, rng, rows, temperature, *options, given=None, uniforms=None):
    """Whether the right tokens are drawn, and have their log-probs."""
    if uniforms is None:
        uniforms = torch.tensor(rng.uniform(0, 1, len(rows)), dtype=torch.float32)
    given = rows.clone() if given is None else given
    got, logprobs = rollout.sample_tokens(given, uniforms, temperature, *options)
    case = (rows, uniforms, temperature, *options)
    check(f"the tokens, {what}", got, slow_tokens(*case))
    check(f"their log-probs, {what}", logprobs, slow_logprobs(*case), rtol=1e-4)


def test_temperature_1(rng):
    """One token a row, at the place of its uniform number, and its log-prob"""
    rows = logits_of(rng, 9)
    numbers = torch.tensor(rng.uniform(0, 1, 9), dtype=torch.float32)
    compare("logits of 9 rows", rng, rows, 1.0, uniforms=numbers)
    twice = [rollout.sample_tokens(rows.clone(), numbers, 1.0)[0].tolist() for _ in range(2)]
    check("whether the same numbers draw the same tokens again", twice[0] == twice[1], True)


def test_other_temperatures(rng):
    """Logits over the temperature: the log-prob is that of the distribution drawn from"""
    rows = logits_of(rng, 9)
    for temperature in (0.6, 1.7):
        compare(f"temperature {temperature}", rng, rows, temperature)


def test_temperature_0(rng):
    """The likeliest token, with the log-prob 0: it was certain"""
    rows = logits_of(rng, 5)
    got, logprobs = rollout.sample_tokens(rows.clone(), torch.full((5,), 0.7), 0.0)
    check("the tokens", got, np.argmax(rows.numpy(), axis=1).tolist())
    check("their log-probs", logprobs, [0.0] * 5)


def test_what_cannot_happen(rng):
    """A token of probability 0 is never drawn, be the uniform number 0 or nearly 1"""
    rows = logits_of(rng, 4)
    rows[:, 0] = rows[:, 3] = rows[:, 7] = NEVER
    for uniform in (0.0, ALMOST_1):
        at = f"tokens 0, 3, 7 impossible, number {uniform:.8g}"
        compare(at, rng, rows, 1.0, uniforms=torch.full((4,), uniform))
    compare("tokens 0, 3 and 7 impossible", rng, rows, 1.0)


def test_types_and_sizes(rng):
    """bf16 logits, and very large ones: everything is computed in fp32, and does not overflow"""
    rows = logits_of(rng, 4).bfloat16()
    compare("bf16", rng, rows.float(), 0.9, given=rows)
    got, logprobs = rollout.sample_tokens(rows.clone(), torch.full((4,), 0.3), 1.0)
    check("the tokens' type", str(got.dtype), "torch.int64")
    check("the log-probs' type", str(logprobs.dtype), "torch.float32")
    check("their shapes", [list(got.shape), list(logprobs.shape)], [[4], [4]])
    large = logits_of(rng, 4) + torch.tensor([[300.0], [-300.0], [150.0], [0.0]])
    compare("logits near 300", rng, large, 1.0)


def test_top_k_and_top_p(rng):
    """What `truncate` leaves, at the temperature: log-probs are of what is left"""
    rows = torch.tensor(np.stack([rng.permutation(8) / 3 for _ in range(9)]), dtype=torch.float32)
    compare("top-k 3", rng, rows, 0.8, 3)
    compare("top-p 0.75", rng, rows, 3.0, 0, 0.75)
