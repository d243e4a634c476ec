"""Our log-prob kernels against their peers: policy loss and gradients from hidden states.

    python -m venv peers
    peers/bin/pip install torch==2.13.0 "transformers>=5.17,<6" trl mpmath tqdm
    peers/bin/pip install --no-deps liger-kernel cut-cross-entropy triton
    python bench/logprob.py --peer-python peers/bin/python
    python bench/logprob.py --peer-python peers/bin/python --growth  # and ours at 2 N, and at 2 V
    python bench/logprob.py --tokens 256 --vocab 20000 --hidden 64   # quick; names missing peers

Every variant does the same work in fp32 on the CPU: hidden (N, H), head (V, H) and targets (N,) in;
DAPO's clipped loss and its gradients to hidden and head out. Each call is in a new process, after
one on few tokens that loads the libraries and compiles what is compiled; the variants take turns.
`extra` is the peak of resident memory during the call, less what was resident before it (the inputs
among it), less the two gradients, which all must return (Linux: the kernel's own high-water mark,
reset before the call). Errors are against float64: the largest of the log-probs, and
norm(difference) / norm(truth) of the gradients, the head's over a sample of its rows, the targets'
among them. The last line is JSON.
"""

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from variants import CLIP, SEQUENCES, VARIANTS

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
# torch, and what needs it, is imported in functions: the parent must stay small, since a process
# starts with its parent's peak of memory as its own.

# --------------------------------------------------------------------------------------------------
# One call, in a process of its own


def make_inputs(args):
    """hidden, head and a batch; targets have log-probs around -4, as sampled tokens would have."""
    import torch

    generator = torch.Generator().manual_seed(0)
    head = torch.randn(args.vocab, args.hidden, generator=generator).div_(args.hidden**0.5)
    targets = torch.randint(args.vocab, (args.tokens,), generator=generator)
    noise = torch.randn(args.tokens, args.hidden, generator=generator)
    hidden = 2 * noise + 10 * head[targets]  # without the targets' rows around -14
    advantages = torch.randn(SEQUENCES, generator=generator)
    batch = {
        "targets": targets,
        "advantages": advantages.repeat_interleave(args.tokens // SEQUENCES),
        "weights": torch.full((args.tokens,), 1 / args.tokens),
        # How far the old log-probs are: ratios spread around 1, so that some are clipped.
        "noise": torch.randn(args.tokens, generator=generator) / 5,
    }
    return hidden, head, batch


def make_reference(args):
    """Saves the truth in args.reference: float64, 64 tokens at a time, some rows of the head's."""
    import torch

    from grpo import policy_loss

    hidden, head, batch = make_inputs(args)
    hidden = hidden.double()
    head = head.double()
    rows = torch.cat([batch["targets"], torch.arange(0, args.vocab, 64)]).unique()
    parts = {"loss": [], "logprobs": [], "old": [], "hidden": []}
    grad_head = hidden.new_zeros(len(rows), args.hidden)
    for part in torch.arange(args.tokens).split(64):
        targets = batch["targets"][part, None]
        every = (hidden[part] @ head.T).log_softmax(dim=-1)
        chosen = every.gather(1, targets)[:, 0].requires_grad_()
        old = (chosen.detach() + batch["noise"][part]).float()  # as the variants get it
        constants = [old, batch["advantages"][part], batch["weights"][part]]
        loss, _ = policy_loss(chosen, *(values.double() for values in constants), *CLIP)
        loss.backward()
        grad = chosen.grad[:, None]
        grad_logits = every.exp_().mul_(-grad).scatter_add_(1, targets, grad)
        grad_head += grad_logits[:, rows].T @ hidden[part]
        parts["loss"].append(loss.detach()[None])
        parts["logprobs"].append(chosen.detach())
        parts["old"].append(old)
        parts["hidden"].append(grad_logits @ head)
    truth = {name: torch.cat(values) for name, values in parts.items()}
    torch.save(truth | {"rows": rows, "head": grad_head}, args.reference)


def memory(name):
    """VmRSS (resident now) or VmHWM (its high-water mark) of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(name + ":")[1].split()[0]) * 1024 / 1e6


def relative_error(value, truth):
    return ((value.double() - truth).norm() / truth.norm()).item()


def warm_up(function, hidden, head, batch):
    """A call on the first tokens of each sequence, 24 in all, and its memory given back.

    Not more: torch.compile would take a number of tokens equal to H for H, and compile again in the
    timed call.
    """
    import torch

    rows = torch.arange(len(hidden)).view(SEQUENCES, -1)[:, :3].flatten()
    few = {name: values[rows] for name, values in batch.items()}
    function(hidden[rows].requires_grad_(), head, few)
    head.grad = None
    gc.collect()
    # Or what the call has freed would be taken for resident inputs.
    ctypes.CDLL(None).malloc_trim(0)


def call(args):
    """One timed call of args.variant; its last line is JSON."""
    import torch

    torch.set_num_threads(args.threads)
    function, install = VARIANTS[args.variant]
    truth = torch.load(args.reference, weights_only=True)
    hidden, head, batch = make_inputs(args)
    batch["old"] = truth["old"]
    head.requires_grad_()
    try:
        warm_up(function, hidden, head, batch)
    except ImportError as error:
        print(json.dumps({"missing": f"not installed ({error}): pip install {install}"}))
        return
    hidden.requires_grad_()
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = memory("VmRSS")
    started = time.perf_counter()
    loss, logprobs = function(hidden, head, batch)
    result = {"seconds": time.perf_counter() - started}
    gradients = (hidden.grad.nbytes + head.grad.nbytes) / 1e6
    result["extra_mb"] = memory("VmHWM") - before - gradients
    result["gradients_mb"] = gradients
    result["loss_error"] = abs(loss.item() - truth["loss"].sum().item())
    if logprobs is not None:
        result["logprob_error"] = (logprobs.detach() - truth["logprobs"]).abs().max().item()
    result["hidden_error"] = relative_error(hidden.grad, truth["hidden"])
    result["head_error"] = relative_error(head.grad[truth["rows"]], truth["head"])
    print(json.dumps(result))


# --------------------------------------------------------------------------------------------------
# The parent


def start(args, worker, **replaced):
    """Runs one worker in a new process: what it prints, or {"missing": why there is nothing}."""
    options = vars(args) | replaced | {"worker": worker}
    del options["growth"]
    command = [args.peer_python, __file__]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    threads = {name: str(args.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return {"missing": f"failed: {why[:150]}"}
    return json.loads(done.stdout.splitlines()[-1]) if worker == "call" else {}


def compare(args, names):
    """Rounds of the variants, in turns, on one problem: {name: medians, or why there are none}."""
    results = {name: [] for name in names}
    missing = {}
    with tempfile.TemporaryDirectory() as folder:
        reference = str(Path(folder) / "reference.pt")
        if failed := start(args, "reference", reference=reference):
            sys.exit(f"the float64 reference {failed['missing']}")
        for number in range(args.rounds):
            times = []
            for name in [name for name in names if name not in missing]:
                result = start(args, "call", variant=name, reference=reference)
                if "missing" in result:
                    missing[name] = result
                else:
                    results[name].append(result)
                    times.append(f"{name} {result['seconds']:.2f}")
            print(f"round {number + 1} of {args.rounds}, seconds: {', '.join(times)}", flush=True)
    return {name: missing.get(name) or medians(values) for name, values in results.items()}


def medians(results):
    """The medians over a variant's calls; of time and memory the least and the most as well."""
    row = {key: statistics.median(result[key] for result in results) for key in results[0]}
    for key in ("seconds", "extra_mb"):
        row[f"{key}_least"] = min(result[key] for result in results)
        row[f"{key}_most"] = max(result[key] for result in results)
    return row


def print_table(table):
    print(
        f"\n{'':<27}{'seconds':>9}{'x naive':>9}{'extra MB':>10}{'(least, most)':>17}"
        f"{'log-prob err':>14}{'d hidden':>10}{'d head':>10}{'loss err':>10}"
    )
    for name, row in table.items():
        if "missing" in row:
            print(f"{name:<27}{row['missing']}")
            continue
        least_most = f"({row['extra_mb_least']:.0f}, {row['extra_mb_most']:.0f})"
        error = f"{row['logprob_error']:.1e}" if "logprob_error" in row else "-"
        ratio = row["seconds"] / table["naive"]["seconds"]
        print(
            f"{name:<27}{row['seconds']:9.2f}{ratio:9.2f}{row['extra_mb']:10.0f}{least_most:>17}"
            f"{error:>14}{row['hidden_error']:10.1e}{row['head_error']:10.1e}"
            f"{row['loss_error']:10.1e}"
        )


def measure_growth(args, table):
    """Seconds and extra memory of ours at twice the tokens, then vocabulary, as ratios."""
    names = [name for name in VARIANTS if "ours" in name and "missing" not in table[name]]
    growth = {}
    for what in ("tokens", "vocab"):
        print(f"\ntwice the {what}:", flush=True)
        twice = argparse.Namespace(**vars(args) | {what: 2 * getattr(args, what)})
        growth[what] = {}
        for name, row in compare(twice, names).items():
            seconds = row["seconds"] / table[name]["seconds"]
            extra = row["extra_mb"] / table[name]["extra_mb"]
            growth[what][name] = {"seconds": seconds, "extra_mb": extra}
            print(f"{name:<27}{seconds:.2f} x the seconds, {extra:.2f} x the extra memory")
    return growth


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    peers = "python of an environment with the peers (default: this one)"
    add("--peer-python", default=sys.executable, help=peers)
    add("--tokens", type=int, default=2048, help=f"N, a multiple of {SEQUENCES}")
    add("--hidden", type=int, default=1024, help="H")
    add("--vocab", type=int, default=151936, help="V")
    add("--rounds", type=int, default=5)
    add("--threads", type=int, default=2)
    add("--growth", action="store_true", help="also ours at 2 N and at 2 V")
    add("--worker", choices=("reference", "call"), help=argparse.SUPPRESS)
    add("--variant", default="naive", help=argparse.SUPPRESS)
    add("--reference", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tokens < SEQUENCES or args.tokens % SEQUENCES:
        parser.error(f"--tokens {args.tokens} is not a multiple of {SEQUENCES}.")
    return args


def main():
    args = parse_arguments()
    if args.worker:
        return make_reference(args) if args.worker == "reference" else call(args)
    print(
        f"N = {args.tokens}, H = {args.hidden}, V = {args.vocab}, fp32, {args.threads} threads, "
        f"medians of {args.rounds}",
        flush=True,
    )
    table = compare(args, list(VARIANTS))
    print_table(table)
    growth = measure_growth(args, table) if args.growth else {}
    result = {"bench": "logprob", "tokens": args.tokens, "hidden": args.hidden}
    result |= {"vocab": args.vocab, "threads": args.threads, "rounds": args.rounds}
    print(json.dumps(result | {"variants": table, "growth": growth}))


if __name__ == "__main__":
    main()
