"""Makes the small distilled model: a teacher that is a program, its traces, and SFT.

The paper starts from models that were distilled by SFT from a stronger teacher's long chains of
thought (DS-1.5B, Qwen3-4B). This file makes such a model, of 0.65M parameters, from nothing:

    python distill.py     # writes runs/distilled in an hour on two cores; Ctrl-C keeps what it has

The teacher solves a problem in *passes*. A pass writes the steps of the chain. A step is either
done in the head (`85 * 6 = 510`) or broken into easy ones (`85 * 6: 80 * 6 = 480, 5 * 6 = 30,
480 + 30 = 510`). After a pass the teacher may check itself with another; when two results differ
("Wait"), it goes on until a result comes twice. The thinking breaks nearly every hard step and
checks a lot; the solution after `</think>` is the same kind of text with less of both.

The solution is drawn from *one* distribution, whether the thinking block is empty or not. If it
were terse after thinking only, RL on the other mode would teach a style in a place where the model
has never seen it, and break the thinking mode.

A teacher that checks needs mistakes to find. They are put into passes that a later pass will check,
and the wrong digits are *left out of the loss*: the model learns to notice a mistake, not to make
one. Left out: sampling from a real teacher, filtering by its correctness, sequence packing.
"""

import math
import random
import sys
import time
from itertools import groupby
from operator import itemgetter

import torch
import torch.nn.functional as F
from tqdm import tqdm

from eval import sample_and_grade, summarise
from grpo import micro_batches
from problems import load_split
from support.arithmetic import FAMILIES, allowed, apply_op, draw_problem
from support.config import PRESETS
from support.files import fill_folder, new_folder, try_folder
from support.options import LARGEST, LARGEST_SEED, SMALLEST, Parser, check_options
from support.small import CARD, make_model, save, train_tokenizer
from support.terminal import calm_streams, say, visible
from thinkfree import render, render_all

# detail: the share of hard steps that are broken up
# check: the probability of one more checking pass, of which there are at most three
THINKING = {"detail": 0.9, "check": 0.85}
SOLUTION = {"detail": 0.33, "check": 0.3}
MISTAKES = 0.12  # the probability of a wrong digit in one of the passes, if there is a check
STEPS = 2600
BOUNDS = {"steps": (1, LARGEST), "seed": (0, LARGEST_SEED), "lr": (SMALLEST, 10.0)}
PARTS = 6  # one operation in the first of so many parts of SFT, up to two in the second, then three
# --------------------------------------------------------------------------------------------------
# The teacher. A trace is a list of (text, learn) pieces; those with learn = False are read by the
# model but not imitated.


def break_up(value, symbol, n):
    """The easy steps (left, symbol, right) of a hard one; none if it is easy itself."""
    if symbol in "+-" and n > 10 and n % 10:
        ones = n % 10
        tens = n - ones
        return [(value, symbol, tens), (apply_op(value, symbol, tens), symbol, ones)]
    if symbol == "*" and value > 10 and value % 10:
        ones = value % 10
        tens = value - ones
        return [(tens, "*", n), (ones, "*", n), (tens * n, "+", ones * n)]
    if symbol == "/" and value > 10 * n and value // n % 10:
        ones = value // n % 10
        tens = value // n - ones
        subtraction = (value, "-", n * tens)
        return [(n, "*", tens), subtraction, (n * ones, "/", n), (tens, "+", ones)]
    if symbol == "%":
        return break_up_remainder(value, n)
    return []


def break_up_remainder(value, n):
    """Takes away the tens of the quotient times n, then the ones."""
    steps = []
    ones = value // n % 10
    tens = value // n - ones
    for part in (tens, ones):
        if part:
            steps += [(n, "*", part), (value, "-", n * part)]
            value -= n * part
    return steps


def slip(value, ops, rng):
    """A believable wrong result: one digit off by one or two.

    The right one if the chain, the remaining ops, could not go on from the wrong one.
    """
    digits = list(str(value))
    place = rng.randrange(len(digits))
    digits[place] = str((int(digits[place]) + rng.choice((1, 2, 8, 9))) % 10)
    wrong = int("".join(digits))
    after = wrong
    for symbol, n in ops:
        if not allowed(after, symbol, n):
            return value
        after = apply_op(after, symbol, n)
    return wrong


def write_step(value, symbol, n, easy):
    """The text of one step up to its result, which may be a wrong one: `47 + 38`, or more."""
    text = f"{value} {'mod' if symbol == '%' else symbol} {n}"
    if not easy:
        return text
    equations = [f"{left} {op} {right} = {apply_op(left, op, right)}" for left, op, right in easy]
    return f"{text}: {', '.join(equations)}".rpartition(" = ")[0]


def write_pass(start, ops, detail, mistake, rng):
    """The steps of the chain as (text, learn) pieces, and its result.

    With `mistake`, one of the results is wrong.
    """
    pieces = []
    value = start
    mistake_at = rng.randrange(len(ops)) if mistake else -1
    for i, (symbol, n) in enumerate(ops):
        right = apply_op(value, symbol, n)
        result = slip(right, ops[i + 1 :], rng) if i == mistake_at else right
        easy = break_up(value, symbol, n) if rng.random() < detail else []
        text = write_step(value, symbol, n, easy)
        end = ". " if i < len(ops) - 1 else "."
        pieces += [(f"{text} = ", True), (str(result), result == right), (end, True)]
        value = result
    return pieces, value


def write_work(problem, detail, check, answer, rng):
    """One pass, or several until a result comes twice, then `So ...`, as (text, learn) pieces.

    The last result is right.
    """
    checks = 0
    while checks < 3 and rng.random() < check:
        checks += 1
    mistake_at = rng.randrange(checks + 1) if checks and rng.random() < MISTAKES else -1
    pieces = []
    results = []
    while len(results) <= checks or (checks and results.count(results[-1]) < 2):
        mistake = len(results) == mistake_at
        steps, result = write_pass(problem.start, problem.ops, detail, mistake, rng)
        if results:
            verdict = " Same." if result in results else " Wait, that differs."
            steps = [("Check: ", True), *steps, (verdict, True)]
        pieces += [*steps, ("\n", True)]
        results.append(result)
    return pieces + [(f"So {answer}", True)]


def write_trace(problem, thinking, rng):
    """A whole response as (text, learn) pieces.

    Without thinking it is the solution alone: the empty block is in the prompt.
    """
    block = []
    if thinking:
        work = write_work(problem, **THINKING, answer=problem.answer + ".", rng=rng)
        block = [("<think>\n", True), *work, ("\n</think>\n\n", True)]
    solution = write_work(problem, **SOLUTION, answer=f"\\boxed{{{problem.answer}}}", rng=rng)
    return block + solution + [("<|im_end|>", True)]


def sample_texts(seed, count=4000):
    """What the tokenizer is trained on: questions and thinking traces."""
    rng = random.Random(seed)
    problems = [draw_problem(rng, families=tuple(FAMILIES)) for _ in range(count)]
    for problem in problems:
        trace = "".join(text for text, _ in write_trace(problem, True, rng))
        yield f"user\nassistant\n{problem.problem}{trace}"


# --------------------------------------------------------------------------------------------------
# SFT


def encode_trace(tokenizer, problem, thinking, rng):
    """Token ids of prompt and response, and which of them are learnt: (list[int], list[bool])."""
    prompt = render(tokenizer, problem.problem, "", thinking)
    pieces = [(prompt, False), *write_trace(problem, thinking, rng)]
    texts = []
    learnt = []
    for learn, group in groupby(pieces, key=itemgetter(1)):
        # Neighbours are encoded as one text, so that a piece ends only where a token does.
        texts.append("".join(text for text, _ in group))
        learnt.append(learn)
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    mask = [learn for ids, learn in zip(encoded, learnt) for _ in ids]
    return sum(encoded, []), mask


def draw_traces(tokenizer, levels, count, held_out, rng):
    """`count` encoded traces, half of which think, of fresh problems that are not held out."""
    traces = []
    while len(traces) < count:
        problem = draw_problem(rng, levels, tuple(FAMILIES))
        if problem.problem not in held_out:
            thinking = len(traces) % 2 == 0
            traces.append(encode_trace(tokenizer, problem, thinking, rng))
    return traces


def draw_batches(tokenizer, steps, seed, tokens=6144, pool=1024):
    """Yields `steps` right-padded pairs (input_ids, labels), both (B, T) int64, B * T <= tokens.

    Labels are -100 where nothing is learnt. Problems come fresh from the generator, never one of
    the validation or test split. Traces of like length share a batch: lengths differ tenfold, and
    padding would be most of the work. A curriculum: first one operation, then up to two, then up to
    three, so that the arithmetic is learnt on short traces, which are cheap.
    """
    rng = random.Random(seed)
    held_out = {p.problem for split in ("validation", "test") for p in load_split(split)}
    step = 0
    while True:
        part = PARTS * step // steps
        levels = range(1, 2 + min(2, part))
        traces = draw_traces(tokenizer, levels, pool, held_out, rng)
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


def sft(model, batches, steps, lr, warmup=100):
    """Next-token cross-entropy over the learnt tokens with AdamW; yields the loss of each step.

    Linear warm-up, then a cosine from lr to 0.4 lr: training stops while there is still something
    to learn, as for the models of the paper.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    for step, (input_ids, labels) in enumerate(batches):
        cosine = 0.7 + 0.3 * math.cos(math.pi * step / steps)
        scale = min(1, (step + 1) / warmup) * cosine
        for group in optimizer.param_groups:
            group["lr"] = lr * scale
        # Right padding under a causal mask: no real token sees a pad, so no mask is needed.
        logits = model(input_ids=input_ids[:, :-1], use_cache=False).logits  # (B, T - 1, V)
        targets = labels[:, 1:].flatten()
        loss = F.cross_entropy(logits.flatten(0, 1), targets, ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss.item()


# --------------------------------------------------------------------------------------------------
# The whole


def measure(model, tokenizer):
    """Both modes on the validation split at temperature 1, as a table of Markdown."""
    budget = PRESETS["small"]["full_budget"]
    options = {"max_new_tokens": budget, "stop_ids": {tokenizer.eos_token_id}, "samples": 4}
    problems = load_split("validation")
    answers = [p.answer for p in problems]
    table = f"| mode | correct | tokens | truncated at {budget} | empty blocks |\n{5 * '|---'}|"
    for name, thinking in (("thinking", True), ("thinking-free", False)):
        prompts = render_all(tokenizer, problems, "", thinking)
        groups = sample_and_grade(model, tokenizer, prompts, answers, label=name, **options)
        r = summarise(tokenizer, groups)
        correct = f"{r['accuracy']:.1%} ± {r['error']:.1%}"
        shares = f"{r['truncated']:.1%} | {r['empty']:.1%}"
        table += f"\n| {name} | {correct} | {r['tokens']:.0f} | {shares} |"
    return table


def distill(seed, steps, lr):
    """(model, tokenizer, steps done), from nothing. Ctrl-C ends SFT early."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(sample_texts(seed))
    model = make_model(tokenizer)
    losses = sft(model, draw_batches(tokenizer, steps, seed), steps, lr)
    done = 0
    with tqdm(losses, total=steps, desc="SFT", unit="step") as bar:
        try:
            for done, loss in enumerate(bar, start=1):
                bar.set_postfix_str(f"loss {loss:.3f}")
                if not math.isfinite(loss):
                    raise ValueError(f"the loss is not finite at step {done}. Lower --lr.")
        except KeyboardInterrupt:
            if not done:
                raise
    return model, tokenizer, done


def parse_arguments(argv):
    parser = Parser(description="Make the small distilled model.")
    add = parser.add_argument
    add("--out", help="folder to write; without it, runs/distilled or the next free name")
    add("--seed", type=int, default=0, help="seed of weights, problems and traces (default: 0)")
    add("--steps", type=int, default=STEPS, help="SFT steps (default: %(default)s)")
    add("--lr", type=float, default=3e-3, help="peak learning rate (default: %(default)s)")
    return parser.parse_args(argv)


def main(argv=None):
    """Distils, saves, measures, and writes the model's card."""
    calm_streams()
    args = parse_arguments(argv)
    torch.set_flush_denormal(True)
    kept = ""
    try:
        check_options(args, BOUNDS)
        out = new_folder(args.out, "runs/distilled")
        with try_folder(out):
            started = time.monotonic()
            model, tokenizer, done = distill(args.seed, args.steps, args.lr)
            fill_folder(out, lambda folder: save(model, tokenizer, folder))
            kept = f" The model after {done} of {args.steps} steps is in {out}."
            if done < args.steps:
                raise KeyboardInterrupt
            minutes = (time.monotonic() - started) / 60
            numbers = vars(args) | {"parameters": model.num_parameters() / 1e6, "minutes": minutes}
            table = measure(model, tokenizer)
            card = CARD.format(**numbers, table=table)
            fill_folder(out, lambda folder: (folder / "README.md").write_text(card, "utf-8"))
        return say(f"{table}\nwritten to {out} after {minutes:.1f} minutes")
    except (ValueError, OSError, MemoryError) as error:
        reason = str(error)
    except KeyboardInterrupt:
        reason = "stopped."
    sys.exit(visible(f"distill: {reason}{kept}"))


if __name__ == "__main__":
    main()
