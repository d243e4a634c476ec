"""A run: its configuration, the presets for the paper's models, and what stands on disk.

    runs/NAME/config.json            the options
    runs/NAME/metrics.jsonl          one line a step
    runs/NAME/checkpoint-STEP/       model, optimizer and state: all that --resume needs
    runs/NAME/stage1/ ...            a Hugging Face folder for each finished stage
    runs/NAME/summary.json           the measurements before and after

Every random stream of a run is keyed by (seed, step), so a checkpoint holds no generator state. The defaults are the
paper's hyper-parameters (Section 4, "shared by all methods"); a preset replaces those that a model needs otherwise.
"""

import json
import os
import shutil
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch

from problems import load_data
from rollout import load_model

# ---------------------------------------------------------------------------------------------------------------------
# Configuration: one dataclass, whose fields are the command line


def option(default, text):
    return field(default=default, metadata={"help": text})


@dataclass
class Config:
    model: str = option("small", "small, a preset, a Hugging Face id, or a folder")
    recipe: str = option("tfpi", "tfpi (the three stages), tfpi+rl (then RL with thinking), "
                                 "or direct (RL with thinking alone)")
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
    instruction: str = option("Please reason step by step, and put your final answer within \\boxed{}.",
                              "what follows the question; paper: this")


DS = {"budgets": "2048,4096,8192"}
PRESETS = {
    "small": {"model": str(Path(__file__).parent / "models" / "small"), "budgets": "80,112,160", "full_budget": 640,
              "prompts": 64, "lr": 1e-4, "minibatches": 2, "draws": 1, "slots": 512, "stage_steps": 45,
              "validate_every": 5, "validation_problems": 250, "eval_problems": 250, "instruction": ""},
    "ds-1.5b": {"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", **DS},
    "ds-7b": {"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", **DS},
    "qwen3-4b": {"model": "Qwen/Qwen3-4B"},
    "qwen3-4b-2507": {"model": "Qwen/Qwen3-4B-Thinking-2507"},
}


def find_settings(model):
    """The settings that go with a model: a preset's; for a stage's folder those of its run; else the paper's.

    Among them, `model` is where to load it from.
    """
    run_config = Path(model).parent / "config.json"
    if model in PRESETS:
        return dict(PRESETS[model])
    if (Path(model).is_dir() and Path(model).resolve() == Path(PRESETS["small"]["model"])):
        return dict(PRESETS["small"])
    if (Path(model).is_dir() and run_config.exists()
            and "full_budget" in (saved := json.loads(run_config.read_text()))):
        return saved | {"model": model, "out": "", "recipe": "tfpi", "steps": 0, "device": ""}
    return {"model": model}


def default_device():
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


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
    seconds: float = 0.0
    truncated: list = field(default_factory=list)  # of the current stage: one value since each validation
    accuracy: list = field(default_factory=list)
    since_validation: list = field(default_factory=list)  # truncated shares of the steps after the last validation
    evaluations: list = field(default_factory=list)  # one entry before training and after each stage


class Run:
    """Everything a step needs.

    Folder layout: config.json, metrics.jsonl, checkpoint-STEP/, one Hugging Face folder a stage, summary.json.
    """

    def __init__(self, config, folder, source, state=None):
        self.config, self.folder, self.state = config, folder, state or State()
        self.device = config.device or default_device()
        self.model, self.tokenizer, self.stop_ids = load_model(source, self.device)
        # eps and betas are PyTorch's; no weight decay: RL moves little, and nothing should move for another reason.
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=config.lr, weight_decay=0.0)
        self.train, self.validation, self.test = load_data(config.data)
        self.started = time.monotonic() - self.state.seconds
        self.stop = False

    def seconds(self):
        """Time spent on the run, interruptions not counted."""
        return time.monotonic() - self.started

    def autocast(self):
        # On a GPU: weights and optimizer in fp32, since an lr of 1e-6 is lost in bf16 weights; the matmuls in bf16.
        return torch.autocast("cuda", torch.bfloat16) if self.device.startswith("cuda") else nullcontext()

    def save_checkpoint(self):
        """Writes it beside and renames it, so that it is either whole or absent; the one before is removed after."""
        self.state.seconds = self.seconds()
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


def check_config(config):
    """Raises ValueError, naming the option, for values no run can have."""
    if config.recipe not in ("tfpi", "tfpi+rl", "direct"):
        raise ValueError(f"--recipe {config.recipe} is not one of tfpi, tfpi+rl, direct.")
    if config.normalizer not in ("dapo", "grpo", "dr_grpo"):
        raise ValueError(f"--normalizer {config.normalizer} is not one of dapo, grpo, dr_grpo.")
    if not all(b.strip().isdigit() and int(b) > 0 for b in config.budgets.split(",")):
        raise ValueError(f"--budgets {config.budgets} is not a list of positive numbers such as 2048,4096,8192.")
    if config.group < 2:
        raise ValueError("--group must be at least 2: the advantage compares the responses to one prompt.")
    for f in fields(Config):
        value = getattr(config, f.name)
        if isinstance(f.default, int) and value < (0 if f.name in ("seed", "steps") else 1):
            raise ValueError(f"--{f.name.replace('_', '-')} {value} is too small.")


def new_run(given):
    """A run in a folder of its own, which nobody has written to before."""
    model = given.get("model", "small")
    settings = find_settings(model)
    config = Config(**(settings | {"model": model} | given))
    check_config(config)
    folder = Path(config.out or Path("runs") / Path(model).name)
    if folder.exists() and config.out:
        raise ValueError(f"{folder} exists. Give --out another folder, or --resume to continue the run in it.")
    free = (folder.with_name(f"{folder.name}-{i}") for i in range(2, 1_000_000))
    while folder.exists():
        folder = next(free)
    run = Run(config, folder, settings.get("model", model))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    return run


def resumed_run(given):
    """The run in --out from its newest checkpoint on; options given again replace those of the run."""
    folder = Path(given.get("out") or Path("runs") / Path(given.get("model", "small")).name)
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    if not checkpoints:
        raise ValueError(f"there is no checkpoint in {folder}. Give --out the folder of the run to resume.")
    config = Config(**(json.loads((folder / "config.json").read_text()) | given))
    check_config(config)
    run = Run(config, folder, checkpoints[-1], State(**json.loads((checkpoints[-1] / "state.json").read_text())))
    run.optimizer.load_state_dict(torch.load(checkpoints[-1] / "optimizer.pt", weights_only=True))
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
    # Steps after the checkpoint will be done again, so their lines go.
    metrics.write_text("".join(line for line in lines
                               if line.endswith("\n") and json.loads(line)["step"] <= run.state.step))
    return run
