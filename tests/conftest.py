"""Shared by all tests.

The repository root on the path, one thread, and tiny random models whose next token depends on
content and position.
"""

import functools
import json
import signal
import sys
from pathlib import Path

import pytest
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
THREADS = torch.get_num_threads()  # a user's
torch.set_num_threads(1)  # quicker for tiny models, and for two processes side by side

import problems  # not at the top: the path is set here

problems.load_split = functools.cache(
    problems.load_split
)  # 7500 lines for each of some eighty runs take a while

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
    initializer_range=0.4,
)  # twenty times the usual: sharp, position-dependent predictions instead of nearly uniform ones


def tiny_model(family="Qwen3", **config):
    """A two-layer fp32 model of a Hugging Face family, always with the same random weights."""
    torch.manual_seed(0)
    head = {"head_dim": 8} if family == "Qwen3" else {}
    return getattr(transformers, f"{family}ForCausalLM")(
        getattr(transformers, f"{family}Config")(**{**TINY, **head, **config})
    ).eval()


@pytest.fixture(scope="session")
def model():
    """A tiny Qwen3 that all tests share: read it, never train it."""
    return tiny_model()


@pytest.fixture(scope="module")
def users_threads():
    """For tests of sameness.

    What is the same on one thread may differ on the two or more that a user has.
    """
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def make_model():
    """The function that makes a tiny model, for tests that train one or need another family."""
    return tiny_model


# --------------------------------------------------------------------------------------------------
# The small model, and a run of it that takes seconds


@pytest.fixture(scope="session")
def small():
    """(model, tokenizer, stop ids) of models/small: read it, never train it."""
    from support.config import find_settings
    from support.model import load_model

    return load_model(find_settings("small")["model"], "cpu")


TINY_RUN = {
    "model": "small",
    "device": "cpu",
    "steps": 2,
    "budgets": "16,24",
    "full_budget": 32,
    "prompts": 4,
    "group": 4,
    "validate_every": 1,
    "validation_problems": 4,
    "eval_problems": 4,
    "eval_samples": 1,
}


@pytest.fixture
def tiny_options():
    """Command-line options of a run with two stages of two steps."""
    return dict(TINY_RUN)


@pytest.fixture
def handlers():
    """Puts the signal handlers back that tfpi.main replaces."""
    saved = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in saved.items():
        signal.signal(number, handler)


@pytest.fixture
def small_run(tiny_options, tmp_path):
    from support.run import new_run

    return new_run(tiny_options | {"out": str(tmp_path / "run")})


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """The run of tiny_options, done, with snapshots. Read it only.

    In `asked` are the budgets that its training asked the sampler for.
    """
    import tfpi
    from support.run import new_run

    run = new_run(
        TINY_RUN | {"snapshot_every": 2, "out": str(tmp_path_factory.mktemp("trained") / "run")}
    )
    run.asked, original = [], tfpi.sample_and_grade
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(
            tfpi,
            "sample_and_grade",
            lambda *args, **options: (
                run.asked.append(options["max_new_tokens"]) or original(*args, **options)
            ),
        )
        assert tfpi.train(run) is True
    return run


@pytest.fixture(scope="session")
def metrics(trained_run):
    """The lines of its metrics.jsonl."""
    return [
        json.loads(line) for line in (trained_run.folder / "metrics.jsonl").read_text().splitlines()
    ]
