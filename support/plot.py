"""The figure of a run, from its metrics.jsonl and summary.json:

    python -m support.plot runs/small            # writes runs/small/figure.png

Top: accuracy and tokens before training and after each stage, in both modes (the paper's Tables 1
and 3, Figure 1 right). Bottom: the rollouts, step by step: reward and validation accuracy, then
truncated, flat and verifying shares (Figures 3 and 8). Left out: anything interactive.
"""

import json
import os
from pathlib import Path

from support.cli import Parser, command, expand, say
from support.disk import put

COLORS = {"thinking": "tab:blue", "thinking_free": "tab:orange"}
RESULTS = ("accuracy", "error", "tokens")
PLACES = ("step", "stage_step", "budget")  # where a step is in the run
METRICS = ("reward", "validation", "truncated", "flat_groups", "verification")
LARGEST_DRAWN = 1e15  # of all that is drawn; beyond, axes overflow


def load_pyplot():
    """matplotlib, which is optional. Raises ValueError where it cannot be had."""
    # It draws to files, so no display is needed; nonsense in there would be an error at the import.
    os.environ["MPLBACKEND"] = "Agg"
    try:
        import matplotlib.pyplot as plt

        plt.switch_backend("Agg")
    except Exception as error:  # not there, or installed by half, or with settings it cannot read
        reason = describe(error)
        raise ValueError(f"figures need matplotlib ({reason}): pip install matplotlib") from None
    return plt


def describe(error):
    """The first line of an error, short."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].removesuffix(".")


# --------------------------------------------------------------------------------------------------
# Reading. What is drawn must be as tfpi.py wrote it; what nobody draws is not looked at.


def read_entries(path, known=()):
    """The measurements of summary.json, before training and after each stage: a list of dicts.

    known: numbers wanted besides, where they are there.
    """
    summary = parse(read_text(path), path)
    stages = summary.get("stages")
    if not isinstance(stages, list):
        raise ValueError(f"{path}: stages is not a list")
    entries = []
    for stage in [summary.get("before"), *stages]:
        check_object(stage, f"{path}: a measurement")
        name = stage.get("name") if entries else "before"
        if not isinstance(name, str) or len(name) > 99:
            raise ValueError(f"{path}: the name of a stage is not a short text")
        entry = {"name": name}
        for mode in COLORS:
            check_object(stage.get(mode), f"{path}: {mode} of {name!r}")
            entry[mode] = numbers(stage[mode], RESULTS, known, path)
        entries.append(entry)
    return entries


def read_steps(path):
    """What is drawn of each line of metrics.jsonl: a list of dicts."""
    lines = []
    for number, text in enumerate(read_text(path).split("\n"), start=1):
        if text.strip():
            where = f"{path}, line {number}"
            lines.append(numbers(parse(text, where), PLACES, METRICS, where))
    if not lines:
        raise ValueError(f"{path} has no steps in it")
    return lines


def read_text(path):
    if not path.is_file():
        raise ValueError(f"there is no {path}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None


def parse(text, where):
    """JSON text as an object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({describe(error)})") from None
    check_object(value, where)
    return value


def check_object(value, where):
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not an object")


def numbers(values, needed, known, where):
    """Of an object, the numbers that it needs, and those known that it has."""
    keys = [*needed, *(key for key in known if key in values)]
    for key in keys:
        value = values.get(key)
        if type(value) not in (int, float) or not abs(value) <= LARGEST_DRAWN:
            raise ValueError(f"{where}: {key} is not a number that can be drawn")
    return {key: values[key] for key in keys}


# --------------------------------------------------------------------------------------------------
# Drawing


def draw_stages(axes, entries):
    """Accuracy and tokens of both modes, before training and after each stage."""
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
    """Writes figure.png into the run's folder and returns its path.

    Raises ValueError or OSError, and nothing else.
    """
    folder = Path(folder)
    try:
        entries = read_entries(folder / "summary.json")
        lines = read_steps(folder / "metrics.jsonl")
    except (ValueError, MemoryError) as error:
        raise ValueError(
            f"not a finished run: {error}. Give the folder that tfpi.py wrote."
        ) from None
    plt = load_pyplot()
    try:
        return draw(plt, entries, lines, folder / "figure.png")
    except OSError:
        raise
    except Exception as error:  # a user's settings or fonts can make the library raise anything
        raise ValueError(f"the figure of {folder} cannot be drawn ({describe(error)}).") from None


def draw(plt, entries, lines, path):
    figure = plt.figure(figsize=(9, 6.5), layout="constrained")
    try:
        axes = figure.subplots(2, 2)
        draw_stages(axes[0], entries)
        draw_steps(axes[1], lines)
        return save(figure, path)
    finally:
        plt.close(figure)


def save(figure, path):
    """Writes the figure as a PNG, whole or not at all, and returns its path."""
    put(path, lambda made: figure.savefig(made, dpi=200))
    return path


def main(argv=None):
    parser = Parser(description="Draw the figure of a finished run.")
    parser.add_argument("folder", help="the run's folder, such as runs/small")
    with command("plot"):
        say(draw_run(expand(parser.parse_args(argv).folder)))


if __name__ == "__main__":
    main()
