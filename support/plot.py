"""Figures, from metrics.jsonl and the evaluations beside it:

    python plot.py runs/small            # one run: writes runs/small/figure.png
    python plot.py runs/paper            # all runs of bench/paper.py: the paper's figures, in runs/paper

A run's figure, top: accuracy and tokens before training and after each stage, in both modes (the paper's Tables 1 and
3, Figure 1 right). Bottom: the rollouts, step by step: reward and validation accuracy, then truncated, flat and
verifying shares (Figures 3 and 8). In the paper's figures lines are means over seeds, and bands or bars are ± one
standard deviation over seeds. Left out: anything interactive.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

try:
    import matplotlib

    matplotlib.use("Agg")  # draws to files, so no display is needed
    import matplotlib.pyplot as plt
except ImportError:
    sys.exit("plot: figures need matplotlib; pip install matplotlib")

COLORS = {"thinking": "tab:blue", "thinking_free": "tab:orange"}
DIRECT, TFPI, MULTISTAGE = "tab:gray", "tab:green", "tab:red"

# ---------------------------------------------------------------------------------------------------------------------
# One run


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def draw_stages(axes, summary):
    """Accuracy with its standard error, and tokens, of both modes before training and after each stage."""
    entries = [{"name": "before", **summary["before"]}] + summary["stages"]
    names = [entry["name"] for entry in entries]
    for mode, color in COLORS.items():
        label, results = mode.replace("_", "-"), [entry[mode] for entry in entries]
        axes[0].errorbar(
            names,
            [100 * r["accuracy"] for r in results],
            [100 * r["error"] for r in results],
            color=color,
            marker="o",
            capsize=3,
            label=label,
        )
        axes[1].plot(names, [r["tokens"] for r in results], color=color, marker="o", label=label)
    axes[0].set(ylabel="test accuracy (%)", title="accuracy, ± standard error")
    axes[1].set(ylabel="tokens a response", title="length", ylim=(0, None))
    for axis in axes:
        axis.legend()


def draw_steps(axes, lines):
    """Rollout statistics of each training step; a dotted line marks the start of a stage, with its budget."""
    steps = [line["step"] for line in lines]
    validated = [line for line in lines if "validation" in line]
    axes[0].plot(
        steps,
        [line["reward"] for line in lines],
        color="tab:gray",
        alpha=0.7,
        label="rollout reward",
    )
    axes[0].plot(
        [line["step"] for line in validated],
        [line["validation"] for line in validated],
        color="black",
        marker=".",
        label="validation accuracy",
    )
    axes[0].set(xlabel="step", ylabel="mean over responses", ylim=(0, 1), title="reward")
    shares = (
        ("truncated", "truncated"),
        ("flat_groups", "flat groups"),
        ("verification", "verifying lines"),
    )
    for name, label in shares:
        axes[1].plot(steps, [line[name] for line in lines], label=label)
    axes[1].set(
        xlabel="step", ylabel="share of responses, groups, lines", ylim=(0, 1), title="rollouts"
    )
    axes[0].legend(loc="lower right", fontsize=8)
    axes[1].legend(loc="upper right", bbox_to_anchor=(1, 0.94), fontsize=8)
    for axis in axes:
        mark_stages(axis, lines)


def mark_stages(axis, lines):
    for line in lines:
        if line["stage_step"] == 1:
            axis.axvline(line["step"], color="gray", linestyle=":", linewidth=1)
            axis.text(
                line["step"],
                0.98,
                f" {line['budget']} tokens",
                fontsize=7,
                va="top",
                transform=axis.get_xaxis_transform(),
            )


def draw_run(folder):
    """Writes figure.png into the run's folder and returns its path."""
    folder = Path(folder)
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained")
    draw_stages(axes[0], json.loads((folder / "summary.json").read_text()))
    draw_steps(axes[1], read_lines(folder / "metrics.jsonl"))
    return save(figure, folder / "figure.png")


def save(figure, path):
    figure.savefig(path, dpi=200)
    plt.close(figure)
    return path


# ---------------------------------------------------------------------------------------------------------------------
# The paper's figures, from the runs of bench/paper.py


@dataclass
class Trained:
    """A run of bench/paper.py: the lines of its metrics.jsonl and of its evaluations.jsonl."""

    folder: Path
    seed: int
    steps: list
    evaluations: list

    def get(self, name, key, mode="thinking", data="test"):
        """One number of one model's evaluation."""
        [line] = [
            e for e in self.evaluations if (e["name"], e["data"], e["mode"]) == (name, data, mode)
        ]
        return line[key]

    def flops(self, step):
        return self.steps[step - 1]["flops"] if step else 0

    def curve(self, key, stage=None):
        """(step, number) of every model that was asked to think, from the one before training; of one stage or all."""
        last = max(line["step"] for line in self.steps if stage in (None, line["stage"]))
        return [
            (e["step"], e[key])
            for e in self.evaluations
            if e["mode"] == "thinking" and e["data"] == "test" and e["step"] <= last
        ]


def read_runs(folder, method, start="start"):
    """The method's finished and evaluated runs, by seed; each begins with the evaluation of the model before training."""
    runs, folder = [], Path(folder)
    for path in sorted(folder.glob(f"{method}-[0-9]*")):
        if (path / "evaluated").exists():
            evaluations = sorted(read_lines(path / "evaluations.jsonl"), key=lambda e: e["step"])
            runs.append(
                Trained(
                    path,
                    int(path.name.rsplit("-", 1)[1]),
                    read_lines(path / "metrics.jsonl"),
                    read_lines(folder / f"{start}.jsonl") + evaluations,
                )
            )
    return runs


def tfpi_then_rl(folder):
    """(FLOPs, accuracy) of TFPI and then RL, a row a seed: (S, P) both. RL's first model is TFPI's last."""
    rows = []
    for rl in read_runs(folder, "tfpi-rl"):
        [tfpi] = [run for run in read_runs(folder, "tfpi") if run.seed == rl.seed]
        total = tfpi.flops(len(tfpi.steps))
        rows.append(
            [(tfpi.flops(step), a) for step, a in tfpi.curve("accuracy")]
            + [(total + rl.flops(step), a) for step, a in rl.curve("accuracy") if step]
        )
    return np.array(rows)[:, :, 0], np.array(rows)[:, :, 1]


def alone(runs):
    """(FLOPs, accuracy) of one method, a row a seed: (S, P) both."""
    rows = np.array([[(run.flops(step), a) for step, a in run.curve("accuracy")] for run in runs])
    return rows[:, :, 0], rows[:, :, 1]


def spread(rows):
    """The standard deviation over seeds, the rows; 0 for one seed."""
    return np.std(rows, axis=0, ddof=1) if len(rows) > 1 else np.zeros(len(rows[0]))


def band(axis, x, rows, **style):
    """The mean of rows (S, P) over x (P,), and a band of one standard deviation over seeds."""
    mean = np.mean(rows, axis=0)
    axis.plot(x, mean, **style)
    axis.fill_between(
        x, mean - spread(rows), mean + spread(rows), color=style["color"], alpha=0.2, linewidth=0
    )


def draw_compute(folder, axis):
    """Figure 1 left: accuracy in thinking mode against training compute."""
    for (x, y), color, label in (
        (alone(read_runs(folder, "direct")), DIRECT, "direct RL"),
        (tfpi_then_rl(folder), TFPI, "TFPI, then RL"),
    ):
        band(
            axis, x.mean(axis=0) / 1e12, 100 * y, color=color, marker="o", markersize=3, label=label
        )
    stages = read_runs(folder, "tfpi")
    axis.axvline(
        np.mean([run.flops(len(run.steps)) for run in stages]) / 1e12,
        color=TFPI,
        linestyle=":",
        linewidth=1,
        label="end of TFPI",
    )
    axis.set(xlabel="training compute (TFLOP)", ylabel="accuracy, thinking (%)")
    axis.legend(loc="lower right")


def draw_tokens(folder, axis):
    """Figure 1 right and Table 3: accuracy against tokens, of both modes, before and after each stage."""
    tfpi, rl, direct = (read_runs(folder, method) for method in ("tfpi", "tfpi-rl", "direct"))
    way = {
        "before": (tfpi, "start"),
        "1": (tfpi, "stage1"),
        "2": (tfpi, "stage2"),
        "3": (tfpi, "stage3"),
        "RL": (rl, "rl"),
    }

    def place(runs, name, mode):  # means and spreads of tokens and of accuracy
        values = np.array(
            [[run.get(name, "tokens", mode), 100 * run.get(name, "accuracy", mode)] for run in runs]
        )
        return *values.mean(axis=0), *spread(values)

    for mode, color in COLORS.items():
        x, y, dx, dy = zip(*(place(*models, mode) for models in way.values()))
        name, style = mode.replace("_", "-"), {"color": color, "capsize": 2}
        axis.errorbar(
            x, y, dy, dx, marker="o", markersize=3, label=f"TFPI, then RL, {name}", **style
        )
        for text, *point in zip(way, x, y):
            axis.annotate(
                text,
                point,
                textcoords="offset points",
                xytext=(5, 3 if text == "RL" else -7),
                fontsize=6,
            )
        x, y, dx, dy = place(direct, "rl", mode)
        axis.errorbar(
            x,
            y,
            dy,
            dx,
            marker="s",
            markerfacecolor="white",
            markersize=4,
            linestyle="",
            label=f"direct RL, {name}",
            **style,
        )
    axis.set(xlabel="tokens a response", ylabel="test accuracy (%)", xlim=(0, None))
    axis.legend(loc="lower right")


def draw_modes(folder, axes):
    """Figure 2 left: tokens and accuracy of the initial model with and without ThinkFree; bars, ± standard error."""
    start = read_lines(Path(folder) / "start.jsonl")
    for mode, color in COLORS.items():
        [result] = [e for e in start if e["mode"] == mode and e["data"] == "test"]
        name = mode.replace("_", "-")
        axes[0].bar(name, result["tokens"], color=color)
        axes[1].bar(
            name, 100 * result["accuracy"], yerr=100 * result["error"], color=color, capsize=3
        )
    axes[0].set(ylabel="tokens a response")
    axes[1].set(ylabel="test accuracy (%)")


def draw_short_budget(folder, axes):
    """Figure 2 right: stage 1, the short budget, with and without thinking; what it makes of thinking mode."""
    for method, color, label in (
        ("multistage", MULTISTAGE, "trained with thinking"),
        ("tfpi", TFPI, "TFPI"),
    ):
        runs = read_runs(folder, method)
        for axis, key, scale in zip(axes, ("accuracy", "tokens"), (100, 1)):
            curves = np.array([run.curve(key, "stage1") for run in runs])  # (S, P, 2)
            band(
                axis,
                curves[0, :, 0],
                scale * curves[:, :, 1],
                color=color,
                marker="o",
                markersize=3,
                label=label,
            )
        rows = [
            [100 * line["truncated"] for line in run.steps if line["stage"] == "stage1"]
            for run in runs
        ]
        band(axes[2], np.arange(1, len(rows[0]) + 1), rows, color=color, label=label)
    for axis, label in zip(
        axes, ("accuracy, thinking (%)", "tokens, thinking", "truncated rollouts (%)")
    ):
        axis.set(xlabel="step of stage 1", ylabel=label, ylim=(0, None))
    axes[0].legend()


def draw_verification(folder, axes):
    """Figure 3: share of verifying lines in thinking-free rollouts, and tokens in thinking mode, over the stages."""
    runs = read_runs(folder, "tfpi")
    rows = np.array([[100 * line["verification"] for line in run.steps] for run in runs])
    band(axes[0], np.arange(1, rows.shape[1] + 1), rows, color=COLORS["thinking_free"])
    curves = np.array([run.curve("tokens") for run in runs])  # (S, P, 2)
    band(
        axes[1],
        curves[0, :, 0],
        curves[:, :, 1],
        color=COLORS["thinking"],
        marker="o",
        markersize=3,
    )
    axes[0].set(xlabel="step", ylabel="verifying lines (%), rollouts")
    axes[1].set(xlabel="step", ylabel="tokens, thinking")
    for axis in axes:
        axis.set(ylim=(0, 1.12 * axis.get_ylim()[1]))  # room for the budgets
        mark_stages(axis, runs[0].steps)


def draw_directions(folder, axes):
    """Figure 4, from directions.json: where the checkpoints lie, and how updates point, layer by layer."""
    data = json.loads((Path(folder) / "directions.json").read_text())
    styles = {"direct": (DIRECT, "direct RL"), "tfpi": (TFPI, "TFPI, then RL")}
    for method, (color, label) in styles.items():
        for i, path in enumerate(data["paths"][method]):  # one a seed: (P, 2)
            axes[0].plot(
                *zip(*path),
                color=color,
                marker="o",
                markersize=3,
                linewidth=1,
                label=None if i else label,
            )
    axes[0].plot(0, 0, color="black", marker="*", markersize=9, linestyle="", label="initial model")
    first, second = (100 * share for share in data["explained"])
    axes[0].set(
        xlabel=f"component 1 ({first:.0f} % of the variance)",
        ylabel=f"component 2 ({second:.0f} %)",
    )
    layers = [layer.replace("embedding", "embed.") for layer in data["layers"]]
    for (name, rows), style in zip(data["cosines"].items(), ("-o", "-s", "-^", ":")):
        axes[1].errorbar(
            layers,
            np.mean(rows, axis=0),
            spread(rows),
            fmt=style,
            markersize=3,
            capsize=2,
            label=name,
        )
    axes[1].set(xlabel="layer", ylabel="cosine with direct RL's update", ylim=(None, 1))
    for axis in axes:
        axis.legend()


def draw_switch(folder, axes):
    """Figure 8: truncation, tokens and validation accuracy in runs whose stages end by themselves, and by hand (gray)."""

    def every(run, key):
        return zip(*((line["step"], line[key]) for line in run.steps if key in line))

    runs = [
        (run, "tab:gray", "set by hand" if not run.seed else None)
        for run in read_runs(folder, "tfpi")
    ]
    runs += [
        (run, f"C{run.seed}", f"by themselves, seed {run.seed}")
        for run in read_runs(folder, "auto")
    ]
    for run, color, label in runs:
        for axis, key, scale in zip(axes, ("truncated", "tokens", "validation"), (100, 1, 100)):
            steps, values = every(run, key)
            axis.plot(steps, scale * np.array(values), color=color, label=label, linewidth=1)
            for line in run.steps[1:]:
                if line["stage_step"] == 1:
                    axis.axvline(line["step"], color=color, linestyle=":", linewidth=1)
    for axis, label in zip(
        axes, ("truncated rollouts (%)", "tokens, rollouts", "validation, thinking-free (%)")
    ):
        axis.set(xlabel="step", ylabel=label)
    axes[2].legend()


FIGURES = {  # name: (what draws it, number of panels; one is given as an axis, not a list; the methods it needs)
    "figure1-left": (draw_compute, 1, ("direct", "tfpi", "tfpi-rl")),
    "figure1-right": (draw_tokens, 1, ("direct", "tfpi", "tfpi-rl")),
    "figure2-left": (draw_modes, 2, ()),
    "figure2-right": (draw_short_budget, 3, ("multistage", "tfpi")),
    "figure3": (draw_verification, 2, ("tfpi",)),
    "figure4": (draw_directions, 2, ("direct", "tfpi")),
    "figure8": (draw_switch, 3, ("auto", "tfpi")),
}


def draw_paper(folder):
    """Writes the paper's figures beside the runs of bench/paper.py in folder; those without runs are left out."""
    made = []
    with plt.rc_context(
        {
            "font.size": 8,
            "legend.fontsize": 6.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        for name, (draw, panels, methods) in FIGURES.items():
            if missing := [method for method in methods if not read_runs(folder, method)]:
                print(
                    f"{name} is left out: there is no finished run of {', '.join(missing)}.",
                    file=sys.stderr,
                )
                continue
            figure, axes = plt.subplots(
                1, panels, figsize=(max(3.4, 2.5 * panels), 2.5), layout="constrained"
            )
            draw(folder, axes)
            made.append(save(figure, Path(folder) / f"{name}.png"))
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Draw the figure of a finished run, or those of bench/paper.py."
    )
    parser.add_argument("folder", help="the run's folder, such as runs/small, or runs/paper")
    folder = Path(parser.parse_args().folder)
    try:
        print(
            *(draw_paper(folder) if (folder / "start.jsonl").exists() else [draw_run(folder)]),
            sep="\n",
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"plot: not a finished run ({error!r}). Give the folder that tfpi.py wrote.")
