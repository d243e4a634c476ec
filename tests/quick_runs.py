"""Tiny random models; and, for tests of how a run goes on and not of what it learns, runs that take
a tenth of the time.

Theirs is a random model of one layer with the small model's tokenizer, budgets of a few tokens, few
problems, and rewards by luck, since random weights solve nothing. All else is as in any run.
"""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import transformers

SMALL = Path(__file__).resolve().parent.parent / "models" / "small"

VOCABULARY = 40
TINY = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    bos_token_id=None,
    eos_token_id=2,
    pad_token_id=0,
    tie_word_embeddings=False,
    # Twenty times the usual: predictions are sharp and depend on content and position.
    initializer_range=0.4,
)


def tiny_model(family="Qwen3", **config):
    """A two-layer fp32 model of a Hugging Face family, always with the same random weights."""
    torch.manual_seed(0)
    head = {"head_dim": 8} if family == "Qwen3" else {}
    settings = getattr(transformers, f"{family}Config")(**{**TINY, **head, **config})
    return getattr(transformers, f"{family}ForCausalLM")(settings).eval()


# Two stages of two steps, whose groups are not all flat; some responses fit the budgets.
QUICK_RUN = {
    "device": "cpu",
    "instruction": "",
    "steps": 2,
    "budgets": "8,12",
    "full_budget": 8,
    "prompts": 4,
    "group": 4,
    "draws": 1,
    "minibatches": 2,
    "lr": 1e-4,
    "validate_every": 2,
    "validation_problems": 2,
    "eval_problems": 2,
    "eval_samples": 1,
}


@pytest.fixture(scope="session")
def quick_model(tmp_path_factory):
    """{"model": the folder of the random model, "data": the file of its problems}.

    Every tenth token ends a response.
    """
    data = tmp_path_factory.mktemp("quick") / "data.jsonl"
    problems = [{"problem": f"Compute {i} + 1.", "answer": str(i + 1)} for i in range(40)]
    data.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    folder = data.parent / "model"
    model = tiny_model(
        "Llama",
        vocab_size=495,
        num_hidden_layers=1,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.1,
    )
    model.generation_config.eos_token_id = list(range(2, 495, 10))
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(SMALL / name, folder)
    return {"model": str(folder), "data": str(data)}


def command_line(options):
    """The arguments of tfpi.main."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def grade_by_luck(text, gold):
    """In the place of reward.grade."""
    right = len(text) % 2 == 0
    return right, float(right)


@contextmanager
def luck():
    """Within it, an even number of characters is right."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("eval.grade", grade_by_luck)
        yield


@pytest.fixture
def quick_options(quick_model, tmp_path):
    """A quick run with a checkpoint after each step; until the test is over, there is luck."""
    with luck():
        yield QUICK_RUN | quick_model | {"save_every": 1, "out": str(tmp_path / "run")}


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """No test needs a file to outlive a power cut."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)
        yield
