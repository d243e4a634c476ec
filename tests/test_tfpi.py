"""The ThinkFree operation, the stages, and when one ends."""

import numpy as np
import pytest
import torch
from shared import SHOWN, new_run, sequence

import eval as evaluation
import tfpi
from eval import evaluate
from rollout import Rollout
from support.config import Config, find_settings
from support.run import State
from tfpi import (
    Stage,
    count_flops,
    describe_groups,
    is_over,
    levelled_off,
    may_rise,
    sample_groups,
    stages,
    train,
    train_stage,
    train_step,
)
from thinkfree import EMPTY_BLOCK, render, think_free

CHAT = "<|im_start|>user\nWhat is 2 + 3?<|im_end|>\n<|im_start|>assistant\n"


# --------------------------------------------------------------------------------------------------
# ThinkingFree(x)


def test_empty_block_is_appended():
    """x' = x + an empty thinking block (Section 3)."""
    assert think_free(CHAT) == CHAT + "<think>\n\n</think>\n\n"


@pytest.mark.parametrize("opened", ["<think>\n", "<think>", "<think>\n\n"])
def test_a_block_opened_by_the_template_is_closed_not_opened_twice(opened):
    """The DeepSeek-R1 distils' template ends the prompt with `<think>`."""
    assert think_free("<|Assistant|>" + opened) == "<|Assistant|><think>\n\n</think>\n\n"


@pytest.mark.parametrize("prompt", [CHAT, CHAT + "<think>\n", CHAT + EMPTY_BLOCK])
def test_applying_it_twice_changes_nothing(prompt):
    assert think_free(think_free(prompt)) == think_free(prompt)


def test_only_the_end_of_the_prompt_counts():
    """A question that mentions <think> is left alone."""
    question = "What does <think> mean? <think>"
    assert (
        think_free(f"user: {question}\nassistant: ")
        == f"user: {question}\nassistant: " + EMPTY_BLOCK
    )


def test_rendered_prompts_of_both_modes(small):
    """The instruction follows the question; the modes differ by the block and nothing else."""
    _, tokenizer, _ = small
    thinking = render(tokenizer, "What is 2 + 3?", "Reason.", True)
    assert (
        thinking == "<|im_start|>user\nWhat is 2 + 3?\nReason.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render(tokenizer, "What is 2 + 3?", "Reason.", False) == thinking + EMPTY_BLOCK


def test_a_template_that_opens_the_block_is_rendered_in_both_modes():
    """As the DeepSeek-R1 distils' does.

    Thinking goes on in the open block, thinking-free has it closed.
    """

    class Opening:
        def apply_chat_template(self, messages, **_):
            return messages[0]["content"] + "<think>\n"

    assert render(Opening(), "Hi", "", True) == "Hi<think>\n"
    assert render(Opening(), "Hi", "", False) == "Hi" + EMPTY_BLOCK


def test_the_models_own_template_agrees(small):
    """enable_thinking=False of the small model's (Qwen3-like) template is the same operation."""
    _, tokenizer, _ = small
    own = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}],
        add_generation_prompt=True,
        tokenize=False,
        enable_thinking=False,
    )
    assert own == render(tokenizer, "Hi", "", False)


def test_the_block_is_in_the_prompt_once_and_outside_the_loss(small_run):
    """Training samples on x'.

    The block belongs to prompt_ids, and the response, which alone is in the loss, has none.
    """
    groups = sample_groups(small_run, stages(small_run.config)[0], draw=0)
    for rollout in [rollout for group in groups for rollout in group]:
        prompt = small_run.tokenizer.decode(rollout.prompt_ids)
        response = small_run.tokenizer.decode(list(rollout.response_ids))
        assert prompt.endswith(EMPTY_BLOCK) and prompt.count("<think>") == 1
        assert "<think>" not in response


# --------------------------------------------------------------------------------------------------
# Stages


def describe(recipe, **options):
    return [(s.name, s.thinking, s.budget) for s in stages(Config(recipe=recipe, **options))]


def test_tfpi_is_three_stages_without_thinking():
    assert describe("tfpi", budgets="2048,4096,8192") == [
        ("stage1", False, 2048),
        ("stage2", False, 4096),
        ("stage3", False, 8192),
    ]


def test_tfpi_rl_adds_thinking_at_the_full_budget():
    assert describe("tfpi+rl", budgets="64,96", full_budget=640) == [
        ("stage1", False, 64),
        ("stage2", False, 96),
        ("rl", True, 640),
    ]


def test_direct_is_thinking_from_the_start():
    assert describe("direct", full_budget=640) == [("rl", True, 640)]


def test_multistage_is_the_stages_with_thinking():
    """Table 4's control: nothing but the prompt differs from TFPI."""
    assert describe("multistage", budgets="64,96") == [("stage1", True, 64), ("stage2", True, 96)]


def test_flops_by_hand():
    """Two groups of two, prompts of 3 and 1, responses of 2 to 5; the first group was kept."""
    model = torch.nn.Linear(4, 2)  # 8 weights and 2 biases
    first = [sequence([1] * 3, [2] * n) for n in (2, 3)]
    second = [sequence([1], [2] * n) for n in (4, 5)]
    sampled = (3 + 2 + 3) + (1 + 4 + 5)
    trained = (3 + 2) + (3 + 3)
    assert count_flops(model, [first, second], [first]) == 10 * (2 * sampled + 6 * trained)


def test_presets_carry_the_papers_values():
    """The paper's Section 4.

    Budgets 2K/4K/8K for the DS models, 4K/8K/16K for Qwen3; batch 256 x 8, lr 1e-6.
    """
    for name in ("qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "qwen3-8b", "qwen3-4b-2507"):
        assert Config(**find_settings(name)).budgets == "4096,8192,16384"
    for name in ("ds-1.5b", "ds-7b"):
        assert Config(**find_settings(name)).budgets == "2048,4096,8192"
    config = Config(**find_settings("qwen3-4b"))
    assert (
        config.prompts,
        config.group,
        config.lr,
        config.temperature,
        config.eps_low,
        config.eps_high,
    ) == (256, 8, 1e-6, 1.0, 0.2, 0.28)


FLAT = [0.5] * 5


@pytest.mark.parametrize(
    "truncated, accuracy, ends",
    [
        ([0.1] * 4, [0.5] * 4, False),  # too few validations to tell
        ([0.1] * 5, FLAT, True),  # both flat
        ([0.1] * 5, [0.42, 0.44, 0.46, 0.48, 0.50], False),  # accuracy rises by two points each
        ([0.1] * 5, [0.46, 0.47, 0.48, 0.49, 0.50], True),  # one point is less than `least`
        ([0.9, 0.88, 0.86, 0.84, 0.82], FLAT, False),  # truncation falls by two
        ([0.9, 0.89, 0.88, 0.87, 0.86], FLAT, True),
        ([0.1] * 5, [0.9, 0.8, 0.7, 0.6, 0.5], True),  # getting worse is no reason to go on
        ([0.1, 0.2, 0.3, 0.4, 0.5], FLAT, True),
        ([0.1] * 9, [0.2, 0.3, 0.4, 0.45] + FLAT, True),  # the rise is over
        ([0.5, 0.3, 0.2, 0.15] + [0.1] * 5, [0.5] * 9, True),
    ],
)
def test_a_stage_ends_when_neither_measure_improves(truncated, accuracy, ends):
    """The turning point of Figure 8."""
    assert levelled_off(truncated, accuracy) is ends


@pytest.mark.parametrize("seed", range(5))
def test_a_line_may_rise_by_its_slope_and_the_standard_error(seed):
    """Sums written out: slope Sxy / Sxx, its error the root of residuals / (N - 2) / Sxx."""
    shares = np.random.default_rng(seed).random(7)
    steps = [-3, -2, -1, 0, 1, 2, 3]
    slope = sum(x * y for x, y in zip(steps, shares)) / 28
    mean = sum(shares) / 7
    residuals = sum((y - mean - slope * x) ** 2 for x, y in zip(steps, shares))
    bound = slope + (residuals / 5 / 28) ** 0.5
    assert may_rise(shares, bound - 1e-9)
    assert not may_rise(shares, bound + 1e-9)


def test_noise_is_no_end():
    """Up and down by ten points, nobody knows; by five, the line is flat within its error."""
    assert not levelled_off([0.1] * 5, [0.5, 0.6, 0.5, 0.6, 0.5])
    assert levelled_off([0.1] * 5, [0.5, 0.55, 0.5, 0.55, 0.5])


@pytest.mark.parametrize("truncated, ends", [([0.5] * 5, True), ([0.5, 0.4, 0.3, 0.2, 0.1], False)])
def test_a_stage_without_fixed_steps_ends_at_its_turning_point(truncated, ends):
    """While truncation falls it goes on, at most for its stage_steps."""
    config = Config(steps=0, stage_steps=50)
    assert is_over(config, State(stage_step=30, truncated=truncated, accuracy=[0.5] * 5)) is ends
    assert is_over(config, State(stage_step=50, truncated=truncated, accuracy=[0.5] * 5))


def test_the_budget_changes_only_at_the_stage_boundary(trained_run, metrics):
    """Two steps a stage: budgets 16, 16, 24, 24.

    In the metrics and for the sampler, and no response is longer.
    """
    assert trained_run.asked == [16, 16, 24, 24]
    assert [(line["stage"], line["budget"]) for line in metrics] == [
        ("stage1", 16),
        ("stage1", 16),
        ("stage2", 24),
        ("stage2", 24),
    ]
    assert all(line["tokens"] <= line["budget"] for line in metrics)


def test_each_stage_counts_its_own_validations(trained_run):
    """The turning point of stage 2 must not be found in the statistics of stage 1."""
    assert trained_run.state.accuracy == [] and trained_run.state.truncated == []


MEASURED = dict.fromkeys(
    ("accuracy", "error", "tokens", "truncated", "verification", "thought", "empty"), 0.0
)
METRICS = dict.fromkeys(SHOWN, 0) | {"updates": 0}
STAGE = Stage("stage", False, 16)


def measure_nothing(monkeypatch):
    """Every measurement is 0; returns a list that notes (problems, thinking) of each."""
    seen = []

    def evaluate(run, problems, thinking, *_):
        seen.append((problems, thinking))
        return dict(MEASURED)

    def sample_mode(run, problems, thinking, *_):
        seen.append((problems, thinking))
        return []

    monkeypatch.setattr("tfpi.evaluate", evaluate)
    monkeypatch.setattr("eval.sample_mode", sample_mode)
    monkeypatch.setattr("eval.summarise", lambda *_: dict(MEASURED))
    return seen


def prepare_steps(monkeypatch, *steps):
    """train_step gives these metrics, one after the other, and does nothing."""
    steps = iter(steps)
    group = [Rollout([5], [6], [-1.0], True)]

    def step(run, stage):
        run.state.step += 1
        run.state.stage_step += 1
        return [group], METRICS | next(steps)

    monkeypatch.setattr(tfpi, "train_step", step)
    return measure_nothing(monkeypatch)


def test_truncation_is_averaged_between_validations(small_run, monkeypatch):
    """A stage's end is found from the mean of the steps since the last validation, not from one."""
    shares = [{"truncated": share, "updates": 1} for share in (0.8, 0.6, 0.4, 0.0)]
    prepare_steps(monkeypatch, *shares)
    small_run.config.validate_every = 2
    small_run.config.steps = 4
    train_stage(small_run, STAGE)
    assert small_run.state.truncated == pytest.approx([0.7, 0.2])


def test_only_bad_steps_in_a_row_stop_a_run(small_run, monkeypatch):
    """Two, a good one, two more: the run goes on, since it recovers by itself."""
    bad, good = {"skipped": 1}, {"updates": 1}
    prepare_steps(monkeypatch, bad, bad, good, bad, bad)
    small_run.config.steps = 5
    train_stage(small_run, STAGE)
    assert small_run.state.step == 5


def test_twenty_steps_without_a_right_answer_are_said(small_run, monkeypatch, capsys):
    """Rewards that are all 0 teach nothing, in silence. One right answer resets the count."""
    wrong = {"updates": 1, "accuracy": 0.0}
    right = {"updates": 1, "accuracy": 0.1}
    prepare_steps(monkeypatch, *[wrong] * 19, right, *[wrong] * 20)
    small_run.config.steps = 40
    train_stage(small_run, STAGE)
    said = capsys.readouterr().err
    assert said.count("no right answer in") == 1
    assert "step 40: no right answer in 20 steps in a row" in said


def test_each_split_is_measured_where_it_should(small_run, monkeypatch):
    """A stage's end is found on validation problems, in the stage's own mode.

    The table comes from test problems, in both modes.
    """
    seen = prepare_steps(monkeypatch, *[{"updates": 1}] * 4)
    train(small_run)
    test = small_run.test[:4]
    table = [(test, True), (test, False)]
    stage = [(small_run.validation[:4], False)] * 2
    assert seen == table + stage + table + stage + table


def response_ids(groups):
    return [list(rollout.response_ids) for group in groups for rollout in group]


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 1}, {"draw": 1}], ids=str)
def test_seed_step_and_draw_each_have_random_streams_of_their_own(change, small_run, monkeypatch):
    """The same prompts are answered otherwise when one of the three is another, else alike."""

    def first_problems(problems, cursor, count, seed):
        return problems[:count]

    monkeypatch.setattr(tfpi, "take_problems", first_problems)

    def responses(seed=0, step=0, draw=0):
        small_run.config.seed = seed
        small_run.state.step = step
        return response_ids(sample_groups(small_run, STAGE, draw))

    assert responses() == responses()
    assert responses() != responses(**change)


def test_every_measurement_has_the_same_random_streams(small_run, monkeypatch):
    """Before and after training, so that the two compare like with like."""
    seen = []

    def summarise(tokenizer, groups):
        seen.append(response_ids(groups))

    monkeypatch.setattr("eval.summarise", summarise)
    for step in (0, 7):
        small_run.state.step = step
        evaluate(small_run, small_run.test[:4], False, 1, "test")
    assert seen[0] == seen[1]


def test_a_measurement_has_streams_that_no_step_has(small_run, monkeypatch):
    """Or the validation would see what training has just sampled."""
    seeds = []

    def no_responses(*_, seed, **__):
        seeds.append(seed)
        return []

    monkeypatch.setattr("eval.sample_and_grade", no_responses)
    monkeypatch.setattr("eval.summarise", lambda *_: None)
    evaluate(small_run, small_run.test[:4], False, 1, "test")
    for step in range(3):
        for draw in range(3):
            small_run.state.step = step
            sample_groups(small_run, STAGE, draw)
    assert len(set(seeds)) == 10


def test_sampler_and_trainer_get_the_runs_options(tiny_options, tmp_path, monkeypatch):
    """A temperature that one of the two does not know trains in silence."""
    run = new_run(tiny_options | {"temperature": 0.7, "out": str(tmp_path / "run")})
    original = evaluation.sample_and_grade
    seen = []

    def sample_and_grade(*args, **options):
        seen.append(options["temperature"])
        return original(*args, **options)

    monkeypatch.setattr(evaluation, "sample_and_grade", sample_and_grade)
    monkeypatch.setattr(tfpi, "update", lambda *args: seen.extend(args[-2:]) or {})
    train_step(run, STAGE)
    assert seen == [0.7, run.config, STAGE.budget]


def test_truncated_responses_are_learnt_from_like_any_other(small_run, monkeypatch):
    """Pitfall: filtering before the baseline.

    They are in their group's mean and std: rewards of 1, 0, 0, 0 have mean 1/4 and std 1/2.
    """
    groups = []
    for _ in range(4):
        group = [Rollout([5], [6], [-1.0], finished) for finished in (True, False, True, False)]
        group[0].reward = 1.0
        group[0].correct = True
        groups.append(group)
    monkeypatch.setattr(tfpi, "sample_groups", lambda *_: groups)
    learnt = []
    monkeypatch.setattr(
        tfpi, "update", lambda model, optimizer, kept, *_: learnt.extend(kept) or {}
    )
    train_step(small_run, STAGE)
    assert [r.advantage for r in learnt] == pytest.approx([1.5, -0.5, -0.5, -0.5] * 4)


def test_each_step_takes_new_problems(small_run):
    first, second = (sample_groups(small_run, STAGE, draw=0) for _ in range(2))
    prompts = [{tuple(group[0].prompt_ids) for group in groups} for groups in (first, second)]
    assert prompts[0].isdisjoint(prompts[1])


def test_each_response_is_graded_against_its_own_problem(small_run):
    """A reward belongs to the problem of its group, whose question stands in its own prompt."""
    groups = sample_groups(small_run, Stage("stage", False, 80), draw=0)
    rollouts = [rollout for group in groups for rollout in group]
    answers = {p.problem: p.answer for p in small_run.train}
    for rollout in rollouts:
        prompt = small_run.tokenizer.decode(rollout.prompt_ids)
        question = prompt.split("user\n")[1].split("<|im_end|>")[0]
        response = small_run.tokenizer.decode(list(rollout.response_ids))
        assert rollout.correct == (f"\\boxed{{{answers[question]}}}" in response)
    assert 0 < sum(rollout.reward for rollout in rollouts) < len(rollouts)


def test_metrics_of_two_groups_by_hand():
    """One flat group of two truncated responses, and one with a right one and partial credit."""
    groups = [
        [Rollout([1], [5, 6], [-1.0, -2.0], False, text="Check: 2") for _ in range(2)],
        [
            Rollout([2], [5], [-3.0], True, text="2", correct=True, reward=1.0),
            Rollout([2], [5, 6, 7], [-1.0, -1.0, -1.0], True, text="3", reward=0.5),
        ],
    ]
    metrics = describe_groups(groups)
    expected = {
        "reward": 1.5 / 4,
        "accuracy": 1 / 4,
        "tokens": 8 / 4,
        "truncated": 2 / 4,
        "flat_groups": 1 / 2,
        "rollouts": 4,
        "verification": 2 / 4,
        "entropy": 12 / 8,
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


def test_the_table_keeps_the_modes_apart(trained_run):
    """Before and after each stage, thinking responses think and thinking-free ones do not."""
    assert len(trained_run.state.evaluations) == 3
    for entry in trained_run.state.evaluations:
        assert entry["thinking"]["thought"] == 1 and entry["thinking_free"]["thought"] == 0
