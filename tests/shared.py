"""Shared by all tests: one thread, a small run, and what tiny models are compared with."""

import functools
import json

import pytest
import torch
from quick_runs import tiny_model

import problems
import tfpi
from lesson.arithmetic import FIRST
from rollout import Rollout
from support import ranks, start
from support.config import find_settings
from support.model import load_model

torch.set_num_threads(1)  # quicker for tiny models, and for two processes side by side
ranks.THREADS = 1  # a command line starts no other ranks unless it is told to

load_split = problems.load_split


@functools.cache
def load_first(split):
    """The bundled families alone: one added later must not change what the tiny runs train on.

    And not all to train on, since each run checks each prompt that it has.
    """
    first = [p for p in load_split(split) if p.family in FIRST]
    return first[:500] if split == "train" else first


problems.load_split = load_first


def new_run(given, check=None):
    """A new run of these options, as tfpi.main begins it."""
    return start.new_run(given, problems.load_data, check)


def resumed_run(given, check=None):
    return start.resumed_run(given, problems.load_data, check)


# What a user is shown of a step; a new metric need not stand here.
SHOWN = {"reward": 0.25, "tokens": 70.4, "truncated": 0.11, "flat_groups": 0.52, "grad_norm": 1.5}
SHOWN |= {"accuracy": 0.75, "updates": 2, "skipped": 0}
SHOWN |= {"step_seconds": 2.5, "rollout_seconds": 1.5, "update_seconds": 1.0}


def check(ours, right, mistakes=None, atol=1e-5, rtol=1e-5):
    """Fails unless ours is right, and says which mistake it equals: {what is wrong: its value}."""
    right = torch.as_tensor(right).to(ours.dtype)
    if ours.shape == right.shape and torch.allclose(ours, right, atol=atol, rtol=rtol):
        return
    for what, wrong in (mistakes or {}).items():
        if ours.shape == wrong.shape and torch.allclose(ours, wrong.to(ours), atol=atol, rtol=rtol):
            pytest.fail(f"{what}.", pytrace=False)
    torch.testing.assert_close(ours, right, atol=atol, rtol=rtol)


def sequence(prompt, response, logprob=-2.0):
    """A finished rollout, each of its tokens with this log-prob."""
    return Rollout(prompt, response, [logprob] * len(response), True)


def naive_response_logprobs(model, rollout, temperature=1.0, shift=1):
    """One sequence alone, all its logits; the logits at position p are those of token p + shift."""
    ids = rollout.prompt_ids + rollout.response_ids
    scores = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0] / temperature
    logprobs = scores.log_softmax(dim=-1)  # (T, V)
    start = len(rollout.prompt_ids) - shift
    return torch.stack([logprobs[start + t, token] for t, token in enumerate(rollout.response_ids)])


def flat_weights(model):
    """A copy of all weights, in one vector."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture(scope="session")
def model():
    """A tiny Qwen3 that all tests share: read it, never train it."""
    return tiny_model()


@pytest.fixture
def make_model():
    """The function that makes a tiny model, for tests that train one or need another family."""
    return tiny_model


@pytest.fixture
def refuse(tmp_path, monkeypatch, capsys):
    """Runs a command line's main in an empty folder: what it says when it gives up.

    Checks that it leaves the folder as it was.
    """
    monkeypatch.chdir(tmp_path)

    def call(main, *arguments):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        # argparse's, or a sentence, which is exit code 1
        assert stopped.value.code == 2 or isinstance(stopped.value.code, str)
        assert sorted(tmp_path.rglob("*")) == before
        sentence = said.err if stopped.value.code == 2 else stopped.value.code
        assert len(sentence.strip().splitlines()) == 1 or "usage:" in sentence
        return sentence

    return call


# --------------------------------------------------------------------------------------------------
# The small model, and a run of it that takes seconds


@pytest.fixture(scope="session")
def small():
    """(model, tokenizer, stop ids) of models/small: read it, never train it."""
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
def small_run(tiny_options, tmp_path):
    return new_run(tiny_options | {"out": str(tmp_path / "run")})


class CannedSampler:
    """Stands for rollout.generate: notes what it is asked for, and answers without a model.

    Of each prompt's responses the first, third, ... are right, so no group is flat.
    """

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.requests = []  # a dict each
        splits = ("train", "validation", "test")
        self.answers = {p.problem: p.answer for name in splits for p in load_first(name)}

    def write(self, question, sample):
        """The text of one response, and whether it ended by itself; tests replace this."""
        answer = self.answers.get(question, "1") if sample % 2 == 0 else "none"
        return f"\\boxed{{{answer}}}", True

    def __call__(self, model, prompts, *, samples, progress, **options):
        texts = [self.tokenizer.decode(prompt) for prompt in prompts]
        rollouts = []
        for prompt, text in zip(prompts, texts):
            for sample in range(samples):
                written, finished = self.write(question_of(text), sample)
                ids = self.tokenizer(written)["input_ids"]
                ids += [self.tokenizer.eos_token_id] * finished
                # Unlike, so that a mean over tokens is none over responses.
                logprobs = [-1.0 - sample] * len(ids)
                rollouts.append(Rollout(prompt, ids, logprobs, finished))
                progress(len(ids), 1)
        [free] = {text.endswith("<think>\n\n</think>\n\n") for text in texts}  # all alike
        asked = {"model": model, "prompts": texts, "thinking": not free, "samples": samples}
        asked |= {"questions": list(map(question_of, texts)), "rollouts": rollouts}
        self.requests.append(asked | options)
        return rollouts


def first_questions(split, count):
    """Of a bundled split."""
    return [p.problem for p in load_first(split)[:count]]


def question_of(prompt):
    """The question in a prompt of the small model, without the instruction behind it."""
    return prompt.split("user\n")[1].split("<|im_end|>")[0].split("\n")[0]


@pytest.fixture
def canned(small, monkeypatch):
    """The sampler, canned, in training as in evaluation."""
    sampler = CannedSampler(small[1])
    monkeypatch.setattr("eval.generate", sampler)
    return sampler


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """The run of tiny_options, done, with snapshots. Read it only.

    In `asked` are the budgets that its training asked the sampler for.
    """
    folder = tmp_path_factory.mktemp("trained") / "run"
    run = new_run(TINY_RUN | {"snapshot_every": 2, "out": str(folder)})
    run.asked = []
    original = tfpi.sample_run

    def sample_run(*args, **options):
        run.asked.append(options["budget"])
        return original(*args, **options)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(tfpi, "sample_run", sample_run)
        assert tfpi.train(run) is True
    return run


@pytest.fixture(scope="session")
def metrics(trained_run):
    """The lines of its metrics.jsonl."""
    text = (trained_run.folder / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]
