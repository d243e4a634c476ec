"""The teacher's traces, what is learnt of them, and the model that was distilled from them."""

import math
import random
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from shared import flat_weights
from transformers import AutoModelForCausalLM, AutoTokenizer

import distill
from distill import draw_batches, draw_traces, encode_trace, make_model, pad_batch, sft
from eval import sample_and_grade, summarise
from lesson.arithmetic import draw_problem
from lesson.small import save
from lesson.teacher import (
    SOLUTION,
    THINKING,
    break_up,
    slip,
    write_pass,
    write_step,
    write_trace,
    write_work,
)
from problems import load_split
from reward import grade
from support.config import PRESETS, Config
from support.model import ModelError
from thinkfree import render

SMALL = Path(__file__).parent.parent / "models" / "small"
EQUATION = re.compile(r"(\d+) (\+|-|\*|/|mod) (\d+) = (\d+)")
SOLVE = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "mod": lambda a, b: a % b,
}


def arguments(line=""):
    return distill.settle(distill.parse_arguments(line.split()))


def draw_problems(count=200, seed=1):
    rng = random.Random(seed)
    return [draw_problem(rng) for _ in range(count)]


def text_of(pieces, learnt_only=False):
    return "".join(text for text, learn in pieces if learn or not learnt_only)


@pytest.mark.parametrize("thinking", [True, False])
def test_every_trace_ends_with_the_right_answer(thinking):
    rng = random.Random(0)
    for problem in draw_problems():
        assert grade(text_of(write_trace(problem, thinking, rng)), problem.answer)[0]


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


def test_a_slip_is_one_digit_off_by_one_or_two():
    """And the chain can go on from it: what is divided by 4 stays divisible."""
    rng = random.Random(0)
    for _ in range(300):
        wrong = str(slip(482, (), rng)).rjust(3, "0")
        [apart] = [int(a) - int(b) for a, b in zip(wrong, "482") if a != b]
        assert apart % 10 in (1, 2, 8, 9)
        assert slip(480, (("/", 4),), rng) % 4 == 0


def test_a_wrong_result_is_never_the_last():
    """A mistake stands in an eighth of the works that have a check, and in no other."""
    rng, checked, mistaken = random.Random(0), 0, 0
    for problem in draw_problems(2000):
        pieces = write_work(problem, detail=0.0, check=0.3, answer="", rng=rng)
        mistakes = sum(not learn for _, learn in pieces)
        lines = text_of(pieces).split("\n")[:-1]
        assert re.findall(r"= (\d+)\.", lines[-1])[-1] == problem.answer
        assert mistakes <= (len(lines) > 1)
        checked += len(lines) > 1
        mistaken += mistakes
    assert 0.25 < checked / 2000 < 0.35 and 0.08 < mistaken / checked < 0.16


def test_there_are_at_most_three_checks_without_a_mistake():
    """Though every one of them would be followed by another."""
    rng = random.Random(0)
    for problem in draw_problems():
        pieces = write_work(problem, detail=0.0, check=1.0, answer="", rng=rng)
        if all(learn for _, learn in pieces):
            assert text_of(pieces).count("Check: ") == 3


@pytest.mark.parametrize(
    "step, easy",
    [
        ("85 * 6", "80 * 6 = 480, 5 * 6 = 30, 480 + 30"),
        ("47 + 38", "47 + 30 = 77, 77 + 8"),
        ("47 - 38", "47 - 30 = 17, 17 - 8"),
        ("510 / 6", "6 * 80 = 480, 510 - 480 = 30, 30 / 6 = 5, 80 + 5"),
        ("530 mod 6", "6 * 80 = 480, 530 - 480 = 50, 6 * 8 = 48, 50 - 48"),
        ("53 mod 6", "6 * 8 = 48, 53 - 48"),
        ("47 + 8", ""),
        ("47 + 30", ""),
        ("80 * 6", ""),
        ("7 * 8", ""),
        ("48 / 6", ""),
    ],
)
def test_a_hard_step_is_broken_into_easy_ones(step, easy):
    """By hand; the last easy one has the result of the hard one, which follows in the text."""
    value, word, n = step.split()
    symbol = {"mod": "%"}.get(word, word)
    broken = break_up(int(value), symbol, int(n))
    expected = f"{step}: {easy}" if easy else step
    assert write_step(int(value), symbol, int(n), broken) == expected


def test_the_thinking_ends_with_the_answer_and_the_solution_boxes_it():
    rng = random.Random(0)
    for problem in draw_problems(20):
        thought, solution = text_of(write_trace(problem, True, rng)).split("\n</think>\n\n")
        assert thought.startswith("<think>\n") and thought.endswith(f"\nSo {problem.answer}.")
        assert solution.endswith(f"\nSo \\boxed{{{problem.answer}}}")


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


def test_batches_come_in_no_order_of_length(small):
    """Within a batch traces are alike, but short and long ones are mixed: here 12 of one pool."""
    _, tokenizer, _ = small
    batches = draw_batches(tokenizer, steps=12, seed=0, tokens=600, pool=100)
    widths = [input_ids.shape[1] for input_ids, _ in batches]
    assert widths != sorted(widths)


def test_every_second_trace_thinks_and_all_are_of_the_levels_asked_for(monkeypatch):
    asked = set()

    def draw(rng, levels, families):
        asked.add(levels)
        return draw_problem(rng, levels, families)

    monkeypatch.setattr(distill, "draw_problem", draw)
    monkeypatch.setattr(distill, "encode_trace", lambda _, *drawn: drawn[:3])
    traces = draw_traces(None, (1, 3), 6, set(), random.Random(0))
    assert [thinking for _, thinking, _ in traces] == [True, False] * 3
    assert asked == {(1, 3)}


def test_a_curriculum_of_ever_longer_chains(monkeypatch):
    """One operation in the first sixth, up to two in the second, then up to three.

    No problem of validation or test is ever drawn, and the seed decides which ones are.
    """
    seen = []

    def draw(tokenizer, levels, count, held_out, rng, instruction):
        seen.append((list(levels), held_out, rng.random()))
        return [([5] * 10, [True] * 10)] * count

    monkeypatch.setattr(distill, "draw_traces", draw)
    for seed in (0, 1):
        list(draw_batches(SimpleNamespace(pad_token_id=0), 12, seed, tokens=10, pool=1))
    assert [levels for levels, *_ in seen[:12]] == [[1]] * 2 + [[1, 2]] * 2 + [[1, 2, 3]] * 8
    measured = {p.problem for split in ("validation", "test") for p in load_split(split)}
    assert all(held_out == measured for _, held_out, _ in seen)
    assert seen[0][2] != seen[12][2]


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


class NotedSGD(torch.optim.SGD):
    """Plain gradient descent; of each step its learning rate and its gradient."""

    def __init__(self, parameters, lr, **_):
        super().__init__(parameters, lr=lr)
        self.steps.append([])

    def step(self):
        [group] = self.param_groups
        gradient = torch.cat([p.grad.flatten() for p in group["params"]])
        self.steps[-1].append((group["lr"], gradient))
        super().step()


@pytest.fixture
def noted(monkeypatch):
    """The steps of each sft from here on."""
    monkeypatch.setattr(NotedSGD, "steps", [], raising=False)
    monkeypatch.setattr(torch.optim, "AdamW", NotedSGD)
    return NotedSGD.steps


BATCHES = [
    (torch.tensor([[5, 6, 7, 8, 9]]), torch.tensor([[-100, -100, 7, 8, 9]])),
    (torch.tensor([[30, 31, 32]]), torch.tensor([[-100, 31, 32]])),
]


def test_the_learning_rate_warms_up_and_falls(make_model, noted):
    """To its peak in four steps here, then along a cosine, which ends at 0.4 of it."""
    list(sft(make_model(), BATCHES * 20, steps=40, lr=0.5))
    cosine = [0.5 * (0.7 + 0.3 * math.cos(math.pi * i / 40)) for i in range(40)]
    warm = [0.25, 0.5, 0.75] + [1.0] * 37
    expected = [scale * rate for scale, rate in zip(warm, cosine)]
    assert [lr for lr, _ in noted[0]] == pytest.approx(expected)


def test_each_step_of_sft_has_a_gradient_of_its_own(make_model, noted):
    """Of its own batch alone, and of a norm of one at most."""
    list(sft(make_model(), BATCHES, steps=2, lr=0.0))
    list(sft(make_model(), BATCHES[1:], steps=1, lr=0.0))
    (_, (_, second)), [(_, alone)] = noted
    assert torch.equal(second, alone)
    assert alone.norm().item() == pytest.approx(1.0, rel=1e-3)


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

    The bounds are wide: 100 validation problems, of which the longer mode writes one sample each.
    """
    model, tokenizer, stop_ids = small
    problems = load_split("validation")[:100]
    options = {"max_new_tokens": 640, "stop_ids": stop_ids, "label": ""}
    results = []
    for mode, samples in ((True, 1), (False, 2)):
        options["samples"] = samples
        groups = sample_and_grade(model, tokenizer, problems, mode, "", **options)
        results.append(summarise(tokenizer, groups))
    thinking, free = results
    assert 0.40 < thinking["accuracy"] < 0.80 and 0.10 < free["accuracy"] < 0.55
    assert free["accuracy"] < thinking["accuracy"] and free["tokens"] < 0.3 * thinking["tokens"]
    assert thinking["empty"] == 0 and thinking["truncated"] < 0.05


# --------------------------------------------------------------------------------------------------
# The command line


def test_the_seed_decides_weights_tokenizer_and_traces(small, monkeypatch):
    """And steps and learning rate arrive where they should."""
    seen = []

    def note(*numbers):
        seen.append(numbers)
        return iter(())

    monkeypatch.setattr(distill, "sample_texts", lambda seed: note("texts", seed))
    monkeypatch.setattr(distill, "train_tokenizer", lambda texts: small[1])
    monkeypatch.setattr(
        distill, "draw_batches", lambda _, *numbers, **options: note("batches", *numbers, options)
    )
    monkeypatch.setattr(distill, "sft", lambda _, batches, steps, lr: note("sft", steps, lr))
    weights = [
        flat_weights(distill.distill(arguments(f"--seed {seed} --steps 7 --lr 0.25"), note)[0])
        for seed in (3, 4, 3)
    ]
    options = {"tokens": 6144, "pool": 1024, "instruction": ""}
    assert seen[:3] == [("texts", 3), ("batches", 7, 3, options), ("sft", 7, 0.25)]
    assert torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[1])
    assert len(weights[0]) == len(flat_weights(small[0]))


def test_the_card_says_how_the_model_was_made(small, tmp_path, monkeypatch):
    """Seed and steps that were given, and the measured table, beside model and tokenizer."""
    seen = []

    def pretend(args, keep, command):
        seen.append(args)
        keep(*small[:2], 7)
        return *small[:2], 7

    monkeypatch.setattr(distill, "distill", pretend)
    monkeypatch.setattr(distill, "measure", lambda *args: "THE TABLE")
    clock = iter([1000.0, 1000.0 + 13 * 60])
    monkeypatch.setattr(distill, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    options = ["--out", str(tmp_path / "mine"), "--seed", "5", "--steps", "7", "--lr", "0.25"]
    monkeypatch.setattr("sys.argv", ["distill.py", *options])
    distill.main()
    card = (tmp_path / "mine" / "README.md").read_text()
    assert [(args.seed, args.steps, args.lr) for args in seen] == [
        (5, 7, 0.25)
    ] and "distill.py --seed 5 --steps 7 --lr 0.25`, in 13\nminutes" in card
    assert "THE TABLE" in card and "a 0.65M-parameter" in card
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "mine")
    assert torch.equal(flat_weights(saved), flat_weights(small[0]))
    assert AutoTokenizer.from_pretrained(tmp_path / "mine").chat_template


def test_the_card_measures_both_modes_on_the_validation_split(canned, small):
    """Four samples a problem, half of them right, at the full budget."""
    model, tokenizer, _ = small
    table = distill.measure(model, tokenizer, arguments()).splitlines()
    for request, thinking in zip(canned.requests, (True, False), strict=True):
        assert request["thinking"] is thinking and request["model"] is model
        assert request["questions"] == [p.problem for p in load_split("validation")]
        assert (request["samples"], request["max_new_tokens"]) == (4, 640)
        assert request["stop_ids"] == {tokenizer.eos_token_id}
    tokens = [len(r.response_ids) for r in canned.requests[0]["rollouts"]]
    row = f"50.0% ± 0.0% | {sum(tokens) / len(tokens):.0f} | 0.0% | 0.0% |"
    assert table[0].split(" | ")[3] == "truncated at 640"
    assert table[2:] == [f"| thinking | {row}", f"| thinking-free | {row}"]


def test_the_cards_columns_are_what_their_heads_say(canned, small):
    """Every first response is cut, all others have an empty block."""
    canned.write = lambda question, sample: (
        ("cut", False) if sample == 0 else ("<think>\n\n</think>", True)
    )
    for row in distill.measure(*small[:2], arguments()).splitlines()[2:]:
        assert row.split(" | ")[3:] == ["25.0%", "75.0% |"]


def test_a_pretrained_model_goes_on_with_its_own_weights_and_tokenizer(make_model, small, tmp_path):
    """And what ends a response is what its tokenizer says."""
    model, tokenizer, _ = small
    save(model, tokenizer, tmp_path / "mine")
    found, its_tokenizer = distill.start_model(str(tmp_path / "mine"), seed=0)
    assert torch.equal(flat_weights(found), flat_weights(model))
    its_tokenizer.eos_token = "<|endoftext|>"
    problem = draw_problems(1)[0]
    ids, learnt = encode_trace(its_tokenizer, problem, True, random.Random(0))
    assert ids[-1] == its_tokenizer.eos_token_id and learnt[-1]


def test_a_pretrained_model_is_taught_gently_and_asked_as_tfpi_will_ask():
    """At a lower rate, in smaller steps, with the instruction that tfpi.py puts by default."""
    pretrained = arguments("--model mine")
    assert pretrained.lr < arguments().lr and pretrained.tokens < arguments().tokens
    assert arguments("--model mine --lr 1").lr == 1
    assert pretrained.instruction == Config().instruction
    small = PRESETS["small"]["instruction"]
    assert arguments().instruction == small


def test_the_instruction_is_in_the_prompt_and_not_learnt(small):
    _, tokenizer, _ = small
    problem = draw_problems(1)[0]
    ids, learnt = encode_trace(tokenizer, problem, False, random.Random(0), "Box it.")
    prompt = render(tokenizer, problem.problem, "Box it.", False)
    assert tokenizer.decode(ids).startswith(prompt) and "Box it." in prompt
    assert not any(learnt[: len(tokenizer(prompt, add_special_tokens=False)["input_ids"])])


def test_a_template_without_a_block_gets_the_switch(small, tmp_path):
    """So that others, too, can switch the thinking off; with it on, nothing changes."""
    model, tokenizer, _ = small
    save(model, tokenizer, tmp_path / "mine")
    plain = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    plain += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    (tmp_path / "mine" / "chat_template.jinja").write_text(plain)
    _, taught = distill.start_model(str(tmp_path / "mine"), seed=0)
    messages = [{"role": "user", "content": "1 + 1?"}]
    options = {"tokenize": False, "add_generation_prompt": True}
    x = taught.apply_chat_template(messages, **options)
    free = taught.apply_chat_template(messages, enable_thinking=False, **options)
    assert x == "user: 1 + 1?\nassistant: " and free == x + "<think>\n\n</think>\n\n"
    assert render(taught, "1 + 1?", "", True) == x and render(taught, "1 + 1?", "", False) == free


def test_a_model_that_thinks_is_not_taught_to(small, tmp_path):
    """Its template opens the block, so the traces would open it twice."""
    model, tokenizer, _ = small
    save(model, tokenizer, tmp_path / "mine")
    path = tmp_path / "mine" / "chat_template.jinja"
    opens = "assistant\\n<think>\\n' }}"
    path.write_text(path.read_text().replace("assistant\\n' }}", opens))
    with pytest.raises(ModelError, match="opens <think> itself"):
        distill.start_model(str(tmp_path / "mine"), seed=0)


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
