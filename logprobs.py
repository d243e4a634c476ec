"""Log-probs without the logits: the output projection, softmax and gather in one, a chunk of tokens at a time.

At a vocabulary of 152k, the (N, V) logits of a batch and their gradient are most of the memory of an RL step, and
nobody needs them: the loss wants one log-prob a token. Two forms, both in plain PyTorch:

    token_logprobs   the log-probs, for any loss; backward makes each chunk's logits again
    fused_loss       the loss itself; a token's gradient is known as soon as its chunk's log-probs are, so nothing is
                     made twice

Left out: chunks over the vocabulary, which need a second pass for the softmax; Triton, which would be quicker on a GPU.
"""

import torch


def project_chunks(
    hidden, weight, targets, temperature, chunk, token_grad=None, grad_hidden=None, grad_weight=None
):
    """Log-probs (N,) fp32 of the targets, a chunk of tokens at a time; with `token_grad`, gradients in the same pass.

    token_grad(rows, logprobs) gives d loss / d logprobs (C,) of a chunk as soon as its log-probs are known. It goes
    through the projection by

        d loss / d logits = grad / temperature * (onehot - probs)                      # (C, V)

    into grad_hidden (N, H), which is filled, and grad_weight (V, H) fp32, which is added to; either may be None. One
    (C, V) buffer is overwritten again and again, since making new ones costs more than the arithmetic on a CPU.
    """
    logprobs = hidden.new_empty(len(hidden), dtype=torch.float32)
    for i in range(0, len(hidden), chunk):
        rows, logits, exps, spread = (
            slice(i, i + chunk),
            None,
            None,
            None,
        )  # the last chunk's buffer is free again
        logits = (
            hidden[rows] @ weight.T
        ).float()  # fp32, since a bf16 log-sum-exp is off by 0.07 at V = 152k
        if temperature != 1:
            logits /= temperature
        largest, chosen = (
            logits.amax(dim=-1, keepdim=True),
            logits.gather(1, targets[rows, None]),
        )  # (C, 1)
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
                grad_weight.addmm_(
                    spread.T, scaled
                )  # in place: a product is as large as the weight
            else:
                grad_weight += spread.T @ scaled  # summed in fp32 over the chunks
    return logprobs


def empty_gradients(ctx, hidden, weight):
    """Room for the two gradients, None where none is needed; the weight's is summed in fp32."""
    needs_hidden, needs_weight = ctx.needs_input_grad[:2]
    return (
        torch.empty_like(hidden) if needs_hidden else None,
        torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None,
    )


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
        project_chunks(
            hidden.to(dtype),
            weight.to(dtype),
            targets,
            temperature,
            chunk,
            lambda rows, logprobs: grad[rows],
            grad_hidden,
            grad_weight,
        )
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None,
            None,
            None,
            None,
        )


class FusedLoss(torch.autograd.Function):
    """A loss and the projection in one: a token's gradient is made in forward, so no logits are made twice."""

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
        logprobs = project_chunks(
            hidden.to(dtype),
            weight.to(dtype),
            targets,
            temperature,
            chunk,
            token_grad,
            *ctx.gradients,
        )
        loss, clipped = torch.stack(chunk_losses).sum(dim=0)
        ctx.mark_non_differentiable(logprobs, clipped)
        return loss, logprobs, clipped / len(hidden)

    @staticmethod
    def backward(ctx, grad, *_):
        grad_hidden, grad_weight = ctx.gradients
        del ctx.gradients  # scaled in place, hence good for one backward
        return (
            None if grad_hidden is None else grad_hidden.mul_(grad),
            None if grad_weight is None else grad_weight.mul_(grad).to(ctx.weight_dtype),
            *[None] * 5,
        )


def plan_chunks(hidden, weight, chunk):
    """Tokens a chunk, by default about 128 MB of logits, and the type of the matmuls.

    Under autocast the type is decided here, once: backward must make the same logits as forward.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    return chunk or max(16, 2**25 // weight.shape[0]), dtype


def token_logprobs(hidden, weight, targets, *, temperature=1.0, chunk=None):
    """Log-probs (N,) fp32 of targets (N,) int64 under softmax(hidden @ weight.T / temperature), with gradient.

    The (N, V) logits are never held at once. hidden (N, H), weight (V, H), both of one float type; chunk: tokens at
    a time. The sampler's temperature must be given here too, or ratio and gradient belong to another distribution
    than the one sampled from. For any loss of log-probs; fused_policy_loss is quicker for the one we train with.
    """
    return TokenLogprobs.apply(
        hidden, weight, targets, temperature, *plan_chunks(hidden, weight, chunk)
    )


def fused_loss(hidden, weight, targets, loss_of, *, temperature=1.0, chunk=None):
    """A loss that is a sum over tokens, of token_logprobs(hidden, weight, targets), with its gradients made on the way.

    loss_of(rows, logprobs) gives the scalar loss of a chunk of tokens, and the share of them that is clipped. Three
    matmuls a chunk, as autograd has, against token_logprobs' four. Returns the loss, which can be backpropagated once;
    the log-probs (N,) fp32, without gradient; and the clipped share of all.
    """
    return FusedLoss.apply(
        hidden, weight, targets, loss_of, temperature, *plan_chunks(hidden, weight, chunk)
    )
