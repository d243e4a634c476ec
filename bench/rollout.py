"""The sampler against `model.generate`, on the same prompts, budgets and temperature, side by side in one run.

    python bench/rollout.py                    # models/small, 32 prompts x 8, thinking and thinking-free
    python bench/rollout.py --model PATH --prompts 8 --budget 128

Each round runs both, one after the other; the table gives the median tokens/s over the rounds, the last line is JSON. Both
sample at temperature 1 without top-k or top-p, so their responses differ, and with them their lengths: tokens/s counts the
tokens up to each response's stop token.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from problems import load_split
from rollout import generate, load_model
from run import Config, find_settings
from tfpi import render


def run_ours(model, prompts, stop_ids, budget, samples, seed):
    rollouts = generate(model, prompts, max_new_tokens=budget, stop_ids=stop_ids, samples=samples, seed=seed)
    return sum(len(r.response_ids) for r in rollouts)


def run_generate(model, prompts, stop_ids, budget, samples, seed):
    """transformers' own sampler on one left-padded batch, as its documentation has it."""
    torch.manual_seed(seed)
    longest, pad = max(map(len, prompts)), sorted(stop_ids)[0]
    ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    output = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=budget, do_sample=True, temperature=1.0,
                            top_k=0, top_p=1.0, num_return_sequences=samples, eos_token_id=sorted(stop_ids),
                            pad_token_id=pad)
    tokens = 0
    for row in output[:, longest:].tolist():
        stops = [i for i, token in enumerate(row) if token in stop_ids]
        tokens += stops[0] + 1 if stops else len(row)
    return tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="small")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--budget", type=int, help="default: the full budget of the model's preset")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    settings = find_settings(args.model)
    source, config = settings.pop("model"), Config(**settings)
    torch.set_flush_denormal(True)
    model, tokenizer, stop_ids = load_model(source, "cpu")
    budget, results = args.budget or config.full_budget, {}
    print(f"{args.model}, {args.prompts} prompts x {args.samples}, budget {budget}, {torch.get_num_threads()} threads, "
          f"medians of {args.rounds}")
    for mode in ("thinking", "thinking_free"):
        problems = load_split("test")[:args.prompts]
        texts = [render(tokenizer, p.problem, config.instruction, mode == "thinking") for p in problems]
        prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        speeds = {"ours": [], "generate": []}
        for seed in range(args.rounds + 1):
            for name, sampler in (("ours", run_ours), ("generate", run_generate)):
                started = time.perf_counter()
                tokens = sampler(model, prompts, stop_ids, budget, args.samples, seed)
                if seed:  # the first round warms up
                    speeds[name].append(tokens / (time.perf_counter() - started))
        results[mode] = {name: statistics.median(values) for name, values in speeds.items()}
        results[mode]["ratio"] = statistics.median(a / b for a, b in zip(speeds["ours"], speeds["generate"]))
        print(f"{mode:<14} ours {results[mode]['ours']:8.0f} tokens/s   generate {results[mode]['generate']:8.0f} tokens/s   "
              f"{results[mode]['ratio']:.1f} x")
    print(json.dumps({"bench": "rollout", "model": args.model, "prompts": args.prompts, "samples": args.samples,
                      "budget": budget, **results}))


if __name__ == "__main__":
    main()
