"""Known wrong answers to assignment 4. See wrong.py."""

HINTS = {
    "temperature forgotten in the sampler": ("You do not divide the logits by the temperature."),
    "temperature in the draw but not in the log-probs": (
        "Tokens are drawn at the temperature, and log-probs are those at 1. They must belong to "
        "the distribution that was drawn from, or the trainer's ratio is wrong."
    ),
    "the sampler's softmax is in the model's type": (
        "You compute in the type of the logits. bf16 has 8 bits: go to fp32 first."
    ),
    "the sampler's softmax without the maximum": (
        "exp(300) is inf. Subtract the largest logit of the row first."
    ),
    "tokens of probability 0 are drawn": (
        "At a uniform number of 0 you draw token 0, though its probability is 0. Look at which "
        "side searchsorted takes where values are equal."
    ),
}

SKIPPED = {}

LOGPROBS = "logits.gather(1, tokens) - largest - total.log()"
DRAW = "torch.searchsorted(cumulative, uniforms[:, None] * total, right=True)"
BEFORE = """if temperature == 0:
    tokens = logits.argmax(dim=-1)
    return tokens, torch.zeros(len(tokens))
logits = truncate(logits.float() / temperature, top_k, top_p)
"""

MORE = [
    (
        "zeros",
        "You always draw token 0.",
        "sample_tokens",
        "",
        "return torch.zeros(len(logits), dtype=torch.long), torch.zeros(len(logits))",
    ),
    (
        "the likeliest token is always taken",
        "You take the likeliest token at every temperature. Nothing would be explored.",
        "sample_tokens",
        "if temperature == 0:",
        "if True:",
    ),
    (
        "the likeliest token is always taken",
        "You take the likeliest token at every temperature. Nothing would be explored.",
        "sample_tokens",
        DRAW,
        "logits.argmax(dim=-1, keepdim=True)",
    ),
    (
        "logits times the temperature",
        "You multiply by the temperature. Divide: a high one makes all tokens alike.",
        "sample_tokens",
        "logits / temperature",
        "logits * temperature",
    ),
    (
        "the temperature counts twice",
        "You divide by the temperature twice.",
        "sample_tokens",
        "logits / temperature",
        "logits / temperature**2",
    ),
    (
        "temperature 0 is a division by 0",
        "At temperature 0 you divide by 0. Take the likeliest token instead.",
        "sample_tokens",
        "if temperature == 0:",
        "if False:",
    ),
    (
        "temperature 0 has the log-probs of temperature 1",
        "At temperature 0 the token was certain: its log-prob is 0.",
        "sample_tokens",
        "return tokens, torch.zeros(len(tokens), device=logits.device)",
        "return tokens, logits.float().log_softmax(dim=-1).gather(1, tokens[:, None])[:, 0]",
    ),
    (
        "probabilities instead of log-probs",
        "You return probabilities. Their logarithm is asked for.",
        "sample_tokens",
        "return tokens[:, 0], logprobs[:, 0]",
        "return tokens[:, 0], logprobs[:, 0].exp()",
    ),
    (
        "the logit is the log-prob",
        "You return the logit. Subtract the log of the sum of all exp(logits).",
        "sample_tokens",
        LOGPROBS,
        "logits.gather(1, tokens)",
    ),
    (
        "the sum is not subtracted",
        "You subtract the largest logit, but not the log of the sum.",
        "sample_tokens",
        LOGPROBS,
        "logits.gather(1, tokens) - largest",
    ),
    (
        "the log-prob is the likeliest token's",
        "Your log-prob is that of the likeliest token, not of the one that was drawn.",
        "sample_tokens",
        LOGPROBS,
        "largest - largest - total.log()",
    ),
    (
        "the log-prob is of what was drawn up to there",
        "Your log-prob is that of the cumulative probability. Take the token's own.",
        "sample_tokens",
        LOGPROBS,
        "(cumulative.gather(1, tokens) / total).log()",
    ),
    (
        "all rows get the first one's number",
        "You use the first uniform number for all rows.",
        "sample_tokens",
        "uniforms[:, None] * total",
        "uniforms[:1, None] * total",
    ),
    (
        "the uniform numbers are not used",
        "You draw by random numbers of your own. The request's are given, so that a run can be "
        "repeated.",
        "sample_tokens",
        "",
        BEFORE + "logprobs = logits.log_softmax(dim=-1)\n"
        "own = torch.Generator().manual_seed(5)\n"
        "tokens = torch.multinomial(logprobs.exp(), 1, generator=own)\n"
        "return tokens[:, 0], logprobs.gather(1, tokens)[:, 0]",
    ),
    (
        "the uniform numbers are not used",
        "You draw by random numbers of your own. The request's are given, so that a run can be "
        "repeated.",
        "sample_tokens",
        "",
        BEFORE + "logprobs = logits.log_softmax(dim=-1)\n"
        "tokens = torch.multinomial(logprobs.exp(), 1)\n"
        "return tokens[:, 0], logprobs.gather(1, tokens)[:, 0]",
    ),
    (
        "the uniform numbers are not used",
        "You draw by random numbers of your own. The request's are given, so that a run can be "
        "repeated.",
        "sample_tokens",
        "",
        BEFORE + "every = torch.distributions.Categorical(logits=logits)\n"
        "tokens = every.sample()\n"
        "return tokens, every.log_prob(tokens)",
    ),
    (
        "the uniform numbers are not used",
        "You draw by random numbers of your own. The request's are given, so that a run can be "
        "repeated.",
        "sample_tokens",
        "",
        BEFORE + "logprobs = logits.log_softmax(dim=-1)\n"
        "noise = -torch.log(-torch.log(torch.rand_like(logprobs)))\n"
        "tokens = (logprobs + noise).argmax(dim=-1)\n"
        "return tokens, logprobs.gather(1, tokens[:, None])[:, 0]",
    ),
    (
        "the likeliest tokens come first",
        "You lay the tokens out from the likeliest on. Lay them out as the vocabulary has them.",
        "sample_tokens",
        "",
        BEFORE + "ordered, order = logits.log_softmax(dim=-1).sort(dim=-1, descending=True)\n"
        "place = (ordered.exp().cumsum(dim=-1) <= uniforms[:, None]).sum(dim=-1, keepdim=True)\n"
        "place = place.clamp(max=logits.shape[-1] - 1)\n"
        "return order.gather(1, place)[:, 0], ordered.gather(1, place)[:, 0]",
    ),
    (
        "one token too far",
        "You draw the token behind the right one: count the cumulative values that are at most u.",
        "sample_tokens",
        DRAW,
        f"{DRAW} + 1",
    ),
    (
        "one token too early",
        "You draw the token before the right one.",
        "sample_tokens",
        DRAW,
        f"({DRAW} - 1).clamp(min=0)",
    ),
    (
        "the sum is forgotten in the draw",
        "Your cumulative values do not end at 1, but the uniform numbers do.",
        "sample_tokens",
        "uniforms[:, None] * total",
        "uniforms[:, None]",
    ),
    (
        "the numbers are turned round",
        "You draw at 1 - u. Draw at u: the parts are laid end to end from 0.",
        "sample_tokens",
        "uniforms[:, None] * total",
        "(1 - uniforms[:, None]) * total",
    ),
    (
        "top-k and top-p are ignored",
        "top_k and top_p are not used: see `truncate`.",
        "sample_tokens",
        "truncate(logits, top_k, top_p)",
        "logits",
    ),
    (
        "top-k and top-p before the temperature",
        "You truncate before you divide by the temperature. top-p is of the distribution at "
        "the temperature.",
        "sample_tokens",
        "if temperature != 1:\n    logits = logits / temperature\n"
        "logits = truncate(logits, top_k, top_p)",
        "logits = truncate(logits, top_k, top_p) / temperature",
    ),
    (
        "log-probs of the whole distribution",
        "Tokens are drawn of what top-k and top-p leave, but log-probs are of the whole "
        "distribution.",
        "sample_tokens",
        "",
        """if temperature == 0:
    tokens = logits.argmax(dim=-1)
    return tokens, torch.zeros(len(tokens))
whole = (logits.float() / temperature).log_softmax(dim=-1)
cumulative = truncate(whole, top_k, top_p).exp().cumsum(dim=-1)
wanted = uniforms[:, None] * cumulative[:, -1:]
tokens = torch.searchsorted(cumulative, wanted, right=True)
tokens = tokens.clamp(max=logits.shape[-1] - 1)
return tokens[:, 0], whole.gather(1, tokens)[:, 0]""",
    ),
    (
        "columns instead of rows",
        "Your results are (B, 1). They are (B,).",
        "sample_tokens",
        "return tokens[:, 0], logprobs[:, 0]",
        "return tokens, logprobs",
    ),
    (
        "the log-probs are in another type",
        "The log-probs are torch.float32, and the tokens torch.int64.",
        "sample_tokens",
        "return tokens[:, 0], logprobs[:, 0]",
        "return tokens[:, 0], logprobs[:, 0].double()",
    ),
]
WHOLE = []

RIGHT = """
def sample_tokens(logits, uniforms, temperature, top_k=0, top_p=1.0):
    if temperature == 0:
        best = logits.float().argmax(dim=1)
        return best, torch.zeros(best.shape)
    logprobs = truncate(logits.float() / temperature, top_k, top_p).log_softmax(dim=-1)
    tokens = []
    for row, uniform in zip(logprobs, uniforms):
        chances = row.double().exp()
        reached, chosen = 0.0, None
        for token, chance in enumerate(chances.tolist()):
            if chance > 0:
                reached += chance
                chosen = token
                if reached > uniform:
                    break
        tokens.append(chosen)
    tokens = torch.tensor(tokens)
    return tokens, logprobs[torch.arange(len(tokens)), tokens]
"""
