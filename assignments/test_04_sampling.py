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


def uniforms_for(rows, tokens, *options):
    """Of each row a number that draws this token: the middle of its part of 0 .. 1."""
    found = []
    for row, token in zip(rows, tokens):
        chances = slow_distribution(row, *options)
        found.append(sum(chances[:token]) + chances[token] / 2)
    return torch.tensor(found, dtype=torch.float32)


def slow_logprobs(rows, tokens, *options):
    return [math.log(slow_distribution(row, *options)[t]) for row, t in zip(rows, tokens)]


def logits_of(rng, rows, spread=1.0):
    """Logits of eight tokens, none of which is unlikely."""
    return torch.tensor(rng.uniform(-spread, spread, (rows, 8)), dtype=torch.float32)


def compare(what, rows, tokens, temperature, *options, given=None):
    """Whether these tokens are drawn, and have their log-probs."""
    uniforms = uniforms_for(rows.tolist(), tokens, temperature, *options)
    given = rows.clone() if given is None else given
    got, logprobs = rollout.sample_tokens(given, uniforms, temperature, *options)
    check(f"the tokens, {what}", got, tokens)
    right = slow_logprobs(rows.tolist(), tokens, temperature, *options)
    check(f"their log-probs, {what}", logprobs, right, rtol=1e-4)


def test_temperature_1(rng):
    """One token a row, at the place of its uniform number, and its log-prob"""
    rows = logits_of(rng, 6)
    compare("logits of 6 rows", rows, rng.permutation(8)[:6].tolist(), 1.0)


def test_other_temperatures(rng):
    """Logits over the temperature: the log-prob is that of the distribution drawn from"""
    rows = logits_of(rng, 5)
    for temperature in (0.6, 1.7):
        tokens = rng.permutation(8)[:5].tolist()
        compare(f"temperature {temperature}", rows, tokens, temperature)


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
    for uniform, token in ((0.0, 1), (ALMOST_1, 6)):
        got, logprobs = rollout.sample_tokens(rows.clone(), torch.full((4,), uniform), 1.0)
        check(f"the tokens at {uniform:.8g}", got, [token] * 4)
        right = slow_logprobs(rows.tolist(), [token] * 4, 1.0)
        check(f"their log-probs at {uniform:.8g}", logprobs, right, rtol=1e-4)
    tokens = [2, 4, 5, 6]
    compare("tokens 0, 3 and 7 impossible", rows, tokens, 1.0)


def test_types_and_sizes(rng):
    """bf16 logits, and very large ones: everything is computed in fp32, and does not overflow"""
    rows = logits_of(rng, 4).bfloat16()
    tokens = rng.permutation(8)[:4].tolist()
    compare("bf16", rows.float(), tokens, 0.9, given=rows)
    got, logprobs = rollout.sample_tokens(rows.clone(), torch.full((4,), 0.3), 1.0)
    check("the tokens' type", str(got.dtype), "torch.int64")
    check("the log-probs' type", str(logprobs.dtype), "torch.float32")
    check("their shapes", [list(got.shape), list(logprobs.shape)], [[4], [4]])
    large = logits_of(rng, 4) + torch.tensor([[300.0], [-300.0], [150.0], [0.0]])
    compare("logits near 300", large, tokens, 1.0)


def test_top_k_and_top_p(rng):
    """What `truncate` leaves, at the temperature: log-probs are of what is left"""
    rows = torch.tensor(np.stack([rng.permutation(8) / 4 for _ in range(9)]), dtype=torch.float32)
    order = rows.argsort(dim=-1, descending=True)
    places = torch.arange(9) % 3
    tokens = order.gather(1, places[:, None])[:, 0].tolist()
    compare("top-k 3", rows, tokens, 0.8, 3)
    compare("top-p 0.8", rows, tokens, 1.5, 0, 0.8)
