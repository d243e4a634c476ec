"""Log-probs of the response tokens: which hidden state predicts which token, and no logits.

At a vocabulary of 152k, the (N, V) logits of a batch and their gradient are most of the memory of
an RL step, and nobody needs them: the loss wants one log-prob a token. `fused_loss` equals these
eight lines, but keeps no chunk's logits for backward, since it makes their gradient at once:

    total = 0.0
    for rows in torch.arange(N).split(chunk):
        logits = hidden[rows] @ head.T / temperature                        # (C, V)
        every = logits.log_softmax(dim=-1)                                  # (C, V)
        logprobs = every.gather(1, targets[rows, None])[:, 0]               # (C,)
        loss, clipped = loss_of(rows, logprobs)
        loss.backward()
        total += loss.item()

`token_logprobs` gives the log-probs themselves, for any loss; its backward makes each chunk's
logits again. Both work on *response tokens only*, laid end to end in one flat (N,) vector: no
padding, no mask. Left out: chunks over the vocabulary, which need a second pass for the softmax;
Triton, which would be quicker on a GPU.
"""

import numpy as np
import torch
from transformers import DynamicCache

from support.model import forward_hidden, pad_right

# --------------------------------------------------------------------------------------------------
# Which hidden state predicts which token


def response_states(model, rollouts):
    """The hidden states that predict the response tokens, (N, H), and those tokens, (N,) int64.

    Prompt and response run as one sequence. Pitfall: shift off by one. The hidden state at place p
    predicts token p + 1: a response of R tokens after a prompt of P is predicted at P - 1 to
    P + R - 2. The mask goes by lengths, never by token values, so a stop token that doubles as pad
    is neither lost nor learnt twice (pitfall: EOS).
    """
    ids, _ = pad_right([r.prompt_ids + r.response_ids for r in rollouts], model.device)  # (B, T)
    rows = []
    columns = []
    for row, rollout in enumerate(rollouts):
        start = len(rollout.prompt_ids)
        stop = start + len(rollout.response_ids)
        rows.append(np.full(stop - start, row))
        columns.append(np.arange(start, stop))
    rows = torch.from_numpy(np.concatenate(rows)).to(ids.device)  # (N,)
    columns = torch.from_numpy(np.concatenate(columns)).to(ids.device)  # (N,)
    # Right padding, causal: no attention mask needed.
    hidden = forward_hidden(model, ids[:, :-1])  # (B, T - 1, H)
    # Selected before the projection: prompt and padding are never projected to the vocabulary.
    return hidden[rows, columns - 1], ids[rows, columns]


class FirstKeys(DynamicCache):
    """A cache that a layer fills once, though it may run twice (support.offload)."""

    def update(self, key, value, layer, *args, **kwargs):
        if layer < len(self.layers):
            return key, value
        return super().update(key, value, layer, *args, **kwargs)


class PromptKeys:
    """The prompts' keys and values, as the cache of their responses: read, and never added to.

    So a layer may run twice (support.offload). Nothing is copied before a layer asks.
    """

    def __init__(self, states, owner):
        self.states = states  # keys and values of each layer in turn, (U, kv_heads, P, D)
        self.owner = owner  # (B,): each response's prompt

    def update(self, key, value, layer, *args, **kwargs):
        """All keys and values that a layer's responses attend to: (B, kv_heads, P + R, D)."""
        prompt = [select(state, self.owner) for state in self.states[2 * layer : 2 * layer + 2]]
        return torch.cat([prompt[0], key], dim=2), torch.cat([prompt[1], value], dim=2)

    def get_seq_length(self, layer=0):
        return self.states[0].shape[2]


def select(states, owner):
    """Each response's row of its prompt's states.

    Not states[owner]: its gradient adds up in whatever order the threads come, so that no run would
    be the same twice.
    """
    return states.index_select(0, owner)


class SharedPrompts:
    """The prompts of a minibatch, each run once for all its responses, in training as in sampling.

    The responses attend to detached copies of a prompt's keys and values, micro-batch by
    micro-batch; the gradients gather there, and `backward` takes them through the prompts once.
    """

    def __init__(self, model, rollouts):
        prompts = list(dict.fromkeys(tuple(r.prompt_ids) for r in rollouts))
        self.model = model
        self.index = {prompt: i for i, prompt in enumerate(prompts)}
        ids, self.ends = pad_right(prompts, model.device)  # (U, P), (U,)
        cache = FirstKeys()
        hidden = forward_hidden(model, ids, cache)
        # (U, H): the last state of a prompt predicts the first token of its responses.
        last = hidden[torch.arange(len(prompts), device=ids.device), self.ends - 1]
        self.made = [last]
        for layer in cache.layers:
            self.made += [layer.keys, layer.values]  # (U, kv_heads, P, D)
        self.copies = [state.detach().requires_grad_() for state in self.made]

    def states_after_prompts(self, rollouts):
        """What response_states returns, from the prompts' states: the responses alone run."""
        device = self.model.device
        ids, lengths = pad_right([r.response_ids for r in rollouts], device)  # (B, R), (B,)
        owner = [self.index[tuple(r.prompt_ids)] for r in rollouts]
        owner = torch.tensor(owner, device=device)  # (B,)
        last, *states = self.copies
        cache = PromptKeys(states, owner)
        inputs = ids[:, : max(1, ids.shape[1] - 1)]  # the last token predicts nothing
        ends = self.ends[owner, None]  # (B, 1)
        times = torch.arange(inputs.shape[1], device=device)
        columns = torch.arange(states[0].shape[2], device=device)
        # (B, R, P + R): a response sees its own prompt, without padding, and what it has written.
        prompt = (columns < ends)[:, None].expand(-1, len(times), -1)
        written = (times <= times[:, None]).expand(len(ids), -1, -1)
        sees = torch.cat([prompt, written], dim=-1)[:, None]
        positions = ends + times
        hidden = forward_hidden(
            self.model, inputs, cache, position_ids=positions, attention_mask=sees
        )
        # (B, R, H): at t stands what predicts token t.
        hidden = torch.cat([select(last, owner)[:, None], hidden], dim=1)[:, : ids.shape[1]]
        real = torch.arange(ids.shape[1], device=device) < lengths[:, None]
        return hidden[real], ids[real]

    def backward(self):
        torch.autograd.backward(self.made, [copy.grad for copy in self.copies])


def sharing_pays(rollouts, micro_tokens):
    """Whether running each prompt once saves a fifth of the tokens, and all prompts fit at once.

    With long responses it saves little, and the mask that it needs keeps a GPU from its quickest
    attention.
    """
    prompts = {tuple(r.prompt_ids) for r in rollouts}
    once = sum(map(len, prompts))
    each = sum(len(r.prompt_ids) for r in rollouts)
    tokens = each + sum(len(r.response_ids) for r in rollouts)
    fits = len(prompts) * max(map(len, prompts)) <= micro_tokens
    return fits and each - once > tokens / 5


# --------------------------------------------------------------------------------------------------
# Log-probs without the logits


def token_logprobs(hidden, head, targets, *, temperature=1.0, chunk=None):
    """Log-probs (N,) fp32 of targets (N,) int64 under softmax(hidden @ head.T / temperature).

    With gradient, for any loss; fused_loss is quicker for the one we train with. The (N, V) logits
    are never held at once. hidden (N, H) and the vocabulary's matrix head (V, H) are of one float
    type; chunk: tokens at a time. Pitfall: temperature. The sampler's must be given here too, or
    ratio and gradient belong to another distribution than the one sampled from.
    """
    plan = plan_chunks(hidden, head, chunk)
    return TokenLogprobs.apply(hidden, head, targets, temperature, *plan)


def fused_loss(hidden, head, targets, loss_of, *, temperature=1.0, chunk=None):
    """A loss of token_logprobs(hidden, head, targets) that is a sum over tokens, with its gradient.

    loss_of(rows, logprobs) gives the scalar loss of a chunk of tokens, and the share of them that
    is clipped. Three matmuls a chunk, as autograd has, against token_logprobs' four. Returns the
    loss, which can be backpropagated once; the log-probs (N,) fp32, without gradient; and the
    clipped share of all.
    """
    plan = plan_chunks(hidden, head, chunk)
    return FusedLoss.apply(hidden, head, targets, loss_of, temperature, *plan)


def plan_chunks(hidden, head, chunk):
    """Tokens at a time, such that one chunk's logits take 128 MB, and the type of the matmuls.

    Under autocast the type is decided here, once: backward must make the same logits as forward.
    """
    device = hidden.device.type
    autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocast else hidden.dtype
    return chunk or max(16, 2**25 // head.shape[0]), dtype


def project_chunks(
    hidden, head, targets, temperature, chunk, token_grad=None, grad_hidden=None, grad_head=None
):
    """Log-probs (N,) fp32 of the targets; with `token_grad`, gradients in the same pass.

    token_grad(rows, logprobs) gives d loss / d logprobs (C,) of a chunk as soon as its log-probs
    are known. It goes through the projection by

        d loss / d logits = grad / temperature * (onehot - probs)                      # (C, V)

    into grad_hidden (N, H), which is filled, and grad_head (V, H) fp32, which is added to; either
    may be None. One (C, V) buffer is overwritten again and again, since making new ones costs more
    than the arithmetic on a CPU.
    """
    logprobs = hidden.new_empty(len(hidden), dtype=torch.float32)
    for start in range(0, len(hidden), chunk):
        rows = slice(start, start + chunk)
        logits = exps = spread = None  # the last chunk's buffer is free again
        # Pitfall: dtype. fp32, since a bf16 log-sum-exp is off by 0.07 at V = 152k.
        logits = (hidden[rows] @ head.T).float()
        if temperature != 1:
            logits /= temperature
        largest = logits.amax(dim=-1, keepdim=True)  # (C, 1)
        chosen = logits.gather(1, targets[rows, None])  # (C, 1)
        exps = logits.sub_(largest).exp_()
        sums = exps.sum(dim=-1, keepdim=True)
        logprobs[rows] = (chosen - largest - sums.log())[:, 0]
        if token_grad is None:
            continue
        # exps - sums * onehot is (probs - onehot) times sums; what scales a row is applied to the
        # small matrices. Not in fp16, in which such a sum overflows.
        if hidden.dtype == torch.float16:
            exps /= sums
            sums = torch.ones_like(sums)
        factor = -token_grad(rows, logprobs[rows])[:, None] / (sums * temperature)  # (C, 1)
        spread = exps.scatter_add_(1, targets[rows, None], -sums).to(hidden.dtype)
        if grad_hidden is not None:
            grad_hidden[rows] = (spread @ head) * factor
        if grad_head is not None:
            add_product(grad_head, spread.T, hidden[rows] * factor)
    return logprobs


def add_product(total, left, right):
    """Adds left @ right to total, which is fp32: in the type of left, but summed in fp32."""
    right = right.to(left.dtype)
    if left.dtype == torch.float32:
        total.addmm_(left, right)  # in place: a product is as large as the head
    else:
        total += left @ right


def empty_gradients(ctx, hidden, head):
    """Room for the two gradients, None where none is needed; the head's is summed in fp32."""
    needs_hidden, needs_head = ctx.needs_input_grad[:2]
    return (
        torch.empty_like(hidden) if needs_hidden else None,
        torch.zeros_like(head, dtype=torch.float32) if needs_head else None,
    )


class TokenLogprobs(torch.autograd.Function):
    """Log-probs whose backward makes each chunk's logits again: four matmuls, autograd's are three.

    Chunking under plain autograd would save nothing, since every chunk's logits would be kept for
    its backward.
    """

    @staticmethod
    def forward(ctx, hidden, head, targets, temperature, chunk, dtype):
        ctx.save_for_backward(hidden, head, targets)
        ctx.options = (temperature, chunk, dtype)
        return project_chunks(hidden.to(dtype), head.to(dtype), targets, temperature, chunk)

    @staticmethod
    def backward(ctx, grad):
        hidden, head, targets = ctx.saved_tensors
        temperature, chunk, dtype = ctx.options
        grad_hidden, grad_head = empty_gradients(ctx, hidden, head)
        project_chunks(
            hidden.to(dtype),
            head.to(dtype),
            targets,
            temperature,
            chunk,
            lambda rows, logprobs: grad[rows],
            grad_hidden,
            grad_head,
        )
        if grad_head is not None:
            grad_head = grad_head.to(head.dtype)
        return grad_hidden, grad_head, None, None, None, None


class FusedLoss(torch.autograd.Function):
    """Loss and projection in one: a token's gradient is made in forward, so no logits are twice."""

    @staticmethod
    def forward(ctx, hidden, head, targets, loss_of, temperature, chunk, dtype):
        chunk_losses = []

        def token_grad(rows, logprobs):
            logprobs = logprobs.detach().requires_grad_()
            with torch.enable_grad():
                loss, clipped = loss_of(rows, logprobs)
            chunk_losses.append(torch.stack([loss.detach(), clipped * len(logprobs)]))
            return torch.autograd.grad(loss, logprobs)[0]

        gradients = empty_gradients(ctx, hidden, head)
        logprobs = project_chunks(
            hidden.to(dtype), head.to(dtype), targets, temperature, chunk, token_grad, *gradients
        )
        ctx.gradients = gradients
        ctx.head_dtype = head.dtype
        loss, clipped = torch.stack(chunk_losses).sum(dim=0)
        ctx.mark_non_differentiable(logprobs, clipped)
        return loss, logprobs, clipped / len(hidden)

    @staticmethod
    def backward(ctx, grad, *_):
        grad_hidden, grad_head = ctx.gradients
        del ctx.gradients  # scaled in place, hence good for one backward
        if grad_hidden is not None:
            grad_hidden.mul_(grad)
        if grad_head is not None:
            grad_head = grad_head.mul_(grad).to(ctx.head_dtype)
        return grad_hidden, grad_head, None, None, None, None, None
