"""bench/paper.py, its tables and its figures: what they make of runs whose numbers are known."""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("matplotlib")
import directions  # noqa: E402
import figures  # noqa: E402
import paper  # noqa: E402
import tables  # noqa: E402
from runs import kept_models, read_lines, read_runs, spread, tfpi_then_rl  # noqa: E402

from support import plot  # noqa: E402

MODES = ("thinking", "thinking_free")


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def evaluation(name, step, accuracy, mode="thinking", data="test", tokens=100.0):
    right = round(accuracy * 10)
    return {
        "name": name,
        "step": step,
        "data": data,
        "mode": mode,
        "accuracy": accuracy,
        "error": 0.01,
        "tokens": tokens,
        "k": 2,
        "thought": 1.0,
        "rewards": "1" * right + "0" * (10 - right),
    }


def evaluations(name, step, accuracy):
    """A model's, of both modes and sets of problems."""
    both = ("test", "hard")
    return [evaluation(name, step, accuracy, mode, data) for mode in MODES for data in both]


def metrics(step, stage, stage_step, flops):
    return {
        "step": step,
        "stage": stage,
        "stage_step": stage_step,
        "budget": 80,
        "truncated": 0.1,
        "tokens": 50.0,
        "verification": 0.2,
        "validation": 0.5,
        "generated_tokens": 100 * step,
        "flops": flops * step,
        "seconds": 1.0 * step,
    }


def write_run(folder, method, seed, stages, accuracies, flops=10):
    """A run whose stages are (name, steps), each step worth `flops`, each stage evaluated."""
    steps = []
    evaluated = []
    for (name, count), accuracy in zip(stages, accuracies):
        for i in range(1, count + 1):
            steps.append(metrics(len(steps) + 1, name, i, flops))
        evaluated += evaluations(name, len(steps), accuracy)
    run = folder / f"{method}-{seed}"
    write_lines(run / "metrics.jsonl", steps)
    write_lines(run / "evaluations.jsonl", evaluated)
    (run / "evaluated").touch()


def change_metrics(folder, change):
    """Applies change(line), in place, to every line of metrics of all runs in the folder."""
    for path in folder.glob("*/metrics.jsonl"):
        lines = read_lines(path)
        for line in lines:
            change(line)
        write_lines(path, lines)


@pytest.fixture
def runs(tmp_path):
    write_lines(tmp_path / "start.jsonl", evaluations("start", 0, 0.4))
    three = [("stage1", 2), ("stage2", 2), ("stage3", 2)]
    for seed in (0, 1):
        write_run(tmp_path, "tfpi", seed, three, (0.5, 0.6, 0.7 + 0.2 * seed))
        write_run(tmp_path, "multistage", seed, three, (0.4, 0.3, 0.2))
        write_run(tmp_path, "tfpi-rl", seed, [("rl", 2)], (0.9,), flops=100)
        write_run(tmp_path, "direct", seed, [("rl", 4)], (0.6,), flops=100)
        write_run(tmp_path, "auto", seed, three, (0.5, 0.6, 0.7))
    return tmp_path


@pytest.fixture
def runs_with_directions(runs):
    """What Figure 4 needs as well."""
    found = {
        "paths": {"direct": [[[0, 0], [1, 1]]], "tfpi": [[[0, 0], [0, 1]]]},
        "explained": [0.6, 0.3],
        "layers": ["embedding", "block 0"],
        "cosines": {"TFPI stage 1": [[0.1, 0.2]]},
    }
    (runs / "directions.json").write_text(json.dumps(found))
    return runs


# --------------------------------------------------------------------------------------------------
# What is read of runs


def test_rl_after_tfpi_carries_the_compute_of_tfpi(runs):
    x, y = tfpi_then_rl(runs)
    assert x.tolist() == [[0, 20, 40, 60, 260]] * 2
    assert np.allclose(y, [[0.4, 0.5, 0.6, 0.7, 0.9], [0.4, 0.5, 0.6, 0.9, 0.9]])


def test_a_curve_starts_before_training_and_ends_with_the_stage(runs):
    curve = read_runs(runs, "tfpi")[0].curve("accuracy", "stage2")
    assert curve == [(0, 0.4), (2, 0.5), (4, 0.6)]


def test_runs_that_are_not_evaluated_and_other_methods_are_not_read(runs):
    (runs / "tfpi-1" / "evaluated").unlink()
    assert [(run.folder.name, run.seed) for run in read_runs(runs, "tfpi")] == [("tfpi-0", 0)]


def test_spread_is_the_sample_deviation_over_seeds():
    assert np.allclose(spread(np.array([[1.0, 5.0], [3.0, 5.0]])), [2**0.5, 0.0])
    of_one_seed = spread(np.array([[1.0, 5.0]]))
    assert of_one_seed.tolist() == [0.0, 0.0]  # of one seed nothing is known


def test_a_stage_s_end_is_not_a_snapshot_as_well(tmp_path):
    write_run(tmp_path, "tfpi", 0, [("stage1", 2), ("stage2", 2)], (0.5, 0.6))
    run = tmp_path / "tfpi-0"
    for step in (1, 2, 3, 4):
        (run / f"step{step}").mkdir()
    kept = [(name, step) for name, _, step in kept_models(run)]
    assert kept == [("step1", 1), ("stage1", 2), ("step3", 3), ("stage2", 4)]


# --------------------------------------------------------------------------------------------------
# Tables


def test_crossing_is_between_the_points():
    x = np.array([0.0, 10.0, 20.0])
    y = np.array([0.2, 0.4, 0.8])
    assert tables.crossing(x, y, 0.5) == pytest.approx(12.5)
    assert tables.crossing(x, y, 0.1) == 0.0
    assert tables.crossing(x, y, 0.9) is None


def test_paired_difference_is_over_problems(runs):
    """Five problems, two samples each: TFPI + RL 9 of 10 right, direct RL 6 of 10."""
    a = np.array([1, 1, 1, 1, 0.5])
    b = np.array([1, 1, 1, 0, 0])
    error = 100 * (a - b).std(ddof=1) / 5**0.5
    rl = read_runs(runs, "tfpi-rl")
    direct = read_runs(runs, "direct")
    assert tables.paired(rl, direct, "rl", "rl") == f"+30.0 ± {error:.1f}"


def test_the_tables_show_the_known_numbers(runs, capsys, monkeypatch):
    monkeypatch.setattr(tables, "write_directions", lambda *_: {})
    monkeypatch.setattr(tables, "TEST", 5)
    tables.report(runs, None)
    text = capsys.readouterr().out
    assert "| TFPI stage3 | 80.0 ± 14.1 | 100.0 ± 0.0 |" in text
    assert "| multi-stage direct RL | 2 | 20.0 ± 0.0 |" in text
    # From 0.6 at 40 on in both seeds, of direct RL's 400.
    assert "final accuracy (60.0 %) at 10% of its compute; seed by seed: 10%, 10%" in text


# --------------------------------------------------------------------------------------------------
# Figures


def test_every_figure_is_drawn(runs_with_directions):
    made = figures.draw_paper(runs_with_directions)
    assert [path.stem for path in made] == list(figures.FIGURES)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)


def test_figures_without_runs_are_left_out(runs, capsys):
    for mark in runs.glob("*/evaluated"):
        if mark.parent.name != "tfpi-0":
            mark.unlink()
    assert [path.stem for path in figures.draw_paper(runs)] == ["figure2-left", "figure3"]
    left_out = "figure1-left is left out: there is no finished run of direct, tfpi-rl."
    assert left_out in capsys.readouterr().err


@pytest.mark.parametrize(
    "missing", [["verification"], ["verification", "truncated", "tokens", "validation", "flops"]]
)
@pytest.mark.filterwarnings("ignore:No artists with labels")
def test_a_metric_that_old_runs_lack_is_not_drawn(missing, runs_with_directions):
    change_metrics(runs_with_directions, lambda line: [line.pop(key) for key in missing])
    made = figures.draw_paper(runs_with_directions)
    assert [path.stem for path in made] == list(figures.FIGURES)


def test_a_metric_that_is_new_does_not_matter(runs_with_directions):
    made = figures.draw_paper(runs_with_directions)
    before = [path.read_bytes() for path in made]
    change_metrics(runs_with_directions, lambda line: line.update(partial_credit="a half"))
    made = figures.draw_paper(runs_with_directions)
    assert [path.read_bytes() for path in made] == before


@pytest.mark.parametrize("missing", ["verification", "truncated", "validation", None])
@pytest.mark.filterwarnings("ignore:No artists with labels")
def test_a_run_s_own_figure_draws_what_its_metrics_have(missing, runs):
    """Its lines lack reward and flat groups, too; one of them has a metric that nobody knows."""
    result = {"accuracy": 0.5, "error": 0.01, "tokens": 60.0}
    both = {mode: result for mode in MODES}
    summary = {"before": both, "stages": [{"name": "stage1", **both}]}
    run = runs / "tfpi-0"
    (run / "summary.json").write_text(json.dumps(summary))
    change_metrics(runs, lambda line: (line.pop(missing, None), line.update(unheard_of=1)))
    assert plot.draw_run(run).read_bytes().startswith(b"\x89PNG")


def test_a_metric_is_drawn_at_the_steps_that_have_it():
    lines = [{"step": 1, "reward": 0.1}, {"step": 2}, {"step": 3, "reward": 0.3}]
    figure, axis = figures.plt.subplots()
    plot.draw_metric(axis, lines, "reward")
    plot.draw_metric(axis, lines, "verification")
    figures.plt.close(figure)
    [line] = axis.lines
    assert line.get_xydata().tolist() == [[1, 0.1], [3, 0.3]]


# --------------------------------------------------------------------------------------------------
# Figure 4


def save_model(folder, embedding, block):
    """A model of two layers, of two weights each, that has been moved by so much."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        "model.embed_tokens.weight": torch.tensor([1.0, 2.0]) + torch.tensor(embedding),
        "model.layers.0.weight": torch.tensor([3.0, 4.0]) + torch.tensor(block),
    }
    save_file(weights, folder / "model.safetensors")


@pytest.fixture
def runs_with_models(runs):
    """Stage 1 moves one layer with direct RL and the other against it; all lies in a plane."""
    save_model(runs / "small", [0.0, 0.0], [0.0, 0.0])
    for seed in (0, 1):
        save_model(runs / f"direct-{seed}" / "rl", [1.0, 0.0], [0.0, 1.0])
        save_model(runs / f"tfpi-rl-{seed}" / "rl", [2.0, 0.0], [0.0, 0.0])
        for method in ("tfpi", "multistage"):
            for stage in (1, 2, 3):  # stage 2 and 3 add nothing to the embedding
                path = runs / f"{method}-{seed}" / f"stage{stage}"
                save_model(path, [2.0, 0.0], [0.0, -1.0 * stage])
    return runs


def test_figure_4_finds_known_directions(runs_with_models):
    norms = directions.write_directions(runs_with_models, runs_with_models / "small")
    assert np.allclose(norms["direct"], 2**0.5) and np.allclose(norms["tfpi"], 13**0.5)
    data = json.loads((runs_with_models / "directions.json").read_text())
    assert data["layers"] == ["embedding", "block 0"]
    assert np.allclose(data["cosines"]["TFPI stage 1"], [[1, -1]] * 2)
    assert np.allclose(data["cosines"]["TFPI stage 2"], [[0, -1]] * 2)
    assert np.allclose(data["cosines"]["direct RL, another seed"], 1)
    assert sum(data["explained"]) == pytest.approx(1)  # all updates lie in a plane
    path = np.array(data["paths"]["tfpi"][1])  # initial, three stages, RL
    assert np.allclose(np.linalg.norm(path, axis=1), [0, 5**0.5, 8**0.5, 13**0.5, 2], atol=1e-4)
    apart = np.linalg.norm(path[3] - data["paths"]["direct"][0][-1])
    assert apart == pytest.approx((1 + 16) ** 0.5, abs=1e-4)


# --------------------------------------------------------------------------------------------------
# Training and evaluating


def test_a_model_is_evaluated_once(quick_model, tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "TEST", 3)
    monkeypatch.setattr(paper, "HARD", 2)
    path = tmp_path / "evaluations.jsonl"
    for _ in range(2):
        paper.evaluate_model(path, "step8", quick_model["model"], 8, hard=False)
        paper.evaluate_model(path, "stage1", quick_model["model"], 24, hard=True)
    lines = [(e["name"], e["data"], e["mode"], len(e["rewards"])) for e in read_lines(path)]
    assert lines == [
        ("step8", "test", "thinking", 3),
        ("stage1", "test", "thinking", 6),
        ("stage1", "test", "thinking_free", 6),
        ("stage1", "hard", "thinking", 4),
        ("stage1", "hard", "thinking_free", 4),
    ]


def test_hard_problems_are_harder_than_any_trained_on():
    problems = paper.hard_problems()
    assert {p.level for p in problems} == {4, 5} and len(problems) == paper.HARD
    assert paper.hard_problems() == problems  # the same each time


@pytest.mark.parametrize(
    "option, value, said",
    [
        ("--methods", "tfpi,unheard-of", "no method 'unheard-of'"),
        ("--seeds", "0,one", "'0,one' is not"),
    ],
)
def test_a_method_or_seed_that_does_not_exist_is_named(option, value, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["paper.py", option, value])
    with pytest.raises(SystemExit) as stopped:
        paper.main()
    assert stopped.value.code == 2 and said in capsys.readouterr().err


def test_what_a_run_starts_from_is_made_before_it():
    """Jobs start in the order given, so one that waits for another must stand after it."""
    order = list(paper.METHODS)
    for method, options in paper.METHODS.items():
        assert order.index(options.get("after", method)) <= order.index(method)


def test_a_wait_is_for_the_same_seed(monkeypatch):
    done = []

    def work(method, seed, before=None):
        if before:
            before.result()
        done.append((method, seed))

    monkeypatch.setattr(paper, "work", work)
    paper.run_all([("tfpi", 0), ("tfpi", 1), ("tfpi-rl", 0), ("tfpi-rl", 1)], 4)
    assert len(done) == 4
    for seed in (0, 1):
        assert done.index(("tfpi", seed)) < done.index(("tfpi-rl", seed))
