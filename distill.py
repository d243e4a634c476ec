"""Makes the small distilled model: a teacher that is a program, its traces, a tokenizer, and SFT.

The paper starts from models that were distilled by SFT from a stronger teacher's long chains of thought (DS-1.5B,
Qwen3-4B). This file makes such a model, of 0.6M parameters, from nothing:

    python distill.py                         # writes models/small again, in under an hour on two cores

The teacher solves a problem in *passes*. A pass writes the steps of the chain; a step is either done in the head
(`85 * 6 = 510`) or broken into easy ones (`85 * 6: 80 * 6 = 480, 5 * 6 = 30, 480 + 30 = 510`). After a pass it
may check itself with another, and when two results differ ("Wait") it goes on until a result comes twice. The
thinking breaks nearly every hard step and checks a lot; the solution after `</think>` is the same kind of text
with less of both. What stands after `</think>` is drawn from *one* distribution, whether the thinking block is
empty or not: were it terse after thinking only, RL on the other mode would teach a style in a place where it was
never seen, and break the thinking mode.

A teacher that checks needs mistakes to find. They are put into passes that a later pass will check, and the wrong
digits are *left out of the loss*: the model learns to notice a mistake, not to make one. Left out of this file:
sampling from a real teacher, filtering by its correctness, sequence packing.
"""

import argparse
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from eval import evaluate
from grpo import micro_batches
from problems import allowed, apply_op, draw_problem, load_split
from support.config import PRESETS
from thinkfree import render

# detail: the share of hard steps that are broken up; check: the probability of one more checking pass, three at most
THINKING = {"detail": 0.9, "check": 0.85}
SOLUTION = {"detail": 0.33, "check": 0.3}
MISTAKES = 0.12  # the probability that a pass, if a check follows, contains a wrong digit
STEPS = 2600
CURRICULUM = (
    6  # one operation in the first sixth of the steps, up to two in the second, then up to three
)
CHAT_TEMPLATE = """{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"""

# ---------------------------------------------------------------------------------------------------------------------
# The teacher. A trace is a list of (text, learn) pieces; those with learn = False are read by the model but not
# imitated.


def break_up(value, symbol, n):
    """The easy steps of a hard one, [(left, symbol, right, result)], the last result its own; [] if it is easy."""
    tens, ones = n - n % 10, n % 10
    if symbol in "+-" and tens and ones:
        half = apply_op(value, symbol, tens)
        return [(value, symbol, tens, half), (half, symbol, ones, apply_op(half, symbol, ones))]
    if symbol == "*" and value > 10 and value % 10:
        high, low = (value - value % 10) * n, value % 10 * n
        return [
            (value - value % 10, "*", n, high),
            (value % 10, "*", n, low),
            (high, "+", low, high + low),
        ]
    if symbol == "/" and value > 10 * n and value // n % 10:
        high, low = value // n // 10 * 10, value // n % 10
        return [
            (n, "*", high, n * high),
            (value, "-", n * high, n * low),
            (n * low, "/", n, low),
            (high, "+", low, high + low),
        ]
    if symbol == "%":
        easy, rest = [], value
        for quotient in (value // n // 10 * 10, value // n % 10):
            if quotient:
                easy += [
                    (n, "*", quotient, n * quotient),
                    (rest, "-", n * quotient, rest - n * quotient),
                ]
                rest -= n * quotient
        return easy
    return []


def slip(value, ops, rng):
    """A believable wrong result: one digit off by one or two; the right one if the chain could not go on from it."""
    digits = list(str(value))
    place = rng.randrange(len(digits))
    digits[place] = str((int(digits[place]) + rng.choice((1, 2, 8, 9))) % 10)
    result = after = int("".join(digits))
    for symbol, n in ops:
        if not allowed(after, symbol, n):
            return value
        after = apply_op(after, symbol, n)
    return result


def write_pass(start, ops, detail, mistake, rng):
    """The steps of the chain as (text, learn) pieces, and its result; with `mistake`, one of the results is wrong."""
    pieces, value, at = [], start, rng.randrange(len(ops)) if mistake else -1
    for i, (symbol, n) in enumerate(ops):
        name = "mod" if symbol == "%" else symbol
        right = result = apply_op(value, symbol, n)
        if i == at:
            result = slip(right, ops[i + 1 :], rng)
        easy = break_up(value, symbol, n) if rng.random() < detail else []
        text = f"{value} {name} {n}"
        if easy:
            steps = "".join(f"{a} {s} {b} = {c}, " for a, s, b, c in easy[:-1])
            text += ": " + steps + "{} {} {}".format(*easy[-1][:3])
        pieces += [
            (text + " = ", True),
            (str(result), result == right),
            (". " if i < len(ops) - 1 else ".", True),
        ]
        value = result
    return pieces, value


def write_work(problem, detail, check, answer, rng):
    """One pass, or several until a result comes twice, then `So ...`, as (text, learn); the last result is right."""
    checks = 0
    while checks < 3 and rng.random() < check:
        checks += 1
    slip_at = rng.randrange(checks + 1) if checks and rng.random() < MISTAKES else -1
    pieces, results = [], []
    while not results or len(results) <= checks or (checks and results.count(results[-1]) < 2):
        steps, result = write_pass(problem.start, problem.ops, detail, len(results) == slip_at, rng)
        pieces += [("Check: ", True)] * bool(results) + steps
        if results:
            pieces.append((" Same." if result in results else " Wait, that differs.", True))
        pieces.append(("\n", True))
        results.append(result)
    return pieces + [(f"So {answer}", True)]


def write_trace(problem, thinking, rng):
    """A whole response, [(text, learn)]; without thinking the solution alone: the empty block is in the prompt."""
    block = []
    if thinking:
        work = write_work(problem, **THINKING, answer=problem.answer + ".", rng=rng)
        block = [("<think>\n", True), *work, ("\n</think>\n\n", True)]
    solution = write_work(problem, **SOLUTION, answer=f"\\boxed{{{problem.answer}}}", rng=rng)
    return block + solution + [("<|im_end|>", True)]


# ---------------------------------------------------------------------------------------------------------------------
# The tokenizer: byte-level BPE, so any text is representable; digits stay single, so numbers are read and written
# digit by digit.


def train_tokenizer(texts, vocab_size=512):
    """A PreTrainedTokenizerFast with the Qwen specials, `<think>`, `</think>` and the chat template."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|\d|[^A-Za-z\d]+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size - 2,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    # Like Qwen3's: added but not special, so that they survive skip_special_tokens and can be graded.
    tokenizer.add_tokens(
        [
            AddedToken("<think>", special=False, normalized=False),
            AddedToken("</think>", special=False, normalized=False),
        ]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


# ---------------------------------------------------------------------------------------------------------------------
# SFT


def encode_trace(tokenizer, problem, thinking, rng):
    """Token ids of prompt and response, and which of them are learnt: (list[int], list[bool])."""
    pieces = [(render(tokenizer, problem.problem, "", thinking), False)] + write_trace(
        problem, thinking, rng
    )
    merged = []
    for text, learn in pieces:  # neighbours are joined first: a piece ends only where a token does
        if merged and merged[-1][1] == learn:
            merged[-1] = (merged[-1][0] + text, learn)
        else:
            merged.append((text, learn))
    encoded = tokenizer([text for text, _ in merged], add_special_tokens=False)["input_ids"]
    return sum(encoded, []), [learn for ids, (_, learn) in zip(encoded, merged) for _ in ids]


def draw_batches(tokenizer, steps, seed, tokens=6144, pool=1024):
    """Yields `steps` right-padded pairs (input_ids, labels), both (B, T) int64 with B * T <= tokens.

    Labels are -100 where nothing is learnt. Half of the traces think. Problems come fresh from the generator, never
    one of the validation or test split. Traces of like length share a batch: lengths differ tenfold, and padding
    would be most of the work. A curriculum: one operation at first, then up to two, then up to three, so that the
    arithmetic is learnt on short traces, which are cheap.
    """
    rng = random.Random(seed)
    held_out = {p.problem for split in ("validation", "test") for p in load_split(split)}
    step = 0
    while True:
        levels, traces = range(1, 2 + min(2, CURRICULUM * step // steps)), []
        while len(traces) < pool:
            problem = draw_problem(rng, levels)
            if problem.problem not in held_out:
                traces.append(encode_trace(tokenizer, problem, len(traces) % 2 == 0, rng))
        batches = micro_batches([len(ids) for ids, _ in traces], tokens)
        rng.shuffle(batches)
        for batch in batches:
            yield pad_batch([traces[i] for i in batch], tokenizer.pad_token_id)
            step += 1
            if step == steps:
                return


def pad_batch(traces, pad):
    longest = max(len(ids) for ids, _ in traces)
    input_ids = [ids + [pad] * (longest - len(ids)) for ids, _ in traces]
    labels = [
        [i if learn else -100 for i, learn in zip(*trace)] + [-100] * (longest - len(trace[0]))
        for trace in traces
    ]
    return torch.tensor(input_ids), torch.tensor(labels)


def sft(model, batches, steps, lr, warmup=100):
    """Next-token cross-entropy over the learnt tokens with AdamW; yields the loss of each step.

    Linear warm-up, then a cosine from lr to 0.4 lr: training stops while there is still something to learn, as
    for the models of the paper.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    for step, (input_ids, labels) in enumerate(batches):
        scale = min(1, (step + 1) / warmup) * (0.7 + 0.3 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = lr * scale
        # Right padding under a causal mask: no real token ever sees a pad, so no attention mask is needed.
        logits = model(input_ids=input_ids[:, :-1], use_cache=False).logits  # (B, T - 1, V)
        loss = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss.item()


def make_model(tokenizer):
    """A Qwen3 of about 0.65M parameters: width 128, 3 layers, 4 query heads on 2 key/value heads, tied embeddings."""
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            initializer_range=0.05,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def measure(model, tokenizer):
    """Both modes on the validation split at temperature 1, as a table of Markdown."""
    budget = PRESETS["small"]["full_budget"]
    rows = [
        f"| mode | correct | tokens | truncated at {budget} | empty blocks |",
        "|---|---|---|---|---|",
    ]
    problems = load_split("validation")
    for thinking in (True, False):
        prompts = [render(tokenizer, p.problem, "", thinking) for p in problems]
        r = evaluate(
            model,
            tokenizer,
            prompts,
            [p.answer for p in problems],
            k=4,
            budget=budget,
            stop_ids={tokenizer.eos_token_id},
        )
        rows.append(
            f"| {'thinking' if thinking else 'thinking-free'} | {r['accuracy']:.1%} ± {r['error']:.1%} | "
            f"{r['tokens']:.0f} | {r['truncated']:.1%} | {r['empty']:.1%} |"
        )
    return "\n".join(rows)


CARD = """---
library_name: transformers
pipeline_tag: text-generation
---
# small: a {parameters:.2f}M-parameter reasoning model for lessons

A Qwen3-architecture model distilled by SFT from a program that writes chains of thought for short arithmetic problems
(`python distill.py --seed {seed} --steps {steps}`, {minutes:.0f} minutes on two CPU cores). It exists to be trained by
`tfpi.py`, and knows nothing else. It thinks in `<think>...</think>`, then writes a solution that ends in
`\\boxed{{}}`; with an empty thinking block in its prompt (`enable_thinking=False` in the chat template) it writes the
solution at once.

Bundled validation split, temperature 1, 4 samples a problem, standard error over problems:

{table}
"""


def main():
    parser = argparse.ArgumentParser(
        description="Make the small distilled model.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", default="models/small", help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, problems and traces")
    parser.add_argument("--steps", type=int, default=STEPS, help="SFT steps")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    started, rng = time.monotonic(), random.Random(args.seed)
    sample = [draw_problem(rng) for _ in range(4000)]
    tokenizer = train_tokenizer(
        [
            "user\nassistant\n" + p.problem + "".join(text for text, _ in write_trace(p, True, rng))
            for p in sample
        ]
    )
    model = make_model(tokenizer)
    losses = sft(model, draw_batches(tokenizer, args.steps, args.seed), args.steps, args.lr)
    with tqdm(losses, total=args.steps, desc="SFT", unit="step") as bar:
        for loss in bar:
            bar.set_postfix_str(f"loss {loss:.3f}")
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    minutes, table = (time.monotonic() - started) / 60, measure(model, tokenizer)
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    card = CARD.format(
        parameters=parameters, seed=args.seed, steps=args.steps, minutes=minutes, table=table
    )
    (Path(args.out) / "README.md").write_text(card)
    print(f"{table}\nwritten to {args.out} after {minutes:.1f} minutes")


if __name__ == "__main__":
    main()
