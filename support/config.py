"""The configuration of a run: one dataclass, whose fields are the command line, and the presets.

The defaults are the paper's hyper-parameters (Section 4, "shared by all methods"); a preset
replaces those that a model needs otherwise. All that is known of an option stands where it is
declared.
"""

import argparse
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from support.cli import (
    LARGEST,
    LARGEST_SEED,
    SMALLEST,
    Parser,
    check_number,
    check_text,
    expand,
    flag,
)
from support.disk import read_json
from support.model import check_device, default_device

MODES = ("thinking", "thinking_free")  # what is measured with the prompt x, and with x'
RECIPES = ("tfpi", "tfpi+rl", "direct", "multistage")
NORMALIZERS = ("dapo", "grpo", "dr_grpo")
WHETHER = ("auto", "yes", "no")
OFFLOADS = ("auto", "yes", "all", "no")
DTYPES = ("auto", "bf16", "fp16")
# Samples of one prompt are drawn at once, whatever --slots says, and all of a step are kept.
MOST_SAMPLES = 10_000
MOST_PROMPTS = 1_000_000
TEMPERATURES = (0.01, 100.0)  # beyond, logits over it overflow, or nothing is left of them


def option(default, text, *, least=None, most=LARGEST, choices=None, fixed=False, heading=None):
    """One option of the command line.

    least, most: the bounds of a number; without them whole ones are 1 at least, others positive.
    choices: the words that are allowed. fixed: a resumed run may not change it, since its state and
    its table of measurements rest on it. heading: begins a group of --help.
    """
    if least is None:
        least = SMALLEST if isinstance(default, float) else 1
    known = {"text": text, "choices": choices, "fixed": fixed, "heading": heading}
    return field(default=default, metadata=known | {"least": least, "most": most})


@dataclass
class Config:
    model: str = option(
        "small",
        "small, a preset, a Hugging Face id, or a folder",
        fixed=True,
        heading="what to train, on what",
    )
    recipe: str = option(
        "tfpi",
        "tfpi (the three stages), tfpi+rl (then RL with thinking), direct (RL with thinking "
        "alone), or multistage (the three budgets with thinking)",
        choices=RECIPES,
        fixed=True,
    )
    data: str = option(
        "",
        "your own problems and answers, of which a tenth is held out: JSONL, JSON, CSV, Parquet, "
        "or a data set such as openai/gsm8k:main:train; without it, the bundled problems",
        fixed=True,
    )
    out: str = option("", "output folder; without it, runs/MODEL, or the next free name")
    seed: int = option(0, "seed of every random stream", least=0, most=LARGEST_SEED, fixed=True)
    device: str = option("", "cpu, cuda or mps; without it, the best there is")
    instruction: str = option(
        "Please reason step by step, and put your final answer within \\boxed{}.",
        "what follows the question; paper: this",
        fixed=True,
    )

    budgets: str = option(
        "4096,8192,16384",
        "response budgets of the stages, in tokens; paper: 2K,4K,8K for DS-1.5B and DS-7B, "
        "4K,8K,16K for Qwen3-4B",
        fixed=True,
        heading="the stages",
    )
    full_budget: int = option(
        32768, "budget of evaluation and of RL with thinking; paper: 32K to 52K", fixed=True
    )
    steps: int = option(
        0, "a fixed number of steps for each stage; 0 ends a stage when it levels off", least=0
    )
    stage_steps: int = option(
        200, "steps after which a stage ends in any case; paper: about 100 in stage 1"
    )
    validate_every: int = option(
        10, "steps between validations, by which a stage's end is found", fixed=True
    )
    validation_problems: int = option(500, "problems of a validation; paper: MATH500", fixed=True)

    prompts: int = option(
        256, "prompts a step; paper: 256", most=MOST_PROMPTS, heading="a step of DAPO"
    )
    group: int = option(8, "rollouts a prompt; paper: 8", least=2, most=MOST_SAMPLES)
    draws: int = option(
        3,
        "dynamic sampling: at most this many times the prompts are drawn to fill a batch with "
        "groups that are not flat",
    )
    temperature: float = option(
        1.0,
        "sampling temperature of rollouts and evaluation; paper: 1.0, evaluation 0.6",
        least=TEMPERATURES[0],
        most=TEMPERATURES[1],
        fixed=True,
    )
    lr: float = option(1e-6, "learning rate, constant, no warm-up; paper: 1e-6", most=10.0)
    eps_low: float = option(0.2, "clip range below 1; DAPO: 0.2")
    eps_high: float = option(0.28, "clip range above 1 (clip-higher); DAPO: 0.28", most=1000.0)
    normalizer: str = option(
        "dapo",
        "loss normaliser: dapo (all tokens of the batch; paper), grpo or dr_grpo",
        choices=NORMALIZERS,
    )
    minibatches: int = option(1, "optimizer steps a batch")

    ranks: int = option(
        0,
        "processes that share the work; 0: one a core (on CUDA one a card), fewer where memory is "
        "short",
        least=0,
        most=1024,
        heading="the machine",
    )
    threads: int = option(
        0, "threads of each of them; 0: one, more where cores are left over", least=0, most=1024
    )
    slots: int = option(256, "responses sampled at once, at most; fewer where memory is short")
    micro_tokens: int = option(
        16384, "padded tokens through the model at once in an update; lower it when memory runs out"
    )
    recompute: str = option(
        "auto",
        "yes: an update keeps one input a layer and computes the rest twice, with the same result; "
        "auto: on CUDA, where the plan says so",
        choices=WHETHER,
    )
    offload: str = option(
        "auto",
        "yes: fp32 weights and Adam's moments are in the host's memory, and the device has the "
        "weights in --dtype; all: gradients are added up there, too; auto: on CUDA, where the plan "
        "says so",
        choices=OFFLOADS,
    )
    dtype: str = option(
        "auto",
        "what the model computes in where --offload is yes or all; auto: on CUDA bf16, or fp16 "
        "where a card has none (a T4)",
        choices=DTYPES,
    )

    eval_problems: int = option(
        500,
        "problems of the evaluation before and after each stage",
        fixed=True,
        heading="what is measured and kept",
    )
    eval_samples: int = option(
        4,
        "samples a problem (avg@k) before training and at its end, 1 between stages; paper: 32 on "
        "AIME",
        most=MOST_SAMPLES,
        fixed=True,
    )
    save_every: int = option(20, "steps between checkpoints")
    snapshot_every: int = option(
        0,
        "steps between models that are kept, as stepN/; 0 keeps those of the stages' ends",
        least=0,
    )

    def stage_budgets(self):
        """The budgets as whole numbers; ValueError if they are none."""
        words = [word.strip() for word in self.budgets.split(",")]
        # Python reads no number of thousands of digits.
        if not all(re.fullmatch(r"\d{1,10}", word) and 0 < int(word) <= LARGEST for word in words):
            raise ValueError(
                f"--budgets {self.budgets} is not a list of numbers from 1 to {LARGEST}, such as "
                "2048,4096,8192."
            )
        return [int(word) for word in words]


FIXED = [f.name for f in fields(Config) if f.metadata["fixed"]]

# Fewer problems than Config's: a run of three stages measures four times, and four times 500
# problems x 4 samples with thinking, at 32K tokens, cost as much as stage 1 itself.
PAPER = {"eval_problems": 60, "eval_samples": 4}
DS = {"budgets": "2048,4096,8192", **PAPER}
PRESETS = {
    "small": {
        "model": str(Path(__file__).parent.parent / "models" / "small"),
        "budgets": "80,112,160",
        "full_budget": 640,
        "prompts": 64,
        "lr": 1e-4,
        "minibatches": 4,
        "draws": 1,
        "slots": 512,
        "micro_tokens": 1536,
        "stage_steps": 90,
        "validate_every": 4,
        "validation_problems": 250,
        "eval_problems": 250,
        "instruction": "",
    },
    "ds-1.5b": {"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", **DS},
    "ds-7b": {"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", **DS},
    "qwen3-0.6b": {"model": "Qwen/Qwen3-0.6B", **PAPER},
    "qwen3-1.7b": {"model": "Qwen/Qwen3-1.7B", **PAPER},
    "qwen3-4b": {"model": "Qwen/Qwen3-4B", **PAPER},
    "qwen3-8b": {"model": "Qwen/Qwen3-8B", **PAPER},
    "qwen3-4b-2507": {"model": "Qwen/Qwen3-4B-Thinking-2507", **PAPER},
}


def find_settings(model):
    """The settings that go with a model: a preset's; for a stage's folder its run's; else none.

    Among them, `model` is where to load it from. Raises ValueError for the folder of a run, which
    holds several.
    """
    if model in PRESETS:
        return dict(PRESETS[model])
    folder = Path(model)
    if not folder.is_dir():
        return {"model": model}
    if folder.resolve() == Path(PRESETS["small"]["model"]):
        return dict(PRESETS["small"])
    if is_run(folder):
        raise ValueError(f"{folder} is a run; give --model {last_model(folder)}")
    if is_run(folder.parent):
        saved = asdict(read_json(folder.parent / "config.json", Config))
        # Not what told that run where and how to go, nor what its machine had room for.
        saved |= {"model": model, "out": "", "recipe": "tfpi", "steps": 0, "device": ""}
        saved |= {"recompute": "auto", "offload": "auto", "dtype": "auto"}
        return saved | {"ranks": 0, "threads": 0}
    return {"model": model}


def is_run(folder):
    """Whether tfpi.py's options lie in it."""
    path = folder / "config.json"
    return path.is_file() and b'"full_budget"' in path.read_bytes()


def last_model(run):
    """The folder of a run's last stage, or the furthest model that it has so far, for a message."""

    def numbers(path):
        return [int(n) for n in re.findall(r"\d+", path.name)]

    for name in ("rl", r"stage\d+", r"step\d+", r"checkpoint-\d+-\d+"):
        found = [path for path in run.iterdir() if re.fullmatch(name, path.name)]
        if found:
            return max(found, key=numbers)
    return "one of its stages, of which none has ended yet."


# --------------------------------------------------------------------------------------------------
# The command line


def describe_default(f):
    """What --help says of a default; the small model, which is the default, has some of its own."""
    small = PRESETS["small"].get(f.name, f.default)
    if f.name == "model" or small == f.default:
        return f" (default: {f.default})" if f.default != "" else ""
    return f" (default: {f.default}; small: {small if small != '' else 'nothing'})"


def parse_arguments(argv):
    """The command line: the options given, and what to do (resume, plan, memory).

    Options that are not given are the model's preset's, or Config's.
    """
    parser = Parser(description="Thinking-Free Policy Initialization.")
    for f in fields(Config):
        if f.metadata["heading"]:
            group = parser.add_argument_group(f.metadata["heading"])
        text = f.metadata["text"] + describe_default(f)
        group.add_argument(flag(f.name), type=type(f.default), help=text.replace("%", "%%"))
    group = parser.add_argument_group("what to do")
    group.add_argument("--resume", action="store_true", help="continue the run in --out")
    group.add_argument(
        "--plan", action="store_true", help="say what the run would need, and do nothing"
    )
    group.add_argument("--memory", type=float, help="with --plan: of a card with so many GB")
    given = vars(parser.parse_args(argv))
    todo = argparse.Namespace(**{name: given.pop(name) for name in ("resume", "plan", "memory")})
    for name in ("model", "data", "out"):
        given[name] = expand(given[name])
    return {name: value for name, value in given.items() if value is not None}, todo


def make_config(given):
    """The Config of the options given and of their model's settings, checked; where to load it."""
    model = given.get("model", "small")
    settings = find_settings(model)
    config = Config(**(settings | {"model": model} | given))
    check_config(config)
    return config, settings.get("model", model)


def check_config(config):
    """Raises ValueError, naming the option, for values no run can have."""
    if config.group < 2:
        raise ValueError(
            "--group must be at least 2: the advantage compares the responses to one prompt."
        )
    if not config.model.strip():
        raise ValueError("--model is empty. Give small, a preset, a Hugging Face id, or a folder.")
    for f in fields(config):
        value = getattr(config, f.name)
        choices = f.metadata["choices"]
        if isinstance(f.default, str):
            check_text(f.name, value)
        else:
            check_number(f.name, value, f.metadata["least"], f.metadata["most"])
        if choices and value not in choices:
            raise ValueError(f"{flag(f.name)} {value} is not one of {', '.join(choices)}.")
    config.stage_budgets()
    if config.dtype != "auto" and config.offload == "no":
        raise ValueError(
            f"--dtype {config.dtype} is for a working copy of the weights. Leave out --offload no."
        )
    if config.eps_low >= 1:
        raise ValueError(f"--eps-low {config.eps_low} must be below 1: a ratio is never below 0.")
    check_device(config.device or default_device())
