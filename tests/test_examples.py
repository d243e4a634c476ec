"""examples/trl_tfpi.py: what it gives to TRL is what ours trains on; TRL is a stand-in here."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from quick_runs import command_line
from shared import CannedSampler, load_first, new_run

from reward import grade
from support.config import Config, find_settings
from tfpi import sample_groups, stages
from thinkfree import render

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def example(monkeypatch):
    """The example as a module, and in `trained` what its trainers were given."""

    class Trainer:
        accelerator = SimpleNamespace(wait_for_everyone=lambda: None)

        def __init__(self, model, rewards, options, rows, processing_class):
            example.trained.append((model, options, rows))

        def train(self):
            pass

        def save_model(self):
            pass

    trl = SimpleNamespace(GRPOConfig=lambda **options: options, GRPOTrainer=Trainer)
    datasets = SimpleNamespace(Dataset=SimpleNamespace(from_list=list))
    monkeypatch.setitem(sys.modules, "trl", trl)
    monkeypatch.setitem(sys.modules, "datasets", datasets)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("trl_tfpi", ROOT / "examples" / "trl_tfpi.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.trained = []
    return example


OPTIONS = {"model": "small", "device": "cpu", "budgets": "21,13", "steps": 2, "prompts": 4}
OPTIONS |= {"group": 6, "seed": 3, "recipe": "tfpi+rl", "full_budget": 34}


def test_each_stage_has_the_prompts_that_ours_trains_on(example, tmp_path, monkeypatch):
    """Step by step, over all stages: x' in those of TFPI, x in that of RL."""
    example.main([*command_line(OPTIONS), f"--out={tmp_path / 'trl'}"])
    run = new_run(OPTIONS | {"out": str(tmp_path / "run")})
    sampler = CannedSampler(run.tokenizer)
    monkeypatch.setattr("eval.generate", sampler)
    for stage in stages(run.config):
        for _ in range(2):
            sample_groups(run, stage, draw=0)
    asked = [text for request in sampler.requests for text in request["prompts"]]
    rows = [row for _, _, rows in example.trained for row in rows]
    assert [row["prompt"] for row in rows] == asked
    golds = {p.problem: p.answer for p in load_first("train")}
    questions = [question for request in sampler.requests for question in request["questions"]]
    assert [row["answer"] for row in rows] == [golds[question] for question in questions]


def test_each_stage_goes_on_from_the_last_with_its_own_budget(example, tmp_path):
    example.main([*command_line(OPTIONS), f"--out={tmp_path}"])
    start = find_settings("small")["model"]
    models = [start, str(tmp_path / "stage1"), str(tmp_path / "stage2")]
    assert [model for model, _, _ in example.trained] == models
    options = [options for _, options, _ in example.trained]
    assert [given["max_completion_length"] for given in options] == [21, 13, 34]
    folders = [str(tmp_path / name) for name in ("stage1", "stage2", "rl")]
    assert [given["output_dir"] for given in options] == folders


def test_its_stages_are_measured_with_its_own_settings(example, tmp_path):
    """As those of a run; one process writes them down, of however many."""
    example.main([*command_line(OPTIONS), f"--out={tmp_path / 'trl'}"])
    (tmp_path / "trl" / "stage1").mkdir()
    found = find_settings(str(tmp_path / "trl" / "stage1"))
    assert (found["full_budget"], found["instruction"]) == (34, "")


@pytest.mark.parametrize("processes", [1, 2, 8])
@pytest.mark.parametrize("prompts, minibatches", [(64, 2), (256, 1), (12, 3)])
def test_a_step_is_as_large_as_ours(processes, prompts, minibatches, example, monkeypatch):
    """prompts x group rollouts, in `minibatches` updates, over all processes."""
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    config = Config(prompts=prompts, minibatches=minibatches, lr=0.5, eps_high=0.3)
    given = example.trl_options(config, stages(config)[0], 7, "out")
    update = given["per_device_train_batch_size"] * given["gradient_accumulation_steps"]
    assert given["generation_batch_size"] == prompts * 8
    assert update * processes * minibatches == prompts * 8
    assert given["max_steps"] == 7 * minibatches
    assert (given["learning_rate"], given["epsilon"], given["epsilon_high"]) == (0.5, 0.2, 0.3)


def test_the_reward_is_ours(example):
    cases = [line.split("\t") for line in (r"\boxed{1/2}	0.5", r"\boxed{2}	3", "no box	1")]
    texts, golds = zip(*cases)
    found = example.rewards(completions=list(texts), answer=list(golds), prompts=[], trainer=None)
    assert found == [grade(text, gold)[1] for text, gold in cases]


def test_a_start_token_that_trl_adds_is_not_there_twice(example, small):
    """It tokenizes a text with all special tokens; the DeepSeek templates write the first, too."""
    _, tokenizer, _ = small

    class Starting:
        chat_template = tokenizer.chat_template

        def __call__(self, text):
            return {"input_ids": tokenizer("<|im_start|>" + text)["input_ids"]}

        def __getattr__(self, name):
            return getattr(tokenizer, name)

    problems = load_first("train")[:2]
    config = Config(**find_settings("small"))
    rows = example.make_rows(Starting(), problems, config, False)
    for row, problem in zip(rows, problems):
        whole = render(tokenizer, problem.problem, "", False)
        assert tokenizer.decode(Starting()(row["prompt"])["input_ids"]) == whole
