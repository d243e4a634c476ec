"""Evaluation: avg@k, pass@k, tokens and truncation, with thinking (prompt x) and without (prompt x').

    python eval.py --model models/small                   # both modes, the bundled test split
    python eval.py --model runs/small/stage3 -k 8 --show 3

avg@k is the mean accuracy over k samples a problem, as in the paper's tables; its standard error is over problems,
since samples of one problem are not independent. The modes are kept apart: a thinking-mode response whose thinking
block is empty is thinking-free in disguise, and is counted in `empty`; `thought` is the share that really has text in
its block. Left out: majority voting, benchmarks other than a JSONL of problems and answers.
"""

import argparse
import math
import re
import sys

import numpy as np
from tqdm import tqdm

from problems import load_problems, load_split
from reward import math_reward
from rollout import generate
from support.config import Config, find_settings
from support.disk import write_json
from support.memory import memory_advice
from support.model import ModelError, check_device, default_device, load_model
from thinkfree import check_block, render

MODES = ("thinking", "thinking_free")
# A step (a line) that verifies: Figure 3 follows the share of these. The paper has a language model label the steps;
# words do for a lesson.
VERIFICATION = re.compile(
    r"\b(check|verify|wait|double-check|recheck|make sure|let me confirm)", re.IGNORECASE
)
EMPTY = re.compile(r"\s*<think>\s*</think>")
THOUGHT = re.compile(r"\s*<think>\s*(?!</think>)\S")


def pass_at_k(n, c, k):
    """Unbiased estimate of pass@k from n samples, c of them right: 1 - C(n - c, k) / C(n, k) (Chen et al. 2021)."""
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples, not {n}.")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def response_text(tokenizer, prompt, rollout):
    """The response as text, its thinking block whole: a template that opens it leaves half of it in the prompt."""
    opened = "<think>\n" if prompt.rstrip().endswith("<think>") else ""
    return opened + tokenizer.decode(rollout.response_ids, skip_special_tokens=True)


def verification_share(texts):
    """The share of non-empty lines that verify something."""
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    return sum(bool(VERIFICATION.search(line)) for line in lines) / max(1, len(lines))


def sample_and_grade(model, tokenizer, prompts, golds, *, samples, **options):
    """Samples responses to each prompt (text) and grades them: rollouts, texts and rewards, prompt by prompt.

    options are those of rollout.generate. Training and evaluation both come through here, so they grade alike.
    """
    encoded = [tokenizer(p, add_special_tokens=False)["input_ids"] for p in prompts]
    rollouts = generate(model, encoded, samples=samples, **options)
    if not all(math.isfinite(sum(r.logprobs)) for r in rollouts):
        raise ModelError(
            "the model's outputs are not finite any more, so there is nothing to sample from. Go on from "
            "an earlier checkpoint, with a lower --lr."
        )
    texts = [response_text(tokenizer, prompts[i // samples], r) for i, r in enumerate(rollouts)]
    return rollouts, texts, [math_reward(text, golds[i // samples]) for i, text in enumerate(texts)]


def evaluate(
    model,
    tokenizer,
    prompts,
    golds,
    *,
    k,
    budget,
    stop_ids,
    temperature=1.0,
    seed=0,
    slots=256,
    progress=None,
):
    """Samples k responses to each prompt (text, rendered for one mode) and grades them; returns a dict.

    Its plain numbers: accuracy (avg@k, 0 to 1) and its standard `error`, pass@k, mean `tokens`, `truncated`,
    `empty`, `thought` and `verification` shares, `answer_tokens` (after `</think>`); and `responses`, a list of
    (text, reward), problem by problem.
    """
    rollouts, texts, graded = sample_and_grade(
        model,
        tokenizer,
        prompts,
        golds,
        samples=k,
        max_new_tokens=budget,
        stop_ids=stop_ids,
        temperature=temperature,
        seed=seed,
        slots=slots,
        progress=progress,
    )
    rewards = np.array(graded).reshape(-1, k)  # (problems, k)
    per_problem, n = rewards.mean(axis=1), len(prompts)
    answers = tokenizer([t.rsplit("</think>", 1)[-1] for t in texts], add_special_tokens=False)[
        "input_ids"
    ]
    return {
        "accuracy": float(per_problem.mean()),
        # One problem has no spread; 0 rather than NaN, which JSON does not know.
        "error": float(per_problem.std(ddof=1) / math.sqrt(n)) if n > 1 else 0.0,
        "pass_at_k": float(np.mean([pass_at_k(k, int(c), k) for c in rewards.sum(axis=1)])),
        "k": k,
        "problems": n,
        "tokens": float(np.mean([len(r.response_ids) for r in rollouts])),
        "answer_tokens": float(np.mean([len(a) for a in answers])),
        "truncated": float(np.mean([not r.finished for r in rollouts])),
        "empty": float(np.mean([bool(EMPTY.match(t)) for t in texts])),
        "thought": float(np.mean([bool(THOUGHT.match(t)) for t in texts])),
        "verification": verification_share(texts),
        "responses": list(zip(texts, rewards.flatten().tolist())),
    }


def format_row(name, mode, result):
    return (
        f"{name:<8}{mode.replace('_', '-'):<14} {100 * result['accuracy']:5.1f} ± {100 * result['error']:3.1f} %  "
        f"{result['tokens']:8.1f} tokens  {100 * result['truncated']:5.1f} % truncated  "
        f"{100 * result['verification']:5.1f} % verification  "
        f"{100 * result['thought']:5.1f} % think, {100 * result['empty']:.1f} % empty blocks"
    )


def report(run):
    """Of a whole run: prints its table, writes summary.json and draws its figure."""
    table, state = run.state.evaluations, run.state
    first = table[0]["thinking"]
    print(
        f"\nTest problems, avg@{first['k']} of {first['problems']} problems, budget {run.config.full_budget}:"
    )
    for entry in table:
        for mode in MODES:
            print(format_row(entry["name"], mode, entry[mode]))
    seconds = run.seconds()
    summary = {
        "before": {m: table[0][m] for m in MODES},
        "after": {m: table[-1][m] for m in MODES},
        "stages": table[1:],
        "generated_tokens": state.generated_tokens,
        "flops": state.flops,
        "seconds": seconds,
    }
    write_json(run.folder / "summary.json", summary)
    try:
        from support.plot import draw_run

        print(f"figure: {draw_run(run.folder)}")
    except SystemExit as missing:  # matplotlib is optional
        print(missing)
    print(
        f"{state.step} steps, {state.generated_tokens / 1e6:.2f}M tokens generated for training, "
        f"{seconds / 60:.1f} minutes. Models and metrics: {run.folder}"
    )


def check_arguments(args):
    for name, value, least in (
        ("-k", args.k, 1),
        ("--problems", args.problems, 1),
        ("--slots", args.slots, 1),
        ("--budget", args.budget, 1),
        ("--seed", args.seed, 0),
        ("--show", args.show, 0),
        ("--temperature", args.temperature, 0),
    ):
        if value is not None and not least <= value < math.inf:
            raise ValueError(f"{name} {value} is not a number from {least} on.")
    check_device(args.device)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description="Evaluate a model with and without thinking.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--model",
        default="small",
        help="small, a preset of tfpi.py, a Hugging Face id, or a folder",
    )
    parser.add_argument("--mode", default="both", choices=("thinking", "thinking-free", "both"))
    parser.add_argument("-k", type=int, default=8, help="samples a problem")
    parser.add_argument(
        "--data", help="a JSONL of problems and answers (default: the bundled test split)"
    )
    parser.add_argument(
        "--problems", type=int, default=250, help="how many of them, from the first on"
    )
    parser.add_argument(
        "--budget",
        type=int,
        help="response budget in tokens (default: the full budget of the model's preset or run)",
    )
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--slots",
        type=int,
        default=256,
        help="responses sampled at once; lower it when memory runs out",
    )
    parser.add_argument("--device", default=default_device())
    parser.add_argument(
        "--show", type=int, default=0, help="print this many sample responses a mode"
    )
    args = parser.parse_args(argv)
    try:
        check_arguments(args)
        settings = find_settings(args.model)
        source, config = settings.pop("model"), Config(**settings)
        problems = (load_problems(args.data) if args.data else load_split("test"))[: args.problems]
        with memory_advice("loading the model", "Use a smaller one, or --device cpu."):
            model, tokenizer, stop_ids = load_model(source, args.device)
        check_block(tokenizer)
        for mode in MODES if args.mode == "both" else [args.mode.replace("-", "_")]:
            prompts = [
                render(tokenizer, p.problem, config.instruction, mode == "thinking")
                for p in problems
            ]
            bar = tqdm(total=len(problems) * args.k, desc=mode, leave=False, disable=None)
            with bar, memory_advice("sampling", "Lower --slots or --budget."):
                result = evaluate(
                    model,
                    tokenizer,
                    prompts,
                    [p.answer for p in problems],
                    k=args.k,
                    budget=args.budget or config.full_budget,
                    stop_ids=stop_ids,
                    temperature=args.temperature,
                    seed=args.seed,
                    slots=args.slots,
                    progress=lambda tokens, done: bar.update(done),
                )
            print(
                f"{format_row('', mode, result)}  avg@{args.k} of {len(problems)}, "
                f"pass@{args.k} {100 * result['pass_at_k']:.1f} %"
            )
            for i, (text, reward) in enumerate(result["responses"][: args.show * args.k : args.k]):
                print(
                    f"\n--- {problems[i].problem}\n{text}\n"
                    f"--- reward {reward:.0f}, the answer is {problems[i].answer}"
                )
    except (ValueError, OSError, MemoryError) as error:  # DataError and ModelError are ValueErrors
        sys.exit(f"eval: {error}")
    except KeyboardInterrupt:
        sys.exit("eval: stopped.")


if __name__ == "__main__":
    main()
