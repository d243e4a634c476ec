"""Advantages, loss, log-probs and update of grpo.py.

Against float64 references, hand computations and per-sequence loops.
"""

import math
import statistics

import pytest
import torch

from grpo import (
    SharedPrompts,
    UpdateConfig,
    dynamic_sampling,
    group_advantages,
    micro_batches,
    policy_loss,
    response_logprobs,
    sharing_pays,
    token_weights,
    update,
)
from rollout import Rollout, generate

STOPS = {2, 3, 4}
PROMPTS = [[5, 6, 7, 8, 9], [4], [12, 3, 9], [7] * 8]


# --------------------------------------------------------------------------------------------------
# Advantages


def test_advantages_equal_the_formula_in_float64():
    """(R - mean) / std, group by group, with the standard deviation of a sample."""
    rewards = [1, 0, 0, 0, 0.2, 0.9, 0.4, 1, 1, 0, 1, 0]
    expected = []
    for group in (rewards[:4], rewards[4:8], rewards[8:]):
        expected += [(r - statistics.fmean(group)) / statistics.stdev(group) for r in group]
    torch.testing.assert_close(
        group_advantages(rewards, 4), torch.tensor(expected), atol=1e-6, rtol=1e-6
    )


def test_advantages_without_std_are_centred_rewards():
    """Dr.GRPO: the mean is subtracted, nothing divided."""
    torch.testing.assert_close(
        group_advantages([1, 0, 0, 0], 4, scale_by_std=False),
        torch.tensor([0.75, -0.25, -0.25, -0.25]),
    )


@pytest.mark.parametrize("scale_by_std", [True, False])
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.35])
def test_a_flat_group_gets_exactly_zero(reward, scale_by_std):
    """Pitfall: std of a flat group.

    Neither 0 / 0 nor a rounding error over a rounding error, in any group size.
    """
    for size in (2, 3, 7, 8):
        assert not group_advantages(
            [reward] * size + [0.0] * (size - 1) + [1.0], size, scale_by_std
        )[:size].any()


def test_a_group_of_one_gets_zero():
    """One sample has no baseline but itself, and no standard deviation."""
    assert group_advantages([1.0, 0.0, 0.5], 1).tolist() == [0, 0, 0]


def test_advantages_leave_the_rewards_alone():
    """Pitfall: in-place writes through views. A tensor of rewards is the same after the call."""
    rewards = torch.tensor([1.0, 0.0, 0.5, 0.5])
    group_advantages(rewards, 2)
    assert rewards.tolist() == [1, 0, 0.5, 0.5]


@pytest.mark.parametrize("count, size", [(7, 4), (3, 4), (4, 0)])
def test_rewards_that_do_not_make_groups_are_refused(count, size):
    """A remainder would be compared with another prompt's responses."""
    with pytest.raises(ValueError, match="groups"):
        group_advantages([0.0] * count, size)


# --------------------------------------------------------------------------------------------------
# Dynamic sampling


def draws_of(*batches):
    """A draw_groups for groups of two.

    Draw d gives rollouts named (d, i) and the rewards of batches[d].
    """
    return lambda draw: ([(draw, i) for i in range(len(batches[draw]))], list(batches[draw]))


def test_dynamic_sampling_replaces_flat_groups():
    """Whole groups stay or go, in order.

    Draws go on until enough groups are not flat, and the surplus is not kept.
    """
    draw = draws_of([1, 1, 0, 1], [0, 0, 0.35, 0.35], [1, 0, 0, 1], [9, 9, 9, 9])
    kept, kept_rewards, rollouts, rewards = dynamic_sampling(draw, prompts=2, group_size=2, draws=4)
    assert (kept, kept_rewards) == ([(0, 2), (0, 3), (2, 0), (2, 1)], [0, 1, 1, 0])
    assert rewards == [
        1,
        1,
        0,
        1,
        0,
        0,
        0.35,
        0.35,
        1,
        0,
        0,
        1,
    ]  # the statistics see what was dropped; draw 3 never happened
    assert len(rollouts) == len(rewards)


def test_dynamic_sampling_stops_at_its_draws():
    """When all groups are flat it gives up after `draws`, with nothing kept and no error."""
    kept, kept_rewards, rollouts, _ = dynamic_sampling(
        draws_of([1, 1], [0, 0], [1, 0]), prompts=1, group_size=2, draws=2
    )
    assert (kept, kept_rewards, len(rollouts)) == ([], [], 4)
    assert len(group_advantages(kept_rewards, 2)) == 0


def test_truncated_samples_stay_in_their_group():
    """Pitfall: filtering before the baseline.

    A truncated sample is a wrong one, not a missing one.
    """
    group = [
        Rollout([1], [5, 2], [-1.0, -1.0], True),
        Rollout([1], [5, 5], [-1.0, -1.0], False),
        Rollout([1], [6, 2], [-1.0, -1.0], True),
    ]
    kept, rewards, _, _ = dynamic_sampling(
        lambda draw: (group, [1.0, 0.0, 1.0]), prompts=1, group_size=3, draws=1
    )
    assert kept == group and rewards == [1.0, 0.0, 1.0]


# --------------------------------------------------------------------------------------------------
# Loss


@pytest.mark.parametrize(
    "advantage, ratio, gradient",
    [
        (1, 0.5, 0.5),
        (1, 1.0, 1.0),
        (1, 1.25, 1.25),
        (1, 2.0, 0.0),
        (-1, 0.5, 0.0),
        (-1, 0.75, 0.0),
        (-1, 1.0, -1.0),
        (-1, 2.0, -2.0),
    ],
)
def test_clip_gradients(advantage, ratio, gradient):
    """Pitfall: clip sign.

    d(-loss)/d(logp) is r * A, but 0 where r has gone too far in A's direction; eps is 0.2 below,
    0.28 above.
    """
    logprob = torch.tensor([math.log(ratio)], requires_grad=True)
    loss, clipped = policy_loss(
        logprob,
        torch.zeros(1),
        torch.tensor([float(advantage)]),
        torch.ones(1),
        eps_low=0.2,
        eps_high=0.28,
    )
    loss.backward()
    assert -logprob.grad.item() == pytest.approx(gradient, abs=1e-6)
    assert clipped.item() == (gradient == 0)


@pytest.mark.parametrize(
    "normalizer, expected",
    [
        ("dapo", -(3 * 1 - 6 * 2) / 9),
        ("grpo", -(1 - 2) / 2),
        ("dr_grpo", -(3 * 1 - 6 * 2) / (2 * 10)),
    ],
)
def test_loss_of_two_unequal_sequences(normalizer, expected):
    """Pitfall: length bias.

    3 tokens with A = 1 and 6 with A = -2, all ratios 1, by hand; the budget is 10.
    """
    advantages, same = torch.tensor([1.0] * 3 + [-2.0] * 6), torch.full((9,), -0.7)
    loss, _ = policy_loss(same, same, advantages, token_weights([3, 6], normalizer, budget=10))
    assert loss.item() == pytest.approx(expected)


def test_an_unknown_normalizer_is_refused():
    """A misspelt option must not train with another loss."""
    with pytest.raises(ValueError, match="normalizer"):
        token_weights([1], "mean")


@pytest.mark.parametrize("gap", [200.0, -200.0])
@pytest.mark.parametrize("advantage", [1.0, -1.0, 0.0])
def test_an_extreme_ratio_stays_finite(gap, advantage):
    """Pitfall: exp overflow. inf in the ratio would make 0 * inf = nan in the gradient."""
    logprob = torch.tensor([-1.0], requires_grad=True)
    loss, _ = policy_loss(logprob, logprob.detach() - gap, torch.tensor([advantage]), torch.ones(1))
    loss.backward()
    assert loss.isfinite() and logprob.grad.isfinite()


# --------------------------------------------------------------------------------------------------
# Log-probs of responses


def sequence(prompt, response, logprob=-2.0):
    return Rollout(prompt, response, [logprob] * len(response), True)


def naive_response_logprobs(model, rollout, temperature=1.0):
    """One sequence alone, all its logits; the logits at position p are those of token p + 1."""
    scores = (
        model(
            input_ids=torch.tensor([rollout.prompt_ids + rollout.response_ids]), use_cache=False
        ).logits[0]
        / temperature
    )
    return torch.stack(
        [
            torch.log_softmax(scores[len(rollout.prompt_ids) + t - 1], dim=0)[token]
            for t, token in enumerate(rollout.response_ids)
        ]
    )


MIXED = [
    sequence([5], [6, 7, 2]),
    sequence([5, 6, 7, 8, 9, 10], [11]),
    sequence([4, 0, 9], [12, 13, 0, 14, 3]),
    sequence([0], [0]),
]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_response_logprobs_equal_one_sequence_at_a_time(model, temperature):
    """Pitfalls: shift off by one, padding.

    Prompts of 1 to 6 tokens, responses of 1 to 5, in one right-padded batch.
    """
    expected = torch.cat([naive_response_logprobs(model, r, temperature) for r in MIXED])
    torch.testing.assert_close(
        response_logprobs(model, MIXED, temperature), expected, atol=1e-4, rtol=0
    )


def test_a_left_padded_batch_gives_the_same(model):
    """Pitfall: padding and positions.

    The trainer's right padding agrees with left padding, mask and positions from the first real
    token.
    """
    width = max(len(r.prompt_ids + r.response_ids) for r in MIXED)
    expected = []
    for r in MIXED:
        ids, pads = r.prompt_ids + r.response_ids, width - len(r.prompt_ids + r.response_ids)
        logits = model(
            input_ids=torch.tensor([[0] * pads + ids]),
            attention_mask=torch.tensor([[0] * pads + [1] * len(ids)]),
            position_ids=torch.tensor([[0] * pads + list(range(len(ids)))]),
        ).logits[0]
        expected += [
            torch.log_softmax(logits[width - len(r.response_ids) + t - 1], 0)[token]
            for t, token in enumerate(r.response_ids)
        ]
    torch.testing.assert_close(
        response_logprobs(model, MIXED, 1.0), torch.stack(expected), atol=1e-4, rtol=0
    )


def test_the_stop_token_is_learnt_and_padding_is_not(model):
    """Pitfalls: EOS dropped from the loss, or tokens after it in the loss.

    Id 0 is pad and stop: gradient reaches the position before the stop token, no further.
    """
    embedded = []
    hook = model.get_input_embeddings().register_forward_hook(
        lambda module, args, output: embedded.append(output) or output.retain_grad()
    )
    response_logprobs(
        model, [sequence([5, 6], [7, 0]), sequence([5, 6, 8], [9, 10, 11, 12, 0])], 1.0
    ).sum().backward()
    hook.remove()
    model.zero_grad()
    reached = embedded[0].grad.abs().sum(dim=-1) > 0  # (2, 7)
    assert reached.tolist() == [[True] * 3 + [False] * 4, [True] * 7]


# --------------------------------------------------------------------------------------------------
# The update


BATCH = MIXED + [
    sequence([9] * 9, [10, 11]),
    sequence([1, 2], [30]),
    sequence([8], [7, 6, 5, 2]),
    sequence([33, 34], [35, 36, 37]),
]
ADVANTAGES = [1.0, -1.0, 0.5, -0.5, 2.0, -1.0, 1.0, -2.0]


def weights_after(model, rollouts, advantages, lr=1.0, **config):
    """All weights after one update, and its metrics; the model keeps the weights.

    The update is plain gradient descent without gradient clipping.
    """
    metrics = update(
        model,
        torch.optim.SGD(model.parameters(), lr=lr),
        rollouts,
        advantages,
        UpdateConfig(**{"max_grad_norm": 1e9, **config}),
        budget=20,
    )
    return torch.cat([p.detach().flatten() for p in model.parameters()]), metrics


@pytest.mark.parametrize(
    "dtype, temperature, bound",
    [(torch.float32, 1.0, 1e-5), (torch.float32, 0.6, 1e-5), (torch.bfloat16, 1.0, 0.05)],
)
def test_on_policy_ratio_is_one(make_model, dtype, temperature, bound):
    """Pitfalls: dtype, temperature.

    Before the first step sampler and trainer agree: to rounding in fp32, nearly in bf16.
    """
    model = make_model().to(dtype)
    rollouts = generate(
        model, PROMPTS, max_new_tokens=12, stop_ids=STOPS, temperature=temperature, samples=2
    )
    _, metrics = weights_after(model, rollouts, ADVANTAGES, temperature=temperature)
    assert metrics["logprob_gap"] < bound


@pytest.mark.parametrize(
    "inside", [True, False], ids=["backward inside autocast", "backward outside"]
)
def test_autocast_gradients_stay_near_fp32(make_model, inside):
    """The GPU path, tried on a CPU.

    Forward and backward must make the same logits, wherever backward runs.
    """
    model = make_model()
    gradients = []
    for autocast in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            total = response_logprobs(model, BATCH, 1.0).sum()
            if inside:
                total.backward()
        if not inside:
            total.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert (gradients[1] - gradients[0]).norm() < 0.06 * gradients[0].norm()


def test_dropout_does_not_part_trainer_and_sampler(make_model):
    """Dropout in the update would make the ratio noise.

    The policy that is trained is the one that sampled.
    """
    model = make_model(attention_dropout=0.5)
    rollouts = generate(model, PROMPTS, max_new_tokens=12, stop_ids=STOPS, samples=2)
    assert weights_after(model, rollouts, ADVANTAGES)[1]["logprob_gap"] < 1e-5


def naive_backward(model, rollouts, advantages, normalizer="dapo"):
    """Gradients of the loss, one sequence at a time, with clips of 0.4 and 3."""
    total = sum(len(r.response_ids) for r in rollouts)
    for r, advantage in zip(rollouts, advantages, strict=True):
        ratio = (naive_response_logprobs(model, r) - torch.tensor(r.logprobs)).exp()
        gains = torch.minimum(ratio * advantage, ratio.clamp(0.4, 3.0) * advantage)
        (
            -gains.sum()
            / {"dapo": total, "grpo": 8 * len(r.response_ids), "dr_grpo": 8 * 20}[normalizer]
        ).backward()


@pytest.mark.parametrize("normalizer", ["dapo", "grpo", "dr_grpo"])
@pytest.mark.parametrize(
    "micro_tokens, batches", [(1, [1] * 8), (11, [2, 2, 1, 1, 1, 1]), (1000, [8])]
)
def test_micro_batches_do_not_change_the_gradient(make_model, normalizer, micro_tokens, batches):
    """Pitfall: accumulation.

    One normaliser for the batch: sequences one by one, in twos or all at once give a naive loop's
    gradient.
    """
    model, sizes = make_model(), []
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    naive_backward(model, BATCH, ADVANTAGES, normalizer)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    hook = model.base_model.register_forward_pre_hook(
        lambda module, args, inputs: sizes.append(len(inputs["input_ids"])), with_kwargs=True
    )
    after, _ = weights_after(
        model,
        BATCH,
        ADVANTAGES,
        normalizer=normalizer,
        micro_tokens=micro_tokens,
        eps_low=0.6,
        eps_high=2.0,
    )
    hook.remove()
    torch.testing.assert_close(before - after, gradient, atol=1e-4, rtol=1e-3)
    assert sorted(sizes) == sorted(batches)


# Three prompts of unequal length with two or three responses each, of one to five tokens.
GROUPED = [
    sequence(prompt, response)
    for prompt, responses in (
        ([5, 6, 7, 8, 9, 10], ([6, 7, 2], [11], [9, 8, 7, 6, 2])),
        ([4, 0, 9], ([12, 13], [0, 14, 3])),
        ([21] * 9, ([2], [30, 31, 32], [33, 34, 35, 36])),
    )
    for response in responses
]


def test_the_gradient_is_the_same_twice(make_model, users_threads):
    """Pitfall: resume.

    On as many threads as a user has; sums over the responses to a prompt must not depend on which
    thread comes first.
    """
    rollouts = [
        sequence([prompt + 5] * 60, [i + 6, 7, 2]) for i in range(24) for prompt in range(4)
    ]
    advantages = [(-1.0) ** i for i in range(len(rollouts))]
    first, *others = (weights_after(make_model(), rollouts, advantages)[0] for _ in range(5))
    assert sharing_pays(rollouts, 16384)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("micro_tokens", [27, 1000])
def test_shared_prompts_do_not_change_the_gradient(make_model, micro_tokens):
    """Each prompt runs once, whatever the micro-batches.

    The gradient is that of a naive loop.
    """
    model, forwards = make_model(), []
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    naive_backward(model, GROUPED, ADVANTAGES)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    hook = model.base_model.register_forward_pre_hook(
        lambda module, args, inputs: forwards.append(inputs["input_ids"].shape), with_kwargs=True
    )
    after, _ = weights_after(
        model, GROUPED, ADVANTAGES, micro_tokens=micro_tokens, eps_low=0.6, eps_high=2.0
    )
    hook.remove()
    torch.testing.assert_close(before - after, gradient, atol=1e-4, rtol=1e-3)
    assert forwards[0] == (3, 9) and sum(rows for rows, _ in forwards[1:]) == len(GROUPED)
    assert (
        max(columns for _, columns in forwards[1:]) == 4
    )  # responses alone, but for their last tokens


def test_shared_prompts_give_the_same_hidden_states(model):
    """Pitfalls: shift off by one, padding.

    What predicts the first token comes from the prompt, the rest from the response.
    """
    ours, tokens = SharedPrompts(model, GROUPED).response_hidden(GROUPED)
    each = [
        model.base_model(torch.tensor([r.prompt_ids + r.response_ids])).last_hidden_state[
            0, len(r.prompt_ids) - 1 : -1
        ]
        for r in GROUPED
    ]
    torch.testing.assert_close(ours, torch.cat(each), atol=1e-4, rtol=0)
    assert tokens.tolist() == [token for r in GROUPED for token in r.response_ids]


@pytest.mark.parametrize(
    "prompt, responses, micro_tokens, pays",
    [
        (40, [50] * 8, 2048, True),
        (40, [50], 2048, False),
        (40, [900] * 8, 2048, False),
        (40, [50] * 8, 39, False),
    ],
    ids=["short responses", "no group", "long responses", "no room for the prompts"],
)
def test_prompts_are_shared_where_that_saves_a_fifth(prompt, responses, micro_tokens, pays):
    assert sharing_pays([sequence([5] * prompt, [6] * n) for n in responses], micro_tokens) is pays


def test_micro_batches_hold_each_sequence_once_within_the_limit():
    """Size times longest stays within the tokens.

    Except for a sequence that is longer than that alone.
    """
    lengths = [5, 1, 9, 2, 2, 30, 7, 3]
    batches = micro_batches(lengths, 12)
    assert sorted(i for batch in batches for i in batch) == list(range(8))
    assert all(
        len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 12 for batch in batches
    )


def test_minibatches_are_separate_steps(make_model):
    """Two minibatches are two optimizer steps, each normalised by its own tokens.

    logprob_gap is the one before the first.
    """
    both, metrics = weights_after(make_model(), BATCH, ADVANTAGES, lr=0.1, minibatches=2)
    model = make_model()
    _, first = weights_after(model, BATCH[:4], ADVANTAGES[:4], lr=0.1)
    one_by_one, _ = weights_after(model, BATCH[4:], ADVANTAGES[4:], lr=0.1)
    torch.testing.assert_close(both, one_by_one, atol=1e-5, rtol=1e-4)
    assert metrics["logprob_gap"] == pytest.approx(first["logprob_gap"])


@pytest.mark.parametrize(
    "rollouts, advantages", [([], []), (BATCH, [0.0] * 8)], ids=["none kept", "all flat"]
)
def test_nothing_to_learn_is_no_crash(make_model, rollouts, advantages):
    """Pitfall: all truncated, or all groups flat. Finite metrics and unchanged weights."""
    model = make_model()
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    after, metrics = weights_after(model, rollouts, advantages)
    assert torch.equal(before, after) and all(math.isfinite(value) for value in metrics.values())


def test_a_step_without_finite_gradient_is_skipped(make_model):
    """The bad minibatch leaves no trace in the weights, and is counted.

    The good one after it takes its step.
    """
    after, metrics = weights_after(
        make_model(), BATCH, [math.nan] * 4 + ADVANTAGES[4:], minibatches=2
    )
    expected, _ = weights_after(make_model(), BATCH[4:], ADVANTAGES[4:])
    assert torch.equal(after, expected) and metrics["skipped"] == 1


def test_gradients_are_clipped_to_their_norm(make_model):
    """A step is no longer than max_grad_norm times the learning rate.

    The metric tells the norm before clipping.
    """
    model = make_model()
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    after, metrics = weights_after(model, BATCH, ADVANTAGES, max_grad_norm=0.5)
    assert (after - before).norm().item() == pytest.approx(0.5, rel=1e-3) and metrics[
        "grad_norm"
    ] > 0.5


def test_rewarded_responses_become_likelier(make_model):
    """The whole loop learns.

    After ten steps most responses contain token 9, which is all that the reward asks for.
    """
    model, rates = make_model(), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(10):
        rollouts = generate(model, PROMPTS, max_new_tokens=6, stop_ids=STOPS, samples=16, seed=step)
        rewards = [float(9 in r.response_ids) for r in rollouts]
        rates.append(statistics.fmean(rewards))
        update(model, optimizer, rollouts, group_advantages(rewards, 16), UpdateConfig())
    assert rates[-1] > rates[0] + 0.3
