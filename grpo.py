"""The RL of TFPI: group advantages, DAPO's clipped loss, log-probs without the logits, and the update step.

TFPI changes the prompt and nothing else (Section 3): J_TFPI(theta) = E_x[J_RLVR(theta, x')]. This file is J_RLVR, and
never learns whether a prompt is x or x'. It follows DAPO, as the paper does:

    A_i      = (R_i - mean(R_1..G)) / std(R_1..G)                                 group_advantages
    r_{i,t}  = pi_theta(y_{i,t} | x', y_{i,<t}) / pi_old(y_{i,t} | x', y_{i,<t})  token_logprobs, policy_loss
    loss     = - 1/(tokens of the batch) * sum_{i,t} min(r A_i, clip(r, 1 - eps_low, 1 + eps_high) A_i)

All loss code works on *response tokens only*, laid end to end in one flat (N,) vector: no padding, no mask, so no
masked mean that can be wrong, no stop token dropped because it equals the pad token, and no overflow that is
multiplied by 0. Left out: the KL term (the paper has none), a value model, an entropy bonus, overlong reward shaping
(DAPO has it, the paper has no length reward).
"""

from dataclasses import dataclass

import numpy as np
import torch

from load import forward_hidden
from rollout import Rollout, pad_right

# ---------------------------------------------------------------------------------------------------------------------
# Advantages


def group_advantages(rewards, group_size, scale_by_std=True):
    """Advantages (N,) fp32 of rewards (N,), group by group (Section 3 of the paper; GRPO, eq. 3).

    Group g is rewards[g * group_size:(g + 1) * group_size]. Groups go by index, never by prompt text, so that two
    copies of a prompt stay two groups. A group whose rewards are all equal gets exactly 0: its standard deviation is
    0, or worse, 1e-8 by rounding. scale_by_std=False gives Dr.GRPO's advantages. The standard deviation is that of a
    sample (divided by G - 1).
    """
    if group_size < 1 or len(rewards) % group_size:
        raise ValueError(f"{len(rewards)} rewards do not make groups of {group_size}.")
    if not len(rewards):
        return torch.zeros(0)
    groups = torch.as_tensor(rewards, dtype=torch.float32).view(-1, group_size)
    flat = flat_groups(rewards, group_size)
    centred = groups - groups.mean(dim=1, keepdim=True)
    if scale_by_std and group_size > 1:
        centred = centred / groups.std(dim=1, keepdim=True).masked_fill(flat[:, None], 1.0)
    return centred.masked_fill(flat[:, None], 0.0).flatten()


def flat_groups(rewards, group_size):
    """Which groups have equal rewards, (N / group_size,) bool: they teach nothing; dynamic sampling replaces them."""
    groups = torch.as_tensor(rewards, dtype=torch.float32).view(-1, group_size)
    return groups.amax(dim=1) == groups.amin(dim=1)


def dynamic_sampling(draw_groups, prompts, group_size, draws):
    """DAPO's dynamic sampling: draws until `prompts` groups are not flat, at most `draws` times.

    draw_groups(draw) samples and grades one draw, (rollouts, rewards) in whole groups. Returns the
    rollouts and rewards of the kept groups, then those of all groups, for the statistics. Only whole
    groups are dropped: a truncated response is graded like any other and stays in its group's mean, or the
    group would look better than it is.
    """
    kept, kept_rewards, rollouts, rewards = [], [], [], []
    for draw in range(draws):
        new, graded = draw_groups(draw)
        rollouts, rewards = rollouts + new, rewards + graded
        for group, flat in enumerate(flat_groups(graded, group_size).tolist()):
            if not flat and len(kept) < prompts * group_size:
                members = slice(group * group_size, (group + 1) * group_size)
                kept, kept_rewards = kept + new[members], kept_rewards + graded[members]
        if len(kept) == prompts * group_size:
            break
    return kept, kept_rewards, rollouts, rewards


# ---------------------------------------------------------------------------------------------------------------------
# Loss


def token_weights(lengths, normalizer="dapo", budget=None):
    """Each response token's weight in the loss, (sum of lengths,) fp32, from the lengths of the *whole* batch.

    dapo: 1 / all tokens, so every token counts the same. grpo: 1 / (responses * own length), under which a token of a
    long wrong response counts less (the length bias). dr_grpo: 1 / (responses * budget). Weights are fixed before the
    batch is cut into micro-batches, so how it is cut cannot change the gradient.
    """
    lengths = torch.as_tensor(lengths)
    if normalizer == "dapo":
        weight = torch.full((len(lengths),), 1.0 / lengths.sum().item())
    elif normalizer == "grpo":
        weight = 1.0 / (len(lengths) * lengths.float())
    elif normalizer == "dr_grpo":
        weight = torch.full((len(lengths),), 1.0 / (len(lengths) * budget))
    else:
        raise ValueError(f"normalizer {normalizer!r} is not one of dapo, grpo, dr_grpo.")
    return weight.repeat_interleave(lengths)


def policy_loss(logprobs, old_logprobs, advantages, weights, eps_low=0.2, eps_high=0.28):
    """DAPO's clipped surrogate: a scalar loss and the share of clipped tokens. All inputs (N,), one a response token.

    The minimum is pessimistic: for A > 0 the gradient stops above 1 + eps_high, for A < 0 below 1 - eps_low, and on
    the other side the ratio is never clipped.
    """
    # Clamped before exp: an infinite ratio would make 0 * inf in the gradient.
    ratio = (logprobs - old_logprobs).clamp(-20, 20).exp()
    surrogate, clipped = ratio * advantages, ratio.clamp(1 - eps_low, 1 + eps_high) * advantages
    loss = -(torch.minimum(surrogate, clipped) * weights).sum()
    return loss, (clipped < surrogate).float().mean().detach()


def project_chunks(hidden, weight, targets, temperature, chunk, token_grad=None, grad_hidden=None, grad_weight=None):
    """Log-probs (N,) fp32 of the targets, a chunk of tokens at a time; with `token_grad`, gradients in the same pass.

    token_grad(rows, logprobs) gives d loss / d logprobs (C,) of a chunk as soon as its log-probs are known. It goes
    through the projection by

        d loss / d logits = grad / temperature * (onehot - probs)                      # (C, V)

    into grad_hidden (N, H), which is filled, and grad_weight (V, H) fp32, which is added to; either may be None. One
    (C, V) buffer is overwritten again and again, since making new ones costs more than the arithmetic on a CPU.
    """
    logprobs = hidden.new_empty(len(hidden), dtype=torch.float32)
    for i in range(0, len(hidden), chunk):
        rows, logits, exps, spread = slice(i, i + chunk), None, None, None  # the last chunk's buffer is free again
        logits = (hidden[rows] @ weight.T).float()  # fp32, since a bf16 log-sum-exp is off by 0.07 at V = 152k
        if temperature != 1:
            logits /= temperature
        largest, chosen = logits.amax(dim=-1, keepdim=True), logits.gather(1, targets[rows, None])  # (C, 1)
        exps = logits.sub_(largest).exp_()
        sums = exps.sum(dim=-1, keepdim=True)
        logprobs[rows] = (chosen - largest - sums.log())[:, 0]
        if token_grad is None:
            continue
        # exps - sums * onehot is (probs - onehot) times sums. What scales a row is applied to the small matrices.
        factor = -token_grad(rows, logprobs[rows])[:, None] / (sums * temperature)  # (C, 1)
        spread = exps.scatter_add_(1, targets[rows, None], -sums).to(hidden.dtype)
        if grad_hidden is not None:
            grad_hidden[rows] = (spread @ weight) * factor
        if grad_weight is not None:
            scaled = (hidden[rows] * factor).to(hidden.dtype)
            if hidden.dtype == torch.float32:
                grad_weight.addmm_(spread.T, scaled)  # in place: a product is as large as the weight
            else:
                grad_weight += spread.T @ scaled  # summed in fp32 over the chunks
    return logprobs


def empty_gradients(ctx, hidden, weight):
    """Room for the two gradients, None where none is needed; the weight's is summed in fp32."""
    needs_hidden, needs_weight = ctx.needs_input_grad[:2]
    return (torch.empty_like(hidden) if needs_hidden else None,
            torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None)


class TokenLogprobs(torch.autograd.Function):
    """Log-probs whose backward makes each chunk's logits again: four matmuls where autograd has three.

    Chunking under plain autograd would save nothing, since every chunk's logits would be kept for its backward.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets, temperature, chunk, dtype):
        ctx.save_for_backward(hidden, weight, targets)
        ctx.options = temperature, chunk, dtype
        return project_chunks(hidden.to(dtype), weight.to(dtype), targets, temperature, chunk)

    @staticmethod
    def backward(ctx, grad):
        hidden, weight, targets = ctx.saved_tensors
        temperature, chunk, dtype = ctx.options
        grad_hidden, grad_weight = empty_gradients(ctx, hidden, weight)
        project_chunks(hidden.to(dtype), weight.to(dtype), targets, temperature, chunk,
                       lambda rows, logprobs: grad[rows], grad_hidden, grad_weight)
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None, None, None, None


class FusedPolicyLoss(torch.autograd.Function):
    """policy_loss and the projection in one: a token's gradient is made in forward, so no logits are made twice."""

    @staticmethod
    def forward(ctx, hidden, weight, targets, loss_of, temperature, chunk, dtype):
        chunk_losses = []

        def token_grad(rows, logprobs):
            logprobs = logprobs.detach().requires_grad_()
            with torch.enable_grad():
                loss, clipped = loss_of(rows, logprobs)
            chunk_losses.append(torch.stack([loss.detach(), clipped * len(logprobs)]))
            return torch.autograd.grad(loss, logprobs)[0]

        ctx.gradients = empty_gradients(ctx, hidden, weight)
        ctx.weight_dtype = weight.dtype
        logprobs = project_chunks(hidden.to(dtype), weight.to(dtype), targets, temperature, chunk, token_grad,
                                  *ctx.gradients)
        loss, clipped = torch.stack(chunk_losses).sum(dim=0)
        ctx.mark_non_differentiable(logprobs, clipped)
        return loss, logprobs, clipped / len(hidden)

    @staticmethod
    def backward(ctx, grad, *_):
        grad_hidden, grad_weight = ctx.gradients
        del ctx.gradients  # scaled in place, hence good for one backward
        return (None if grad_hidden is None else grad_hidden.mul_(grad),
                None if grad_weight is None else grad_weight.mul_(grad).to(ctx.weight_dtype), *[None] * 5)


def plan_chunks(hidden, weight, chunk):
    """Tokens a chunk, by default about 128 MB of logits, and the type of the matmuls.

    Under autocast the type is decided here, once: backward must make the same logits as forward.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    return chunk or max(16, 2 ** 25 // weight.shape[0]), dtype


def token_logprobs(hidden, weight, targets, *, temperature=1.0, chunk=None):
    """Log-probs (N,) fp32 of targets (N,) int64 under softmax(hidden @ weight.T / temperature), with gradient.

    The (N, V) logits are never held at once. hidden (N, H), weight (V, H), both of one float type; chunk: tokens at
    a time. The sampler's temperature must be given here too, or ratio and gradient belong to another distribution
    than the one sampled from. For any loss of log-probs; fused_policy_loss is quicker for the one we train with.
    """
    return TokenLogprobs.apply(hidden, weight, targets, temperature, *plan_chunks(hidden, weight, chunk))


def fused_policy_loss(hidden, weight, targets, old_logprobs, advantages, weights, *,
                      temperature=1.0, eps_low=0.2, eps_high=0.28, chunk=None):
    """policy_loss(token_logprobs(hidden, weight, targets), ...) in one pass, with its gradients made on the way.

    Arguments as of both. Returns the loss, which can be backpropagated once; the log-probs (N,) fp32, without
    gradient; and the share of clipped tokens.
    """
    def loss_of(rows, logprobs):
        return policy_loss(logprobs, old_logprobs[rows], advantages[rows], weights[rows], eps_low, eps_high)

    return FusedPolicyLoss.apply(hidden, weight, targets, loss_of, temperature, *plan_chunks(hidden, weight, chunk))


# ---------------------------------------------------------------------------------------------------------------------
# The update


@dataclass
class UpdateConfig:
    """What one update needs to know; defaults are the paper's or DAPO's."""

    temperature: float = 1.0  # the sampler's
    eps_low: float = 0.2
    eps_high: float = 0.28
    normalizer: str = "dapo"
    minibatches: int = 1  # optimizer steps a batch; from the second on, the ratio leaves 1
    micro_tokens: int = 16384  # padded tokens that go through the model at once: the knob for memory
    max_grad_norm: float = 1.0


def response_hidden(model, rollouts):
    """The hidden states that predict the response tokens, laid end to end, (N, H), and those tokens, (N,) int64.

    The hidden state at position p predicts token p + 1: a response of R tokens after a prompt of P is predicted at
    P - 1 .. P + R - 2. The mask goes by lengths, never by token values, so a stop token that doubles as pad is
    neither lost nor learnt twice.
    """
    ids, _ = pad_right([r.prompt_ids + r.response_ids for r in rollouts], model.device)  # (B, T)
    rows = np.repeat(np.arange(len(rollouts)), [len(r.response_ids) for r in rollouts])
    columns = np.concatenate([np.arange(len(r.prompt_ids), len(r.prompt_ids) + len(r.response_ids))
                              for r in rollouts])
    rows, columns = torch.from_numpy(rows).to(ids.device), torch.from_numpy(columns).to(ids.device)
    # Right padding, causal: no attention mask needed.
    hidden = forward_hidden(model, input_ids=ids[:, :-1], use_cache=False)
    # Response positions are selected before the projection: prompt and padding are never projected to the vocabulary.
    return hidden[rows, columns - 1], ids[rows, columns]


def response_logprobs(model, rollouts, temperature):
    """Log-probs of all response tokens, laid end to end, (sum of response lengths,) fp32, with gradient."""
    hidden, tokens = response_hidden(model, rollouts)
    return token_logprobs(hidden, model.get_output_embeddings().weight, tokens, temperature=temperature)


def micro_batches(lengths, tokens):
    """Lists of sequence indices, sorted by length and cut so that size times longest stays within `tokens`."""
    batches = [[]]
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batches[-1] and lengths[index] * (len(batches[-1]) + 1) > tokens:
            batches.append([])
        batches[-1].append(index)
    return batches


def update(model, optimizer, rollouts: list[Rollout], advantages, config: UpdateConfig, budget=None):
    """One pass over the rollouts in `config.minibatches` optimizer steps: a dict of metrics.

    advantages: (len(rollouts),). Old log-probs are the sampler's own (nothing is computed twice); `logprob_gap`, the
    mean |difference| to the trainer's before the first step, is 0 up to rounding in fp32 and worth watching in bf16.
    Of the optimizer steps, `updates` were taken and `skipped` were not, since their loss or gradient was not finite;
    the other metrics are means over the minibatches that were taken, 0 if there was none.
    """
    if not rollouts:  # every group was flat: nothing to learn from, which is no reason to stop
        return {"loss": 0.0, "clipped": 0.0, "logprob_gap": 0.0, "grad_norm": 0.0, "updates": 0, "skipped": 0}
    model.eval()  # dropout off, or the ratio is not 1 on the policy that sampled
    lengths = [len(r.response_ids) for r in rollouts]
    taken, skipped = [], 0
    for part in np.array_split(np.arange(len(rollouts)), min(config.minibatches, len(rollouts))):
        optimizer.zero_grad(set_to_none=True)
        metrics = {"loss": 0.0, "clipped": 0.0, "logprob_gap": 0.0}
        part_lengths = [lengths[i] for i in part]
        weights = token_weights(part_lengths, config.normalizer, budget).split(part_lengths)
        for micro in micro_batches([len(rollouts[i].prompt_ids) + lengths[i] for i in part], config.micro_tokens):
            batch = [rollouts[part[i]] for i in micro]
            old = torch.tensor([l for r in batch for l in r.logprobs], device=model.device)
            advantage = torch.cat([torch.full((lengths[part[i]],), float(advantages[part[i]]))
                                   for i in micro]).to(model.device)
            weight = torch.cat([weights[i] for i in micro]).to(model.device)
            hidden, tokens = response_hidden(model, batch)
            loss, logprobs, clipped = fused_policy_loss(
                hidden, model.get_output_embeddings().weight, tokens, old, advantage, weight,
                temperature=config.temperature, eps_low=config.eps_low, eps_high=config.eps_high)
            loss.backward()  # summed, not averaged: the weights already carry the one global normaliser
            share = len(old) / sum(lengths[i] for i in part)
            metrics["loss"] += loss.item()
            metrics["clipped"] += share * clipped.item()
            metrics["logprob_gap"] += share * (logprobs - old).abs().mean().item()
        metrics["grad_norm"] = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm).item()
        if np.isfinite(metrics["grad_norm"] + metrics["loss"]):
            optimizer.step()
            taken.append(metrics)
        else:
            skipped += 1
    mean = {key: float(np.mean([m[key] for m in taken])) if taken else 0.0 for key in metrics}
    mean["logprob_gap"] = taken[0]["logprob_gap"] if taken else 0.0
    return mean | {"updates": len(taken), "skipped": skipped}
