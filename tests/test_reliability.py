"""A run survives crashes, full disks and bad numbers; the same seed is the same run."""

import errno
import json
import math
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from quick_runs import QUICK_RUN, command_line, luck
from safetensors.torch import load_file
from shared import flat_weights, new_run, resumed_run

import support.disk as disk
import support.run as run_module
import tfpi
from support.model import ModelError
from support.run import Run

TIMES = ("seconds", "rollout_seconds", "step_seconds")


class Killed(BaseException):
    """Stands for kill -9: nothing in the code catches it."""


@pytest.fixture
def options(quick_options):
    """A run of two stages of two steps, with a checkpoint after each."""
    return quick_options


def trained(options, **changes):
    run = new_run(options | changes)
    tfpi.train(run)
    return run


def trained_a_step(options):
    """The least of a run that has an optimizer's state to save."""
    run = trained(options, steps=1, budgets="8")
    assert run.optimizer.state
    return run


def outcome(folder):
    """What a run leaves.

    Weights and optimizer of its last checkpoint, models of its stages, metrics without their times,
    measurements, what the model wrote.
    """
    (last,) = folder.glob("checkpoint-*")
    tensors = {
        str(path.relative_to(folder)): load_file(path) for path in folder.rglob("*.safetensors")
    }
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for file, named in tensors.items():
        tensors[file] = {name: tensor.numpy().tobytes() for name, tensor in named.items()}
    return (
        tensors,
        [{key: value for key, value in line.items() if key not in TIMES} for line in lines],
        json.loads((last / "state.json").read_text()) | {"seconds": 0},
        {path.name: path.read_bytes() for path in folder.glob("samples-*.json")},
    )


# --------------------------------------------------------------------------------------------------
# Resume


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, quick_model):
    """The outcome of the run of `options` that nobody killed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with luck():
        trained(QUICK_RUN | quick_model | {"save_every": 1, "out": str(folder)})
    expected = outcome(folder)
    names = ("before", "stage1", "stage2")
    assert sorted(expected[3]) == [f"samples-{name}.json" for name in names]
    # Or there would be no optimizer to lose.
    assert sum(line["updates"] > 0 for line in expected[1]) >= 3
    return expected


def kill_in(monkeypatch, owner, name, call):
    """Kills the run in the call number `call` of a function, before it has done anything."""
    original = getattr(owner, name)
    calls = []

    def dying(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, dying)


@pytest.mark.parametrize(
    "owner, name, call",
    [
        (tfpi, "evaluate_both", 1),  # the evaluation before training: no checkpoint yet
        (run_module, "save_optimizer", 3),  # a checkpoint is half written
        (disk.os, "replace", 4),  # it is whole, but has not its name yet
        (run_module, "remove", 1),  # it has its name, the one before is still there
        (disk.shutil, "rmtree", 5),  # the one before is half removed
        (run_module, "save_model", 4),  # stage 1 is over, its model half written
        (tfpi, "evaluate_both", 2),  # its model is written, but not measured
    ],
)
def test_a_killed_run_ends_as_if_nothing_had_happened(
    owner, name, call, options, tmp_path, uninterrupted
):
    """At its most delicate moments: weights, optimizer, metrics, measurements, bit for bit."""
    with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(Killed):
        kill_in(monkeypatch, owner, name, call)
        trained(options)
    tfpi.train(resumed_run({"out": options["out"]}))
    assert outcome(tmp_path / "run") == uninterrupted
    assert not list((tmp_path / "run").glob(".partial*"))


def test_a_torn_line_of_metrics_is_written_again(options, tmp_path, uninterrupted, monkeypatch):
    """Killed while the third step's line was written: it stands there once, and whole."""
    log = Run.log

    def dying(run, line):
        if line["step"] == 3:
            with open(run.folder / "metrics.jsonl", "a") as file:
                file.write(json.dumps(line)[:40])
            raise Killed
        log(run, line)

    monkeypatch.setattr(Run, "log", dying)
    with pytest.raises(Killed):
        trained(options)
    monkeypatch.undo()
    tfpi.train(resumed_run({"out": options["out"]}))
    assert outcome(tmp_path / "run")[1] == uninterrupted[1]


def test_there_is_no_run_without_its_options(options, tmp_path, monkeypatch):
    """Killed while it is made: the run's folder is not there yet, so the same command starts it."""
    kill_in(monkeypatch, disk.os, "replace", 1)
    with pytest.raises(Killed):
        new_run(options)
    assert not (tmp_path / "run").exists()


def test_metrics_are_never_written_again_when_resuming(options, tmp_path, monkeypatch):
    """Those of steps that the checkpoint knows: a crash while resuming cannot lose them."""
    run = trained_a_step(options)
    metrics = run.folder / "metrics.jsonl"
    inode = metrics.stat().st_ino
    text = metrics.read_text()
    metrics.write_text(text + '{"step": 5}\n')
    monkeypatch.setattr(Path, "write_text", None)
    resumed_run({"out": options["out"]})
    assert metrics.read_text() == text and metrics.stat().st_ino == inode


def hold(folder, connection):
    """In another process: works in the folder until it is killed."""
    held = disk.lock(folder)
    connection.send("held")
    connection.recv()
    held.release()


def test_two_processes_never_work_in_one_folder(small_run):
    small_run.lock.release()
    processes = multiprocessing.get_context("fork")
    ours, theirs = processes.Pipe()
    # As a daemon it ends with the tests, also where this one fails.
    other = processes.Process(target=hold, args=(small_run.folder, theirs), daemon=True)
    other.start()
    assert ours.poll(60) and ours.recv() == "held"
    with pytest.raises(ValueError, match="another process is at work on .*Wait for it to end"):
        resumed_run({"out": str(small_run.folder)})
    other.kill()  # a lock ends with its process
    other.join()
    resumed_run({"out": str(small_run.folder)})


def test_an_option_given_again_replaces_the_runs_own_for_good(options):
    """The optimizer's saved state would otherwise bring the old learning rate back."""
    trained_a_step(options)
    for given in ({"lr": 0.25}, {}):
        assert resumed_run({"out": options["out"]} | given).optimizer.param_groups[0]["lr"] == 0.25


def test_the_newest_checkpoint_has_the_largest_number(options, monkeypatch):
    """Step 10 comes after step 9, though its name does not; a crash can leave both."""
    monkeypatch.setattr(run_module, "remove", lambda folder: None)
    run = new_run(options)
    run.state.step = 9
    run.save_checkpoint()
    run.state.step = 10
    run.save_checkpoint()
    assert resumed_run({"out": options["out"]}).state.step == 10


def test_the_clock_goes_on(options):
    """Seconds are those of the whole run, for plots against time."""
    run = new_run(options)
    run.started -= 1000
    run.save_checkpoint()
    assert resumed_run({"out": options["out"]}).seconds() > 1000


# --------------------------------------------------------------------------------------------------
# Signals


def test_the_handlers_that_were_there_come_back():
    """Whoever runs the method inside another program keeps its Ctrl-C."""
    before = signal.getsignal(signal.SIGTERM)
    with run_module.signals(lambda: True):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_leaves_a_checkpoint_and_says_how_to_go_on(options, monkeypatch, tmp_path):
    """What a job scheduler sends is answered like Ctrl-C (test_run.py): the step is done first."""
    step = tfpi.train_step

    def terminated(run, stage):
        os.kill(os.getpid(), signal.SIGTERM)
        return step(run, stage)

    monkeypatch.setattr(tfpi, "train_step", terminated)
    with pytest.raises(SystemExit, match="stopped.*--resume --out"):
        tfpi.main(command_line(options | {"steps": 1000, "save_every": 1000}))
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-1-0"]


def test_a_second_signal_stops_at_once(options, monkeypatch):
    """The step that is being done is not waited for; the last checkpoint stays."""

    def two_signals(run, stage):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("still running")

    monkeypatch.setattr(tfpi, "train_step", two_signals)
    with pytest.raises(SystemExit, match="stopped at once.*--resume"):
        tfpi.main(command_line(options))


# --------------------------------------------------------------------------------------------------
# Disks and checkpoints that fail


def test_a_full_disk_costs_no_checkpoint(options, tmp_path, monkeypatch):
    """The checkpoint before stays whole, and nothing half written keeps its space."""
    run = trained_a_step(options)
    before = outcome(run.folder)
    lines = (run.folder / "metrics.jsonl").read_text()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_module, "save_optimizer", full)
    run.state.step += 1
    with pytest.raises(OSError, match="No space left.*Free space"):
        run.save_checkpoint()
    assert outcome(run.folder) == before and (run.folder / "metrics.jsonl").read_text() == lines
    assert not list(run.folder.glob(".partial*"))


def test_a_folder_has_its_name_once_it_is_on_the_disk(tmp_path, monkeypatch):
    """Its files and itself are flushed first: a power cut could leave a name on half of it."""

    def fill(folder):
        folder.mkdir()
        (folder / "weights").write_text("1")

    done = []
    rename = os.replace
    monkeypatch.setattr(disk, "flush", lambda path: done.append(Path(path).name))
    monkeypatch.setattr(disk.os, "replace", lambda *paths: done.append("rename") or rename(*paths))
    disk.put(tmp_path / "final", fill)
    assert sorted(done[:2]) == ["final", "weights"] and done[2:] == ["rename", tmp_path.name]


def test_a_folder_that_is_removed_by_half_has_lost_its_name(tmp_path, monkeypatch):
    """Or half a checkpoint would be taken for a whole one."""
    folder = tmp_path / "checkpoint-1-0"
    folder.mkdir()
    kill_in(monkeypatch, disk.shutil, "rmtree", 1)
    with pytest.raises(Killed):
        disk.remove(folder)
    assert not folder.exists()


def test_what_a_killed_process_left_half_written_is_removed(small_run):
    """Also by an older version of the project."""
    for name in (".partial", ".partial-x"):
        (small_run.folder / name).mkdir()
        (small_run.folder / name / "model.safetensors").write_text("half")
    run = resumed_run({"out": str(small_run.folder)})
    assert not list(run.folder.glob(".partial*"))


def damage(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def of_another_program(path, text='{"global_step": 0}'):
    (path.parent / "files.json").unlink()
    path.write_text(text)


def emptied(path):
    of_another_program(path, "{}")


@pytest.mark.parametrize(
    "spoil, file, said",
    [
        (damage, "model.safetensors", "not whole"),
        (damage, "optimizer.safetensors", "not whole"),
        (damage, "tokenizer.json", "not whole"),
        (Path.unlink, "chat_template.jinja", "not whole"),
        (damage, "files.json", "files.json was not written by"),
        (of_another_program, "state.json", "state.json was not written by tfpi.py"),
        (emptied, "state.json", "stage is missing"),
    ],
)
def test_a_damaged_checkpoint_is_named(spoil, file, said, options):
    """There is no older one to go on from, and nothing is removed."""
    run = new_run(options)
    run.save_checkpoint()
    path = run.folder / "checkpoint-0-0"
    spoil(path / file)
    with pytest.raises(ValueError, match=f"checkpoint-0-0 cannot be used.*{said}.*Put a copy"):
        resumed_run({"out": options["out"]})
    assert path.exists()


def test_an_older_checkpoint_takes_the_place_of_a_truncated_one(
    options, tmp_path, uninterrupted, capsys
):
    """Killed before the older one was removed; the run goes on from it, to the same end."""
    with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(Killed):
        kill_in(monkeypatch, run_module, "remove", 2)
        trained(options)
    damage(tmp_path / "run" / "checkpoint-2-0" / "optimizer.safetensors")
    run = resumed_run({"out": options["out"]})
    assert run.state.step == 1 and "checkpoint-2-0 cannot be used" in capsys.readouterr().err
    tfpi.train(run)
    (aside,) = (tmp_path / "run").glob("damaged-*")
    assert len(list(aside.iterdir())) > 3
    for path in aside.glob("*.safetensors"):
        path.unlink()
    assert outcome(tmp_path / "run") == uninterrupted


# --------------------------------------------------------------------------------------------------
# Numbers that are not finite


def test_three_bad_steps_in_a_row_stop_the_run(options, monkeypatch):
    """The weights stay those before the steps, which the metrics count, in a checkpoint."""
    run = new_run(options | {"steps": 10})
    before = flat_weights(run.model)
    nothing = dict.fromkeys(("loss", "clipped", "logprob_gap", "grad_norm"), 0.0)
    nothing |= {"updates": 0, "skipped": 1, "update_seconds": 0.5}
    monkeypatch.setattr(tfpi, "update", lambda *_: nothing)
    with pytest.raises(ValueError, match="3 steps in a row.*Lower --lr"):
        tfpi.train(run)
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["skipped"] for line in lines] == [1, 1, 1]
    again = resumed_run({"out": options["out"]})
    assert again.state.step == 3 and torch.equal(flat_weights(again.model), before)


def test_weights_that_are_not_finite_never_replace_a_good_checkpoint(options):
    run = new_run(options)
    run.save_checkpoint()
    next(run.model.parameters()).data.fill_(math.nan)
    run.state.step = 1
    run.save_checkpoint()
    assert [path.name for path in run.folder.glob("checkpoint-*")] == ["checkpoint-0-0"]


def test_sampling_from_weights_that_are_not_finite_is_an_error(options):
    """Otherwise the sampler would write the last token of the vocabulary for ever."""
    run = new_run(options)
    next(run.model.parameters()).data.fill_(math.nan)
    with pytest.raises(ModelError, match="not finite"):
        tfpi.train_step(run, tfpi.stages(run.config)[0])


def test_metrics_never_hold_what_json_does_not_know(options):
    """NaN is Python's own; other readers of metrics.jsonl would fail."""
    run = new_run(options)
    with pytest.raises(ValueError, match="JSON"):
        run.log({"step": 1, "loss": math.nan})
    assert not (run.folder / "metrics.jsonl").exists()


# --------------------------------------------------------------------------------------------------
# The same seed


def test_the_same_seed_is_the_same_run(options, tmp_path, uninterrupted):
    """Bit for bit, on a CPU."""
    trained(options)
    assert outcome(tmp_path / "run") == uninterrupted


@pytest.mark.parametrize("change", [{"slots": 5}, {"micro_tokens": 20}])
def test_how_the_work_is_cut_changes_rounding_only(change, options, quick_model, tmp_path):
    """Slots of the sampler, and micro-batches: one step from the same weights moves them alike.

    Not each one exactly: Adam makes a full step of a gradient that is nothing but rounding.
    """
    before = load_file(Path(quick_model["model"]) / "model.safetensors")
    one, other = [
        weights_of_a_step(options | extra | {"out": str(tmp_path / name)})
        for name, extra in (("a", {}), ("b", change))
    ]
    for name, tensor in one.items():
        moved = (tensor - before[name]).norm()
        assert moved > 0 and (tensor - other[name]).norm() <= 0.05 * moved, name


def weights_of_a_step(options):
    return load_file(trained_a_step(options).folder / "stage1" / "model.safetensors")
