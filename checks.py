"""Mistakes found before a run does anything, and running out of memory: one sentence each, with the way out."""

import math
from contextlib import contextmanager
from dataclasses import fields

import torch


def default_device():
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


@contextmanager
def memory_advice(doing, remedy):
    """Turns running out of memory, on a GPU or not, into one MemoryError that says what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        words = ("out of memory", "not enough memory", "can't allocate memory")
        if isinstance(error, RuntimeError) and not any(w in str(error).lower() for w in words):
            raise
        raise MemoryError(f"out of memory while {doing}. {remedy}") from None


def check_device(device):
    try:
        if torch.device(device).type not in ("cpu", "cuda", "mps"):
            raise ValueError
        torch.zeros(1, device=device)
    except (RuntimeError, ValueError, AssertionError):
        raise ValueError(f"--device {device} cannot be used here. Give cpu, cuda, cuda:1 or mps, whichever this "
                         "machine has, or leave it out.") from None


def check_config(config):
    """Raises ValueError, naming the option, for values no run can have."""
    if config.recipe not in ("tfpi", "tfpi+rl", "direct", "multistage"):
        raise ValueError(f"--recipe {config.recipe} is not one of tfpi, tfpi+rl, direct, multistage.")
    if config.normalizer not in ("dapo", "grpo", "dr_grpo"):
        raise ValueError(f"--normalizer {config.normalizer} is not one of dapo, grpo, dr_grpo.")
    if not all(b.strip().isdecimal() and int(b) > 0 for b in config.budgets.split(",")):
        raise ValueError(f"--budgets {config.budgets} is not a list of positive numbers such as 2048,4096,8192.")
    if config.group < 2:
        raise ValueError("--group must be at least 2: the advantage compares the responses to one prompt.")
    if not config.model.strip():
        raise ValueError("--model is empty. Give small, a preset, a Hugging Face id, or a folder.")
    for f in fields(config):
        value, name = getattr(config, f.name), f.name.replace("_", "-")
        if isinstance(f.default, int) and value < (0 if f.name in ("seed", "steps", "snapshot_every") else 1):
            raise ValueError(f"--{name} {value} is too small.")
        if isinstance(f.default, float) and not 0 < value < math.inf:
            raise ValueError(f"--{name} {value} is not a positive, finite number.")
    if config.eps_low >= 1:
        raise ValueError(f"--eps-low {config.eps_low} must be below 1: a ratio is never below 0.")
    check_device(config.device or default_device())
