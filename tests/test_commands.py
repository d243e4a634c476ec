"""The command lines: bad options, folders that cannot be written to, Ctrl-C, files that are there.

Each mistake is one sentence and a non-zero exit code, and leaves nothing behind.
"""

import json
import os
import runpy
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
from support.cli import LARGEST, LARGEST_SEED, command, flag
from support.config import find_settings, parse_arguments
from support.model import load_model

ROOT = Path(__file__).parent.parent
MAINS = {
    "distill": distill.main,
    "problems": problems.main,
    "eval": eval_module.main,
    "plot": plot.main,
    "tfpi": tfpi.main,
    "prompts": prompts.main,
}
SIZES = {"test": 3, "validation": 3, "train": 5}
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


POSITIVE = {
    "tfpi": "lr eps_low eps_high full_budget prompts slots micro_tokens draws minibatches "
    "stage_steps validate_every save_every eval_problems eval_samples",
    "eval": "k budget problems slots",
    "distill": "steps lr",
}


@pytest.mark.parametrize("command", POSITIVE)
@pytest.mark.parametrize("number", ["0", "-1", "nan", "many", str(10**30)])
def test_what_is_no_number_of_anything(command, number, refuse, monkeypatch):
    """Each option of a number from 1 on, or above 0; argparse itself says what is no number."""
    monkeypatch.setattr(distill, "distill", None)  # or a call that is let through takes hours
    for name in POSITIVE[command].split():
        said = refuse(MAINS[command], f"{flag(name)}={number}").strip().splitlines()[-1]
        assert f"{flag(name)} " in said.replace(":", " ")


@pytest.mark.parametrize(
    "command, said",
    [
        ("distill --steps -3", "--steps -3 is not a number from 1"),
        ("distill --lr 1e300", "--lr 1e+300"),
        ("distill --seed -1", "--seed -1"),
        (f"distill --seed {LARGEST_SEED + 1}", "--seed"),
        (f"distill --out {LATIN}", "--out 'caf\\udce9' is not UTF-8"),
        ("distill --out file", "file exists, and is no empty folder"),
        ("distill --out full", "full exists, and is no empty folder"),
        ("distill --out link", "link exists, and is no empty folder"),
        ("distill --out file/x/y", "cannot write to file/x/y"),
        ("distill --out /proc/x", "cannot write to /proc/x"),
        ("problems --out file/x", "cannot write to file/x"),
        ("problems --out blocked", "blocked/test.jsonl is there, and not what would be written"),
        (f"problems --out {LATIN}", "--out"),
        ("problems more\x1b[2J", "unrecognized arguments: more\\x1b[2J"),
        ("eval -k 10001", "-k 10001 is not a number from 1 to 10000"),
        ("eval --show -1", "--show"),
        ("eval --temperature 1e300", "--temperature 1e+300"),
        ("eval --temperature 1e-9", "--temperature 1e-09"),
        ("eval --temperature nan", "--temperature nan"),
        ("eval --temperature -1", "--temperature -1"),
        (f"eval --seed {LARGEST_SEED + 1}", "--seed"),
        ("eval --seed -1", "--seed"),
        ("eval --top-k -1", "--top-k -1 is not a number from 0"),
        ("eval --top-p 0", "--top-p 0.0 is not a number from"),
        ("eval --top-p 1.01", "--top-p 1.01"),
        ("eval --top-p nan", "--top-p nan"),
        ("eval --device warp", "--device warp"),
        ("eval --data no.jsonl", "no.jsonl: cannot be read"),
        ("eval --model no/such/folder", "cannot load the model 'no/such/folder'"),
        ("eval --budget 2000 --problems 1", "context of 1024"),
        ("eval --json file", "file exists. Give --json another name."),
        ("eval --json link", "link exists"),
        ("eval --json full", "full exists"),
        ("eval --json file/x", "cannot write to file (File exists). Give --json"),
        (f"eval --json {'x' * 256}", "(File name too long). Give --json another"),
        (f"eval --json {LATIN}", "--json 'caf\\udce9' is not UTF-8"),
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
        ("tfpi --lr inf", "--lr inf"),
        ("tfpi --eps-low 1", "--eps-low 1.0 must be below 1"),
        ("tfpi --eps-high 1e308", "--eps-high"),
        ("tfpi --temperature 101", "--temperature"),
        ("tfpi --temperature 0.009", "--temperature"),
        ("tfpi --temperature nan", "--temperature"),
        (f"tfpi --seed {LARGEST_SEED + 1}", "--seed"),
        ("tfpi --seed -1", "--seed"),
        ("tfpi --steps -1", "--steps"),
        (f"tfpi --steps {LARGEST + 1}", "--steps"),
        ("tfpi --prompts 1000001", "--prompts"),
        ("tfpi --prompts 2.5", "--prompts"),
        ("tfpi --group 1", "--group must be at least 2"),
        ("tfpi --group 10001", "--group"),
        ("tfpi --eval-samples 10001", "--eval-samples"),
        ("tfpi --budgets 0", "--budgets"),
        ("tfpi --budgets 64,", "--budgets"),
        ("tfpi --budgets=-5", "--budgets"),
        ("tfpi --budgets ²", "--budgets"),
        (f"tfpi --budgets 16,{LARGEST + 1}", "--budgets"),
        (f"tfpi --budgets {'9' * 5000}", "--budgets"),
        ("tfpi --budgets 16,1020", "context of 1024"),
        (f"tfpi --full-budget {LARGEST}", "context of 1024"),
        ("tfpi --recipe ppo", "--recipe ppo is not one of tfpi, tfpi+rl, direct, multistage."),
        ("tfpi --normalizer sum", "dapo, grpo, dr_grpo"),
        ("tfpi --speed 3", "--speed"),
        # The trainer's log-probs are of the whole distribution.
        ("tfpi --top-p 0.95", "unrecognized arguments: --top-p 0.95"),
        ("tfpi --top-k 20", "unrecognized arguments: --top-k 20"),
        ("tfpi --device warp", "--device warp"),
        ("tfpi --device cuda:99", "--device cuda:99"),
        ("tfpi --device meta", "--device meta"),
        ("tfpi --data no.jsonl", "no.jsonl"),
        ("tfpi --data file", "file, line 1: not JSON"),
        (f"tfpi --data {LATIN}", "--data"),
        ("tfpi --out full", "full exists. Give --out another folder"),
        (f"tfpi --out {LATIN}", "--out 'caf\\udce9' is not UTF-8"),
        (f"tfpi --instruction {LATIN}", "--instruction"),
        ("tfpi --model=", "--model is empty"),
        ("tfpi --model no/such/folder", "no/such/folder"),
        ("tfpi --model run", "run is a run; give --model run/stage10"),
        ("tfpi --resume", "leave out --resume"),
    ],
)
def test_a_bad_call_is_one_sentence(command, said, things, refuse, monkeypatch):
    monkeypatch.setattr(distill, "distill", None)  # or a call that is let through takes hours
    name, *arguments = command.split(" ")
    assert said in refuse(MAINS[name], *arguments)


@pytest.mark.parametrize(
    "extreme",
    [
        dict(lr=10.0, temperature=100.0, eps_low=0.999, eps_high=1000.0, seed=LARGEST_SEED)
        | dict.fromkeys(("slots", "micro_tokens", "minibatches", "eval_problems"), LARGEST),
        dict(lr=1e-12, temperature=0.01, eps_low=1e-12, eps_high=1e-12, slots=1, micro_tokens=1),
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


@pytest.mark.parametrize("error", [MemoryError, ZeroDivisionError])
def test_what_fails_in_training_keeps_a_model_of_before(error, quick, monkeypatch, tmp_path):
    """An error that nobody catches stands for a kill."""
    monkeypatch.setattr(distill, "SAVE_EVERY", 2)
    with pytest.raises((SystemExit, ZeroDivisionError)) as ended:
        quick(losses=(2.0, 1.0, 1.0, error))(["--steps", "5", "--out", "out"])
    assert error is ZeroDivisionError or "after 2 of 5 steps is in out." in str(ended.value)
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
    monkeypatch.setattr(arithmetic, "SIZES", SIZES)

    def write():
        problems.main(["--out", str(tmp_path / "data")])
        return tmp_path / "data", capsys.readouterr().out

    return write


def test_splits_are_written_where_none_is_or_are_as_they_were(splits):
    folder, said = splits()
    assert said.splitlines()[:3] == [f"wrote {folder / name}.jsonl" for name in SIZES]
    (folder / "train.jsonl").unlink()
    before = (folder / "test.jsonl").stat()
    _, said = splits()
    assert f"{folder / 'test.jsonl'} is as it was\n" in said and f"wrote {folder / 'train'}" in said
    assert (folder / "test.jsonl").stat() == before
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("link", [False, True])
def test_a_file_that_differs_is_never_replaced(link, splits, refuse, tmp_path):
    """Nor is another one written; a link may point at it."""
    folder, _ = splits()
    (folder / "test.jsonl").unlink()
    (tmp_path / "mine").write_text("mine")
    (folder / "train.jsonl").unlink()
    if link:
        (folder / "train.jsonl").symlink_to(tmp_path / "mine")
    else:
        (folder / "train.jsonl").write_text("mine")
    said = refuse(problems.main, "--out", folder)
    assert f"{folder / 'train.jsonl'} is there, and not what would be written. Move it" in said
    assert (folder / "train.jsonl").read_text() == "mine"


def test_a_full_disk_changes_no_split(splits, monkeypatch, refuse):
    folder, _ = splits()
    for split in ("test", "train"):
        (folder / f"{split}.jsonl").unlink()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("support.disk.flush", fail)
    assert "No space left on device" in refuse(problems.main, "--out", folder)


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
        *(None, "", "{", "[" * 100_000, '{"before":' * 100_000, "[]", "{}", "null", b"\xff\xfe"),
        json.dumps({"before": BOTH, "stages": {}}),
        json.dumps({"before": BOTH, "stages": [3]}),
        json.dumps({"before": BOTH, "stages": [BOTH]}),
        json.dumps({"before": BOTH, "stages": [{"name": ["stage1"], **BOTH}]}),
        json.dumps({"before": BOTH, "stages": [{"name": "$\\frac$", **BOTH}]}),  # no TeX
        json.dumps({"before": {"thinking": RESULT}, "stages": []}),
        json.dumps({"before": [BOTH], "stages": []}),
        *(changed(accuracy=value) for value in ([0.5], "0.5", True, None, float("nan"))),
        *(changed(tokens=value) for value in (float("inf"), 10**400, 1e300)),
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
        *(None, "", "\n \n", '{"step": 1', "[" * 100_000, "[1]", "{}", b"\xff\xfe"),
        *(json.dumps(STEP | {"step": value}) for value in ([1], None, 10**400)),
        *(json.dumps(STEP | {"reward": value}) for value in ([0.5], {}, float("nan"))),
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
    command = [sys.executable, "-W", "ignore", "-m", "support.plot", folder]
    options = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run(command, env=os.environ | {"MPLBACKEND": "nonsense"}, **options)
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


# --------------------------------------------------------------------------------------------------
# As Python runs them


def test_a_command_line_says_one_sentence(monkeypatch):
    """A text to exit with goes to stderr, with exit code 1."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["eval.py", "--data", "README.md"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path("eval.py", run_name="__main__")
    assert stopped.value.code.startswith("eval: README.md, line 1: not JSON")


@pytest.mark.parametrize(
    "error, said",
    [
        (ValueError("no \x1b[2J"), "x: no \\x1b[2J On we go."),
        (OSError("full"), "x: full On we go."),
        (MemoryError("gone"), "x: gone On we go."),
        (KeyboardInterrupt(), "x: stopped. On we go."),
        (KeyboardInterrupt("stopped at once."), "x: stopped at once. On we go."),
    ],
)
def test_what_ends_a_command_line_is_one_sentence(error, said):
    with pytest.raises(SystemExit) as stopped, command("x", lambda: " On we go."):
        raise error
    assert stopped.value.code == said


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), command("x"):
        raise ZeroDivisionError
