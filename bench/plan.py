"""The plan of memory (support/plan.py) against the memory that an update really takes, on a CPU.

    python bench/plan.py

Four shapes, each in a process of its own: a random model, an optimizer, and one update of responses
of one length in one micro-batch, whose peak of resident memory, less that of the libraries, is
compared with the plan's sum. The last line is JSON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# Hidden size, layers, intermediate size, vocabulary; responses, and tokens of each.
SHAPES = {
    "wide": (1024, 4, 3072, 8192, 4, 256),
    "deep": (384, 16, 1024, 8192, 4, 256),
    "long": (512, 6, 1536, 8192, 2, 1024),
    "vocabulary": (512, 4, 1536, 65536, 4, 256),
}
# Large blocks go back to the system when they are freed, so that resident memory is what is in use.
ENVIRONMENT = os.environ | {"MALLOC_MMAP_THRESHOLD_": "262144"}


def resident():
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(name):
    """In a process of its own: prints the planned and the measured bytes of one shape."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from grpo import update
    from rollout import Rollout
    from support.config import Config
    from support.memory import measure_sizes
    from support.plan import CHOICES, Plan

    hidden, layers, middle, vocabulary, responses, length = SHAPES[name]
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=middle,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=hidden // 8,
        tie_word_embeddings=True,
    )
    tokens = responses * (length + 16)
    plan = Plan(measure_sizes(config), CHOICES[0], tokens, length + 16, responses, 0, on_gpu=False)
    planned = sum(plan.updating().values())
    libraries = resident()
    model = Qwen3ForCausalLM(config).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0)
    rollouts = []
    for i in range(responses):
        ids = [(7 * i + j) % vocabulary for j in range(length)]
        rollouts.append(Rollout([1 + i] * 16, ids, [-1.0] * length, True, advantage=(-1.0) ** i))
    options = Config(micro_tokens=tokens)
    for _ in range(2):  # the moments are made in the first
        update(model, optimizer, rollouts, options)
    measured = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - libraries
    print(json.dumps({"shape": name, "planned": planned, "measured": measured}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.shape:
        return run(args.shape)
    results = []
    print(f"{'shape':<12} {'planned':>9} {'measured':>9} {'ratio':>6}")
    for name in SHAPES:
        command = [sys.executable, __file__, "--shape", name]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        result["ratio"] = result["planned"] / result["measured"]
        results.append(result)
        planned, measured = (result[key] / 1e6 for key in ("planned", "measured"))
        print(f"{name:<12} {planned:6.0f} MB {measured:6.0f} MB {result['ratio']:6.2f}", flush=True)
    print(json.dumps({"bench": "plan", "results": results}))


if __name__ == "__main__":
    main()
