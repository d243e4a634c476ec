"""What is passed on: from a run to the sampler, the update and the disk, and when.

The sampler is canned (shared.py): it notes what it is asked for.
"""

import json
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from quick_runs import command_line
from shared import SHOWN, CannedSampler, first_questions, load_first, new_run

import tfpi
from eval import evaluate
from rollout import Rollout
from support.model import autocast
from tfpi import Stage, sample_groups, train, train_stage, train_step

FREE = Stage("stage", False, 21)
# No two numbers are alike, and no later budget is the larger one.
DISTINCT = {
    "recipe": "tfpi+rl",
    "budgets": "21,13",
    "full_budget": 34,
    "steps": 1,
    "prompts": 3,
    "group": 5,
    "temperature": 0.7,
    "slots": 9,
    "validate_every": 1,
    "validation_problems": 7,
    "eval_problems": 6,
    "eval_samples": 2,
    "instruction": "Take care.",
}


# --------------------------------------------------------------------------------------------------
# What a run asks the sampler for


@pytest.fixture(scope="module")
def requests(small, tmp_path_factory):
    """All that a run of DISTINCT asks for: two stages and RL, of one step each."""
    sampler = CannedSampler(small[1])
    folder = tmp_path_factory.mktemp("wiring") / "run"
    run = new_run({"model": "small", "device": "cpu", "out": str(folder), **DISTINCT})
    run.stop_ids = {1, 2}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("eval.generate", sampler)
        assert train(run) is True
    return sampler.requests


TEST = [(6, 2, True, 34), (6, 2, False, 34)]
BETWEEN = [(6, 1, True, 34), (6, 1, False, 34)]  # stages
STAGES = [
    [(3, 5, thinking, budget), (7, 1, thinking, 34)]
    for thinking, budget in ((False, 21), (False, 13), (True, 34))
]


def test_each_request_has_the_numbers_that_are_meant_for_it(requests):
    """(problems, samples, thinking, budget): the table before, then of each stage its step, its
    validation, and the table again.
    """
    first, second, third = STAGES
    expected = [*TEST, *first, *BETWEEN, *second, *BETWEEN, *third, *TEST]
    found = [
        (len(r["prompts"]), r["samples"], r["thinking"], r["max_new_tokens"]) for r in requests
    ]
    assert found == expected


def test_each_request_has_problems_of_its_own_split(requests):
    """The first ones of test and validation, in their order; steps train on neither."""
    train_questions = {p.problem for p in load_first("train")}
    for request in requests:
        asked = request["questions"]
        if len(asked) == 6:
            assert asked == first_questions("test", 6)
        elif len(asked) == 7:
            assert asked == first_questions("validation", 7)
        else:
            assert train_questions.issuperset(asked)


def test_every_request_has_the_runs_temperature_slots_and_stop_ids(requests):
    for request in requests:
        assert (request["temperature"], request["slots"]) == (0.7, 9)
        assert request["stop_ids"] == {1, 2}


def test_every_prompt_carries_the_instruction(requests):
    texts = [text for request in requests for text in request["prompts"]]
    assert all("\nTake care.<|im_end|>" in text for text in texts)


def test_the_seed_decides_problems_and_streams(canned, small_run):
    """Of a step the problems and the random stream, of a measurement the stream."""
    for seed in (0, 1):
        small_run.config.seed = seed
        small_run.state.cursor = 0
        sample_groups(small_run, FREE, draw=0)
        evaluate(small_run, small_run.test[:2], False, 1, "test")
    first_step, first_test, step, test = canned.requests
    assert first_step["questions"] != step["questions"]
    assert first_step["seed"] != step["seed"] and first_test["seed"] != test["seed"]


def test_steps_go_through_the_problems_one_by_one(canned, small_run):
    """Nothing is left out and nothing comes twice until all have been seen."""
    small_run.train = small_run.train[:8]  # two steps of four
    for _ in range(2):
        sample_groups(small_run, FREE, draw=0)
    asked = [question for request in canned.requests for question in request["questions"]]
    assert sorted(asked) == sorted(p.problem for p in small_run.train)


@pytest.mark.parametrize("draws", [1, 3])
def test_prompts_are_drawn_at_most_draws_times(draws, canned, small_run):
    """All responses are wrong, so every draw is in vain; each has its own problems and stream."""
    canned.write = lambda question, sample: ("no box", True)
    small_run.config.draws = draws
    train_step(small_run, FREE)
    assert len({request["seed"] for request in canned.requests}) == len(canned.requests) == draws
    assert len({q for request in canned.requests for q in request["questions"]}) == 4 * draws
    assert small_run.state.cursor == 4 * draws


def test_a_batch_is_full_when_it_has_as_many_groups_as_prompts(canned, small_run, monkeypatch):
    """Half of the groups are flat: two draws of four fill a batch, and only what is kept is learnt.

    The other four groups are counted in the metrics.
    """
    write = canned.write
    drawn = []

    def every_second_is_flat(question, sample):
        drawn.append(question)
        flat = len(drawn) % 8 < 4  # four responses a group
        return ("\\boxed{none}", True) if flat else write(question, sample)

    learnt = []
    monkeypatch.setattr(canned, "write", every_second_is_flat)
    monkeypatch.setattr(
        tfpi, "update", lambda model, optimizer, kept, *_: learnt.extend(kept) or {}
    )
    small_run.config.draws = 5
    groups, metrics = train_step(small_run, FREE)
    assert (len(canned.requests), len(groups), len(learnt)) == (2, 8, 16)
    assert metrics["rollouts"] == 32 and metrics["flat_groups"] == 0.5
    assert [rollout.advantage for rollout in learnt] == pytest.approx([0.866, -0.866] * 8, abs=1e-3)


def test_sampling_and_update_have_the_same_precision(canned, small_run, monkeypatch):
    """Where autocast is on, it is on in both, or the ratio would not be 1 before the first step."""
    seen = {"sampling": [], "update": []}
    sample = canned.write

    def note(where):
        seen[where].append(torch.is_autocast_enabled("cpu"))

    @contextmanager
    def bf16(device):
        with torch.autocast("cpu", torch.bfloat16):
            yield

    monkeypatch.setattr("eval.autocast", bf16)
    monkeypatch.setattr("grpo.autocast", bf16)
    monkeypatch.setattr(canned, "write", lambda *args: note("sampling") or sample(*args))
    small_run.model.base_model.register_forward_pre_hook(lambda *_: note("update"))
    train_step(small_run, FREE)
    assert set(seen["sampling"]) == set(seen["update"]) == {True}


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_a_gpu_computes_in_bf16_and_a_cpu_in_fp32():
    """Not fp16, which would need a loss scale."""
    on_gpu = SimpleNamespace(device=torch.device("cuda", 1), dtype=torch.float32)
    assert autocast(on_gpu).fast_dtype == torch.bfloat16
    with autocast(SimpleNamespace(device=torch.device("cpu"), dtype=torch.float32)):
        assert not torch.is_autocast_enabled("cpu")


def test_weights_that_are_bf16_themselves_need_no_autocast():
    """Those of a working copy (support/offload.py), in sampling as in training."""
    on_gpu = SimpleNamespace(device=torch.device("cuda", 1), dtype=torch.bfloat16)
    assert isinstance(autocast(on_gpu), nullcontext)


# --------------------------------------------------------------------------------------------------
# When something is written or measured


@pytest.fixture
def idle_run(tiny_options, tmp_path, monkeypatch):
    """Two stages of three steps that do nothing; what is due every second step is.

    The validations find accuracies of 0.01, 0.02, ..., the steps truncated shares of 0.1, 0.2, ...
    """
    accuracies = iter(range(1, 100))

    def step(run, stage):
        run.state.step += 1
        run.state.stage_step += 1
        metrics = dict.fromkeys(SHOWN, 0.0) | {"updates": 1, "truncated": run.state.step / 10}
        return [[Rollout([5], [6], [-1.0], True)]], metrics

    monkeypatch.setattr(tfpi, "train_step", step)
    monkeypatch.setattr(tfpi, "evaluate_both", lambda run, name, samples=None: None)
    monkeypatch.setattr(tfpi, "evaluate", lambda *_: {"accuracy": next(accuracies) / 100})
    every = {"steps": 3, "validate_every": 2, "save_every": 2, "snapshot_every": 2}
    return new_run(tiny_options | every | {"out": str(tmp_path / "run")})


def lines_of(run):
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def test_a_line_says_where_the_run_is(idle_run):
    """Step of the run, step of the stage, budget and mode."""
    idle_run.config.recipe = "tfpi+rl"
    train(idle_run)
    keys = ("step", "stage", "stage_step", "budget", "thinking")
    assert [tuple(line[key] for key in keys) for line in lines_of(idle_run)] == [
        (1, "stage1", 1, 16, False),
        (2, "stage1", 2, 16, False),
        (3, "stage1", 3, 16, False),
        (4, "stage2", 1, 24, False),
        (5, "stage2", 2, 24, False),
        (6, "stage2", 3, 24, False),
        (7, "rl", 1, 32, True),
        (8, "rl", 2, 32, True),
        (9, "rl", 3, 32, True),
    ]


def test_validations_go_by_the_step_of_the_stage(idle_run):
    """The second step of each stage, and the line has the accuracy that was found."""
    train(idle_run)
    found = {
        line["step"]: line["validation"] for line in lines_of(idle_run) if "validation" in line
    }
    assert found == {2: 0.01, 5: 0.02}


def test_a_stage_knows_its_own_steps_alone(idle_run):
    """The third step of the first stage, after its last validation, is not in the second's mean."""
    train_stage(idle_run, FREE)
    assert idle_run.state.truncated == pytest.approx([0.15])
    idle_run.state.next_stage()
    train_stage(idle_run, FREE)
    assert idle_run.state.truncated == pytest.approx([0.45])


def test_snapshots_go_by_the_step_of_the_run_and_checkpoints_by_that_of_the_stage(
    idle_run, monkeypatch
):
    """A stage's end saves both; so does the start, a checkpoint."""
    models = []
    checkpoints = []
    state = idle_run.state
    monkeypatch.setattr(idle_run, "save_model", lambda name: models.append((state.step, name)))
    monkeypatch.setattr(
        idle_run, "save_checkpoint", lambda: checkpoints.append((state.step, state.stage))
    )
    train(idle_run)
    assert models == [(2, "step2"), (3, "stage1"), (4, "step4"), (6, "step6"), (6, "stage2")]
    assert checkpoints == [(0, 0), (2, 0), (3, 1), (5, 1), (6, 2)]


@pytest.mark.parametrize("steps, total", [(3, 3), (0, 90)])
def test_the_bar_shows_how_much_of_the_stage_is_left(steps, total, small_run):
    """Out of --steps where it is given, else of the cap; a resumed stage starts where it was."""
    small_run.config.steps = steps
    small_run.state.stage_step = 2
    with small_run.progress(FREE) as bar:
        assert (bar.n, bar.total, bar.desc) == (2, total, "stage (budget 21)")


def test_every_measurement_has_the_name_of_its_stage(canned, small_run):
    train(small_run)
    assert [entry["name"] for entry in small_run.state.evaluations] == [
        "before",
        "stage1",
        "stage2",
    ]


def test_the_command_line_trains_resumes_and_reports(idle_run, tiny_options, monkeypatch, capsys):
    """A run that was stopped in a folder of the next free name says how to go on, and does.

    The plan is printed first of all, and the report last, once.
    """
    monkeypatch.chdir(idle_run.folder.parent)
    monkeypatch.setattr("support.start.report", lambda run: print("the report"))
    Path("runs/small").mkdir(parents=True)
    options = tiny_options | {"steps": 3}
    argv = command_line(options)
    step = tfpi.train_step

    def stop_in_the_fifth(run, stage):
        if run.state.step == 4:
            run.ask_to_stop()
        return step(run, stage)

    with monkeypatch.context() as stopping, pytest.raises(SystemExit, match="stopped") as stopped:
        stopping.setattr(tfpi, "train_step", stop_in_the_fifth)
        tfpi.main(argv)
    assert stopped.value.code.endswith("python tfpi.py --resume --out runs/small-2")
    assert "the report" not in capsys.readouterr().out
    metrics = Path("runs/small-2/metrics.jsonl")
    assert len(metrics.read_text().splitlines()) == 5
    tfpi.main(["--resume", "--out", "runs/small-2"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("model small") and printed[-1] == "the report"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    expected = [(1, "stage1"), (2, "stage1"), (3, "stage1"), (4, "stage2"), (5, "stage2")]
    assert [(line["step"], line["stage"]) for line in lines] == [*expected, (6, "stage2")]


def test_between_stages_one_sample_a_problem_is_measured(idle_run, monkeypatch):
    """Before training and at its end as many as the run says: pass@k is theirs."""
    asked = []
    monkeypatch.setattr(tfpi, "evaluate_both", lambda run, *asked_for: asked.append(asked_for))
    idle_run.config.eval_samples = 3
    train(idle_run)
    assert asked == [("before",), ("stage1", 1), ("stage2", 3)]
