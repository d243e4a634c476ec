"""A run as its user sees it: files, resume, Ctrl-C, and mistakes answered with one sentence."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from quick_runs import QUICK_RUN, command_line
from shared import new_run, resumed_run
from transformers import AutoModelForCausalLM, AutoTokenizer

from tfpi import main, train

ROOT = Path(__file__).parent.parent


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_the_whole_run_leaves_what_it_promises(quick_options, tmp_path):
    """Options, metrics, a model a stage, samples, a summary, a figure and a page.

    They are config.json, metrics.jsonl, a Hugging Face folder a stage, samples-*.json,
    summary.json with both modes before and after, figure.png, report.html.
    """
    main(command_line(quick_options | {"steps": 1, "eval_problems": 4}))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    for when in ("before", "after"):
        for mode in ("thinking", "thinking_free"):
            assert {"accuracy", "error", "tokens", "truncated", "empty"} <= set(summary[when][mode])
    assert [entry["name"] for entry in summary["stages"]] == ["stage1", "stage2"]
    assert summary["generated_tokens"] > 0 and summary["seconds"] > 0
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "run" / "config.json").exists() and (
        tmp_path / "run" / "figure.png"
    ).exists()
    assert len(weights(tmp_path / "run" / "stage2")) > 0
    page = (tmp_path / "run" / "report.html").read_text()
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
    """Nobody solves these problems, so every reward is 0.

    The run goes on, says so, and leaves the weights alone.
    """
    data = tmp_path / "hopeless.jsonl"
    data.write_text(
        "".join(
            json.dumps({"problem": f"What is {i} + 1?", "answer": "a lighthouse"}) + "\n"
            for i in range(40)
        )
    )
    options = QUICK_RUN | quick_model | {"data": str(data), "out": str(tmp_path / "run")}
    run = new_run(options)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    assert train(run) is True
    assert "every group was flat" in capsys.readouterr().err
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())


def test_two_and_two_steps_equal_four(quick_options, tmp_path):
    """Resume is exact.

    Weights, optimizer, data cursor and stage of an interrupted run are those of an uninterrupted
    one, bit for bit.
    """
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
    seconds = ("seconds", "rollout_seconds", "step_seconds")
    lines = [
        [
            {k: v for k, v in json.loads(line).items() if k not in seconds}
            for line in (folder / "metrics.jsonl").read_text().splitlines()
        ]
        for folder in (whole.folder, tmp_path / "broken")
    ]
    assert lines[0] == lines[1]


def test_resume_drops_the_lines_of_steps_it_will_do_again(small_run):
    """Lines after the checkpoint, and one that a crash tore, are dropped.

    They would otherwise stand in metrics.jsonl twice.
    """
    small_run.state.step = 2
    small_run.save_checkpoint()
    metrics, lines = (
        small_run.folder / "metrics.jsonl",
        '{"step": 1, "reward": 0.5}\n{"step": 2, "reward": 0.5}\n',
    )
    metrics.write_text(lines + '{"step": 3, "reward": 1.0}\n{"step": 4, "rew')
    resumed_run({"out": str(small_run.folder)})
    assert metrics.read_text() == lines


def interrupt_after(run, steps):
    """Asks the run to stop once it has done `steps` steps, as Ctrl-C does."""
    run.__class__ = type(
        "Interrupted",
        (type(run),),
        {"asked_to_stop": property(lambda self: self.state.step >= steps)},
    )


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(quick_model, tmp_path):
    """The one test of it in a process of its own, as a user has it."""
    options = QUICK_RUN | quick_model | {"steps": 1000, "out": tmp_path / "run"}
    process = subprocess.Popen(
        [sys.executable, "tfpi.py", *command_line(options)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "a sample" in line:  # the first step is done
            process.send_signal(signal.SIGINT)
            break
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0 and "--resume --out" in errors and "Traceback" not in errors
    assert resumed_run({"out": str(tmp_path / "run")}).state.step >= 1


def test_a_saved_stage_is_an_ordinary_hugging_face_folder(trained_run):
    """Plain AutoModelForCausalLM and AutoTokenizer load it and generate with it.

    The chat template is included.
    """
    model, tokenizer = (
        auto.from_pretrained(trained_run.folder / "stage2")
        for auto in (AutoModelForCausalLM, AutoTokenizer)
    )
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Compute 20 + 30."}],
        add_generation_prompt=True,
        tokenize=False,
        enable_thinking=False,
    )
    output = model.generate(
        **tokenizer(prompt, return_tensors="pt"), max_new_tokens=60, do_sample=False
    )
    assert "\\boxed{50}" in tokenizer.decode(output[0])


def refuse(*arguments):
    """Runs the command line in this process and returns the sentence it exits with."""
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    assert isinstance(stopped.value.code, str)  # printed to stderr, with exit code 1
    return stopped.value.code


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--recipe", "grpo"], "recipe"),
        (["--budgets", "64,-1"], "budgets"),
        (["--budgets", "many"], "budgets"),
        (["--group", "1"], "group"),
        (["--prompts", "0"], "prompts"),
        (["--normalizer", "mean"], "normalizer"),
        (["--data", "missing.jsonl"], "missing.jsonl"),
        (["--model", "./no/such/folder"], "no/such/folder"),
        (["--full-budget", "5000"], "context"),
        (["--resume", "--out", "no/such/run"], "no/such/run"),
    ],
)
def test_a_users_mistake_gets_one_sentence(arguments, said, tmp_path):
    assert said in refuse(
        *arguments, *([] if "--out" in arguments else ["--out", tmp_path / "run"])
    )


def test_a_bad_line_of_data_is_named(tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text('{"problem": "What is 1 + 1?", "answer": "2"}\n{"problem": "What is 1\n')
    assert f"{data}, line 2" in refuse("--data", data, "--out", tmp_path / "run")


def test_an_existing_folder_is_never_overwritten(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("work")
    assert "exists" in refuse("--out", tmp_path / "run")
    assert (tmp_path / "run" / "precious").read_text() == "work"
