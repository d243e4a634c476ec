"""Figure 4: where the kept models of bench/paper.py lie, and how their updates point.

An update is what training has added to the weights of the model before it. Written as
directions.json beside the runs, from which figures.py draws.
"""

import json

import torch
from safetensors.torch import load_file

# isort: split
from runs import kept_models, read_runs


def write_directions(folder, small):
    """Writes directions.json, of the seeds that direct RL and TFPI have in common.

    small: the model before training. Returns how large the whole updates are: {method: one norm a
    seed}, of all seeds.
    """
    names = ("direct", "tfpi", "tfpi-rl", "multistage")
    folders = {m: {run.seed: run.folder for run in read_runs(folder, m)} for m in names}
    seeds = sorted(folders["direct"].keys() & folders["tfpi"].keys())
    start = weights_of(small)
    paths, explained = paths_in_the_plane(start, folders, seeds)
    result = {
        "paths": paths,
        "explained": explained,
        "layers": list(start),
        "cosines": cosines_by_layer(start, folders, seeds),
    }
    (folder / "directions.json").write_text(json.dumps(result))
    norms = {}
    for method, end in (("direct", "rl"), ("tfpi", "stage3"), ("multistage", "stage3")):
        if folders[method]:
            ends = [run / end for run in folders[method].values()]
            norms[method] = [flat(update(path, start)).norm().item() for path in ends]
    return norms


def weights_of(folder):
    """{layer: its weights, one vector, fp32}: the embedding, each block, and the last norm."""
    layers = {}
    for name, tensor in sorted(load_file(folder / "model.safetensors").items()):
        _, part, *rest = name.split(".")
        layer = f"block {rest[0]}" if part == "layers" else part
        layer = layer.replace("embed_tokens", "embedding")
        layers.setdefault(layer, []).append(tensor.float().flatten())
    order = sorted(layers, key=lambda layer: (layer != "embedding", layer == "norm", layer))
    return {layer: torch.cat(layers[layer]) for layer in order}


def update(folder, before):
    """{layer: how far the model in the folder is from the weights before}."""
    return {layer: weights - before[layer] for layer, weights in weights_of(folder).items()}


def flat(change):
    return torch.cat(list(change.values()))


def paths_in_the_plane(start, folders, seeds):
    """{way: a path a seed, [[x, y]] from the initial model on}, and the variance that x and y have.

    x and y are the first two principal components of all models that were kept.
    """
    ways = {"direct": ["direct"], "tfpi": ["tfpi", "tfpi-rl"]}
    updates = {}
    for way, methods in ways.items():
        for seed in seeds:
            parts = [folders[method][seed] for method in methods if seed in folders[method]]
            kept = [path for part in parts for _, path, _ in kept_models(part)]
            updates[way, seed] = [flat(update(path, start)) for path in kept]
    initial = torch.zeros_like(flat(start))
    models = torch.stack([initial, *sum(updates.values(), [])])  # (models, weights)
    points, explained = principal_components(models)
    points -= points[0].clone()
    rest = iter(points[1:].tolist())
    paths = {way: [] for way in ways}
    for (way, _), models in updates.items():
        paths[way].append([[0.0, 0.0], *(next(rest) for _ in models)])
    return paths, explained


def principal_components(vectors):
    """The first two of vectors (N, D): coordinates (N, 2), and the shares of the variance."""
    centred = vectors - vectors.mean(dim=0)
    # Of the Gram matrix, which is small: there are few models of many weights.
    values, directions = torch.linalg.eigh(centred @ centred.T)
    points = directions * values.clamp(min=0).sqrt()
    return points[:, [-1, -2]], (values[[-1, -2]] / values.sum()).tolist()


def cosines_by_layer(start, folders, seeds):
    """{what: for each seed its cosine with direct RL's update, layer by layer}."""
    ends = [update(folders["direct"][seed] / "rl", start) for seed in seeds]
    cosines = {}
    for stage in (1, 2, 3):
        rows = []
        for seed, end in zip(seeds, ends):
            folder = folders["tfpi"][seed]
            before = weights_of(folder / f"stage{stage - 1}") if stage > 1 else start
            rows.append(cosine(update(folder / f"stage{stage}", before), end))
        cosines[f"TFPI stage {stage}"] = rows
    if len(seeds) > 1:
        pairs = zip(ends, [ends[-1], *ends])
        cosines["direct RL, another seed"] = [cosine(end, other) for end, other in pairs]
    return cosines


def cosine(first, second):
    similarity = torch.nn.functional.cosine_similarity
    return [similarity(first[layer], second[layer], dim=0).item() for layer in first]
