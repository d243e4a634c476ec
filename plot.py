"""The figure of a run, from its metrics.jsonl and summary.json:

    python plot.py runs/small            # writes runs/small/figure.png

Top: accuracy and tokens before training and after each stage, in both modes (the paper's Tables 1 and 3, Figure 1
right). Bottom: the rollouts, step by step: reward and validation accuracy, then truncated, flat and verifying shares
(Figures 3 and 8). Left out: several runs in one figure.
"""

import argparse
import json
import sys
from pathlib import Path

try:
    import matplotlib
    matplotlib.use("Agg")  # draws to files, so no display is needed
    import matplotlib.pyplot as plt
except ImportError:
    sys.exit("plot: figures need matplotlib; pip install matplotlib")

COLORS = {"thinking": "tab:blue", "thinking_free": "tab:orange"}


def draw_stages(axes, summary):
    """Accuracy with its standard error, and tokens, of both modes before training and after each stage."""
    entries = [{"name": "before", **summary["before"]}] + summary["stages"]
    names = [entry["name"] for entry in entries]
    for mode, color in COLORS.items():
        label, results = mode.replace("_", "-"), [entry[mode] for entry in entries]
        axes[0].errorbar(names, [100 * r["accuracy"] for r in results], [100 * r["error"] for r in results],
                         color=color, marker="o", capsize=3, label=label)
        axes[1].plot(names, [r["tokens"] for r in results], color=color, marker="o", label=label)
    axes[0].set(ylabel="test accuracy (%)", title="accuracy, ± standard error")
    axes[1].set(ylabel="tokens a response", title="length", ylim=(0, None))
    for axis in axes:
        axis.legend()


def draw_steps(axes, lines):
    """Rollout statistics of each training step; a dotted line marks the start of a stage, with its budget."""
    steps = [line["step"] for line in lines]
    validated = [line for line in lines if "validation" in line]
    axes[0].plot(steps, [line["reward"] for line in lines], color="tab:gray", alpha=0.7, label="rollout reward")
    axes[0].plot([line["step"] for line in validated], [line["validation"] for line in validated],
                 color="black", marker=".", label="validation accuracy")
    axes[0].set(xlabel="step", ylabel="mean over responses", ylim=(0, 1), title="reward")
    shares = (("truncated", "truncated"), ("flat_groups", "flat groups"), ("verification", "verifying lines"))
    for name, label in shares:
        axes[1].plot(steps, [line[name] for line in lines], label=label)
    axes[1].set(xlabel="step", ylabel="share of responses, groups, lines", ylim=(0, 1), title="rollouts")
    axes[0].legend(loc="lower right", fontsize=8)
    axes[1].legend(loc="upper right", bbox_to_anchor=(1, 0.94), fontsize=8)
    for axis in axes:
        for line in lines:
            if line["stage_step"] == 1:
                axis.axvline(line["step"], color="gray", linestyle=":", linewidth=1)
                axis.text(line["step"], 0.98, f" {line['budget']} tokens", fontsize=7, va="top")


def draw_run(folder):
    """Writes figure.png into the run's folder and returns its path."""
    folder = Path(folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained")
    draw_stages(axes[0], json.loads((folder / "summary.json").read_text()))
    draw_steps(axes[1], lines)
    figure.savefig(folder / "figure.png", dpi=150)
    plt.close(figure)
    return folder / "figure.png"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the figure of a finished run.")
    parser.add_argument("folder", help="the run's folder, such as runs/small")
    try:
        print(draw_run(parser.parse_args().folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"plot: not a finished run ({error!r}). Give the folder that tfpi.py wrote.")
