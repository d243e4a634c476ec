"""Nothing lost when the terminal goes or the folder is touched, and nobody let in."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from quick_runs import QUICK_RUN, command_line
from safetensors.torch import load_file, save_file
from shared import new_run, resumed_run
from test_thinkfree import bytes_tokenizer

import tfpi
from rollout import Rollout
from support import report
from support.disk import keep_steps, write_folder, write_json
from support.model import ModelError, load_model
from support.run import checkpoints, signals
from support.terminal import CalmStream, paste, visible
from thinkfree import check_prompts

ROOT = Path(__file__).parent.parent


# --------------------------------------------------------------------------------------------------
# The terminal goes


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_run_that_nobody_hears_is_done_all_the_same(quick_model, tmp_path):
    """stdout is a pipe that has closed, stderr a full disk, and the terminal knows no "±"."""
    options = QUICK_RUN | quick_model | {"steps": 1, "budgets": "8", "out": tmp_path / "run"}
    command = [sys.executable, "tfpi.py", *command_line(options)]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "w") as full:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=writer, stderr=full)
        os.close(writer)
        assert process.wait(timeout=120) == 0
    assert {"summary.json", "figure.png", "stage1"} <= {
        p.name for p in (tmp_path / "run").iterdir()
    }


@pytest.fixture
def terminal(monkeypatch):
    """A pipe in the place of stdout and stderr: the function that closes its other end."""
    reader, writer = os.pipe()
    stderr = os.dup(2)
    os.dup2(writer, 2)
    stream = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    yield lambda: os.close(reader)
    os.dup2(stderr, 2)
    os.close(stderr)


@pytest.fixture
def hang_up_is_heard():
    """Whoever runs the tests may have told them to ignore it, as nohup does."""
    before = signal.signal(signal.SIGHUP, signal.default_int_handler)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", ["SIGINT", "SIGHUP"])
def test_a_terminal_that_goes_leaves_a_checkpoint(
    number, quick_options, terminal, hang_up_is_heard, monkeypatch
):
    """Ctrl-C under `| tee`, which dies first; or the window is closed."""
    step = tfpi.train_step

    def gone(run, stage):
        if run.state.step == 1:
            terminal()
            os.kill(os.getpid(), getattr(signal, number))
            if number == "SIGHUP":  # from the terminal, and from the shell
                os.kill(os.getpid(), signal.SIGHUP)
        return step(run, stage)

    monkeypatch.setattr(tfpi, "train_step", gone)
    with pytest.raises(SystemExit, match="stopped. To go on"):
        tfpi.main(command_line(quick_options | {"steps": 1000, "save_every": 1000}))
    assert resumed_run({"out": quick_options["out"]}).state.step == 2


def test_a_stream_that_fails_is_dropped():
    """Whatever is written: no error, now or at the end."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = CalmStream(os.fdopen(writer, "w"))
    for _ in range(3):
        stream.write("a line\n")
        stream.flush()
    stream.stream.close()


def test_nohup_is_respected():
    """Who ignores a hang-up goes on ignoring it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals(lambda: True):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_cannot_be_drawn_ends_no_run(small_run, monkeypatch, capsys):
    """summary.json stands before a word is printed, and the figure is one sentence."""
    result = dict.fromkeys(
        "accuracy error tokens truncated verification thought empty k problems".split(), 0
    )
    small_run.state.evaluations = [{"name": "before", "thinking": result, "thinking_free": result}]

    def broken(folder):
        assert (folder / "summary.json").exists()
        raise RuntimeError("no fonts\x1b[2J")

    monkeypatch.setattr("support.plot.draw_run", broken)
    report.report(small_run)
    assert "no figure: no fonts\\x1b[2J" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------
# Other people's files, and damaged ones


def test_only_our_own_names_are_checkpoints(small_run):
    """Backups, notes and copies stay, and are never loaded in place of ours."""
    theirs = ["checkpoint-2-0-backup", "checkpoint-best", "checkpoint-02-0", "checkpoint-2"]
    for name in theirs:
        (small_run.folder / name).mkdir()
    (small_run.folder / "checkpoint-notes.txt").write_text("mine")
    small_run.save_checkpoint()
    small_run.state.step = 2
    small_run.save_checkpoint()
    assert [path.name for path in checkpoints(small_run.folder)] == ["checkpoint-2-0"]
    assert {*theirs, "checkpoint-notes.txt"} < {path.name for path in small_run.folder.iterdir()}
    assert resumed_run({"out": str(small_run.folder)}).state.step == 2


def test_a_checkpoint_on_another_disk_works_through_its_link(small_run, tmp_path):
    """Resumed from, and its link replaced by the next: what it points at stays."""
    small_run.save_checkpoint()
    elsewhere = tmp_path / "elsewhere"
    os.rename(small_run.folder / "checkpoint-0-0", elsewhere)
    (small_run.folder / "checkpoint-0-0").symlink_to(elsewhere)
    run = resumed_run({"out": str(small_run.folder)})
    run.state.step = 1
    run.save_checkpoint()
    assert not (run.folder / "checkpoint-0-0").is_symlink() and (elsewhere / "state.json").exists()


def test_a_stage_that_is_a_link_is_replaced_and_not_written_through(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("work")
    (tmp_path / "stage1").symlink_to(tmp_path / "elsewhere")
    write_folder(tmp_path / "stage1", lambda folder: (folder / "new").write_text("new"))
    assert not (tmp_path / "stage1").is_symlink() and (tmp_path / "stage1" / "new").exists()
    assert (tmp_path / "elsewhere" / "precious").read_text() == "work"


@pytest.mark.parametrize(
    "content, kept",
    [
        (b'\n{"step": 1}\n{"step": 2}\n{"step": 3}\n', b'\n{"step": 1}\n{"step": 2}\n'),
        (b'{"step": 1}\n\n{"step": 2}\n{"ste', b'{"step": 1}\n\n{"step": 2}\n'),
        (b'{"step": 1}\n{"step": 2}\n', b'{"step": 1}\n{"step": 2}\n'),
    ],
)
def test_only_what_comes_after_the_checkpoint_is_cut(content, kept, tmp_path):
    """A blank line, at the top or between, costs nothing."""
    (tmp_path / "metrics.jsonl").write_bytes(content)
    assert keep_steps(tmp_path / "metrics.jsonl", 2) is None
    assert (tmp_path / "metrics.jsonl").read_bytes() == kept


def test_damaged_metrics_are_put_aside_whole(tmp_path):
    content = b'{"step": 1}\n{"st\x00\n{"step": 2}\n{"step": 3}\n'
    (tmp_path / "metrics.jsonl").write_bytes(content)
    aside = keep_steps(tmp_path / "metrics.jsonl", 2)
    assert aside.read_bytes() == content
    assert (tmp_path / "metrics.jsonl").read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def change_state(**values):
    def change(folder):
        path = folder / "state.json"
        write_json(path, json.loads(path.read_text()) | values)

    return change


def empty_state(folder):
    (folder / "state.json").write_text("{}")


def drop_tokenizer(folder):
    (folder / "tokenizer_config.json").unlink()


def shorten_template(folder):
    (folder / "chat_template.jinja").write_text("")


def change_moments(change):
    def spoil(folder):
        path = folder / "optimizer.safetensors"
        save_file({name: change(name, value) for name, value in load_file(path).items()}, path)

    return spoil


@pytest.mark.parametrize(
    "spoil, said",
    [
        (empty_state, "missing"),
        (change_state(step=7), "is of step 7"),
        (change_state(stage=9), "is of step"),
        (change_state(cursor=-1), "counts that no run has"),
        (change_state(stage_step=50), "counts that no run has"),
        (change_state(accuracy=[2.0]), "shares"),
        (change_state(evaluations=[{"name": "before"}]), "evaluations that are none"),
        (change_state(evaluations=["before"]), "evaluations that are none"),
        (drop_tokenizer, "not whole"),
        (shorten_template, "not whole"),
        (change_moments(lambda name, value: value * float("nan")), "moments"),
        (change_moments(lambda name, value: -1 - value if "sq" in name else value), "moments"),
    ],
    ids=range(12),
)
def test_a_checkpoint_whose_parts_do_not_fit_is_put_aside(spoil, said, small_run, capsys):
    """The older one is used, and nothing is deleted."""
    small_run.model.model.norm.weight.grad = torch.ones_like(small_run.model.model.norm.weight)
    for parameter in small_run.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    small_run.optimizer.step()
    small_run.save_checkpoint()
    kept = small_run.folder / "checkpoint-0-0"
    os.rename(kept, small_run.folder / "aside")
    small_run.state.step = 2
    small_run.save_checkpoint()
    os.rename(small_run.folder / "aside", kept)
    folder = small_run.folder / "checkpoint-2-0"
    before = {path.name: path.stat().st_size for path in folder.iterdir()}
    spoil(folder)
    if said not in ("not whole",):  # sizes apart, so that the parts themselves are read
        write_json(folder / "files.json", {})
    assert resumed_run({"out": str(small_run.folder)}).state.step == 0
    assert said in capsys.readouterr().err
    [put_aside] = small_run.folder.glob("damaged-checkpoint-2-0-*")
    assert len(list(put_aside.iterdir())) >= len(before) - 1


def test_a_permission_is_named_and_nothing_is_put_aside(small_run, monkeypatch):
    small_run.save_checkpoint()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OSError, match="Permission denied.*Make it readable"):
        resumed_run({"out": str(small_run.folder)})
    assert (small_run.folder / "checkpoint-0-0").exists()


def test_an_empty_folder_is_used(tiny_options, tmp_path):
    (tmp_path / "run").mkdir()
    assert new_run(tiny_options | {"out": str(tmp_path / "run")}).folder == tmp_path / "run"


def test_a_run_that_is_over_says_so(trained_run, capsys, monkeypatch):
    monkeypatch.setattr(tfpi, "train", lambda run: True)
    monkeypatch.setattr(tfpi, "report", lambda run: None)
    monkeypatch.setattr(tfpi, "check_run", None)  # of all problems, which takes a while
    trained_run.lock.close()
    tfpi.main(["--resume", "--out", str(trained_run.folder), "--steps", "40"])
    assert "This run is over" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------
# Nobody let in


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "summary.json", "figure.png"])
def test_a_run_whose_files_are_links_is_not_resumed(name, small_run, tmp_path):
    """It may come from somebody else, and the link point at a file of yours."""
    (tmp_path / "yours").write_text("precious")
    (small_run.folder / name).unlink(missing_ok=True)
    (small_run.folder / name).symlink_to(tmp_path / "yours")
    with pytest.raises(ValueError, match=f"{name} is a link"):
        resumed_run({"out": str(small_run.folder)})
    assert (tmp_path / "yours").read_text() == "precious"


def test_files_are_replaced_and_never_written_through_a_link(small_run, tmp_path):
    """Also while the run is on: the partial name, and the metrics."""
    yours = tmp_path / "yours"
    yours.write_text("precious")
    for name in ("summary.json", "summary.json.partial"):
        (small_run.folder / name).symlink_to(yours)
    write_json(small_run.folder / "summary.json", {})
    assert not (small_run.folder / "summary.json").is_symlink()
    (small_run.folder / "metrics.jsonl").symlink_to(yours)
    with pytest.raises(OSError):
        small_run.log({"step": 1})
    assert yours.read_text() == "precious"


def test_escapes_are_shown_and_not_obeyed():
    """Title, clearing, the direction of writing; line ends and tabs stay."""
    text = "\x1b]0;title\x07 \x9b2J \u202e a\tb\nc ± \r"
    assert visible(text) == "\\x1b]0;title\\x07 \\x9b2J \\u202e a\tb\nc ± \\r"


def test_a_sample_cannot_write_to_the_terminal(small):
    sample = Rollout([5], [6], [-1.0], True, text="\x1b[2J", gold="\x1b[1m")
    assert "\x1b" not in report.format_sample(small[1], sample)


def test_a_template_that_writes_a_book_is_refused():
    with pytest.raises(ModelError, match="chat template"):
        check_prompts(bytes_tokenizer("{{ 'a' * 10**7 }}"))


@pytest.mark.parametrize(
    "value, pasted",
    [("runs/x", "--out runs/x"), ("my runs/x", "--out 'my runs/x'"), ("-x", "--out=-x")],
)
def test_advice_can_be_pasted(value, pasted):
    assert paste("--out", value) == pasted


@pytest.mark.parametrize("ids", ["2", [2, "3"], {"id": 2}, [[2]]])
def test_stop_ids_that_are_no_numbers(ids, small, tmp_path):
    for part in small[:2]:
        part.save_pretrained(tmp_path)
    for name in ("generation_config.json",):
        path = tmp_path / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": ids}))
    with pytest.raises(ModelError) as error:
        load_model(str(tmp_path), "cpu")
    assert len(str(error.value).splitlines()) == 1
