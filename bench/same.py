"""Whether a short run of each recipe is the same twice, or the same as another commit makes it, bit
for bit.

    python bench/same.py                        # each recipe twice
    python bench/same.py --against 1f0c2d3      # does a change leave all as it is?

A run is the same if all its weights, its optimizer, its metrics and its table of measurements are;
times are left out, and so are numbers that only one of the two notes down, which are listed. A run
has as many ranks as a user's, unless --cores says otherwise: the bits go by them. Hashes hold for
one machine and one torch, so none is kept: both sides run here. The last line is JSON.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ("tfpi", "tfpi+rl", "direct", "multistage")
OPTIONS = (
    "--model small --device cpu --steps 2 --prompts 16 --draws 2 --validate-every 1 --save-every 1 "
    "--eval-problems 10 --eval-samples 1 --validation-problems 10 --seed 5"
).split()
TIMES = ("seconds", "rollout_seconds", "step_seconds")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}


def digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


def fingerprint(folder):
    """{what: its hash, or its value} of all that a finished run left and that is no time."""
    found = {}
    for path in sorted(folder.rglob("*.safetensors")):
        found[str(path.relative_to(folder))] = digest(path.read_bytes())
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        metrics = json.loads(line)
        found |= {f"step {metrics['step']}, {key}": value for key, value in metrics.items()}
    [checkpoint] = folder.glob("checkpoint-*")
    for entry in json.loads((checkpoint / "state.json").read_text())["evaluations"]:
        for mode in ("thinking", "thinking_free"):
            found |= {f"{entry['name']}, {mode}, {key}": v for key, v in entry[mode].items()}
    return {what: value for what, value in found.items() if what.split(", ")[-1] not in TIMES}


def run(code, recipe, folder):
    """The fingerprint of a run by the code in a folder."""
    command = [sys.executable, "tfpi.py", *OPTIONS, "--recipe", recipe, "--out", str(folder)]
    done = subprocess.run(command, cwd=code, env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"same: {' '.join(command)} failed in {code}:\n{done.stderr[-2000:]}")
    return fingerprint(folder)


def compare(recipe, first, second):
    """Prints how two fingerprints differ; whether they are the same."""
    differ = [what for what in first if what in second and first[what] != second[what]]
    only = sorted({what.split(", ")[-1] for what in first.keys() ^ second.keys()})
    files = [value for what, value in second.items() if what.endswith(".safetensors")]
    verdict = f"OTHERWISE: {', '.join(differ[:5])}" if differ else "the same"
    print(
        f"{recipe:<11} {len(files)} files of weights {digest(''.join(files).encode())}, "
        f"{len(second) - len(files)} numbers: {verdict}"
        + (f"; on one side only: {', '.join(only)}" if only else ""),
        flush=True,
    )
    return not differ


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="COMMIT", help="the code to compare with")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--cores", type=int, help="that the runs take; without it, all")
    args = parser.parse_args()
    if args.cores:
        ENVIRONMENT["OMP_NUM_THREADS"] = str(args.cores)
    same = {}
    with tempfile.TemporaryDirectory() as scratch:
        other = ROOT
        if args.against:
            other = Path(scratch) / "code"
            git = ["git", "-C", str(ROOT), "worktree"]
            subprocess.run([*git, "add", "--detach", str(other), args.against], check=True)
        try:
            for recipe in args.recipes.split(","):
                first = run(other, recipe, Path(scratch) / f"{recipe}-1")
                same[recipe] = compare(
                    recipe, first, run(ROOT, recipe, Path(scratch) / f"{recipe}-2")
                )
        finally:
            if args.against:
                subprocess.run([*git, "remove", "--force", str(other)], check=True)
    print(json.dumps({"bench": "same", "against": args.against, "same": same}))
    sys.exit(not all(same.values()))


if __name__ == "__main__":
    main()
