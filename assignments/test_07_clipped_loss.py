"""Grading tests of assignment 7: the clipped loss."""

import math

import torch
from checking import check

import grpo


def slow_loss(logprobs, old, advantages, weights, low=0.2, high=0.28):
    """One token at a time: the loss, its gradient, and the share of clipped tokens."""
    loss = 0.0
    gradient = []
    clipped = 0
    for logprob, before, advantage, weight in zip(logprobs, old, advantages, weights):
        ratio = math.exp(logprob - before)
        too_far = ratio > 1 + high if advantage > 0 else ratio < 1 - low
        kept = min(max(ratio, 1 - low), 1 + high) if too_far else ratio
        loss -= weight * kept * advantage
        gradient.append(0.0 if too_far else -weight * ratio * advantage)
        clipped += too_far
    return loss, gradient, clipped / len(logprobs)


def slow_part(part, *arguments):
    return slow_loss(*arguments)[part]


def run(logprobs, old, advantages, weights, *eps):
    """What the student's function gives: the loss, its gradient, the clipped share."""
    logprobs = torch.tensor(logprobs, requires_grad=True)
    tensors = [torch.tensor(values) for values in (old, advantages, weights)]
    loss, clipped = grpo.policy_loss(logprobs, *tensors, *eps)
    if isinstance(loss, torch.Tensor) and loss.requires_grad and loss.numel() == 1:
        loss.backward()
    gradient = torch.zeros(len(logprobs)) if logprobs.grad is None else logprobs.grad
    return loss, gradient, clipped


def tokens(rng, ratios):
    """Log-probs and old log-probs of tokens with these ratios."""
    logprobs = rng.uniform(-3.0, -0.5, len(ratios))
    return logprobs.tolist(), (logprobs - [math.log(r) for r in ratios]).tolist()


def sizes(rng, count):
    """Numbers of order 1."""
    return rng.uniform(0.5, 2.0, count).tolist()


def signed(rng, count):
    """Advantages of order 1, of both signs in turn; the positive ones are larger."""
    return (rng.uniform(0.5, 1.0, count) * [(2.5, -1.0)[i % 2] for i in range(count)]).tolist()


def test_before_the_first_step(rng):
    """On the policy that sampled, all ratios are 1: the gain is A, summed with the weights"""
    logprobs, old = tokens(rng, [1.0] * 6)
    case = (logprobs, old, signed(rng, 6), sizes(rng, 6))
    loss, gradient, _ = run(*case)
    check("the loss", loss, slow_part(0, *case), rtol=1e-4)
    check("its gradient, at each token", gradient, slow_part(1, *case))


def test_one_token_in_each_place(rng):
    """One token, A > 0 or A < 0, below, within and above the range of the clip"""
    low, high = float(rng.uniform(0.15, 0.25)), float(rng.uniform(0.4, 0.6))
    for sign in (1, -1):
        for place in (0.3, 1 - 1.5 * low, 1 - 0.5 * low, 1 + 0.7 * low, 1 + 0.8 * high, 2.5, 6.0):
            ratio = place * float(rng.uniform(0.99, 1.01))
            advantage = sign * float(rng.uniform(0.5, 2.0))
            case = (*tokens(rng, [ratio]), [advantage], sizes(rng, 1), low, high)
            loss, gradient, _ = run(*case)
            at = f"of one token, A = {advantage:.2f}, ratio {ratio:.2f}, "
            at += f"range {1 - low:.2f} .. {1 + high:.2f}"
            check(f"the gradient {at}", gradient, slow_part(1, *case))
            check(f"the loss {at}", loss, slow_part(0, *case))


def test_a_batch_of_tokens(rng):
    """Many tokens with weights of their own, the clip range by default 0.2 and 0.28"""
    ratios = [0.5, 0.5, 0.77, 0.77, 0.95, 1.05, 1.24, 1.24, 1.4, 1.4, 2.0, 2.0]
    case = (*tokens(rng, ratios), signed(rng, 12), sizes(rng, 12))
    loss, gradient, _ = run(*case)
    check("the loss", loss, slow_part(0, *case), rtol=1e-4)
    check("its gradient, at each token", gradient, slow_part(1, *case))


def test_the_share_of_clipped_tokens(rng):
    """The second result: the share of tokens whose gradient the clip stopped"""
    ratios = [0.5, 0.5, 0.7, 1.0, 1.0, 1.5, 1.5, 2.0, 2.0, 2.0]
    case = (*tokens(rng, ratios), signed(rng, 10), sizes(rng, 10))
    _, _, clipped = run(*case)
    check("the share", clipped, slow_part(2, *case))
    check("whether it has a gradient", getattr(clipped, "requires_grad", False), False)


def test_an_extreme_ratio(rng):
    """Log-probs 200 apart: loss and gradient are still numbers"""
    for gap in (200.0, -200.0):
        for advantage in (1.0, -1.0, 0.0):
            loss, gradient, _ = run([-1.0], [-1.0 - gap], [advantage], sizes(rng, 1))
            finite = torch.as_tensor(loss).isfinite().all() and gradient.isfinite().all()
            check(f"finite at a gap of {gap:.0f}, A = {advantage:.0f}", finite, True)
