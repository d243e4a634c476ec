r"""The math reward against math-verify: the same pairs, in one process, one after the other.

    pip install "math-verify[antlr4_13_2]"
    python bench/reward.py

Three questions: how often does each grader agree with the golden table (`tests/reward_cases.tsv`;
its conventions are ours, so this is no neutral judge of math-verify), how long does a pair take,
and on the final answers of real-looking responses, where do the two graders disagree? Times are CPU
times, so that a busy machine does not matter, of cold pairs: our cache of parsed answers is emptied
before each, but both graders have been imported and used before. The last line is JSON.
"""

import json
import logging
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from test_reward_golden import CASES  # noqa: E402

import reward  # noqa: E402

try:
    from math_verify import parse, verify
except ImportError:
    sys.exit('math-verify is missing: pip install "math-verify[antlr4_13_2]"')

PATIENCE = 60  # seconds of math-verify's time-outs, which count wall time

THOUGHT = (
    "<think>\nLet me set this up carefully. Suppose first that the answer is \\boxed{7}... no, that ignores the second "
    "condition. Substituting $u = x^2 - 1$ gives $u^2 - 3u + 2 = 0$, so $u \\in \\{1, 2\\}$. Let me double-check the "
    "boundary cases $x = 0$ and $x = 3$; both are excluded.\n</think>\n\n"
)
WORK = (
    "**Step 1.** We rewrite the expression as $\\frac{a}{b} + \\sqrt{c}$ and note that $a^2 + b^2 = 25$.\n\n"
    "**Step 2.** Expanding, \\[ (x+1)^2 - 4 = x^2 + 2x - 3, \\] which vanishes at $x = 1$ and $x = -3$.\n\n"
)
TEMPLATES = [
    THOUGHT + WORK + "Therefore, the final answer is $\\boxed{%s}$.",
    WORK + "So\n\\[\n\\boxed{%s}\n\\]\nas required.",
    WORK
    + "A first guess is $\\boxed{42}$, but that misses a case. The correct answer is $\\boxed{%s}$",
    THOUGHT + "### Final answer\n\n$$\\boxed{%s}$$\n\nI hope this helps!",
]
RESPONSES = [  # what a model puts into the box, and the gold
    ("204", "204"), ("033", "33"), ("-12", "-12"), ("1,000", "1000"), ("12{,}500", "12500"), ("\\frac{7}{12}", "\\frac{7}{12}"),
    ("7/12", "\\frac{7}{12}"), ("\\dfrac{14}{24}", "\\frac{7}{12}"), ("0.5", "\\frac{1}{2}"), ("0.583", "\\frac{7}{12}"),
    ("2\\sqrt{13}", "2\\sqrt{13}"), ("\\sqrt{52}", "2\\sqrt{13}"), ("\\frac{1}{\\sqrt{3}}", "\\frac{\\sqrt{3}}{3}"),
    ("3\\pi", "3\\pi"), ("9.42", "3\\pi"), ("x = 5", "5"), ("x=3", "5"), ("n = 2^{10}", "1024"), ("2^{2024}", "2^{2024}"),
    ("(1, 2)", "(1,2)"), ("(2, 1)", "(1,2)"), ("\\left(\\frac{1}{2}, -3\\right)", "(0.5,-3)"), ("(3, \\frac{\\pi}{2})", "(3, \\pi/2)"),
    ("1, 2, 3", "\\{1,2,3\\}"), ("x = 1 \\text{ or } x = -3", "1, -3"), ("-3, 1", "1, -3"), ("1", "1, -3"), ("5, 6", "5"),
    ("\\pm 2", "2, -2"), ("2", "\\pm 2"), ("1 \\pm \\sqrt{2}", "1+\\sqrt{2}, 1-\\sqrt{2}"), ("[0, 1)", "[0,1)"), ("(0, 1)", "[0,1]"),
    ("(-\\infty, -1) \\cup (1, \\infty)", "(-\\infty,-1)\\cup(1,\\infty)"), ("x > 3", "(3,\\infty)"), ("-2 < x < 3", "(-2,3)"),
    ("x \\in [2, 5]", "[2,5]"), ("x \\le 4", "x\\leq 4"), ("x < 4", "x\\leq 4"), ("x^2 + 2x + 1", "(x+1)^2"), ("(x-1)(x+3)", "x^2+2x-3"),
    ("x^2 + 2x", "(x+1)^2"), ("\\frac{n(n+1)}{2}", "\\frac{n^2+n}{2}"), ("f(x) = 2x + 1", "2x+1"), ("y = 2x + 1", "y=2x+1"),
    ("2x - y + 1 = 0", "y=2x+1"), ("y = 2x", "y=2x+1"), ("A", "A"), ("(B)", "B"), ("\\text{C}", "C"), ("\\textbf{(D)}", "D"), ("E", "D"),
    ("\\text{Yes}", "yes"), ("\\text{no}", "yes"), ("45^\\circ", "45"), ("60^{\\circ}", "60^\\circ"), ("50\\%", "50"), ("25 \\text{ cm}^2", "25"),
    ("\\$18.90", "18.90"), ("12 \\text{ miles per hour}", "12"), ("5\\text{ million}", "5"), ("8!", "40320"), ("\\binom{10}{3}", "120"),
    ("\\log_2 8", "3"), ("\\ln 2", "\\ln 2"), ("\\frac{\\ln 3}{\\ln 2}", "\\log_2 3"), ("e^{2}", "e^2"), ("\\cos 60^\\circ", "\\frac12"),
    ("\\sin^2 x", "1-\\cos^2 x"), ("3 + 4i", "4i+3"), ("3 - 4i", "3+4i"), ("-\\frac{1}{2} + \\frac{\\sqrt{3}}{2}i", "\\frac{-1+i\\sqrt{3}}{2}"),
    ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"),
    ("\\begin{pmatrix} 1 & 3 \\\\ 2 & 4 \\end{pmatrix}", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"),
    ("\\begin{bmatrix} 2 \\\\ -1 \\end{bmatrix}", "\\begin{pmatrix}2\\\\-1\\end{pmatrix}"), ("0.\\overline{3}", "\\frac13"), ("0.333", "\\frac13"),
    ("1\\frac{3}{4}", "\\frac74"), ("1.75", "1\\frac34"), ("6.02 \\times 10^{23}", "6.02e23"), ("101_2", "101_2"), ("101_2", "5"), ("10001", "10000"),
    ("\\emptyset", "\\emptyset"), ("\\infty", "\\infty"), ("-\\infty", "\\infty"), ("\\frac{a+b}{2}", "\\frac{1}{2}(a+b)"), ("3:4", "\\frac34"),
    ("\\text{There are } 6", "6"), ("> 7", "7"), ("7 \\text{ or more}", "7"), ("\\sqrt[3]{16}", "2\\sqrt[3]{2}"), ("k \\ge 1", "k\\ge 1"),
    ("\\text{even}", "even"), ("a = 3, b = 4", "a=3,b=4"), ("(a, b) = (3, 4)", "(3,4)"), ("\\frac{3}{2} = 1.5", "1.5"), ("\\pi \\approx 3.14", "\\pi"),
]  # fmt: skip


def read(text: str) -> list:
    return parse(text, parsing_timeout=PATIENCE)


def math_verify_equal(pred: str, gold: str) -> bool:
    """Compare as math-verify is meant to be used: both sides in math mode, gold first."""
    return bool(verify(read(f"${gold}$"), read(f"${pred}$"), timeout_seconds=PATIENCE))


def math_verify_response(response: str, gold: str) -> bool:
    return bool(
        verify(read(f"${gold}$"), read(response.split("</think>")[-1]), timeout_seconds=PATIENCE)
    )


def our_equal(pred: str, gold: str) -> bool:
    return reward.is_equivalent(pred, gold)


def forget() -> None:
    reward.read.cache_clear()


def grade_table(equal) -> dict:
    """Grade the golden table; return times in microseconds, agreement and false positives."""
    times, right, false_positives = [], 0, []
    for _, expected, pred, gold in CASES:
        forget()
        start = time.process_time()
        verdict = equal(pred, gold)
        times.append((time.process_time() - start) * 1e6)
        right += verdict is expected
        if verdict and not expected:
            false_positives.append((pred, gold))
    times.sort()
    return {
        "median_us": statistics.median(times),
        "p99_us": times[int(0.99 * len(times))],
        "max_us": times[-1],
        "agreement": right / len(CASES),
        "false_positives": len(false_positives),
    }


def main() -> None:
    logging.disable(logging.CRITICAL)  # math-verify warns at every answer that it cannot read
    for equal in (our_equal, math_verify_equal):  # imports and tables
        for _, _, pred, gold in CASES[::40] + [("", True, r"\binom{n}{2}", r"\frac{n(n-1)}{2}")]:
            equal(pred, gold)

    ours, theirs = grade_table(our_equal), grade_table(math_verify_equal)
    print(f"golden table: {len(CASES)} pairs, {sum(case[1] for case in CASES)} of them equal\n")
    print(
        f"{'':14}{'median us':>12}{'p99 us':>12}{'max us':>12}{'agreement':>12}{'false positives':>18}"
    )
    for name, row in (("reward.py", ours), ("math-verify", theirs)):
        print(
            f"{name:14}{row['median_us']:12.0f}{row['p99_us']:12.0f}{row['max_us']:12.0f}"
            f"{row['agreement']:12.1%}{row['false_positives']:18d}"
        )
    print(f"\nmedian: {theirs['median_us'] / ours['median_us']:.0f} times faster\n")

    agree, disagreements = 0, []
    for k, (answer, gold) in enumerate(RESPONSES):
        response = TEMPLATES[k % len(TEMPLATES)] % answer
        verdicts = reward.math_reward(response, gold) == 1.0, math_verify_response(response, gold)
        agree += verdicts[0] == verdicts[1]
        if verdicts[0] != verdicts[1]:
            disagreements.append((answer, gold, *verdicts))
    print(f"responses: the graders agree on {agree} of {len(RESPONSES)}; they disagree on")
    for answer, gold, mine, other in disagreements:
        print(f"  answer {answer}   gold {gold}   reward.py {mine}, math-verify {other}")

    result = {
        "pairs": len(CASES),
        "ours": ours,
        "math_verify": theirs,
        "speedup": theirs["median_us"] / ours["median_us"],
    }
    print(json.dumps(result | {"responses": len(RESPONSES), "responses_agree": agree}))


if __name__ == "__main__":
    main()
