"""Grading tests of assignment 14: log-probs without the logits."""

import math
from contextlib import contextmanager

import torch
from checking import check
from torch.utils._python_dispatch import TorchDispatchMode

import logprobs

N, V, H = 7, 9, 4


def slow_logprobs(hidden, head, targets, temperature):
    """One token at a time, one logit at a time, in double precision."""
    found = []
    for state, target in zip(hidden, targets):
        logits = [sum(x * w for x, w in zip(state, row)) / temperature for row in head]
        largest = max(logits)
        total = sum(math.exp(z - largest) for z in logits)
        found.append(logits[target] - largest - math.log(total))
    return found


def slow_gradients(hidden, head, targets, temperature, weights, before):
    """Those of sum(weights * logprobs): of each state, and of the head on top of what is there."""
    of_states = [[0.0] * len(hidden[0]) for _ in hidden]
    of_head = [list(row) for row in before]
    for i, (state, target) in enumerate(zip(hidden, targets)):
        for v, row in enumerate(head):
            chance = math.exp(slow_logprobs([state], head, [v], temperature)[0])
            slope = weights[i] * ((v == target) - chance) / temperature
            for h in range(len(state)):
                of_states[i][h] += slope * row[h]
                of_head[v][h] += slope * state[h]
    return of_states, of_head


def slow_part(part, *arguments):
    return slow_gradients(*arguments)[part]


def tensors(rng, count=N, scale=1.0):
    """States, head and targets."""
    hidden = torch.tensor(rng.normal(0, scale, (count, H)), dtype=torch.float32)
    head = torch.tensor(rng.normal(0, scale, (V, H)), dtype=torch.float32)
    return hidden, head, torch.tensor(rng.integers(0, V, count))


def lists(*values):
    return [value.tolist() for value in values]


@contextmanager
def fresh_memory_is_nan():
    """Within it, what is made empty is not by chance what it should be."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def project(hidden, head, targets, temperature, chunk, *more):
    with fresh_memory_is_nan():
        return logprobs.project_chunks(
            hidden.clone(), head.clone(), targets, temperature, chunk, *more
        )


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that is made within it."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (list, tuple)) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // 4)
        return made


def test_log_probs(rng):
    """The log-prob of each target, whatever the chunks are, the last of them shorter"""
    hidden, head, targets = tensors(rng)
    right = (*lists(hidden, head, targets),)
    for chunk, temperature in ((3, 1.0), (4, 0.7), (1, 1.3), (100, 0.8)):
        got = project(hidden, head, targets, temperature, chunk)
        what = f"the log-probs, {chunk} tokens at a time, temperature {temperature}"
        check(what, got, slow_logprobs(*right, temperature), rtol=1e-4)


def test_large_logits(rng):
    """Logits of several hundreds do not overflow"""
    hidden, head, targets = tensors(rng, scale=16.0)
    got = project(hidden, head, targets, 1.0, 3)
    check("the log-probs", got, slow_logprobs(*lists(hidden, head, targets), 1.0), rtol=1e-4)


def test_bf16(rng):
    """States and head in bf16: the softmax is in fp32 all the same, and so is what is returned"""
    hidden = torch.tensor(rng.integers(-2, 3, (N, H)) / 2).bfloat16()
    head = torch.tensor(rng.integers(-2, 3, (V, H)) / 2).bfloat16()
    targets = torch.tensor(rng.integers(0, V, N))
    got = project(hidden, head, targets, 1.0, 3)
    check("the log-probs", got, slow_logprobs(*lists(hidden, head, targets), 1.0), rtol=1e-4)
    check("their type", str(got.dtype), "torch.float32")


def gradients(rng, temperature, chunk, wanted=(True, True)):
    """What comes out with a loss whose gradient is weights, and what is right."""
    hidden, head, targets = tensors(rng)
    weights = torch.tensor(rng.uniform(0.5, 2.0, N) * [(-1) ** i for i in range(N)]).float()
    before = torch.tensor(rng.normal(0, 1, (V, H))).float()
    of_states = torch.full((N, H), 7.0) if wanted[0] else None
    of_head = before.clone() if wanted[1] else None
    seen = []

    def token_grad(rows, logprobs):
        seen.append([torch.arange(N)[rows].tolist(), logprobs.tolist()])
        return weights[rows]

    project(hidden, head, targets, temperature, chunk, token_grad, of_states, of_head)
    right = (*lists(hidden, head, targets), temperature, *lists(weights, before))
    return of_states, of_head, right, seen


def test_gradients(rng):
    """Both gradients in the same pass: the states' are filled in, the head's are added to"""
    for temperature, chunk in ((1.0, 100), (1.0, 3), (0.7, 2)):
        of_states, of_head, right, _ = gradients(rng, temperature, chunk)
        at = f"{chunk} tokens at a time, temperature {temperature}"
        check(f"grad_hidden, {at}", of_states, slow_part(0, *right), rtol=1e-3)
        check(f"grad_head, {at}", of_head, slow_part(1, *right), rtol=1e-3)


def test_only_one_gradient(rng):
    """Either gradient may be None: it is not wanted"""
    of_states, _, right, _ = gradients(rng, 0.9, 3, (True, False))
    check("grad_hidden alone", of_states, slow_part(0, *right), rtol=1e-3)
    _, of_head, right, _ = gradients(rng, 0.9, 3, (False, True))
    check("grad_head alone", of_head, slow_part(1, *right), rtol=1e-3)


def test_what_token_grad_is_given(rng):
    """token_grad(rows, logprobs) of each chunk in turn, as soon as its log-probs are known"""
    _, _, right, seen = gradients(rng, 0.8, 3)
    check("the rows", [rows for rows, _ in seen], [[0, 1, 2], [3, 4, 5], [6]])
    got = [p for _, logprobs in seen for p in logprobs]
    check("the log-probs", got, slow_logprobs(*right[:4]), rtol=1e-4)


def test_memory(rng):
    """No tensor is larger than one chunk's logits, nor is there one of all tokens"""
    count, chunk, vocabulary = 256, 8, 64
    hidden = torch.tensor(rng.normal(0, 1, (count, H))).float()
    head = torch.tensor(rng.normal(0, 1, (vocabulary, H))).float()
    targets = torch.tensor(rng.integers(0, vocabulary, count))
    rooms = (torch.empty_like(hidden), torch.zeros_like(head))
    with Largest() as largest:
        found = logprobs.project_chunks(
            hidden, head, targets, 0.9, chunk, lambda rows, logprobs: logprobs * 0 + 1, *rooms
        )
    check("whether there is one log-prob a token", len(found), count)
    enough = 2 * max(chunk * vocabulary, count * H)
    check("whether all tensors are as small as they can be", largest.numbers <= enough, True)
