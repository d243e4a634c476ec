"""The configuration of a run: one dataclass, whose fields are the command line, and the presets of the models.

The defaults are the paper's hyper-parameters (Section 4, "shared by all methods"); a preset replaces those that a model
needs otherwise.
"""

import argparse
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from support.disk import read_json
from support.model import check_device, default_device


def option(default, text):
    return field(default=default, metadata={"help": text})


@dataclass
class Config:
    model: str = option("small", "small, a preset, a Hugging Face id, or a folder")
    recipe: str = option(
        "tfpi",
        "tfpi (the three stages), tfpi+rl (then RL with thinking), direct (RL with thinking "
        "alone), or multistage (the three budgets with thinking)",
    )
    data: str = option(
        "",
        "your own JSONL of problems and answers; a tenth of it is held out "
        "(default: the bundled problems)",
    )
    out: str = option("", "output folder (default: runs/MODEL, or the next free name)")
    seed: int = option(0, "seed of every random stream")
    steps: int = option(
        0, "a fixed number of steps for each stage; 0 ends a stage when it levels off"
    )
    device: str = option("", "cpu, cuda or mps (default: the best there is)")
    budgets: str = option(
        "4096,8192,16384",
        "response budgets of the stages, in tokens; "
        "paper: 2K,4K,8K for DS-1.5B and DS-7B, 4K,8K,16K for Qwen3-4B",
    )
    full_budget: int = option(
        32768, "budget of evaluation and of RL with thinking; paper: 32K to 52K"
    )
    prompts: int = option(256, "prompts a step; paper: 256")
    group: int = option(8, "rollouts a prompt; paper: 8")
    lr: float = option(1e-6, "learning rate, constant, no warm-up; paper: 1e-6")
    temperature: float = option(1.0, "sampling temperature of rollouts and evaluation; paper: 1.0")
    eps_low: float = option(0.2, "clip range below 1; DAPO: 0.2")
    eps_high: float = option(0.28, "clip range above 1 (clip-higher); DAPO: 0.28")
    normalizer: str = option(
        "dapo", "loss normaliser: dapo (all tokens of the batch; paper), grpo or dr_grpo"
    )
    minibatches: int = option(1, "optimizer steps a batch")
    draws: int = option(
        3,
        "dynamic sampling: at most this many times the prompts are drawn "
        "to fill a batch with groups that are not flat",
    )
    micro_tokens: int = option(
        16384, "padded tokens through the model at once in an update; lower it when memory runs out"
    )
    slots: int = option(256, "responses sampled at once; lower it when memory runs out")
    stage_steps: int = option(
        200, "steps after which a stage ends in any case; paper: about 100 in stage 1"
    )
    validate_every: int = option(10, "steps between validations, by which a stage's end is found")
    validation_problems: int = option(500, "problems of a validation; paper: MATH500")
    eval_problems: int = option(500, "problems of the evaluation before and after each stage")
    eval_samples: int = option(4, "samples a problem in evaluation (avg@k); paper: 32 on AIME")
    save_every: int = option(20, "steps between checkpoints")
    snapshot_every: int = option(
        0, "steps between models that are kept, as stepN/; 0 keeps those of the stages' ends"
    )
    instruction: str = option(
        "Please reason step by step, and put your final answer within \\boxed{}.",
        "what follows the question; paper: this",
    )


DS = {"budgets": "2048,4096,8192"}
PRESETS = {
    "small": {
        "model": str(Path(__file__).parent.parent / "models" / "small"),
        "budgets": "80,112,160",
        "full_budget": 640,
        "prompts": 64,
        "lr": 1e-4,
        "minibatches": 2,
        "draws": 1,
        "slots": 512,
        "micro_tokens": 1536,
        "stage_steps": 45,
        "validate_every": 5,
        "validation_problems": 250,
        "eval_problems": 250,
        "instruction": "",
    },
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
        parser.add_argument(
            "--" + f.name.replace("_", "-"), type=type(f.default), help=text.replace("%", "%%")
        )
    parser.add_argument(
        "--resume", action="store_true", help="continue the interrupted run in --out"
    )
    given = {
        name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None
    }
    return given, given.pop("resume")


def check_config(config):
    """Raises ValueError, naming the option, for values no run can have."""
    if config.recipe not in ("tfpi", "tfpi+rl", "direct", "multistage"):
        raise ValueError(
            f"--recipe {config.recipe} is not one of tfpi, tfpi+rl, direct, multistage."
        )
    if config.normalizer not in ("dapo", "grpo", "dr_grpo"):
        raise ValueError(f"--normalizer {config.normalizer} is not one of dapo, grpo, dr_grpo.")
    if not all(b.strip().isdecimal() and int(b) > 0 for b in config.budgets.split(",")):
        raise ValueError(
            f"--budgets {config.budgets} is not a list of positive numbers such as 2048,4096,8192."
        )
    if config.group < 2:
        raise ValueError(
            "--group must be at least 2: the advantage compares the responses to one prompt."
        )
    if not config.model.strip():
        raise ValueError("--model is empty. Give small, a preset, a Hugging Face id, or a folder.")
    for f in fields(config):
        value, name = getattr(config, f.name), f.name.replace("_", "-")
        if isinstance(f.default, int) and value < (
            0 if f.name in ("seed", "steps", "snapshot_every") else 1
        ):
            raise ValueError(f"--{name} {value} is too small.")
        if isinstance(f.default, float) and not 0 < value < math.inf:
            raise ValueError(f"--{name} {value} is not a positive, finite number.")
    if config.eps_low >= 1:
        raise ValueError(f"--eps-low {config.eps_low} must be below 1: a ratio is never below 0.")
    check_device(config.device or default_device())
