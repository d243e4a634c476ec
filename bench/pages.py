"""What a bound on the sampler's keys costs: the same requests with all the room, and with less.

    python bench/pages.py                # models/small, 1,024 requests, 5 rounds

Two workloads of thinking prompts: as the model writes them, and with forced lengths, of which the
longest is 20 times the mean (uniforms beyond 1 are drawn as the stop token). The bound is a share
of what slots of full length would take (256 times the longest prompt with its budget). Rounds go
through all bounds in turn; the table gives medians and the most keys that were in use, the last
line is JSON.
"""

import argparse
import json
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import rollout
from cache import PAGE, PagePool
from problems import load_split
from support.model import load_model
from thinkfree import render_all

SLOTS = 256
SHARES = (None, 1 / 3, 1 / 6, 1 / 12)
REQUESTS = 1024
SAMPLES = 8


def force_lengths(requests, longest, mean):
    """Lengths (requests,) with a heavy tail, the longest and the mean as asked for."""
    quantiles = (np.arange(requests) + 0.5) / requests
    low, high = 0.0, 10.0
    for _ in range(60):  # the more skewed, the smaller the mean beside the longest
        skew = (low + high) / 2
        lengths = np.maximum(1, longest * quantiles ** np.exp(skew)).astype(int)
        low, high = (skew, high) if lengths.mean() > mean else (low, skew)
    lengths[-1] = longest
    return np.random.default_rng(0).permutation(lengths)


def forced_uniforms(lengths, draw, seed, index, count):
    uniforms = draw(seed, index, count)
    uniforms[lengths[index] - 1] = 2
    return uniforms


def forced_draw(draw, stop, logits, uniforms, *args, **options):
    tokens, logprobs = draw(logits, uniforms.clamp(max=0.999), *args, **options)
    # No stop token of its own before its time.
    tokens = torch.where(uniforms > 1, stop, torch.where(tokens == stop, stop + 1, tokens))
    return tokens, logprobs


class Watched(PagePool):
    """A pool that notes down the most pages in use."""

    most = 0

    def step(self, *args):
        Watched.most = max(Watched.most, self.used)
        return super().step(*args)


def sample(model, prompts, stop_ids, budget, keys):
    """Seconds, and the responses' lengths."""
    started = time.monotonic()
    options = {"stop_ids": stop_ids, "samples": SAMPLES, "slots": SLOTS, "keys": keys}
    found = rollout.generate(model, prompts, max_new_tokens=budget, **options)
    return time.monotonic() - started, [len(r.response_ids) for r in found]


def compare(name, model, prompts, stop_ids, budget, rounds):
    """A row for each bound: medians over the rounds, after one that does not count."""
    whole = SLOTS * (max(map(len, prompts)) + budget)
    bounds = {share: share and int(share * whole) for share in SHARES}
    seconds = {share: [] for share in SHARES}
    most = {}
    for _ in range(1 + rounds):
        for share, keys in bounds.items():
            Watched.most = 0
            taken, lengths = sample(model, prompts, stop_ids, budget, keys)
            seconds[share].append(taken)
            most[share] = Watched.most * PAGE
            assert keys is None or most[share] <= keys
    rows = []
    for share, found in seconds.items():
        ratios = [a / b for a, b in zip(found[1:], seconds[None][1:])]
        row = {"workload": name, "longest / mean": max(lengths) / np.mean(lengths)}
        row |= {"bound": share or 1, "most keys": most[share] / whole}
        row |= {"seconds": statistics.median(found[1:]), "times": statistics.median(ratios)}
        rows.append({key: v if key == "workload" else float(f"{v:.3g}") for key, v in row.items()})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    root = Path(__file__).resolve().parent.parent
    model, tokenizer, stop_ids = load_model(str(root / "models/small"), "cpu")
    texts = render_all(tokenizer, load_split("train")[: REQUESTS // SAMPLES], "", True)
    prompts = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    rollout.PagePool = Watched
    rows = compare("as written", model, prompts, stop_ids, 640, args.rounds)
    lengths = force_lengths(REQUESTS, 900, 45)
    rollout.draw_uniforms = partial(forced_uniforms, lengths, rollout.draw_uniforms)
    rollout.sample_tokens = partial(forced_draw, rollout.sample_tokens, min(stop_ids))
    rows += compare("longest 20 x mean", model, prompts, stop_ids, 900, args.rounds)
    print("  ".join(f"{key:>18}" for key in rows[0]))
    for row in rows:
        print("  ".join(f"{value:>18}" for value in row.values()))
    print(json.dumps({"bench": "pages", "threads": torch.get_num_threads(), "rows": rows}))


if __name__ == "__main__":
    main()
