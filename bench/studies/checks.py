"""Do checks find mistakes, and does verification then come back (Figure 3)? Designs of teachers.

    python bench/studies/checks.py --design tens      # SFT, then what its checks are worth
    python bench/studies/checks.py --design tens --rl tfpi      # and TFPI from there: each stage
    python bench/studies/checks.py --design tens --rl last      # the last budget alone; or others

models/small checks, and finds next to nothing. Here it is trained further, by a few hundred steps
of SFT on the traces of another teacher (teachers.py), then measured on the *validation* split: how
often the first pass and the last pass of its work are right, which mistakes checks mend, which
right results they spoil. A pass is a line of steps with a result. The same on problems of four and
five operations, longer than any that was trained on. `--design small` measures models/small as it
is. Left out: SFT from nothing with such a teacher; the test split.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import numpy as np
import torch
from paper import METHODS, QUICK, hard_problems, write_options
from runs import read_lines
from teachers import DESIGNS, RESULT, draw_fresh, is_mistaken, use
from tqdm import tqdm
from transformers.utils import logging

import distill
from eval import sample_and_grade, verification_share
from lesson.small import save
from problems import load_split
from support.config import MODES, PRESETS
from support.model import load_model

FOLDER = ROOT / "runs" / "checks"
BUDGETS = (48, 64, 80, 112, 160)
SMALL = PRESETS["small"]["model"]
# Table 4's last two budgets, and its last alone; and the control of Figure 3: the first budget for
# as many steps.
RL = {name: METHODS[name] for name in ("tfpi", "last-two", "last", "multistage")}
RL["first"] = {"recipe": "tfpi", "budgets": "80", "steps": 72}

# --------------------------------------------------------------------------------------------------
# What is trained


def own_mistakes(count=4000, samples=4, seed=2):
    """{problem: wrong first passes in the head} that models/small writes."""
    model, tokenizer, stop_ids = load_model(SMALL, "cpu")
    problems = draw_fresh(count, seed, distill.held_out_questions())
    options = {"samples": samples, "label": "first passes", "max_new_tokens": 48, "slots": 256}
    groups = sample_and_grade(model, tokenizer, problems, False, "", stop_ids=stop_ids, **options)
    found = {}
    for problem, group in zip(problems, groups):
        lines = sorted({rollout.text.split("\n")[0] for rollout in group})
        if wrong := [line for line in lines if is_mistaken(line, problem)]:
            found[problem] = wrong
    return found


def make_model(name, steps, folder):
    """models/small after more SFT on a design's traces, as bench/paper.py's make_checks_model."""
    torch.manual_seed(0)
    model, tokenizer, _ = load_model(SMALL, "cpu")
    if name != "small":
        design = DESIGNS[name]
        use(replace(design, own=own_mistakes()) if name == "own" else design)
        batches = distill.draw_batches(tokenizer, steps, seed=1)
        for _ in tqdm(distill.sft(model, batches, steps, lr=1e-3), total=steps, desc="SFT"):
            pass
    save(model, tokenizer, folder)


def train(method, seed, model, folder):
    """tfpi.py from the design's model, with the options of a method."""
    options = PRESETS["small"] | {"seed": seed, **QUICK, **RL[method], "snapshot_every": 0}
    options |= {"model": model, "out": folder}
    command = [sys.executable, "tfpi.py", *write_options(options)]
    subprocess.run(command, cwd=ROOT, check=True)


# --------------------------------------------------------------------------------------------------
# What checks are worth


def results_of(work):
    """The results of the passes, in order, as text; None where a pass has none."""
    lines = [line for line in work.split("\n") if line]
    found = [RESULT.search(line) for line in lines if not line.startswith(("So ", "Check from "))]
    return [match and match[1] for match in found]


def describe_work(text, gold, thinking):
    """Which passes of one response are right: of its thinking, or of all of it."""
    work = text.split("</think>")[0].replace("<think>", "") if thinking else text
    results = results_of(work) or [None]
    return {
        "first": results[0] == gold,
        "last": results[-1] == gold,
        "passes": len(results),
        "checked": "Check" in work,
    }


def mean_and_error(values):
    """The mean of the values, and its standard error; nan where there are too few."""
    values = np.array(values, dtype=float)
    mean = float(values.mean()) if len(values) else float("nan")
    error = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")
    return [mean, error]


def sample(model, tokenizer, problems, thinking):
    """One response to each problem."""
    groups = sample_and_grade(
        model,
        tokenizer,
        problems,
        thinking,
        "",
        samples=1,
        label="responses",
        max_new_tokens=PRESETS["small"]["full_budget"],
        stop_ids={tokenizer.eos_token_id},
        slots=256,
    )
    return [group[0] for group in groups]


def measure(rollouts, thinking):
    """{what: [mean, standard error]} of one mode."""
    works = [describe_work(r.text, r.gold, thinking) for r in rollouts]
    tokens = np.array([len(r.response_ids) for r in rollouts])
    checked = [work for work in works if work["checked"]]
    values = {
        "correct": [r.correct for r in rollouts],
        "tokens": tokens,
        "first pass right": [work["first"] for work in works],
        "last pass right": [work["last"] for work in works],
        "last less first": [work["last"] - work["first"] for work in works],
        "the same, where it checks": [work["last"] - work["first"] for work in checked],
        "wrong first passes mended, where it checks": [
            w["last"] for w in checked if not w["first"]
        ],
        "right first passes spoilt, where it checks": [
            not w["last"] for w in checked if w["first"]
        ],
        "checks": [work["checked"] for work in works],
        "passes": [work["passes"] for work in works],
        "verifying lines": [verification_share([r.text]) for r in rollouts],
    }
    for budget in BUDGETS:
        values[f"longer than {budget}"] = tokens > budget
    return {name: mean_and_error(numbers) for name, numbers in values.items()}


def measure_folder(folder, name, problems):
    """Both modes of one model on a set of problems, as a table of Markdown, kept beside it."""
    path = folder / f"measured-{name}.json"
    if not path.exists():
        model, tokenizer, _ = load_model(str(folder), "cpu")
        modes = {mode: sample(model, tokenizer, problems, mode == "thinking") for mode in MODES}
        measured = {mode: measure(modes[mode], mode == "thinking") for mode in MODES}
        measured["rewards"] = {mode: [int(r.correct) for r in modes[mode]] for mode in MODES}
        path.write_text(json.dumps(measured))
    measured = json.loads(path.read_text())
    title = f"{folder.parent.name}/{folder.name}, {name}"
    print(f"\n| {title} | thinking | thinking-free |\n|---|---|---|")
    for what in measured["thinking"]:
        scale = 1 if what in ("tokens", "passes") else 100
        unit = "" if scale == 1 else " %"
        pairs = [measured[mode][what] for mode in MODES]
        cells = [f"{scale * mean:.1f} ± {scale * error:.1f}{unit}" for mean, error in pairs]
        print(f"| {what} | {' | '.join(cells)} |")


def print_verification(folder, size=8):
    """Figure 3: means of so many steps each of a run's rollouts."""
    lines = read_lines(folder / "metrics.jsonl")
    columns = ("verification", "accuracy", "tokens", "truncated")
    print(f"\n| stage | to step | {' | '.join(columns)} |\n{6 * '|---'}|")
    for i in range(0, len(lines), size):
        part = lines[i : i + size]
        means = [np.mean([line[column] for line in part]) for column in columns]
        cells = [f"{mean if c == 'tokens' else 100 * mean:.1f}" for c, mean in zip(columns, means)]
        print(f"| {part[-1]['stage']} | {part[-1]['step']} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description="Teachers whose checks find mistakes.")
    parser.add_argument("--design", required=True, choices=["small", *DESIGNS])
    parser.add_argument("--steps", type=int, default=300, help="of SFT (default: %(default)s)")
    parser.add_argument("--rl", choices=RL, help="TFPI, one of its budgets alone, ...")
    parser.add_argument("--seed", type=int, default=0, help="of --rl")
    args = parser.parse_args()
    logging.disable_progress_bar()
    torch.set_flush_denormal(True)
    model = FOLDER / args.design
    if not model.exists():
        make_model(args.design, args.steps, model)
    folders = [model]
    if args.rl:
        run = FOLDER / f"{args.design}-{args.rl}-{args.seed}"
        if not run.exists():
            train(args.rl, args.seed, model, run)
        print_verification(run)
        folders += sorted(run.glob("stage?"))
    sets = {"validation": load_split("validation"), "hard": hard_problems()}
    for folder in folders:
        for name, problems in sets.items():
            measure_folder(folder, name, problems)


if __name__ == "__main__":
    main()
