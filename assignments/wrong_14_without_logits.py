"""Known wrong answers to assignment 14. See wrong.py."""

HINTS = {
    "temperature forgotten in the log-probs of the loss": (
        "You do not divide the logits by the temperature."
    ),
    "temperature forgotten in the gradient of the loss": (
        "Logits are z / T, so the gradient has a factor 1 / T, too."
    ),
    "the gradient has the wrong sign": (
        "The gradient of a log-prob with respect to the logits is onehot - probs; yours is "
        "probs - onehot."
    ),
    "the one-hot is missing in the gradient": (
        "Your gradient is that of the log of the sum alone: the target's own logit is missing."
    ),
    "the last chunk is dropped": ("The last chunk, which may be shorter, is left out."),
    "log-sum-exp without the maximum": (
        "exp of a large logit is inf. Subtract the largest logit of the row first."
    ),
    "log-softmax in bf16 in the trainer": (
        "You compute the softmax in the type of the states. bf16 has 8 bits: go to fp32 first."
    ),
}

SKIPPED = {
    "probabilities overflow in fp16": "the task says nothing of fp16",
}

HEAD = "add_product(grad_head, spread.T, hidden[rows] * factor)"
STATES = "grad_hidden[rows] = (spread @ head) * factor"
LOGPROBS = "logprobs[rows] = (chosen - largest - sums.log())[:, 0]"
ALL = """logits = (hidden @ head.T).float() / temperature
every = logits.log_softmax(dim=-1)
logprobs = every.gather(1, targets[:, None])[:, 0]
if token_grad is None:
    return logprobs
for start in range(0, len(hidden), chunk):
    rows = slice(start, start + chunk)
    slope = -every[rows].exp()
    slope[torch.arange(len(slope)), targets[rows]] += 1
    slope = slope * token_grad(rows, logprobs[rows])[:, None] / temperature
    if grad_hidden is not None:
        grad_hidden[rows] = (slope.to(head.dtype) @ head).to(grad_hidden.dtype)
    if grad_head is not None:
        add_product(grad_head, slope.to(hidden.dtype).T, hidden[rows])
return logprobs"""

MORE = [
    (
        "zeros",
        "All log-probs are 0, and no gradient is made.",
        "project_chunks",
        "",
        "return hidden.new_zeros(len(hidden), dtype=torch.float32)",
    ),
    (
        "all logits are made at once",
        "All is right, but you make the (N, V) logits of all tokens at once. At a vocabulary of "
        "152k they are most of the memory of a step: take `chunk` tokens at a time.",
        "project_chunks",
        "",
        ALL,
    ),
    (
        "no gradients are made",
        "You return log-probs, but make no gradients. Where token_grad is given, they are made in "
        "the same pass.",
        "project_chunks",
        "if token_grad is None:",
        "if True:",
    ),
    (
        "the head's gradient is the last chunk's",
        "You overwrite grad_head with each chunk. Add to it.",
        "project_chunks",
        HEAD,
        "grad_head.copy_(spread.T @ (hidden[rows] * factor))",
    ),
    (
        "what the head's gradient had before is lost",
        "grad_head may have something in it already. Add to it.",
        "project_chunks",
        HEAD,
        "if start == 0:\n    grad_head.zero_()\n" + HEAD,
    ),
    (
        "the head's gradient is missing",
        "You do not fill grad_head.",
        "project_chunks",
        HEAD,
        "pass",
    ),
    (
        "the states' gradient is missing",
        "You do not fill grad_hidden.",
        "project_chunks",
        STATES,
        "pass",
    ),
    (
        "the states' gradient is added to what is there",
        "grad_hidden is empty memory: fill it, do not add to it.",
        "project_chunks",
        STATES,
        "grad_hidden[rows] += (spread @ head) * factor",
    ),
    (
        "the loss's gradient is not used",
        "You make the gradient of the log-probs, without token_grad: the chain rule needs both.",
        "project_chunks",
        "-token_grad(rows, logprobs[rows])[:, None]",
        "-torch.ones_like(token_grad(rows, logprobs[rows]))[:, None]",
    ),
    (
        "the loss's gradient is not in the head's",
        "You use token_grad for the states' gradient, but not for the head's.",
        "project_chunks",
        "hidden[rows] * factor",
        "-hidden[rows] / (sums * temperature)",
    ),
    (
        "the loss's gradient is not in the states'",
        "You use token_grad for the head's gradient, but not for the states'.",
        "project_chunks",
        "(spread @ head) * factor",
        "-(spread @ head) / (sums * temperature)",
    ),
    (
        "every chunk gets the first one's gradient",
        "You ask token_grad for the first rows, whatever the chunk is.",
        "project_chunks",
        "token_grad(rows, logprobs[rows])",
        "token_grad(slice(0, len(logprobs[rows])), logprobs[rows])",
    ),
    (
        "token_grad is given all log-probs",
        "token_grad is to be given the log-probs of its chunk, not all.",
        "project_chunks",
        "token_grad(rows, logprobs[rows])",
        "token_grad(rows, logprobs)",
    ),
    (
        "token_grad is given probabilities",
        "token_grad is to be given log-probs.",
        "project_chunks",
        "token_grad(rows, logprobs[rows])",
        "token_grad(rows, logprobs[rows].exp())",
    ),
    (
        "the probabilities are not normalised in the gradient",
        "In the gradient you use exp(logits) without dividing by their sum.",
        "project_chunks",
        "/ (sums * temperature)",
        "/ temperature",
    ),
    (
        "the temperature counts twice in the gradient",
        "The gradient has one factor 1 / T.",
        "project_chunks",
        "/ (sums * temperature)",
        "/ (sums * temperature**2)",
    ),
    (
        "the temperature multiplies",
        "You multiply logits by the temperature. Divide.",
        "project_chunks",
        "logits /= temperature",
        "logits *= temperature",
    ),
    (
        "the sum is not subtracted",
        "You subtract the largest logit, but not the log of the sum.",
        "project_chunks",
        LOGPROBS,
        "logprobs[rows] = (chosen - largest)[:, 0]",
    ),
    (
        "the logit is the log-prob",
        "You return logits: subtract the log of the sum of all exp(logits).",
        "project_chunks",
        LOGPROBS,
        "logprobs[rows] = chosen[:, 0]",
    ),
    (
        "probabilities instead of log-probs",
        "You return probabilities.",
        "project_chunks",
        LOGPROBS,
        "logprobs[rows] = (chosen - largest - sums.log())[:, 0].exp()",
    ),
    (
        "every chunk has the first one's targets",
        "You take the first targets for each chunk.",
        "project_chunks",
        "chosen = logits.gather(1, targets[rows, None])",
        "chosen = logits.gather(1, targets[: len(logits), None])",
    ),
    (
        "the log-probs are in the states' type",
        "The log-probs are torch.float32, whatever the states are.",
        "project_chunks",
        "return logprobs",
        "return logprobs.to(hidden.dtype)",
    ),
    (
        "the states' gradient must be wanted",
        "grad_hidden may be None: then only the head's gradient is made.",
        "project_chunks",
        "if token_grad is None:",
        "if token_grad is None or grad_hidden is None:",
    ),
    (
        "the head's gradient must be wanted",
        "grad_head may be None: then only the states' gradient is made.",
        "project_chunks",
        "if token_grad is None:",
        "if token_grad is None or grad_head is None:",
    ),
]

WHOLE = []

RIGHT = """
def one_chunk(hidden, head, targets, temperature):
    logits = (hidden.float() @ head.float().T) / temperature
    return logits.log_softmax(dim=-1)

def project_chunks(
    hidden, head, targets, temperature, chunk, token_grad=None, grad_hidden=None, grad_head=None
):
    found = []
    for rows in torch.arange(len(hidden)).split(chunk):
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        every = one_chunk(hidden[part], head, targets[part], temperature)
        chosen = every.gather(1, targets[part, None])[:, 0]
        found.append(chosen)
        if token_grad is not None:
            slope = torch.zeros_like(every).scatter_(1, targets[part, None], 1.0) - every.exp()
            slope = slope * (token_grad(part, chosen) / temperature)[:, None]
            if grad_hidden is not None:
                grad_hidden[part] = (slope @ head.float()).to(grad_hidden.dtype)
            if grad_head is not None:
                grad_head += slope.T @ hidden[part].float()
    return torch.cat(found)
"""
