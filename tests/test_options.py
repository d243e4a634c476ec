"""What each option of the command lines changes: presets, folders, resuming, and eval.py.

The sampler is canned (shared.py): it notes what it is asked for.
"""

import json
from dataclasses import asdict, fields

import pytest
import torch
from shared import first_questions, flat_weights, load_first, new_run, resumed_run
from transformers.utils import logging

import eval as eval_module
import tfpi
from support.cli import flag
from support.config import MODES, PRESETS, Config, find_settings, parse_arguments

# --------------------------------------------------------------------------------------------------
# Options and presets


def test_zero_and_nothing_can_be_given():
    """`--steps 0` takes a fixed number back, `--instruction=` a preset's sentence."""
    given, todo = parse_arguments(["--seed", "0", "--steps", "0", "--instruction="])
    assert given == {"seed": 0, "steps": 0, "instruction": ""} and not todo.resume
    given, todo = parse_arguments(["--resume", "--memory", "24"])
    assert given == {} and todo.resume and not todo.plan and todo.memory == 24


def test_every_option_is_a_field_of_its_name_and_kind():
    """1 is given for each number, and what is chosen or written otherwise."""
    values = {f.name: type(f.default)(1) for f in fields(Config)}
    assert parse_arguments([f"{flag(n)}={value}" for n, value in values.items()])[0] == values


def test_help_tells_the_defaults_of_both(capsys):
    """The small preset replaces some of the paper's values, and --help says both."""
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for default in (
        "learning rate, constant, no warm-up; paper: 1e-6 (default: 1e-06; small: 0.0001)",
        "rollouts a prompt; paper: 8 (default: 8)",
        "prompts a step; paper: 256 (default: 256; small: 64)",
    ):
        assert default in said


def test_the_defaults_are_the_papers():
    """Section 4, and DAPO where it says nothing; one optimizer step a batch, avg@k by hand."""
    paper = {"full_budget": 32768, "steps": 0, "stage_steps": 200, "draws": 3, "minibatches": 1}
    paper |= {"normalizer": "dapo", "recipe": "tfpi", "validation_problems": 500, "seed": 0}
    instruction = "Please reason step by step, and put your final answer within \\boxed{}."
    assert asdict(Config()).items() >= (paper | {"instruction": instruction}).items()


def test_the_small_preset_is_what_the_readme_says():
    small = {"lr": 1e-4, "prompts": 64, "minibatches": 4, "budgets": "80,112,160", "draws": 1}
    small |= {"instruction": "", "stage_steps": 90, "validate_every": 4, "eval_problems": 250}
    small |= {"full_budget": 640, "validation_problems": 250, "group": 8, "eps_high": 0.28}
    assert asdict(Config(**find_settings("small"))).items() >= small.items()


def test_presets_name_the_papers_models():
    models = {name: settings["model"] for name, settings in PRESETS.items()}
    papers = {
        "ds-1.5b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
        "ds-7b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
        "qwen3-4b": "Qwen/Qwen3-4B",
        "qwen3-4b-2507": "Qwen/Qwen3-4B-Thinking-2507",
    }
    assert models.items() >= papers.items()
    assert find_settings("some/other") == {"model": "some/other"}


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "small"])
def test_evaluations_of_large_models_are_small(name):
    """Those of a run, four in two modes, ask for fewer responses than a single step."""
    config = Config(**find_settings(name))
    assert 4 * 2 * config.eval_problems * config.eval_samples < config.prompts * config.group


def test_the_folder_of_the_small_model_is_the_small_preset(monkeypatch):
    """However its path is written, and whoever gets the settings may change them."""
    monkeypatch.chdir(PRESETS["small"]["model"])
    find_settings("small").clear()
    assert find_settings("../small") == find_settings("small") == PRESETS["small"]


def test_what_the_user_gives_wins_over_the_preset(tiny_options, tmp_path):
    run = new_run(tiny_options | {"lr": 0.5, "minibatches": 3, "out": str(tmp_path / "run")})
    assert (run.config.lr, run.config.minibatches, run.config.prompts) == (0.5, 3, 4)
    assert run.optimizer.param_groups[0]["lr"] == 0.5
    assert json.loads((run.folder / "config.json").read_text()) == asdict(run.config)


def test_the_optimizer_is_adamw_as_pytorch_has_it(small_run):
    """But for the learning rate, and without weight decay."""
    plain = torch.optim.AdamW([torch.zeros(1)], lr=small_run.config.lr, weight_decay=0.0)
    assert small_run.optimizer.defaults == plain.defaults
    assert type(small_run.optimizer) is torch.optim.AdamW


# --------------------------------------------------------------------------------------------------
# Folders and resuming

OTHER = {"recipe": "direct", "budgets": "21,13", "full_budget": 34, "steps": 1, "group": 5}
OTHER |= {"temperature": 0.7, "instruction": "Take care.", "eval_problems": 6, "prompts": 3}


@pytest.fixture
def stage_of_another_run(tmp_path):
    """The folder of a stage, whose run had options of its own, and its weights."""
    run = new_run({"model": "small", "device": "cpu", "out": str(tmp_path / "run"), **OTHER})
    next(run.model.parameters()).data += 0.125
    run.save_model("stage1")
    return str(run.folder / "stage1"), flat_weights(run.model)


def test_a_run_from_a_stage_goes_on_with_its_settings(stage_of_another_run, tmp_path):
    """Its weights, budgets, instruction, group; but not what told that run where and how to go."""
    folder, weights = stage_of_another_run
    out = str(tmp_path / "next")
    run = new_run({"model": folder, "out": out, "prompts": 11})
    assert torch.equal(flat_weights(run.model).cpu(), weights)
    own = {"model": folder, "out": out, "recipe": "tfpi", "steps": 0, "device": "", "prompts": 11}
    own |= {"recompute": "no", "offload": "no"}  # as the plan of a CPU has it
    own |= {"ranks": 1, "threads": 1}
    small = PRESETS["small"]
    assert asdict(run.config) == asdict(Config(**(small | OTHER | own)))


def test_a_run_without_a_checkpoint_starts_from_its_own_model(stage_of_another_run, tmp_path):
    """Interrupted before its first measurement was done."""
    folder, weights = stage_of_another_run
    new_run({"model": folder, "out": str(tmp_path / "next")}).lock.release()
    resumed = resumed_run({"out": str(tmp_path / "next")})
    assert torch.equal(flat_weights(resumed.model).cpu(), weights)


def test_each_split_has_its_place_in_a_run(small_run):
    found = (small_run.train, small_run.validation, small_run.test)
    assert found == tuple(load_first(split) for split in ("train", "validation", "test"))


@pytest.fixture
def mine(tmp_path):
    """A file of one's own problems."""
    rows = [{"problem": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(30)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "mine.jsonl")


def test_ones_own_data_is_used(tiny_options, mine, tmp_path):
    run = new_run(tiny_options | {"data": mine, "out": str(tmp_path / "run")})
    found = [p.problem for part in (run.train, run.validation, run.test) for p in part]
    assert sorted(found) == sorted(f"What is {i} + 1?" for i in range(30))
    run.lock.release()
    assert resumed_run({"out": str(run.folder)}).train == run.train


def test_runs_without_a_folder_get_one_after_their_model(
    tiny_options, stage_of_another_run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folder, _ = stage_of_another_run
    runs = [new_run(tiny_options | {"model": model}) for model in ("small", "small", folder)]
    assert [str(run.folder) for run in runs] == ["runs/small", "runs/small-2", "runs/stage1"]
    assert [run.config.out for run in runs] == ["", "", ""]


def test_what_may_change_on_resume(small_run):
    """How fast, how long and how the update learns; not what the table of measurements rests on."""
    changes = dict(device="cpu", steps=5, stage_steps=6, prompts=7, group=2, draws=2, lr=0.5)
    changes |= dict(eps_low=0.1, eps_high=0.3, normalizer="grpo", minibatches=3, slots=9)
    changes |= dict(micro_tokens=99, recompute="yes", offload="yes", dtype="bf16")
    changes |= dict(save_every=8, snapshot_every=4)
    machine = ("ranks", "threads")  # of what begins a run without others: always alone
    small_run.lock.release()
    run = resumed_run({"out": str(small_run.folder), **changes})
    assert {name: getattr(run.config, name) for name in changes} == changes
    run.lock.release()
    rest = {f.name: f.default for f in fields(Config) if f.name not in (*changes, *machine, "out")}
    for name, default in rest.items():
        other = {"recipe": "direct"}.get(name, type(default)(77))
        with pytest.raises(ValueError, match=f"{flag(name)} .*cannot change"):
            resumed_run({"out": str(small_run.folder), name: other})


def test_the_device_is_the_options(tiny_options, tmp_path, monkeypatch):
    """The best there is where none is given."""
    monkeypatch.setattr("support.run.default_device", lambda: "meta")
    seen = []
    monkeypatch.setattr(
        "support.run.load_model", lambda source, device, offload: seen.append(device) or 1 / 0
    )
    for device in ("cpu", ""):
        with pytest.raises(ZeroDivisionError):
            new_run(tiny_options | {"device": device, "out": str(tmp_path / "run")})
    assert seen == ["cpu", "meta"]


LONG = "What is 1" + " + 1" * 500 + "?"


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_problem_too_long_for_the_context_is_found_in_any_split(split, small_run):
    """It is left out, and all others stay in their order."""
    small_run.train = small_run.train[:5]
    problems = getattr(small_run, split)[:5]
    long = type(problems[0])(LONG, "501")
    setattr(small_run, split, [*problems[:3], long, *problems[3:]])
    tfpi.check_run(small_run)
    assert getattr(small_run, split) == problems


@pytest.mark.parametrize("name, value", [("budgets", "1020,16"), ("instruction", "Go. " * 500)])
def test_the_largest_budget_and_the_whole_prompt_are_checked(name, value, small_run):
    small_run.train = small_run.train[:5]
    setattr(small_run.config, name, value)
    with pytest.raises(ValueError, match="exceed the model's context"):
        tfpi.check_run(small_run)


# --------------------------------------------------------------------------------------------------
# eval.py


@pytest.fixture
def evaluated(canned, capsys):
    """Runs eval.py on the CPU: what it asked for, and what it printed."""

    def call(*argv):
        eval_module.main(["--device", "cpu", *map(str, argv)])
        return canned.requests, capsys.readouterr().out

    return call


def test_eval_without_options_measures_as_its_help_says(evaluated):
    """The small model, both modes, avg@8 of the first 250 test problems, at its own budget."""
    requests, _ = evaluated()
    expected = {"samples": 8, "max_new_tokens": 640, "temperature": 1.0, "seed": 0, "slots": 256}
    expected |= {"top_k": 0, "top_p": 1.0}
    for request in requests:
        assert {name: request[name] for name in expected} == expected
        assert request["questions"] == first_questions("test", 250)
    assert [request["thinking"] for request in requests] == [True, False]


@pytest.mark.parametrize(
    "option, value, name",
    [
        ("-k", 3, "samples"),
        ("--budget", 55, "max_new_tokens"),
        ("--temperature", 0.5, "temperature"),
        ("--temperature", 0, "temperature"),
        ("--top-k", 20, "top_k"),
        ("--top-p", 0.95, "top_p"),
        ("--seed", 7, "seed"),
        ("--slots", 9, "slots"),
    ],
)
def test_each_option_of_eval_changes_what_it_is_for(option, value, name, evaluated):
    requests, _ = evaluated("--problems", 2, option, value)
    assert [request[name] for request in requests] == [value, value]


@pytest.mark.parametrize("mode", ["thinking", "thinking-free"])
def test_eval_measures_the_mode_that_is_asked_for(mode, evaluated):
    [request], printed = evaluated("--problems", 2, "--mode", mode)
    assert request["thinking"] == (mode == "thinking")
    assert printed.splitlines()[-2].split()[0] == mode


def test_eval_takes_the_first_problems_of_ones_own_data(evaluated, mine):
    requests, _ = evaluated("--data", mine, "--problems", 3)
    expected = ["What is 0 + 1?", "What is 1 + 1?", "What is 2 + 1?"]
    assert [request["questions"] for request in requests] == [expected] * 2


def test_eval_measures_a_stage_with_the_settings_of_its_run(stage_of_another_run, evaluated):
    """The full budget, the temperature and the instruction; the weights are the stage's."""
    folder, weights = stage_of_another_run
    requests, _ = evaluated("--model", folder, "--problems", 2)
    for request in requests:
        assert (request["max_new_tokens"], request["temperature"]) == (34, 0.7)
        assert all("\nTake care.<|im_end|>" in text for text in request["prompts"])
        assert torch.equal(flat_weights(request["model"]), weights)


def test_eval_stops_at_every_stop_id_of_the_model_on_the_device_given(
    evaluated, monkeypatch, small
):
    seen = []
    model, tokenizer, _ = small
    monkeypatch.setattr(
        "eval.load_model", lambda *args: seen.append(args) or (model, tokenizer, {1, 2})
    )
    monkeypatch.setattr("support.config.default_device", lambda: "meta")
    requests, _ = evaluated("--problems", 2)
    assert seen == [(PRESETS["small"]["model"], "cpu")]
    assert [request["stop_ids"] for request in requests] == [{1, 2}] * 2


def test_eval_shows_the_first_responses_and_their_own_problems(evaluated):
    """--show 2: of two problems the right answer and, of each mode, the first response."""
    requests, printed = evaluated("--problems", 4, "-k", 2, "--show", 2)
    tokens = [len(request["rollouts"][2].response_ids) for request in requests]
    first, second = printed.split("\n--- ")[1:]
    p = load_first("test")[1]
    assert second.splitlines() == [
        f"{p.problem} (the answer is {p.answer})",
        "",
        f"thinking: right, answer {p.answer}, {tokens[0]} tokens",
        f"\\boxed{{{p.answer}}}",
        "",
        f"thinking-free: right, answer {p.answer}, {tokens[1]} tokens",
        f"\\boxed{{{p.answer}}}",
    ]
    assert first.startswith(load_first("test")[0].problem)


def test_eval_prints_avg_and_pass_at_k(evaluated):
    """Three of five responses are right: by hand, two miss all of them once in ten pairs."""
    _, printed = evaluated("--problems", 4, "-k", 5)
    rows = printed.splitlines()[2:]  # behind how x and x' end
    assert all(" 60.0 ± 0.0 %" in row for row in rows[::2])
    rates = "pass@1 60.0 %, pass@2 90.0 %, pass@4 100.0 %, pass@5 100.0 %"
    assert [row.strip() for row in rows[1::2]] == [f"avg@5 of 4, {rates}"] * 2


def test_eval_writes_all_that_it_measured(evaluated, tmp_path):
    """Both modes, as the table has them, and all options as they were in the end."""
    file = tmp_path / "new" / "found.json"
    evaluated("--problems", 4, "-k", 2, "--top-k", 7, "--json", file)
    found = json.loads(file.read_text())
    options = {"model": "small", "data": None, "k": 2, "problems": 4, "budget": 640, "top_k": 7}
    options |= {"temperature": 1.0, "instruction": ""}
    assert found["options"].items() >= options.items()
    for mode in MODES:
        measured = {"accuracy": 0.5, "pass_at_k": 1.0, "k": 2, "problems": 4}
        assert found[mode].items() >= measured.items()
        assert found[mode]["pass_at"] == {"1": 0.5, "2": 1.0}
    assert list(file.parent.iterdir()) == [file]


def test_eval_that_is_stopped_writes_nothing(canned, refuse, monkeypatch):
    """In the second mode: half of the results would look like all of them."""

    def stop(mode, result):
        if mode == "thinking_free":
            raise KeyboardInterrupt

    monkeypatch.setattr(eval_module, "print_mode", stop)
    said = refuse(eval_module.main, "--problems", 2, "--device", "cpu", "--json", "new/found.json")
    assert said == "eval: stopped."


def test_eval_shows_no_bars_of_transformers(evaluated):
    logging.enable_progress_bar()
    evaluated("--problems", 2)
    assert not logging.is_progress_bar_enabled()
