"""The command lines: bad options, folders that cannot be written to, Ctrl-C, files that are there.

Each mistake is one sentence and a non-zero exit code, and leaves nothing behind.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from shared import new_run

import distill
import eval as eval_module
import problems
import tfpi
from examples import prompts
from lesson import arithmetic
from support import plot
from support.config import find_settings, parse_arguments
from support.model import load_model
from support.options import LARGEST, LARGEST_SEED

ROOT = Path(__file__).parent.parent
MAINS = {
    "distill": distill.main,
    "problems": problems.main,
    "eval": eval_module.main,
    "plot": plot.main,
    "tfpi": tfpi.main,
    "prompts": prompts.main,
}
LATIN = "caf\udce9"  # as Python reads what is not UTF-8 in a command line


@pytest.fixture
def things(tmp_path):
    """A folder with a file, a folder that is not empty, and a run that ended."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "data.jsonl").write_text('{"problem": "What is 1 + 1?", "answer": "2"}')
    (tmp_path / "blocked" / "test.jsonl").mkdir(parents=True)
    for name in ("stage1", "stage2", "stage10", "checkpoint-30-3"):
        (tmp_path / "run" / name).mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text('{"full_budget": 640}')
    return tmp_path


# --------------------------------------------------------------------------------------------------
# Bad calls


@pytest.mark.parametrize(
    "command, said",
    [
        ("distill --steps -3", "--steps -3 is not a number from 1"),
        ("distill --steps 0", "--steps 0"),
        (f"distill --steps {LARGEST + 1}", "--steps"),
        ("distill --steps many", "--steps"),
        ("distill --lr nan", "--lr nan"),
        ("distill --lr 0", "--lr 0"),
        ("distill --lr 1e300", "--lr 1e+300"),
        ("distill --seed -1", "--seed -1"),
        (f"distill --seed {LARGEST_SEED + 1}", "--seed"),
        (f"distill --out {LATIN}", "--out 'caf\\udce9' is not UTF-8"),
        ("distill --out file", "file exists, and is no empty folder"),
        ("distill --out full", "full exists, and is no empty folder"),
        ("distill --out link", "link exists, and is no empty folder"),
        ("distill --out file/x/y", "cannot write to file/x/y"),
        ("distill --out /proc/x", "cannot write to /proc/x"),
        ("problems --out file", "cannot write to file"),
        ("problems --out file/x", "cannot write to file/x"),
        ("problems --out blocked", "blocked/test.jsonl is there, and is no file"),
        (f"problems --out {LATIN}", "--out"),
        ("problems more\x1b[2J", "unrecognized arguments: more\\x1b[2J"),
        ("eval -k 10001", "-k 10001 is not a number from 1 to 10000"),
        (f"eval --slots {LARGEST + 1}", "--slots"),
        (f"eval --budget {10**30}", "--budget"),
        (f"eval --problems {LARGEST + 1}", "--problems"),
        ("eval --show -1", "--show"),
        ("eval --temperature 1e300", "--temperature 1e+300"),
        ("eval --temperature 1e-9", "--temperature 1e-09"),
        (f"eval --seed {LARGEST_SEED + 1}", "--seed"),
        ("eval --top-k -1", "--top-k -1 is not a number from 0"),
        ("eval --top-p 0", "--top-p 0.0 is not a number from"),
        ("eval --top-p 1.01", "--top-p 1.01"),
        ("eval --top-p nan", "--top-p nan"),
        ("eval --json file", "file exists. Give --json another name."),
        ("eval --json link", "link exists"),
        ("eval --json full", "full exists"),
        ("eval --json file/x", "cannot write to file (File exists). Give --json"),
        (f"eval --json {'x' * 250}", "(File name too long). Give --json another"),
        (f"eval --json {LATIN}", "--json 'caf\\udce9' is not UTF-8"),
        # The trainer's log-probs are of the whole distribution.
        ("tfpi --top-p 0.95", "unrecognized arguments: --top-p 0.95"),
        ("tfpi --top-k 20", "unrecognized arguments: --top-k 20"),
        (f"eval --data {LATIN}", "--data 'caf\\udce9' is not UTF-8"),
        (f"eval --model {LATIN}", "--model"),
        (f"eval --device {LATIN}", "--device"),
        ("eval --data \x1b[2J", "\\x1b[2J: cannot be read"),
        ("eval --model run", "run is a run; give --model run/stage10"),
        ("prompts", "arguments are required: --data"),
        ("prompts --data nowhere", "prompts: nowhere: cannot be read"),
        ("prompts --data file", "file, line 1: not JSON"),
        ("prompts --data data.jsonl --out file", "file exists. Give --out another name."),
        ("prompts --data data.jsonl --out link", "link exists. Give --out another name."),
        ("prompts --data data.jsonl --out file/x", "cannot write to file (File exists)"),
        ("prompts --data data.jsonl --out new/x --model full", "cannot load the tokenizer of"),
        ("prompts --data data.jsonl --model run", "run is a run; give --model run/stage10"),
        (f"prompts --data data.jsonl --instruction {LATIN}", "--instruction 'caf\\udce9'"),
        ("plot nowhere", "plot: not a finished run: there is no nowhere/summary.json"),
        ("plot file", "there is no file/summary.json"),
        ("plot \x1b[2J", "\\x1b[2J"),
        ("tfpi --lr 1e300", "--lr 1e+300 is not a number from 1e-12 to 10.0"),
        ("tfpi --eps-low 1", "--eps-low 1.0 must be below 1"),
        ("tfpi --eps-high 1e308", "--eps-high"),
        ("tfpi --temperature 101", "--temperature"),
        ("tfpi --temperature 0.009", "--temperature"),
        (f"tfpi --seed {LARGEST_SEED + 1}", "--seed"),
        (f"tfpi --steps {LARGEST + 1}", "--steps"),
        ("tfpi --prompts 1000001", "--prompts"),
        ("tfpi --group 10001", "--group"),
        ("tfpi --eval-samples 10001", "--eval-samples"),
        (f"tfpi --budgets 16,{LARGEST + 1}", "--budgets"),
        (f"tfpi --budgets {'9' * 5000}", "--budgets"),
        (f"tfpi --full-budget {LARGEST}", "context of 1024"),
        (f"tfpi --data {LATIN}", "--data"),
        (f"tfpi --out {LATIN}", "--out 'caf\\udce9' is not UTF-8"),
        (f"tfpi --instruction {LATIN}", "--instruction"),
        ("tfpi --model run", "run is a run; give --model run/stage10"),
    ],
)
def test_a_bad_call_is_one_sentence(command, said, things, refuse, monkeypatch):
    monkeypatch.setattr(distill, "distill", None)  # or a call that is let through takes hours
    name, *arguments = command.split(" ")
    assert said in refuse(MAINS[name], *arguments)


@pytest.mark.parametrize(
    "extreme",
    [
        {
            "lr": 10.0,
            "temperature": 100.0,
            "eps_low": 0.999,
            "eps_high": 1000.0,
            "seed": LARGEST_SEED,
            "slots": LARGEST,
            "micro_tokens": LARGEST,
            "minibatches": LARGEST,
            "eval_problems": LARGEST,
        },
        {
            "lr": 1e-12,
            "temperature": 0.01,
            "eps_low": 1e-12,
            "eps_high": 1e-12,
            "slots": 1,
            "micro_tokens": 1,
        },
    ],
    ids=["largest", "smallest"],
)
def test_options_at_their_bounds_can_be_trained_with(extreme, tiny_options, tmp_path, monkeypatch):
    monkeypatch.setattr("grpo.is_flat", lambda group: False)  # or there would be no update
    run = new_run(tiny_options | extreme | {"out": str(tmp_path / "run")}, tfpi.check_run)
    _, metrics = tfpi.train_step(run, tfpi.stages(run.config)[0])
    assert metrics["updates"] + metrics["skipped"] > 0


def test_a_model_of_a_run_without_stages_is_its_checkpoint(things):
    for name in ("stage1", "stage2", "stage10"):
        (things / "run" / name).rmdir()
    with pytest.raises(ValueError, match="give --model .*/run/checkpoint-30-3$"):
        find_settings(str(things / "run"))


def test_the_home_folder_is_found(monkeypatch, tmp_path, refuse):
    """A shell leaves `~` as it is in --out=~/x."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    home = f"{tmp_path}/home"
    given, _ = parse_arguments(["--out=~/a", "--data=~/b.jsonl", "--model=~/c"])
    assert given == {"out": f"{home}/a", "data": f"{home}/b.jsonl", "model": f"{home}/c"}
    assert f"{home}/b.jsonl" in refuse(eval_module.main, "--data=~/b.jsonl")
    assert f"{home}/c" in refuse(eval_module.main, "--model=~/c")
    assert f"{home}/d" in refuse(plot.main, "~/d")


# --------------------------------------------------------------------------------------------------
# distill.py


@pytest.fixture
def quick(monkeypatch, tmp_path, small):
    """distill.main without its hours: sets what SFT yields, and what measuring does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(distill, "train_tokenizer", lambda texts: small[1])

    def call(losses=(2.0, 1.0), measured="a table"):
        def pretend(outcome):
            if isinstance(outcome, type):
                raise outcome("measuring failed.")
            return outcome

        monkeypatch.setattr(distill, "sft", lambda *_: (pretend(loss) for loss in losses))
        monkeypatch.setattr(distill, "measure", lambda *_: pretend(measured))
        return distill.main

    return call


def test_distilled_models_get_names_of_their_own(quick, tmp_path):
    """By default, none replaces another; a folder that is empty may be given."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "distilled-2").symlink_to("nowhere")
    for arguments in ([], [], ["--out", "empty"], ["--out", "a/b"]):
        quick()(["--steps", "2", *arguments])
    for name in ("runs/distilled", "runs/distilled-3", "empty", "a/b"):
        files = {path.name for path in (tmp_path / name).iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= files
        assert not [file for file in files if file.startswith(".")]
    assert "a table" in (tmp_path / "empty" / "README.md").read_text()


def test_ctrl_c_keeps_the_model_as_it_is_then(quick, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        quick(losses=(2.0, 1.0, KeyboardInterrupt))(["--steps", "5"])
    said = "distill: stopped. The model after 2 of 5 steps is in runs/distilled."
    assert stopped.value.code == said
    load_model(str(tmp_path / "runs" / "distilled"), "cpu")
    assert not (tmp_path / "runs" / "distilled" / "README.md").exists()  # it tells of whole ones


@pytest.mark.parametrize("losses", [(KeyboardInterrupt,), (2.0, float("nan")), (MemoryError,)])
def test_without_a_model_nothing_is_left(losses, quick, refuse, tmp_path):
    """And nothing is gone: an empty folder that was there stays."""
    (tmp_path / "empty").mkdir()
    refuse(quick(losses), "--steps", "5", "--out", "a/b")
    refuse(quick(losses), "--steps", "5", "--out", "empty")


def test_what_fails_in_training_keeps_a_model_of_before(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(distill, "SAVE_EVERY", 2)
    with pytest.raises(SystemExit, match="The model after 2 of 5 steps is in out."):
        quick(losses=(2.0, 1.0, 1.0, MemoryError))(["--steps", "5", "--out", "out"])
    load_model(str(tmp_path / "out"), "cpu")


def test_a_killed_process_has_kept_a_model(quick, monkeypatch, tmp_path):
    """An error that nobody catches stands for the kill."""
    monkeypatch.setattr(distill, "SAVE_EVERY", 2)
    with pytest.raises(ZeroDivisionError):
        quick(losses=(2.0, 1.0, 1.0, ZeroDivisionError))(["--steps", "5", "--out", "out"])
    load_model(str(tmp_path / "out"), "cpu")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_what_fails_after_training_keeps_the_model(error, quick, tmp_path):
    with pytest.raises(SystemExit, match="The model after 2 of 2 steps is in out."):
        quick(measured=error)(["--steps", "2", "--out", "out"])
    load_model(str(tmp_path / "out"), "cpu")


# --------------------------------------------------------------------------------------------------
# problems.py


@pytest.fixture
def splits(monkeypatch, tmp_path, capsys):
    """Writes small splits to tmp_path/data: (the folder, what was said)."""
    monkeypatch.setattr(arithmetic, "SIZES", {"test": 3, "validation": 3, "train": 5})

    def write():
        problems.main(["--out", str(tmp_path / "data")])
        return tmp_path / "data", capsys.readouterr().out

    return write


def test_files_that_differ_are_kept_beside(splits):
    """Twice, under two names; and files that are as they should be are not touched."""
    folder, _ = splits()
    before = (folder / "test.jsonl").stat()
    right = (folder / "train.jsonl").read_text()
    for name in ("train.jsonl.before", "train.jsonl.before-2"):
        (folder / "train.jsonl").write_text(f"mine, to be {name}")
        _, said = splits()
        assert (folder / name).read_text() == f"mine, to be {name}"
        assert f"what was in {folder / 'train.jsonl'} is now in {folder / name}\n" in said
        assert (folder / "train.jsonl").read_text() == right
    assert (folder / "test.jsonl").stat() == before
    assert len(list(folder.iterdir())) == 5


def test_a_link_is_replaced(splits, tmp_path):
    folder, _ = splits()
    right = (folder / "train.jsonl").read_text()
    (tmp_path / "mine").write_text("mine")
    (folder / "train.jsonl").unlink()
    (folder / "train.jsonl").symlink_to(tmp_path / "mine")
    splits()
    assert (tmp_path / "mine").read_text() == (folder / "train.jsonl.before").read_text() == "mine"
    assert (folder / "train.jsonl").read_text() == right


def test_a_full_disk_changes_no_split(splits, monkeypatch, refuse):
    folder, _ = splits()
    for split in ("test", "train"):
        (folder / f"{split}.jsonl").write_text("mine")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("support.files.flush", fail)
    assert "No space left on device" in refuse(problems.main, "--out", folder)
    assert (folder / "test.jsonl").read_text() == (folder / "train.jsonl").read_text() == "mine"


# --------------------------------------------------------------------------------------------------
# support/plot.py

RESULT = {"accuracy": 0.5, "error": 0.01, "tokens": 60.0}
BOTH = {"thinking": RESULT, "thinking_free": RESULT}
SUMMARY = {"before": BOTH, "stages": [{"name": "stage1", **BOTH}]}
STEP = {"step": 1, "stage_step": 1, "budget": 80, "reward": 0.5}


def changed(**result):
    """The summary with other numbers."""
    return json.dumps({"before": {**BOTH, "thinking": RESULT | result}, "stages": []})


@pytest.fixture
def finished(tmp_path):
    """A finished run's folder, of these texts; None: no such file."""

    def write(summary=json.dumps(SUMMARY), metrics=json.dumps(STEP)):
        folder = tmp_path / "run"
        folder.mkdir()
        for name, text in (("summary.json", summary), ("metrics.jsonl", metrics)):
            if text is not None:
                (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return folder

    return write


@pytest.mark.filterwarnings("ignore:No artists with labels")
@pytest.mark.parametrize(
    "summary",
    [
        None,
        "",
        "{",
        "[" * 100_000,
        '{"before":' * 100_000,
        "[]",
        "{}",
        "null",
        b"\xff\xfe",
        json.dumps({"before": BOTH, "stages": {}}),
        json.dumps({"before": BOTH, "stages": [3]}),
        json.dumps({"before": BOTH, "stages": [BOTH]}),
        json.dumps({"before": BOTH, "stages": [{"name": ["stage1"], **BOTH}]}),
        json.dumps({"before": BOTH, "stages": [{"name": "$\\frac$", **BOTH}]}),  # no TeX
        json.dumps({"before": {"thinking": RESULT}, "stages": []}),
        json.dumps({"before": [BOTH], "stages": []}),
        changed(accuracy=[0.5]),
        changed(accuracy="0.5"),
        changed(accuracy=True),
        changed(accuracy=None),
        changed(accuracy=float("nan")),
        changed(error=float("inf")),
        changed(tokens=10**400),
        changed(tokens=1e300),
        '{"before": ' + "9" * 5000 + "}",
    ],
    ids=range(25),
)
def test_a_summary_that_cannot_be_drawn(summary, finished, refuse):
    finished(summary=summary)
    assert refuse(plot.main, "run").startswith("plot: ")


@pytest.mark.parametrize(
    "metrics",
    [
        None,
        "",
        "\n \n",
        '{"step": 1',
        "[" * 100_000,
        "[1]",
        "{}",
        b"\xff\xfe",
        json.dumps(STEP | {"step": [1]}),
        json.dumps(STEP | {"stage_step": None}),
        json.dumps(STEP | {"budget": {}}),
        json.dumps(STEP | {"reward": float("nan")}),
        json.dumps(STEP | {"reward": [0.5]}),
        json.dumps(STEP | {"step": 10**400}),
        json.dumps(STEP) + "\n" + json.dumps(STEP)[:-3],
    ],
    ids=range(15),
)
def test_metrics_that_cannot_be_drawn(metrics, finished, refuse):
    finished(metrics=metrics)
    assert "metrics.jsonl" in refuse(plot.main, "run")


@pytest.mark.filterwarnings("ignore:No artists with labels")
def test_foreign_keys_and_blank_lines_do_not_matter(finished):
    metrics = "\n\n".join(json.dumps(STEP | {"step": i, "color": ["red"]}) for i in (1, 2)) + "\n\n"
    folder = finished(json.dumps(SUMMARY | {"color": "red"}), metrics)
    assert plot.draw_run(folder).read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("ignore:No artists with labels")
def test_a_link_of_the_figure_s_name_is_replaced(finished, tmp_path):
    folder = finished()
    (tmp_path / "mine").write_text("mine")
    (folder / "figure.png").symlink_to(tmp_path / "mine")
    plot.draw_run(folder)
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (folder / "figure.png").is_symlink()


@pytest.mark.parametrize("error", [OSError(28, "No space left"), RuntimeError("no font")])
@pytest.mark.filterwarnings("ignore:No artists with labels")
def test_a_figure_that_cannot_be_written_leaves_nothing(error, finished, monkeypatch, refuse):
    def fail(figure, path, **_):
        path.write_text("half")
        raise error

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    finished()
    assert error.args[-1] in refuse(plot.main, "run")


@pytest.mark.parametrize("error", ["ImportError", "AttributeError", "RecursionError"])
def test_a_broken_matplotlib_is_one_sentence(error, finished, monkeypatch, tmp_path, refuse):
    """Importing support.plot ends nothing, either."""
    finished()
    (tmp_path / "matplotlib.py").write_text(f"raise {error}('half of it is gone')")
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    said = refuse(plot.main, "run")
    assert said == "plot: figures need matplotlib (half of it is gone): pip install matplotlib"


def test_a_display_that_nobody_knows_does_no_harm(finished):
    """matplotlib reads MPLBACKEND when it is imported, and would refuse nonsense."""
    folder = finished()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "support.plot", folder],
        cwd=ROOT,
        env=os.environ | {"MPLBACKEND": "nonsense"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{folder / 'figure.png'}\n" and (folder / "figure.png").exists()


# --------------------------------------------------------------------------------------------------
# What is printed


def test_a_problem_cannot_reach_the_terminal(monkeypatch, capsys, tmp_path):
    """Escapes in its question are shown, not obeyed."""
    row = {"problem": "What is \x1b[2J 1 + 1?", "answer": "2"}
    (tmp_path / "data.jsonl").write_text(json.dumps(row))
    options = ["--budget", "4", "-k", "1", "--mode", "thinking-free", "--show", "1"]
    eval_module.main(["--data", str(tmp_path / "data.jsonl"), *options, "--device", "cpu"])
    said = capsys.readouterr().out
    assert "--- What is \\x1b[2J 1 + 1?" in said and "\x1b" not in said
