"""A run: its configuration, the presets for the paper's models, and what stands on disk.

    runs/NAME/config.json            the options
    runs/NAME/metrics.jsonl          one line a step
    runs/NAME/checkpoint-STEP-STAGE/ model, optimizer and state: all that --resume needs (checkpoint.py)
    runs/NAME/stage1/ ...            a Hugging Face folder for each finished stage (and stepN/, with --snapshot-every)
    runs/NAME/summary.json           the measurements before and after

Every random stream of a run is keyed by (seed, step), so a checkpoint holds no generator state. The defaults are the
paper's hyper-parameters (Section 4, "shared by all methods"); a preset replaces those that a model needs otherwise.
"""

import json
import os
import re
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from problems import DataError, load_data
from support.config import Config, check_config, find_settings
from support.disk import (
    flush,
    keep_steps,
    load_optimizer,
    lock,
    read_json,
    remove_folder,
    save_model,
    save_optimizer,
    write_folder,
    write_json,
)
from support.model import default_device, is_finite, load_model

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
    truncated: list = field(
        default_factory=list
    )  # of the current stage: one value since each validation
    accuracy: list = field(default_factory=list)
    bad_steps: int = 0  # since the last update, whose loss or gradient was not finite
    since_validation: list = field(
        default_factory=list
    )  # truncated shares of the steps after the last validation
    evaluations: list = field(
        default_factory=list
    )  # one entry before training and after each stage


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
        return (
            torch.autocast("cuda", torch.bfloat16)
            if self.device.startswith("cuda")
            else nullcontext()
        )

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
            tqdm.write(
                "no checkpoint was written, since the weights are not finite.", file=sys.stderr
            )
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
        raise ValueError(
            f"{folder} exists. Give --out another folder, or --resume to continue the run in it."
        )
    run = Run(config, folder, settings.get("model", model))
    if check:
        check(run)
    free = (folder.with_name(f"{folder.name}-{i}") for i in range(2, 1_000_000))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Made beside and renamed, so that there is no run without its options.
        with tempfile.TemporaryDirectory(
            prefix=".new-run-", dir=folder.parent, ignore_cleanup_errors=True
        ) as beside:
            (made := Path(beside) / "run").mkdir()
            write_json(made / "config.json", asdict(config))
            while os.path.lexists(run.folder):
                run.folder = next(free)
            os.rename(made, run.folder)
            flush(folder.parent)
        run.lock = lock(run.folder)
    except OSError as error:
        raise OSError(
            f"cannot write to {folder} ({error.strerror or error}). "
            "Give --out a folder that can be made."
        ) from None
    return run


def run_folder(given):
    return Path(given.get("out") or Path("runs") / Path(given.get("model", "small")).resolve().name)


# What a run's state and its table of measurements rest on.
FIXED = (
    "model",
    "recipe",
    "data",
    "seed",
    "budgets",
    "full_budget",
    "temperature",
    "instruction",
    "validate_every",
    "validation_problems",
    "eval_problems",
    "eval_samples",
)


def resumed_run(given):
    """The run in --out from its newest whole checkpoint on, or from its start if it had none yet.

    Options given again replace those of the run, but for FIXED ones.
    """
    folder = run_folder(given)
    if not (folder / "config.json").exists():
        raise ValueError(
            f"there is no run in {folder}. Give --out the folder of the run to resume, or leave out "
            "--resume to start one."
        )
    saved = asdict(read_json(folder / "config.json", Config))
    for name in FIXED:
        if given.get(name, saved[name]) != saved[name]:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(
                f"the run in {folder} has {option} {saved[name]!r}, which --resume cannot change. "
                f"Leave {option} out, or start another run."
            )
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
            print(
                f"{bad} cannot be used ({error}); it is now {aside}, and the run goes on from {path}.",
                file=sys.stderr,
            )
        return run
    if damaged:
        path, error = damaged[0]
        raise ValueError(
            f"the checkpoint {path} cannot be used ({error}). Put a copy of it in its place, or remove it "
            "to begin the run again with --resume."
        )
    return Run(config, folder, find_settings(config.model)["model"])
