"""The teacher's traces, what is learnt of them, and the model that was distilled from them."""

import random
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import distill
from distill import (
    SOLUTION,
    THINKING,
    draw_batches,
    encode_trace,
    make_model,
    pad_batch,
    sft,
    write_pass,
    write_trace,
    write_work,
)
from eval import sample_and_grade, summarise
from problems import load_split
from reward import math_reward
from support.arithmetic import draw_problem
from thinkfree import render, render_all

SMALL = Path(__file__).parent.parent / "models" / "small"
EQUATION = re.compile(r"(\d+) (\+|-|\*|/|mod) (\d+) = (\d+)")
SOLVE = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "mod": lambda a, b: a % b,
}


def draw_problems(count=200, seed=1):
    rng = random.Random(seed)
    return [draw_problem(rng) for _ in range(count)]


def text_of(pieces, learnt_only=False):
    return "".join(text for text, learn in pieces if learn or not learnt_only)


@pytest.mark.parametrize("thinking", [True, False])
def test_every_trace_ends_with_the_right_answer(thinking):
    rng = random.Random(0)
    for problem in draw_problems():
        assert math_reward(text_of(write_trace(problem, thinking, rng)), problem.answer) == 1.0


def test_every_equation_is_right_without_mistakes():
    """Each `a op b = c` that the teacher writes, broken up or not, is true."""
    rng = random.Random(0)
    for problem in draw_problems():
        pieces, result = write_pass(problem.start, problem.ops, detail=0.5, mistake=False, rng=rng)
        assert str(result) == problem.answer
        for a, op, b, c in EQUATION.findall(text_of(pieces)):
            assert SOLVE[op](int(a), int(b)) == int(c)


def test_a_mistake_is_read_but_not_learnt():
    """Exactly the wrong result is left out of the loss: no false equation is learnt."""
    rng, wrong = random.Random(0), 0
    for problem in draw_problems():
        pieces, _ = write_pass(problem.start, problem.ops, detail=0.5, mistake=True, rng=rng)
        false = [
            m
            for m in EQUATION.findall(text_of(pieces))
            if SOLVE[m[1]](int(m[0]), int(m[2])) != int(m[3])
        ]
        hidden = [text for text, learn in pieces if not learn]
        assert len(false) == len(hidden) <= 1 and [m[3] for m in false] == hidden
        wrong += len(false)
    assert wrong > 100


def test_a_difference_is_noticed_and_checked_until_a_result_comes_twice():
    """Whenever a pass arrives at another result, "Wait" follows, and the last result has come at
    least twice.
    """
    rng, waits = random.Random(0), 0
    for problem in draw_problems(600):
        text = text_of(write_work(problem, detail=0.0, check=0.85, answer=problem.answer, rng=rng))
        passes = text.split("\n")[:-1]
        results = [re.findall(r"= (\d+)\.", line)[-1] for line in passes]
        for i, line in enumerate(passes[1:], start=1):
            assert line.startswith("Check: ")
            assert line.endswith(" Same." if results[i] in results[:i] else " Wait, that differs.")
        assert len(passes) == 1 or results.count(results[-1]) >= 2
        waits += "Wait" in text
    assert waits > 20


def test_solutions_come_from_one_distribution_in_both_modes():
    """What stands after </think> is drawn alike with and without thinking, or RL on one mode would
    break the other.
    """
    problems, rng = draw_problems(3000), random.Random(0)
    lengths = {
        thinking: [
            len(text_of(write_trace(p, thinking, rng)).rsplit("</think>", 1)[-1].strip())
            for p in problems
        ]
        for thinking in (True, False)
    }
    means = [sum(values) / len(values) for values in lengths.values()]
    assert abs(means[0] - means[1]) < 0.05 * means[0]


def test_thinking_is_longer_and_shows_more_work():
    assert THINKING["detail"] > SOLUTION["detail"] and THINKING["check"] > SOLUTION["check"]
    rng = random.Random(0)
    lengths = [
        sum(len(text_of(write_trace(p, thinking, rng))) for p in draw_problems())
        for thinking in (True, False)
    ]
    assert lengths[1] < 0.3 * lengths[0]


# --------------------------------------------------------------------------------------------------
# SFT data


def test_the_prompt_and_the_empty_block_are_not_learnt(small):
    """Learnt without thinking: the solution and the stop token alone."""
    _, tokenizer, _ = small
    problem = draw_problems(1)[0]
    ids, learn = encode_trace(tokenizer, problem, False, random.Random(0))
    prompt = tokenizer(render(tokenizer, problem.problem, "", False))["input_ids"]
    assert ids[: len(prompt)] == prompt and not any(learn[: len(prompt)])
    assert ids[-1] == tokenizer.eos_token_id and learn[-1]


def test_in_thinking_mode_the_model_learns_to_open_the_block(small):
    """The prompt ends before <think>, and <think> is the first learnt token: it should think when
    asked to.
    """
    _, tokenizer, _ = small
    ids, learn = encode_trace(tokenizer, draw_problems(1)[0], True, random.Random(0))
    assert tokenizer.decode([ids[learn.index(True)]]) == "<think>"


def test_batches_keep_within_the_token_budget(small):
    _, tokenizer, _ = small
    for input_ids, labels in draw_batches(tokenizer, steps=20, seed=0, tokens=2000, pool=100):
        assert input_ids.shape == labels.shape and input_ids.numel() <= 2000


def test_held_out_problems_are_not_learnt(small, monkeypatch):
    """The generator's first problem is taken for one of the test split: no batch has it."""
    _, tokenizer, _ = small
    held_out = draw_problem(random.Random(0), levels=(1,))
    monkeypatch.setattr(distill, "load_split", lambda split: [held_out])
    [(input_ids, _)] = draw_batches(tokenizer, steps=1, seed=0, pool=4)
    assert len(input_ids) == 4 and not any(
        held_out.problem in text for text in tokenizer.batch_decode(input_ids)
    )


def test_sft_learns_the_next_token(make_model):
    """The loss of a batch is the mean of -log p(token after) over the learnt tokens, by hand."""
    model = make_model()
    ids, labels = torch.tensor([[5, 6, 7, 8, 9]]), torch.tensor([[-100, -100, 7, 8, -100]])
    logprobs = model(input_ids=ids).logits[0].log_softmax(dim=-1)
    [loss] = sft(model, [(ids, labels)], steps=1, lr=0.0)
    assert loss == pytest.approx(-(logprobs[1, 7] + logprobs[2, 8]).item() / 2, rel=1e-4)


def test_padding_is_not_learnt():
    input_ids, labels = pad_batch([([5, 6], [False, True]), ([7, 8, 9], [True, True, True])], pad=0)
    assert input_ids.tolist() == [[5, 6, 0], [7, 8, 9]]
    assert labels.tolist() == [[-100, 6, -100], [7, 8, 9]]


# --------------------------------------------------------------------------------------------------
# The model that is committed


def test_the_small_model_is_small_and_ordinary():
    """Plain transformers loads it; at most 1M parameters, a few MB, safetensors, no code, a model
    card.
    """
    model = AutoModelForCausalLM.from_pretrained(SMALL)
    assert (
        model.config.model_type == "qwen3"
        and sum(p.numel() for p in model.parameters()) <= 1_000_000
    )
    files = {path.name: path.stat().st_size for path in SMALL.iterdir()}
    assert (
        "model.safetensors" in files
        and "README.md" in files
        and not [name for name in files if name.endswith((".py", ".bin", ".pt"))]
    )
    assert sum(files.values()) < 5_000_000


def test_the_tokenizer_keeps_any_text_and_single_digits():
    tokenizer = AutoTokenizer.from_pretrained(SMALL)
    text = "Ünïcode 数学 costs 1,234.5 €!\n<think>\n\n</think>\n\n\\boxed{12}"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert len(tokenizer("1234", add_special_tokens=False)["input_ids"]) == 4
    assert (
        len(tokenizer("<think>", add_special_tokens=False)["input_ids"])
        == len(tokenizer("</think>", add_special_tokens=False)["input_ids"])
        == 1
    )


def test_the_small_model_is_what_it_should_be(small):
    """Thinking earns its tokens, there is room to improve, and in thinking mode it thinks.

    The bounds are wide: 100 validation problems.
    """
    model, tokenizer, stop_ids = small
    problems = load_split("validation")[:100]
    golds = [p.answer for p in problems]
    options = {"samples": 2, "max_new_tokens": 640, "stop_ids": stop_ids, "label": ""}
    results = []
    for mode in (True, False):
        prompts = render_all(tokenizer, problems, "", mode)
        groups = sample_and_grade(model, tokenizer, prompts, golds, **options)
        results.append(summarise(tokenizer, groups))
    thinking, free = results
    assert 0.40 < thinking["accuracy"] < 0.80 and 0.10 < free["accuracy"] < 0.55
    assert free["accuracy"] < thinking["accuracy"] and free["tokens"] < 0.3 * thinking["tokens"]
    assert thinking["empty"] == 0 and thinking["truncated"] < 0.05


@pytest.mark.slow
def test_sft_learns(small):
    """Fifty steps on one-operation traces halve the loss and halve it again."""
    _, tokenizer, _ = small
    torch.manual_seed(0)
    losses = list(
        sft(
            make_model(tokenizer),
            draw_batches(tokenizer, 60, seed=0, tokens=2048, pool=64),
            60,
            lr=3e-3,
        )
    )
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
