"""bench/paper.py, its tables and its figures: what they make of runs whose numbers are known."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import paper  # noqa: E402

plot = pytest.importorskip("support.plot", exc_type=SystemExit)  # matplotlib is optional
import paper_report  # noqa: E402


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


def write_run(folder, method, seed, stages, accuracies, flops=10):
    """A run whose stages are (name, steps), each step worth `flops`, with one evaluation a stage, in both modes."""
    steps, evaluations = [], []
    for (name, count), accuracy in zip(stages, accuracies):
        for i in range(1, count + 1):
            step = len(steps) + 1
            steps.append(
                {
                    "step": step,
                    "stage": name,
                    "stage_step": i,
                    "budget": 80,
                    "truncated": 0.1,
                    "tokens": 50.0,
                    "verification": 0.2,
                    "validation": 0.5,
                    "generated_tokens": 100 * step,
                    "flops": flops * step,
                    "seconds": 1.0 * step,
                }
            )
        evaluations += [
            evaluation(name, len(steps), accuracy, mode, data)
            for mode in ("thinking", "thinking_free")
            for data in ("test", "hard")
        ]
    write_lines(folder / f"{method}-{seed}" / "metrics.jsonl", steps)
    write_lines(folder / f"{method}-{seed}" / "evaluations.jsonl", evaluations)
    (folder / f"{method}-{seed}" / "evaluated").touch()


@pytest.fixture
def runs(tmp_path):
    write_lines(
        tmp_path / "start.jsonl",
        [
            evaluation("start", 0, 0.4, mode, data)
            for mode in ("thinking", "thinking_free")
            for data in ("test", "hard")
        ],
    )
    three = [("stage1", 2), ("stage2", 2), ("stage3", 2)]
    for seed in (0, 1):
        write_run(tmp_path, "tfpi", seed, three, (0.5, 0.6, 0.7 + 0.2 * seed))
        write_run(tmp_path, "multistage", seed, three, (0.4, 0.3, 0.2))
        write_run(tmp_path, "tfpi-rl", seed, [("rl", 2)], (0.9,), flops=100)
        write_run(tmp_path, "direct", seed, [("rl", 4)], (0.6,), flops=100)
        write_run(tmp_path, "auto", seed, three, (0.5, 0.6, 0.7))
    return tmp_path


def test_rl_after_tfpi_carries_the_compute_of_tfpi(runs):
    x, y = plot.tfpi_then_rl(runs)
    assert x.tolist() == [[0, 20, 40, 60, 260]] * 2
    assert np.allclose(y, [[0.4, 0.5, 0.6, 0.7, 0.9], [0.4, 0.5, 0.6, 0.9, 0.9]])


def test_a_curve_starts_before_training_and_ends_with_the_stage(runs):
    assert plot.read_runs(runs, "tfpi")[0].curve("accuracy", "stage2") == [
        (0, 0.4),
        (2, 0.5),
        (4, 0.6),
    ]


def test_runs_that_are_not_evaluated_and_other_methods_are_not_read(runs):
    (runs / "tfpi-1" / "evaluated").unlink()
    assert [(run.folder.name, run.seed) for run in plot.read_runs(runs, "tfpi")] == [("tfpi-0", 0)]


def test_spread_is_the_sample_deviation_over_seeds():
    assert np.allclose(plot.spread(np.array([[1.0, 5.0], [3.0, 5.0]])), [2**0.5, 0.0])
    assert plot.spread(np.array([[1.0, 5.0]])).tolist() == [
        0.0,
        0.0,
    ]  # of one seed nothing is known


def test_crossing_is_between_the_points():
    x, y = np.array([0.0, 10.0, 20.0]), np.array([0.2, 0.4, 0.8])
    assert paper_report.crossing(x, y, 0.5) == pytest.approx(12.5)
    assert paper_report.crossing(x, y, 0.1) == 0.0
    assert paper_report.crossing(x, y, 0.9) is None


def test_paired_difference_is_over_problems(runs):
    """Five problems, two samples each: TFPI + RL 9 of 10 right, direct RL 6 of 10."""
    a, b = np.array([1, 1, 1, 1, 0.5]), np.array([1, 1, 1, 0, 0])
    error = 100 * (a - b).std(ddof=1) / 5**0.5
    rl, direct = plot.read_runs(runs, "tfpi-rl"), plot.read_runs(runs, "direct")
    assert paper_report.paired(rl, direct, "rl", "rl") == f"+30.0 ± {error:.1f}"


def test_the_tables_show_the_known_numbers(runs, capsys, monkeypatch):
    monkeypatch.setattr(paper_report, "write_directions", lambda *_: None)
    monkeypatch.setattr(paper, "TEST", 5)
    paper_report.report(runs, None)
    text = capsys.readouterr().out
    assert "| TFPI stage3 | 80.0 ± 14.1 | 100.0 ± 0.0 |" in text
    assert "| multi-stage direct RL | 2 | 20.0 ± 0.0 |" in text
    # From 0.6 at 40 on in both seeds, of direct RL's 400.
    assert "final accuracy (60.0 %) at 10% of its compute; seed by seed: 10%, 10%" in text


def test_every_figure_is_drawn(runs):
    directions = {
        "paths": {"direct": [[[0, 0], [1, 1]]], "tfpi": [[[0, 0], [0, 1]]]},
        "explained": [0.6, 0.3],
        "layers": ["embedding", "block 0"],
        "cosines": {"TFPI stage 1": [[0.1, 0.2]]},
    }
    (runs / "directions.json").write_text(json.dumps(directions))
    assert [path.stem for path in plot.draw_paper(runs)] == list(plot.FIGURES)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in runs.glob("*.png"))


def test_figures_without_runs_are_left_out(runs, capsys):
    for mark in runs.glob("*/evaluated"):
        if mark.parent.name != "tfpi-0":
            mark.unlink()
    assert [path.stem for path in plot.draw_paper(runs)] == ["figure2-left", "figure3"]
    assert (
        "figure1-left is left out: there is no finished run of direct, tfpi-rl."
        in capsys.readouterr().err
    )


def test_a_model_is_evaluated_once(tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "TEST", 3)
    monkeypatch.setattr(paper, "HARD", 2)
    path = tmp_path / "evaluations.jsonl"
    for _ in range(2):
        paper.evaluate_model(path, "step8", ROOT / "models" / "small", 8, hard=False)
        paper.evaluate_model(path, "stage1", ROOT / "models" / "small", 24, hard=True)
    lines = [(e["name"], e["data"], e["mode"], len(e["rewards"])) for e in plot.read_lines(path)]
    assert lines == [
        ("step8", "test", "thinking", 3),
        ("stage1", "test", "thinking", 6),
        ("stage1", "test", "thinking_free", 6),
        ("stage1", "hard", "thinking", 4),
        ("stage1", "hard", "thinking_free", 4),
    ]


def test_a_stage_s_end_is_not_a_snapshot_as_well(tmp_path):
    write_run(tmp_path, "tfpi", 0, [("stage1", 2), ("stage2", 2)], (0.5, 0.6))
    for step in (1, 2, 3, 4):
        (tmp_path / "tfpi-0" / f"step{step}").mkdir()
    assert [(name, step) for name, _, step in paper.kept_models(tmp_path / "tfpi-0")] == [
        ("step1", 1),
        ("stage1", 2),
        ("step3", 3),
        ("stage2", 4),
    ]


def test_hard_problems_are_harder_than_any_trained_on():
    problems = paper.hard_problems()
    assert {p.level for p in problems} == {4, 5} and len(problems) == paper.HARD
    assert paper.hard_problems() == problems  # the same each time


def test_figure_4_finds_known_directions(runs, tmp_path):
    """Stage 1 moves one layer with direct RL and the other against it; the paths lie in a plane."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    def save(folder, embedding, block):
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {
                "model.embed_tokens.weight": torch.tensor([1.0, 2.0]) + torch.tensor(embedding),
                "model.layers.0.weight": torch.tensor([3.0, 4.0]) + torch.tensor(block),
            },
            folder / "model.safetensors",
        )

    save(tmp_path / "small", [0.0, 0.0], [0.0, 0.0])
    for seed in (0, 1):
        save(runs / f"direct-{seed}" / "rl", [1.0, 0.0], [0.0, 1.0])
        save(runs / f"tfpi-rl-{seed}" / "rl", [2.0, 0.0], [0.0, 0.0])
        for method in ("tfpi", "multistage"):
            for stage in (1, 2, 3):  # stage 2 and 3 add nothing to the embedding
                save(runs / f"{method}-{seed}" / f"stage{stage}", [2.0, 0.0], [0.0, -1.0 * stage])
    paper_report.write_directions(runs, tmp_path / "small")
    data = json.loads((runs / "directions.json").read_text())
    assert data["layers"] == ["embedding", "block 0"]
    assert np.allclose(data["cosines"]["TFPI stage 1"], [[1, -1]] * 2)
    assert np.allclose(data["cosines"]["TFPI stage 2"], [[0, -1]] * 2)
    assert np.allclose(data["cosines"]["direct RL, another seed"], 1)
    assert sum(data["explained"]) == pytest.approx(1)  # all updates lie in a plane
    path = np.array(data["paths"]["tfpi"][1])  # initial, three stages, RL
    assert np.allclose(np.linalg.norm(path, axis=1), [0, 5**0.5, 8**0.5, 13**0.5, 2], atol=1e-4)
    assert np.linalg.norm(path[3] - data["paths"]["direct"][0][-1]) == pytest.approx(
        (1 + 16) ** 0.5, abs=1e-4
    )


@pytest.mark.parametrize("arguments", [["--methods", "tfpi,unheard-of"], ["--seeds", "0,one"]])
def test_a_method_or_seed_that_does_not_exist_is_named(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["paper.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        paper.main()
    assert (
        stopped.value.code == 2
        and {"--methods": "no method 'unheard-of'", "--seeds": "'0,one' is not"}[arguments[0]]
        in capsys.readouterr().err
    )


def test_what_a_run_starts_from_is_made_before_it():
    """Jobs start in the order given, so one that waits for another must stand after it."""
    order = list(paper.METHODS)
    for method, options in paper.METHODS.items():
        assert order.index(options.get("after", method)) <= order.index(method)


def test_a_wait_is_for_the_same_seed(monkeypatch):
    done = []
    monkeypatch.setattr(
        paper,
        "work",
        lambda method, seed, before=None: (before and before.result(), done.append((method, seed))),
    )
    paper.run_all([("tfpi", 0), ("tfpi", 1), ("tfpi-rl", 0), ("tfpi-rl", 1)], 4)
    assert len(done) == 4 and all(
        done.index(("tfpi", seed)) < done.index(("tfpi-rl", seed)) for seed in (0, 1)
    )
