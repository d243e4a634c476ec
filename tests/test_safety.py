"""Nothing lost when the terminal goes or the folder is touched, and nobody let in."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
from quick_runs import QUICK_RUN, command_line
from shared import new_run, resumed_run
from test_thinkfree import bytes_tokenizer

import tfpi
from rollout import Rollout
from support import report
from support.cli import CalmStream, paste, visible
from support.disk import keep_steps, put, read_json, write_json
from support.model import ModelError, load_model
from support.run import checkpoints, signals
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
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"summary.json", "figure.png", "stage1"} <= left


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
    names = "accuracy error tokens truncated verification thought empty k problems"
    result = dict.fromkeys(names.split(), 0)
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


def test_a_stage_that_was_there_is_replaced_and_no_link_followed(tmp_path):
    """A stage's model, after a crash: whoever resumed the run may have changed an option."""
    yours = tmp_path / "yours"
    yours.mkdir()
    (yours / "precious").write_text("work")
    (tmp_path / "stage1").symlink_to(yours)
    for name in ("old", "new"):

        def fill(folder):
            folder.mkdir()
            (folder / name).write_text(name)

        put(tmp_path / "stage1", fill, again=True)
    assert [path.name for path in (tmp_path / "stage1").iterdir()] == ["new"]
    assert (yours / "precious").read_text() == "work"
    with pytest.raises(OSError, match="cannot write"):  # of two runs that begin at once, one does
        put(tmp_path / "stage1", fill)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage1", "yours"]


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


@dataclass
class Kinds:
    """What State and its like are made of."""

    count: Annotated[int, 0, 10] = 0
    size: float = 0.0
    name: str = ""
    yes: bool = False
    shares: list[Annotated[float, 0, 1]] = field(default_factory=list)
    named: dict[str, int] = field(default_factory=dict)
    maybe: str | None = None
    newer: list = field(default_factory=list, metadata={"newer": True})


WHOLE = {"count": 3, "size": 2, "name": "a", "yes": True, "shares": [0, 0.5, 1], "maybe": None}
WHOLE |= {"named": {"b": 4}}


def test_json_is_what_its_dataclass_says(tmp_path):
    """All fields, but for newer ones."""
    write_json(tmp_path / "a.json", WHOLE)
    assert read_json(tmp_path / "a.json", Kinds, whole=True) == Kinds(**WHOLE)
    write_json(tmp_path / "a.json", {"count": 3})
    assert read_json(tmp_path / "a.json", Kinds) == Kinds(3)
    with pytest.raises(ValueError, match="a.json was not written by tfpi.py.* is missing"):
        read_json(tmp_path / "a.json", Kinds, whole=True)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"count": -1}, "count is -1"),
        ({"count": True}, "count is True"),
        ({"count": 2.0}, "count is 2.0"),
        ({"size": "2"}, "size is '2'"),
        ({"name": None}, "name is None"),
        ({"yes": 1}, "yes is 1"),
        ({"shares": [0.5, 2.0]}, "shares is 2.0"),
        ({"shares": [float("nan")]}, "shares is nan"),
        ({"shares": 0.5}, "shares is 0.5"),
        ({"named": {"b": "4"}}, "named, b is '4'"),
        ({"maybe": 5}, "maybe is 5"),
        ({"more": 5}, "more is unknown"),
    ],
)
def test_json_that_is_anything_else_is_refused_by_name(change, said, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(WHOLE | change))
    with pytest.raises(ValueError, match=f"a.json was not written by tfpi.py.*{said}"):
        read_json(tmp_path / "a.json", Kinds)


@pytest.mark.parametrize(
    "values, said", [({"step": 7}, "is of step 7"), ({"accuracy": [2.0]}, "accuracy is 2.0")]
)
def test_a_checkpoint_that_does_not_fit_is_put_aside(values, said, small_run, capsys):
    """The older one is used, and nothing is deleted."""
    small_run.save_checkpoint()
    kept = small_run.folder / "checkpoint-0-0"
    os.rename(kept, small_run.folder / "aside")
    small_run.state.step = 2
    small_run.save_checkpoint()
    os.rename(small_run.folder / "aside", kept)
    folder = small_run.folder / "checkpoint-2-0"
    (folder / "files.json").unlink()  # as of an older version: the parts themselves are read
    before = sorted(path.name for path in folder.iterdir())
    state = json.loads((folder / "state.json").read_text())
    write_json(folder / "state.json", state | values)
    assert resumed_run({"out": str(small_run.folder)}).state.step == 0
    assert said in capsys.readouterr().err
    [put_aside] = small_run.folder.glob("damaged-checkpoint-2-0-*")
    assert sorted(path.name for path in put_aside.iterdir()) == before


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
    monkeypatch.setattr("support.start.report", lambda run: None)
    monkeypatch.setattr(tfpi, "check_run", None)  # of all problems, which takes a while
    trained_run.lock.release()
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
    """Also while the run is on."""
    yours = tmp_path / "yours"
    yours.write_text("precious")
    (small_run.folder / "summary.json").symlink_to(yours)
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


def test_a_template_that_writes_without_end_is_refused():
    with pytest.raises(ModelError, match="chat template makes 10000000 characters"):
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
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": ids}))
    with pytest.raises(ModelError) as error:
        load_model(str(tmp_path), "cpu")
    assert len(str(error.value).splitlines()) == 1
