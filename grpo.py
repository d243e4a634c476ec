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
from transformers import DynamicCache

from logprobs import fused_loss, token_logprobs
from rollout import Rollout, cache_argument, pad_right
from support.model import forward_hidden

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


def fused_policy_loss(
    hidden,
    weight,
    targets,
    old_logprobs,
    advantages,
    weights,
    *,
    temperature=1.0,
    eps_low=0.2,
    eps_high=0.28,
    chunk=None,
):
    """policy_loss(token_logprobs(hidden, weight, targets), ...) in one pass; returns what logprobs.fused_loss does."""

    def loss_of(rows, logprobs):
        return policy_loss(
            logprobs, old_logprobs[rows], advantages[rows], weights[rows], eps_low, eps_high
        )

    return fused_loss(hidden, weight, targets, loss_of, temperature=temperature, chunk=chunk)


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
    micro_tokens: int = (
        16384  # padded tokens that go through the model at once: the knob for memory
    )
    max_grad_norm: float = 1.0


def response_hidden(model, rollouts):
    """The hidden states that predict the response tokens, laid end to end, (N, H), and those tokens, (N,) int64.

    The hidden state at position p predicts token p + 1: a response of R tokens after a prompt of P is predicted at
    P - 1 .. P + R - 2. The mask goes by lengths, never by token values, so a stop token that doubles as pad is
    neither lost nor learnt twice.
    """
    ids, _ = pad_right([r.prompt_ids + r.response_ids for r in rollouts], model.device)  # (B, T)
    rows = np.repeat(np.arange(len(rollouts)), [len(r.response_ids) for r in rollouts])
    columns = np.concatenate(
        [np.arange(len(r.prompt_ids), len(r.prompt_ids) + len(r.response_ids)) for r in rollouts]
    )
    rows, columns = torch.from_numpy(rows).to(ids.device), torch.from_numpy(columns).to(ids.device)
    # Right padding, causal: no attention mask needed.
    hidden = forward_hidden(model, input_ids=ids[:, :-1], use_cache=False)
    # Response positions are selected before the projection: prompt and padding are never projected to the vocabulary.
    return hidden[rows, columns - 1], ids[rows, columns]


def response_logprobs(model, rollouts, temperature):
    """Log-probs of all response tokens, laid end to end, (sum of response lengths,) fp32, with gradient."""
    hidden, tokens = response_hidden(model, rollouts)
    return token_logprobs(
        hidden, model.get_output_embeddings().weight, tokens, temperature=temperature
    )


class SharedPrompts:
    """The prompts of a minibatch, each run once for all its responses, in training as in sampling.

    The responses attend to detached copies of a prompt's keys and values, micro-batch by micro-batch; the gradients
    gather there, and `backward` takes them through the prompts once.
    """

    def __init__(self, model, rollouts):
        prompts = list(dict.fromkeys(tuple(r.prompt_ids) for r in rollouts))
        self.model, self.index = model, {prompt: i for i, prompt in enumerate(prompts)}
        ids, self.ends = pad_right(prompts, model.device)  # (U, P), (U,)
        cache = DynamicCache()
        hidden = forward_hidden(
            model, input_ids=ids, use_cache=True, **{cache_argument(model): cache}
        )
        last = hidden[
            torch.arange(len(prompts), device=ids.device), self.ends - 1
        ]  # (U, H): predicts the first token
        self.made = [last, *(t for layer in cache.layers for t in (layer.keys, layer.values))]
        self.copies = [state.detach().requires_grad_() for state in self.made]

    def response_hidden(self, rollouts):
        """What response_hidden returns, from the prompts' states."""
        (ids, lengths), device = (
            pad_right([r.response_ids for r in rollouts], self.model.device),
            self.model.device,
        )
        owner = torch.tensor(
            [self.index[tuple(r.prompt_ids)] for r in rollouts], device=device
        )  # (B,)
        # Not copy[owner]: its gradient adds up in whatever order the threads come, so that no run would be the same twice.
        last, *states = [copy.index_select(0, owner) for copy in self.copies]
        cache = DynamicCache()
        for layer in range(len(states) // 2):
            cache.update(states[2 * layer], states[2 * layer + 1], layer)  # (B, kv_heads, P, D)
        inputs, ends = (
            ids[:, : max(1, ids.shape[1] - 1)],
            self.ends[owner, None],
        )  # the last token predicts nothing
        times, columns = (
            torch.arange(n, device=device) for n in (inputs.shape[1], states[0].shape[2])
        )
        # (B, R, P + R): a response sees its own prompt, without padding, and what it has written.
        sees = torch.cat(
            [
                (columns < ends)[:, None].expand(-1, len(times), -1),
                (times <= times[:, None]).expand(len(ids), -1, -1),
            ],
            dim=-1,
        )
        hidden = forward_hidden(
            self.model,
            input_ids=inputs,
            position_ids=ends + times,
            attention_mask=sees[:, None],
            use_cache=True,
            **{cache_argument(self.model): cache},
        )
        hidden = torch.cat([last[:, None], hidden], dim=1)[
            :, : ids.shape[1]
        ]  # (B, R, H): at t, what predicts token t
        real = torch.arange(ids.shape[1], device=device) < lengths[:, None]
        return hidden[real], ids[real]

    def backward(self):
        torch.autograd.backward(self.made, [copy.grad for copy in self.copies])


def sharing_pays(rollouts, micro_tokens):
    """Whether running each prompt once saves a fifth of the tokens at least, and all prompts fit in a micro-batch.

    With long responses it saves little, and the mask that it needs keeps a GPU from its quickest attention.
    """
    prompts = {tuple(r.prompt_ids) for r in rollouts}
    once, each = sum(map(len, prompts)), sum(len(r.prompt_ids) for r in rollouts)
    saves = each - once > (each + sum(len(r.response_ids) for r in rollouts)) / 5
    return saves and len(prompts) * max(map(len, prompts)) <= micro_tokens


def micro_batches(lengths, tokens):
    """Lists of sequence indices, sorted by length and cut so that size times longest stays within `tokens`."""
    batches = [[]]
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batches[-1] and lengths[index] * (len(batches[-1]) + 1) > tokens:
            batches.append([])
        batches[-1].append(index)
    return batches


def update(
    model, optimizer, rollouts: list[Rollout], advantages, config: UpdateConfig, budget=None
):
    """One pass over the rollouts in `config.minibatches` optimizer steps: a dict of metrics.

    advantages: (len(rollouts),). Old log-probs are the sampler's own (nothing is computed twice); `logprob_gap`, the
    mean |difference| to the trainer's before the first step, is 0 up to rounding in fp32 and worth watching in bf16.
    Of the optimizer steps, `updates` were taken and `skipped` were not, since their loss or gradient was not finite;
    the other metrics are means over the minibatches that were taken, 0 if there was none.
    """
    if not rollouts:  # every group was flat: nothing to learn from, which is no reason to stop
        return {
            "loss": 0.0,
            "clipped": 0.0,
            "logprob_gap": 0.0,
            "grad_norm": 0.0,
            "updates": 0,
            "skipped": 0,
        }
    model.eval()  # dropout off, or the ratio is not 1 on the policy that sampled
    lengths = [len(r.response_ids) for r in rollouts]
    taken, skipped = [], 0
    for part in np.array_split(np.arange(len(rollouts)), min(config.minibatches, len(rollouts))):
        optimizer.zero_grad(set_to_none=True)
        metrics = {"loss": 0.0, "clipped": 0.0, "logprob_gap": 0.0}
        part_lengths = [lengths[i] for i in part]
        weights = token_weights(part_lengths, config.normalizer, budget).split(part_lengths)
        members = [rollouts[i] for i in part]
        shared = (
            SharedPrompts(model, members) if sharing_pays(members, config.micro_tokens) else None
        )
        padded = [len(r.response_ids) + (0 if shared else len(r.prompt_ids)) for r in members]
        for micro in micro_batches(padded, config.micro_tokens):
            batch = [members[i] for i in micro]
            old = torch.tensor([l for r in batch for l in r.logprobs], device=model.device)
            advantage = torch.cat(
                [torch.full((lengths[part[i]],), float(advantages[part[i]])) for i in micro]
            ).to(model.device)
            weight = torch.cat([weights[i] for i in micro]).to(model.device)
            hidden, tokens = (
                shared.response_hidden(batch) if shared else response_hidden(model, batch)
            )
            loss, logprobs, clipped = fused_policy_loss(
                hidden,
                model.get_output_embeddings().weight,
                tokens,
                old,
                advantage,
                weight,
                temperature=config.temperature,
                eps_low=config.eps_low,
                eps_high=config.eps_high,
            )
            loss.backward()  # summed, not averaged: the weights already carry the one global normaliser
            share = len(old) / sum(lengths[i] for i in part)
            metrics["loss"] += loss.item()
            metrics["clipped"] += share * clipped.item()
            metrics["logprob_gap"] += share * (logprobs - old).abs().mean().item()
        if shared:
            shared.backward()
        metrics["grad_norm"] = torch.nn.utils.clip_grad_norm_(
            model.parameters(), config.max_grad_norm
        ).item()
        if np.isfinite(metrics["grad_norm"] + metrics["loss"]):
            optimizer.step()
            taken.append(metrics)
        else:
            skipped += 1
    mean = {key: float(np.mean([m[key] for m in taken])) if taken else 0.0 for key in metrics}
    mean["logprob_gap"] = taken[0]["logprob_gap"] if taken else 0.0
    return mean | {"updates": len(taken), "skipped": skipped}
