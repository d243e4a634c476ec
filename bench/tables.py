"""The paper's tables in miniature, as Markdown, from the runs of bench/paper.py.

    python bench/paper.py --report

Numbers are means over seeds, ± one standard deviation over seeds. Compute is tfpi.py's count (2
FLOPs a weight and token sampled, 6 a weight and token trained, validation not counted); the same
for every method.
"""

import sys

from runs import ROOT, TEST, alone, read_lines, read_runs, spread, tfpi_then_rl

sys.path.insert(0, str(ROOT))

import numpy as np
from directions import write_directions

from problems import load_split
from support.config import MODES

STAGES = ("stage1", "stage2", "stage3")
SCORES = ["thinking (%)", "tokens", "thinking-free (%)", "tokens"]
SPENT = ["generated, M tokens", "TFLOP", "minutes"]


def report(folder, small):
    """Prints all tables, and writes what Figure 4 shows; `small` is the model before training."""
    tfpi, direct, rl = (read_runs(folder, method) for method in ("tfpi", "direct", "tfpi-rl"))
    if not (tfpi and direct):
        sys.exit(
            f"paper: no finished runs of tfpi and direct in {folder}. Leave out --report to make "
            "them."
        )
    print_equal_training(tfpi, direct)
    if rl:
        print_equal_total(tfpi, direct, rl)
        print_catching_up(direct, *tfpi_then_rl(folder))
        print_hard(tfpi, direct, rl)
    print_stages(folder)
    print_parts(folder, tfpi, direct, rl)
    print_variations(folder)
    print_norms(write_directions(folder, small))
    print_total(folder)


# --------------------------------------------------------------------------------------------------
# Cells


def print_table(title, columns, rows):
    print(f"\n**{title}**\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def plus_minus(values, scale=1.0, digits=1):
    values = scale * np.asarray(values, dtype=float)
    deviation = f" ± {spread(values[:, None])[0]:.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{deviation}"


def accuracies(runs, name):
    """One cell: accuracy with thinking of one model of each run."""
    return plus_minus([run.get(name, "accuracy") for run in runs], 100)


def scores(runs, name, data="test"):
    """Cells: accuracy and tokens with thinking, then thinking-free, of one model of each run."""
    cells = []
    for mode in MODES:
        cells.append(plus_minus([run.get(name, "accuracy", mode, data) for run in runs], 100))
        cells.append(plus_minus([run.get(name, "tokens", mode, data) for run in runs]))
    return cells


def costs(lines):
    """Cells: M generated tokens, TFLOP, minutes of one thread, up to one step of each run."""
    scales = {"generated_tokens": 1e-6, "flops": 1e-12, "seconds": 1 / 60}
    return [plus_minus([line[key] for line in lines], scale) for key, scale in scales.items()]


def spent(runs, name):
    """The costs up to the end of a stage."""
    return costs([[line for line in run.steps if line["stage"] == name][-1] for run in runs])


def crossing(x, y, level):
    """Where the curve y(x) first reaches the level, by straight lines; None if it never does."""
    reached = np.flatnonzero(y >= level)
    if not len(reached):
        return None
    i = reached[0]
    if i == 0:
        return x[0]
    return x[i - 1] + (level - y[i - 1]) / (y[i] - y[i - 1]) * (x[i] - x[i - 1])


def correct_shares(runs, name):
    """How often one model of each run solved each problem with thinking: (runs, problems)."""
    bits = np.array([[int(b) for b in run.get(name, "rewards")] for run in runs])
    return bits.reshape(len(runs), -1, runs[0].get(name, "k")).mean(axis=2)


def paired(runs, others, name, other):
    """The difference of two models with thinking, in points, ± its standard error over problems.

    Both answered the same problems; seeds are averaged.
    """
    first = correct_shares(runs, name).mean(axis=0)
    second = correct_shares(others, other).mean(axis=0)
    difference = 100 * (first - second)
    return f"{difference.mean():+.1f} ± {difference.std(ddof=1) / np.sqrt(len(difference)):.1f}"


# --------------------------------------------------------------------------------------------------
# Tables


def print_equal_training(tfpi, direct):
    """Table 1: TFPI against that snapshot of direct RL whose compute is nearest to TFPI's."""
    flops, accuracy = alone(direct)
    budget = np.mean([run.total_flops() for run in tfpi])
    nearest = int(np.abs(flops.mean(axis=0) - budget).argmin())
    step = direct[0].curve("accuracy")[nearest][0]
    tokens = [run.curve("tokens")[nearest][1] for run in direct]
    snapshot = [f"direct RL, {step} steps", plus_minus(accuracy[:, nearest], 100)]
    snapshot += [plus_minus(tokens), "", ""]
    snapshot += costs([run.steps[step - 1] for run in direct])
    initial = ["initial", *scores(tfpi[:1], "start"), "", "", ""]
    stages = [[f"TFPI {name}", *scores(tfpi, name), *spent(tfpi, name)] for name in STAGES]
    seeds = f"{len(tfpi)} seeds of TFPI, {len(direct)} of direct RL"
    title = f"Table 1: equal training compute ({seeds})"
    print_table(title, ["", *SCORES, *SPENT], [initial, snapshot, *stages])


def print_equal_total(tfpi, direct, rl):
    """Table 2, and what is significant in it."""
    direct_flops, _ = alone(direct)
    flops, _ = tfpi_then_rl(tfpi[0].folder.parent)
    totals = {
        "direct RL": direct_flops[:, -1],
        "TFPI": [run.total_flops() for run in tfpi],
        "TFPI, then RL": flops[:, -1],
    }
    rows = [
        [label, *scores(runs, name), plus_minus(totals[label], 1e-12)]
        for label, runs, name in last_models(tfpi, direct, rl)
    ]
    print_table("Table 2: equal total compute", ["", *SCORES, "TFLOP in all"], rows)
    print(
        "\nTFPI, then RL against direct RL at its end: "
        f"{paired(rl, direct, 'rl', 'rl')} points (± standard error over problems); "
        f"TFPI alone: {paired(tfpi, direct, 'stage3', 'rl')}."
    )


def last_models(tfpi, direct, rl):
    return [("direct RL", direct, "rl"), ("TFPI", tfpi, "stage3"), ("TFPI, then RL", rl, "rl")]


def print_catching_up(direct, flops, accuracy):
    """Where TFPI, then RL (FLOPs and accuracy, a row a seed) has what direct RL has at its end."""
    direct_flops, direct_accuracy = alone(direct)
    final = direct_accuracy[:, -1]
    whole = direct_flops[:, -1]
    means = (flops.mean(axis=0), accuracy.mean(axis=0), final.mean(), whole.mean())
    shares = []
    for x, y, level, total in (means, *zip(flops, accuracy, final, whole)):
        at = crossing(x, y, level)
        shares.append("never" if at is None else f"{at / total:.0%}")
    print(
        f"TFPI, then RL first reaches direct RL's final accuracy ({100 * final.mean():.1f} %) at "
        f"{shares[0]} of its compute; seed by seed: {', '.join(shares[1:])}."
    )


def print_hard(tfpi, direct, rl):
    models = [("initial", tfpi[:1], "start"), *last_models(tfpi, direct, rl)]
    rows = [[label, *scores(runs, name, "hard")] for label, runs, name in models]
    title = "Hard problems (four and five operations; trained on one to three)"
    print_table(title, ["", *SCORES], rows)


def print_stages(folder):
    """Table 4, and where the stages that end by themselves have ended."""
    methods = [
        ("TFPI, three stages", "tfpi", "stage3"),
        ("the last two", "last-two", "stage2"),
        ("the last alone", "last", "stage1"),
        ("multi-stage direct RL", "multistage", "stage3"),
        ("TFPI, stages that end by themselves", "auto", "stage3"),
        ("TFPI, others drawn for flat groups, 15 steps a stage", "draws", "stage3"),
    ]
    rows = []
    for label, method, name in methods:
        if runs := read_runs(folder, method):
            thought = plus_minus([run.get(name, "thought") for run in runs], 100)
            row = [label, str(len(runs)), *scores(runs, name), thought, *spent(runs, name)]
            rows.append(row)
    columns = ["", "seeds", *SCORES, "blocks with a thought (%)", *SPENT]
    print_table("Table 4: the stages", columns, rows)
    for run in read_runs(folder, "auto"):
        ends = [str(line["step"] - 1) for line in run.steps[1:] if line["stage_step"] == 1]
        print(
            f"\nseed {run.seed}, stages that end by themselves: after steps {', '.join(ends)} "
            f"and {len(run.steps)}."
        )


def print_parts(folder, tfpi, direct, rl):
    """Accuracy with thinking by level, and by family for what was trained without stories."""
    problems = load_split("test")[:TEST]
    models = [("initial", tfpi[:1], "start"), *last_models(tfpi, direct, rl)]
    title = "Test problems by the number of operations: thinking mode (%)"
    print_kinds(title, np.array([p.level for p in problems]), models)
    if transfer := read_runs(folder, "no-story"):
        models = [models[0], models[2], ("TFPI without stories", transfer, "stage3")]
        families = np.array([p.family for p in problems])
        print_kinds("Transfer: thinking mode by family (%)", families, models)


def print_kinds(title, kinds, models):
    """Accuracy with thinking by kind of problem; kinds (problems,) names each one's."""
    rows = []
    for label, runs, name in models:
        if runs:
            shares = correct_shares(runs, name)
            means = [shares[:, kinds == kind].mean(axis=1) for kind in np.unique(kinds)]
            rows.append([label, *(plus_minus(mean, 100) for mean in means)])
    columns = ["", *(f"{kind} ({(kinds == kind).sum()})" for kind in np.unique(kinds))]
    print_table(title, columns, rows)


def print_variations(folder):
    """Multi-stage direct RL against TFPI: its place depends on the task and on the model."""
    variations = {
        "": "as in Table 4",
        "-tight": "budgets 48, 64, 96",
        "-level3": "trained on three operations",
        "-checks": "a model that always checks",
    }
    rows = []
    for suffix, label in variations.items():
        start = "start-checks" if suffix == "-checks" else "start"
        tfpi = read_runs(folder, f"tfpi{suffix}", start)
        multistage = read_runs(folder, f"multistage{suffix}", start)
        if tfpi and multistage:
            rows.append([label, "initial", "", *scores(tfpi[:1], "start"), "", ""])
            for method, runs in (("TFPI", tfpi), ("multi-stage direct RL", multistage)):
                earlier = [accuracies(runs, name) for name in ("stage1", "stage2")]
                rows.append(["", method, str(len(runs)), *scores(runs, "stage3"), *earlier])
    title = "Multi-stage direct RL, where the task or the model is another"
    columns = ["", "", "seeds", *SCORES, "thinking after stage 1 (%)", "stage 2"]
    print_table(title, columns, rows)


def print_norms(norms):
    """How large the methods' updates are; norms: {method: one a seed}."""
    cells = [f"{method} {plus_minus(values, digits=2)}" for method, values in norms.items()]
    print(f"\nNorms of the whole update: {'; '.join(cells)}.")


def print_total(folder):
    finished = list(folder.glob("*/summary.json"))
    last = [read_lines(path.with_name("metrics.jsonl"))[-1] for path in finished]
    minutes = sum(line["seconds"] for line in last) / 60
    print(
        f"\n{len(finished)} runs, {minutes:.0f} minutes of one thread in all, without the "
        "evaluations."
    )
