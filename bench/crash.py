"""Ends a real run at many moments, resumes it, and compares its end with an uninterrupted run's.

    python bench/crash.py                # 20 kills and 10 hang-ups, up to 4 a run

The run has two ranks; a kill is of rank 0 or, as often, of rank 1, upon which rank 0 must end by
itself. None may be left behind. Half of the kills (SIGKILL) come at any moment of the work, the
others where it is most delicate: when the run's folder is made, and up to 30 ms after a folder (a
checkpoint or a stage's model) begins to be written. At a hang-up whoever reads the output (`| tee
log`) dies first, then the run gets SIGHUP, as from a terminal that closes, or Ctrl-C's SIGINT; it
must end by itself, with a checkpoint. A run is right if its models, its optimizer, its metrics and
its table are those of the uninterrupted run, bit for bit, times left out. The last line is JSON.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = (
    "--model small --device cpu --steps 3 --budgets 48,64 --full-budget 64 --prompts 8 --group 4 "
    "--save-every 1 --validate-every 1 --validation-problems 4 --ranks 2 "
    "--eval-problems 4 --eval-samples 1"
).split()
PARTIAL = ".partial"  # how the name of what is being written begins
TIMES = ("seconds", "rollout_seconds", "step_seconds")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}


def start(folder):
    """Starts the run, or goes on with it: (process, the `tee` that writes its output to a log)."""
    new = not (folder / "config.json").exists()
    command = [sys.executable, "tfpi.py", "--out", str(folder), *(OPTIONS if new else ["--resume"])]
    tee = subprocess.Popen(
        ["tee", "-a", f"{folder}.log"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    streams = {"stdout": tee.stdin, "stderr": tee.stdin}

    def hear():  # whoever runs this may have told it to ignore a hang-up, as nohup does
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, preexec_fn=hear, **streams)
    tee.stdin.close()
    return process, tee


def finish(folder):
    """Lets the run go on to its end."""
    process, tee = start(folder)
    code = process.wait()
    tee.wait()
    if code:
        sys.exit(Path(f"{folder}.log").read_text())


def wait_for(process, condition):
    """Waits until the condition holds; False if the process ended before."""
    while not condition():
        if process and process.poll() is not None:
            return False
        time.sleep(0.0005)
    return True


def other_ranks(process):
    """The process ids of the ranks that rank 0 has started."""
    try:
        return list(
            map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        )
    except OSError:
        return []


def interrupt(folder, kind, work, rng):
    """Starts the run, or goes on with it, and ends it at a moment of its kind: whether it was hit.

    It is not if it came to its end before.
    """
    log = Path(f"{folder}.log")
    size = log.stat().st_size if log.exists() else 0
    process, tee = start(folder)
    if kind == "folder":  # only a new run makes one
        found = folder.parent.glob
        hit = wait_for(process, lambda: folder.exists() or list(found(f"{PARTIAL}*/{folder.name}")))
        delay = rng.uniform(0, 0.002)
    else:  # loaded, the work begins
        hit = wait_for(process, lambda: log.exists() and log.stat().st_size > size)
        delay = rng.uniform(0, work / 4)
    if hit and kind == "write":
        for _ in range(rng.randint(1, 3)):  # the first, second or third folder that is written
            hit = hit and wait_for(process, lambda: not list(folder.glob(f"{PARTIAL}*")))
            hit = hit and wait_for(process, lambda: list(folder.glob(f"{PARTIAL}*")))
        delay = rng.uniform(0, 0.03)
    time.sleep(delay)
    others = other_ranks(process)
    hit = hit and process.poll() is None
    if kind.startswith("SIG"):
        tee.kill()
        process.send_signal(getattr(signal, kind))
    elif others and rng.random() < 0.5:
        os.kill(others[0], signal.SIGKILL)
        kind = "of rank 1"
    else:
        process.kill()
    code = process.wait()
    tee.wait()
    wait_for(None, lambda: not any(Path(f"/proc/{other}").exists() for other in others))
    if kind == "of rank 1":
        hit = code not in (0, -signal.SIGKILL)  # it said so, or had come to its end before
    if hit and kind.startswith("SIG") and (code == 0 or not list(folder.glob("checkpoint-*"))):
        # Before the handlers stand nothing has been done, and there is nothing to keep.
        hit = code != 0 and not list(folder.glob("*"))
    return hit


def state(folder):
    """Where the run stands on the disk, for the table."""
    names = sorted(
        path.name for path in folder.glob("*") if path.name.startswith(("checkpoint", PARTIAL))
    )
    return ", ".join(names) or ("config.json" if (folder / "config.json").exists() else "nothing")


def result(folder):
    """All that must be equal: model files, optimizer, metrics and table, the times left out."""
    files = sorted(path for path in folder.rglob("*.safetensors"))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    return {
        "files": {str(path.relative_to(folder)): path.read_bytes() for path in files},
        "metrics": [
            {key: value for key, value in line.items() if key not in TIMES} for line in lines
        ],
        "summary": {key: value for key, value in summary.items() if key not in TIMES},
    }


def whole_run(scratch):
    """What an uninterrupted run leaves, and how many seconds its work takes."""
    folder = Path(scratch) / "whole"
    log = Path(f"{folder}.log")
    process, tee = start(folder)
    wait_for(process, lambda: log.exists() and log.stat().st_size > 0)
    started = time.monotonic()
    if process.wait():
        sys.exit(log.read_text())
    tee.wait()
    return result(folder), time.monotonic() - started


def broken_run(folder, kinds, work, rng):
    """A run that is interrupted in these ways, one after the other, then ends: those that hit."""
    done = []
    for kind in kinds:
        if not interrupt(folder, kind, work, rng):
            break
        done.append(kind)
        print(f"{folder.name}, {kind:6}: on the disk {state(folder)}", flush=True)
    finish(folder)
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--hang-ups", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    kinds = ["folder", "write", "any", "write", "any", "write", "any"] * args.kills
    waiting = kinds[: args.kills] + ["SIGHUP", "SIGINT"] * (args.hang_ups // 2)
    counts = dict.fromkeys(waiting, 0)
    runs = 0
    equal = 0
    with tempfile.TemporaryDirectory() as scratch:
        expected, work = whole_run(scratch)
        while waiting and runs < 5 * len(counts) + args.kills:
            runs += 1
            folder = Path(scratch) / f"run{runs}"
            done = broken_run(folder, waiting[:4], work, rng)
            waiting = waiting[len(done) :]
            for kind in done:
                counts[kind] += 1
            found = result(folder)
            differ = [key for key in found if found[key] != expected[key]]
            equal += not differ
            verdict = f"OTHERWISE: {', '.join(differ)}" if differ else "as the uninterrupted one"
            print(f"{folder.name} ends {verdict}", flush=True)
    print(json.dumps({"bench": "crash", "counts": counts, "runs": runs, "equal": equal}))
    sys.exit(equal != runs or bool(waiting))


if __name__ == "__main__":
    main()
