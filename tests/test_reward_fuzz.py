"""Property tests of the math reward, on generated answers and on random and mutated strings."""

import random
import time

import pytest
from test_reward_golden import CASES

from answers.algebra import Refuse, read
from answers.spelling import tidy
from reward import extract_answer, grade, is_equivalent

SEED = 20_26
ANSWERS = sorted({text for _, _, pred, gold in CASES for text in (pred, gold)})
EQUAL = [(pred, gold) for _, equal, pred, gold in CASES if equal]
PIECES = r"""
    \frac{ \frac12 \sqrt{ \sqrt[3] \left( \right) \boxed{ \text{ \pm \mp \cup \infty \pi \sin \log_
    \ln \binom{ \overline{ \begin{pmatrix} \end{pmatrix} \\ & \{ \} { } ( ) [ ] | ^ ^{ _ ! !! , ; .
    .. - + * / = < > <= \le \neq \approx 0 1 7 12 1,234 0.5 1e9 99999 x y i e n abc or and not cm %
    $ ° √ ² ½ ∞ − ≤ </think> <think> __import__('os') lambda:
""".split()
PIECES += [" ", "\n", "\x00", "\x7f", "\u200b", "\ud800"]


def random_text(rng: random.Random) -> str:
    """Pieces of LaTeX, raw characters, or a golden answer: cut, spoiled, repeated or nested."""
    kind = rng.randrange(6)
    answer = rng.choice(ANSWERS)
    at = rng.randrange(len(answer) + 1)
    if kind == 0:
        return "".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 30)))
    if kind == 1:
        return "".join(chr(rng.randrange(0x250)) for _ in range(rng.randrange(1, 40)))
    if kind == 2:
        return answer[:at]
    if kind == 3:
        return answer[:at] + rng.choice(PIECES) + answer[at:]
    if kind == 4:
        return (answer + rng.choice(["", "+", "^", ",", "!", r"\pm"])) * rng.randrange(2, 60)
    opening = rng.choice(["(", "{", r"\sqrt{", r"\frac{1}{", r"\{", "|", "2^{", r"\sin("])
    return opening * rng.randrange(1, 200) + answer


def check_strings(count: int) -> float:
    """Grades `count` random strings against golden answers; returns the slowest time in seconds.

    An exception is a failure.
    """
    rng = random.Random(SEED)
    slowest = 0.0
    for _ in range(count):
        text = random_text(rng)
        gold = rng.choice(ANSWERS)
        try:
            read(tidy(text[:1000]))  # `is_equivalent` would hide a bug
        except (Refuse, ArithmeticError, ValueError):
            pass
        start = time.process_time()
        verdict = is_equivalent(text, gold)
        grade(rf"<think>{text}</think>\boxed{{{text}}}", gold)
        slowest = max(slowest, time.process_time() - start)
        assert isinstance(verdict, bool)
    return slowest


# --------------------------------------------------------------------------------------------------
# Properties


def test_every_answer_equals_itself():
    assert [answer for answer in ANSWERS if not is_equivalent(answer, answer)] == []


def test_equality_is_symmetric_on_random_pairs():
    rng = random.Random(SEED)
    pairs = [(rng.choice(ANSWERS), rng.choice(ANSWERS)) for _ in range(2000)]
    assert [(a, b) for a, b in pairs if is_equivalent(a, b) is not is_equivalent(b, a)] == []


HARMLESS = {
    "spaces around": lambda text: f"  {text}\n",
    "dollars": lambda text: f"${text}$",
    "display style": lambda text: rf"\displaystyle {text}",
    "thin space": lambda text: rf"\,{text}",
    "a final dot": lambda text: text if text[-1] in ".?!" else f"{text}.",
    "larger fractions": lambda text: text.replace(r"\frac", r"\dfrac"),
    "sized parentheses": lambda text: text.replace("(", r"\left(").replace(")", r"\right)"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_rewriting_changes_no_verdict(name):
    assert [
        (pred, gold) for pred, gold in EQUAL if not is_equivalent(HARMLESS[name](pred), gold)
    ] == []


def test_a_larger_integer_is_never_equal():
    rng = random.Random(SEED)
    for _ in range(300):
        n = rng.randrange(10 ** rng.randrange(1, 40))
        assert is_equivalent(f"{n:,}", str(n))
        assert not is_equivalent(str(n + 1), str(n))


def test_a_rational_equals_all_its_spellings():
    rng = random.Random(SEED)
    for _ in range(300):
        a = rng.randrange(1, 99)
        b = rng.randrange(1, 99)
        k = rng.randrange(1, 9)
        for text in (
            f"{a}/{b}",
            rf"\frac{{{a}}}{{{b}}}",
            rf"\dfrac{{{k * a}}}{{{k * b}}}",
            rf"{a}\cdot\frac{{1}}{{{b}}}",
        ):
            assert is_equivalent(text, f"{k * a}/{k * b}")


def test_a_polynomial_equals_its_expansion_and_no_other():
    rng = random.Random(SEED)
    for _ in range(100):
        a = rng.randrange(1, 50)
        b = rng.randrange(1, 50)
        expanded = f"x^2+{a + b}x+{a * b}"
        assert is_equivalent(f"(x+{a})(x+{b})", expanded)
        assert not is_equivalent(f"(x+{a})(x+{b + 1})", expanded)


# --------------------------------------------------------------------------------------------------
# Random and mutated strings: no exception, bounded time


def test_random_strings():
    assert check_strings(1_000) < 2.0


@pytest.mark.slow
def test_a_hundred_thousand_random_strings():
    assert check_strings(100_000) < 2.0


@pytest.mark.parametrize("piece", PIECES)
def test_a_megabyte_of_one_piece(piece):
    text = piece * (1_000_000 // len(piece))
    start = time.process_time()
    extract_answer(text)
    grade(rf"\boxed{{{text}}}", "5")
    assert time.process_time() - start < 2.0
