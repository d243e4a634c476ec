"""Our log-prob kernels against their peers: the policy loss and its gradients from hidden states,
side by side.

    python -m venv peers
    peers/bin/pip install torch==2.13.0 "transformers>=5.17,<6" trl mpmath tqdm
    peers/bin/pip install --no-deps liger-kernel cut-cross-entropy triton
    python bench/logprob.py --peer-python peers/bin/python
    python bench/logprob.py --peer-python peers/bin/python --growth   # and twice the size
    python bench/logprob.py --tokens 256 --vocab 20000 --hidden 64    # a quick look

Every variant does the same work in fp32 on the CPU: hidden (N, H), weight (V, H) and targets (N,)
in; DAPO's clipped loss and its gradients to hidden and weight out. Each call is in a new process,
after one on few tokens that loads the libraries and compiles what is compiled; the variants take
turns. `extra` is the peak of resident memory during the call, less what was resident before it (the
inputs among it), less the two gradients, which all must return (Linux: the kernel's own high-water
mark, reset before the call). Errors are against float64: the largest of the log-probs, and
norm(difference) / norm(truth) of the gradients, weight's over a sample of its rows, the targets'
among them.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The parent imports nothing large; the processes that do the work import torch.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SEQUENCES = 8
CLIP = (0.2, 0.28)

# --------------------------------------------------------------------------------------------------
# The variants: functions of hidden, weight and a batch, that return a loss with its gradients made
# (in hidden.grad and weight.grad) and the log-probs, or None where there are none to see. Each
# imports what it needs.


def from_logprobs(logprobs, batch):
    from grpo import policy_loss

    loss, _ = policy_loss(logprobs, batch["old"], batch["advantages"], batch["weights"], *CLIP)
    loss.backward()
    return loss, logprobs


def naive(hidden, weight, batch):
    logprobs = (hidden @ weight.T).log_softmax(dim=-1).gather(1, batch["targets"][:, None])[:, 0]
    return from_logprobs(logprobs, batch)


def ours(hidden, weight, batch):
    from logprobs import token_logprobs

    return from_logprobs(token_logprobs(hidden, weight, batch["targets"]), batch)


def ours_fused(hidden, weight, batch):
    from grpo import policy_loss
    from logprobs import fused_loss

    def loss_of(rows, logprobs):
        old = batch["old"][rows]
        return policy_loss(logprobs, old, batch["advantages"][rows], batch["weights"][rows], *CLIP)

    loss, logprobs, _ = fused_loss(hidden, weight, batch["targets"], loss_of)
    loss.backward()
    return loss, logprobs


def trl_selective(hidden, weight, batch):
    """TRL's log-probs of given logits, sequence by sequence as its trainers had them."""
    from trl.trainer.utils import selective_log_softmax

    logits = (hidden @ weight.T).view(SEQUENCES, -1, len(weight))
    return from_logprobs(
        selective_log_softmax(logits, batch["targets"].view(SEQUENCES, -1)).flatten(), batch
    )


def trl_chunked(hidden, weight, batch):
    """What TRL's trainers call now, with their chunk of the vocabulary."""
    from trl.kernels import ChunkedLogProbFunction

    logprobs, *_ = ChunkedLogProbFunction.apply(
        hidden, weight, None, batch["targets"], 1.0, 32768, None, 1.0, ()
    )
    return from_logprobs(logprobs, batch)


def liger(hidden, weight, batch, chunk=SEQUENCES):
    """Liger's fused GRPO loss, with all sequences in one of its chunks: a chunk costs another
    gradient of weight.
    """
    from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss

    loss_function = LigerFusedLinearGRPOLoss(
        beta=0.0,
        use_ref_model=False,
        chunk_size=chunk,
        compiled=False,
        epsilon_low=CLIP[0],
        epsilon_high=CLIP[1],
        loss_type="dapo",
    )
    shape = (SEQUENCES, -1)
    ones = hidden.new_ones(len(hidden)).view(shape)
    loss, _ = loss_function(
        hidden.view(*shape, hidden.shape[1]),
        weight,
        batch["targets"].view(shape),
        ones,
        batch["advantages"].view(shape)[:, 0],
        old_per_token_logps=batch["old"].view(shape),
    )
    loss.backward()
    return loss, None


def cut_cross_entropy(hidden, weight, batch):
    """Apple's cut cross-entropy; its Triton kernels need a GPU, so this is its torch.compile
    version.
    """
    from cut_cross_entropy import linear_cross_entropy

    return from_logprobs(
        -linear_cross_entropy(
            hidden, weight, batch["targets"], reduction="none", impl="torch_compile"
        ),
        batch,
    )


# name: (function, the module it is in, how to install that)
VARIANTS = {
    "naive": (naive, "torch", "torch"),
    "token_logprobs (ours)": (ours, "grpo", ""),
    "fused_loss (ours)": (ours_fused, "logprobs", ""),
    "trl selective_log_softmax": (trl_selective, "trl.trainer.utils", "trl"),
    "trl chunked log-probs": (trl_chunked, "trl.kernels", "trl"),
    "liger fused GRPO": (liger, "liger_kernel.chunked_loss", "--no-deps liger-kernel"),
    "cut-cross-entropy": (
        cut_cross_entropy,
        "cut_cross_entropy",
        "--no-deps cut-cross-entropy, and triton",
    ),
}

# --------------------------------------------------------------------------------------------------
# One call, in a process of its own


def make_inputs(tokens, hidden_size, vocab):
    """hidden, weight and a batch; targets get log-probs around -4 instead of -14, as sampled tokens
    would have.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(vocab, hidden_size, generator=generator).div_(hidden_size**0.5)
    targets = torch.randint(vocab, (tokens,), generator=generator)
    hidden = 2 * torch.randn(tokens, hidden_size, generator=generator) + 10 * weight[targets]
    advantages = torch.randn(SEQUENCES, generator=generator).repeat_interleave(tokens // SEQUENCES)
    batch = {
        "targets": targets,
        "advantages": advantages,
        "weights": torch.full((tokens,), 1 / tokens),
        "noise": torch.randn(tokens, generator=generator) / 5,
    }
    return hidden, weight, batch


def first_tokens(hidden, batch, count):
    """The first `count` tokens of each sequence."""
    import torch

    rows = torch.arange(len(hidden)).view(SEQUENCES, -1)[:, :count].flatten()
    return hidden[rows], {name: value[rows] for name, value in batch.items()}


def make_reference(args):
    """Log-probs and gradients in float64, 64 tokens at a time, weight's for some rows; saved in
    args.reference.
    """
    import torch

    from grpo import policy_loss

    hidden, weight, batch = make_inputs(args.tokens, args.hidden, args.vocab)
    hidden, weight = hidden.double(), weight.double()
    rows = torch.cat([batch["targets"], torch.arange(0, args.vocab, 64)]).unique()
    truth = {
        "logprobs": hidden.new_empty(args.tokens),
        "old": torch.empty(args.tokens),
        "loss": 0.0,
        "rows": rows,
        "hidden": torch.empty_like(hidden),
        "weight": hidden.new_zeros(len(rows), args.hidden),
    }
    for i in range(0, args.tokens, 64):
        part = slice(i, i + 64)
        targets = batch["targets"][part, None]
        logprobs = (hidden[part] @ weight.T).log_softmax(dim=-1)
        chosen = logprobs.gather(1, targets)[:, 0].requires_grad_()
        # Ratios spread around 1, so that some are clipped; rounded as what the variants get.
        old = (chosen.detach() + batch["noise"][part]).float()
        loss, _ = policy_loss(
            chosen,
            old.double(),
            batch["advantages"][part].double(),
            batch["weights"][part].double(),
            *CLIP,
        )
        loss.backward()
        grad_logits = (
            logprobs.exp_()
            .mul_(-chosen.grad[:, None])
            .scatter_add_(1, targets, chosen.grad[:, None])
        )
        truth["logprobs"][part], truth["old"][part] = chosen.detach(), old
        truth["hidden"][part] = grad_logits @ weight
        truth["weight"] += grad_logits[:, rows].T @ hidden[part]
        truth["loss"] += loss.item()
    torch.save(truth, args.reference)


def memory(name):
    """VmRSS (resident now) or VmHWM (its high-water mark) of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(name + ":")[1].split()[0]) * 1024 / 1e6


def relative_error(value, truth):
    return ((value.double() - truth).norm() / truth.norm()).item()


def call(args):
    """One timed call of args.variant; its last line is JSON."""
    import ctypes
    import gc

    import torch

    torch.set_num_threads(args.threads)
    function, module, install = VARIANTS[args.variant]
    try:
        importlib.import_module(module)
    except ImportError as error:
        print(json.dumps({"missing": f"not installed ({error}): pip install {install}"}))
        return
    truth = torch.load(args.reference, weights_only=True)
    hidden, weight, batch = make_inputs(args.tokens, args.hidden, args.vocab)
    batch["old"] = truth["old"]
    weight.requires_grad_()
    # 24 tokens: torch.compile would take a number of tokens equal to H for H, and compile again in
    # the timed call.
    few, few_batch = first_tokens(hidden, batch, min(3, args.tokens // SEQUENCES))
    function(few.requires_grad_(), weight, few_batch)
    weight.grad = few = few_batch = None
    hidden.requires_grad_()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(
        0
    )  # or what the first call has freed would be taken for resident inputs
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before, started = memory("VmRSS"), time.perf_counter()
    loss, logprobs = function(hidden, weight, batch)
    seconds, peak = time.perf_counter() - started, memory("VmHWM")
    gradients = (hidden.grad.nbytes + weight.grad.nbytes) / 1e6
    print(
        json.dumps(
            {
                "seconds": seconds,
                "extra_mb": peak - before - gradients,
                "gradients_mb": gradients,
                "loss_error": abs(loss.item() - truth["loss"]),
                "logprob_error": None
                if logprobs is None
                else (logprobs.detach() - truth["logprobs"]).abs().max().item(),
                "hidden_error": relative_error(hidden.grad, truth["hidden"]),
                "weight_error": relative_error(weight.grad[truth["rows"]], truth["weight"]),
            }
        )
    )


# --------------------------------------------------------------------------------------------------
# The parent


def start(args, worker, **replaced):
    """Runs one worker in a new process: its output, or None where it failed, with the last line of
    why.
    """
    options = vars(args) | replaced | {"worker": worker}
    command = [args.peer_python, __file__]
    command += [
        f"--{name.replace('_', '-')}={value}" for name, value in options.items() if name != "growth"
    ]
    threads = {name: str(args.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return {"missing": f"failed: {why[:150]}"}
    return json.loads(done.stdout.splitlines()[-1]) if worker == "call" else {}


def compare(args, names):
    """Rounds of the variants, in turns, on one problem: {name: medians, or why there are none}."""
    results = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        reference = str(Path(folder) / "reference.pt")
        failed = start(args, "reference", reference=reference)
        if failed:
            sys.exit(f"the float64 reference {failed['missing']}")
        for number in range(args.rounds):
            for name, values in results.items():
                if not values or "missing" not in values[0]:
                    values.append(start(args, "call", variant=name, reference=reference))
            times = ", ".join(
                f"{name} {v[-1]['seconds']:.2f}"
                for name, v in results.items()
                if "seconds" in v[-1]
            )
            print(f"round {number + 1} of {args.rounds}, seconds: {times}", flush=True)
    table = {}
    for name, values in results.items():
        if "missing" in values[0]:
            table[name] = values[0]
            continue
        values = [v for v in values if "missing" not in v]
        table[name] = {
            key: values[0][key]
            if values[0][key] is None
            else statistics.median(v[key] for v in values)
            for key in values[0]
        }
        for key in ("seconds", "extra_mb"):
            table[name] |= {
                f"{key}_least": min(v[key] for v in values),
                f"{key}_most": max(v[key] for v in values),
            }
    return table


def print_table(table):
    print(
        f"\n{'':<27}{'seconds':>9}{'x naive':>9}{'extra MB':>10}{'(least, most)':>17}"
        f"{'log-prob err':>14}"
        f"{'d hidden':>10}{'d weight':>10}{'loss err':>10}"
    )
    for name, row in table.items():
        if "missing" in row:
            print(f"{name:<27}{row['missing']}")
            continue
        spread = f"({row['extra_mb_least']:.0f}, {row['extra_mb_most']:.0f})"
        error = "-" if row["logprob_error"] is None else f"{row['logprob_error']:.1e}"
        ratio = row["seconds"] / table["naive"]["seconds"]
        print(
            f"{name:<27}{row['seconds']:9.2f}{ratio:9.2f}{row['extra_mb']:10.0f}{spread:>17}{error:>14}"
            f"{row['hidden_error']:10.1e}{row['weight_error']:10.1e}{row['loss_error']:10.1e}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peer-python",
        default=sys.executable,
        help="python of an environment with the peers (default: this)",
    )
    parser.add_argument("--tokens", type=int, default=2048, help=f"N, a multiple of {SEQUENCES}")
    parser.add_argument("--hidden", type=int, default=1024, help="H")
    parser.add_argument("--vocab", type=int, default=151936, help="V")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--growth", action="store_true", help="also ours at 2 N and at 2 V")
    parser.add_argument("--worker", choices=("reference", "call"), help=argparse.SUPPRESS)
    parser.add_argument("--variant", default="naive", help=argparse.SUPPRESS)
    parser.add_argument("--reference", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return make_reference(args) if args.worker == "reference" else call(args)
    if args.tokens < SEQUENCES or args.tokens % SEQUENCES:
        parser.error(f"--tokens {args.tokens} is not a multiple of {SEQUENCES}.")
    size = {"tokens": args.tokens, "hidden": args.hidden, "vocab": args.vocab}
    print(
        f"N = {args.tokens}, H = {args.hidden}, V = {args.vocab}, fp32, {args.threads} threads, "
        f"medians of {args.rounds}",
        flush=True,
    )
    table, growth = compare(args, list(VARIANTS)), {}
    print_table(table)
    if args.growth:
        names = [name for name in VARIANTS if "ours" in name and "missing" not in table[name]]
        for what in ("tokens", "vocab"):
            print(f"\ntwice the {what}:", flush=True)
            larger = compare(argparse.Namespace(**(vars(args) | {what: 2 * size[what]})), names)
            growth[what] = {
                name: {key: larger[name][key] / table[name][key] for key in ("seconds", "extra_mb")}
                for name in names
            }
            for name, ratios in growth[what].items():
                print(
                    f"{name:<27}{ratios['seconds']:.2f} x the seconds, "
                    f"{ratios['extra_mb']:.2f} x the extra memory"
                )
    print(
        json.dumps(
            {
                "bench": "logprob",
                **size,
                "threads": args.threads,
                "rounds": args.rounds,
                "variants": table,
                "growth": growth,
            }
        )
    )


if __name__ == "__main__":
    main()
