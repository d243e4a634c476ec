"""The options of eval.py, and which of them do not go together."""

import argparse

from support.cli import (
    LARGEST,
    LARGEST_SEED,
    SMALLEST,
    Parser,
    check_number,
    check_options,
    expand,
    flag,
)
from support.config import MOST_SAMPLES, TEMPERATURES
from support.model import check_device, default_device

SAMPLES = 8  # a problem
PROBLEMS = 250


def parse_arguments(argv):
    parser = Parser(
        description="Evaluate a model with and without thinking.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="small", help="small, a preset of tfpi.py, a hub id, or a folder")
    add("--mode", default="both", choices=("thinking", "thinking-free", "both"))
    add("-k", type=int, default=SAMPLES, help="samples a problem")
    add("--data", help="your own problems (see problems.py); without it, the bundled test split")
    add("--problems", type=int, default=PROBLEMS, help="how many of them, from the first on")
    add("--budget", type=int, help="in tokens; without it, that of the model's preset or run")
    add(
        "--temperature",
        type=float,
        help="0 takes the likeliest token; without it, that of the model's preset or run",
    )
    add("--top-k", type=int, default=0, help="draw from the likeliest so many tokens; 0: all")
    add(
        "--top-p",
        type=float,
        default=1.0,
        help="draw from the likeliest tokens of so much probability; 1: all",
    )
    add("--seed", type=int, default=0, help="seed of the random streams")
    add(
        "--slots",
        type=int,
        default=256,
        help="responses sampled at once; lower it when memory runs out",
    )
    add("--ranks", type=int, default=0, help="processes that share the work; 0: one a core")
    add("--device", default=default_device(), help="cpu, cuda or mps")
    add("--show", type=int, default=0, help="print the first responses to so many problems")
    add("--ask", help="a question of your own: print an answer in each mode, and measure nothing")
    add("--json", help="write all results to this file, which must not exist yet")
    return argparse.Namespace(**vars(parser.parse_args(argv)), threads=0)


def check_arguments(args):
    """Raises ValueError, naming the option, for values that nothing can be measured with."""
    counts = dict.fromkeys(("problems", "slots", "budget"), (1, LARGEST))
    counts |= dict.fromkeys(("show", "top_k"), (0, LARGEST)) | {"ranks": (0, 1024)}
    counts |= {"k": (1, MOST_SAMPLES), "seed": (0, LARGEST_SEED)}
    check_options(args, counts | {"top_p": (SMALLEST, 1.0)})
    if args.temperature:
        check_number("temperature", args.temperature, *TEMPERATURES)
    args.model = expand(args.model)
    args.data = expand(args.data)
    check_device(args.device)
    if args.ask is not None:
        check_question(args)


def check_question(args):
    """Raises ValueError for a question that is none, or options that measure what it has not."""
    nothing = {"data": None, "json": None, "show": 0, "k": SAMPLES, "problems": PROBLEMS}
    for name, value in nothing.items():
        if getattr(args, name) != value:
            raise ValueError(
                f"--ask asks one question, once, without a right answer, so {flag(name)} says "
                "nothing beside it. Leave one of the two out."
            )
    if not args.ask.strip():
        raise ValueError('--ask is empty. Give it a question, such as "What is 3/4 of 84?".')
    args.k = args.show = 1
