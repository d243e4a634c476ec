"""A run: its configuration, the presets for the paper's models, and what stands on disk.

    runs/NAME/config.json            the options
    runs/NAME/metrics.jsonl          one line a step
    runs/NAME/checkpoint-STEP-STAGE/ model, optimizer and state: all that --resume needs (checkpoint.py)
    runs/NAME/stage1/ ...            a Hugging Face folder for each finished stage (and stepN/, with --snapshot-every)
    runs/NAME/summary.json           the measurements before and after

Every random stream of a run is keyed by (seed, step), so a checkpoint holds no generator state. The defaults are the
paper's hyper-parameters (Section 4, "shared by all methods"); a preset replaces those that a model needs otherwise.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
from tqdm import tqdm

from checkpoint import (flush, keep_steps, load_optimizer, lock, read_json, remove_folder, save_model,
                        save_optimizer, write_folder, write_json)
from checks import check_config, default_device
from load import is_finite, load_model
from problems import DataError, load_data

# ---------------------------------------------------------------------------------------------------------------------
# Configuration: one dataclass, whose fields are the command line


def option(default, text):
    return field(default=default, metadata={"help": text})


@dataclass
class Config:
    model: str = option("small", "small, a preset, a Hugging Face id, or a folder")
    recipe: str = option("tfpi", "tfpi (the three stages), tfpi+rl (then RL with thinking), direct (RL with thinking "
                                 "alone), or multistage (the three budgets with thinking)")
    data: str = option("", "your own JSONL of problems and answers; a tenth of it is held out "
                           "(default: the bundled problems)")
    out: str = option("", "output folder (default: runs/MODEL, or the next free name)")
    seed: int = option(0, "seed of every random stream")
    steps: int = option(0, "a fixed number of steps for each stage; 0 ends a stage when it levels off")
    device: str = option("", "cpu, cuda or mps (default: the best there is)")
    budgets: str = option("4096,8192,16384", "response budgets of the stages, in tokens; "
                                             "paper: 2K,4K,8K for DS-1.5B and DS-7B, 4K,8K,16K for Qwen3-4B")
    full_budget: int = option(32768, "budget of evaluation and of RL with thinking; paper: 32K to 52K")
    prompts: int = option(256, "prompts a step; paper: 256")
    group: int = option(8, "rollouts a prompt; paper: 8")
    lr: float = option(1e-6, "learning rate, constant, no warm-up; paper: 1e-6")
    temperature: float = option(1.0, "sampling temperature of rollouts and evaluation; paper: 1.0")
    eps_low: float = option(0.2, "clip range below 1; DAPO: 0.2")
    eps_high: float = option(0.28, "clip range above 1 (clip-higher); DAPO: 0.28")
    normalizer: str = option("dapo", "loss normaliser: dapo (all tokens of the batch; paper), grpo or dr_grpo")
    minibatches: int = option(1, "optimizer steps a batch")
    draws: int = option(3, "dynamic sampling: at most this many times the prompts are drawn "
                           "to fill a batch with groups that are not flat")
    micro_tokens: int = option(16384, "padded tokens through the model at once in an update; "
                                      "lower it when memory runs out")
    slots: int = option(256, "responses sampled at once; lower it when memory runs out")
    stage_steps: int = option(200, "steps after which a stage ends in any case; paper: about 100 in stage 1")
    validate_every: int = option(10, "steps between validations, by which a stage's end is found")
    validation_problems: int = option(500, "problems of a validation; paper: MATH500")
    eval_problems: int = option(500, "problems of the evaluation before and after each stage")
    eval_samples: int = option(4, "samples a problem in evaluation (avg@k); paper: 32 on AIME")
    save_every: int = option(20, "steps between checkpoints")
    snapshot_every: int = option(0, "steps between models that are kept, as stepN/; 0 keeps those of the stages' ends")
    instruction: str = option("Please reason step by step, and put your final answer within \\boxed{}.",
                              "what follows the question; paper: this")


DS = {"budgets": "2048,4096,8192"}
PRESETS = {
    "small": {"model": str(Path(__file__).parent / "models" / "small"), "budgets": "80,112,160", "full_budget": 640,
              "prompts": 64, "lr": 1e-4, "minibatches": 2, "draws": 1, "slots": 512, "micro_tokens": 1536,
              "stage_steps": 45, "validate_every": 5, "validation_problems": 250, "eval_problems": 250,
              "instruction": ""},
    "ds-1.5b": {"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", **DS},
    "ds-7b": {"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", **DS},
    "qwen3-4b": {"model": "Qwen/Qwen3-4B"},
    "qwen3-4b-2507": {"model": "Qwen/Qwen3-4B-Thinking-2507"},
}


def find_settings(model):
    """The settings that go with a model: a preset's; for a stage's folder those of its run; else the paper's.

    Among them, `model` is where to load it from.
    """
    if model in PRESETS:
        return dict(PRESETS[model])
    if Path(model).is_dir() and Path(model).resolve() == Path(PRESETS["small"]["model"]):
        return dict(PRESETS["small"])
    run_config = Path(model).parent / "config.json"
    if Path(model).is_dir() and run_config.exists() and b'"full_budget"' in run_config.read_bytes():
        saved = asdict(read_json(run_config, Config))
        return saved | {"model": model, "out": "", "recipe": "tfpi", "steps": 0, "device": ""}
    return {"model": model}


def parse_arguments(argv):
    """The command line: (options given, resume). What is not given comes from the model's preset, else Config."""
    parser = argparse.ArgumentParser(description="Thinking-Free Policy Initialization.")
    for f in fields(Config):
        text = f"{f.metadata['help']} (default: {f.default or 'none'})"
        parser.add_argument("--" + f.name.replace("_", "-"), type=type(f.default), help=text.replace("%", "%%"))
    parser.add_argument("--resume", action="store_true", help="continue the interrupted run in --out")
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    return given, given.pop("resume")


# ---------------------------------------------------------------------------------------------------------------------
# A run and its checkpoints


@dataclass
class State:
    """Where a run is; with the model and the optimizer, all that a checkpoint needs.

    Every random stream is keyed by (seed, step), so no generator has a state to keep.
    """

    stage: int = 0  # index of the current stage
    stage_step: int = 0  # steps done in it
    step: int = 0  # steps done in all
    cursor: int = 0  # prompts drawn so far
    generated_tokens: int = 0  # by training rollouts
    flops: int = 0  # of sampling and training them
    seconds: float = 0.0
    truncated: list = field(default_factory=list)  # of the current stage: one value since each validation
    accuracy: list = field(default_factory=list)
    bad_steps: int = 0  # since the last update, whose loss or gradient was not finite
    since_validation: list = field(default_factory=list)  # truncated shares of the steps after the last validation
    evaluations: list = field(default_factory=list)  # one entry before training and after each stage


class Run:
    """Everything a step needs; its folder is described at the head of this file."""

    def __init__(self, config, folder, source, state=None):
        self.config, self.folder, self.state = config, folder, state or State()
        self.device = config.device or default_device()
        self.model, self.tokenizer, self.stop_ids = load_model(source, self.device)
        # eps and betas are PyTorch's; no weight decay: RL moves little, and nothing should move for another reason.
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=config.lr, weight_decay=0.0)
        self.train, self.validation, self.test = load_data(config.data)
        self.started = time.monotonic() - self.state.seconds
        self.stop, self.lock = False, None

    def seconds(self):
        """Time spent on the run, interruptions not counted."""
        return time.monotonic() - self.started

    def autocast(self):
        # On a GPU: weights and optimizer in fp32, since an lr of 1e-6 is lost in bf16 weights; the matmuls in bf16.
        return torch.autocast("cuda", torch.bfloat16) if self.device.startswith("cuda") else nullcontext()

    def log(self, line):
        """Appends one step's metrics to metrics.jsonl."""
        path, text = self.folder / "metrics.jsonl", json.dumps(line, allow_nan=False)
        try:
            with open(path, "a") as file:
                file.write(text + "\n")
        except OSError as error:
            raise OSError(f"cannot write {path} ({error.strerror}). Free space there.") from None

    def save_checkpoint(self):
        """Saves all that --resume needs; the checkpoint before is removed once this one is whole on the disk."""
        if not is_finite(self.model):
            tqdm.write("no checkpoint was written, since the weights are not finite.", file=sys.stderr)
            return
        self.state.seconds = self.seconds()
        # Two of one name never differ, so none is ever replaced: a step changes the first number, a stage's end the
        # second.
        final = self.folder / f"checkpoint-{self.state.step}-{self.state.stage}"
        if not final.exists():
            if (metrics := self.folder / "metrics.jsonl").exists():
                flush(metrics)
            write_folder(final, self.fill_checkpoint)
        for old in self.folder.glob("checkpoint-*"):
            if old != final:
                remove_folder(old)

    def fill_checkpoint(self, folder):
        save_model(self, folder)
        save_optimizer(self, folder / "optimizer.safetensors")
        write_json(folder / "state.json", asdict(self.state))


def new_run(given, check=None):
    """A run in a folder of its own, which nobody has written to before; check(run) may refuse it before that."""
    model = given.get("model", "small")
    settings = find_settings(model)
    config = Config(**(settings | {"model": model} | given))
    check_config(config)
    folder = run_folder(given)
    if os.path.lexists(folder) and config.out:
        raise ValueError(f"{folder} exists. Give --out another folder, or --resume to continue the run in it.")
    run = Run(config, folder, settings.get("model", model))
    if check:
        check(run)
    free = (folder.with_name(f"{folder.name}-{i}") for i in range(2, 1_000_000))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Made beside and renamed, so that there is no run without its options.
        with tempfile.TemporaryDirectory(prefix=".new-run-", dir=folder.parent, ignore_cleanup_errors=True) as beside:
            (made := Path(beside) / "run").mkdir()
            write_json(made / "config.json", asdict(config))
            while os.path.lexists(run.folder):
                run.folder = next(free)
            os.rename(made, run.folder)
            flush(folder.parent)
        run.lock = lock(run.folder)
    except OSError as error:
        raise OSError(f"cannot write to {folder} ({error.strerror or error}). "
                      "Give --out a folder that can be made.") from None
    return run


def run_folder(given):
    return Path(given.get("out") or Path("runs") / Path(given.get("model", "small")).resolve().name)


# What a run's state and its table of measurements rest on.
FIXED = ("model", "recipe", "data", "seed", "budgets", "full_budget", "temperature", "instruction", "validate_every",
         "validation_problems", "eval_problems", "eval_samples")


def resumed_run(given):
    """The run in --out from its newest whole checkpoint on, or from its start if it had none yet.

    Options given again replace those of the run, but for FIXED ones.
    """
    folder = run_folder(given)
    if not (folder / "config.json").exists():
        raise ValueError(f"there is no run in {folder}. Give --out the folder of the run to resume, or leave out "
                         "--resume to start one.")
    saved = asdict(read_json(folder / "config.json", Config))
    for name in FIXED:
        if given.get(name, saved[name]) != saved[name]:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"the run in {folder} has {option} {saved[name]!r}, which --resume cannot change. "
                             f"Leave {option} out, or start another run.")
    config = Config(**(saved | given | {"out": saved["out"]}))
    check_config(config)
    locked = lock(folder)
    run = load_checkpoint(config, folder)
    run.lock = locked
    if config != Config(**saved):
        write_json(folder / "config.json", asdict(config))
    try:
        keep_steps(folder / "metrics.jsonl", run.state.step)
    except OSError as error:
        raise OSError(f"cannot write to {folder} ({error.strerror}). Make it writable.") from None
    return run


def load_checkpoint(config, folder):
    """The run as its newest checkpoint that can be read has it; a damaged one is put aside, not removed.

    An older one is as good, only less far: the steps since are done again, alike.
    """
    def numbers(path):
        return [int(n) for n in re.findall(r"\d+", path.name)]

    damaged = []
    for path in sorted(folder.glob("checkpoint-*"), key=numbers, reverse=True):
        try:
            run = Run(config, folder, str(path), read_json(path / "state.json", State))
            load_optimizer(run, path / "optimizer.safetensors")
        except DataError:
            raise
        except ValueError as error:  # ModelError among them
            damaged.append((path, error))
            continue
        for bad, error in damaged:
            aside = folder / f"damaged-{bad.name}-{time.time_ns()}"
            os.replace(bad, aside)
            print(f"{bad} cannot be used ({error}); it is now {aside}, and the run goes on from {path}.",
                  file=sys.stderr)
        return run
    if damaged:
        path, error = damaged[0]
        raise ValueError(f"the checkpoint {path} cannot be used ({error}). Put a copy of it in its place, or remove it "
                         "to begin the run again with --resume.")
    return Run(config, folder, find_settings(config.model)["model"])
