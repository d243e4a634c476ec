"""The paper's tables and figures in miniature: trains every method with several seeds, evaluates, reports.

    python bench/paper.py                                # hours on two cores; after an interruption, again
    python bench/paper.py --methods tfpi,direct --seeds 0
    python bench/paper.py --report                       # tables and figures of what is there

Every run is made by tfpi.py, which also resumes it, in runs/paper/METHOD-SEED; each model that it keeps is evaluated
once, on the test split, into the run's evaluations.jsonl. Runs go two at a time, of one thread each, so their minutes
compare badly: methods are compared by the tokens they generate and the FLOPs they compute, which tfpi.py counts. What
a method may choose (a learning rate) was chosen on the validation split. The tables are paper_report.py's, the figures
plot.py's.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm
from transformers.utils import logging

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from support.config import PRESETS  # noqa: E402

RUNS = ROOT / "runs" / "paper"

STEPS = {"steps": 24, "snapshot_every": 8}
RL = {"recipe": "direct", "lr": 2e-4}  # the best of TRIALS
# The options of each method, in the order in which they are run; `after`: from the last model of that method.
METHODS = {
    "tfpi": {"recipe": "tfpi", **STEPS},
    "direct": {**RL, "steps": 35, "snapshot_every": 5},
    "tfpi-rl": {**RL, "after": "tfpi", "steps": 16, "snapshot_every": 4},
    "multistage": {**RL, "recipe": "multistage", **STEPS},
    "last": {"recipe": "tfpi", "budgets": "160", "steps": 72},
    "last-two": {"recipe": "tfpi", "budgets": "112,160", "steps": 36},
    "no-story": {
        "recipe": "tfpi",
        **STEPS,
        "snapshot_every": 0,
        "data": str(RUNS / "no-story.jsonl"),
    },
    "auto": {"recipe": "tfpi"},  # the main job: stages end by themselves
}
# Their last models' accuracy on the validation split chose the learning rate of all training with thinking; TFPI has
# the preset's, chosen so, too.
TRIALS = {
    f"direct-lr{lr}": {"recipe": "direct", "steps": 25, "lr": lr} for lr in ("1e-4", "2e-4", "4e-4")
}
# Multi-stage direct RL against TFPI, where the task or the model is another: budgets as tight as the paper's, problems of
# three operations alone, and a model that always checks three times, so that it hardly ever finds a short thought.
CHECKS = RUNS / "checks-model"
VARIATIONS = {
    f"{method}-{name}": METHODS[method] | {"snapshot_every": 0} | options
    for name, options in {
        "tight": {"budgets": "48,64,96"},
        "level3": {"data": str(RUNS / "level3.jsonl")},
        "checks": {"model": str(CHECKS)},
    }.items()
    for method in ("tfpi", "multistage")
}
STARTS = {"start": ROOT / "models" / "small", "start-checks": CHECKS}
ALL = METHODS | TRIALS | VARIATIONS
# What a run measures of itself is not what is reported, so it measures little.
QUICK = {"device": "cpu", "eval_problems": 20, "eval_samples": 1}
TEST, HARD = 500, 500  # problems
ON_HARD = ("tfpi", "direct", "tfpi-rl")  # methods whose last models are tested on the hard ones


def train(method, seed):
    """Does a run, or the rest of it, and returns its folder."""
    folder, options = RUNS / f"{method}-{seed}", dict(ALL[method])
    if (folder / "summary.json").exists():
        return folder
    before = options.pop("after", None)
    if before:
        options["model"] = str(last_model(train(before, seed)))
    options = {"model": "small", "seed": seed, **QUICK} | options
    if options["model"] == str(CHECKS):
        options = PRESETS["small"] | options  # which a folder of one's own does not get by itself
    command = [sys.executable, "tfpi.py", "--out", str(folder)]
    if (folder / "config.json").exists():
        command.append("--resume")
    else:
        command += [
            word
            for name, value in options.items()
            for word in (f"--{name.replace('_', '-')}", str(value))
        ]
    with open(f"{folder}.log", "a") as log:
        subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=True)
    return folder


def last_model(folder):
    return folder / json.loads((folder / "summary.json").read_text())["stages"][-1]["name"]


def write_data():
    """Parts of the training split: without the stories, for what one family learns from the others; three operations."""
    rows = (ROOT / "data" / "train.jsonl").read_text().splitlines()
    for name, wanted in (
        ("no-story", lambda row: row["family"] != "story"),
        ("level3", lambda row: row["level"] == 3),
    ):
        (RUNS / f"{name}.jsonl").write_text(
            "".join(row + "\n" for row in rows if wanted(json.loads(row)))
        )


def make_checks_model(steps=300):
    """models/small, after more SFT on thinking that always checks itself three times."""
    import torch

    import distill
    from support.model import load_model

    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    distill.THINKING["check"] = 1.0
    model, tokenizer, _ = load_model(PRESETS["small"]["model"], "cpu")
    for loss in tqdm(
        distill.sft(model, distill.draw_batches(tokenizer, steps, seed=1), steps, lr=1e-3),
        total=steps,
        desc="SFT",
    ):
        pass
    model.save_pretrained(f"{CHECKS}-partial")
    tokenizer.save_pretrained(f"{CHECKS}-partial")
    os.rename(f"{CHECKS}-partial", CHECKS)


# ---------------------------------------------------------------------------------------------------------------------
# Every model that a run keeps, on the test split


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def kept_models(folder):
    """(name, model folder, step) of the snapshots and the stages' ends, in the order of training."""
    ends = {line["stage"]: line["step"] for line in read_lines(folder / "metrics.jsonl")}
    kept = [(path.name, path, int(path.name[4:])) for path in folder.glob("step*")]
    return sorted(
        [model for model in kept if model[2] not in ends.values()]
        + [(stage, folder / stage, step) for stage, step in ends.items()],
        key=lambda model: model[2],
    )


def hard_problems():
    """Problems of four and five operations; training and the other splits have one to three."""
    from problems import draw_problem

    rng = random.Random(4)
    return [draw_problem(rng, levels=(4, 5)) for _ in range(HARD)]


def evaluate_model(path, name, source, step, hard):
    """Appends what path lacks: a line for each set of problems and mode.

    Snapshots (stepN) are only asked to think, once a problem; stages' ends in both modes, twice; `hard`: those as well.
    """
    from eval import MODES, evaluate
    from problems import load_split
    from support.model import load_model
    from thinkfree import render

    sets, snapshot = (
        {"test": load_split("test")[:TEST]} | ({"hard": hard_problems()} if hard else {}),
        name.startswith("step"),
    )
    wanted = [(data, mode) for data in sets for mode in (MODES[:1] if snapshot else MODES)]
    done = {(line["name"], line["data"], line["mode"]) for line in read_lines(path)}
    wanted = [(data, mode) for data, mode in wanted if (name, data, mode) not in done]
    if not wanted:
        return
    logging.disable_progress_bar()  # transformers' own, of loading
    model, tokenizer, stop_ids = load_model(str(source), "cpu")
    for data, mode in wanted:
        prompts = [render(tokenizer, p.problem, "", mode == "thinking") for p in sets[data]]
        result = evaluate(
            model,
            tokenizer,
            prompts,
            [p.answer for p in sets[data]],
            k=1 if snapshot else 2,
            budget=PRESETS["small"]["full_budget"],
            stop_ids=stop_ids,
            slots=512,
        )
        rewards = "".join(f"{reward:.0f}" for _, reward in result.pop("responses"))
        with open(path, "a") as file:
            file.write(
                json.dumps(
                    {
                        "name": name,
                        "step": step,
                        "data": data,
                        "mode": mode,
                        **result,
                        "rewards": rewards,
                    }
                )
                + "\n"
            )


def evaluate_run(name):
    """Evaluates what a run has kept, if that was not done yet; `start` and `start-checks` are what they begin with."""
    import torch

    torch.set_num_threads(1)  # two processes of two threads are far slower than two of one
    torch.set_flush_denormal(True)
    if name in STARTS:
        return evaluate_model(
            RUNS / f"{name}.jsonl", "start", STARTS[name], 0, hard=name == "start"
        )
    models = kept_models(RUNS / name)
    for model, source, step in models:
        hard = model == models[-1][0] and name.rsplit("-", 1)[0] in ON_HARD
        evaluate_model(RUNS / name / "evaluations.jsonl", model, source, step, hard)
    (RUNS / name / "evaluated").touch()  # before, it is left out of tables and figures


def work(method, seed, before=None):
    """One run and its evaluations, each in a process of its own, once the run is there that it starts from."""
    if before:
        before.result()
    folder = train(method, seed)
    with open(f"{folder}.log", "a") as log:
        subprocess.run(
            [sys.executable, __file__, "--evaluate", folder.name],
            stdout=log,
            stderr=log,
            check=True,
        )
    tqdm.write(f"{folder.name}: done")


def run_all(jobs, workers):
    """Works on the (method, seed) pairs; the first failure, or Ctrl-C, starts no other and leaves all to be resumed."""
    with ThreadPoolExecutor(workers) as pool:
        futures = {}
        for method, seed in jobs:  # what another starts from stands, and so begins, before it
            before = futures.get((ALL[method].get("after"), seed))
            futures[method, seed] = pool.submit(work, method, seed, before)
        try:
            for future in tqdm(
                as_completed(futures.values()), total=len(jobs), desc="runs", unit="run"
            ):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def main():
    parser = argparse.ArgumentParser(description="The paper's tables and figures in miniature.")
    parser.add_argument(
        "--methods",
        default=",".join(METHODS),
        help="which of them, in this order, or " + ", ".join(TRIALS | VARIATIONS),
    )
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, of one thread each")
    parser.add_argument(
        "--report", action="store_true", help="only the tables and figures of what is there"
    )
    parser.add_argument(
        "--evaluate", metavar="RUN", help="only the models of one run, such as tfpi-0"
    )
    args = parser.parse_args()
    if unknown := [method for method in args.methods.split(",") if method not in ALL]:
        parser.error(f"there is no method {unknown[0]!r}; there are {', '.join(ALL)}.")
    if not all(seed.isdigit() for seed in args.seeds.split(",")):
        parser.error(f"--seeds {args.seeds!r} is not a list of numbers such as 0,1,2.")
    if args.evaluate:
        return evaluate_run(args.evaluate)
    if not args.report:
        RUNS.mkdir(parents=True, exist_ok=True)
        write_data()
        os.environ["OMP_NUM_THREADS"] = "1"
        jobs = [
            (method, int(seed))
            for method in args.methods.split(",")
            for seed in args.seeds.split(",")
        ]
        if any(ALL[method].get("model") == str(CHECKS) for method, _ in jobs):
            if not CHECKS.exists():
                make_checks_model()
            evaluate_run("start-checks")
        evaluate_run("start")
        print(
            f"{len(jobs)} runs, {args.jobs} at a time, 6 to 15 minutes each; how they get on: tail -f {RUNS}/*.log"
        )
        try:
            run_all(jobs, args.jobs)
        except (KeyboardInterrupt, subprocess.CalledProcessError) as error:
            sys.exit(
                f"paper: stopped ({error!r}). The logs are in {RUNS}; the same command goes on."
            )
    from paper_report import report

    from support.plot import draw_paper

    report(RUNS, ROOT / "models" / "small")
    print("\nfigures:", *draw_paper(RUNS), sep="\n")


if __name__ == "__main__":
    main()
