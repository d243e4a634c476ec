"""Two ranks do what one does: the same rollouts, the same gradient, one run on the disk."""

import json
import os
import signal
import subprocess
import sys
import time
from array import array
from pathlib import Path

import pytest
import torch
from quick_runs import QUICK_RUN, command_line
from shared import flat_weights, new_run, resumed_run, sequence, tiny_model
from test_reliability import Killed, outcome

import eval as evaluation
import problems
import tfpi
from grpo import update
from support import ranks
from support.config import Config
from support.start import joined_run

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the second rank is a fork")


@pytest.fixture
def two_ranks(tmp_path_factory, monkeypatch):
    """Calls a function in two ranks, this process and a fork of it; what rank 0's call returns."""

    def call(function):
        monkeypatch.setenv(ranks.FOLDER, str(tmp_path_factory.mktemp("ranks")))
        monkeypatch.setenv("WORLD_SIZE", "2")
        if other := os.fork():
            try:
                ranks.join()
                return function()
            finally:
                torch.distributed.destroy_process_group()
                ranks.place.rank = 0
                ranks.place.size = 1
                call.status = os.waitpid(other, 0)[1]
        os.environ["RANK"] = "1"
        code = 1
        try:
            ranks.join()
            function()
            code = 0
        finally:
            os._exit(code)

    return call


# --------------------------------------------------------------------------------------------------
# What is exchanged


def test_without_a_group_nothing_is_shared():
    """As in a notebook: one rank, which has all the work."""
    numbers = torch.ones(2)
    ranks.add_up([numbers])
    assert ranks.part([1, 2, 3]) == [1, 2, 3] and ranks.gather("x") == ["x"]
    assert numbers.tolist() == [1, 1] and (ranks.rank(), ranks.size()) == (0, 1)


def test_values_reach_all_ranks_in_their_order(two_ranks):
    """Text of other lengths, arrays, nothing at all."""
    values = [{"text": "né" * 9, "ids": array("i", [1, -2])}, None]
    assert two_ranks(lambda: ranks.gather(values[ranks.rank()])) == values


def test_rank_0_is_who_tells(two_ranks):
    def ask():
        told = ranks.tell(f"of rank {ranks.rank()}")
        return ranks.gather(told)

    assert two_ranks(ask) == ["of rank 0", "of rank 0"]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_parts_are_the_whole_once(count, two_ranks):
    items = list(range(count))
    first, second = two_ranks(lambda: ranks.gather(ranks.part(items)))
    assert first + second == items and abs(len(first) - len(second)) <= 1


def test_parts_are_of_like_cost(two_ranks):
    """One long response is the work of six short ones; what costs nothing is not lost."""
    items = list("abcdefghi")
    costs = [6, 1, 1, 1, 1, 1, 1, 0, 0]
    parts = two_ranks(lambda: ranks.gather(ranks.part(items, costs)))
    assert parts == [["a"], ["b", "c", "d", "e", "f", "g", "h", "i"]]


def test_sums_are_those_of_all_ranks(two_ranks):
    def add():
        tensors = [torch.full((3,), 1.0 + ranks.rank()), torch.tensor(10.0 * ranks.rank())]
        ranks.add_up(tensors)
        return [tensor.tolist() for tensor in tensors]

    assert two_ranks(add) == [[3, 3, 3], 10]


def test_ranks_that_have_drifted_apart_are_refused(two_ranks):
    """Their gradients would be added up all the same, in silence."""
    model = tiny_model()

    def drift():
        with torch.no_grad():
            next(model.parameters())[0, 0] += ranks.rank()
        with pytest.raises(ValueError, match="no longer the same"):
            ranks.check_alike(model)

    two_ranks(drift)


def test_a_rank_that_dies_is_an_error_in_one_sentence(two_ranks):
    def die():
        if ranks.rank():
            os.kill(os.getpid(), signal.SIGKILL)
        ranks.tell()

    with pytest.raises(ConnectionError, match="rank is gone"):
        two_ranks(die)


def test_the_sentence_names_the_rank_and_its_last_words(tmp_path, monkeypatch):
    """Who was killed stands before who only lost the others."""
    monkeypatch.setenv(ranks.FOLDER, str(tmp_path))
    (tmp_path / "1.log").write_text("a bar\nout of memory while sampling.\n")
    said = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(1)"])
    said.wait()
    monkeypatch.setattr(ranks, "started", [said])
    assert ranks.describe_lost() == "rank 1 has ended: out of memory while sampling."
    killed = subprocess.Popen(["sleep", "60"])
    killed.kill()
    killed.wait()
    monkeypatch.setattr(ranks, "started", [said, killed])
    assert ranks.describe_lost().startswith("rank 2 was killed (SIGKILL). If memory")


@pytest.mark.parametrize(
    "limit, cores", [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 16), (None, 16)]
)
def test_a_container_has_the_cores_of_its_quota(limit, cores, tmp_path, monkeypatch):
    """It sees all cores of its machine, and 64 processes on two of them would crawl."""
    monkeypatch.setattr(ranks, "THREADS", 16)
    monkeypatch.setattr(ranks, "QUOTA", tmp_path / "cpu.max")
    if limit:
        (tmp_path / "cpu.max").write_text(limit)
    assert ranks.cores() == cores


# --------------------------------------------------------------------------------------------------
# The work


def test_what_is_written_does_not_depend_on_who_writes_it(two_ranks, small):
    """Tokens, text and verdicts of an odd number of prompts, in their order; log-probs nearly."""
    model, tokenizer, stop_ids = small
    asked = problems.load_split("test")[:3]
    options = {"samples": 2, "label": "", "max_new_tokens": 40, "stop_ids": stop_ids, "slots": 4}

    def sample():
        return evaluation.sample_and_grade(model, tokenizer, asked, False, "", **options)

    alone = sample()
    together = two_ranks(sample)
    for one, other in zip(sum(alone, []), sum(together, []), strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        one.logprobs = other.logprobs
        assert one == other


def rollouts_of(count):
    """Responses of other lengths to prompts of which some are alike, with advantages."""
    made = []
    for i in range(count):
        rollout = sequence([5, 6, 7 + i // 2], [8 + i, 9, 10][: 1 + i % 3], logprob=-3.0)
        rollout.advantage = 1.0 - 0.7 * i
        made.append(rollout)
    return made


@pytest.mark.parametrize("count", [1, 5, 8])
def test_two_ranks_make_the_gradient_of_one(count, two_ranks):
    """The normaliser is the whole minibatch's (pitfall: accumulation), the metrics are, too.

    Of one rollout a rank has none. All ranks go on from the same weights, bit for bit.
    """
    config = Config(minibatches=2, micro_tokens=20)

    def train():
        model = tiny_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        metrics = update(model, optimizer, rollouts_of(count), config)
        ranks.check_alike(model)
        return metrics, flat_weights(model)

    (metrics, weights), (metrics_of_two, weights_of_two) = train(), two_ranks(train)
    torch.testing.assert_close(weights_of_two, weights, rtol=1e-4, atol=1e-6)
    for name in ("loss", "clipped", "logprob_gap", "grad_norm", "updates", "skipped"):
        assert metrics_of_two[name] == pytest.approx(metrics[name], rel=1e-4, abs=1e-6), name


# --------------------------------------------------------------------------------------------------
# A run


def begin(make_run):
    """The run as each of the two ranks begins it; whatever is said stays unsaid."""
    if ranks.rank():
        return joined_run({}, problems.load_data)
    return make_run()


@pytest.fixture
def options(quick_options, monkeypatch):
    """Of a run whose other rank is there already, as `start` leaves it."""
    monkeypatch.setattr("support.start.start_ranks", lambda config, model, start: None)
    monkeypatch.setattr("support.start.describe_start", lambda plan, config: [])
    return quick_options | {"prompts": 5, "ranks": 2, "threads": 1}


def train_two(two_ranks, make_run):
    return two_ranks(lambda: tfpi.train(begin(make_run)))


def test_a_run_of_two_ranks_is_that_of_one(two_ranks, options, tmp_path):
    """But for rounding: the same prompts, tokens and rewards, and one rank that writes."""
    options |= {"steps": 1, "budgets": "8"}
    tfpi.train(new_run(options | {"ranks": 1, "out": str(tmp_path / "one")}))
    train_two(two_ranks, lambda: new_run(options | {"out": str(tmp_path / "two")}))
    texts = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("one", "two"))
    one, two = map(json.loads, texts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    for name in ("tokens", "reward", "truncated", "generated_tokens", "flat_groups"):
        assert one[name] == two[name], name
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_run_whose_rank_was_killed_ends_as_if_nothing_had_happened(
    victim, two_ranks, options, tmp_path, monkeypatch
):
    """Killed in its third step and resumed: weights, optimizer and metrics are equal."""
    whole, killed = ({"out": str(tmp_path / name)} for name in ("whole", "killed"))
    train_two(two_ranks, lambda: new_run(options | whole))
    step = tfpi.train_step

    def dying(run, stage):
        if run.state.step == 2 and ranks.rank() == victim:
            end_as_killed()
        return step(run, stage)

    with monkeypatch.context() as patch, pytest.raises(ConnectionError if victim else Killed):
        patch.setattr(tfpi, "train_step", dying)
        train_two(two_ranks, lambda: new_run(options | killed))
    train_two(two_ranks, lambda: resumed_run(killed))
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


def end_as_killed():
    """By kill -9; rank 0 is the process of the test, so that something stands for it."""
    if ranks.rank():
        os.kill(os.getpid(), signal.SIGKILL)
    raise Killed


def test_all_ranks_stop_at_the_step_at_which_rank_0_was_asked(two_ranks, options, tmp_path):
    """The other one is never asked: a terminal's Ctrl-C is for rank 0 alone."""
    given = options | {"out": str(tmp_path / "run"), "steps": 100}

    def train():
        run = begin(lambda: new_run(given))
        record = run.record

        def record_and_ask(*values):
            record(*values)
            if ranks.rank() == 0 and run.state.step == 2:
                run.ask_to_stop()

        run.record = record_and_ask
        assert tfpi.train(run) is False
        return ranks.gather(run.state.step)

    assert two_ranks(train) == [2, 2]


def test_the_command_line_starts_ranks_and_leaves_none(quick_model, tmp_path):
    """`--ranks 2` is two processes; when rank 0 is killed the other one is gone, too."""
    folder = tmp_path / "run"
    options = QUICK_RUN | quick_model | {"steps": 1000, "ranks": 2, "out": str(folder)}
    command = [sys.executable, "tfpi.py", *command_line(options)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=open(tmp_path / "log", "wb"))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("no /proc to find the other rank in")
    wait_until(lambda: (folder / "metrics.jsonl").exists() or process.poll() is not None)
    [other] = map(int, children.read_text().split())
    process.kill()
    process.wait()
    wait_until(lambda: not Path(f"/proc/{other}").exists())
    assert json.loads((folder / "config.json").read_text())["ranks"] == 2


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)
