"""Evaluation: avg@k, pass@k, tokens, truncation, with thinking (prompt x) and without (prompt x').

    python eval.py --model models/small                   # both modes, the bundled test split
    python eval.py --model runs/small/stage3 -k 8 --show 3    # and what it writes, side by side
    python eval.py --ask "What is 3/4 of 84?"                  # a question of your own
    python eval.py --model qwen3-4b --temperature 0.6 --top-p 0.95 --top-k 20    # as the authors do

avg@k is the mean accuracy over k samples a problem, as in the paper's tables; its standard error is
over problems, since samples of one problem are not independent. The modes are kept apart: a
thinking-mode response whose thinking block is empty is thinking-free in disguise, and is counted in
`empty`; `thought` is the share that really has text in its block. Left out: majority voting,
benchmarks that are not problems with exact answers.
"""

import math
import re
import sys
from contextlib import nullcontext

import numpy as np
from tqdm import tqdm
from transformers.utils import logging

from problems import Problem, drop_copies, load_problems, load_split
from reward import extract_answer, grade
from rollout import Rollout, generate, stream_seed
from support import ranks
from support.cli import command, say, say_above
from support.config import MODES, Config, check_evaluation, find_settings, parse_evaluation
from support.disk import new_file, write_json
from support.memory import memory_advice
from support.model import ModelError, autocast, check_request, find_context, load_model
from support.plan import fit_budgets, share_work
from support.report import format_row
from support.samples import KEPT, Sample, Shown, find_marks
from support.show import show
from thinkfree import check_prompts, describe_prompts, render_all, response_text

# A step (a line) that verifies: Figure 3 follows the share of these. The paper has a language model
# label the steps; words do for a lesson.
VERIFICATION = re.compile(
    r"\b(check|verify|wait|double-check|recheck|make sure|let me confirm)", re.IGNORECASE
)
EMPTY = re.compile(r"\s*<think>\s*</think>")
THOUGHT = re.compile(r"\s*<think>\s*(?!</think>)\S")

# --------------------------------------------------------------------------------------------------
# Sampling and grading, in training as in evaluation


@memory_advice("sampling", "Lower --slots, or the budget.")
def sample_and_grade(
    model, tokenizer, problems, thinking, instruction, *, samples, label, slots=256, **options
):
    """Samples responses to each problem and grades them: a list of groups, one a problem.

    A group is a list of `samples` rollouts, with text, reward and whether they are correct.
    thinking: to x; else to x'. label: what the progress bar says. slots: responses at once, of all
    ranks together; options are rollout.generate's. Training and evaluation both come through here,
    so they sample in the same precision and grade alike.
    """
    mine = range(ranks.rank(), len(problems), ranks.size())  # other ranks have the other problems
    prompts = render_all(tokenizer, [problems[i] for i in mine], instruction, thinking)
    encoded = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    bar = tqdm(total=len(mine) * samples, desc=label, unit="", leave=False, disable=None)
    with bar, autocast(model):
        rollouts = generate(
            model,
            encoded,
            samples=samples,
            numbers=mine,
            slots=max(1, slots // ranks.size()),
            progress=lambda drawn, ended: bar.update(ended),
            **options,
        )
    groups = [rollouts[i : i + samples] for i in range(0, len(rollouts), samples)]
    for i, prompt, group in zip(mine, prompts, groups):
        for rollout in group:
            rollout.text = response_text(tokenizer, prompt, rollout.response_ids)
            rollout.gold = problems[i].answer
            rollout.answer = extract_answer(rollout.text)
            rollout.correct, rollout.reward = grade(rollout.text, rollout.gold)
    groups = gather_groups(groups, len(problems))
    if not all(math.isfinite(sum(rollout.logprobs)) for group in groups for rollout in group):
        raise ModelError(
            "the model's outputs are not finite any more, so there is nothing to sample from. Go "
            "on from an earlier checkpoint, with a lower --lr."
        )
    return groups


def gather_groups(groups, count):
    """All ranks' groups, in the order of the `count` prompts, from this rank's."""
    if ranks.size() == 1:
        return groups
    parts = ranks.gather([[vars(rollout) for rollout in group] for group in groups])
    ordered = [parts[i % ranks.size()][i // ranks.size()] for i in range(count)]
    return [[Rollout(**values) for values in group] for group in ordered]


def leave_out_long(model, tokenizer, problems, instruction, wanted):
    """The problems whose prompts fit into the model's context, together with a budget of tokens.

    wanted: pairs (thinking, budget). The others are counted and named, unless they are more than
    half of all: then the budget is too large, and ValueError says so.
    """
    context = find_context(model.config)
    kept = problems
    for thinking, budget in wanted:
        # No token has less than a byte, so that few problems have to be counted in tokens.
        [empty] = render_all(tokenizer, [Problem("", "")], instruction, thinking)
        room = context - budget - len(empty.encode())
        sizes = [len(p.problem.encode()) for p in kept]
        room = min(room, max(sizes) - 1)
        asked = [p for p, size in zip(kept, sizes) if size > room]
        prompts = render_all(tokenizer, asked, instruction, thinking)
        encoded = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        fitting = [ids for ids in encoded if len(ids) + budget <= context]
        long = {id(p) for p, ids in zip(asked, encoded) if len(ids) + budget > context}
        if 2 * (len(kept) - len(long)) < len(problems):
            long = set()
            fitting = encoded
        check_request(model, fitting or [[0]], budget, 1.0)
        kept = [p for p in kept if id(p) not in long]
    if len(kept) < len(problems):
        first = next(p for p, other in zip(problems, [*kept, None]) if p is not other)
        say(
            f"{len(problems) - len(kept)} of {len(problems)} problems are left out: prompt and "
            f"budget exceed the model's context of {context} (first: {first.problem[:60]!r})"
        )
    return kept


def verification_share(texts):
    """The share of non-empty lines that verify something."""
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    return sum(bool(VERIFICATION.search(line)) for line in lines) / max(1, len(lines))


# --------------------------------------------------------------------------------------------------
# What is measured


def pass_at_k(n, c, k):
    """Unbiased estimate of pass@k from n samples, c of them right: 1 - C(n - c, k) / C(n, k).

    Chen et al. 2021. Raises ValueError where k is not in 1 .. n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples, not {n}.")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def pass_rates(groups):
    """pass@1, 2, 4, ... and k of graded groups of k rollouts: {"1": share, "2": share, ...}."""
    most = len(groups[0])
    right = [sum(rollout.correct for rollout in group) for group in groups]
    sizes = {2**i for i in range(most.bit_length())} | {most}
    return {str(k): mean(pass_at_k(most, c, k) for c in right) for k in sorted(sizes)}


def mean(values):
    """The mean of numbers, or the share of what is true, as a plain float."""
    return float(np.mean(list(values)))


def summarise(tokenizer, groups):
    """What is measured of graded groups, k rollouts a problem: a dict of plain numbers.

    accuracy (avg@k, 0 to 1) and its standard `error`, pass@k, mean `tokens`, `truncated`, `empty`,
    `thought` and `verification` shares, and `answer_tokens` (after `</think>`).
    """
    k = len(groups[0])
    correct = np.array([[rollout.correct for rollout in group] for group in groups])  # (P, k)
    per_problem = correct.mean(axis=1)  # (P,)
    rollouts = [rollout for group in groups for rollout in group]
    texts = [rollout.text for rollout in rollouts]
    answers = [text.rsplit("</think>", 1)[-1] for text in texts]
    answer_ids = tokenizer(answers, add_special_tokens=False)["input_ids"]
    result = {"k": k, "problems": len(groups), "accuracy": mean(per_problem), "error": 0.0}
    if len(groups) > 1:  # one problem has no spread; 0 rather than NaN, which JSON does not know
        result["error"] = float(per_problem.std(ddof=1) / math.sqrt(len(groups)))
    result["pass_at_k"] = mean(pass_at_k(k, int(c), k) for c in correct.sum(axis=1))
    result["tokens"] = mean(len(rollout.response_ids) for rollout in rollouts)
    result["answer_tokens"] = mean(len(ids) for ids in answer_ids)
    result["truncated"] = mean(not rollout.finished for rollout in rollouts)
    result["empty"] = mean(bool(EMPTY.match(text)) for text in texts)
    result["thought"] = mean(bool(THOUGHT.match(text)) for text in texts)
    result["verification"] = verification_share(texts)
    return result


def sample_run(run, problems, thinking, *, budget, samples, seed, label):
    """Graded groups of a run's model as it is now, sampled with the run's options."""
    config = run.config
    return sample_and_grade(
        run.model,
        run.tokenizer,
        problems,
        thinking,
        config.instruction,
        samples=samples,
        label=label,
        max_new_tokens=budget,
        stop_ids=run.stop_ids,
        temperature=config.temperature,
        seed=seed,
        slots=config.slots,
    )


def sample_mode(run, problems, thinking, samples, label):
    """Graded groups of one mode, at the full budget.

    Random streams are the same each time, so that two measurements of the same problems compare
    like with like.
    """
    label = f"{label}, {'thinking' if thinking else 'thinking-free'}"
    seed = stream_seed(run.config.seed, 0, 1)
    options = {"budget": run.config.full_budget, "samples": samples, "seed": seed, "label": label}
    return sample_run(run, problems, thinking, **options)


def evaluate(run, problems, thinking, samples, label):
    """What summarise says of sample_mode's groups."""
    return summarise(run.tokenizer, sample_mode(run, problems, thinking, samples, label))


def evaluate_both(run, name, samples=None):
    """Appends both modes' results on the test problems to the run's table, and prints them.

    samples: of each problem; without it, the run's own number.
    """
    samples = samples or run.config.eval_samples
    state = run.state
    entry = {
        "name": name,
        "step": state.step,
        "generated_tokens": state.generated_tokens,
        "flops": state.flops,
    }
    problems = run.test[: run.config.eval_problems]
    ranks.check_alike(run.model)
    firsts = {}
    for mode in MODES:
        thinking = mode == "thinking"
        groups = sample_mode(run, problems, thinking, samples, f"test, {name}")
        entry[mode] = summarise(run.tokenizer, groups)
        firsts[mode] = [first for first, *_ in groups[:KEPT]]
        say_above(format_row(name, mode, entry[mode]))
    state.evaluations.append(entry)
    run.keep_samples(name, first_samples(problems, firsts))


def first_samples(problems, firsts):
    """The problems with their first rollouts, {mode: one a problem}, for whoever looks at them."""
    shown = []
    for problem, *rollouts in zip(problems, *firsts.values()):
        samples = dict(zip(firsts, map(make_sample, rollouts)))
        shown.append(Shown(problem.problem, problem.answer, samples))
    return shown


def make_sample(rollout):
    marks = find_marks(rollout.text, VERIFICATION, rollout.answer)
    size = len(rollout.response_ids)
    return Sample(rollout.text, size, rollout.finished, rollout.correct, rollout.answer, marks)


# --------------------------------------------------------------------------------------------------
# The command line


def find_problems(args):
    if args.ask:
        return [Problem(args.ask, "")]
    problems = drop_copies(load_problems(args.data)) if args.data else load_split("test")
    return problems[: args.problems]


def evaluate_folder(args, start):
    """Evaluates the model that the arguments name, and prints it: all that --json writes.

    With --ask it measures nothing. start: what other ranks are started with.
    """
    settings = find_settings(args.model)
    source = settings.pop("model")
    config = Config(**(settings | {"model": args.model}))
    if args.temperature is None:
        args.temperature = config.temperature
    if args.ask:
        args.ranks = 1  # for one prompt
    modes = MODES if args.mode == "both" else [args.mode.replace("-", "_")]
    problems = find_problems(args)
    model, tokenizer, stop_ids = load_model(source, args.device)
    share_work(model, args, start)
    check_prompts(tokenizer)
    say("\n".join(describe_prompts(tokenizer, stop_ids)))
    if not args.budget:
        if lowered := fit_budgets(config, {}, model.config):
            say(lowered)
        args.budget = config.full_budget
    wanted = [(mode == "thinking", args.budget) for mode in modes]
    problems = leave_out_long(model, tokenizer, problems, config.instruction, wanted)
    names = ("temperature", "top_k", "top_p", "seed", "slots")
    options = {name: getattr(args, name) for name in names}
    options |= {"samples": args.k, "max_new_tokens": args.budget, "stop_ids": stop_ids}
    measured = {"options": vars(args) | {"instruction": config.instruction}}
    firsts = {}
    for mode in modes:
        thinking = mode == "thinking"
        groups = sample_and_grade(
            model, tokenizer, problems, thinking, config.instruction, label=mode, **options
        )
        firsts[mode] = [first for first, *_ in groups[: args.show]]
        if not args.ask:
            measured[mode] = summarise(tokenizer, groups) | {"pass_at": pass_rates(groups)}
            print_mode(mode, measured[mode])
    for one in first_samples(problems, firsts):
        show(one.problem, one.gold, one.samples)
    return measured


def print_mode(mode, result):
    rates = [f"pass@{k} {100 * rate:.1f} %" for k, rate in result["pass_at"].items()]
    print(format_row("", mode, result))
    print(f"{'':<8}avg@{result['k']} of {result['problems']}, {', '.join(rates)}")


def main(argv=None):
    with command("eval"):
        args = parse_evaluation(argv)
        check_evaluation(args)
        logging.disable_progress_bar()  # transformers' own bars, of loading
        start = [__file__, *(sys.argv[1:] if argv is None else argv)]
        writes = args.json and not ranks.follows()
        with ranks.group(), new_file(args.json, "--json") if writes else nullcontext() as path:
            measured = evaluate_folder(args, start)
            if path:
                write_json(path, measured)


if __name__ == "__main__":
    main()
