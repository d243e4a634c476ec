"""Thinking-Free Policy Initialization (TFPI, arXiv 2509.26226), the whole method:

    python tfpi.py --model small                                # a 0.6M-parameter model on a CPU, minutes
    python tfpi.py --model qwen3-4b --data polaris.jsonl        # the paper's models on a GPU, days

    x   <|im_start|>user\\n{question}<|im_end|>\\n<|im_start|>assistant\\n          think_free          (Section 3, "ThinkingFree")
    x'  x + <think>\\n\\n</think>\\n\\n
    J_TFPI(theta) = E_x[ J_RLVR(theta, x') ]                                       train_stage, grpo.py (Section 3; DAPO)
    three stages of growing response budget, each until it levels off              stages, levelled_off (Section 3; Figure 8)
    then, in recipe tfpi+rl, ordinary RL on x with the full budget                 stages               (Section 4, Table 2)

The prompt is the only thing that changes: rollouts are sampled, the ratio is taken and the advantage is computed on x', and the right answer
stays the same. A model trained without thinking then also thinks better, and shorter, since both modes share what they compute with.

Left out: several GPUs, an inference server, the paper's benchmarks beyond mathematics, reward shaping (the paper has no length reward).
"""

import argparse
import json
import os
import shutil
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers.utils import logging

from eval import MODES, evaluate, format_row, response_text, verification_share
from grpo import UpdateConfig, dynamic_sampling, flat_groups, group_advantages, update
from problems import load_data, take_problems
from reward import math_reward
from rollout import ModelError, generate, load_model

EMPTY_BLOCK = "<think>\n\n</think>\n\n"

# ---------------------------------------------------------------------------------------------------------------------
# The operation


def think_free(prompt):
    """ThinkingFree(x): the rendered chat prompt (str), up to the assistant's turn, with an empty thinking block at its end (Section 3).

    A template that opens the block itself (the DeepSeek-R1 distils end in `<think>\\n`) has it closed, not opened twice; a prompt that has
    its empty block already is returned as it is.
    """
    if prompt.endswith(EMPTY_BLOCK):
        return prompt
    if prompt.rstrip().endswith("<think>"):
        return prompt[:prompt.rindex("<think>")] + EMPTY_BLOCK
    return prompt + EMPTY_BLOCK


def render(tokenizer, question, instruction, thinking):
    """The prompt x (thinking) or x' (thinking-free) of one question, as text."""
    content = f"{question}\n{instruction}" if instruction else question
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)
    return prompt if thinking else think_free(prompt)


# ---------------------------------------------------------------------------------------------------------------------
# Configuration: one dataclass, whose fields are the command line; presets for the paper's models


def option(default, text):
    return field(default=default, metadata={"help": text})


@dataclass
class Config:
    model: str = option("small", "small, a preset, a Hugging Face id, or a folder")
    recipe: str = option("tfpi", "tfpi (the three stages), tfpi+rl (then RL with thinking), or direct (RL with thinking alone)")
    data: str = option("", "your own JSONL of problems and answers; a tenth of it is held out (default: the bundled problems)")
    out: str = option("", "output folder (default: runs/MODEL, or the next free name)")
    seed: int = option(0, "seed of every random stream")
    steps: int = option(0, "a fixed number of steps for each stage; 0 ends a stage when it levels off")
    device: str = option("", "cpu, cuda or mps (default: the best there is)")
    budgets: str = option("4096,8192,16384", "response budgets of the stages, in tokens; paper: 2K,4K,8K for DS-1.5B and DS-7B, 4K,8K,16K for Qwen3-4B")
    full_budget: int = option(32768, "budget of evaluation and of RL with thinking; paper: 32K to 52K")
    prompts: int = option(256, "prompts a step; paper: 256")
    group: int = option(8, "rollouts a prompt; paper: 8")
    lr: float = option(1e-6, "learning rate, constant, no warm-up; paper: 1e-6")
    temperature: float = option(1.0, "sampling temperature of rollouts and evaluation; paper: 1.0")
    eps_low: float = option(0.2, "clip range below 1; DAPO: 0.2")
    eps_high: float = option(0.28, "clip range above 1 (clip-higher); DAPO: 0.28")
    normalizer: str = option("dapo", "loss normaliser: dapo (all tokens of the batch; paper), grpo or dr_grpo")
    minibatches: int = option(1, "optimizer steps a batch")
    draws: int = option(3, "dynamic sampling: at most this many times the prompts are drawn to fill a batch with groups that are not flat")
    micro_tokens: int = option(16384, "padded tokens through the model at once in an update; lower it when memory runs out")
    slots: int = option(256, "responses sampled at once; lower it when memory runs out")
    stage_steps: int = option(200, "steps after which a stage ends in any case; paper: about 100 in stage 1")
    validate_every: int = option(10, "steps between validations, by which a stage's end is found")
    validation_problems: int = option(500, "problems of a validation; paper: MATH500")
    eval_problems: int = option(500, "problems of the evaluation before and after each stage")
    eval_samples: int = option(4, "samples a problem in evaluation (avg@k); paper: 32 on AIME")
    save_every: int = option(20, "steps between checkpoints")
    instruction: str = option("Please reason step by step, and put your final answer within \\boxed{}.", "what follows the question; paper: this")


DS = {"budgets": "2048,4096,8192"}
PRESETS = {
    "small": {"model": str(Path(__file__).parent / "models" / "small"), "budgets": "64,96,128", "full_budget": 640, "prompts": 64, "lr": 1e-4,
              "minibatches": 2, "draws": 1, "slots": 512, "stage_steps": 50, "validate_every": 5, "validation_problems": 200,
              "eval_problems": 250, "instruction": ""},
    "ds-1.5b": {"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", **DS},
    "ds-7b": {"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", **DS},
    "qwen3-4b": {"model": "Qwen/Qwen3-4B"},
    "qwen3-4b-2507": {"model": "Qwen/Qwen3-4B-Thinking-2507"},
}


@dataclass(frozen=True)
class Stage:
    name: str
    thinking: bool
    budget: int


def stages(config):
    """The recipe as a list of stages."""
    budgets = [int(b) for b in config.budgets.split(",")]
    tfpi = [Stage(f"stage{i}", False, budget) for i, budget in enumerate(budgets, start=1)]
    rl = [Stage("rl", True, config.full_budget)]
    return {"tfpi": tfpi, "tfpi+rl": tfpi + rl, "direct": rl}[config.recipe]


def levelled_off(truncated, accuracy, window=3, tolerance=0.01):
    """Whether a stage has reached its turning point (Figure 8): neither measure is still improving.

    truncated and accuracy are the shares at each validation of the stage, oldest first. The mean of the last `window` is compared with the mean of the
    `window` before; the paper does this by eye.
    """
    if len(accuracy) < 2 * window:
        return False
    gain = np.mean(accuracy[-window:]) - np.mean(accuracy[-2 * window:-window])
    drop = np.mean(truncated[-2 * window:-window]) - np.mean(truncated[-window:])
    return bool(gain < tolerance and drop < tolerance)


# ---------------------------------------------------------------------------------------------------------------------
# A run and its checkpoints


@dataclass
class State:
    """Where a run is; with the model and the optimizer, all that a checkpoint needs, since every random stream is keyed by (seed, step)."""

    stage: int = 0  # index of the current stage
    stage_step: int = 0  # steps done in it
    step: int = 0  # steps done in all
    cursor: int = 0  # prompts drawn so far
    generated_tokens: int = 0  # by training rollouts
    seconds: float = 0.0
    truncated: list = field(default_factory=list)  # of the current stage: one value since each validation
    accuracy: list = field(default_factory=list)
    since_validation: list = field(default_factory=list)  # truncated shares of the steps after the last validation
    evaluations: list = field(default_factory=list)  # one entry before training and after each stage


class Run:
    """Everything a step needs. Folder layout: config.json, metrics.jsonl, checkpoint-STEP/, one Hugging Face folder a stage, summary.json."""

    def __init__(self, config, folder, source, state=None):
        self.config, self.folder, self.state = config, folder, state or State()
        self.device = config.device or ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
        self.model, self.tokenizer, self.stop_ids = load_model(source, self.device)
        # eps and betas are PyTorch's; no weight decay: RL moves little, and nothing should move for another reason.
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=config.lr, weight_decay=0.0)
        self.train, self.validation, self.test = load_data(config.data)
        self.started = time.monotonic() - self.state.seconds
        self.stop = False

    def autocast(self):
        # On a GPU: weights and optimizer in fp32, since an lr of 1e-6 is lost in bf16 weights; the matmuls in bf16.
        return torch.autocast("cuda", torch.bfloat16) if self.device.startswith("cuda") else nullcontext()

    def prompts(self, problems, thinking):
        return [render(self.tokenizer, p.problem, self.config.instruction, thinking) for p in problems]

    def save_checkpoint(self):
        """Written beside and renamed, so that a checkpoint is either whole or absent; the one before is removed after."""
        self.state.seconds = time.monotonic() - self.started
        final, partial = self.folder / f"checkpoint-{self.state.step}", self.folder / "partial-checkpoint"
        shutil.rmtree(partial, ignore_errors=True)
        save_model(self, partial)
        torch.save(self.optimizer.state_dict(), partial / "optimizer.pt")
        (partial / "state.json").write_text(json.dumps(asdict(self.state)))
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for old in self.folder.glob("checkpoint-*"):
            if old != final:
                shutil.rmtree(old)


def save_model(run, folder):
    run.model.save_pretrained(folder)
    run.tokenizer.save_pretrained(folder)


def stream_seed(*numbers):
    """One 63-bit seed from several numbers (run seed, step, purpose), so that no two draws of a run share a random stream."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


# ---------------------------------------------------------------------------------------------------------------------
# One step, one stage


def sample_groups(run, stage, draw):
    """Samples and grades one draw of prompts: (rollouts, rewards), group by group, and a sample response to look at."""
    config, count = run.config, run.config.prompts
    problems = take_problems(run.train, run.state.cursor, count, config.seed)
    run.state.cursor += count
    prompts = run.prompts(problems, stage.thinking)
    with tqdm(total=count * config.group, desc="rollouts", unit="", leave=False, disable=None, position=1) as bar, run.autocast():
        rollouts = generate(run.model, [run.tokenizer(p, add_special_tokens=False)["input_ids"] for p in prompts],
                            max_new_tokens=stage.budget, stop_ids=run.stop_ids, temperature=config.temperature, samples=config.group,
                            seed=stream_seed(config.seed, run.state.step, draw), slots=config.slots, progress=lambda tokens, done: bar.update(done))
    texts = [response_text(run.tokenizer, prompts[i // config.group], r) for i, r in enumerate(rollouts)]
    rewards = [math_reward(text, problems[i // config.group].answer) for i, text in enumerate(texts)]
    return rollouts, rewards, f"(reward {rewards[0]:.0f}, answer {problems[0].answer}) {problems[0].problem}\n{texts[0]}"


def train_step(run, stage):
    """One step of J_TFPI (or of J_RLVR, in a stage with thinking): its metrics, and a sample response."""
    started, config, samples = time.monotonic(), run.config, []

    def draw_groups(draw):
        rollouts, rewards, text = sample_groups(run, stage, draw)
        samples.append(text)
        return rollouts, rewards

    kept, kept_rewards, rollouts, rewards = dynamic_sampling(draw_groups, config.prompts, config.group, config.draws)
    lengths = [len(r.response_ids) for r in rollouts]
    run.state.generated_tokens += sum(lengths)
    metrics = {"reward": float(np.mean(rewards)), "tokens": float(np.mean(lengths)), "truncated": float(np.mean([not r.finished for r in rollouts])),
               "flat_groups": float(flat_groups(rewards, config.group).float().mean()), "rollouts": len(rollouts),
               "verification": verification_share([run.tokenizer.decode(r.response_ids) for r in rollouts]),
               "rollout_seconds": time.monotonic() - started}
    options = UpdateConfig(config.temperature, config.eps_low, config.eps_high, config.normalizer, config.minibatches, config.micro_tokens)
    with run.autocast():
        metrics |= update(run.model, run.optimizer, kept, group_advantages(kept_rewards, config.group), options, stage.budget)
    run.state.step, run.state.stage_step = run.state.step + 1, run.state.stage_step + 1
    return metrics | {"step_seconds": time.monotonic() - started}, samples[0]


def train_stage(run, stage):
    """Trains until the stage levels off or its steps are done; False if the user asked to stop."""
    config, state = run.config, run.state
    limit = config.steps or config.stage_steps
    bar = tqdm(total=limit, initial=state.stage_step, desc=f"{stage.name} (budget {stage.budget})", unit="step", mininterval=1)
    with bar:
        while state.stage_step < limit and not run.stop:
            metrics, sample = train_step(run, stage)
            state.since_validation.append(metrics["truncated"])
            line = {"step": state.step, "stage": stage.name, "stage_step": state.stage_step, "budget": stage.budget, "thinking": stage.thinking, **metrics}
            if state.stage_step % config.validate_every == 0:
                line["validation"] = measure(run, run.validation[:config.validation_problems], stage.thinking, 1, "validation")["accuracy"]
                state.accuracy.append(line["validation"])
                state.truncated.append(float(np.mean(state.since_validation)))
                state.since_validation = []
            state.seconds = time.monotonic() - run.started
            line |= {"generated_tokens": state.generated_tokens, "seconds": state.seconds}
            with open(run.folder / "metrics.jsonl", "a") as file:
                file.write(json.dumps(line) + "\n")
            bar.update(1)
            bar.set_postfix_str(f"reward {line['reward']:.2f}, tokens {line['tokens']:.0f}, truncated {line['truncated']:.0%}, flat {line['flat_groups']:.0%}, "
                                f"grad {line['grad_norm']:.2f}, {line['step_seconds']:.1f} s")
            if state.stage_step % 25 == 1:
                bar.write(f"\nstep {state.step}, a sample {sample[:800]}\n", file=sys.stderr)
            if not config.steps and levelled_off(state.truncated, state.accuracy):
                bar.write(f"{stage.name} has levelled off after {state.stage_step} steps.", file=sys.stderr)
                break
            if state.stage_step % config.save_every == 0:
                run.save_checkpoint()
    return not run.stop


# ---------------------------------------------------------------------------------------------------------------------
# The run


def measure(run, problems, thinking, samples, label):
    """Evaluates one mode at the full budget; the same problems and random streams each time, so that two measurements compare like with like."""
    config, name = run.config, "thinking" if thinking else "thinking-free"
    with tqdm(total=len(problems) * samples, desc=f"{label}, {name}", unit="", leave=False, disable=None, position=1) as bar, run.autocast():
        return evaluate(run.model, run.tokenizer, run.prompts(problems, thinking), [p.answer for p in problems], k=samples, budget=config.full_budget,
                        stop_ids=run.stop_ids, temperature=config.temperature, seed=stream_seed(config.seed, 0, 1), slots=config.slots,
                        progress=lambda tokens, done: bar.update(done))


def measure_both(run, name):
    """Appends both modes' results on the test problems to the run's table, and prints them."""
    entry = {"name": name, "step": run.state.step, "generated_tokens": run.state.generated_tokens}
    for mode in MODES:
        result = measure(run, run.test[:run.config.eval_problems], mode == "thinking", run.config.eval_samples, f"test, {name}")
        del result["responses"]
        entry[mode] = result
        tqdm.write(format_row(name, mode, result), file=sys.stderr)
    run.state.evaluations.append(entry)


def train(run):
    """All stages of the recipe from where the run is; False if the user asked to stop."""
    plan = stages(run.config)
    if not run.state.evaluations:
        measure_both(run, "before")
    while run.state.stage < len(plan):
        stage = plan[run.state.stage]
        if len(run.state.evaluations) <= run.state.stage + 1 and not train_stage(run, stage):
            return False
        save_model(run, run.folder / stage.name)
        measure_both(run, stage.name)
        run.state.stage, run.state.stage_step = run.state.stage + 1, 0
        run.state.accuracy, run.state.truncated, run.state.since_validation = [], [], []
        run.save_checkpoint()
    return True


def finish(run):
    """Prints the table, writes summary.json and draws the run's figure."""
    table, state = run.state.evaluations, run.state
    print(f"\nTest problems, avg@{table[0]['thinking']['k']} of {table[0]['thinking']['problems']} problems, budget {run.config.full_budget}:")
    for entry in table:
        for mode in MODES:
            print(format_row(entry["name"], mode, entry[mode]))
    seconds = time.monotonic() - run.started
    summary = {"before": {m: table[0][m] for m in MODES}, "after": {m: table[-1][m] for m in MODES}, "stages": table[1:],
               "generated_tokens": state.generated_tokens, "seconds": seconds}
    (run.folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"{state.step} steps, {state.generated_tokens / 1e6:.2f}M tokens generated for training, {seconds / 60:.1f} minutes. Models and metrics: {run.folder}")


def describe(run):
    """The plan, printed at once."""
    config, parameters = run.config, sum(p.numel() for p in run.model.parameters())
    print(f"model {config.model} ({parameters / 1e6:.1f}M parameters) on {run.device}; recipe {config.recipe}; {len(run.train)} training problems; output in {run.folder}")
    for stage in stages(config):
        prompt = "thinking" if stage.thinking else "thinking-free"
        print(f"  {stage.name}: {prompt} prompts, budget {stage.budget} tokens, {config.prompts} prompts x {config.group} rollouts a step, "
              + (f"{config.steps} steps" if config.steps else f"until it levels off, at most {config.stage_steps} steps"))
    if config.model == "small":
        print("  about 7 minutes on two CPU cores with the default settings")


def parse_arguments(argv):
    """The command line: (Config, resume). A preset's values stand in for the defaults, and explicit options win over both."""
    parser = argparse.ArgumentParser(description="Thinking-Free Policy Initialization.", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for f in fields(Config):
        parser.add_argument("--" + f.name.replace("_", "-"), type=type(f.default), help=f.metadata["help"])
    parser.add_argument("--resume", action="store_true", help="continue the interrupted run in --out")
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    resume, model = given.pop("resume"), given.get("model", "small")
    config = Config(**({k: v for k, v in PRESETS.get(model, {}).items() if k != "model"} | given))
    if config.recipe not in ("tfpi", "tfpi+rl", "direct"):
        parser.error(f"--recipe {config.recipe} is not one of tfpi, tfpi+rl, direct.")
    if not all(b.strip().isdigit() and int(b) > 0 for b in config.budgets.split(",")):
        parser.error(f"--budgets {config.budgets} is not a list of positive numbers such as 2048,4096,8192.")
    return config, resume


def open_run(config, resume):
    """A new run in a folder of its own, or the newest checkpoint of the one in --out."""
    folder = Path(config.out or Path("runs") / Path(config.model).name)
    if resume:
        checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
        if not checkpoints:
            sys.exit(f"tfpi: no checkpoint in {folder}. Give --out the folder of the run to resume.")
        config = Config(**json.loads((folder / "config.json").read_text()))
        run = Run(config, folder, checkpoints[-1], State(**json.loads((checkpoints[-1] / "state.json").read_text())))
        run.optimizer.load_state_dict(torch.load(checkpoints[-1] / "optimizer.pt", weights_only=True))
        metrics = folder / "metrics.jsonl"  # steps after the checkpoint will be done again
        lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
        metrics.write_text("".join(line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= run.state.step))
        return run
    number = 2
    while folder.exists():  # never overwrite a run
        if config.out:
            sys.exit(f"tfpi: {folder} exists. Give --out another folder, or --resume to continue the run in it.")
        folder = folder.with_name(f"{Path(config.model).name}-{number}")
        number += 1
    run = Run(config, folder, PRESETS.get(config.model, {}).get("model", config.model))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    return run


def main(argv=None):
    config, resume = parse_arguments(argv)
    logging.disable_progress_bar()  # of loading and saving: no news with ours beside them
    torch.set_flush_denormal(True)  # on a CPU, Adam's smallest second moments would be computed in slow denormal arithmetic
    try:
        run = open_run(config, resume)
        describe(run)

        def ask_to_stop(*_):
            if run.stop:
                raise KeyboardInterrupt
            run.stop = True
            tqdm.write("stopping after this step; press Ctrl-C again to stop at once.", file=sys.stderr)

        signal.signal(signal.SIGINT, ask_to_stop)
        if train(run):
            finish(run)
            return
        run.save_checkpoint()
    except (ModelError, ValueError) as error:
        sys.exit(f"tfpi: {error}")
    except KeyboardInterrupt:
        pass
    sys.exit(f"stopped. To go on: python tfpi.py --resume --out {run.folder}")


if __name__ == "__main__":
    main()
