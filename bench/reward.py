r"""The math reward against math-verify: the same pairs, in one process, one after the other.

    pip install "math-verify[antlr4_13_2]"
    python bench/reward.py

Three questions: how often does each grader agree with the golden table (`tests/reward_cases.tsv`;
its conventions are ours, so this is no neutral judge of math-verify), how long does a pair take,
and where do the two graders disagree on the final answers of real-looking responses? Times are CPU
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
from answers.algebra import read as read_ours  # noqa: E402

try:
    from math_verify import parse, verify
except ImportError:
    sys.exit('math-verify is missing: pip install "math-verify[antlr4_13_2]"')

PATIENCE = 60  # seconds of math-verify's time-outs, which count wall time

THOUGHT = (
    "<think>\nLet me set this up carefully. Suppose first that the answer is \\boxed{7}... no, "
    "that ignores the second condition. Substituting $u = x^2 - 1$ gives $u^2 - 3u + 2 = 0$, so "
    "$u \\in \\{1, 2\\}$. Let me double-check the boundary cases $x = 0$ and $x = 3$; both are "
    "excluded.\n</think>\n\n"
)
WORK = (
    "**Step 1.** We rewrite the expression as $\\frac{a}{b} + \\sqrt{c}$ and note that "
    "$a^2 + b^2 = 25$.\n\n"
    "**Step 2.** Expanding, \\[ (x+1)^2 - 4 = x^2 + 2x - 3, \\] which vanishes at $x = 1$ and "
    "$x = -3$.\n\n"
)
TEMPLATES = [
    THOUGHT + WORK + "Therefore, the final answer is $\\boxed{%s}$.",
    WORK + "So\n\\[\n\\boxed{%s}\n\\]\nas required.",
    WORK
    + "A first guess is $\\boxed{42}$, but that misses a case. The correct answer is $\\boxed{%s}$",
    THOUGHT + "### Final answer\n\n$$\\boxed{%s}$$\n\nI hope this helps!",
]
# fmt: off
RESPONSES = [  # what a model puts into the box, and the gold
    ("204", "204"), ("033", "33"), ("-12", "-12"), ("1,000", "1000"), ("12{,}500", "12500"),
    (r"\frac{7}{12}", r"\frac{7}{12}"), ("7/12", r"\frac{7}{12}"),
    (r"\dfrac{14}{24}", r"\frac{7}{12}"), ("0.5", r"\frac{1}{2}"), ("0.583", r"\frac{7}{12}"),
    (r"2\sqrt{13}", r"2\sqrt{13}"), (r"\sqrt{52}", r"2\sqrt{13}"),
    (r"\frac{1}{\sqrt{3}}", r"\frac{\sqrt{3}}{3}"), (r"3\pi", r"3\pi"), ("9.42", r"3\pi"),
    ("x = 5", "5"), ("x=3", "5"), ("n = 2^{10}", "1024"), ("2^{2024}", "2^{2024}"),
    ("(1, 2)", "(1,2)"), ("(2, 1)", "(1,2)"), (r"\left(\frac{1}{2}, -3\right)", "(0.5,-3)"),
    (r"(3, \frac{\pi}{2})", r"(3, \pi/2)"), ("1, 2, 3", r"\{1,2,3\}"),
    (r"x = 1 \text{ or } x = -3", "1, -3"), ("-3, 1", "1, -3"), ("1", "1, -3"), ("5, 6", "5"),
    (r"\pm 2", "2, -2"), ("2", r"\pm 2"), (r"1 \pm \sqrt{2}", r"1+\sqrt{2}, 1-\sqrt{2}"),
    ("[0, 1)", "[0,1)"), ("(0, 1)", "[0,1]"),
    (r"(-\infty, -1) \cup (1, \infty)", r"(-\infty,-1)\cup(1,\infty)"), ("x > 3", r"(3,\infty)"),
    ("-2 < x < 3", "(-2,3)"), (r"x \in [2, 5]", "[2,5]"), (r"x \le 4", r"x\leq 4"),
    ("x < 4", r"x\leq 4"), ("x^2 + 2x + 1", "(x+1)^2"), ("(x-1)(x+3)", "x^2+2x-3"),
    ("x^2 + 2x", "(x+1)^2"), (r"\frac{n(n+1)}{2}", r"\frac{n^2+n}{2}"), ("f(x) = 2x + 1", "2x+1"),
    ("y = 2x + 1", "y=2x+1"), ("2x - y + 1 = 0", "y=2x+1"), ("y = 2x", "y=2x+1"), ("A", "A"),
    ("(B)", "B"), (r"\text{C}", "C"), (r"\textbf{(D)}", "D"), ("E", "D"), (r"\text{Yes}", "yes"),
    (r"\text{no}", "yes"), (r"45^\circ", "45"), (r"60^{\circ}", r"60^\circ"), (r"50\%", "50"),
    (r"25 \text{ cm}^2", "25"), (r"\$18.90", "18.90"), (r"12 \text{ miles per hour}", "12"),
    (r"5\text{ million}", "5"), ("8!", "40320"), (r"\binom{10}{3}", "120"), (r"\log_2 8", "3"),
    (r"\ln 2", r"\ln 2"), (r"\frac{\ln 3}{\ln 2}", r"\log_2 3"), ("e^{2}", "e^2"),
    (r"\cos 60^\circ", r"\frac12"), (r"\sin^2 x", r"1-\cos^2 x"), ("3 + 4i", "4i+3"),
    ("3 - 4i", "3+4i"), (r"-\frac{1}{2} + \frac{\sqrt{3}}{2}i", r"\frac{-1+i\sqrt{3}}{2}"),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    (r"\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    (r"\begin{bmatrix} 2 \\ -1 \end{bmatrix}", r"\begin{pmatrix}2\\-1\end{pmatrix}"),
    (r"0.\overline{3}", r"\frac13"), ("0.333", r"\frac13"), (r"1\frac{3}{4}", r"\frac74"),
    ("1.75", r"1\frac34"), (r"6.02 \times 10^{23}", "6.02e23"), ("101_2", "101_2"), ("101_2", "5"),
    ("10001", "10000"), (r"\emptyset", r"\emptyset"), (r"\infty", r"\infty"),
    (r"-\infty", r"\infty"), (r"\frac{a+b}{2}", r"\frac{1}{2}(a+b)"), ("3:4", r"\frac34"),
    (r"\text{There are } 6", "6"), ("> 7", "7"), (r"7 \text{ or more}", "7"),
    (r"\sqrt[3]{16}", r"2\sqrt[3]{2}"), (r"k \ge 1", r"k\ge 1"), (r"\text{even}", "even"),
    ("a = 3, b = 4", "a=3,b=4"), ("(a, b) = (3, 4)", "(3,4)"), (r"\frac{3}{2} = 1.5", "1.5"),
    (r"\pi \approx 3.14", r"\pi"),
]
# fmt: on


def read(text: str) -> list:
    return parse(text, parsing_timeout=PATIENCE)


def math_verify_equal(pred: str, gold: str) -> bool:
    """As math-verify is meant to be used: both sides in math mode, gold first."""
    return bool(verify(read(f"${gold}$"), read(f"${pred}$"), timeout_seconds=PATIENCE))


def math_verify_response(response: str, gold: str) -> bool:
    answer = response.split("</think>")[-1]
    return bool(verify(read(f"${gold}$"), read(answer), timeout_seconds=PATIENCE))


def our_equal(pred: str, gold: str) -> bool:
    return reward.is_equivalent(pred, gold)


def grade_table(equal) -> dict:
    """Grades the golden table: times in microseconds, agreement and number of false positives."""
    times = []
    right = 0
    false_positives = 0
    for _, expected, pred, gold in CASES:
        read_ours.cache_clear()
        start = time.process_time()
        verdict = equal(pred, gold)
        times.append((time.process_time() - start) * 1e6)
        right += verdict is expected
        false_positives += verdict and not expected
    times.sort()
    return {
        "median_us": statistics.median(times),
        "p99_us": times[int(0.99 * len(times))],
        "max_us": times[-1],
        "agreement": right / len(CASES),
        "false_positives": false_positives,
    }


def warm_up() -> None:
    """Imports, and the tables of both graders."""
    pairs = [(pred, gold) for _, _, pred, gold in CASES[::40]]
    for pred, gold in [*pairs, (r"\binom{n}{2}", r"\frac{n(n-1)}{2}")]:
        our_equal(pred, gold)
        math_verify_equal(pred, gold)


def print_table(rows: dict) -> None:
    print(f"golden table: {len(CASES)} pairs, {sum(case[1] for case in CASES)} of them equal\n")
    head = f"{'':14}{'median us':>12}{'p99 us':>12}{'max us':>12}{'agreement':>12}"
    print(f"{head}{'false positives':>18}")
    for name, row in rows.items():
        times = "".join(f"{row[key]:12.0f}" for key in ("median_us", "p99_us", "max_us"))
        print(f"{name:14}{times}{row['agreement']:12.1%}{row['false_positives']:18d}")


def compare_responses() -> int:
    """Prints where the graders disagree on responses; returns on how many they agree."""
    disagreements = []
    for k, (answer, gold) in enumerate(RESPONSES):
        response = TEMPLATES[k % len(TEMPLATES)] % answer
        mine, _ = reward.grade(response, gold)
        other = math_verify_response(response, gold)
        if mine != other:
            disagreements.append((answer, gold, mine, other))
    agree = len(RESPONSES) - len(disagreements)
    print(f"responses: the graders agree on {agree} of {len(RESPONSES)}; they disagree on")
    for answer, gold, mine, other in disagreements:
        print(f"  answer {answer}   gold {gold}   reward.py {mine}, math-verify {other}")
    return agree


def main() -> None:
    logging.disable(logging.CRITICAL)  # math-verify warns at every answer that it cannot read
    warm_up()
    ours = grade_table(our_equal)
    theirs = grade_table(math_verify_equal)
    speedup = theirs["median_us"] / ours["median_us"]
    print_table({"reward.py": ours, "math-verify": theirs})
    print(f"\nmedian: {speedup:.0f} times faster\n")
    agree = compare_responses()
    result = {
        "pairs": len(CASES),
        "ours": ours,
        "math_verify": theirs,
        "speedup": speedup,
        "responses": len(RESPONSES),
        "responses_agree": agree,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
