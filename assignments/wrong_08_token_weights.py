"""Known wrong answers to assignment 8. See wrong.py."""

HINTS = {
    "length bias: every response weighs the same in dapo": (
        "Your dapo is grpo: each response weighs the same, so a token of a long wrong response "
        "counts less. In dapo each token counts the same."
    ),
    "grpo normaliser without the length": (
        "In your grpo every token weighs 1 / responses. A response's tokens share its weight."
    ),
    "dr_grpo divides by the longest response": (
        "Your dr_grpo divides by the longest response. That differs from batch to batch; the "
        "budget does not."
    ),
}

SKIPPED = {}

DAPO = "torch.full((len(lengths),), 1.0 / lengths.sum().item())"
GRPO = "1.0 / (len(lengths) * lengths.float())"
DR = "torch.full((len(lengths),), 1.0 / (len(lengths) * budget))"
LAST = "weight.repeat_interleave(lengths)"

MORE = [
    (
        "zeros",
        "All weights are 0, so nothing is learnt.",
        "token_weights",
        LAST,
        "weight.repeat_interleave(lengths) * 0.0",
    ),
    (
        "all weights are 1",
        "Every token weighs 1: the loss would grow with the batch.",
        "token_weights",
        LAST,
        "torch.ones(int(lengths.sum()))",
    ),
    (
        "dapo divides by the responses",
        "Your dapo divides by the number of responses. Divide by that of all their tokens.",
        "token_weights",
        DAPO,
        "torch.full((len(lengths),), 1.0 / len(lengths))",
    ),
    (
        "dapo divides by each response's own length",
        "Your dapo divides by the response's own length: a short one's tokens count more.",
        "token_weights",
        DAPO,
        "1.0 / lengths.float()",
    ),
    (
        "dapo divides by the longest response",
        "Your dapo divides by the longest response, as if all were padded to it.",
        "token_weights",
        DAPO,
        "torch.full((len(lengths),), 1.0 / (len(lengths) * lengths.max().item()))",
    ),
    (
        "dapo is divided by the responses once more",
        "Your dapo divides by all tokens and by the responses. All tokens are enough.",
        "token_weights",
        DAPO,
        "torch.full((len(lengths),), 1.0 / (len(lengths) * lengths.sum().item()))",
    ),
    (
        "grpo forgets the number of responses",
        "In your grpo a response weighs 1, so the loss grows with the batch: 1 / responses.",
        "token_weights",
        GRPO,
        "1.0 / lengths.float()",
    ),
    (
        "grpo is dapo",
        "Your grpo weighs all tokens the same. In grpo all *responses* weigh the same.",
        "token_weights",
        GRPO,
        DAPO,
    ),
    (
        "grpo divides by all tokens, too",
        "Your grpo divides by the responses, the length, and all tokens. The first two do.",
        "token_weights",
        GRPO,
        "1.0 / (lengths.sum() * lengths.float())",
    ),
    (
        "a response's weight grows with its length",
        "In your grpo long responses weigh more. Divide by the length, do not multiply.",
        "token_weights",
        GRPO,
        "lengths.float() / len(lengths)",
    ),
    (
        "dr_grpo forgets the number of responses",
        "Your dr_grpo divides by the budget alone: the loss grows with the batch.",
        "token_weights",
        DR,
        "torch.full((len(lengths),), 1.0 / budget)",
    ),
    (
        "dr_grpo forgets the budget",
        "Your dr_grpo divides by the responses alone. The budget stands for the length.",
        "token_weights",
        DR,
        "torch.full((len(lengths),), 1.0 / len(lengths))",
    ),
    (
        "dr_grpo is dapo",
        "Your dr_grpo divides by all tokens. They differ from batch to batch; the budget does not.",
        "token_weights",
        DR,
        DAPO,
    ),
    (
        "dr_grpo is grpo",
        "Your dr_grpo divides by each response's own length: that is the bias it takes away.",
        "token_weights",
        DR,
        GRPO,
    ),
    (
        "weights are laid out in turn",
        "Your weights go round the responses, one each. The tokens of a response lie end to end.",
        "token_weights",
        LAST,
        "weight.repeat(int(lengths.max()))[: int(lengths.sum())]",
    ),
    (
        "one weight a response",
        "You return one weight a response. Each token needs its own: (N,).",
        "token_weights",
        LAST,
        "weight",
    ),
    (
        "padded to the longest",
        "You return a padded table. The weights lie end to end, as the tokens do: (N,).",
        "token_weights",
        LAST,
        "weight[:, None].expand(-1, int(lengths.max()))",
    ),
    (
        "an unknown normaliser is dapo",
        "A misspelt normaliser trains with another loss, and nobody sees it. Raise ValueError.",
        "token_weights",
        'raise ValueError(f"normalizer {normalizer!r} is not one of dapo, grpo, dr_grpo.")',
        f"weight = {DAPO}",
    ),
    (
        "an unknown normaliser is another error",
        "A misspelt normaliser is refused by ValueError, with a sentence.",
        "token_weights",
        'raise ValueError(f"normalizer {normalizer!r} is not one of dapo, grpo, dr_grpo.")',
        "raise KeyError(normalizer)",
    ),
    (
        "the weights of dapo and grpo are swapped",
        "Your dapo is grpo, and your grpo is dapo.",
        "token_weights",
        'if normalizer == "dapo":',
        'normalizer = {"dapo": "grpo", "grpo": "dapo"}.get(normalizer, normalizer)\n'
        'if normalizer == "dapo":',
    ),
]

WHOLE = []

RIGHT = """
import itertools

def token_weights(lengths, normalizer="dapo", budget=None):
    lengths = [int(n) for n in lengths]
    count, total = len(lengths), sum(lengths)
    rules = {
        "dapo": lambda n: 1 / total,
        "grpo": lambda n: 1 / count / n,
        "dr_grpo": lambda n: 1 / count / budget,
    }
    if normalizer not in rules:
        raise ValueError(normalizer)
    each = ([rules[normalizer](n)] * n for n in lengths)
    return torch.tensor(list(itertools.chain.from_iterable(each)))
"""
