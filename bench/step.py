"""One GRPO step (rollouts, rewards, update) of ours against TRL's GRPOTrainer on the same work.

    python -m venv trl
    trl/bin/pip install torch==2.13.0 "transformers>=5.17,<6" trl mpmath tqdm
    python bench/step.py --trl-python trl/bin/python
    python bench/step.py --trl-python trl/bin/python --prompts 8 --steps 2 --rounds 1   # quick

Both train models/small in fp32 on the CPU: the same prompts in the same order (thinking-free,
training split), rollouts at temperature 1 without top-k or top-p, the same reward function, AdamW
at the same constant learning rate, two optimizer steps a batch of rollouts, DAPO's loss with its
clip range, no KL term, no checkpointing, no logging, no saving. Each side runs in processes of its
own, in turns; the first step of each is a warm-up. On --threads cores ours has as many ranks of one
thread, whose memory is added up, and TRL as many threads. TRL gets the micro-batch that is fastest
for it in a short trial before. `above loaded` is the peak of resident memory less what was resident
when model and trainer stood (Linux: /proc). The last line is JSON.

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
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
# torch, and what needs it, is imported in functions: the parent must stay small, since a process
# starts with its parent's peak of memory as its own.

GROUP = 8
UPDATES = 2
LR = 1e-4
CLIP = (0.2, 0.28)
TRIALS = (1, 2, 4, 8, 16)  # TRL's micro-batches: parts of the responses of an update
COMPARED = ("seconds", "rollout_seconds", "update_seconds", "tokens", "tokens_per_second")
COMPARED += ("peak_mb", "grown_mb")


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


# --------------------------------------------------------------------------------------------------
# The two sides, each in processes of its own: a dict a step, MB when loaded and at most, optimizer
# steps


def run_ours(args, folder):
    from problems import load_data
    from support import ranks
    from support.start import joined_run, new_run
    from tfpi import stages, timed, train_step

    options = {
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
        "ranks": args.threads,
    }
    make_run = joined_run if ranks.follows() else new_run
    with ranks.group():
        start = partial(ranks.start, [__file__, *sys.argv[1:]])
        run = make_run(options, load_data, start=start)
        [stage] = stages(run.config)
        loaded = sum(ranks.gather(resident_mb()))
        steps = []
        for _ in range(args.steps + 1):
            groups, metrics = timed(train_step, run, stage)
            step = {"seconds": metrics["step_seconds"], "completions": metrics["rollouts"]}
            step["tokens"] = sum(len(rollout.response_ids) for group in groups for rollout in group)
            step |= {name: metrics[name] for name in ("rollout_seconds", "reward", "flat_groups")}
            steps.append(step)
        peak = sum(ranks.gather(peak_mb()))
    return steps, loaded, peak, UPDATES * len(steps)


def run_trl(args, folder):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from support.config import find_settings
    from support.model import load_model

    settings = find_settings(args.model)
    model, tokenizer, _ = load_model(settings["model"], "cpu")
    rows = trl_rows(args, tokenizer, settings.get("instruction", ""))
    clock = make_clock(args.prompts)
    trainer = GRPOTrainer(
        model,
        clock.reward,
        GRPOConfig(output_dir=folder, **trl_options(args)),
        Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[clock],
    )
    loaded = resident_mb()
    trainer.train()
    return clock.steps, loaded, peak_mb(), trainer.state.global_step


def trl_rows(args, tokenizer, instruction):
    """The prompts of all steps, in the order in which ours takes them."""
    from problems import load_split, take_problems
    from thinkfree import render

    problems = take_problems(load_split("train"), 0, args.prompts * (args.steps + 1), seed=0)
    prompts = [render(tokenizer, p.problem, instruction, False) for p in problems]
    return [{"prompt": text, "answer": p.answer} for text, p in zip(prompts, problems)]


def make_clock(prompts):
    """The reward function and the callback by which TRL's steps are measured, in one object."""
    from transformers import TrainerCallback

    from reward import grade

    measured = ("seconds", "rollout_seconds", "completions", "tokens", "reward", "flat_groups")

    class Clock(TrainerCallback):
        """A step of ours is `UPDATES` steps of TRL, which counts optimizer steps."""

        def __init__(self):
            self.steps = []

        def on_step_begin(self, arguments, state, control, **_):
            self.started = time.perf_counter()
            if state.global_step % UPDATES == 0:
                self.first = self.started
                self.steps.append(dict.fromkeys(measured, 0))

        def on_step_end(self, arguments, state, control, **_):
            self.steps[-1]["seconds"] = time.perf_counter() - self.first

        def reward(self, completions, answer, completion_ids, **_):
            values = [grade(text, gold)[1] for text, gold in zip(completions, answer)]
            groups = [values[i : i + GROUP] for i in range(0, len(values), GROUP)]
            step = self.steps[-1]
            # Generation and rewards, as in ours.
            step["rollout_seconds"] += time.perf_counter() - self.started
            step["completions"] += len(values)
            step["tokens"] += sum(map(len, completion_ids))
            step["reward"] += sum(values) / (prompts * GROUP)
            step["flat_groups"] += sum(len(set(group)) == 1 for group in groups) / prompts
            return values

    return Clock()


def trl_options(args):
    total = args.prompts * GROUP
    return dict(
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


def work(args):
    """One side in this process; its last line is JSON."""
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # for both: Adam's smallest moments are slow as denormals
    side = {"ours": run_ours, "trl": run_trl}[args.worker]
    with tempfile.TemporaryDirectory() as folder:
        steps, loaded, peak, updates = side(args, folder)
    result = {"steps": steps, "updates": updates, "loaded_mb": loaded, "peak_mb": peak}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    if args.worker == "trl":
        versions["trl"] = sys.modules["trl"].__version__
    print(json.dumps(result | {"versions": versions}))


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
    whole = all(step["completions"] == wanted for step in result["steps"])
    if not whole or result["updates"] != UPDATES * len(result["steps"]):
        work = f"{wanted} completions and {UPDATES} updates"
        sys.exit(f"{side} did not do {work} in each step: {result}")
    result["steps"] = result["steps"][1:]
    return result


def summarise(results):
    """Medians over all timed steps of a side's processes, and its largest memory."""
    steps = [step for result in results for step in result["steps"]]
    row = {name: statistics.median(step[name] for step in steps) for name in steps[0]}
    updates = [step["seconds"] - step["rollout_seconds"] for step in steps]
    row["update_seconds"] = statistics.median(updates)
    row["tokens_per_second"] = statistics.median(s["tokens"] / s["seconds"] for s in steps)
    row["fastest"] = min(step["seconds"] for step in steps)
    row["slowest"] = max(step["seconds"] for step in steps)
    row["peak_mb"] = max(result["peak_mb"] for result in results)
    row["grown_mb"] = max(result["peak_mb"] - result["loaded_mb"] for result in results)
    return row


def try_batches(args):
    """Seconds of TRL's step by the size of its micro-batches."""
    responses = args.prompts * GROUP // UPDATES
    tried = {}
    for batch in [responses // n for n in TRIALS if responses % n == 0]:
        tried[batch] = summarise([measure("trl", args, trl_batch=batch, steps=2)])["seconds"]
        print(f"trial: TRL with micro-batches of {batch}: {tried[batch]:.2f} s a step", flush=True)
    return tried


def print_table(table, ratio):
    print(
        f"\n{'':<12}{'step s':>9}{'rollouts s':>12}{'update s':>10}{'tokens/step':>13}"
        f"{'tokens/s':>10}{'peak MB':>9}{'above loaded':>14}"
    )
    for side, row in (*table.items(), ("trl / ours", ratio)):
        digits = 0 if side in table else 2
        print(
            f"{side:<12}{row['seconds']:9.2f}{row['rollout_seconds']:12.2f}"
            f"{row['update_seconds']:10.2f}{row['tokens']:13.{digits}f}"
            f"{row['tokens_per_second']:10.{digits}f}{row['peak_mb']:9.{digits}f}"
            f"{row['grown_mb']:14.{digits}f}"
        )


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    trl = "python of an environment with TRL (default: this one)"
    add("--trl-python", default=sys.executable, help=trl)
    add("--model", default="small")
    add("--prompts", type=int, default=64, help=f"prompts a step, each with {GROUP} rollouts")
    add("--budget", type=int, default=80)
    steps = "timed steps of each process, after one to warm up"
    add("--steps", type=int, default=5, help=steps)
    add("--rounds", type=int, default=2, help="processes of each side, in turns")
    add("--threads", type=int, default=2)
    batch = "TRL's micro-batch (default: the fastest of some)"
    add("--trl-batch", type=int, default=0, help=batch)
    generations = (
        "2: TRL generates half of the batch before each update; it then is on-policy and needs no "
        "old log-probs, which is not quite the same algorithm"
    )
    add("--trl-generations", type=int, default=1, choices=(1, UPDATES), help=generations)
    add("--worker", choices=("ours", "trl"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    args = parse_arguments()
    if args.worker:
        return work(args)
    del args.worker
    print(
        f"{args.model}, {args.prompts} prompts x {GROUP}, budget {args.budget}, {UPDATES} updates "
        f"a step, {args.threads} threads, {args.rounds} rounds of {args.steps} steps",
        flush=True,
    )
    tried = {} if args.trl_batch else try_batches(args)
    args.trl_batch = args.trl_batch or min(tried, key=tried.get)
    results = {"ours": [], "trl": []}
    for number in range(args.rounds):
        for side in results:
            result = measure(side, args)
            results[side].append(result)
            seconds = ", ".join(f"{step['seconds']:.2f}" for step in result["steps"])
            print(f"round {number + 1}, {side}: {seconds} s", flush=True)
    table = {side: summarise(values) for side, values in results.items()}
    ratio = {name: table["trl"][name] / table["ours"][name] for name in COMPARED}
    print_table(table, ratio)
    options = {name: value for name, value in vars(args).items() if name != "trl_python"}
    versions = {side: values[0]["versions"] for side, values in results.items()}
    summary = {"bench": "step", **options, "tried": tried, "versions": versions}
    print(json.dumps(summary | table | {"ratio": ratio}))


if __name__ == "__main__":
    main()
