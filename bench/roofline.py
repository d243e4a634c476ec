"""How far decoding and training are from what the machine allows.

    python bench/roofline.py --model small --rows 512 --tokens 50
    python bench/roofline.py --model PATH --rows 64 --tokens 64        # SmolLM2-135M, say

    peak       FLOP/s of a large square fp32 matmul: the best of many, before and after the rest,
               since machines are noisy and a limit is a limit
    decode     a step of `rows` live rows, against its matrix products alone (same shapes, same
               weights, one after the other, nothing else), and against its FLOPs at the peak
    training   an update on `rows` responses of `tokens` tokens, against 6 FLOPs a weight and token
               at the peak (prompts that the update runs once for their group count once)

A share of 50 % means that everything else (attention, norms, sampling, the optimizer, Python) costs
as much again.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from grpo import update
from logprobs import sharing_pays
from problems import load_split
from rollout import generate
from support.config import Config, find_settings
from support.model import load_model
from thinkfree import render


def times(function, rounds):
    """Seconds of a few runs, after one that warms up."""
    measured = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        function()
        measured.append(time.perf_counter() - started)
    return measured[1:]


def seconds(function, rounds):
    return statistics.median(times(function, rounds))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="small")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    settings = find_settings(args.model)
    source, config = settings.pop("model"), Config(**settings)
    model, tokenizer, _ = load_model(source, "cpu")
    prompts = [
        tokenizer(
            render(tokenizer, p.problem, config.instruction, False), add_special_tokens=False
        )["input_ids"]
        for p in load_split("train")[: args.rows // args.group]
    ]

    square = torch.randn(2048, 2048)
    fastest = min(times(lambda: square @ square, 20))

    linears = [m.weight.detach() for m in model.modules() if isinstance(m, torch.nn.Linear)]
    inputs = {weight.shape[1]: torch.randn(args.rows, weight.shape[1]) for weight in linears}
    products = seconds(lambda: [inputs[weight.shape[1]] @ weight.T for weight in linears], 10)
    weights = sum(weight.numel() for weight in linears)

    def sample(budget):  # no stop id: every row stays live
        return generate(
            model,
            prompts,
            max_new_tokens=budget,
            stop_ids={-1},
            samples=args.group,
            slots=args.rows,
        )

    step = seconds(lambda: sample(args.tokens), args.rounds) - seconds(
        lambda: sample(1), args.rounds
    )
    step /= args.tokens - 1

    rollouts = sample(args.tokens)
    minibatch = rollouts[: len(rollouts) // config.minibatches]
    prompts_run = rollouts[:: args.group if sharing_pays(minibatch, config.micro_tokens) else 1]
    trained = sum(len(r.prompt_ids) for r in prompts_run) + sum(
        len(r.response_ids) for r in rollouts
    )
    projected = sum(
        len(r.response_ids) for r in rollouts
    )  # only response tokens reach the vocabulary
    head = model.get_output_embeddings().weight.numel()
    flops = 6 * ((weights - head) * trained + head * projected)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    for i, rollout in enumerate(rollouts):
        rollout.advantage = (-1.0) ** i
    train = seconds(lambda: update(model, optimizer, rollouts, config), args.rounds)
    peak = 2 * 2048**3 / min(fastest, *times(lambda: square @ square, 20))

    result = {
        "bench": "roofline",
        "model": args.model,
        "rows": args.rows,
        "tokens": args.tokens,
        "peak_gflops": round(peak / 1e9, 1),
        "decode_ms": round(1e3 * step, 2),
        "products_ms": round(1e3 * products, 2),
        "decode_share_of_products": round(products / step, 3),
        "decode_share_of_peak": round(2 * weights * args.rows / peak / step, 3),
        "update_seconds": round(train, 3),
        "training_share_of_peak": round(flops / peak / train, 3),
    }
    for key, value in result.items():
        print(f"{key:<26} {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
