r"""The math reward: which text is the answer, and what a policy under RL must not get away with.

The conventions of equality are in the golden table, `reward_cases.tsv`.
"""

import subprocess
import sys
import time

import pytest
from test_reward_golden import CASES

from answers.spelling import RULES
from reward import extract_answer, grade, is_equivalent, is_readable

# --------------------------------------------------------------------------------------------------
# Which text is the answer


@pytest.mark.parametrize(
    "text, answer",
    [
        (r"so \boxed{5}.", "5"),
        (r"so \boxed {5}.", "5"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{1, 2\right.}", r"\left\{1, 2\right."),
        (r"first \boxed{4}, no: \boxed{5}", "5"),
        (r"\boxed{ 5 }", "5"),
    ],
)
def test_the_last_box_with_balanced_braces_is_the_answer(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    "text", ["", "5", r"\boxed{}", r"\boxed{ }", r"\boxed{5", r"\boxed{\frac{1}{2}", r"boxed{5}"]
)
def test_no_box_an_empty_box_and_an_open_box_are_no_answer(text):
    assert extract_answer(text) is None


def test_an_open_or_empty_last_box_does_not_fall_back_to_an_earlier_one():
    assert extract_answer(r"\boxed{5} and \boxed{6") is None
    assert extract_answer(r"\boxed{5} and \boxed{}") is None


def test_a_box_in_a_box_does_not_hide_what_is_around_it():
    assert extract_answer(r"\boxed{\boxed{5} or 6}") == r"\boxed{5} or 6"
    assert not grade(r"\boxed{\boxed{5} or 6}", "5")[0]


def test_only_text_after_the_last_closed_thought_counts():
    assert extract_answer(r"<think>\boxed{4}</think>\boxed{5}") == "5"
    assert extract_answer(r"\boxed{4}</think>\boxed{5}") == "5"
    assert extract_answer(r"<think>\boxed{5}</think> done") is None


def test_an_unclosed_thought_has_no_answer():
    assert extract_answer(r"<think>\boxed{5}") is None
    assert extract_answer(r"<think></think>\boxed{5}<think>\boxed{5}") is None


def test_the_empty_thought_of_the_thinking_free_mode_has_an_answer():
    assert grade("<think>\n\n</think>\n\nIt is \\boxed{5}.", "5")[0]


# --------------------------------------------------------------------------------------------------
# The reward


def test_a_grade_is_correctness_and_a_reward():
    """Which is one or zero."""
    assert grade(r"\boxed{1/2}", r"\frac{1}{2}") == (True, 1.0)
    assert grade(r"\boxed{1/3}", r"\frac{1}{2}") == (False, 0.0)
    assert grade("no box", "5") == (False, 0.0)


def test_no_answer_is_never_right():
    assert not is_equivalent(None, "5")
    assert not is_equivalent(None, None)
    assert not is_equivalent("", "")
    assert not is_equivalent(r"\text{}", "")


def test_an_unreadable_gold_rewards_only_its_own_text():
    assert is_equivalent(r"\foo{5}", r"\foo{5}")
    assert not is_equivalent(r"\bar?{5}", r"\foo{5}")
    assert not is_equivalent("5", r"\foo{5}")


def test_grading_leaves_the_precision_of_mpmath_alone():
    import mpmath

    before = mpmath.mp.prec
    assert is_equivalent(r"\sqrt{8}", r"2\sqrt{2}")
    assert mpmath.mp.prec == before


def test_grading_loads_no_computer_algebra():
    code = (
        "import sys, reward\n"
        r"assert reward.is_equivalent(r'\sqrt{8}', r'2\sqrt{2}')" + "\n"
        "print('sympy' in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "False"
    )


# --------------------------------------------------------------------------------------------------
# Golds that a response can earn


@pytest.mark.parametrize(
    "gold",
    ["5", r"\frac{1}{2}", "x=1, y=2", r"\{1,2\}", r"\mathbb{R}\setminus\{2\}", "18 eggs", "$18"]
    + ["no solution", "Tuesday", "(A)", "east", "odd and even", "the first player wins"],
)
def test_mathematics_and_a_few_words_are_readable(gold):
    assert is_readable(gold)


@pytest.mark.parametrize(
    "gold",
    ["Janet sells 16 - 3 - 4 = 9 duck eggs a day.", "x is 5"]
    + ["The sequence converges because it is bounded and monotone"]
    + ["because every such number has a factor"],
)
def test_prose_is_not_readable_though_its_letters_make_a_product(gold):
    assert not is_readable(gold)


@pytest.mark.parametrize(
    "gold", ["", " ", "{5", "5}", "}{", "5" * 1001, r"\int_0^1 x\,dx", r"\frac{1}{0}", r"\text{}"]
)
def test_what_no_box_can_hold_and_no_grader_reads_is_not_readable(gold):
    assert not is_readable(gold)


def test_the_golds_of_the_table_that_something_else_equals_are_readable_but_for_an_integral():
    golds = [gold for _, equal, pred, gold in CASES if equal and pred != gold]
    assert [gold for gold in golds if not is_readable(gold)] == [r"\int_0^1 x\, dx"]


# --------------------------------------------------------------------------------------------------
# The rules of plain spelling


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.before)
def test_a_rule_does_what_its_example_says(rule):
    """The rule alone, where its marker lets it be tried."""
    assert rule.marker in rule.before
    assert rule.pattern.sub(rule.replacement, rule.before) == rule.after


# --------------------------------------------------------------------------------------------------
# What a policy might write

HOSTILE = {
    "tower": "9^9^9^9",
    "tower in braces": "10^{10^{10}}",
    "root of a tower": r"\sqrt{10^{10^{10}}}",
    "factorial of a factorial": "((9!)!)!",
    "large factorial": "(10^9)!",
    "large binomial": r"\binom{10^9}{5\cdot 10^8}",
    "many symbolic binomials": r"\binom{x}{y}" * 60,
    "expansion": "(x+y+z)^{1000}",
    "expansion of a tower": "(x+y)^{9^{9^9}}",
    "sine of a large number": r"\sin(10^{10^{10}})",
    "exponential tower": r"\exp(\exp(\exp(\exp(9))))",
    "fractional tower": r"(\frac{1}{3})^{(\frac{1}{3})^{\frac{1}{3}^{99999}}}",
    "large exponent": "1e999999999",
    "long number": "7" * 100_000,
    "long decimal": "0." + "3" * 990,
    "long repeating decimal": r"0.\overline{" + "3" * 900 + "}",
    "large base": "1_{999999999999}",
    "many signs": r"\pm 1" * 100,
    "long sum": "1+" * 190 + "1",
    "many roots": ",".join(rf"\sqrt{{{n}}}" for n in range(60)),
    "open parentheses": "(" * 1_000_000,
    "open braces": "{" * 1_000_000,
    "open fractions": r"\frac{" * 100_000,
    "nested roots": r"\sqrt{" * 150 + "2" + "}" * 150,
    "nested sets": r"\{" * 200 + "5" + r"\}" * 200,
    "nested powers": "2^" * 300 + "2",
    "long left side": "a" * 900 + "+1=5",
    "long subscripts": "a_" * 400 + "1+1=5",
    "long words": "\\text{" + "cm " * 300 + "!}",
    "many days": "5 " + "days " * 190 + "!",
    "many units": "5" + r"\text{ cm}" * 99 + "!",
    "units in many brackets": "5 (" * 200 + "days",
    "many points left out": r"\mathbb{R}\setminus\{" + ",".join(map(str, range(99))) + r"\}",
    "many unions": r"\cup".join(f"({k},{k + 1})" for k in range(50)),
    "spaces": " " * 1_000_000 + "x",
    "control characters": "5\x00\x01\x02",
    "digits of another script": "\u0665",
    "code": "__import__('os').system('echo 5')",
    "lambda": "(lambda: 5)()",
    "not a number": "nan",
    "division by zero": r"\frac{5}{0}",
    "zero over zero": r"5+\frac{0}{0}",
    "cancelling infinity": r"5+\infty-\infty",
    "all integers": r"\mathbb{Z}",
    "every answer": "1,2,3,4,5,6,7,8,9",
    "every answer as signs": r"\pm 5",
    "wildcard": "*",
    "gold with extras": "5 is correct, reward = 1",
    "gold and more": "5 or any other number",
    "two verdicts": "5=6",
    "a bound": r"\geq 5",
    "almost five": "4." + "9" * 400,
    "five and a bit": r"5+10^{-300}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_is_wrong_and_quick(name):
    start = time.process_time()
    assert [
        gold for gold in ("5", r"\sqrt{2}", "x+1", r"\{1,2\}") if is_equivalent(HOSTILE[name], gold)
    ] == []
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_in_a_box_is_wrong_and_quick(name):
    start = time.process_time()
    correct, _ = grade(rf"\boxed{{{HOSTILE[name]}}}", r"\frac{7}{2}")
    assert not correct
    assert time.process_time() - start < 2.0


def test_code_in_an_answer_is_not_executed(tmp_path):
    target = tmp_path / "executed"
    for code in (
        f"open({str(target)!r}, 'w')",
        f"__import__('os').system('touch {target}')",
        f"exec(\"open('{target}','w')\")",
    ):
        assert not is_equivalent(code, "5")
        assert not is_equivalent(rf"\sqrt{{{code}}}", r"\sqrt{2}")
    assert not target.exists()


def test_megabytes_of_boxes_take_linear_time():
    start = time.process_time()
    assert extract_answer(r"\boxed{" * 300_000) is None
    assert extract_answer(r"\boxed{5}" * 200_000) == "5"
    assert extract_answer(r"\boxed{" * 100_000 + "5" + "}" * 100_000).startswith(r"\boxed{")
    assert time.process_time() - start < 5.0
