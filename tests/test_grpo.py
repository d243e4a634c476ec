"""Advantages, loss, log-probs and update of grpo.py against float64 references, hand computations and per-sequence loops."""

import math
import statistics

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from grpo import (UpdateConfig, dynamic_sampling, fused_policy_loss, group_advantages, micro_batches, policy_loss,
                  response_logprobs, token_logprobs, token_weights, update)
from rollout import Rollout, generate

STOPS = {2, 3, 4}
PROMPTS = [[5, 6, 7, 8, 9], [4], [12, 3, 9], [7] * 8]


# ---------------------------------------------------------------------------------------------------------------------
# Advantages


def test_advantages_equal_the_formula_in_float64():
    """(R - mean) / std, group by group, with the standard deviation of a sample."""
    rewards = [1, 0, 0, 0, 0.2, 0.9, 0.4, 1, 1, 0, 1, 0]
    expected = []
    for group in (rewards[:4], rewards[4:8], rewards[8:]):
        expected += [(r - statistics.fmean(group)) / statistics.stdev(group) for r in group]
    torch.testing.assert_close(group_advantages(rewards, 4), torch.tensor(expected), atol=1e-6, rtol=1e-6)


def test_advantages_without_std_are_centred_rewards():
    """Dr.GRPO: the mean is subtracted, nothing divided."""
    torch.testing.assert_close(group_advantages([1, 0, 0, 0], 4, scale_by_std=False), torch.tensor([0.75, -0.25, -0.25, -0.25]))


@pytest.mark.parametrize("scale_by_std", [True, False])
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.35])
def test_a_flat_group_gets_exactly_zero(reward, scale_by_std):
    """Pitfall: std of a flat group. Neither 0 / 0 nor a rounding error over a rounding error, in any group size."""
    for size in (2, 3, 7, 8):
        assert not group_advantages([reward] * size + [0.0] * (size - 1) + [1.0], size, scale_by_std)[:size].any()


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


# ---------------------------------------------------------------------------------------------------------------------
# Dynamic sampling


def draws_of(*batches):
    """A draw_groups for groups of two: draw d gives rollouts named (d, i) and the rewards of batches[d]."""
    return lambda draw: ([(draw, i) for i in range(len(batches[draw]))], list(batches[draw]))


def test_dynamic_sampling_replaces_flat_groups():
    """Whole groups stay or go, in order; draws go on until enough groups are not flat, and the surplus is not kept."""
    draw = draws_of([1, 1, 0, 1], [0, 0, 0.35, 0.35], [1, 0, 0, 1], [9, 9, 9, 9])
    kept, kept_rewards, rollouts, rewards = dynamic_sampling(draw, prompts=2, group_size=2, draws=4)
    assert (kept, kept_rewards) == ([(0, 2), (0, 3), (2, 0), (2, 1)], [0, 1, 1, 0])
    assert rewards == [1, 1, 0, 1, 0, 0, 0.35, 0.35, 1, 0, 0, 1]  # the statistics see what was dropped; draw 3 never happened
    assert len(rollouts) == len(rewards)


def test_dynamic_sampling_stops_at_its_draws():
    """When all groups are flat it gives up after `draws`, with nothing kept and no error."""
    kept, kept_rewards, rollouts, _ = dynamic_sampling(draws_of([1, 1], [0, 0], [1, 0]), prompts=1, group_size=2, draws=2)
    assert (kept, kept_rewards, len(rollouts)) == ([], [], 4)
    assert len(group_advantages(kept_rewards, 2)) == 0


def test_truncated_samples_stay_in_their_group():
    """Pitfall: filtering before the baseline. A truncated sample is a wrong one, not a missing one."""
    group = [Rollout([1], [5, 2], [-1.0, -1.0], True), Rollout([1], [5, 5], [-1.0, -1.0], False), Rollout([1], [6, 2], [-1.0, -1.0], True)]
    kept, rewards, _, _ = dynamic_sampling(lambda draw: (group, [1.0, 0.0, 1.0]), prompts=1, group_size=3, draws=1)
    assert kept == group and rewards == [1.0, 0.0, 1.0]


# ---------------------------------------------------------------------------------------------------------------------
# Loss


@pytest.mark.parametrize("advantage, ratio, gradient", [(1, 0.5, 0.5), (1, 1.0, 1.0), (1, 1.25, 1.25), (1, 2.0, 0.0),
                                                        (-1, 0.5, 0.0), (-1, 0.75, 0.0), (-1, 1.0, -1.0), (-1, 2.0, -2.0)])
def test_clip_gradients(advantage, ratio, gradient):
    """Pitfall: clip sign. d(-loss)/d(logp) is r * A, but 0 where r has gone too far in A's direction; eps 0.2 below, 0.28 above."""
    logprob = torch.tensor([math.log(ratio)], requires_grad=True)
    loss, clipped = policy_loss(logprob, torch.zeros(1), torch.tensor([float(advantage)]), torch.ones(1), eps_low=0.2, eps_high=0.28)
    loss.backward()
    assert -logprob.grad.item() == pytest.approx(gradient, abs=1e-6)
    assert clipped.item() == (gradient == 0)


@pytest.mark.parametrize("normalizer, expected", [("dapo", -(3 * 1 - 6 * 2) / 9), ("grpo", -(1 - 2) / 2), ("dr_grpo", -(3 * 1 - 6 * 2) / (2 * 10))])
def test_loss_of_two_unequal_sequences(normalizer, expected):
    """Pitfall: length bias. 3 tokens with A = 1 and 6 with A = -2, all ratios 1, by hand; the budget is 10."""
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


# ---------------------------------------------------------------------------------------------------------------------
# Log-probs without the logits


def projection(count=50, width=12, vocabulary=30):
    """Random hidden states (N, H), weight (V, H), targets (N,) and an incoming gradient (N,)."""
    g = torch.Generator().manual_seed(0)
    return (torch.randn(count, width, generator=g), torch.randn(vocabulary, width, generator=g), torch.randint(vocabulary, (count,), generator=g),
            torch.randn(count, generator=g))


def naive_logprobs(hidden, weight, targets, temperature):
    return torch.log_softmax(hidden @ weight.T / temperature, dim=-1).gather(1, targets[:, None])[:, 0]


def backward(function, hidden, weight, grad):
    """The values of function(hidden, weight) and its gradients by both, for the incoming gradient."""
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    values = function(hidden, weight)
    values.backward(grad.to(values.dtype))
    return values.detach(), hidden.grad, weight.grad


@pytest.mark.parametrize("chunk", [1, 7, 50, None])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_token_logprobs_equal_log_softmax_in_float64(temperature, chunk):
    """Values and both gradients, whatever the chunk, temperature included."""
    hidden, weight, targets, grad = projection()
    ours = backward(lambda h, w: token_logprobs(h, w, targets, temperature=temperature, chunk=chunk), hidden, weight, grad)
    exact = backward(lambda h, w: naive_logprobs(h, w, targets, temperature), hidden.double(), weight.double(), grad)
    for a, b in zip(ours, exact):
        torch.testing.assert_close(a, b.float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_only_one_input_may_need_a_gradient(frozen):
    """A frozen projection, or a frozen body: the other gradient is still the full one."""
    hidden, weight, targets, grad = projection()
    free = (hidden if frozen == "weight" else weight).requires_grad_()
    [ours] = torch.autograd.grad(token_logprobs(hidden, weight, targets, chunk=7), free, grad)
    [exact] = torch.autograd.grad(naive_logprobs(hidden, weight, targets, 1.0), free, grad)
    torch.testing.assert_close(ours, exact, atol=1e-4, rtol=1e-4)


def test_bf16_is_no_worse_than_naive_bf16():
    """Pitfall: dtype. Softmax in fp32, and the weight's gradient summed over chunks in fp32, beat the plain bf16 computation."""
    hidden, weight, targets, grad = projection(count=1024, vocabulary=500)
    hidden, weight = hidden.bfloat16(), weight.bfloat16()
    exact = backward(lambda h, w: naive_logprobs(h, w, targets, 1.0), hidden.double(), weight.double(), grad)
    naive = backward(lambda h, w: naive_logprobs(h, w, targets, 1.0), hidden, weight, grad)
    ours = backward(lambda h, w: token_logprobs(h, w, targets, chunk=8), hidden, weight, grad)
    errors = [[((a.double() - e).norm() / e.norm()).item() for a, e in zip(values, exact)] for values in (ours, naive)]
    assert all(o <= 1.05 * n for o, n in zip(*errors))
    assert [v.dtype for v in ours] == [torch.float32, torch.bfloat16, torch.bfloat16]


class LargestTensor(TorchDispatchMode):
    """Notes the most elements of any tensor that an operation makes, and counts the matrix products."""

    elements, products = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.products += function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm_)
        result = function(*args, **kwargs or {})
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            self.elements = max(self.elements, tensor.numel() if isinstance(tensor, torch.Tensor) else 0)
        return result


def test_the_logits_never_exist_at_once():
    """Forward and backward hold one chunk of logits, 16 tokens of 512; and nothing of that size is kept between them."""
    hidden, weight, targets, _ = projection(count=256, width=8, vocabulary=512)
    saved = []
    with LargestTensor() as largest, torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        token_logprobs(hidden.requires_grad_(), weight.requires_grad_(), targets, chunk=16).sum().backward()
    assert largest.elements <= 16 * 512
    assert max(saved) <= weight.numel()


def test_logprobs_are_never_positive():
    """A certain token has log-prob 0, not a rounding error above it."""
    hidden, weight, targets, _ = projection()
    assert (token_logprobs(100 * hidden, weight, targets) <= 0).all()


# ---------------------------------------------------------------------------------------------------------------------
# The loss fused with the projection


def off_policy(logprobs):
    """Old log-probs that put ratios on both sides of both clips, advantages of both signs, uneven weights; all (N,)."""
    g = torch.Generator().manual_seed(1)
    return (logprobs + 0.5 * torch.randn(len(logprobs), generator=g), torch.randn(len(logprobs), generator=g),
            torch.rand(len(logprobs), generator=g))


@pytest.mark.parametrize("chunk", [1, 7, 50, None])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_fused_policy_loss_equals_the_plain_one_in_float64(temperature, chunk):
    """Loss, log-probs, clipped share and both gradients: made in forward, chunk by chunk, and scaled in backward."""
    hidden, weight, targets, _ = projection()
    batch = off_policy(naive_logprobs(hidden, weight, targets, temperature))

    def fused(h, w):
        return fused_policy_loss(h, w, targets, *batch, temperature=temperature, eps_low=0.1, eps_high=0.3, chunk=chunk)

    def plain(h, w):
        return policy_loss(naive_logprobs(h, w, targets, temperature), *batch, eps_low=0.1, eps_high=0.3)

    scale = torch.tensor(3.0)  # as a loss that is divided or added to before backward would bring
    ours = backward(lambda h, w: fused(h, w)[0], hidden, weight, scale)
    exact = backward(lambda h, w: plain(h, w)[0], hidden.double(), weight.double(), scale)
    for a, b in zip(ours, exact):
        torch.testing.assert_close(a, b.float(), atol=1e-4, rtol=1e-4)
    _, logprobs, clipped = fused(hidden, weight)
    torch.testing.assert_close(logprobs, naive_logprobs(hidden, weight, targets, temperature), atol=1e-4, rtol=0)
    assert 0 < clipped < 1 and clipped == pytest.approx(plain(hidden, weight)[1].item())


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_only_one_input_of_the_fused_loss_may_need_a_gradient(frozen):
    """A frozen projection, or a frozen body: the other gradient is still the full one."""
    hidden, weight, targets, _ = projection()
    batch = off_policy(naive_logprobs(hidden, weight, targets, 1.0))
    free = (hidden if frozen == "weight" else weight).requires_grad_()
    [ours] = torch.autograd.grad(fused_policy_loss(hidden, weight, targets, *batch, chunk=7)[0], free)
    [exact] = torch.autograd.grad(policy_loss(naive_logprobs(hidden, weight, targets, 1.0), *batch)[0], free)
    torch.testing.assert_close(ours, exact, atol=1e-4, rtol=1e-4)


def test_the_fused_loss_never_holds_the_logits_and_makes_each_once():
    """Three products a chunk and nothing larger than a chunk of logits or the weight."""
    hidden, weight, targets, _ = projection(count=256, width=8, vocabulary=512)
    batch = off_policy(naive_logprobs(hidden, weight, targets, 1.0))
    with LargestTensor() as seen:
        fused_policy_loss(hidden.requires_grad_(), weight.requires_grad_(), targets, *batch, chunk=16)[0].backward()
    assert seen.elements <= 16 * 512
    assert seen.products == 3 * 256 // 16


def test_bf16_gradients_of_the_fused_loss_are_no_worse_than_naive_bf16():
    """Pitfall: dtype. A nearly certain token's gradient is a small difference: it is taken before the cast to bf16."""
    hidden, weight, targets, _ = projection(count=1024, vocabulary=500)
    hidden, weight = (3 * hidden).bfloat16(), weight.bfloat16()
    targets = (hidden.float() @ weight.float().T).argmax(dim=-1)
    # Never clipped: where the clip sets in, bf16 logits decide by chance.
    batch, clip = off_policy(naive_logprobs(hidden.double(), weight.double(), targets, 1.0).float()), (100.0, 100.0)
    exact, naive = (backward(lambda h, w: policy_loss(naive_logprobs(h, w, targets, 1.0), *batch, *clip)[0], h, w, torch.tensor(1.0))
                    for h, w in ((hidden.double(), weight.double()), (hidden, weight)))
    ours = backward(lambda h, w: fused_policy_loss(h, w, targets, *batch, eps_low=100.0, eps_high=100.0, chunk=8)[0],
                    hidden, weight, torch.tensor(1.0))
    errors = [[((a.double() - e).norm() / e.norm()).item() for a, e in zip(values[1:], exact[1:])] for values in (ours, naive)]
    assert all(o <= 1.05 * n for o, n in zip(*errors))


# ---------------------------------------------------------------------------------------------------------------------
# Log-probs of responses


def sequence(prompt, response, logprob=-2.0):
    return Rollout(prompt, response, [logprob] * len(response), True)


def naive_response_logprobs(model, rollout, temperature=1.0):
    """One sequence alone, all its logits; the logits at position p are those of token p + 1."""
    scores = model(input_ids=torch.tensor([rollout.prompt_ids + rollout.response_ids]), use_cache=False).logits[0] / temperature
    return torch.stack([torch.log_softmax(scores[len(rollout.prompt_ids) + t - 1], dim=0)[token] for t, token in enumerate(rollout.response_ids)])


MIXED = [sequence([5], [6, 7, 2]), sequence([5, 6, 7, 8, 9, 10], [11]), sequence([4, 0, 9], [12, 13, 0, 14, 3]), sequence([0], [0])]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_response_logprobs_equal_one_sequence_at_a_time(model, temperature):
    """Pitfalls: shift off by one, padding. Prompts of 1 to 6 tokens, responses of 1 to 5, in one right-padded batch."""
    expected = torch.cat([naive_response_logprobs(model, r, temperature) for r in MIXED])
    torch.testing.assert_close(response_logprobs(model, MIXED, temperature), expected, atol=1e-4, rtol=0)


def test_a_left_padded_batch_gives_the_same(model):
    """Pitfall: padding and positions. The trainer's right padding agrees with left padding, mask and positions from the first real token."""
    width = max(len(r.prompt_ids + r.response_ids) for r in MIXED)
    expected = []
    for r in MIXED:
        ids, pads = r.prompt_ids + r.response_ids, width - len(r.prompt_ids + r.response_ids)
        logits = model(input_ids=torch.tensor([[0] * pads + ids]), attention_mask=torch.tensor([[0] * pads + [1] * len(ids)]),
                       position_ids=torch.tensor([[0] * pads + list(range(len(ids)))])).logits[0]
        expected += [torch.log_softmax(logits[width - len(r.response_ids) + t - 1], 0)[token] for t, token in enumerate(r.response_ids)]
    torch.testing.assert_close(response_logprobs(model, MIXED, 1.0), torch.stack(expected), atol=1e-4, rtol=0)


def test_the_stop_token_is_learnt_and_padding_is_not(model):
    """Pitfalls: EOS dropped from the loss, or tokens after it in the loss. Id 0 is pad and stop: gradient reaches the position before the stop token, no further."""
    embedded = []
    hook = model.get_input_embeddings().register_forward_hook(lambda module, args, output: embedded.append(output) or output.retain_grad())
    response_logprobs(model, [sequence([5, 6], [7, 0]), sequence([5, 6, 8], [9, 10, 11, 12, 0])], 1.0).sum().backward()
    hook.remove()
    model.zero_grad()
    reached = embedded[0].grad.abs().sum(dim=-1) > 0  # (2, 7)
    assert reached.tolist() == [[True] * 3 + [False] * 4, [True] * 7]


# ---------------------------------------------------------------------------------------------------------------------
# The update


BATCH = MIXED + [sequence([9] * 9, [10, 11]), sequence([1, 2], [30]), sequence([8], [7, 6, 5, 2]), sequence([33, 34], [35, 36, 37])]
ADVANTAGES = [1.0, -1.0, 0.5, -0.5, 2.0, -1.0, 1.0, -2.0]


def weights_after(model, rollouts, advantages, lr=1.0, **config):
    """All weights after one update by plain gradient descent without gradient clipping, and its metrics; the model keeps them."""
    metrics = update(model, torch.optim.SGD(model.parameters(), lr=lr), rollouts, advantages, UpdateConfig(**{"max_grad_norm": 1e9, **config}), budget=20)
    return torch.cat([p.detach().flatten() for p in model.parameters()]), metrics


@pytest.mark.parametrize("dtype, temperature, bound", [(torch.float32, 1.0, 1e-5), (torch.float32, 0.6, 1e-5), (torch.bfloat16, 1.0, 0.05)])
def test_on_policy_ratio_is_one(make_model, dtype, temperature, bound):
    """Pitfalls: dtype, temperature. Before the first step sampler and trainer agree: to rounding in fp32, nearly in bf16."""
    model = make_model().to(dtype)
    rollouts = generate(model, PROMPTS, max_new_tokens=12, stop_ids=STOPS, temperature=temperature, samples=2)
    _, metrics = weights_after(model, rollouts, ADVANTAGES, temperature=temperature)
    assert metrics["logprob_gap"] < bound


@pytest.mark.parametrize("inside", [True, False], ids=["backward inside autocast", "backward outside"])
def test_autocast_gradients_stay_near_fp32(make_model, inside):
    """The GPU path, tried on a CPU: forward and backward must make the same logits, wherever backward runs."""
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
    """Dropout in the update would make the ratio noise; the policy that is trained is the one that sampled."""
    model = make_model(attention_dropout=0.5)
    rollouts = generate(model, PROMPTS, max_new_tokens=12, stop_ids=STOPS, samples=2)
    assert weights_after(model, rollouts, ADVANTAGES)[1]["logprob_gap"] < 1e-5


@pytest.mark.parametrize("normalizer", ["dapo", "grpo", "dr_grpo"])
@pytest.mark.parametrize("micro_tokens, batches", [(1, [1] * 8), (11, [2, 2, 1, 1, 1, 1]), (1000, [8])])
def test_micro_batches_do_not_change_the_gradient(make_model, normalizer, micro_tokens, batches):
    """Pitfall: accumulation. One normaliser for the batch: sequences one by one, in twos or all at once give a naive loop's gradient."""
    model, sizes = make_model(), []
    before, total = torch.cat([p.detach().flatten() for p in model.parameters()]), sum(len(r.response_ids) for r in BATCH)
    for r, advantage in zip(BATCH, ADVANTAGES):
        ratio = (naive_response_logprobs(model, r) - torch.tensor(r.logprobs)).exp()
        gains = torch.minimum(ratio * advantage, ratio.clamp(0.4, 3.0) * advantage)
        (-gains.sum() / {"dapo": total, "grpo": 8 * len(r.response_ids), "dr_grpo": 8 * 20}[normalizer]).backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    hook = model.base_model.register_forward_pre_hook(lambda module, args, inputs: sizes.append(len(inputs["input_ids"])), with_kwargs=True)
    after, _ = weights_after(model, BATCH, ADVANTAGES, normalizer=normalizer, micro_tokens=micro_tokens, eps_low=0.6, eps_high=2.0)
    hook.remove()
    torch.testing.assert_close(before - after, gradient, atol=1e-4, rtol=1e-3)
    assert sorted(sizes) == sorted(batches)


def test_micro_batches_hold_each_sequence_once_within_the_limit():
    """Size times longest stays within the tokens, except for a sequence that is longer than that alone."""
    lengths = [5, 1, 9, 2, 2, 30, 7, 3]
    batches = micro_batches(lengths, 12)
    assert sorted(i for batch in batches for i in batch) == list(range(8))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 12 for batch in batches)


def test_minibatches_are_separate_steps(make_model):
    """Two minibatches are two optimizer steps, each normalised by its own tokens; logprob_gap is the one before the first."""
    both, metrics = weights_after(make_model(), BATCH, ADVANTAGES, lr=0.1, minibatches=2)
    model = make_model()
    _, first = weights_after(model, BATCH[:4], ADVANTAGES[:4], lr=0.1)
    one_by_one, _ = weights_after(model, BATCH[4:], ADVANTAGES[4:], lr=0.1)
    torch.testing.assert_close(both, one_by_one, atol=1e-5, rtol=1e-4)
    assert metrics["logprob_gap"] == pytest.approx(first["logprob_gap"])


@pytest.mark.parametrize("rollouts, advantages", [([], []), (BATCH, [0.0] * 8)], ids=["none kept", "all flat"])
def test_nothing_to_learn_is_no_crash(make_model, rollouts, advantages):
    """Pitfall: all truncated, or all groups flat. Finite metrics and unchanged weights."""
    model = make_model()
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    after, metrics = weights_after(model, rollouts, advantages)
    assert torch.equal(before, after) and all(math.isfinite(value) for value in metrics.values())


def test_a_step_without_finite_gradient_is_skipped(make_model):
    """The bad minibatch leaves no trace in the weights, is counted, and the good one after it takes its step."""
    after, metrics = weights_after(make_model(), BATCH, [math.nan] * 4 + ADVANTAGES[4:], minibatches=2)
    expected, _ = weights_after(make_model(), BATCH[4:], ADVANTAGES[4:])
    assert torch.equal(after, expected) and metrics["skipped"] == 1


def test_gradients_are_clipped_to_their_norm(make_model):
    """A step is no longer than max_grad_norm times the learning rate; the metric tells the norm before clipping."""
    model = make_model()
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    after, metrics = weights_after(model, BATCH, ADVANTAGES, max_grad_norm=0.5)
    assert (after - before).norm().item() == pytest.approx(0.5, rel=1e-3) and metrics["grad_norm"] > 0.5


def test_rewarded_responses_become_likelier(make_model):
    """The whole loop learns: after ten steps most responses contain token 9, which is all that the reward asks for."""
    model, rates = make_model(), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(10):
        rollouts = generate(model, PROMPTS, max_new_tokens=6, stop_ids=STOPS, samples=16, seed=step)
        rewards = [float(9 in r.response_ids) for r in rollouts]
        rates.append(statistics.fmean(rewards))
        update(model, optimizer, rollouts, group_advantages(rewards, 16), UpdateConfig())
    assert rates[-1] > rates[0] + 0.3
