"""The RL of TFPI: group advantages, dynamic sampling, DAPO's clipped loss, and the update step.

TFPI changes the prompt and nothing else (Section 3): J_TFPI(theta) = E_x[J_RLVR(theta, x')]. This
file is J_RLVR, and never learns whether a prompt is x or x'. It follows DAPO, as the paper does:

    A_i     = (R_i - mean(R_1..G)) / std(R_1..G)                           group_advantages
    r_{i,t} = pi_theta(y_{i,t} | x', y_{i,<t}) / pi_old(the same)          policy_loss
    loss    = - 1/(tokens of the batch)                                    token_weights
                * sum_{i,t} min(r A_i, clip(r, 1 - eps_low, 1 + eps_high) A_i)

All loss code works on *response tokens only*, laid end to end in one flat (N,) vector: no padding,
no mask, so no masked mean that can be wrong, no stop token dropped because it equals the pad token,
and no overflow that is multiplied by 0. Left out: the KL term (the paper has none), a value model,
an entropy bonus, overlong reward shaping (DAPO has it, the paper has no length reward).
"""

import time
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from logprobs import SharedPrompts, fused_loss, response_states, sharing_pays, token_logprobs
from support import ranks
from support.memory import memory_advice
from support.model import autocast
from support.offload import loss_scale, take_step

MAX_GRAD_NORM = 1.0

# --------------------------------------------------------------------------------------------------
# Advantages


def group_advantages(rewards, scale_by_std=True):
    """Advantages (G,) fp32 of one group's rewards (G,) (Section 3 of the paper; GRPO, eq. 3).

    Pitfall: std of a flat group. Equal rewards get exactly 0: their standard deviation is 0, or
    worse, 1e-8 by rounding. It is that of a sample (divided by G - 1). scale_by_std=False gives
    Dr.GRPO's advantages.
    """
    rewards = torch.as_tensor(rewards, dtype=torch.float32)
    if rewards.max() == rewards.min():
        return torch.zeros_like(rewards)
    centred = rewards - rewards.mean()
    return centred / rewards.std() if scale_by_std else centred


def set_advantages(groups):
    """Writes each group's advantages into its rollouts.

    Before anything else may leave a response out: pitfall: filtering before the baseline. From here
    on a response carries its advantage, whatever list it is put into.
    """
    for group in groups:
        advantages = group_advantages([rollout.reward for rollout in group])
        for rollout, advantage in zip(group, advantages.tolist()):
            rollout.advantage = advantage


def is_flat(group):
    """Whether a group teaches nothing: all of its responses are correct, or none."""
    return len({rollout.correct for rollout in group}) == 1


def dynamic_sampling(draw_groups, wanted, draws):
    """DAPO's dynamic sampling: draws until `wanted` groups are not flat, at most `draws` times.

    draw_groups(draw) samples and grades one draw: a list of groups, each a list of rollouts.
    Returns the groups that are kept, and all that were drawn, for the statistics. A group is kept
    whole or not at all: a truncated response is graded like any other and stays in its group's
    mean, or the group would look better than it is. Groups go by place, never by prompt text, so
    that two copies of a prompt stay two groups (pitfall: duplicate prompts).
    """
    kept = []
    drawn = []
    for draw in range(draws):
        groups = draw_groups(draw)
        drawn += groups
        kept += [group for group in groups if not is_flat(group)]
        if len(kept) >= wanted:
            break
    return kept[:wanted], drawn


# --------------------------------------------------------------------------------------------------
# Loss


def token_weights(lengths, normalizer="dapo", budget=None):
    """Each response token's weight in the loss, (N,) fp32, from the lengths of the *whole* batch.

    dapo: 1 / all tokens, so every token counts the same. grpo: 1 / (responses * own length), under
    which a token of a long wrong response counts less (pitfall: length bias). dr_grpo: 1 /
    (responses * budget). Pitfall: accumulation. Weights are fixed before the batch is cut into
    micro-batches, so how it is cut cannot change the gradient.
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
    """DAPO's clipped surrogate: a scalar loss, and the share of clipped tokens. All inputs (N,).

    Pitfall: clip sign. The minimum is pessimistic: for A > 0 the gradient stops above 1 + eps_high,
    for A < 0 below 1 - eps_low, and on the other side the ratio is never clipped.
    """
    # Pitfall: exp overflow. Clamped before: an infinite ratio would make 0 * inf in the gradient.
    ratio = (logprobs - old_logprobs).clamp(-20, 20).exp()
    surrogate = ratio * advantages
    clipped = ratio.clamp(1 - eps_low, 1 + eps_high) * advantages
    loss = -(torch.minimum(surrogate, clipped) * weights).sum()
    return loss, (clipped < surrogate).float().mean().detach()


# --------------------------------------------------------------------------------------------------
# The update


@memory_advice("updating the model", "Lower --micro-tokens, or try --recompute yes, --offload yes.")
def update(model, optimizer, rollouts, config, budget=None):
    """One pass over the rollouts, list[Rollout], in `config.minibatches` steps: a dict of metrics.

    config: the run's Config (temperature, clip range, normalizer, minibatches, memory).
    budget: the stage's, for dr_grpo. Old log-probs are the sampler's own (nothing is computed
    twice); `logprob_gap`, the mean |difference| to the trainer's before the first step, is 0 up
    to rounding in fp32 and worth watching in bf16. Of the optimizer steps, `updates` were taken
    and `skipped` were not, since their loss or gradient was not finite. The other metrics are means
    over the minibatches that were taken, and 0 if there was none (pitfall: all groups flat, which
    is no reason to stop).
    """
    started = time.monotonic()
    model.eval()  # dropout off, or the ratio is not 1 on the policy that sampled
    optimizer.zero_grad()
    taken = []
    parts = min(config.minibatches, len(rollouts))
    for indices in np.array_split(np.arange(len(rollouts)), parts) if parts else []:
        minibatch = [rollouts[i] for i in indices]
        with autocast(model):
            scale = loss_scale(optimizer)
            metrics = accumulate_gradient(model, minibatch, config, budget, scale)
        metrics["grad_norm"], finite = take_step(optimizer, metrics["loss"], MAX_GRAD_NORM)
        if finite:
            taken.append(metrics)
    names = ("loss", "clipped", "logprob_gap", "shared_prompts", "grad_norm")
    means = {name: float(np.mean([m[name] for m in taken])) if taken else 0.0 for name in names}
    means["logprob_gap"] = taken[0]["logprob_gap"] if taken else 0.0
    means |= {"updates": len(taken), "skipped": parts - len(taken)}
    return means | {"update_seconds": time.monotonic() - started}


def accumulate_gradient(model, minibatch, config, budget, scale=1.0):
    """Makes this rank's part of the gradient of one minibatch's loss, micro-batch by micro-batch.

    Returns a dict of metrics, of the whole minibatch. scale: what the loss is multiplied with,
    where its gradient would be too small for fp16.
    """
    lengths = [len(rollout.response_ids) for rollout in minibatch]
    weights = (scale * token_weights(lengths, config.normalizer, budget)).split(lengths)
    weighted = ranks.part(list(zip(minibatch, weights)), lengths)
    own = [rollout for rollout, _ in weighted]
    share_prompts = bool(own) and sharing_pays(own, config.micro_tokens)
    prompts = SharedPrompts(model, own) if share_prompts else None
    find_states = prompts.states_after_prompts if prompts else partial(response_states, model)

    def padded_length(item):
        rollout, _ = item
        return len(rollout.response_ids) + (0 if prompts else len(rollout.prompt_ids))

    clip = (config.eps_low, config.eps_high)
    metrics = dict.fromkeys(("loss", "clipped", "logprob_gap"), 0.0)
    metrics["shared_prompts"] = share_prompts / ranks.size()
    for batch in micro_batches(weighted, padded_length, config.micro_tokens):
        rollouts = [rollout for rollout, _ in batch]
        hidden, tokens = find_states(rollouts)  # (N, H), (N,)
        columns = token_batch(batch, hidden.device)
        loss, logprobs, clipped = fused_loss(
            hidden,
            model.get_output_embeddings().weight,
            tokens,
            lambda rows, logprobs: policy_loss(logprobs, *columns.at(rows), *clip),
            temperature=config.temperature,
        )
        # Summed, not averaged: the weights already carry the one global normaliser.
        loss.backward()
        share = len(tokens) / sum(lengths)
        metrics["loss"] += loss.item() / scale
        metrics["clipped"] += share * clipped.item()
        metrics["logprob_gap"] += share * (logprobs - columns.old_logprobs).abs().mean().item()
    if prompts:
        prompts.backward()
    totals = torch.tensor(list(metrics.values()), dtype=torch.float64)
    ranks.add_up([totals])
    return dict(zip(metrics, totals.tolist()))


class TokenBatch(NamedTuple):
    """What the loss knows of response tokens, laid end to end: each (N,) fp32."""

    old_logprobs: torch.Tensor  # the sampler's
    advantages: torch.Tensor
    weights: torch.Tensor

    def at(self, rows):
        return TokenBatch(*(column[rows] for column in self))


def token_batch(weighted, device):
    """The TokenBatch of pairs (rollout, its tokens' weights)."""
    old = [torch.tensor(rollout.logprobs) for rollout, _ in weighted]
    advantages = [torch.full((len(r.response_ids),), r.advantage) for r, _ in weighted]
    weights = [weights for _, weights in weighted]
    return TokenBatch(*(torch.cat(column).to(device) for column in (old, advantages, weights)))


def sampler_gap(model, rollouts, temperature):
    """The mean |difference| of the sampler's log-probs to the trainer's, nats a token."""
    model.eval()
    with torch.no_grad(), autocast(model):
        hidden, tokens = response_states(model, rollouts)
        head = model.get_output_embeddings().weight
        logprobs = token_logprobs(hidden, head, tokens, temperature=temperature)
    old = torch.tensor([p for r in rollouts for p in r.logprobs], device=logprobs.device)
    return (logprobs - old).abs().mean().item()


def micro_batches(items, size_of, tokens):
    """Lists of items, sorted by size; a list's length times its largest stays within `tokens`."""
    batches = []
    for item in sorted(items, key=size_of):
        if not batches or size_of(item) * (len(batches[-1]) + 1) > tokens:
            batches.append([])
        batches[-1].append(item)
    return batches
