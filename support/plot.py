"""The figure of a run, from its metrics.jsonl and summary.json:

    python -m support.plot runs/small            # writes runs/small/figure.png

Top: accuracy and tokens before training and after each stage, in both modes (the paper's Tables 1
and 3, Figure 1 right). Bottom: the rollouts, step by step: reward and validation accuracy, then
truncated, flat and verifying shares (Figures 3 and 8). Left out: anything interactive.
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
    """Accuracy and tokens of both modes, before training and after each stage."""
    entries = [{"name": "before", **summary["before"]}, *summary["stages"]]
    names = [entry["name"] for entry in entries]
    for mode, color in COLORS.items():
        style = {"color": color, "marker": "o", "label": mode.replace("_", "-")}
        results = [entry[mode] for entry in entries]
        accuracies = [100 * result["accuracy"] for result in results]
        errors = [100 * result["error"] for result in results]
        axes[0].errorbar(names, accuracies, errors, capsize=3, **style)
        axes[1].plot(names, [result["tokens"] for result in results], **style)
    axes[0].set(ylabel="test accuracy (%)", title="accuracy, ± standard error")
    axes[1].set(ylabel="tokens a response", title="length", ylim=(0, None))
    for axis in axes:
        axis.legend()


def draw_steps(axes, lines):
    """Reward and shares of each training step's rollouts, and validation accuracy."""
    reward, shares = axes
    draw_metric(reward, lines, "reward", color="tab:gray", alpha=0.7, label="rollout reward")
    validation = {"color": "black", "marker": ".", "label": "validation accuracy"}
    draw_metric(reward, lines, "validation", **validation)
    draw_metric(shares, lines, "truncated", label="truncated")
    draw_metric(shares, lines, "flat_groups", label="flat groups")
    draw_metric(shares, lines, "verification", label="verifying lines")
    reward.set(ylabel="mean over responses", title="reward")
    shares.set(ylabel="share of responses, groups, lines", title="rollouts")
    reward.legend(loc="lower right", fontsize=8)
    shares.legend(loc="upper right", bbox_to_anchor=(1, 0.94), fontsize=8)
    for axis in axes:
        axis.set(xlabel="step", ylim=(0, 1))
        mark_stages(axis, lines)


def draw_metric(axis, lines, key, scale=1, **style):
    """A metric over the steps that have it: not every step is validated, and metrics come and go.

    Of a run that has none of it, nothing is drawn.
    """
    known = [line for line in lines if key in line]
    if known:
        steps = [line["step"] for line in known]
        axis.plot(steps, [scale * line[key] for line in known], **style)


def mark_stages(axis, lines):
    """A dotted line where a stage begins, with its budget."""
    for line in lines:
        if line["stage_step"] == 1:
            axis.axvline(line["step"], color="gray", linestyle=":", linewidth=1)
            text = f" {line['budget']} tokens"
            place = {"va": "top", "transform": axis.get_xaxis_transform()}
            axis.text(line["step"], 0.98, text, fontsize=7, **place)


def draw_run(folder):
    """Writes figure.png into the run's folder and returns its path."""
    folder = Path(folder)
    summary = json.loads((folder / "summary.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained")
    draw_stages(axes[0], summary)
    draw_steps(axes[1], lines)
    return save(figure, folder / "figure.png")


def save(figure, path):
    figure.savefig(path, dpi=200)
    plt.close(figure)
    return path


def main():
    parser = argparse.ArgumentParser(description="Draw the figure of a finished run.")
    parser.add_argument("folder", help="the run's folder, such as runs/small")
    args = parser.parse_args()
    try:
        print(draw_run(args.folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"plot: not a finished run ({error!r}). Give the folder that tfpi.py wrote.")


if __name__ == "__main__":
    main()
