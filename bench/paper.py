"""The paper's tables and figures in miniature: trains all methods with several seeds, and reports.

    python bench/paper.py                                # hours on two cores; if stopped, again
    python bench/paper.py --methods tfpi,direct --seeds 0
    python bench/paper.py --report                       # tables and figures of what is there

Every run is made by tfpi.py, which also resumes it, in runs/paper/METHOD-SEED; each model that it
keeps is evaluated once, on the test split, into the run's evaluations.jsonl. Runs go two at a time,
of one thread each, so their minutes compare badly: methods are compared by the tokens they generate
and the FLOPs they compute, which tfpi.py counts. What a method may choose (a learning rate) was
chosen on the validation split. The tables are tables.py's, the figures figures.py's.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed

from runs import ROOT, RUNS, TEST, kept_models, read_lines

sys.path.insert(0, str(ROOT))

import torch
from figures import draw_paper
from tables import report
from tqdm import tqdm
from transformers.utils import logging

import distill
from eval import sample_and_grade, summarise
from lesson import teacher
from lesson.arithmetic import draw_problem
from problems import load_split
from support import ranks
from support.cli import flag
from support.config import MODES, PRESETS
from support.model import load_model

STEPS = {"steps": 24, "snapshot_every": 8}
TFPI = {"recipe": "tfpi"}
RL = {"recipe": "direct", "lr": 2e-4}  # the best of TRIALS
NO_STORY = RUNS / "no-story.jsonl"
LEVEL3 = RUNS / "level3.jsonl"
# The options of each method, in the order in which they are run; `after`: from the last model of
# that method.
METHODS = {
    "tfpi": {**TFPI, **STEPS},
    "direct": {**RL, "steps": 35, "snapshot_every": 5},
    "tfpi-rl": {**RL, "after": "tfpi", "steps": 16, "snapshot_every": 4},
    "multistage": {**RL, "recipe": "multistage", **STEPS},
    "last": {**TFPI, "budgets": "160", "steps": 72},
    "last-two": {**TFPI, "budgets": "112,160", "steps": 36},
    # Others drawn for flat groups, as DAPO does; 15 steps cost what 24 do without.
    "draws": {**TFPI, "steps": 15, "draws": 3},
    "no-story": {**TFPI, **STEPS, "snapshot_every": 0, "data": str(NO_STORY)},
    "auto": {"recipe": "tfpi"},  # the main job: stages end by themselves
}
# Their last models' accuracy on the validation split chose the learning rate of all training with
# thinking; TFPI has the preset's, chosen so, too.
TRIALS = {
    f"direct-lr{lr}": {"recipe": "direct", "steps": 25, "lr": lr} for lr in ("1e-4", "2e-4", "4e-4")
}
# Multi-stage direct RL against TFPI, where the task or the model is another: budgets as tight as
# the paper's, problems of three operations alone, and a model that always checks three times, so
# that it hardly ever finds a short thought.
CHECKS = RUNS / "checks-model"
CHANGES = {
    "tight": {"budgets": "48,64,96"},
    "level3": {"data": str(LEVEL3)},
    "checks": {"model": str(CHECKS)},
}
VARIATIONS = {
    f"{method}-{name}": METHODS[method] | {"snapshot_every": 0} | options
    for name, options in CHANGES.items()
    for method in ("tfpi", "multistage")
}
STARTS = {"start": ROOT / "models" / "small", "start-checks": CHECKS}
ALL = METHODS | TRIALS | VARIATIONS
# What a run measures of itself is not what is reported, so it measures little.
# Two optimizer steps a batch, as all figures here have; the preset has had four since.
QUICK = {"device": "cpu", "eval_problems": 20, "eval_samples": 1, "minibatches": 2}
HARD = 500  # problems
ON_HARD = ("tfpi", "direct", "tfpi-rl")  # methods whose last models are tested on the hard ones

# --------------------------------------------------------------------------------------------------
# What the runs train, and on what


def train(method, seed):
    """Does a run, or the rest of it, and returns its folder."""
    folder = RUNS / f"{method}-{seed}"
    if (folder / "summary.json").exists():
        return folder
    command = [sys.executable, "tfpi.py", "--out", str(folder)]
    if (folder / "config.json").exists():
        command.append("--resume")
    else:
        command += write_options(run_options(method, seed))
    run_logged(command, folder)
    return folder


def run_options(method, seed):
    """tfpi.py's options of a method; what it starts from is made if it is not there."""
    options = {"model": "small", "seed": seed, **QUICK, **ALL[method]}
    if before := options.pop("after", None):
        options["model"] = str(last_model(train(before, seed)))
    if options["model"] == str(CHECKS):
        # A folder of one's own does not get the preset by itself.
        options = PRESETS["small"] | options
    return options


def write_options(options):
    """Options as a command line has them: {"stage_steps": 45} is `--stage-steps 45`."""
    return [text for name, value in options.items() for text in (flag(name), str(value))]


def run_logged(command, folder):
    """Runs a command, whose output goes to the run's log."""
    with open(f"{folder}.log", "a") as log:
        subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=True)


def last_model(folder):
    summary = json.loads((folder / "summary.json").read_text())
    return folder / summary["stages"][-1]["name"]


def write_data():
    """Parts of the training split.

    Without the stories, for what one family learns from the others; and three operations alone.
    """
    rows = (ROOT / "data" / "train.jsonl").read_text().splitlines()
    no_story = [row for row in rows if json.loads(row)["family"] != "story"]
    level3 = [row for row in rows if json.loads(row)["level"] == 3]
    NO_STORY.write_text("".join(row + "\n" for row in no_story))
    LEVEL3.write_text("".join(row + "\n" for row in level3))


def make_checks_model(steps=300):
    """models/small, after more SFT on thinking that always checks itself three times."""
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    teacher.THINKING["check"] = 1.0
    model, tokenizer, _ = load_model(PRESETS["small"]["model"], "cpu")
    batches = distill.draw_batches(tokenizer, steps, seed=1)
    for _ in tqdm(distill.sft(model, batches, steps, lr=1e-3), total=steps, desc="SFT"):
        pass
    partial = f"{CHECKS}-partial"
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    os.rename(partial, CHECKS)


def hard_problems():
    """Problems of four and five operations; training and the other splits have one to three."""
    rng = random.Random(4)
    return [draw_problem(rng, levels=(4, 5)) for _ in range(HARD)]


# --------------------------------------------------------------------------------------------------
# Every model that a run keeps, on the test split


def evaluate_model(path, name, source, step, hard):
    """Appends to path the lines that it lacks, one for each set of problems and mode.

    Snapshots (stepN) are only asked to think, and once a problem; stages' ends in both modes, and
    twice. hard: the hard problems as well.
    """
    snapshot = name.startswith("step")
    sets = {"test": load_split("test")[:TEST]}
    if hard:
        sets["hard"] = hard_problems()
    wanted = [(data, mode) for data in sets for mode in (("thinking",) if snapshot else MODES)]
    done = {(line["name"], line["data"], line["mode"]) for line in read_lines(path)}
    wanted = [(data, mode) for data, mode in wanted if (name, data, mode) not in done]
    if not wanted:
        return
    logging.disable_progress_bar()  # transformers' own, of loading
    loaded = load_model(str(source), "cpu")
    for data, mode in wanted:
        line = {"name": name, "step": step, "data": data, "mode": mode}
        line |= measure(loaded, sets[data], mode == "thinking", samples=1 if snapshot else 2)
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")


def measure(loaded, problems, thinking, samples):
    """What eval.summarise says of one mode, and which responses were right, as a row of digits."""
    model, tokenizer, stop_ids = loaded
    groups = sample_and_grade(
        model,
        tokenizer,
        problems,
        thinking,
        "",
        samples=samples,
        label="test",
        max_new_tokens=PRESETS["small"]["full_budget"],
        stop_ids=stop_ids,
        slots=512,
    )
    rewards = "".join(str(int(rollout.correct)) for group in groups for rollout in group)
    return summarise(tokenizer, groups) | {"rewards": rewards}


def evaluate_run(name):
    """Evaluates what a run has kept, if that was not done yet; or what runs start from."""
    torch.set_num_threads(1)  # two processes of two threads are far slower than two of one
    torch.set_flush_denormal(True)
    if name in STARTS:
        path = RUNS / f"{name}.jsonl"
        return evaluate_model(path, "start", STARTS[name], 0, hard=name == "start")
    models = kept_models(RUNS / name)
    for model, source, step in models:
        hard = model == models[-1][0] and name.rsplit("-", 1)[0] in ON_HARD
        evaluate_model(RUNS / name / "evaluations.jsonl", model, source, step, hard)
    (RUNS / name / "evaluated").touch()  # before, it is left out of tables and figures


# --------------------------------------------------------------------------------------------------
# All runs


def work(method, seed, before=None):
    """One run and its evaluations, each in a process of its own; first waits for `before`."""
    if before:
        before.result()
    folder = train(method, seed)
    run_logged([sys.executable, __file__, "--evaluate", folder.name], folder)
    tqdm.write(f"{folder.name}: done")


def run_all(jobs, workers):
    """Works on the (method, seed) pairs.

    The first failure, or Ctrl-C, starts no other, and leaves all to be resumed.
    """
    with ThreadPoolExecutor(workers) as pool:
        futures = {}
        for method, seed in jobs:  # what another starts from stands, and so begins, before it
            before = futures.get((ALL[method].get("after"), seed))
            futures[method, seed] = pool.submit(work, method, seed, before)
        ended = as_completed(futures.values())
        try:
            for future in tqdm(ended, total=len(jobs), desc="runs", unit="run"):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def make_runs(jobs, workers):
    """Trains and evaluates the jobs, and before them what they start from."""
    RUNS.mkdir(parents=True, exist_ok=True)
    write_data()
    os.environ["OMP_NUM_THREADS"] = str(max(1, ranks.cores() // workers))  # as many ranks a run
    if any(ALL[method].get("model") == str(CHECKS) for method, _ in jobs):
        if not CHECKS.exists():
            make_checks_model()
        evaluate_run("start-checks")
    evaluate_run("start")
    print(
        f"{len(jobs)} runs, {workers} at a time, 6 to 15 minutes each; how they get on: "
        f"tail -f {RUNS}/*.log"
    )
    try:
        run_all(jobs, workers)
    except (KeyboardInterrupt, subprocess.CalledProcessError) as error:
        sys.exit(f"paper: stopped ({error!r}). The logs are in {RUNS}; the same command goes on.")


def parse_arguments():
    parser = argparse.ArgumentParser(description="The paper's tables and figures in miniature.")
    add = parser.add_argument
    others = ", ".join(TRIALS | VARIATIONS)
    methods = f"which of them, in this order, or {others}"
    add("--methods", default=",".join(METHODS), help=methods)
    add("--seeds", default="0,1,2")
    add("--jobs", type=int, default=2, help="runs at a time, which share the cores")
    add("--report", action="store_true", help="only the tables and figures of what is there")
    add("--evaluate", metavar="RUN", help="only the models of one run, such as tfpi-0")
    args = parser.parse_args()
    if unknown := [method for method in args.methods.split(",") if method not in ALL]:
        parser.error(f"there is no method {unknown[0]!r}; there are {', '.join(ALL)}.")
    if not all(seed.isdigit() for seed in args.seeds.split(",")):
        parser.error(f"--seeds {args.seeds!r} is not a list of numbers such as 0,1,2.")
    return args


def main():
    args = parse_arguments()
    if args.evaluate:
        return evaluate_run(args.evaluate)
    if not args.report:
        seeds = [int(seed) for seed in args.seeds.split(",")]
        jobs = [(method, seed) for method in args.methods.split(",") for seed in seeds]
        make_runs(jobs, args.jobs)
    report(RUNS, STARTS["start"])
    print("\nfigures:", *draw_paper(RUNS), sep="\n")


if __name__ == "__main__":
    main()
