"""A run as its user sees it: files, resume, Ctrl-C."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import torch
from quick_runs import QUICK_RUN, command_line
from shared import flat_weights, new_run, resumed_run
from transformers import AutoModelForCausalLM, AutoTokenizer

from tfpi import main, train

ROOT = Path(__file__).parent.parent


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_the_whole_run_leaves_what_it_promises(quick_options, tmp_path):
    """Options, metrics, a model a stage, samples, a summary, a figure and a page."""
    main(command_line(quick_options | {"steps": 1, "eval_problems": 4}))
    folder = tmp_path / "run"
    summary = json.loads((folder / "summary.json").read_text())
    for when in ("before", "after"):
        for mode in ("thinking", "thinking_free"):
            assert {"accuracy", "error", "tokens", "truncated", "empty"} <= set(summary[when][mode])
    assert [entry["name"] for entry in summary["stages"]] == ["stage1", "stage2"]
    assert summary["generated_tokens"] > 0 and summary["seconds"] > 0
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
    assert (folder / "config.json").exists() and (folder / "figure.png").exists()
    assert len(weights(folder / "stage2")) > 0
    page = (folder / "report.html").read_text()
    assert page.count('class="response"') == 3 * 4 * 2  # evaluations, problems, modes
    assert "data:image/png" in page


def test_metrics_count_up(metrics):
    """Generated tokens and seconds are cumulated over the run, for plots against compute."""
    assert [line["step"] for line in metrics] == [1, 2, 3, 4]
    total = 0
    for line in metrics:
        total += round(line["tokens"] * line["rollouts"])
        assert line["generated_tokens"] == total
    assert metrics[0]["seconds"] < metrics[-1]["seconds"]


def test_snapshots_are_models_along_the_way(trained_run):
    """Every second step of four, across the stage's end, as ordinary folders."""
    folder = trained_run.folder
    assert sorted(path.name for path in folder.glob("step*")) == ["step2", "step4"]
    last = weights(folder / "step4")
    assert all(torch.equal(last[key], value) for key, value in weights(folder / "stage2").items())


def test_all_groups_flat_is_a_message_not_a_crash(quick_model, tmp_path, capsys):
    """Nobody solves these problems: the run goes on, says so, and leaves the weights alone."""
    data = tmp_path / "hopeless.jsonl"
    rows = [{"problem": f"What is {i} + 1?", "answer": "a lighthouse"} for i in range(40)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = new_run(QUICK_RUN | quick_model | {"data": str(data), "out": str(tmp_path / "run")})
    before = flat_weights(run.model)
    assert train(run) is True
    assert "every group was flat" in capsys.readouterr().err
    assert torch.equal(flat_weights(run.model), before)


def test_two_and_two_steps_equal_four(quick_options, tmp_path):
    """Resume is exact: weights, optimizer, data cursor and stage, bit for bit."""
    whole = new_run(quick_options)
    assert train(whole) is True
    broken = new_run(quick_options | {"out": str(tmp_path / "broken")})
    interrupt_after(broken, steps=1)
    assert train(broken) is False
    broken.save_checkpoint()
    resumed = resumed_run({"out": str(tmp_path / "broken")})
    assert resumed.state.step == 1
    interrupt_after(resumed, steps=3)  # now in the second stage
    assert train(resumed) is False
    resumed.save_checkpoint()
    last = resumed_run({"out": str(tmp_path / "broken")})
    assert train(last) is True
    found = weights(tmp_path / "broken" / "stage2")
    for name, tensor in weights(whole.folder / "stage2").items():
        assert torch.equal(tensor, found[name]), name
    assert read_metrics(whole.folder) == read_metrics(tmp_path / "broken")


def read_metrics(folder):
    """Without times."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if not k.endswith("seconds")} for line in lines]


def test_resume_drops_the_lines_of_steps_it_will_do_again(small_run):
    """And one that a crash tore: they would otherwise stand in metrics.jsonl twice."""
    small_run.state.step = 2
    small_run.save_checkpoint()
    metrics = small_run.folder / "metrics.jsonl"
    lines = '{"step": 1, "reward": 0.5}\n{"step": 2, "reward": 0.5}\n'
    metrics.write_text(lines + '{"step": 3, "reward": 1.0}\n{"step": 4, "rew')
    resumed_run({"out": str(small_run.folder)})
    assert metrics.read_text() == lines


def interrupt_after(run, steps):
    """Asks the run to stop once it has done `steps` steps, as Ctrl-C does."""
    asked = {"asked_to_stop": property(lambda self: self.state.step >= steps)}
    run.__class__ = type("Interrupted", (type(run),), asked)


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(quick_model, tmp_path):
    """The one test of it in a process of its own, as a user has it."""
    options = QUICK_RUN | quick_model | {"steps": 1000, "out": tmp_path / "run"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "tfpi.py", *command_line(options)]
    process = subprocess.Popen(command, cwd=ROOT, **streams)
    for line in process.stderr:
        if "a sample" in line:  # the first step is done
            process.send_signal(signal.SIGINT)
            break
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0 and "--resume --out" in errors and "Traceback" not in errors
    assert resumed_run({"out": str(tmp_path / "run")}).state.step >= 1


def test_a_saved_stage_is_an_ordinary_hugging_face_folder(trained_run):
    """Plain transformers loads it, its chat template included, and generates with it."""
    model = AutoModelForCausalLM.from_pretrained(trained_run.folder / "stage2")
    tokenizer = AutoTokenizer.from_pretrained(trained_run.folder / "stage2")
    question = [{"role": "user", "content": "Compute 20 + 30."}]
    options = {"add_generation_prompt": True, "tokenize": False, "enable_thinking": False}
    ids = tokenizer(tokenizer.apply_chat_template(question, **options), return_tensors="pt")
    output = model.generate(**ids, max_new_tokens=60, do_sample=False)
    assert "\\boxed{50}" in tokenizer.decode(output[0])
