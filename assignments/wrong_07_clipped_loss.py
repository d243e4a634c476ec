"""Known wrong answers to assignment 7. See wrong.py."""

HINTS = {
    "the loss has the wrong sign": (
        "Gradient descent makes your loss small, and with it the gain. The gain is to grow."
    ),
    "max instead of min": (
        "You take the larger of the two products, so a token that went too far the right way goes "
        "on, and one that went the wrong way gets no gradient. The smaller one is pessimistic."
    ),
    "the clip is turned round for A < 0": (
        "For A > 0 all is well. For A < 0, too, it is the smaller of the two products: the "
        "gradient stops below 1 - eps_low; yours stops above 1 + eps_high."
    ),
    "eps_low and eps_high are swapped": (
        "The ratio may fall to 1 - eps_low and rise to 1 + eps_high (DAPO's clip-higher)."
    ),
    "the ratio is upside down": "Your ratio is old over new. It is new over old.",
    "exp may overflow": (
        "exp(200) is inf, and inf * 0 is nan. Keep the difference of the log-probs within 20."
    ),
}

SKIPPED = {}

BOTH = "torch.minimum(surrogate, clipped)"

MORE = [
    (
        "zeros",
        "Your loss is 0, without a gradient, so nothing is learnt.",
        "policy_loss",
        "",
        "return torch.zeros(()), torch.zeros(())",
    ),
    (
        "zeros",
        "Your loss is 0, with a gradient of 0, so nothing is learnt.",
        "policy_loss",
        "",
        "return (logprobs * 0).sum(), torch.zeros(())",
    ),
    (
        "nothing is clipped",
        "Your loss is ratio times advantage without a clip: the policy may go as far as it likes.",
        "policy_loss",
        BOTH,
        "surrogate",
    ),
    (
        "only the clipped product is taken",
        "You clip and take no minimum. A token that went the wrong way gets no gradient to come "
        "back.",
        "policy_loss",
        BOTH,
        "clipped",
    ),
    (
        "a mean instead of a weighted sum",
        "You take a mean over tokens. The weights have the normaliser in them already: sum.",
        "policy_loss",
        "weights).sum()",
        "weights).mean()",
    ),
    (
        "the weights are not used",
        "You take a mean over tokens, and do not use the weights.",
        "policy_loss",
        "(torch.minimum(surrogate, clipped) * weights).sum()",
        "torch.minimum(surrogate, clipped).mean()",
    ),
    (
        "the weights are not used",
        "You sum over tokens, and do not use the weights.",
        "policy_loss",
        "(torch.minimum(surrogate, clipped) * weights).sum()",
        "torch.minimum(surrogate, clipped).sum()",
    ),
    (
        "the weights are normalised again",
        "You divide by the sum of the weights. They have the normaliser in them already.",
        "policy_loss",
        "weights).sum()",
        "weights).sum() / weights.sum()",
    ),
    (
        "both sides have eps_low",
        "Your range is 1 - eps_low .. 1 + eps_low, as in PPO. Above, DAPO allows eps_high.",
        "policy_loss",
        "1 + eps_high",
        "1 + eps_low",
    ),
    (
        "both sides have eps_high",
        "Your range is 1 - eps_high .. 1 + eps_high. Below, it is eps_low.",
        "policy_loss",
        "1 - eps_low",
        "1 - eps_high",
    ),
    (
        "the range is that of the log-ratio",
        "You clip the log of the ratio to -eps_low .. eps_high; clip the ratio, after exp.",
        "policy_loss",
        "ratio.clamp(1 - eps_low, 1 + eps_high)",
        "ratio.log().clamp(-eps_low, eps_high).exp()",
    ),
    (
        "the ratio is a difference of log-probs",
        "Your ratio is the difference of the log-probs. exp is missing: a ratio is 1 on policy.",
        "policy_loss",
        "(logprobs - old_logprobs).clamp(-20, 20).exp()",
        "(logprobs - old_logprobs).clamp(-20, 20)",
    ),
    (
        "the ratio is a quotient of log-probs",
        "You divide log-probs. The ratio is that of the probabilities.",
        "policy_loss",
        "(logprobs - old_logprobs).clamp(-20, 20).exp()",
        "logprobs / old_logprobs",
    ),
    (
        "the ratio is the new probability",
        "You take exp of the new log-probs alone; the ratio is new over old.",
        "policy_loss",
        "(logprobs - old_logprobs).clamp(-20, 20).exp()",
        "logprobs.clamp(-20, 20).exp()",
    ),
    (
        "the ratio has no gradient",
        "Your ratio is detached, so the loss has its value and no gradient.",
        "policy_loss",
        "(logprobs - old_logprobs)",
        "(logprobs - old_logprobs).detach()",
    ),
    (
        "the gradient is that of log-probs times A",
        "You weight log-probs by A, as REINFORCE does. Here the gain is the ratio times A.",
        "policy_loss",
        "",
        "return -(logprobs * advantages * weights).sum(), torch.zeros(())",
    ),
    (
        "the ratio is clipped on the wrong side for each sign",
        "For A > 0 your ratio is bounded below, for A < 0 above; it is the other way round.",
        "policy_loss",
        "ratio.clamp(1 - eps_low, 1 + eps_high) * advantages",
        "torch.where(advantages > 0, ratio.clamp(min=1 - eps_low), "
        "ratio.clamp(max=1 + eps_high)) * advantages",
    ),
    (
        "the sign of A is lost",
        "You multiply by |A|, so wrong answers are made likelier like right ones.",
        "policy_loss",
        "surrogate = ratio * advantages\n"
        "    clipped = ratio.clamp(1 - eps_low, 1 + eps_high) * advantages",
        "surrogate = ratio * advantages.abs()\n"
        "clipped = ratio.clamp(1 - eps_low, 1 + eps_high) * advantages.abs()",
    ),
    (
        "a second clip for A < 0 (dual clip)",
        "For A < 0 you bound the loss of a large ratio, too (dual clip). DAPO does not: such a "
        "token went the wrong way, and is to come back.",
        "policy_loss",
        BOTH,
        "torch.where(advantages < 0, torch.maximum(torch.minimum(surrogate, clipped), "
        "3 * advantages), torch.minimum(surrogate, clipped))",
    ),
    (
        "a clipped token has no loss",
        "You drop the tokens that are clipped. Their gradient is 0, but they stay in the loss.",
        "policy_loss",
        BOTH,
        "torch.where(clipped < surrogate, torch.zeros_like(ratio), surrogate)",
    ),
    (
        "all ratios out of range count as clipped",
        "The share counts every ratio outside the range. Where the smaller product is the one "
        "without the clip, nothing was clipped.",
        "policy_loss",
        "(clipped < surrogate)",
        "((ratio < 1 - eps_low) | (ratio > 1 + eps_high))",
    ),
    (
        "the number of clipped tokens instead of their share",
        "The second result is a share, 0 to 1.",
        "policy_loss",
        "(clipped < surrogate).float().mean()",
        "(clipped < surrogate).float().sum()",
    ),
    (
        "the share that is not clipped",
        "Your second result is the share of tokens that were not clipped.",
        "policy_loss",
        "(clipped < surrogate)",
        "(clipped >= surrogate)",
    ),
]

WHOLE = []

RIGHT = """
LIMIT = 20.0

def policy_loss(logprobs, old_logprobs, advantages, weights, eps_low=0.2, eps_high=0.28):
    total = logprobs.new_zeros(())
    stopped = 0
    for new, old, advantage, weight in zip(logprobs, old_logprobs, advantages, weights):
        ratio = torch.exp(torch.clamp(new - old, min=-LIMIT, max=LIMIT))
        if advantage > 0 and ratio > 1 + eps_high:
            ratio = torch.tensor(1 + eps_high)
            stopped += 1
        elif advantage < 0 and ratio < 1 - eps_low:
            ratio = torch.tensor(1 - eps_low)
            stopped += 1
        total = total - weight * advantage * ratio
    return total, torch.tensor(stopped / len(logprobs))
"""
