"""Grading tests of assignment 5: which log-prob belongs to which token."""

import torch
from checking import check
from tiny import VOCABULARY, tiny_model

import logprobs
from rollout import Rollout

WIDTH = 6  # of a state's 16 numbers, which are compared


def slow_states(rollouts):
    """One sequence alone, token by token: the state from which each response token is predicted."""
    found = []
    for rollout in rollouts:
        for t in range(len(rollout.response_ids)):
            before = rollout.prompt_ids + rollout.response_ids[:t]
            with torch.no_grad():
                states = tiny_model().model(input_ids=torch.tensor([before])).last_hidden_state
            found.append(states[0, -1, :WIDTH].tolist())
    return found


def slow_tokens(rollouts):
    return [token for rollout in rollouts for token in rollout.response_ids]


def some_rollout(rng, prompt, response):
    """A rollout of so many tokens, the last of the response a stop token."""
    ids = rng.integers(3, VOCABULARY, prompt + response).tolist()
    return Rollout(ids[:prompt], ids[prompt:-1] + [2], [-1.0] * response, True)


def compare(what, rollouts):
    hidden, tokens = logprobs.response_states(tiny_model(), rollouts)
    check(f"the tokens, {what}", tokens, slow_tokens(rollouts))
    check(f"their states, {what}", hidden[..., :WIDTH], slow_states(rollouts), rtol=1e-3)


def test_one_response(rng):
    """One prompt and its response: each token, and the state that predicts it"""
    compare("a prompt of 4, a response of 3", [some_rollout(rng, 4, 3)])
    compare("a prompt of 1, a response of 4", [some_rollout(rng, 1, 4)])
    compare("a response of 1", [some_rollout(rng, 3, 1)])


def test_equal_lengths(rng):
    """Several responses of one length, after prompts of one length"""
    compare("three times 3 and 3", [some_rollout(rng, 3, 3) for _ in range(3)])


def test_unequal_lengths(rng):
    """Unequal prompts and responses: no padding is learnt, nor seen"""
    sizes = ((5, 2), (1, 4), (3, 1), (2, 5))
    compare(f"prompts and responses of {sizes}", [some_rollout(rng, *size) for size in sizes])


def test_the_stop_token_is_the_pad_token(rng):
    """A mask by lengths, not by token values: 0 pads, and is a token, too"""
    rollouts = [some_rollout(rng, 3, 3), some_rollout(rng, 2, 5)]
    rollouts[0].response_ids[-1] = 0
    rollouts[1].response_ids[1:3] = [0, 0]
    rollouts[1].prompt_ids[-1] = 0
    compare("responses with token 0 in them", rollouts)


def test_the_gradient_flows(rng):
    """States are made with gradient, back to the model's weights"""
    rollouts = [some_rollout(rng, 2, 3), some_rollout(rng, 3, 2)]
    hidden, _ = logprobs.response_states(tiny_model(), rollouts)
    check("whether the states have a gradient", hidden.requires_grad, True)
