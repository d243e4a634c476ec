"""The sampler against transformers' `generate` and its continuous batching, on the same work, side
by side in one run.

    python bench/rollout.py                    # models/small, 32 prompts x 8, both modes
    python bench/rollout.py --model PATH --prompts 8 --budget 128
    python bench/rollout.py --growth           # time and memory as requests, budget and slots grow

Each round runs all, one after the other; the table gives medians over the rounds, the last line is
JSON. All sample at temperature 1 without top-k or top-p, so their responses differ, and with them
their lengths: tokens/s counts the tokens up to each response's stop token. Memory is the peak above
the loaded model, of each sampler in a process of its own. Continuous batching (`pip install
psutil`) keeps its manager, so that only the first round, which does not count, sets it up.
"""

import argparse
import json
import logging
import multiprocessing
import statistics
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from transformers import GenerationConfig

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from problems import load_split
from rollout import generate
from support.config import Config, find_settings
from support.model import load_model
from thinkfree import render

MODES = ("thinking", "thinking_free")


def run_ours(model, prompts, stop_ids, budget, samples, seed, slots=256):
    rollouts = generate(
        model,
        prompts,
        max_new_tokens=budget,
        stop_ids=stop_ids,
        samples=samples,
        seed=seed,
        slots=slots,
    )
    return sum(len(r.response_ids) for r in rollouts)


def sampling(stop_ids, budget, samples):
    return dict(
        max_new_tokens=budget,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        num_return_sequences=samples,
        eos_token_id=sorted(stop_ids),
        pad_token_id=sorted(stop_ids)[0],
    )


def run_generate(model, prompts, stop_ids, budget, samples, seed):
    """transformers' own sampler on one left-padded batch, as its documentation has it."""
    torch.manual_seed(seed)
    longest, pad = max(map(len, prompts)), sorted(stop_ids)[0]
    ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    output = model.generate(
        input_ids=ids, attention_mask=mask, **sampling(stop_ids, budget, samples)
    )
    tokens = 0
    for row in output[:, longest:].tolist():
        stops = [i for i, token in enumerate(row) if token in stop_ids]
        tokens += stops[0] + 1 if stops else len(row)
    return tokens


def run_continuous(model, prompts, stop_ids, budget, samples, seed):
    """transformers' continuous batching over a paged cache, with room for all responses at once."""
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    torch.manual_seed(seed)
    page, requests = 64, len(prompts) * samples
    blocks = requests * (-(-(max(map(len, prompts)) + budget) // page) + 1)
    paging = ContinuousBatchingConfig(
        page_size=page,
        num_blocks=blocks,
        max_batch_tokens=max(512, requests),
        max_requests_per_batch=requests,
    )
    output = model.generate_batch(
        inputs=prompts,
        continuous_batching_config=paging,
        persistent_manager=True,
        generation_config=GenerationConfig(**sampling(stop_ids, budget, samples)),
    )
    return sum(len(result.generated_tokens) for result in output.values())


SAMPLERS = {"ours": run_ours, "generate": run_generate, "continuous": run_continuous}


def prepare(name, prompts, mode):
    """Model, stop ids and the tokens of the first prompts of the test split."""
    settings = find_settings(name)
    model, tokenizer, stop_ids = load_model(settings.pop("model"), "cpu")
    texts = [
        render(tokenizer, p.problem, Config(**settings).instruction, mode == "thinking")
        for p in load_split("test")[:prompts]
    ]
    return (
        model,
        [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts],
        stop_ids,
    )


def peak_resident():
    """MB that this process has had at most (Linux); ru_maxrss would include the parent's."""
    return (
        next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
        / 1024
    )


def peak_memory(sampler, name, prompts, mode, *options):
    """MB above the loaded model that one run of a sampler needs; call it in a fresh process."""
    silence()
    model, tokens, stop_ids = prepare(name, prompts, mode)
    model(torch.tensor([[0]]))  # what the first call of any model allocates
    before = peak_resident()
    SAMPLERS[sampler](model, tokens, stop_ids, *options)
    return peak_resident() - before


def in_fresh_process(function, *arguments):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def silence():
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # continuous batching's, at each round
    torch.set_flush_denormal(True)


def compare(args, budget):
    results = {}
    for mode in args.modes.split(","):
        model, prompts, stop_ids = prepare(args.model, args.prompts, mode)
        speeds = {name: [] for name in args.samplers.split(",")}
        for seed in range(args.rounds + 1):
            for name in list(speeds):
                started = time.perf_counter()
                try:
                    tokens = SAMPLERS[name](model, prompts, stop_ids, budget, args.samples, seed)
                except (
                    ImportError,
                    AttributeError,
                ) as missing:  # an older transformers, or no psutil
                    print(f"{name} does not run here: {missing}")
                    del speeds[name]
                    continue
                if seed:  # the first round warms up
                    speeds[name].append(tokens / (time.perf_counter() - started))
        results[mode] = {}
        for name, values in speeds.items():
            memory = in_fresh_process(
                peak_memory, name, args.model, args.prompts, mode, budget, args.samples, 1
            )
            ratio = statistics.median(ours / theirs for ours, theirs in zip(speeds["ours"], values))
            results[mode][name] = {
                "tokens_per_second": round(statistics.median(values)),
                "ours_is_faster": round(ratio, 2),
                "peak_mb": round(memory),
            }
            print(
                f"{mode:<14} {name:<11} {statistics.median(values):8.0f} tokens/s "
                f"({min(values):.0f} to {max(values):.0f})   ours is {ratio:5.2f} x   "
                f"{memory:6.0f} MB",
                flush=True,
            )
    return results


def grow(args):
    """One thing grows at a time.

    Nothing stops early but by its budget, so the work is known: requests x budget.
    """
    model, prompts, _ = prepare(args.model, args.prompts, "thinking")
    model.config.max_position_embeddings = 4096  # only a limit, where positions are rotary
    results, never = [], {-1}
    cases = (
        [("requests", requests, 128, 64) for requests in (64, 128, 256, 512, 1024)]
        + [("budget", 64, budget, 64) for budget in (64, 128, 256, 512, 1024)]
        + [("slots", 512, 64, slots) for slots in (64, 128, 256, 512)]
    )
    for what, requests, budget, slots in cases:
        times, group = [], requests // len(prompts)
        for seed in range(args.rounds + 1):
            started = time.perf_counter()
            tokens = run_ours(model, prompts, never, budget, group, seed, slots)
            times.append(time.perf_counter() - started)
        seconds = statistics.median(times[1:])
        memory = in_fresh_process(peak_growth, args.model, args.prompts, budget, group, slots)
        results.append(
            {
                "grows": what,
                "requests": requests,
                "budget": budget,
                "slots": slots,
                "tokens": tokens,
                "seconds": round(seconds, 3),
                "us_per_token": round(1e6 * seconds / tokens, 1),
                "peak_mb": round(memory),
            }
        )
        print("   ".join(f"{key} {value:>7}" for key, value in results[-1].items()), flush=True)
    return results


def peak_growth(name, prompts, budget, samples, slots):
    silence()
    model, tokens, _ = prepare(name, prompts, "thinking")
    model.config.max_position_embeddings = 4096
    model(torch.tensor([[0]]))
    before = peak_resident()
    run_ours(model, tokens, {-1}, budget, samples, 0, slots)
    return peak_resident() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="small")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--budget", type=int, help="default: the full budget of the model's preset")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--samplers", default=",".join(SAMPLERS), help="ours must be among them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--growth", action="store_true", help="how time and memory grow, instead of the comparison"
    )
    args = parser.parse_args()
    silence()
    settings = find_settings(args.model)
    budget = args.budget or Config(**settings).full_budget
    print(
        f"{args.model}, {args.prompts} prompts x {args.samples}, budget {budget}, "
        f"{torch.get_num_threads()} threads, "
        f"medians of {args.rounds}"
    )
    results = {"growth": grow(args)} if args.growth else compare(args, budget)
    print(
        json.dumps(
            {
                "bench": "rollout",
                "model": args.model,
                "prompts": args.prompts,
                "samples": args.samples,
                "budget": budget,
                **results,
            }
        )
    )


if __name__ == "__main__":
    main()
