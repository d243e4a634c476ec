"""What is printed and drawn of a run: each number in its place, each sample with its problem."""

import json

import pytest
from shared import SHOWN

from rollout import Rollout
from support.report import (
    describe,
    find_delay,
    find_trouble,
    format_row,
    format_sample,
    report,
    step_line,
)
from tfpi import Stage, stages, train_stage

FREE = Stage("stage", False, 21)

# --------------------------------------------------------------------------------------------------
# What is printed


RESULT = {"accuracy": 0.125, "error": 0.031, "tokens": 45.6, "truncated": 0.078}
RESULT |= {"verification": 0.09, "thought": 0.011, "empty": 0.022, "pass_at_k": 0.4, "k": 4}
RESULT |= {"problems": 250, "answer_tokens": 33.3}


def test_a_step_that_takes_five_times_the_usual_is_told():
    """With the remedy; not while too few steps say what is usual."""
    usual = [1.0, 1.1, 0.9, 1.0, 30.0]
    said = find_delay(5.1, usual)
    assert "took 5.1 s, where 1.0 are usual" in said and "--ranks" in said
    assert find_delay(4.9, usual) == "" == find_delay(50.0, usual[:4])


def words(text):
    """Text with single spaces."""
    return " ".join(text.split())


def test_a_row_of_the_table_has_each_figure_in_its_place():
    assert words(format_row("stage1", "thinking_free", RESULT)) == (
        "stage1 thinking-free 12.5 ± 3.1 % 45.6 tokens 7.8 % truncated 9.0 % verification "
        "1.1 % think, 2.2 % empty blocks"
    )


def test_the_line_of_a_step():
    expected = "reward 0.25, tokens 70, truncated 11%, flat 52%, grad 1.50, 2.5 s"
    assert step_line(SHOWN) == expected


@pytest.mark.parametrize(
    "updates, skipped, said",
    [
        (2, 0, ""),
        (0, 0, "no update, since every group was flat"),
        (3, 1, "1 of 4 updates left out, since loss or gradient was not finite"),
        (0, 2, "2 of 2 updates left out"),
    ],
)
def test_trouble_of_a_step(updates, skipped, said):
    trouble = find_trouble(SHOWN | {"updates": updates, "skipped": skipped})
    assert trouble.startswith(said) and bool(trouble) == bool(said)
    assert not said or trouble.endswith("; 11% of the responses were truncated.")


def test_a_sample_stands_behind_its_prompt(small):
    """With its reward and the right answer; a long one is cut at its end."""
    tokenizer = small[1]
    prompt = tokenizer("user\nWhat?")["input_ids"]
    rollout = Rollout(prompt, [5], [-1.0], True, text="x" * 1000, gold="17", reward=1.0)
    expected = "(reward 1, answer 17):\nuser\nWhat?" + "x" * 790
    assert format_sample(tokenizer, rollout) == expected


def test_the_sample_shown_is_the_first_of_a_step(small_run, monkeypatch, capsys):
    """In steps 1, 26, 51 of a stage: the first group's first response."""
    groups = [[Rollout([5], [6], [-1.0], True, text=f"text {g}{i}") for i in "ab"] for g in "xy"]

    def step(run, stage):
        run.state.step += 1
        run.state.stage_step += 1
        run.say(f"step {run.state.stage_step}:")
        return groups, SHOWN | {"update_seconds": 1.0}

    monkeypatch.setattr("tfpi.train_step", step)
    small_run.state.step = 100
    small_run.config.steps = 52
    small_run.config.validate_every = small_run.config.save_every = 1000
    train_stage(small_run, FREE)
    said = capsys.readouterr().err.split("step ")
    samples = [i for i, text in enumerate(said) if "a sample" in text]
    assert "".join(said).count("text ") == "".join(said).count("text xa") == len(samples) == 3
    assert [said[i - 1].split(":")[0] for i in samples] == ["1", "26", "51"]
    assert [said[i].split(",")[0] for i in samples] == ["101", "126", "151"]  # of the run


def test_the_plan_names_every_stage(small_run, capsys):
    small_run.config.recipe = "tfpi+rl"
    small_run.config.prompts = 6
    describe(small_run, stages(small_run.config), ["x ends"])
    printed = capsys.readouterr().out
    work = "6 prompts x 4 rollouts a step, 2 steps\n"
    assert "model small (0.65M parameters) on cpu; recipe tfpi+rl; 500 training" in printed
    assert "  x ends\n" in printed
    assert f"stage1: thinking-free prompts, budget 16 tokens, {work}" in printed
    assert f"stage2: thinking-free prompts, budget 24 tokens, {work}" in printed
    assert f"rl: thinking prompts, budget 32 tokens, {work}" in printed


def test_the_plan_says_how_long_a_stage_may_take(small_run, capsys):
    """Where its steps are not fixed."""
    small_run.config.steps = 0
    small_run.config.model = "runs/small/stage3"
    describe(small_run, stages(small_run.config)[:1], [])
    printed = capsys.readouterr().out
    assert printed.count("stage") == 2 and "until it levels off, at most 90 steps" in printed
    assert "minutes" not in printed


def test_the_report_of_a_run(small_run, capsys, monkeypatch):
    """A row for each measurement and mode; the same figures in summary.json."""
    monkeypatch.setattr("support.plot.draw_run", lambda folder: "drawn")
    numbers = iter(range(100))

    def result():
        return RESULT | {"accuracy": next(numbers) / 100}

    names = ("before", "stage1", "stage2")
    table = [{"name": n, "thinking": result(), "thinking_free": result()} for n in names]
    small_run.state.evaluations = table
    small_run.state.step, small_run.state.generated_tokens, small_run.state.flops = 7, 2500000, 77
    small_run.seconds = lambda: 90.0
    report(small_run)
    printed = capsys.readouterr().out
    assert "avg@4 of 250 problems (between stages avg@1), budget 32:" in printed
    rows = [line.split()[:3] for line in printed.splitlines() if "±" in line]
    assert rows == [
        ["before", "thinking", "0.0"],
        ["before", "thinking-free", "1.0"],
        ["stage1", "thinking", "2.0"],
        ["stage1", "thinking-free", "3.0"],
        ["stage2", "thinking", "4.0"],
        ["stage2", "thinking-free", "5.0"],
    ]
    assert "7 steps, 2.50M tokens generated for training, 1.5 minutes." in printed
    before, last = (
        {mode: row[mode] for mode in ("thinking", "thinking_free")} for row in table[::2]
    )
    assert json.loads((small_run.folder / "summary.json").read_text()) == {
        "before": before,
        "after": last,
        "stages": table[1:],
        "generated_tokens": 2500000,
        "flops": 77,
        "seconds": 90.0,
    }


# --------------------------------------------------------------------------------------------------
# What is drawn


@pytest.fixture
def axes():
    plot = pytest.importorskip("support.plot", exc_type=SystemExit)  # matplotlib is optional
    plt = plot.load_pyplot()
    figure, axes = plt.subplots(1, 2)
    yield plot, axes
    plt.close(figure)


def drawn(axis):
    """{label: heights} of the lines that have a label."""
    handles, labels = axis.get_legend_handles_labels()
    lines = [handle[0] if isinstance(handle, tuple) else handle for handle in handles]
    return {label: list(line.get_ydata()) for label, line in zip(labels, lines)}


def test_the_figure_of_the_stages_shows_the_table(axes):
    """Accuracy in per cent with its error, and tokens, of each mode before and after."""
    plot, (accuracy, length) = axes

    def both(first, second):
        numbers = {"thinking": first, "thinking_free": second}
        return {
            m: {"accuracy": n / 100, "error": 0.03, "tokens": 2 * n} for m, n in numbers.items()
        }

    entries = [{"name": "before", **both(10, 20)}, {"name": "stage1", **both(30, 40)}]
    plot.draw_stages((accuracy, length), entries)
    assert drawn(accuracy) == {"thinking": [10, 30], "thinking-free": [20, 40]}
    assert drawn(length) == {"thinking": [20, 60], "thinking-free": [40, 80]}
    bars = [bar.tolist() for bars in accuracy.collections for bar in bars.get_segments()]
    assert bars[0] == [[0, 7], [0, 13]]


def test_the_figure_of_the_steps_shows_the_metrics(axes):
    """Each in a line of its own, and a mark where a stage begins."""
    plot, (reward, shares) = axes
    keys = ("reward", "validation", "truncated", "flat_groups", "verification")
    lines = [{key: i / 10 + n for n, key in enumerate(keys)} for i in range(3)]
    for i, line in enumerate(lines):
        line |= {"step": 10 + i, "stage_step": (1, 2, 1)[i], "budget": (16, 16, 24)[i]}
    plot.draw_steps((reward, shares), lines)
    heights = {key: [line[key] for line in lines] for key in keys}
    assert drawn(reward) == {
        "rollout reward": heights["reward"],
        "validation accuracy": heights["validation"],
    }
    assert drawn(shares) == {
        "truncated": heights["truncated"],
        "flat groups": heights["flat_groups"],
        "verifying lines": heights["verification"],
    }
    marks = [(text.get_position()[0], text.get_text()) for text in shares.texts]
    assert marks == [(10, " 16 tokens"), (12, " 24 tokens")]
