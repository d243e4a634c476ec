"""Evaluation: avg@k, pass@k, tokens and truncation, with thinking (prompt x) and without (prompt x').

    python eval.py --model models/small                   # both modes, the bundled test split
    python eval.py --model runs/small/stage3 -k 8 --show 3

avg@k is the mean accuracy over k samples a problem, as in the paper's tables; its standard error is over problems, since samples of one problem
are not independent. The modes are kept apart: a thinking-mode response whose thinking block is empty is thinking-free in disguise, and is
counted in `empty`. Left out: majority voting, benchmarks other than a JSONL of problems and answers.
"""

import argparse
import json
import math
import re
import sys

import numpy as np

from problems import DataError, load_problems, load_split
from reward import math_reward
from rollout import generate

MODES = ("thinking", "thinking_free")
# A step (a line) that verifies: Figure 3 follows the share of these. The paper has a language model label the steps; words do for a lesson.
VERIFICATION = re.compile(r"\b(check|verify|wait|double-check|recheck|make sure|let me confirm)", re.IGNORECASE)
EMPTY = re.compile(r"\s*<think>\s*</think>")


def pass_at_k(n, c, k):
    """The unbiased estimate of pass@k from n samples of which c are right: 1 - C(n - c, k) / C(n, k) (Chen et al. 2021)."""
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples, not {n}.")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def response_text(tokenizer, prompt, rollout):
    """The response as text, its thinking block whole: a template that opened `<think>` in the prompt left half of it there."""
    opened = "<think>\n" if prompt.rstrip().endswith("<think>") else ""
    return opened + tokenizer.decode(rollout.response_ids, skip_special_tokens=True)


def verification_share(texts):
    """The share of non-empty lines that verify something."""
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    return sum(bool(VERIFICATION.search(line)) for line in lines) / max(1, len(lines))


def evaluate(model, tokenizer, prompts, golds, *, k, budget, stop_ids, temperature=1.0, seed=0, slots=256, progress=None):
    """Samples k responses to each prompt (text, rendered for one mode) and grades them: a dict of plain numbers, and the responses.

    accuracy (avg@k, 0 to 1) and its standard `error`, pass@k, mean `tokens`, `truncated`, `empty` and `verification` shares, `answer_tokens` (after
    `</think>`), and `responses`: a (text, reward) list, problem by problem.
    """
    encoded = [tokenizer(p, add_special_tokens=False)["input_ids"] for p in prompts]
    rollouts = generate(model, encoded, max_new_tokens=budget, stop_ids=stop_ids, temperature=temperature, seed=seed, samples=k,
                        slots=slots, progress=progress)
    texts = [response_text(tokenizer, prompts[i // k], r) for i, r in enumerate(rollouts)]
    rewards = np.array([math_reward(text, golds[i // k]) for i, text in enumerate(texts)]).reshape(-1, k)  # (problems, k)
    per_problem, n = rewards.mean(axis=1), len(prompts)
    answers = tokenizer([t.rsplit("</think>", 1)[-1] for t in texts], add_special_tokens=False)["input_ids"]
    return {
        "accuracy": float(per_problem.mean()),
        "error": float(per_problem.std(ddof=1) / math.sqrt(n)) if n > 1 else float("nan"),
        "pass_at_k": float(np.mean([pass_at_k(k, int(c), k) for c in rewards.sum(axis=1)])),
        "k": k,
        "problems": n,
        "tokens": float(np.mean([len(r.response_ids) for r in rollouts])),
        "answer_tokens": float(np.mean([len(a) for a in answers])),
        "truncated": float(np.mean([not r.finished for r in rollouts])),
        "empty": float(np.mean([bool(EMPTY.match(t)) for t in texts])),
        "verification": verification_share(texts),
        "responses": list(zip(texts, rewards.flatten().tolist())),
    }


def format_row(name, mode, result):
    return (f"{name:<10} {mode.replace('_', '-'):<14} {100 * result['accuracy']:5.1f} ± {100 * result['error']:3.1f} %  {result['tokens']:8.1f} tokens  "
            f"{100 * result['truncated']:5.1f} % truncated  {100 * result['verification']:5.1f} % verification  {100 * result['empty']:5.1f} % empty blocks")
