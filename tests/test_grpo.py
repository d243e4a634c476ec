"""Advantages, dynamic sampling, loss and update of grpo.py.

Against float64 references, hand computations and per-sequence loops.
"""

import math
import statistics

import pytest
import torch
from shared import check, flat_weights, naive_response_logprobs, sequence

import grpo
from grpo import (
    dynamic_sampling,
    group_advantages,
    is_flat,
    micro_batches,
    policy_loss,
    set_advantages,
    token_weights,
    update,
)
from logprobs import sharing_pays
from rollout import generate
from support.config import Config

STOPS = {2, 3, 4}
PROMPTS = [[5, 6, 7, 8, 9], [4], [12, 3, 9], [7] * 8]


# --------------------------------------------------------------------------------------------------
# Advantages


@pytest.mark.parametrize("rewards", [[1, 0, 0, 0], [0.2, 0.9, 0.4, 1], [1, 0, 1, 0]])
def test_advantages_equal_the_formula_in_float64(rewards):
    """(R - mean) / std, with the standard deviation of a sample."""
    mean = statistics.fmean(rewards)

    def over(deviation):
        return torch.tensor([(r - mean) / deviation for r in rewards])

    mistakes = {
        "The std divides by G, not by G - 1": over(statistics.pstdev(rewards)),
        "Nothing is divided by the std": over(1.0),
        "The mean is not subtracted": torch.tensor(rewards) / statistics.stdev(rewards),
    }
    check(group_advantages(rewards), over(statistics.stdev(rewards)), mistakes)


def test_advantages_without_std_are_centred_rewards():
    """Dr.GRPO: the mean is subtracted, nothing divided."""
    expected = torch.tensor([0.75, -0.25, -0.25, -0.25])
    check(group_advantages([1, 0, 0, 0], scale_by_std=False), expected)


@pytest.mark.parametrize("scale_by_std", [True, False])
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.35])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
def test_a_flat_group_gets_exactly_zero(size, reward, scale_by_std):
    """Pitfall: std of a flat group. Neither 0 / 0 nor a rounding error over another."""
    assert group_advantages([reward] * size, scale_by_std).tolist() == [0.0] * size


def test_advantages_leave_the_rewards_alone():
    """Pitfall: in-place writes through views. A tensor of rewards is the same after the call."""
    rewards = torch.tensor([1.0, 0.0, 0.5, 0.5])
    group_advantages(rewards)
    assert rewards.tolist() == [1, 0, 0.5, 0.5]


def graded(*rewards):
    """A group of rollouts of these rewards; what has a reward of 1 is correct."""
    group = [sequence([1], [5, 2]) for _ in rewards]
    for rollout, reward in zip(group, rewards):
        rollout.reward = reward
        rollout.correct = reward == 1
    return group


def test_each_group_has_a_baseline_of_its_own():
    """A hard problem's only right answer is worth more than an easy problem's."""
    hard, easy = graded(1, 0, 0, 0), graded(1, 1, 1, 0)
    set_advantages([hard, easy])
    assert [r.advantage for r in hard] == pytest.approx([1.5, -0.5, -0.5, -0.5])
    assert [r.advantage for r in easy] == pytest.approx([0.5, 0.5, 0.5, -1.5])


# --------------------------------------------------------------------------------------------------
# Dynamic sampling


def test_dynamic_sampling_replaces_flat_groups():
    """Draws go on until enough groups are not flat: whole groups, in order, and no surplus."""
    draws = [
        [graded(1, 1), graded(0, 1)],
        [graded(0, 0), graded(1, 1)],
        [graded(1, 0), graded(0, 1)],
        [graded(1, 0)],
    ]
    kept, drawn = dynamic_sampling(lambda draw: draws[draw], wanted=2, draws=4)
    assert kept == [draws[0][1], draws[2][0]]
    # The statistics see what was dropped; the last draw never happened.
    assert drawn == draws[0] + draws[1] + draws[2]


def test_dynamic_sampling_stops_at_its_draws():
    """When all groups are flat it gives up after `draws`, with nothing kept and no error."""
    draws = [[graded(1, 1)], [graded(0, 0)], [graded(1, 0)]]
    assert dynamic_sampling(lambda draw: draws[draw], 1, 2) == ([], draws[0] + draws[1])


@pytest.mark.parametrize("correct, flat", [((1, 1), True), ((0, 0), True), ((1, 0), False)])
def test_a_group_is_flat_when_all_are_correct_or_none(correct, flat):
    assert is_flat(graded(*correct)) is flat


def test_partial_credit_does_not_make_a_group_useful():
    """DAPO looks at correctness: wrong answers of unequal reward are still all wrong."""
    assert is_flat(graded(0.1, 0.0))


def test_truncated_samples_stay_in_their_group():
    """Pitfall: filtering before the baseline. A truncated sample is wrong, not missing."""
    group = graded(1, 0, 1)
    group[1].finished = False
    kept, _ = dynamic_sampling(lambda draw: [group], wanted=1, draws=1)
    assert kept == [group]


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
    old = torch.zeros(1)
    advantages = torch.tensor([float(advantage)])
    loss, clipped = policy_loss(logprob, old, advantages, torch.ones(1))
    loss.backward()
    assert -logprob.grad.item() == pytest.approx(gradient, abs=1e-6)
    assert clipped.item() == (gradient == 0)


def test_the_loss_is_a_weighted_sum():
    """Each token counts with its own weight: 1 x 2 for the first, 3 x -1 for the second."""
    same = torch.full((2,), -0.7)
    advantages, weights = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 3.0])
    loss, _ = policy_loss(same, same, advantages, weights)
    mistakes = {
        "The loss is a mean over tokens: the weights are not used": torch.tensor(-0.5),
        "The loss has the wrong sign": torch.tensor(-1.0),
        "The loss is a mean of what should be summed": torch.tensor(0.5),
    }
    check(loss, torch.tensor(1.0), mistakes)


def test_the_loss_of_two_halves_adds_up():
    """logprobs.fused_loss gives it some tokens at a time, whoever wrote them (CONTRIBUTING.md)."""
    logprobs, old, advantages, weights = torch.randn(4, 6, generator=torch.manual_seed(0))
    whole, _ = policy_loss(logprobs, old, advantages, weights)
    halves = [
        policy_loss(logprobs[rows], old[rows], advantages[rows], weights[rows])[0]
        for rows in (slice(0, 3), slice(3, 6))
    ]
    mistake = "The loss is no sum over tokens"
    torch.testing.assert_close(sum(halves), whole, msg=mistake)


@pytest.mark.parametrize(
    "normalizer, each",
    [("dapo", [1 / 9, 1 / 9]), ("grpo", [1 / 6, 1 / 12]), ("dr_grpo", [1 / 20, 1 / 20])],
)
def test_token_weights_of_two_unequal_sequences(normalizer, each):
    """Pitfall: length bias. 3 and 6 tokens, by hand; the budget is 10."""
    expected = {
        "dapo": [1 / 9] * 9,
        "grpo": [1 / 6] * 3 + [1 / 12] * 6,
        "dr_grpo": [1 / 20] * 9,
    }
    mistakes = {f"These are the weights of {name}": w for name, w in expected.items()}
    mistakes["dr_grpo divides by the longest response, not by the budget"] = [1 / 12] * 9
    mistakes["A response's tokens do not share its weight"] = [1 / 2] * 9
    mistakes = {what: torch.tensor(value) for what, value in mistakes.items()}
    weights = token_weights([3, 6], normalizer, budget=10)
    check(weights, torch.tensor([each[0]] * 3 + [each[1]] * 6), mistakes)


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
# The update


def batch(advantages):
    """Eight rollouts of unequal lengths, with these advantages."""
    rollouts = [
        sequence([5], [6, 7, 2]),
        sequence([5, 6, 7, 8, 9, 10], [11]),
        sequence([4, 0, 9], [12, 13, 0, 14, 3]),
        sequence([0], [0]),
        sequence([9] * 9, [10, 11]),
        sequence([1, 2], [30]),
        sequence([8], [7, 6, 5, 2]),
        sequence([33, 34], [35, 36, 37]),
    ]
    return with_advantages(rollouts, advantages)


def with_advantages(rollouts, advantages):
    for rollout, advantage in zip(rollouts, advantages, strict=True):
        rollout.advantage = advantage
    return rollouts


ADVANTAGES = [1.0, -1.0, 0.5, -0.5, 2.0, -1.0, 1.0, -2.0]


def weights_after(model, rollouts, lr=1.0, max_grad_norm=1e9, **options):
    """All weights after one update by plain gradient descent, and its metrics.

    The model keeps the weights. Gradients are not clipped unless the test asks for it.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(grpo, "MAX_GRAD_NORM", max_grad_norm)
        metrics = update(model, optimizer, rollouts, Config(**options), budget=20)
    return flat_weights(model), metrics


def naive_gradient(model, rollouts, normalizer="dapo"):
    """The gradient of the loss, one sequence at a time, with clips of 0.4 and 3, in one vector."""
    total = sum(len(r.response_ids) for r in rollouts)
    for r in rollouts:
        ratio = (naive_response_logprobs(model, r) - torch.tensor(r.logprobs)).exp()
        gains = torch.minimum(ratio * r.advantage, ratio.clamp(0.4, 3.0) * r.advantage)
        each = {"dapo": total, "grpo": 8 * len(r.response_ids), "dr_grpo": 8 * 20}[normalizer]
        (-gains.sum() / each).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


WIDE = {"eps_low": 0.6, "eps_high": 2.0}  # the clips of naive_gradient


@pytest.mark.parametrize(
    "dtype, temperature, bound",
    [(torch.float32, 1.0, 1e-5), (torch.float32, 0.6, 1e-5), (torch.bfloat16, 1.0, 0.05)],
)
def test_on_policy_ratio_is_one(make_model, dtype, temperature, bound):
    """Pitfalls: dtype, temperature.

    Before the first step sampler and trainer agree: to rounding in fp32, nearly in bf16.
    """
    model = make_model().to(dtype)
    options = {"max_new_tokens": 12, "stop_ids": STOPS, "temperature": temperature, "samples": 2}
    rollouts = with_advantages(generate(model, PROMPTS, **options), ADVANTAGES)
    _, metrics = weights_after(model, rollouts, temperature=temperature)
    mistake = "the trainer scores other tokens, or at another temperature, than the sampler drew"
    assert metrics["logprob_gap"] < bound, mistake


def test_dropout_does_not_part_trainer_and_sampler(make_model):
    """Dropout in the update would make the ratio noise: what is trained is what sampled."""
    model = make_model(attention_dropout=0.5)
    rollouts = generate(model, PROMPTS, max_new_tokens=12, stop_ids=STOPS, samples=2)
    assert weights_after(model, with_advantages(rollouts, ADVANTAGES))[1]["logprob_gap"] < 1e-5


@pytest.mark.parametrize("normalizer", ["dapo", "grpo", "dr_grpo"])
@pytest.mark.parametrize(
    "micro_tokens, batches", [(1, [1] * 8), (11, [2, 2, 1, 1, 1, 1]), (1000, [8])]
)
def test_micro_batches_do_not_change_the_gradient(make_model, normalizer, micro_tokens, batches):
    """Pitfall: accumulation.

    One normaliser for the batch: sequences one by one, in twos or all at once give a naive loop's
    gradient.
    """
    model = make_model()
    before = flat_weights(model)
    gradient = naive_gradient(model, batch(ADVANTAGES), normalizer)
    sizes = []
    hook = model.base_model.register_forward_pre_hook(
        lambda module, args, inputs: sizes.append(len(inputs["input_ids"])), with_kwargs=True
    )
    options = {"normalizer": normalizer, "micro_tokens": micro_tokens, **WIDE}
    after, metrics = weights_after(model, batch(ADVANTAGES), **options)
    hook.remove()
    check(before - after, gradient, {"The gradient has the wrong sign": -gradient}, 1e-4, 1e-3)
    assert sorted(sizes) == sorted(batches)
    assert metrics["shared_prompts"] == 0


def test_chunks_of_tokens_do_not_change_the_gradient(make_model, monkeypatch):
    """The kernel takes some tokens at a time: each chunk has its own advantages and weights."""
    model = make_model()
    before = flat_weights(model)
    gradient = naive_gradient(model, batch(ADVANTAGES), "grpo")
    monkeypatch.setattr("logprobs.plan_chunks", lambda hidden, head, chunk: (4, hidden.dtype))
    after, _ = weights_after(model, batch(ADVANTAGES), normalizer="grpo", **WIDE)
    check(before - after, gradient, atol=1e-4, rtol=1e-3)


def grouped():
    """Three prompts of unequal length with two or three responses each, of one to five tokens."""
    prompts = (
        ([5, 6, 7, 8, 9, 10], ([6, 7, 2], [11], [9, 8, 7, 6, 2])),
        ([4, 0, 9], ([12, 13], [0, 14, 3])),
        ([21] * 9, ([2], [30, 31, 32], [33, 34, 35, 36])),
    )
    rollouts = [sequence(prompt, response) for prompt, texts in prompts for response in texts]
    return with_advantages(rollouts, ADVANTAGES)


@pytest.mark.parametrize("micro_tokens", [27, 1000])
def test_shared_prompts_do_not_change_the_gradient(make_model, micro_tokens):
    """Each prompt runs once, whatever the micro-batches; the gradient is that of a naive loop."""
    model = make_model()
    before = flat_weights(model)
    gradient = naive_gradient(model, grouped())
    forwards = []
    hook = model.base_model.register_forward_pre_hook(
        lambda module, args, inputs: forwards.append(inputs["input_ids"].shape), with_kwargs=True
    )
    after, metrics = weights_after(model, grouped(), micro_tokens=micro_tokens, **WIDE)
    hook.remove()
    check(before - after, gradient, {"The gradient has the wrong sign": -gradient}, 1e-4, 1e-3)
    assert forwards[0] == (3, 9) and sum(rows for rows, _ in forwards[1:]) == 8
    # Responses alone, but for their last tokens.
    assert max(columns for _, columns in forwards[1:]) == 4
    assert metrics["shared_prompts"] == 1


def test_the_gradient_is_the_same_twice(make_model):
    """Pitfall: resume. On as many threads as a user has.

    Sums over the responses to a prompt must not depend on which thread comes first.
    """
    rollouts = [
        sequence([prompt + 5] * 60, [i + 6, 7, 2]) for i in range(24) for prompt in range(4)
    ]
    with_advantages(rollouts, [(-1.0) ** i for i in range(len(rollouts))])
    first, *others = (weights_after(make_model(), rollouts)[0] for _ in range(5))
    assert sharing_pays(rollouts, 16384)
    assert all(torch.equal(first, other) for other in others)


def test_a_response_that_is_left_out_leaves_the_others_their_advantages(make_model):
    """Whoever drops truncated ones after the baseline trains the rest on their own advantages."""
    model = make_model()
    rollouts = [r for i, r in enumerate(batch(ADVANTAGES)) if i not in (0, 5)]
    before = flat_weights(model)
    others = [r for i, r in enumerate(batch(ADVANTAGES)) if i not in (0, 5)]
    with_advantages(others, ADVANTAGES[:6])
    mistaken = naive_gradient(make_model(), others)
    gradient = naive_gradient(model, rollouts)
    mistakes = {"Each response is trained on another one's advantage": mistaken}
    check(before - weights_after(model, rollouts, **WIDE)[0], gradient, mistakes, 1e-4, 1e-3)


def test_micro_batches_hold_each_item_once_within_the_limit():
    """Number times largest stays within the tokens, but for one that alone is larger."""
    lengths = [5, 1, 9, 2, 2, 30, 7, 3]
    batches = micro_batches(lengths, lambda length: length, 12)
    assert sorted(length for items in batches for length in items) == sorted(lengths)
    assert all(len(items) == 1 or len(items) * max(items) <= 12 for items in batches)


def test_minibatches_are_separate_steps(make_model):
    """Two minibatches are two optimizer steps, each normalised by its own tokens.

    logprob_gap is the one before the first.
    """
    both, metrics = weights_after(make_model(), batch(ADVANTAGES), lr=0.1, minibatches=2)
    model = make_model()
    _, first = weights_after(model, batch(ADVANTAGES)[:4], lr=0.1)
    one_by_one, _ = weights_after(model, batch(ADVANTAGES)[4:], lr=0.1)
    check(both, one_by_one, atol=1e-5)
    assert metrics["logprob_gap"] == pytest.approx(first["logprob_gap"])


def test_more_minibatches_than_responses_are_one_each(make_model):
    """A batch may be as small as its one group that is not flat: three steps, and none is empty."""
    few = batch(ADVANTAGES)[:3]
    after, metrics = weights_after(make_model(), few, lr=0.01, minibatches=5)
    expected, _ = weights_after(make_model(), few, lr=0.01, minibatches=3)
    assert torch.equal(after, expected) and metrics["updates"] == 3


@pytest.mark.parametrize("rollouts", [[], batch([0.0] * 8)], ids=["none kept", "all flat"])
def test_nothing_to_learn_is_no_crash(make_model, rollouts):
    """Pitfall: all truncated, or all groups flat. Finite metrics and unchanged weights."""
    model = make_model()
    before = flat_weights(model)
    after, metrics = weights_after(model, rollouts)
    assert torch.equal(before, after) and all(math.isfinite(value) for value in metrics.values())


def test_a_step_without_finite_gradient_is_skipped(make_model):
    """The bad minibatch leaves no trace in the weights, and is counted; the next takes its step."""
    rollouts = batch([math.nan] * 4 + ADVANTAGES[4:])
    after, metrics = weights_after(make_model(), rollouts, minibatches=2)
    expected, _ = weights_after(make_model(), batch(ADVANTAGES)[4:])
    assert torch.equal(after, expected) and metrics["skipped"] == 1


def test_a_gradient_that_overflows_is_skipped_though_the_loss_is_finite(make_model):
    model = make_model()
    before = flat_weights(model)
    next(model.parameters()).register_hook(lambda gradient: gradient * math.inf)
    after, metrics = weights_after(model, batch(ADVANTAGES))
    assert torch.equal(before, after) and (metrics["updates"], metrics["skipped"]) == (0, 1)


def test_gradients_are_clipped_to_their_norm(make_model):
    """A step is no longer than the largest norm times the learning rate.

    The metric tells the norm before clipping.
    """
    model = make_model()
    before = flat_weights(model)
    after, metrics = weights_after(model, batch(ADVANTAGES), max_grad_norm=0.5)
    assert (after - before).norm().item() == pytest.approx(0.5, rel=1e-3)
    assert metrics["grad_norm"] > 0.5


def test_the_largest_gradient_has_a_norm_of_one(make_model):
    """Of each minibatch; it is not an option, since the paper's learning rate goes with it."""
    model = make_model()
    norms = []

    def note(*_):
        norms.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())

    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    optimizer.register_step_pre_hook(note)
    rollouts = batch([100 * advantage for advantage in ADVANTAGES])
    update(model, optimizer, rollouts, Config(minibatches=2))
    assert norms == pytest.approx([1.0, 1.0], rel=1e-3)


@pytest.mark.parametrize("micro_tokens, shared", [(27, 1), (26, 0)])
def test_prompts_are_shared_where_micro_tokens_have_room_for_them(make_model, micro_tokens, shared):
    """Three prompts, padded to nine tokens."""
    _, metrics = weights_after(make_model(), grouped(), micro_tokens=micro_tokens)
    assert metrics["shared_prompts"] == shared


def test_autocast_gradients_of_the_update_stay_near_fp32(make_model, monkeypatch):
    """The GPU path, tried on a CPU: matmuls in bf16, weights, gradients and loss in fp32."""
    moves = []
    types = set()
    for enabled in (False, True):
        model = make_model()
        for weight in model.parameters():
            weight.register_post_accumulate_grad_hook(lambda weight: types.add(weight.grad.dtype))
        before = flat_weights(model)
        bf16 = torch.autocast("cpu", torch.bfloat16, enabled=enabled)
        monkeypatch.setattr(grpo, "autocast", lambda device: bf16)
        moves.append(before - weights_after(model, batch(ADVANTAGES), **WIDE)[0])
    assert types == {torch.float32}
    # Old log-probs lie far off: bf16 moves the ratios by some per cent.
    assert 0 < (moves[1] - moves[0]).norm() < 0.2 * moves[0].norm()


def test_rewarded_responses_become_likelier(make_model):
    """The whole loop learns.

    After ten steps most responses contain token 9, which is all that the reward asks for.
    """
    model = make_model()
    rates = []
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(10):
        rollouts = generate(model, PROMPTS, max_new_tokens=6, stop_ids=STOPS, samples=16, seed=step)
        for rollout in rollouts:
            rollout.reward = float(9 in rollout.response_ids)
        rates.append(statistics.fmean(rollout.reward for rollout in rollouts))
        set_advantages([rollouts[i : i + 16] for i in range(0, len(rollouts), 16)])
        update(model, optimizer, rollouts, Config())
    assert rates[-1] > rates[0] + 0.3
