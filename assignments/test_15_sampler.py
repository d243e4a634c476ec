"""Grading tests of assignment 15: a sampler with a cache.

How fast it is, is counted: in calls of the model, and in tokens that it is fed with.
"""

from contextlib import contextmanager
from functools import cache

import torch
from checking import check
from tiny import VOCABULARY, tiny_model

import rollout

STOPS = (2, 3, 4, 5)


@cache
def slow_responses(prompts, budget, seed, samples, temperature, stops=STOPS, k=0, p=1.0):
    """One response at a time, the whole sequence again for each token."""
    found = []
    for request in range(len(prompts) * samples):
        ids = list(prompts[request // samples])
        uniforms = torch.from_numpy(rollout.draw_uniforms(seed, request, budget))
        response, logprobs = [], []
        while len(response) < budget and not (response and response[-1] in stops):
            with torch.no_grad():
                logits = tiny_model(1)(input_ids=torch.tensor([ids + response])).logits[:, -1]
            uniform = uniforms[len(response) :][:1]
            token, logprob = rollout.sample_tokens(logits, uniform, temperature, k, p)
            response.append(token.item())
            logprobs.append(logprob.item())
        found.append((list(prompts[request // samples]), response, logprobs, response[-1] in stops))
    return found


def slow_part(part, *case):
    return [response[part] for response in slow_responses(*case)]


def slow_lengths(*case):
    return [len(response) for response in slow_part(1, *case)]


def some_prompts(rng, sizes):
    """Prompts of these lengths, as tuples."""
    return tuple(tuple(rng.integers(6, VOCABULARY, size).tolist()) for size in sizes)


@contextmanager
def counted():
    """Within it, of the model: calls with one token a row, tokens fed, and most rows at once."""
    counts = {"steps": 0, "tokens": 0, "rows": 0}

    def count(module, args, inputs):
        fed = inputs.get("input_ids", args[0] if args else None)
        counts["steps"] += fed.shape[1] == 1
        counts["tokens"] += fed.numel()
        counts["rows"] = max(counts["rows"], len(fed))

    hook = tiny_model(1).base_model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield counts
    finally:
        hook.remove()


def generate(prompts, budget, seed, samples, temperature, stops=STOPS, k=0, p=1.0, **options):
    """The student's responses, and what they cost."""
    options |= {"max_new_tokens": budget, "stop_ids": set(stops), "samples": samples}
    options |= {"top_k": k, "top_p": p}
    with counted() as counts:
        found = rollout.generate(
            tiny_model(1), list(map(list, prompts)), seed=seed, temperature=temperature, **options
        )
    return found, counts


def compare(what, case, **options):
    """Checks all responses of a case; returns what they cost."""
    found, counts = generate(*case, **options)
    check(f"the responses, {what}", [list(r.response_ids) for r in found], slow_part(1, *case))
    check(f"their prompts, {what}", [list(r.prompt_ids) for r in found], slow_part(0, *case))
    check(f"which are finished, {what}", [r.finished for r in found], slow_part(3, *case))
    logprobs = [list(r.logprobs) for r in found]
    check(f"their log-probs, {what}", logprobs, slow_part(2, *case), rtol=1e-3)
    return found, counts


def test_greedy(rng):
    """Temperature 0, one response a prompt: the likeliest token, again and again"""
    compare("temperature 0", (some_prompts(rng, (3, 6, 1, 4)), 6, 0, 1, 0.0))


def test_sampled(rng):
    """Several responses a prompt, each from a random stream of its own"""
    case = (some_prompts(rng, (2, 5, 3)), 7, int(rng.integers(1, 999)), 3, 0.8)
    compare("3 a prompt, temperature 0.8", case)
    case = (some_prompts(rng, (4, 2)), 6, int(rng.integers(1, 999)), 2, 1.5, STOPS, 4, 0.8)
    compare("temperature 1.5, top-k 4, top-p 0.8", case)


def test_ends(rng):
    """A response ends with any of the stop ids, or at the budget, which is no stop"""
    prompts = some_prompts(rng, (2, 3, 2, 4))
    seed = int(rng.integers(1, 999))
    compare("a budget of 1", (prompts, 1, seed, 1, 1.0))
    compare("many stop ids", (prompts, 5, seed, 2, 1.0, tuple(range(2, 14))))
    compare("one that never comes", (prompts, 5, seed, 1, 1.0, (99,)))


def test_slots(rng):
    """However many slots there are, the responses are the same; progress counts them"""
    case = (some_prompts(rng, (3, 1, 4, 2)), 6, int(rng.integers(1, 999)), 2, 1.0)
    for slots in (1, 5):
        drawn = []

        def progress(*numbers):
            drawn.append(numbers)

        compare(f"{slots} slots", case, slots=slots, progress=progress)
        counted = [sum(numbers) for numbers in zip(*drawn)]
        check(f"progress, {slots} slots", counted[0], slow_sum(*case))
        check(f"progress of ends, {slots} slots", counted[1], 8)


def slow_sum(*case):
    return sum(slow_lengths(*case))


def test_no_token_twice(rng):
    """Keys and values are kept: no token is fed twice, but a prompt may be for each response"""
    case = (some_prompts(rng, (6, 6)), 9, int(rng.integers(1, 999)), 3, 1.0, (2,))
    found, counts = compare("equal prompts", case)
    fed = sum(len(r.prompt_ids) + len(r.response_ids) for r in found)
    check("whether no token is fed twice", counts["tokens"] <= 1.1 * fed, True)


def test_a_prompt_once_a_group(rng):
    """A prompt runs once for all its responses"""
    case = (some_prompts(rng, (12, 12)), 4, int(rng.integers(1, 999)), 4, 1.0)
    found, counts = compare("four a prompt", case)
    fed = 2 * 12 + sum(len(r.response_ids) for r in found)
    check("whether each prompt is fed once", counts["tokens"] <= 1.1 * fed, True)


def test_no_row_waits(rng):
    """Rows run side by side, and one that ends makes room for the next prompt's"""
    case = (some_prompts(rng, [4] * 15), 16, int(rng.integers(1, 999)), 1, 1.0, (2, 3, 4))
    found, counts = compare("15 prompts, 3 slots", case, slots=3)
    later = [len(r.response_ids) - 1 for r in found]  # tokens but for a prompt's first
    at_best = sum(later) / 3 + max(later)
    check("whether there are few steps", counts["steps"] <= at_best, True)
    check("whether no row is fed in vain", counts["tokens"] <= 1.1 * (60 + sum(later)), True)
    check("whether several rows run side by side", counts["rows"] > 1, True)
    check("whether there are at most 3 rows", counts["rows"] <= 3, True)
