"""SFT on a teacher's traces: makes the small distilled model, or teaches a real one to think.

The paper starts from models that were distilled by SFT from a stronger teacher's long chains of
thought (DS-1.5B, Qwen3-4B). This file makes such a model, of 0.65M parameters, from nothing:

    python distill.py     # writes runs/distilled in an hour on two cores; Ctrl-C keeps what it has

or continues a pretrained one, with its own tokenizer, until it thinks as the teacher does:

    python distill.py --model smollm2

The teacher is a program: lesson/teacher.py says what its traces are like. Left out: sampling from
a real teacher, filtering by its correctness, sequence packing.
"""

import argparse
import math
import random
import sys
import time
from itertools import groupby
from operator import itemgetter

import torch
import torch.nn.functional as F
from tqdm import tqdm
from transformers.utils import logging

from eval import sample_and_grade, summarise
from grpo import micro_batches
from lesson.arithmetic import FAMILIES, draw_problem
from lesson.small import CARD, SWITCH, TAUGHT_CARD, make_model, save, train_tokenizer
from lesson.teacher import write_trace
from problems import load_split
from support import ranks
from support.cli import LARGEST, LARGEST_SEED, SMALLEST, Parser, check_options, command, say
from support.config import PRESETS, Config
from support.disk import new_folder, put, put_all, try_folder
from support.model import ModelError, default_device, forward_hidden, load_model
from support.offload import gradients
from support.plan import share_work
from thinkfree import render

# From nothing, or from a pretrained model, which can write already and forgets at a high rate.
SMALL = {
    "steps": 2600,
    "lr": 3e-3,
    "tokens": 6144,  # of a step
    "pool": 1024,  # traces that are drawn at once
    "instruction": PRESETS["small"]["instruction"],  # behind each question, as tfpi.py puts it
    "problems": 500,  # that it is measured on
    "samples": 4,
}
PRETRAINED = {
    "steps": 400,
    "lr": 4e-4,
    "tokens": 1024,
    "pool": 64,
    "instruction": Config.instruction,
    "problems": 100,
    "samples": 1,
}
BOUNDS = {"steps": (1, LARGEST), "seed": (0, LARGEST_SEED), "lr": (SMALLEST, 10.0)}
BOUNDS["ranks"] = (0, 1024)
SAVE_EVERY = 100  # steps, after which the model is kept: a killed process loses no more
PARTS = 6  # one operation in the first of so many parts of SFT, up to two in the second, then three


def sample_texts(seed, count=4000):
    """What the tokenizer is trained on: questions and thinking traces."""
    rng = random.Random(seed)
    problems = [draw_problem(rng, families=tuple(FAMILIES)) for _ in range(count)]
    for problem in problems:
        trace = "".join(text for text, _ in write_trace(problem, True, rng))
        yield f"user\nassistant\n{problem.problem}{trace}<|im_end|>"


# --------------------------------------------------------------------------------------------------
# SFT


def encode_trace(tokenizer, problem, thinking, rng, instruction=""):
    """Token ids of prompt and response, and which of them are learnt: (list[int], list[bool])."""
    prompt = (render(tokenizer, problem.problem, instruction, thinking), False)
    end = (tokenizer.eos_token, True)
    pieces = [prompt, *write_trace(problem, thinking, rng), end]
    texts = []
    learnt = []
    for learn, group in groupby(pieces, key=itemgetter(1)):
        # Neighbours are encoded as one text, so that a piece ends only where a token does.
        texts.append("".join(text for text, _ in group))
        learnt.append(learn)
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    mask = [learn for ids, learn in zip(encoded, learnt) for _ in ids]
    return sum(encoded, []), mask


def held_out_questions():
    """The questions of the splits that are measured on: a set of texts."""
    return {p.problem for split in ("validation", "test") for p in load_split(split)}


def draw_traces(tokenizer, levels, count, held_out, rng, instruction=""):
    """`count` encoded traces, half of which think, of fresh problems that are not held out."""
    traces = []
    while len(traces) < count:
        problem = draw_problem(rng, levels, tuple(FAMILIES))
        if problem.problem not in held_out:
            thinking = len(traces) % 2 == 0
            traces.append(encode_trace(tokenizer, problem, thinking, rng, instruction))
    return traces


def draw_batches(tokenizer, steps, seed, tokens=6144, pool=1024, instruction=""):
    """Yields `steps` right-padded pairs (input_ids, labels), both (B, T) int64, B * T <= tokens.

    Labels are -100 where nothing is learnt. Problems come fresh from the generator, never one of
    the validation or test split. Traces of like length share a batch: lengths differ tenfold, and
    padding would be most of the work. A curriculum: first one operation, then up to two, then up to
    three, so that the arithmetic is learnt on short traces, which are cheap.
    """
    rng = random.Random(seed)
    held_out = held_out_questions()
    step = 0
    while True:
        part = PARTS * step // steps
        levels = range(1, 2 + min(2, part))
        traces = draw_traces(tokenizer, levels, pool, held_out, rng, instruction)
        batches = micro_batches(traces, lambda trace: len(trace[0]), tokens)
        rng.shuffle(batches)
        for batch in batches:
            yield pad_batch(batch, tokenizer.pad_token_id)
            step += 1
            if step == steps:
                return


def pad_batch(traces, pad):
    """(input_ids, labels) of encoded traces, padded on the right."""
    longest = max(len(ids) for ids, _ in traces)
    input_ids = []
    labels = []
    for ids, mask in traces:
        padding = longest - len(ids)
        learnt = [token if learn else -100 for token, learn in zip(ids, mask)]
        input_ids.append(ids + [pad] * padding)
        labels.append(learnt + [-100] * padding)
    return torch.tensor(input_ids), torch.tensor(labels)


def sft(model, batches, steps, lr):
    """Next-token cross-entropy over the learnt tokens with AdamW; yields the loss of each step.

    Linear warm-up, then a cosine from lr to 0.4 lr: training stops while there is still something
    to learn, as for the models of the paper.
    """
    warmup = max(1, min(100, steps // 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    for step, (input_ids, labels) in enumerate(batches):
        cosine = 0.7 + 0.3 * math.cos(math.pi * step / steps)
        scale = min(1, (step + 1) / warmup) * cosine
        for group in optimizer.param_groups:
            group["lr"] = lr * scale
        optimizer.zero_grad()
        loss = torch.zeros((), device=model.device)
        if len(own_ids := ranks.part(input_ids)):
            count = (labels[:, 1:] != -100).sum().item()  # of all ranks: pitfall: accumulation
            loss = sft_loss(model, own_ids, ranks.part(labels)) / count
            loss.backward()
        loss = loss.detach()
        ranks.add_up([loss, *gradients(optimizer)])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss.item()


def sft_loss(model, input_ids, labels):
    """The sum of cross-entropies over the learnt tokens of a batch (B, T)."""
    # Right padding under a causal mask: no real token sees a pad, so no mask is needed.
    hidden = forward_hidden(model, input_ids[:, :-1].to(model.device))  # (B, T - 1, H)
    targets = labels[:, 1:].to(model.device)
    learnt = targets != -100
    logits = model.get_output_embeddings()(hidden[learnt])  # (N, V): of no prompt, of no pad
    return F.cross_entropy(logits.float(), targets[learnt], reduction="sum")


# --------------------------------------------------------------------------------------------------
# The whole


def measure(model, tokenizer, args):
    """Both modes on the validation problems at temperature 1, as a table of Markdown."""
    budget = PRESETS["small"]["full_budget"]
    options = {
        "max_new_tokens": budget,
        "stop_ids": {tokenizer.eos_token_id},
        "samples": args.samples,
    }
    problems = load_split("validation")[: args.problems]
    table = f"| mode | correct | tokens | truncated at {budget} | empty blocks |\n{5 * '|---'}|"
    for name, thinking in (("thinking", True), ("thinking-free", False)):
        groups = sample_and_grade(
            model, tokenizer, problems, thinking, args.instruction, label=name, **options
        )
        r = summarise(tokenizer, groups)
        correct = f"{r['accuracy']:.1%} ± {r['error']:.1%}"
        shares = f"{r['truncated']:.1%} | {r['empty']:.1%}"
        table += f"\n| {name} | {correct} | {r['tokens']:.0f} | {shares} |"
    return table


def start_model(source, seed):
    """Model and tokenizer that SFT begins with: random weights where no source is named.

    A template that knows no thinking block gets the switch that Qwen3's has. Raises ModelError for
    a source whose template opens the block: it thinks already.
    """
    torch.manual_seed(seed)
    if not source:
        tokenizer = train_tokenizer(sample_texts(seed))
        return make_model(tokenizer), tokenizer
    model, tokenizer, _ = load_model(source, default_device())
    if render(tokenizer, "", "", thinking=True).rstrip().endswith("<think>"):
        raise ModelError(f"{source} opens <think> itself: it thinks. Train it: tfpi.py --model.")
    template = tokenizer.chat_template
    if isinstance(template, str) and "<think>" not in template:  # some have several
        tokenizer.chat_template += SWITCH
    return model, tokenizer


def distill(args, keep, start=()):
    """(model, tokenizer, steps done). Ctrl-C ends SFT early.

    keep(model, tokenizer, steps done) is called every SAVE_EVERY steps, and at the end. start: what
    other ranks are started with.
    """
    model, tokenizer = start_model(args.model, args.seed)
    share_work(model, args, start)
    options = {"tokens": args.tokens, "pool": args.pool, "instruction": args.instruction}
    batches = draw_batches(tokenizer, args.steps, args.seed, **options)
    losses = sft(model, batches, args.steps, args.lr)
    done = 0
    with tqdm(losses, total=args.steps, desc="SFT", unit="step") as bar:
        try:
            for done, loss in enumerate(bar, start=1):
                bar.set_postfix_str(f"loss {loss:.3f}")
                if not math.isfinite(loss):
                    raise ValueError(f"the loss is not finite at step {done}. Lower --lr.")
                if done % SAVE_EVERY == 0:
                    keep(model, tokenizer, done)
        except KeyboardInterrupt:
            if not done:
                raise
    keep(model, tokenizer, done)
    return model, tokenizer, done


def parse_arguments(argv):
    parser = Parser(description="Make the small distilled model, or teach a real one to think.")
    add = parser.add_argument
    add("--model", default="", help="a folder or hub id to go on from; without it, from nothing")
    add("--out", help="folder to write; without it, runs/distilled or the next free name")
    add("--ranks", type=int, default=0, help="processes that share the work; 0: one a core")
    add("--seed", type=int, default=0, help="seed of weights, problems and traces (default: 0)")
    for name, what in (("steps", "SFT steps"), ("lr", "peak learning rate")):
        defaults = f"(default: {SMALL[name]}; with --model {PRETRAINED[name]})"
        add(f"--{name}", type=type(SMALL[name]), help=f"{what} {defaults}")
    return parser.parse_args(argv)


def settle(args):
    """The arguments with what was not given, by what SFT begins with. Raises ValueError."""
    check_options(args, BOUNDS)
    defaults = PRETRAINED if args.model else SMALL
    given = {name: value for name, value in vars(args).items() if value is not None}
    machine = {"out": None, "device": default_device(), "threads": 0}
    return argparse.Namespace(**machine | defaults | given)


def main(argv=None):
    """Distils, saves, measures, and writes the model's card."""
    kept = ""

    @ranks.rank_0_alone
    def keep(model, tokenizer, done):
        nonlocal kept
        put_all(out, lambda folder: save(model, tokenizer, folder))
        kept = f" The model after {done} of {args.steps} steps is in {out}."

    with command("distill", lambda: kept):
        args = settle(parse_arguments(argv))
        logging.disable_progress_bar()  # transformers' own, of loading and saving
        torch.set_flush_denormal(True)
        start = [__file__, *(sys.argv[1:] if argv is None else argv)]
        with ranks.group():
            if ranks.follows():
                return measure(*distill(args, keep)[:2], args)
            out = new_folder(args.out, "runs/distilled")
            with try_folder(out):
                started = time.monotonic()
                model, tokenizer, done = distill(args, keep, start)
                if done < args.steps:
                    raise KeyboardInterrupt
                minutes = (time.monotonic() - started) / 60
                numbers = vars(args) | {"parameters": model.num_parameters() / 1e6}
                numbers |= {"minutes": minutes}
                table = measure(model, tokenizer, args)
                card = (TAUGHT_CARD if args.model else CARD).format(**numbers, table=table)
                put(out / "README.md", lambda made: made.write_text(card, "utf-8"))
        say(f"{table}\nwritten to {out} after {minutes:.1f} minutes")


if __name__ == "__main__":
    main()
