"""The log-prob kernels that bench/logprob.py compares: ours, the naive one, and those of peers.

Each is a function of hidden (N, H), head (V, H) and a batch of targets, old log-probs, advantages
and weights, all (N,). It returns DAPO's loss, whose gradients are made (hidden.grad and head.grad),
and the log-probs, or None where there are none to see.
"""

# Imports stand in functions: of a variant's process only what it uses may be in memory, and few
# have every peer installed.

SEQUENCES = 8
CLIP = (0.2, 0.28)


def from_logprobs(logprobs, batch):
    from grpo import policy_loss

    loss, _ = policy_loss(logprobs, batch["old"], batch["advantages"], batch["weights"], *CLIP)
    loss.backward()
    return loss, logprobs


def naive(hidden, head, batch):
    every = (hidden @ head.T).log_softmax(dim=-1)
    return from_logprobs(every.gather(1, batch["targets"][:, None])[:, 0], batch)


def ours(hidden, head, batch):
    from logprobs import token_logprobs

    return from_logprobs(token_logprobs(hidden, head, batch["targets"]), batch)


def ours_fused(hidden, head, batch):
    from grpo import policy_loss
    from logprobs import fused_loss

    def loss_of(rows, logprobs):
        parts = [batch[name][rows] for name in ("old", "advantages", "weights")]
        return policy_loss(logprobs, *parts, *CLIP)

    loss, logprobs, _ = fused_loss(hidden, head, batch["targets"], loss_of)
    loss.backward()
    return loss, logprobs


def trl_selective(hidden, head, batch):
    """TRL's log-probs of given logits, sequence by sequence as its trainers had them."""
    from trl.trainer.utils import selective_log_softmax

    logits = (hidden @ head.T).view(SEQUENCES, -1, len(head))
    logprobs = selective_log_softmax(logits, batch["targets"].view(SEQUENCES, -1))
    return from_logprobs(logprobs.flatten(), batch)


def trl_chunked(hidden, head, batch):
    """What TRL's trainers call now, with their chunk of the vocabulary."""
    from trl.kernels import ChunkedLogProbFunction

    options = (1.0, 32768, None, 1.0, ())
    logprobs, *_ = ChunkedLogProbFunction.apply(hidden, head, None, batch["targets"], *options)
    return from_logprobs(logprobs, batch)


def liger(hidden, head, batch):
    """Liger's fused GRPO loss, all sequences in one chunk: each costs another gradient of head."""
    from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss

    loss_function = LigerFusedLinearGRPOLoss(
        beta=0.0,
        use_ref_model=False,
        chunk_size=SEQUENCES,
        compiled=False,
        epsilon_low=CLIP[0],
        epsilon_high=CLIP[1],
        loss_type="dapo",
    )
    targets, advantages, old = (
        batch[name].view(SEQUENCES, -1) for name in ("targets", "advantages", "old")
    )
    states = hidden.view(SEQUENCES, -1, hidden.shape[1])
    mask = hidden.new_ones(targets.shape)
    loss, _ = loss_function(states, head, targets, mask, advantages[:, 0], old_per_token_logps=old)
    loss.backward()
    return loss, None


def cut_cross_entropy(hidden, head, batch):
    """Apple's cut cross-entropy, its torch.compile version: its Triton kernels need a GPU."""
    from cut_cross_entropy import linear_cross_entropy

    options = {"reduction": "none", "impl": "torch_compile"}
    return from_logprobs(-linear_cross_entropy(hidden, head, batch["targets"], **options), batch)


# name: (function, how to install what it needs)
VARIANTS = {
    "naive": (naive, "torch"),
    "token_logprobs (ours)": (ours, "torch"),
    "fused_loss (ours)": (ours_fused, "torch"),
    "trl selective_log_softmax": (trl_selective, "trl"),
    "trl chunked log-probs": (trl_chunked, "trl"),
    "liger fused GRPO": (liger, "--no-deps liger-kernel"),
    "cut-cross-entropy": (cut_cross_entropy, "--no-deps cut-cross-entropy, and triton"),
}
