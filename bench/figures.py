"""The paper's figures in miniature, from the runs of bench/paper.py:

    python bench/figures.py runs/paper           # writes runs/paper/figure1-left.png and so on
    python bench/paper.py --report               # the same, after the tables

Lines are means over seeds, bands and bars ± one standard deviation over seeds. A metric that the
runs do not have, since they are older, is not drawn.
"""

import argparse
import json
import sys
from pathlib import Path

from runs import ROOT, RUNS, alone, read_lines, read_runs, spread, tfpi_then_rl

sys.path.insert(0, str(ROOT))

import numpy as np

from support.plot import COLORS, draw_metric, load_pyplot, mark_stages, save

try:
    plt = load_pyplot()
except ValueError as error:
    sys.exit(f"figures: {error}")

DIRECT = "tab:gray"
TFPI = "tab:green"
MULTISTAGE = "tab:red"
DOTS = {"marker": "o", "markersize": 3}
STYLE = {
    "font.size": 8,
    "legend.fontsize": 6.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def band(axis, x, rows, **style):
    """The mean of rows (S, P) over x (P,), and a band of one standard deviation over seeds."""
    mean = np.mean(rows, axis=0)
    low = mean - spread(rows)
    high = mean + spread(rows)
    axis.plot(x, mean, **style)
    axis.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)


def draw_compute(folder, axis):
    """Figure 1 left: accuracy in thinking mode against training compute."""
    x, y = alone(read_runs(folder, "direct"))
    band(axis, x.mean(axis=0) / 1e12, 100 * y, color=DIRECT, label="direct RL", **DOTS)
    x, y = tfpi_then_rl(folder)
    band(axis, x.mean(axis=0) / 1e12, 100 * y, color=TFPI, label="TFPI, then RL", **DOTS)
    end = np.mean([run.total_flops() for run in read_runs(folder, "tfpi")]) / 1e12
    axis.axvline(end, color=TFPI, linestyle=":", linewidth=1, label="end of TFPI")
    axis.set(xlabel="training compute (TFLOP)", ylabel="accuracy, thinking (%)")
    axis.legend(loc="lower right")


def draw_tokens(folder, axis):
    """Figure 1 right and Table 3: accuracy against tokens, both modes, before and after stages."""
    tfpi, rl, direct = (read_runs(folder, method) for method in ("tfpi", "tfpi-rl", "direct"))
    way = {
        "before": (tfpi, "start"),
        "1": (tfpi, "stage1"),
        "2": (tfpi, "stage2"),
        "3": (tfpi, "stage3"),
        "RL": (rl, "rl"),
    }
    for mode, color in COLORS.items():
        name = mode.replace("_", "-")
        style = {"color": color, "capsize": 2}
        x, y, dx, dy = zip(*(place(runs, model, mode) for runs, model in way.values()))
        axis.errorbar(x, y, dy, dx, label=f"TFPI, then RL, {name}", **DOTS, **style)
        for text, *point in zip(way, x, y):
            offset = {"textcoords": "offset points", "xytext": (5, 3 if text == "RL" else -7)}
            axis.annotate(text, point, fontsize=6, **offset)
        x, y, dx, dy = place(direct, "rl", mode)
        style |= {"marker": "s", "markerfacecolor": "white", "markersize": 4, "linestyle": ""}
        axis.errorbar(x, y, dy, dx, label=f"direct RL, {name}", **style)
    axis.set(xlabel="tokens a response", ylabel="test accuracy (%)", xlim=(0, None))
    axis.legend(loc="lower right")


def place(runs, name, mode):
    """Means of tokens and of accuracy of one model of each run, then the spreads of both."""
    tokens = [run.get(name, "tokens", mode) for run in runs]
    accuracy = [100 * run.get(name, "accuracy", mode) for run in runs]
    values = np.array([tokens, accuracy]).T
    return *values.mean(axis=0), *spread(values)


def draw_modes(folder, axes):
    """Figure 2 left: the initial model with and without ThinkFree; bars, ± standard error."""
    start = read_lines(Path(folder) / "start.jsonl")
    for mode, color in COLORS.items():
        [result] = [e for e in start if (e["mode"], e["data"]) == (mode, "test")]
        name = mode.replace("_", "-")
        accuracy = 100 * result["accuracy"]
        axes[0].bar(name, result["tokens"], color=color)
        axes[1].bar(name, accuracy, yerr=100 * result["error"], color=color, capsize=3)
    axes[0].set(ylabel="tokens a response")
    axes[1].set(ylabel="test accuracy (%)")


def draw_short_budget(folder, axes):
    """Figure 2 right: what stage 1, the short budget, makes of thinking mode, by how it trains."""
    methods = {"multistage": (MULTISTAGE, "trained with thinking"), "tfpi": (TFPI, "TFPI")}
    for method, (color, label) in methods.items():
        runs = read_runs(folder, method)
        style = {"color": color, "label": label}
        for axis, key, scale in zip(axes, ("accuracy", "tokens"), (100, 1)):
            curves = np.array([run.curve(key, "stage1") for run in runs])  # (S, P, 2)
            band(axis, curves[0, :, 0], scale * curves[:, :, 1], **style, **DOTS)
        steps = sum(line["stage"] == "stage1" for line in runs[0].steps)
        truncated = np.array([run.metric("truncated")[:steps] for run in runs])
        band(axes[2], np.arange(1, steps + 1), 100 * truncated, **style)
    labels = ("accuracy, thinking (%)", "tokens, thinking", "truncated rollouts (%)")
    for axis, label in zip(axes, labels):
        axis.set(xlabel="step of stage 1", ylabel=label, ylim=(0, None))
    axes[0].legend()


def draw_verification(folder, axes):
    """Figure 3: verifying lines in thinking-free rollouts, and tokens with thinking, by step."""
    runs = read_runs(folder, "tfpi")
    rows = np.array([100 * run.metric("verification") for run in runs])
    band(axes[0], np.arange(1, rows.shape[1] + 1), rows, color=COLORS["thinking_free"])
    curves = np.array([run.curve("tokens") for run in runs])  # (S, P, 2)
    band(axes[1], curves[0, :, 0], curves[:, :, 1], color=COLORS["thinking"], **DOTS)
    axes[0].set(xlabel="step", ylabel="verifying lines (%), rollouts")
    axes[1].set(xlabel="step", ylabel="tokens, thinking")
    for axis in axes:
        axis.set(ylim=(0, 1.12 * axis.get_ylim()[1]))  # room for the budgets
        mark_stages(axis, runs[0].steps)


def draw_directions(folder, axes):
    """Figure 4, from directions.json: where the models lie, and how updates point, by layer."""
    data = json.loads((Path(folder) / "directions.json").read_text())
    methods = {"direct": (DIRECT, "direct RL"), "tfpi": (TFPI, "TFPI, then RL")}
    for method, (color, label) in methods.items():
        for path in data["paths"][method]:  # one a seed: (P, 2)
            axes[0].plot(*zip(*path), color=color, linewidth=1, label=label, **DOTS)
            label = None  # the legend names a method once
    star = {"color": "black", "marker": "*", "markersize": 9, "linestyle": ""}
    axes[0].plot(0, 0, label="initial model", **star)
    first, second = (f"{100 * share:.0f} %" for share in data["explained"])
    axes[0].set(xlabel=f"component 1 ({first} of the variance)", ylabel=f"component 2 ({second})")
    layers = [layer.replace("embedding", "embed.") for layer in data["layers"]]
    for (name, rows), shape in zip(data["cosines"].items(), ("-o", "-s", "-^", ":")):
        style = {"fmt": shape, "markersize": 3, "capsize": 2}
        axes[1].errorbar(layers, np.mean(rows, axis=0), spread(rows), label=name, **style)
    axes[1].set(xlabel="layer", ylabel="cosine with direct RL's update", ylim=(None, 1))
    for axis in axes:
        axis.legend()


def draw_switch(folder, axes):
    """Figure 8: runs whose stages end by themselves; gray, if there, those set by hand."""
    runs = []
    for run in read_runs(folder, "tfpi"):
        runs.append((run, "tab:gray", None if run.seed else "set by hand"))
    for run in read_runs(folder, "auto"):
        runs.append((run, f"C{run.seed}", f"by themselves, seed {run.seed}"))
    metrics = {
        "truncated": ("truncated rollouts (%)", 100),
        "tokens": ("tokens, rollouts", 1),
        "validation": ("validation, thinking-free (%)", 100),
    }
    for axis, (key, (ylabel, scale)) in zip(axes, metrics.items()):
        axis.set(xlabel="step", ylabel=ylabel)
        for run, color, label in runs:
            draw_metric(axis, run.steps, key, scale, color=color, label=label, linewidth=1)
            starts = [line["step"] for line in run.steps[1:] if line["stage_step"] == 1]
            for step in starts:
                axis.axvline(step, color=color, linestyle=":", linewidth=1)
    axes[2].legend()


# name: (what draws it, its panels, the methods it needs); a single panel is no list
FIGURES = {
    "figure1-left": (draw_compute, 1, ("direct", "tfpi", "tfpi-rl")),
    "figure1-right": (draw_tokens, 1, ("direct", "tfpi", "tfpi-rl")),
    "figure2-left": (draw_modes, 2, ()),
    "figure2-right": (draw_short_budget, 3, ("multistage", "tfpi")),
    "figure3": (draw_verification, 2, ("tfpi",)),
    "figure4": (draw_directions, 2, ("direct", "tfpi")),
    "figure8": (draw_switch, 3, ("auto",)),
}


def draw_paper(folder):
    """Writes the figures beside the runs in the folder, but those whose runs are not there."""
    made = []
    for name, (draw, panels, methods) in FIGURES.items():
        if missing := [method for method in methods if not read_runs(folder, method)]:
            lacks = f"there is no finished run of {', '.join(missing)}"
            print(f"{name} is left out: {lacks}.", file=sys.stderr)
            continue
        size = (max(3.4, 2.5 * panels), 2.5)
        with plt.rc_context(STYLE):
            figure, axes = plt.subplots(1, panels, figsize=size, layout="constrained")
            draw(folder, axes)
            made.append(save(figure, Path(folder) / f"{name}.png"))
            plt.close(figure)
    return made


def main():
    parser = argparse.ArgumentParser(description="Draw the paper's figures in miniature.")
    parser.add_argument(
        "folder", nargs="?", default=RUNS, help="where the runs of bench/paper.py lie"
    )
    args = parser.parse_args()
    try:
        print(*draw_paper(args.folder), sep="\n")
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"figures: no runs of bench/paper.py in {args.folder} ({error!r}).")


if __name__ == "__main__":
    main()
