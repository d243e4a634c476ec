"""What bench/paper.py --report prints: the paper's tables in miniature, as Markdown, from the runs in runs/paper.

Numbers are means over seeds, ± one standard deviation over seeds. Compute is tfpi.py's count (2 FLOPs a weight and
token sampled, 6 a weight and token trained, validation not counted); the same for every method.
"""

import json
import sys

import numpy as np
import torch
from safetensors.torch import load_file

from eval import MODES
from support.plot import alone, read_lines, read_runs, spread, tfpi_then_rl


def plus_minus(values, scale=1.0, digits=1):
    values = scale * np.asarray(values, dtype=float)
    deviation = f" ± {spread(values[:, None])[0]:.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{deviation}"


def table(title, columns, rows):
    print(f"\n**{title}**\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def scores(runs, name, data="test"):
    """Cells: accuracy and tokens with thinking, then thinking-free, of one model of each run."""
    return [
        plus_minus([run.get(name, key, mode, data) for run in runs], scale)
        for mode in MODES
        for key, scale in (("accuracy", 100), ("tokens", 1))
    ]


def costs(lines):
    """Cells: million generated tokens, TFLOP, and minutes of one thread, up to one step of each run."""
    return [
        plus_minus([line[key] for line in lines], scale)
        for key, scale in (("generated_tokens", 1e-6), ("flops", 1e-12), ("seconds", 1 / 60))
    ]


def spent(runs, name):
    """The costs up to the end of a stage."""
    return costs([[line for line in run.steps if line["stage"] == name][-1] for run in runs])


def crossing(x, y, level):
    """Where the curve y(x) first reaches the level, between two points by a straight line; None if it never does."""
    for i in np.flatnonzero(y >= level)[:1]:
        return (
            x[0]
            if i == 0
            else x[i - 1] + (level - y[i - 1]) / (y[i] - y[i - 1]) * (x[i] - x[i - 1])
        )


def paired(runs, others, name, other):
    """The difference of two models in thinking mode, in points, and its standard error over problems, seeds averaged."""

    def correct(runs, name):
        bits = np.array([[int(b) for b in run.get(name, "rewards")] for run in runs])
        return bits.reshape(len(runs), -1, runs[0].get(name, "k")).mean(axis=(0, 2))  # (problems,)

    difference = 100 * (correct(runs, name) - correct(others, other))
    return f"{difference.mean():+.1f} ± {difference.std(ddof=1) / np.sqrt(len(difference)):.1f}"


SCORES = ["thinking (%)", "tokens", "thinking-free (%)", "tokens"]
SPENT = ["generated, M tokens", "TFLOP", "minutes"]


def print_equal_compute(tfpi, direct, rl):
    budget = np.mean([run.flops(len(run.steps)) for run in tfpi])
    x, y = alone(direct)
    at = int(
        np.abs(x.mean(axis=0) - budget).argmin()
    )  # the snapshot that has had as much, or nearly
    step = direct[0].curve("accuracy")[at][0]
    tokens = [run.curve("tokens")[at][1] for run in direct]
    table(
        f"Table 1: equal training compute ({len(tfpi)} seeds of TFPI, {len(direct)} of direct RL)",
        ["", *SCORES, *SPENT],
        [
            ["initial", *scores(tfpi[:1], "start"), "", "", ""],
            [
                f"direct RL, {step} steps",
                plus_minus(y[:, at], 100),
                plus_minus(tokens),
                "",
                "",
                *costs([run.steps[step - 1] for run in direct]),
            ],
        ]
        + [
            [f"TFPI {name}", *scores(tfpi, name), *spent(tfpi, name)]
            for name in ("stage1", "stage2", "stage3")
        ],
    )
    if not rl:
        return
    tx, ty = tfpi_then_rl(tfpi[0].folder.parent)
    table(
        "Table 2: equal total compute",
        ["", *SCORES, "TFLOP in all"],
        [
            ["direct RL", *scores(direct, "rl"), plus_minus(x[:, -1], 1e-12)],
            [
                "TFPI",
                *scores(tfpi, "stage3"),
                plus_minus([run.flops(len(run.steps)) for run in tfpi], 1e-12),
            ],
            ["TFPI, then RL", *scores(rl, "rl"), plus_minus(tx[:, -1], 1e-12)],
        ],
    )
    print(
        f"\nTFPI, then RL against direct RL at its end: {paired(rl, direct, 'rl', 'rl')} points (± standard error over problems); "
        f"TFPI alone: {paired(tfpi, direct, 'stage3', 'rl')}."
    )
    final, spent_in_all = y[:, -1], x[:, -1]
    curves = [
        (tx.mean(axis=0), ty.mean(axis=0), final.mean(), spent_in_all.mean()),
        *zip(tx, ty, final, spent_in_all),
    ]
    shares = [
        f"{at / whole:.0%}" if (at := crossing(a, b, level)) is not None else "never"
        for a, b, level, whole in curves
    ]
    print(
        f"TFPI, then RL first reaches direct RL's final accuracy ({100 * final.mean():.1f} %) at {shares[0]} of its compute; "
        f"seed by seed: {', '.join(shares[1:])}."
    )
    table(
        "Hard problems (four and five operations; trained on one to three)",
        ["", *SCORES],
        [["initial", *scores(tfpi[:1], "start", "hard")]]
        + [
            [label, *scores(runs, name, "hard")]
            for label, runs, name in (
                ("direct RL", direct, "rl"),
                ("TFPI", tfpi, "stage3"),
                ("TFPI, then RL", rl, "rl"),
            )
        ],
    )


def print_stages(folder):
    rows = [
        ("TFPI, three stages", "tfpi", "stage3"),
        ("the last two", "last-two", "stage2"),
        ("the last alone", "last", "stage1"),
        ("multi-stage direct RL", "multistage", "stage3"),
        ("TFPI, stages that end by themselves", "auto", "stage3"),
    ]
    rows = [(label, read_runs(folder, method), name) for label, method, name in rows]
    table(
        "Table 4: the stages",
        ["", "seeds", *SCORES, "blocks with a thought (%)", *SPENT],
        [
            [
                label,
                str(len(runs)),
                *scores(runs, name),
                plus_minus([run.get(name, "thought") for run in runs], 100),
                *spent(runs, name),
            ]
            for label, runs, name in rows
            if runs
        ],
    )
    for run in read_runs(folder, "auto"):
        ends = [line["step"] - 1 for line in run.steps[1:] if line["stage_step"] == 1]
        print(
            f"\nseed {run.seed}, stages that end by themselves: after steps {', '.join(map(str, ends))} and {len(run.steps)}."
        )


def print_parts(folder, tfpi, direct, rl):
    """Accuracy in thinking mode by level, and by family for what was trained without stories."""
    from paper import TEST

    from problems import load_split

    def parts(runs, name, kinds):
        bits = (
            np.array([[int(b) for b in run.get(name, "rewards")] for run in runs])
            .reshape(len(runs), TEST, -1)
            .mean(axis=2)
        )
        return [plus_minus(bits[:, kinds == kind].mean(axis=1), 100) for kind in np.unique(kinds)]

    problems = load_split("test")[:TEST]
    levels, families = (
        np.array([getattr(p, key) for p in problems]) for key in ("level", "family")
    )
    methods = [
        ("initial", tfpi[:1], "start"),
        ("direct RL", direct, "rl"),
        ("TFPI", tfpi, "stage3"),
        ("TFPI, then RL", rl, "rl"),
    ]
    table(
        "Test problems by the number of operations: thinking mode (%)",
        ["", *(f"{l} ({(levels == l).sum()})" for l in np.unique(levels))],
        [[label, *parts(runs, name, levels)] for label, runs, name in methods if runs],
    )
    if transfer := read_runs(folder, "no-story"):
        table(
            "Transfer: thinking mode by family (%)",
            ["", *(f"{f} ({(families == f).sum()})" for f in np.unique(families))],
            [
                [label, *parts(runs, name, families)]
                for label, runs, name in (
                    methods[0],
                    methods[2],
                    ("TFPI without stories", transfer, "stage3"),
                )
            ],
        )


def print_variations(folder):
    names = {
        "": "as in Table 4",
        "-tight": "budgets 48, 64, 96",
        "-level3": "trained on three operations",
        "-checks": "a model that always checks",
    }
    rows = []
    for suffix, label in names.items():
        start = "start-checks" if suffix == "-checks" else "start"
        runs = [
            (method, read_runs(folder, f"{key}{suffix}", start))
            for key, method in (("tfpi", "TFPI"), ("multistage", "multi-stage direct RL"))
        ]
        if all(found for _, found in runs):
            rows.append([label, "initial", "", *scores(runs[0][1][:1], "start"), "", ""])
            rows += [
                [
                    "",
                    method,
                    str(len(found)),
                    *scores(found, "stage3"),
                    *(
                        plus_minus([run.get(name, "accuracy") for run in found], 100)
                        for name in ("stage1", "stage2")
                    ),
                ]
                for method, found in runs
            ]
    table(
        "Multi-stage direct RL, where the task or the model is another",
        ["", "", "seeds", *SCORES, "thinking after stage 1 (%)", "stage 2"],
        rows,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Figure 4


def weights_of(folder):
    """{layer: its weights, one vector, fp32}: the embedding, each block, and the last norm."""
    layers = {}
    for name, tensor in sorted(load_file(folder / "model.safetensors").items()):
        parts = name.split(".")
        layer = (
            f"block {parts[2]}"
            if parts[1] == "layers"
            else parts[1].replace("embed_tokens", "embedding")
        )
        layers.setdefault(layer, []).append(tensor.float().flatten())
    return {layer: torch.cat(tensors) for layer, tensors in layers.items()}


def write_directions(folder, small):
    """directions.json: the first two principal components of the kept models' updates, and cosines layer by layer.

    Of the seeds that direct RL and TFPI have in common. Prints how large the updates are.
    """
    from paper import kept_models

    start = weights_of(small)
    layers = sorted(start, key=lambda layer: (layer != "embedding", layer == "norm", layer))

    def update(path, before=start):
        now = weights_of(path)
        return {layer: now[layer] - before[layer] for layer in layers}

    def flat(change):
        return torch.cat([change[layer] for layer in layers])

    methods = {
        method: {run.seed: run for run in read_runs(folder, method)}
        for method in ("direct", "tfpi", "tfpi-rl", "multistage")
    }
    seeds = sorted(methods["direct"].keys() & methods["tfpi"].keys())
    models = {
        (way, seed): [
            flat(update(path))
            for method in parts
            if seed in methods[method]
            for _, path, _ in kept_models(methods[method][seed].folder)
        ]
        for way, parts in (("direct", ["direct"]), ("tfpi", ["tfpi", "tfpi-rl"]))
        for seed in seeds
    }
    stacked = torch.stack(
        [torch.zeros(len(flat(start))), *(model for path in models.values() for model in path)]
    )  # (models, weights)
    centred = stacked - stacked.mean(dim=0)
    values, vectors = torch.linalg.eigh(
        centred @ centred.T
    )  # of the Gram matrix: few models, many weights
    points = (vectors * values.clamp(min=0).sqrt())[:, [-1, -2]]
    rest = iter((points - points[0]).tolist()[1:])  # the initial model is the origin
    paths = {}
    for (way, _), path in models.items():
        paths.setdefault(way, []).append([[0.0, 0.0], *(next(rest) for _ in path)])

    def cosines(a, b):
        return [
            float(torch.nn.functional.cosine_similarity(a[layer], b[layer], dim=0))
            for layer in layers
        ]

    ends = [update(methods["direct"][seed].folder / "rl") for seed in seeds]
    rows = {}
    for stage in (1, 2, 3):
        folders = [methods["tfpi"][seed].folder for seed in seeds]
        befores = [
            weights_of(path / f"stage{stage - 1}") if stage > 1 else start for path in folders
        ]
        rows[f"TFPI stage {stage}"] = [
            cosines(update(path / f"stage{stage}", before), end)
            for path, before, end in zip(folders, befores, ends)
        ]
    if len(seeds) > 1:
        rows["direct RL, another seed"] = [cosines(end, ends[i - 1]) for i, end in enumerate(ends)]
    result = {
        "paths": paths,
        "explained": (values[[-1, -2]] / values.sum()).tolist(),
        "layers": layers,
        "cosines": rows,
    }
    (folder / "directions.json").write_text(json.dumps(result))
    print(
        "\nNorms of the whole update: "
        + "; ".join(
            f"{method} {plus_minus([flat(update(run.folder / end)).norm() for run in methods[method].values()], digits=2)}"
            for method, end in (("direct", "rl"), ("tfpi", "stage3"), ("multistage", "stage3"))
            if methods[method]
        )
        + "."
    )


def report(folder, small):
    tfpi, direct, rl = (read_runs(folder, method) for method in ("tfpi", "direct", "tfpi-rl"))
    if not (tfpi and direct):
        sys.exit(
            f"paper: no finished runs of tfpi and direct in {folder}. Leave out --report to make them."
        )
    print_equal_compute(tfpi, direct, rl)
    print_stages(folder)
    print_parts(folder, tfpi, direct, rl)
    print_variations(folder)
    write_directions(folder, small)
    finished = list(folder.glob("*/summary.json"))
    minutes = (
        sum(read_lines(path.with_name("metrics.jsonl"))[-1]["seconds"] for path in finished) / 60
    )
    print(
        f"\n{len(finished)} runs, {minutes:.0f} minutes of one thread in all, without the evaluations."
    )
