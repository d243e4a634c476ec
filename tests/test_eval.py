"""Measures of eval.py against enumeration and hand counts.

The tokenizer is one of single characters.
"""

import itertools
import json
import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from tokenizers import AddedToken

import eval as eval_module
from eval import (
    pass_at_k,
    pass_rates,
    response_text,
    sample_and_grade,
    summarise,
    verification_share,
)
from problems import Problem, load_split
from reward import grade
from rollout import Rollout
from support.config import MODES
from support.model import ModelError
from support.report import report


class Characters:
    """A tokenizer whose tokens are the code points of the text.

    The stop token 0 is special and leaves no text.
    """

    added_tokens_decoder = {0: AddedToken("<stop>", special=True)}

    def __call__(self, texts, add_special_tokens):
        several = isinstance(texts, list)
        return {"input_ids": [self.encode(t) for t in texts] if several else self.encode(texts)}

    def apply_chat_template(self, messages, **_):
        return messages[0]["content"]

    def encode(self, text):
        return [ord(c) for c in text]

    def decode(self, ids):
        return "".join(chr(i) for i in ids)


class SmallAlphabet(Characters):
    """The same with 40 tokens, for a tiny model."""

    def encode(self, text):
        return [ord(c) % 40 for c in text]

    def decode(self, ids):
        return "".join(chr(ord("A") + i) for i in ids)


def written(text, finished=True):
    """A rollout that says text."""
    ids = Characters().encode(text) + [0] * finished
    return Rollout([1], ids, [-1.0] * len(ids), finished)


def grade_texts(monkeypatch, rollouts, golds, k, prompts=None):
    """sample_and_grade() with prepared responses instead of a model's."""
    monkeypatch.setattr("eval.generate", lambda *args, **options: rollouts)
    model = SimpleNamespace(device=torch.device("cpu"))
    problems = list(map(Problem, prompts or ["?"] * len(golds), golds))
    return sample_and_grade(model, Characters(), problems, True, "", samples=k, label="")


def summarise_texts(*arguments):
    return summarise(Characters(), grade_texts(*arguments))


# --------------------------------------------------------------------------------------------------
# The parts


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_pass_at_k_equals_enumeration(n):
    """The share of all k-subsets of n samples that hold a right one.

    For every number of right ones.
    """
    for k, right in itertools.product(range(1, n + 1), range(n + 1)):
        subsets = list(itertools.combinations([1] * right + [0] * (n - right), k))
        assert pass_at_k(n, right, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@pytest.mark.parametrize("k", [0, 5])
def test_pass_at_k_needs_k_samples(k):
    """More draws than samples, or none, say so instead of dividing by zero."""
    with pytest.raises(ValueError, match=f"pass@{k}"):
        pass_at_k(4, 2, k)


@pytest.mark.parametrize(
    "prompt, expected",
    [
        ("user: 1+1\nassistant:\n", "so 2"),
        ("assistant:\n<think>\n", "<think>\nso 2"),
        ("assistant:\n<think>\n\n</think>\n\n", "so 2"),
        ("what is <think>? assistant:\n", "so 2"),
    ],
)
def test_response_text_restores_an_opened_block(prompt, expected):
    """A template that opens `<think>` at the prompt's end left half of the block there.

    A closed or mentioned one did not.
    """
    assert response_text(Characters(), prompt, written("so 2").response_ids) == expected


def test_verification_share_counts_lines():
    """Blank lines are not steps, case and inflection do not matter, and `await` is no `wait`."""
    assert (
        verification_share(["1 + 1 = 2\n\nVerifying: 2\n", "Wait, no.\nI await it, unchecked."])
        == 2 / 4
    )
    assert verification_share([""]) == 0


@pytest.mark.parametrize(
    "line, verifies",
    [
        ("Let me verify that", True),
        ("Checking 2 + 2", True),
        ("no, WAIT", True),
        ("I double-check", True),
        ("Recheck: 4", True),
        ("to make sure", True),
        ("so let me confirm it", True),
        ("unchecked, I await", False),
        ("sure, I confirm", False),
    ],
)
def test_words_that_verify(line, verifies):
    """Anywhere in a line, at the beginning of a word."""
    assert verification_share([line]) == verifies


# --------------------------------------------------------------------------------------------------
# Graded responses and their summary


def test_accuracy_and_its_error_are_over_problems(monkeypatch):
    """avg@2 of three problems by hand: 1, 1/2, 0.

    The error is the deviation of these three over the root of 3, not of six samples.
    """
    texts = [r"\boxed{1}", r"\boxed{1}", r"\boxed{2}", r"\boxed{9}", r"\boxed{9}", "no box"]
    result = summarise_texts(monkeypatch, [written(t) for t in texts], ["1", "2", "3"], 2)
    assert result["accuracy"] == pytest.approx(0.5)
    assert result["error"] == pytest.approx(0.5 / math.sqrt(3))
    assert result["pass_at_k"] == pytest.approx(2 / 3)


def test_pass_rates_go_up_to_all_samples(monkeypatch):
    """Powers of two and k itself; of two problems, one with a right answer in six, by hand."""
    texts = ["2"] * 5 + [r"\boxed{1}"] + ["2"] * 6
    groups = grade_texts(monkeypatch, [written(text) for text in texts], ["1", "1"], 6)
    rates = {"1": 1 / 12, "2": 2 / 12, "4": 4 / 12, "6": 6 / 12}
    assert pass_rates(groups) == pytest.approx(rates)


def test_each_response_is_graded_against_its_own_problem(monkeypatch):
    """Two problems, two samples each: text, right answer, correctness and reward go together."""
    texts = [r"\boxed{1}", r"\boxed{2}", r"\boxed{1}", r"\boxed{2}"]
    groups = grade_texts(monkeypatch, [written(t) for t in texts], ["1", "2"], 2)
    assert [[r.text for r in group] for group in groups] == [texts[:2], texts[2:]]
    assert [[r.gold for r in group] for group in groups] == [["1", "1"], ["2", "2"]]
    assert [[r.correct for r in group] for group in groups] == [[True, False], [False, True]]
    assert all(r.reward == grade(r.text, r.gold)[1] for group in groups for r in group)


def test_accuracy_counts_what_is_correct_not_the_reward(monkeypatch):
    """A reward with partial credit or a penalty must not move accuracy or pass@k."""
    groups = grade_texts(monkeypatch, [written(r"\boxed{1}"), written("no box")], ["1"], 2)
    for rollout in groups[0]:
        rollout.reward = 0.25
    result = summarise(Characters(), groups)
    assert (result["accuracy"], result["pass_at_k"]) == (0.5, 1)


def test_correct_and_reward_are_not_the_same(monkeypatch):
    """A wrong answer may be worth something, once there is partial credit."""
    monkeypatch.setattr("eval.grade", lambda text, gold: (False, 0.25))
    [[rollout]] = grade_texts(monkeypatch, [written("2")], ["1"], 1)
    assert (rollout.correct, rollout.reward) == (False, 0.25)


def test_one_response_that_is_not_finite_is_an_error(monkeypatch):
    """Wherever it stands among the others."""
    rollouts = [written("1"), written("2")]
    rollouts[1].logprobs[0] = math.nan
    with pytest.raises(ModelError, match="not finite"):
        grade_texts(monkeypatch, rollouts, ["1"], 2)


def test_tokens_and_truncation_are_those_of_the_rollouts(monkeypatch):
    """Mean length, the stop token included, and the share that was cut at the budget."""
    result = summarise_texts(
        monkeypatch,
        [written("four"), written("sixsix", finished=False), written("seven x"), written("")],
        ["1"],
        4,
    )
    assert (result["tokens"], result["truncated"]) == (5, 0.25)


def test_answer_tokens_are_those_after_the_thinking(monkeypatch):
    """What follows a closed block, the last one, is the answer; without a block everything is."""
    texts = ["<think>\nlong\n</think>12345", "123", "<think>\n</think>more</think>1"]
    result = summarise_texts(monkeypatch, [written(text) for text in texts], ["1"], 3)
    assert result["answer_tokens"] == 3


def test_empty_blocks_are_counted(monkeypatch):
    """Thinking-free in disguise: a block with white space only.

    A filled block, no block or an open block is none, nor is one that the response does not begin
    with.
    """
    texts = [
        "so <think></think>2",
        "so <think>1</think>2",
        "<think>\n\n</think>\n\n2",
        "<think></think>2",
        "<think>\n1\n</think>\n\n2",
        "2",
        "<think>\n",
    ]
    result = summarise_texts(monkeypatch, [written(t) for t in texts], ["2"], 7)
    assert (result["empty"], result["thought"]) == (2 / 7, 1 / 7)


def test_an_empty_block_opened_by_the_prompt_is_counted(monkeypatch):
    """The DeepSeek-R1 templates open the block.

    So its emptiness shows in prompt and response together.
    """
    rollouts = [written("\n</think>\n\n2"), written("1\n</think>2")]
    assert summarise_texts(monkeypatch, rollouts, ["2"], 2, ["<think>\n"])["empty"] == 1 / 2


def test_prompts_are_sampled_from_as_they_are(monkeypatch):
    """A chat template has written all special tokens: a second start token would be one too many.

    Stop tokens leave no text, and the thinking does.
    """
    asked = []

    class Starting(Characters):
        def __call__(self, texts, add_special_tokens=True):
            return {"input_ids": [1] * add_special_tokens + self.encode(texts)}

    def generate(model, prompts, **_):
        asked.extend(prompts)
        return [written("<think>\n</think>2")]

    monkeypatch.setattr("eval.generate", generate)
    options = {"samples": 1, "label": ""}
    model = SimpleNamespace(device=torch.device("cpu"))
    [[rollout]] = sample_and_grade(model, Starting(), [Problem("<s>Hi", "2")], True, "", **options)
    assert asked == [Characters().encode("<s>Hi")] and rollout.text == "<think>\n</think>2"


def sample_three(model, prompts, seed=7):
    """Three responses to each prompt, of five tokens each, since nothing stops them."""
    options = {"max_new_tokens": 5, "stop_ids": set(), "seed": seed, "samples": 3, "label": ""}
    problems = [Problem(prompt, "1") for prompt in prompts]
    return sample_and_grade(model, SmallAlphabet(), problems, True, "", **options)


def test_sampling_and_grading_with_a_model(model):
    """End to end: k responses a problem, repeatable, and all truncated where nothing stops them."""
    groups = sample_three(model, ["one", "three"])
    assert [len(group) for group in groups] == [3, 3]
    result = summarise(SmallAlphabet(), groups)
    names = ("tokens", "truncated", "accuracy", "error")
    assert [result[name] for name in names] == [5, 1, 0, 0]
    assert sample_three(model, ["one", "three"]) == groups


def test_duplicate_prompts_stay_two_problems(model):
    """Pitfall: duplicate prompts merged. Each copy has k responses of its own."""
    one, two = sample_three(model, ["one", "one"])
    assert len(one) == len(two) == 3 and [r.text for r in one] != [r.text for r in two]


NUMBERS = dict.fromkeys(
    ("accuracy", "error", "tokens", "truncated", "verification", "thought", "empty", "pass_at_k"),
    0.0,
) | {"k": 1, "problems": 4}


def test_the_summary_compares_the_start_with_the_end(monkeypatch, tmp_path):
    """Before is the first measurement of the table, after the last.

    The stages are all but the first.
    """
    monkeypatch.setattr("support.plot.draw_run", lambda folder: folder)
    table = [
        {"name": f"row {i}"} | {mode: NUMBERS | {"accuracy": i / 10} for mode in MODES}
        for i in range(3)
    ]
    report(
        SimpleNamespace(
            folder=tmp_path,
            config=SimpleNamespace(full_budget=64),
            seconds=lambda: 1.0,
            state=SimpleNamespace(evaluations=table, step=2, generated_tokens=5, flops=7),
        )
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    for mode in MODES:
        assert summary["before"][mode]["accuracy"] == 0
        assert summary["after"][mode]["accuracy"] == 0.2
    assert summary["stages"] == table[1:]


def test_the_command_line_evaluates_both_modes(monkeypatch, capsys):
    """First with the prompt x, then with x', on the same problems."""
    seen = []

    def no_responses(model, tokenizer, problems, thinking, *_, **__):
        seen.append((problems, thinking))
        return []

    monkeypatch.setattr(eval_module, "sample_and_grade", no_responses)
    monkeypatch.setattr(eval_module, "summarise", lambda *_: defaultdict(float, NUMBERS))
    monkeypatch.setattr(eval_module, "pass_rates", lambda groups: {"1": 0.0})
    eval_module.main(["--problems", "2", "--device", "cpu"])
    problems = load_split("test")[:2]
    assert seen == [(problems, True), (problems, False)]
    printed = capsys.readouterr().out.splitlines()
    firsts = ["x", "x'", "thinking", "avg@1", "thinking-free", "avg@1"]
    assert [first for first, *_ in map(str.split, printed) if first in firsts] == firsts


def test_one_problem_leaves_valid_json(monkeypatch):
    """The spread of one problem is undefined, but summary.json must stay readable.

    JSON has no NaN.
    """
    result = summarise_texts(monkeypatch, [written("\\boxed{2}")], ["2"], 1)
    assert json.dumps(result["error"], allow_nan=False) == "0.0"
