"""One GRPO step (rollouts, rewards, update) of ours against TRL's GRPOTrainer on the same work,
side by side.

    python -m venv trl && trl/bin/pip install torch==2.13.0 "transformers>=5.17,<6" trl mpmath tqdm
    python bench/step.py --trl-python trl/bin/python
    python bench/step.py --trl-python trl/bin/python --prompts 8 --steps 2 --rounds 1  # quick

Both train models/small in fp32 on the CPU: the same prompts in the same order (thinking-free,
training split), rollouts at temperature 1 without top-k or top-p, the same reward function, AdamW
at the same constant learning rate, two optimizer steps a batch of rollouts, DAPO's loss with its
clip range, no KL term, no checkpointing, no logging, no saving. Each side runs in processes of its
own, in turns; the first step of each is a warm-up. TRL gets the micro-batch that is fastest for it
in a short trial before. `above loaded` is the peak of resident memory less what was resident when
model and trainer stood (Linux: /proc).

Not the same, since each side works as it is made: ours takes the old log-probs from its sampler,
where TRL has another forward pass for them; ours leaves groups out of the update whose rewards are
all equal, where TRL trains on their zeros; TRL computes the entropy and other metrics, logged or
not.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The parent imports nothing large: a process starts with its parent's peak memory as its own.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

GROUP, UPDATES, LR, CLIP = 8, 2, 1e-4, (0.2, 0.28)


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


# --------------------------------------------------------------------------------------------------
# The two sides, each in a process of its own: a dict of lists, one entry a step, and what the
# process was like


def run_ours(args, folder):
    from support.run import new_run
    from tfpi import stages, train_step

    run = new_run(
        {
            "model": args.model,
            "out": str(Path(folder) / "run"),
            "device": "cpu",
            "budgets": str(args.budget),
            "prompts": args.prompts,
            "group": GROUP,
            "draws": 1,
            "minibatches": UPDATES,
            "lr": LR,
            "eps_low": CLIP[0],
            "eps_high": CLIP[1],
            "normalizer": "dapo",
            "temperature": 1.0,
        }
    )
    stage, loaded, steps = stages(run.config)[0], resident_mb(), []
    for _ in range(args.steps + 1):
        started, before = time.perf_counter(), run.state.generated_tokens
        _, metrics = train_step(run, stage)
        steps.append(
            {
                "seconds": time.perf_counter() - started,
                "rollout_seconds": metrics["rollout_seconds"],
                "completions": metrics["rollouts"],
                "tokens": run.state.generated_tokens - before,
                "reward": metrics["reward"],
                "flat_groups": metrics["flat_groups"],
            }
        )
    return steps, loaded, UPDATES * len(steps)


def run_trl(args, folder):
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from problems import load_split, take_problems
    from reward import math_reward
    from support.config import find_settings
    from support.model import load_model
    from thinkfree import render

    settings = find_settings(args.model)
    model, tokenizer, _ = load_model(settings["model"], "cpu")
    problems = take_problems(load_split("train"), 0, args.prompts * (args.steps + 1), seed=0)
    data = Dataset.from_list(
        [
            {
                "prompt": render(tokenizer, p.problem, settings.get("instruction", ""), False),
                "answer": p.answer,
            }
            for p in problems
        ]
    )
    steps, total = [], args.prompts * GROUP

    def reward(completions, answer, completion_ids, **_):
        values = [math_reward(text, gold) for text, gold in zip(completions, answer)]
        groups = [values[i : i + GROUP] for i in range(0, len(values), GROUP)]
        now = time.perf_counter()
        steps[-1]["rollout_seconds"] += now - clock.started  # generation and rewards, as in ours
        steps[-1]["completions"] += len(values)
        steps[-1]["tokens"] += sum(map(len, completion_ids))
        steps[-1]["reward"] += sum(values) / total
        steps[-1]["flat_groups"] += sum(len(set(g)) == 1 for g in groups) / args.prompts
        return values

    class Clock(TrainerCallback):
        """A step of ours is `UPDATES` steps of TRL, which counts optimizer steps."""

        def on_step_begin(self, arguments, state, control, **_):
            self.started = time.perf_counter()
            if state.global_step % UPDATES == 0:
                self.first = self.started
                steps.append(
                    dict.fromkeys(
                        (
                            "seconds",
                            "rollout_seconds",
                            "completions",
                            "tokens",
                            "reward",
                            "flat_groups",
                        ),
                        0,
                    )
                )

        def on_step_end(self, arguments, state, control, **_):
            steps[-1]["seconds"] = time.perf_counter() - self.first

    clock = Clock()
    config = GRPOConfig(
        output_dir=folder,
        use_cpu=True,
        bf16=False,
        seed=0,
        shuffle_dataset=False,
        max_steps=UPDATES * (args.steps + 1),
        per_device_train_batch_size=args.trl_batch,
        gradient_accumulation_steps=total // UPDATES // args.trl_batch,
        generation_batch_size=total // args.trl_generations,
        num_generations=GROUP,
        max_completion_length=args.budget,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        use_vllm=False,
        generation_kwargs={"use_cache": True},
        learning_rate=LR,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        loss_type="dapo",
        epsilon=CLIP[0],
        epsilon_high=CLIP[1],
        beta=0.0,
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model, reward, config, data, processing_class=tokenizer, callbacks=[clock]
    )
    loaded = resident_mb()
    trainer.train()
    return steps, loaded, trainer.state.global_step


def work(args):
    """One side in this process; its last line is JSON."""
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # for both: Adam's smallest moments are slow as denormals
    with tempfile.TemporaryDirectory() as folder:
        steps, loaded, updates = (run_ours if args.worker == "ours" else run_trl)(args, folder)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    if args.worker == "trl":
        versions["trl"] = sys.modules["trl"].__version__
    print(
        json.dumps(
            {
                "steps": steps,
                "updates": updates,
                "loaded_mb": loaded,
                "peak_mb": peak_mb(),
                **versions,
            }
        )
    )


# --------------------------------------------------------------------------------------------------
# The parent


def measure(side, args, **replaced):
    """Runs one side in a new process: its dict, without the warm-up step."""
    options = vars(args) | replaced | {"worker": side}
    command = [args.trl_python if side == "trl" else sys.executable, __file__]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    threads = {name: str(args.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr[-3000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    wanted = args.prompts * GROUP
    if result["updates"] != UPDATES * len(result["steps"]) or any(
        s["completions"] != wanted for s in result["steps"]
    ):
        sys.exit(
            f"{side} did not do {wanted} completions and {UPDATES} updates in each step: {result}"
        )
    result["steps"] = result["steps"][1:]
    return result


def summarise(results):
    """Medians over all timed steps of a side's processes, and its largest memory."""
    steps = [step for result in results for step in result["steps"]]
    median = {name: statistics.median(step[name] for step in steps) for name in steps[0]}
    return median | {
        "update_seconds": statistics.median(s["seconds"] - s["rollout_seconds"] for s in steps),
        "tokens_per_second": statistics.median(s["tokens"] / s["seconds"] for s in steps),
        "fastest": min(s["seconds"] for s in steps),
        "slowest": max(s["seconds"] for s in steps),
        "peak_mb": max(r["peak_mb"] for r in results),
        "grown_mb": max(r["peak_mb"] - r["loaded_mb"] for r in results),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--trl-python",
        default=sys.executable,
        help="python of an environment with TRL (default: this one)",
    )
    parser.add_argument("--model", default="small")
    parser.add_argument(
        "--prompts", type=int, default=64, help=f"prompts a step, each with {GROUP} rollouts"
    )
    parser.add_argument("--budget", type=int, default=80)
    parser.add_argument(
        "--steps", type=int, default=5, help="timed steps of each process, after one to warm up"
    )
    parser.add_argument("--rounds", type=int, default=2, help="processes of each side, in turns")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--trl-batch", type=int, default=0, help="TRL's micro-batch (default: the fastest of some)"
    )
    parser.add_argument(
        "--trl-generations",
        type=int,
        default=1,
        choices=(1, UPDATES),
        help="2: TRL generates half of the batch before each update; it then is on-policy and "
        "needs no old log-probs, which is not quite the same algorithm",
    )
    parser.add_argument("--worker", choices=("ours", "trl"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args)
    del args.worker
    whole, tried = args.prompts * GROUP // UPDATES, {}
    print(
        f"{args.model}, {args.prompts} prompts x {GROUP}, budget {args.budget}, "
        f"{UPDATES} updates a step, "
        f"{args.threads} threads, {args.rounds} rounds of {args.steps} steps",
        flush=True,
    )
    if not args.trl_batch:
        for batch in (whole // n for n in (1, 2, 4, 8, 16) if whole % n == 0):
            tried[batch] = summarise([measure("trl", args, trl_batch=batch, steps=2)])["seconds"]
            print(
                f"trial: TRL with micro-batches of {batch}: {tried[batch]:.2f} s a step", flush=True
            )
        args.trl_batch = min(tried, key=tried.get)
    results = {"ours": [], "trl": []}
    for number in range(args.rounds):
        for side in results:
            results[side].append(measure(side, args))
            seconds = ", ".join(f"{s['seconds']:.2f}" for s in results[side][-1]["steps"])
            print(f"round {number + 1}, {side}: {seconds} s", flush=True)
    table = {side: summarise(values) for side, values in results.items()}
    ratio = {
        name: table["trl"][name] / table["ours"][name]
        for name in (
            "seconds",
            "rollout_seconds",
            "update_seconds",
            "tokens",
            "tokens_per_second",
            "peak_mb",
            "grown_mb",
        )
    }
    print(
        f"\n{'':<12}{'step s':>9}{'rollouts s':>12}{'update s':>10}{'tokens/step':>13}"
        f"{'tokens/s':>10}{'peak MB':>9}"
        f"{'above loaded':>14}"
    )
    for side, row in (*table.items(), ("trl / ours", ratio)):
        digits = 2 if side not in table else 0
        print(
            f"{side:<12}{row['seconds']:9.2f}{row['rollout_seconds']:12.2f}{row['update_seconds']:10.2f}"
            f"{row['tokens']:13.{digits}f}{row['tokens_per_second']:10.{digits}f}{row['peak_mb']:9.{digits}f}"
            f"{row['grown_mb']:14.{digits}f}"
        )
    versions = {
        side: {
            n: results[side][0][n]
            for n in ("torch", "transformers", "trl")
            if n in results[side][0]
        }
        for side in results
    }
    options = {name: value for name, value in vars(args).items() if name != "trl_python"}
    print(
        json.dumps(
            {
                "bench": "step",
                **options,
                "tried": tried,
                "versions": versions,
                **table,
                "ratio": ratio,
            }
        )
    )


if __name__ == "__main__":
    main()
