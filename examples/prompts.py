"""The thinking-free prompts x' of problems, with their right answers, for other trainers.

    python examples/prompts.py --data polaris.jsonl --model Qwen/Qwen3-4B --out tfpi.jsonl

A line of JSON a problem: `prompt` is x' as text, which no trainer may put into a chat template once
more, and `answer` the right answer.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from problems import load_problems
from support.cli import Parser, check_options, command, expand, say
from support.config import Config, find_settings
from support.disk import new_file, put
from support.model import read_tokenizer
from thinkfree import check_prompts, describe_prompts, render_all


def write_prompts(path, tokenizer, problems, instruction):
    """A line of JSON a problem: x' as text, which no trainer may put into a template once more."""
    prompts = render_all(tokenizer, problems, instruction, False)
    rows = [{"prompt": x, "answer": p.answer} for x, p in zip(prompts, problems)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    put(path, lambda made: made.write_bytes(text.encode()))


def parse_arguments(argv):
    parser = Parser(
        description="Write the thinking-free prompts x' of problems, for other trainers.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", required=True, help="problems and answers (see problems.py)")
    add("--model", default="small", help="whose tokenizer: a preset, a hub id, or a folder")
    add("--out", default="tfpi.jsonl", help="file to write, which must not exist yet")
    add("--instruction", help="what follows the question; without it, that of tfpi.py")
    return parser.parse_args(argv)


def main(argv=None):
    with command("prompts"):
        args = parse_arguments(argv)
        check_options(args, {})
        settings = find_settings(expand(args.model))
        tokenizer = read_tokenizer(settings.pop("model"))
        check_prompts(tokenizer)
        instruction = args.instruction
        if instruction is None:
            instruction = Config(**settings).instruction
        with new_file(args.out, "--out") as path:
            problems = load_problems(expand(args.data))
            write_prompts(path, tokenizer, problems, instruction)
        say("\n".join(describe_prompts(tokenizer)))
        say(f"{len(problems)} prompts x' in {path}")


if __name__ == "__main__":
    main()
