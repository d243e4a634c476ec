"""Known wrong answers to assignment 3. See wrong.py."""

HINTS = {
    "pass@k is biased": (
        "1 - (1 - c/n)^k draws k samples *with* putting back. That is too small: draw without."
    ),
    "pass@1 is that of all samples": "You give pass@k of all samples for every k.",
}

SKIPPED = {}

BODY = "1.0 - math.comb(n - c, k) / math.comb(n, k)"
CHECK = 'if not 1 <= k <= n:\n    raise ValueError("k")\n'

MORE = [
    ("zeros", "Your estimate is 0, whatever the samples are.", "pass_at_k", BODY, "0.0"),
    (
        "the share of right samples",
        "c / n is pass@1. With k chances, one of them being right is enough.",
        "pass_at_k",
        BODY,
        "c / n",
    ),
    (
        "one right sample is enough",
        "You give 1 as soon as one of the n samples is right. That is pass@n.",
        "pass_at_k",
        BODY,
        "float(c > 0)",
    ),
    (
        "all k must be right",
        "You count the choices in which *all* are right. One right one is enough.",
        "pass_at_k",
        BODY,
        "math.comb(c, k) / math.comb(n, k)",
    ),
    (
        "the share of failures",
        "You give the chance that all k are wrong. pass@k is 1 minus that.",
        "pass_at_k",
        BODY,
        "math.comb(n - c, k) / math.comb(n, k)",
    ),
    (
        "right and wrong are swapped",
        "You count choices among the right samples. What fails is a choice of wrong ones alone.",
        "pass_at_k",
        BODY,
        "1.0 - math.comb(c, k) / math.comb(n, k)",
    ),
    (
        "exactly one right",
        "You count choices with exactly one right sample. At least one is enough.",
        "pass_at_k",
        BODY,
        "c * math.comb(n - c, k - 1) / math.comb(n, k)",
    ),
    (
        "k times the share",
        "You multiply c / n by k. Chances do not add up.",
        "pass_at_k",
        BODY,
        "min(1.0, k * c / n)",
    ),
    (
        "the power has the wrong base",
        "(c / n)^k is the chance that k samples in a row are right.",
        "pass_at_k",
        BODY,
        "(c / n) ** k",
    ),
    (
        "a division by 0 where fewer than k are wrong",
        "Where fewer than k samples are wrong, every choice has a right one: 1, not an error.",
        "pass_at_k",
        BODY,
        "1.0 - math.factorial(n - c) * math.factorial(n - k) "
        "/ (math.factorial(n) * math.factorial(n - c - k))",
    ),
    (
        "where fewer than k are wrong, it is 0",
        "Where fewer than k samples are wrong, every choice has a right one: it is 1.",
        "pass_at_k",
        BODY,
        "0.0 if n - c < k else " + BODY,
    ),
    (
        "large numbers overflow",
        "Your numbers overflow: a float ends at 1e308. Python's whole numbers do not, or multiply "
        "quotients near 1.",
        "pass_at_k",
        BODY,
        "1.0 - float(math.comb(n - c, k)) / float(math.comb(n, k))",
    ),
    (
        "large numbers overflow",
        "exp of a difference of lgamma loses digits, or overflows, at such numbers.",
        "pass_at_k",
        BODY,
        "1.0 - math.comb(n - c, k) * 1.0 / (math.comb(n, k) * 1.0)",
    ),
    (
        "large numbers overflow",
        "Your factorials overflow: a float ends at 1e308. Whole numbers do not, or multiply "
        "quotients near 1.",
        "pass_at_k",
        BODY,
        "1.0 if n - c < k else float(1 - np.prod(np.arange(1.0, n - c + 1)) "
        "* np.prod(np.arange(1.0, n - k + 1)) / np.prod(np.arange(1.0, n - c - k + 1)) "
        "/ np.prod(np.arange(1.0, n + 1)))",
    ),
    (
        "k larger than n is let through",
        "pass@k needs at least k samples. Refuse it by ValueError, rather than give a number.",
        "pass_at_k",
        "if not 1 <= k <= n:",
        "if not 1 <= k:",
    ),
    (
        "k larger than n is let through",
        "pass@k needs at least k samples. Refuse it by ValueError, rather than give a number.",
        "pass_at_k",
        "",
        "if k > n:\n    return float(c > 0)\nif k < 1:\n    raise ValueError(k)\nreturn " + BODY,
    ),
    (
        "k = 0 is let through",
        "pass@0 makes no sense: ValueError.",
        "pass_at_k",
        "if not 1 <= k <= n:",
        "if k > n:",
    ),
    (
        "nothing is refused",
        "k larger than n, and k = 0, make no sense: ValueError.",
        "pass_at_k",
        "",
        "return 1.0 - math.comb(n - c, k) / max(1, math.comb(n, k))",
    ),
    (
        "pass@n is refused",
        "k = n is allowed: one way to choose, all samples.",
        "pass_at_k",
        "1 <= k <= n",
        "1 <= k < n",
    ),
    (
        "the reward counts, not what is correct",
        "You count rewards. Accuracy counts what is `correct`; a reward may know partial credit.",
        "pass_rates",
        "rollout.correct",
        "rollout.reward > 0.5",
    ),
    (
        "the mean of c before the estimate",
        "You estimate from the mean number of right samples. Estimate for each problem, then "
        "average.",
        "pass_rates",
        "mean(pass_at_k(most, c, k) for c in right)",
        "pass_at_k(most, round(mean(right)), k)",
    ),
    (
        "the last k is missing",
        "Of 6 samples you give pass@1, 2 and 4. pass@6, with all of them, is asked for, too.",
        "pass_rates",
        " | {most}",
        "",
    ),
    (
        "the mean over problems is a sum",
        "You add up over problems. Give the mean.",
        "pass_rates",
        "mean(pass_at_k(most, c, k) for c in right)",
        "sum(pass_at_k(most, c, k) for c in right)",
    ),
    (
        "every k is given",
        "You give every k. Asked for are 1, 2, 4, ... and the number of samples.",
        "pass_rates",
        "{2**i for i in range(most.bit_length())}",
        "set(range(1, most + 1))",
    ),
]

WHOLE = []

RIGHT = """
def pass_at_k(n, c, k):
    if k < 1 or k > n:
        raise ValueError("not so many samples")
    fails = 1.0
    for i in range(k):
        fails *= max(0, n - c - i) / (n - i)
    return 1.0 - fails

def pass_rates(groups):
    n = len(groups[0])
    rates = {}
    k = 1
    while k <= n:
        rates[str(k)] = 0.0
        k *= 2
    rates[str(n)] = 0.0
    for k in rates:
        for group in groups:
            c = sum(r.correct for r in group)
            rates[k] += pass_at_k(n, c, int(k)) / len(groups)
    return rates
"""
