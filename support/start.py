"""How a run begins: new, in a folder of its own, or resumed from its newest whole checkpoint.

What the folder holds is described in run.py. Nothing is written before all that can be checked has
been: options, data, model. A resumed run refuses other questions than those that it began with, and
options that its table of measurements rests on.
"""

import os
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers.utils import logging

from support import disk, ranks
from support.cli import check_number, command, paste, say, say_above
from support.config import (
    FIXED,
    Config,
    check_config,
    find_settings,
    flag,
    make_config,
    parse_arguments,
)
from support.memory import measure_sizes
from support.model import default_device, read_config
from support.offload import loss_scale
from support.plan import GB, find_memory, fit_budgets, make_plan, settle_memory, settle_ranks
from support.report import describe_plan, describe_start, report
from support.rows import absolute
from support.run import Run, State, checkpoints, signals


def run_folder(given):
    return Path(given.get("out") or Path("runs") / Path(given.get("model", "small")).resolve().name)


def new_run(given, load_data, check=None, start=None):
    """A run of the options given, in a folder of its own, which nobody has written to before.

    load_data(config.data) reads the problems (problems.Data). check(run) may refuse the run before
    anything is written. start(ranks, threads), if given, starts the other ranks; without it this
    process has all the work. Raises ValueError or OSError.
    """
    config, source = make_config(given)
    config.data = absolute(config.data)  # the run may be resumed from another folder
    folder = run_folder(given)
    if config.out and os.path.lexists(folder) and not is_empty(folder):
        raise ValueError(
            f"{folder} exists. Give --out another folder, or --resume to continue the run in it."
        )
    data = load_data(config.data)
    model = read_config(source)
    lowered = fit_budgets(config, given, model)
    plan = start_ranks(config, model, start)
    run = Run(config, folder, source, data)
    run.plan = [lowered] * bool(lowered) + describe_start(plan, config)
    hand_over(run)
    if check:
        check(run)
    with disk.try_folder(folder.parent):
        make_folder(run)
    run.lock = disk.lock(run.folder)
    return run


def start_ranks(config, model, start):
    """Settles what is `auto` or 0 in the config, and starts the other ranks; the plan."""
    plan = settle_memory(config, model)
    if start:
        settle_ranks(config, sum(plan.updating().values()))
        start(config.ranks, config.threads)
    else:
        config.ranks = 1
        config.threads = torch.get_num_threads()
    return plan


def hand_over(run):
    """Tells the other ranks, which wait in joined_run, what rank 0's run is."""
    ranks.join()
    told = {"folder": str(run.folder), "source": run.source, "data": run.data.fingerprint()}
    ranks.tell(told | {"config": asdict(run.config), "state": asdict(run.state)})
    ranks.check_alike(run.model)


def joined_run(given, load_data, check=None, start=None):
    """The run of rank 0, as another rank has it: made of the same files, with the same checks.

    Its arguments are new_run's; of `given` nothing is needed that rank 0 does not tell.
    """
    ranks.join()
    told = ranks.tell()
    config = Config(**told["config"])
    config.device = ranks.own_device(config.device or default_device())
    source = Path(told["source"])
    data = load_data(config.data)
    if data.fingerprint() != told["data"]:
        raise ValueError(f"{config.data} has changed while the run began. Start it again.")
    run = Run(config, Path(told["folder"]), str(source), data, State(**told["state"]))
    if (source / "optimizer.safetensors").exists():
        load_optimizer(run, source / "optimizer.safetensors")
    ranks.check_alike(run.model)
    if check:
        check(run)
    return run


def is_empty(folder):
    """Whether it is a folder with nothing in it, which a run may have."""
    return folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())


def make_folder(run):
    """Makes the run's folder, or one of the next free name, with its options in it."""

    def fill(folder):
        folder.mkdir()
        (folder / "config.json").write_bytes(disk.to_json(asdict(run.config)))
        (folder / "data.json").write_bytes(disk.to_json({"sha256": run.data.fingerprint()}))

    if run.config.out and is_empty(run.folder):
        run.folder.rmdir()
    run.folder = disk.free_name(run.folder)
    disk.put(run.folder, fill)


def resumed_config(given, folder):
    """The options that a run was saved with, and those that it goes on with: two Configs."""
    if "data" in given:
        given = given | {"data": absolute(given["data"])}
    if not (folder / "config.json").exists():
        raise ValueError(
            f"there is no run in {folder}. Give --out the folder of the run to resume, or leave "
            "out --resume to start one."
        )
    saved = disk.read_json(folder / "config.json", Config)
    options = asdict(saved)
    for name in FIXED:
        if given.get(name, options[name]) != options[name]:
            raise ValueError(
                f"the run in {folder} has {flag(name)} {options[name]!r}, which --resume cannot "
                f"change. Leave {flag(name)} out, or start another run."
            )
    config = Config(**(options | given | {"out": options["out"]}))
    check_config(config)
    return saved, config


def resumed_run(given, load_data, check=None, start=None):
    """The run in --out from its newest whole checkpoint on, or from its start if it had none yet.

    Options given again replace those of the run, but for FIXED ones. load_data, check and start are
    new_run's.
    """
    folder = run_folder(given)
    saved, config = resumed_config(given, folder)
    refuse_links(folder)
    locked = disk.lock(folder)
    for path in folder.glob(f"{disk.PARTIAL}*"):
        disk.remove(path)  # of a killed process
    try:
        data = load_data(config.data)
    except ValueError as error:
        raise ValueError(
            f"the data of the run in {folder} cannot be read any more: {error} Put it back as it "
            "was."
        ) from None
    check_same_data(folder, config, data)
    plan = start_ranks(config, read_config(find_settings(config.model)["model"]), start)
    run = load_checkpoint(config, folder, data)
    run.plan = describe_start(plan, config)
    run.lock = locked
    if saved.ranks and (config.ranks, config.threads) != (saved.ranks, saved.threads):
        run.say(
            f"the run in {folder} had {saved.ranks} ranks of {saved.threads} threads, and goes on "
            f"with {config.ranks} of {config.threads}: sums round otherwise from here on."
        )
    hand_over(run)
    if check:
        check(run)
    if config != saved:
        disk.write_json(folder / "config.json", asdict(config))
    try:
        if aside := disk.keep_steps(folder / "metrics.jsonl", run.state.step):
            run.say(f"{folder / 'metrics.jsonl'} was damaged; all of it is now {aside}.")
    except OSError as error:
        raise OSError(f"cannot write to {folder} ({error.strerror}). Make it writable.") from None
    return run


def refuse_links(folder):
    """Raises ValueError if a file of the run is a link: what it points at may be anything of yours.

    A checkpoint or a stage may be one, as of a disk with more room: they are never written through.
    """
    for path in folder.iterdir():
        if path.is_symlink() and not path.is_dir():
            raise ValueError(
                f"{path} is a link, and a run's own files never are: writing to it would change "
                "another file. Put the file itself in its place, or remove the link."
            )


def check_same_data(folder, config, data):
    """Raises ValueError if the questions are not those that the run began with."""
    path = folder / "data.json"
    if path.exists() and disk.read_json(path, dict[str, str]) != {"sha256": data.fingerprint()}:
        raise ValueError(
            f"the questions or answers in {config.data or 'the bundled data'} are not those that "
            f"the run in {folder} began with. Put them back, or start another run."
        )


def load_checkpoint(config, folder, data):
    """The run as its newest checkpoint that can be read has it; a damaged one is put aside.

    An older one is as good, only less far: the steps since are done again, alike.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        try:
            return read_checkpoint(config, folder, data, path)
        except ValueError as error:  # ModelError among them
            if path == found[0]:
                raise ValueError(
                    f"the checkpoint {path} cannot be used ({error}). Put a copy of it in its "
                    "place, or move it out of the run's folder to begin the run again with "
                    "--resume."
                ) from None
            aside = folder / f"damaged-{path.name}-{time.time_ns()}"
            os.replace(path, aside)
            say_above(
                f"{path} cannot be used ({error}); it is now {aside}, and the run goes on from an "
                "older one."
            )
    return Run(config, folder, find_settings(config.model)["model"], data)


def read_checkpoint(config, folder, data, path):
    """The run as one checkpoint has it; ValueError if its parts do not fit each other."""
    unreadable = [p for p in (path, *path.iterdir()) if not os.access(p, os.R_OK)]
    if unreadable:  # nothing is wrong with it, so it is not put aside
        raise OSError(f"{unreadable[0]} cannot be read (Permission denied). Make it readable.")
    disk.check_manifest(path)
    state = disk.read_json(path / "state.json", State, whole=True)
    if path.name != f"checkpoint-{state.step}-{state.stage}":
        raise ValueError(f"state.json is of step {state.step} and stage {state.stage}")
    run = Run(config, folder, str(path), data, state)
    load_optimizer(run, path / "optimizer.safetensors")
    return run


def load_optimizer(run, path):
    """Takes up what save_optimizer wrote. Raises ValueError if the file holds anything else."""
    try:
        tensors = load_file(path)
        scale = tensors.pop("loss_scale", torch.tensor(1.0)).item()
        if scale > 1 and loss_scale(run.optimizer) > 1:
            run.optimizer.loss_scale = scale
        whole = run.optimizer.state_dict()
        # There is no state before the first update.
        parameters = run.model.named_parameters() if tensors else []
        for index, (name, _) in enumerate(parameters):
            keys = ("step", "exp_avg", "exp_avg_sq")
            whole["state"][index] = {key: tensors[f"{name}/{key}"] for key in keys}
        run.optimizer.load_state_dict(whole)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from None


def show_plan(given, gigabytes):
    """Prints the plan of a run with the options given; of a card of so many GB, if they are."""
    config, source = make_config(given)
    model = read_config(source)
    device = torch.device(config.device or default_device())
    memory = find_memory(device)
    if gigabytes is not None:
        check_number("memory", gigabytes, 1, 10_000)
        memory = gigabytes * GB
    lowered = fit_budgets(config, given, model)
    on_gpu = gigabytes is not None or device.type == "cuda"
    plan = make_plan(measure_sizes(model), config, memory, on_gpu)
    lines = describe_plan(plan, config)
    say("\n".join([*lines, f"  {lowered}"] if lowered else lines))


# --------------------------------------------------------------------------------------------------
# The command line


def carry_out(file, argv, load_data, check, work):
    """tfpi.py's command line: begins or resumes a run, and hands it to work(run).

    file: the program, which the other ranks are started with. work returns False if the user asked
    to stop. Whatever ends it, the last line says how to go on.
    """
    run = None

    def how_to_go_on():
        if not run:
            return ""
        line = f"python tfpi.py --resume {paste('--out', run.folder)}"
        return f" To go on from the last checkpoint: {line}"

    with command("tfpi", how_to_go_on):
        given, todo = parse_arguments(argv)
        logging.disable_progress_bar()  # transformers' own bars, of loading and saving
        torch.set_flush_denormal(True)  # or Adam's smallest moments are slow denormal arithmetic
        with signals(lambda: run.ask_to_stop() if run else None), ranks.group():
            if todo.plan:
                return show_plan(given, todo.memory)
            make_run = resumed_run if todo.resume else new_run
            if ranks.follows():
                make_run = joined_run
            start = partial(ranks.start, [file, *(sys.argv[1:] if argv is None else argv)])
            run = make_run(given, load_data, check, start)
            if work(run):
                return report(run)
            run.save_checkpoint()
            raise KeyboardInterrupt("stopped.")
