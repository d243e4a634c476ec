"""The math reward: 1.0 if the last boxed answer of a response equals the gold answer, else 0.0.

First version: text and plain rational numbers only; nothing in an answer is ever executed.
"""

import re
from fractions import Fraction

NUMBER = re.compile(r"[+-]?\d{1,200}(\.\d{1,200})?")


def extract_answer(text: str) -> str | None:
    """Return the content of the last `\\boxed{...}` after the last `</think>`, or None."""
    if text.rfind("<think>") > text.rfind("</think>"):
        return None  # still thinking: a box in the thoughts counts for nothing
    text = text[text.rfind("</think>") + 1 :]
    start = max((m.end() for m in re.finditer(r"\\boxed\s*\{", text)), default=-1)
    if start < 0:
        return None
    depth = 1
    for end in range(start, len(text)):
        depth += (text[end] == "{") - (text[end] == "}")
        if depth == 0:
            return text[start:end].strip() or None
    return None


def normalize(text: str) -> str:
    """Strip what carries no meaning: dollars, spaces, thousands separators, size commands."""
    text = re.sub(r"\\[,;!: ]|\\left|\\right|[$\s]", "", text).replace("dfrac", "frac").replace("tfrac", "frac")
    return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)


def read_number(text: str) -> Fraction | None:
    """Read an integer, a decimal, `a/b` or `\\frac{a}{b}` exactly; None for anything else."""
    text = re.sub(r"^(-?)\\frac\{(\d+)\}\{(\d+)\}$", r"\1\2/\3", text)
    parts = text.split("/")
    if len(parts) > 2 or not all(NUMBER.fullmatch(p) for p in parts):
        return None
    values = [Fraction(p) for p in parts]
    if len(values) == 1:
        return values[0]
    return values[0] / values[1] if values[1] else None


def is_equivalent(pred: str | None, gold: str | None) -> bool:
    """Say whether two answers are the same text or the same rational number."""
    if not isinstance(pred, str) or not isinstance(gold, str) or len(pred) > 1000:
        return False
    pred, gold = normalize(pred), normalize(gold)
    if pred == gold:
        return pred != ""
    a, b = read_number(pred), read_number(gold)
    return a is not None and a == b


def math_reward(response: str, gold: str) -> float:
    """Return 1.0 if the response's final answer equals the gold answer, else 0.0."""
    return float(is_equivalent(extract_answer(response), gold))
