"""The options of tfpi.py and of eval.py, whose fields are their command lines, and the presets.

The defaults are the paper's hyper-parameters (Section 4, "shared by all methods"); a preset has
those that a model needs otherwise. All that is known of an option stands where it is declared.
"""

import argparse
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from support.cli import (
    LARGEST,
    LARGEST_SEED,
    Parser,
    add_options,
    check_fields,
    check_number,
    expand,
    flag,
    option,
)
from support.disk import is_run, last_model, read_json
from support.model import check_device, default_device

MODES = ("thinking", "thinking_free")  # what is measured with the prompt x, and with x'
# Samples of one prompt are drawn at once, whatever --slots says, and all of a step are kept.
MOST_SAMPLES = 10_000
TEMPERATURES = (0.01, 100.0)  # beyond, logits over it overflow, or nothing is left of them


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
        choices=("tfpi", "tfpi+rl", "direct", "multistage"),
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
        256, "prompts a step; paper: 256", most=1_000_000, heading="a step of DAPO"
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
        choices=("dapo", "grpo", "dr_grpo"),
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
        choices=("auto", "yes", "no"),
    )
    offload: str = option(
        "auto",
        "yes: fp32 weights and Adam's moments are in the host's memory, and the device has the "
        "weights in --dtype; all: gradients are added up there, too; auto: on CUDA, where the plan "
        "says so",
        choices=("auto", "yes", "all", "no"),
    )
    dtype: str = option(
        "auto",
        "what the model computes in where --offload is yes or all; auto: on CUDA bf16, or fp16 "
        "where a card has none (a T4)",
        choices=("auto", "bf16", "fp16"),
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


@dataclass
class Evaluation:
    """What eval.py is asked for; None is what the model's preset or run says."""

    model: str = option("small", "small, a preset of tfpi.py, a hub id, or a folder")
    mode: str = option("both", "", choices=("thinking", "thinking-free", "both"))
    k: int = option(8, "samples a problem", most=MOST_SAMPLES)
    data: str | None = option(
        None, "your own problems (see problems.py); without it, the bundled test split"
    )
    problems: int = option(250, "how many of them, from the first on")
    budget: int | None = option(None, "in tokens; without it, that of the model's preset or run")
    temperature: float | None = option(
        None, "0 takes the likeliest token; without it, that of the model's preset or run", least=0
    )
    top_k: int = option(0, "draw from the likeliest so many tokens; 0: all", least=0)
    top_p: float = option(
        1.0, "draw from the likeliest tokens of so much probability; 1: all", most=1.0
    )
    seed: int = option(0, "seed of the random streams", least=0, most=LARGEST_SEED)
    slots: int = option(256, "responses sampled at once; lower it when memory runs out")
    ranks: int = option(0, "processes that share the work; 0: one a core", least=0, most=1024)
    device: str = option("", "cpu, cuda or mps")
    show: int = option(0, "print the first responses to so many problems", least=0)
    ask: str | None = option(
        None, "a question of your own: print an answer in each mode, and measure nothing"
    )
    json: str | None = option(None, "write all results to this file, which must not exist yet")
    threads = 0  # of each rank; no option


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


# --------------------------------------------------------------------------------------------------
# The command line


def describe_default(f):
    """What --help says of a default; the small model, which is the default, has some of its own."""
    small = PRESETS["small"].get(f.name, f.default)
    if f.name == "model" or small == f.default:
        return f" (default: {f.default})" if f.default != "" else ""
    return f" (default: {f.default}; small: {small if small != '' else 'nothing'})"


def parse_arguments(argv):
    """tfpi.py's command line: the options given, and what to do (resume, plan, memory).

    Options that are not given are the model's preset's, or Config's.
    """
    parser = Parser(description="Thinking-Free Policy Initialization.")
    add_options(parser, Config, describe_default)
    add = parser.add_argument_group("what to do").add_argument
    add("--resume", action="store_true", help="continue the run in --out")
    add("--plan", action="store_true", help="say what the run would need, and do nothing")
    add("--memory", type=float, help="with --plan: of a card with so many GB")
    given = parser.given(argv)
    todo = {name: given.pop(name, None) for name in ("resume", "plan", "memory")}
    for name in {"model", "data", "out"} & given.keys():
        given[name] = expand(given[name])
    return given, argparse.Namespace(**todo)


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
    check_fields(config)
    config.stage_budgets()
    if config.dtype != "auto" and config.offload == "no":
        raise ValueError(
            f"--dtype {config.dtype} is for a working copy of the weights. Leave out --offload no."
        )
    if config.eps_low >= 1:
        raise ValueError(f"--eps-low {config.eps_low} must be below 1: a ratio is never below 0.")
    check_device(config.device or default_device())


def parse_evaluation(argv):
    """eval.py's command line, as an Evaluation."""
    options = Evaluation(device=default_device())
    parser = Parser(description="Evaluate a model with and without thinking.")
    add_options(parser, Evaluation, lambda f: f" (default: {getattr(options, f.name)})")
    return replace(options, **parser.given(argv))


def check_evaluation(options):
    """Raises ValueError, naming the option, for values that nothing can be measured with."""
    if options.temperature:
        check_number("temperature", options.temperature, *TEMPERATURES)
    check_fields(options)
    options.model = expand(options.model)
    options.data = expand(options.data)
    check_device(options.device)
    if options.ask is None:
        return
    for name in ("data", "json", "show", "k", "problems"):
        if getattr(options, name) != getattr(Evaluation, name):
            raise ValueError(
                f"--ask asks one question, once, without a right answer, so {flag(name)} says "
                "nothing beside it. Leave one of the two out."
            )
    if not options.ask.strip():
        raise ValueError('--ask is empty. Give it a question, such as "What is 3/4 of 84?".')
    options.k = options.show = 1
