"""What a run writes to disk: a crash at any moment loses nothing, and reading it runs no code.

    write_folder     a model or a checkpoint: with a partial name, flushed to the disk, then renamed
    write_json       the same for one small file
    append_line      a step's metrics
    keep_steps       cuts metrics.jsonl back to the steps that a checkpoint knows
    lock             one process at a time in a run's folder

A rename is all or nothing, so what has its own name is whole; `.partial` is never read, and may be
removed at any time. Nothing is written through a link: a folder that came from somebody else may
hold one that points at a file of yours. Weights and optimizer are safetensors, the rest is JSON: a
pickle, as torch.save writes it, may run code when it is loaded. Left out: checkpoints in the
background, or in parts over several machines.
"""

import json
import os
import re
import shutil
import time
from dataclasses import fields

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from support.files import flush
from support.offload import loss_scale

PARTIAL = ".partial"  # the name of what is being written, or removed
NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag


def clear(path):
    """Removes a file, a folder, or a link (and not what that points to), if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_folder(final, fill):
    """Makes the folder `final` of what fill(folder) writes: whole, or not at all.

    Raises OSError if it cannot.
    """
    partial = final.parent / PARTIAL
    try:
        clear(partial)
        partial.mkdir()
        fill(partial)
        for path in (*partial.rglob("*"), partial):
            flush(path)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)  # a full disk is less full
        raise OSError(
            f"cannot write {final} ({error}). Free space there, or make it writable; "
            "nothing written before is lost."
        ) from None
    clear(final)  # a stage's model, made once more after a crash
    os.replace(partial, final)
    flush(final.parent)


def lock(folder):
    """Keeps other processes out of the run's folder until this one ends, or closes what it returns.

    Raises ValueError if another one has it: two that train in one folder would spoil each other's
    files.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        return None
    try:
        # Neither emptied nor reached through a link.
        file = open(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | NO_LINK, 0o666), "r+")
    except OSError as error:
        raise OSError(f"cannot write to {folder} ({error.strerror}). Make it writable.") from None
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise ValueError(
            f"another process is at work on the run in {folder}. Wait for it to end, or stop it."
        ) from None
    except OSError:  # a file system without locks
        pass
    return file


def remove_folder(folder):
    """Renames first: a folder removed by half must not look whole."""
    partial = folder.parent / PARTIAL
    clear(partial)
    os.replace(folder, partial)
    clear(partial)


def replace_file(path, content):
    """Writes a file (bytes) beside `path`, then gives it that name."""
    partial = path.with_name(path.name + ".partial")
    clear(partial)
    with open(partial, "xb") as file:  # x: a new file, never one that a link points to
        file.write(content)
    flush(partial)
    os.replace(partial, path)
    flush(path.parent)


def write_json(path, value):
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise OSError(
            f"cannot write {path} ({error.strerror}). Free space there, or make it writable."
        ) from None


def read_json(path, kind, whole=False):
    """The dataclass `kind` from a JSON file; raises ValueError if the file holds something else.

    whole: all its fields must be there, but for those that are newer than some files.
    """
    types = {f.name: type(f.default) for f in fields(kind)}
    needed = {f.name for f in fields(kind) if whole and not f.metadata.get("newer")}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if missing := needed - values.keys():
            raise ValueError(f"{sorted(missing)[0]} is missing")
        for name, value in values.items():
            allowed = {float: (float, int), int: int, str: str}.get(types[name], list)
            if not isinstance(value, allowed) or isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}")
        return kind(**values)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} was not written by tfpi.py, or is damaged ({error})") from None


def write_manifest(folder):
    """Notes what a checkpoint consists of, so that a missing or shortened file is found."""
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    write_json(folder / "files.json", sizes)


def check_manifest(folder):
    """Raises ValueError where a file of the checkpoint is missing or of another size."""
    manifest = folder / "files.json"
    if not manifest.exists():
        return  # it was made before there were any
    try:
        sizes = dict(json.loads(manifest.read_text()))
        for name, size in sizes.items():
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{name} has another size")
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{folder} is not whole ({error})") from None


def save_model(run, folder, dtype="float32"):
    """Writes an ordinary Hugging Face folder of a type such as bfloat16.

    Weights are taken from the optimizer, which has them in fp32 (offload.py).
    """
    whole = zip(run.model.parameters(), run.optimizer.param_groups[0]["params"])
    cast = {weight.data_ptr(): value.to(getattr(torch, dtype)) for weight, value in whole}
    weights = {}
    for name, value in run.model.state_dict().items():
        weights[name] = cast.get(value.data_ptr(), value)  # tied weights stay one
    run.model.save_pretrained(folder, state_dict=weights)
    run.tokenizer.save_pretrained(folder)
    path = folder / "config.json"  # which tells the type of the model, not of what was written
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": dtype}, indent=2))


def save_optimizer(run, path):
    """The state of each parameter, by its name. Learning rate and such are the run's options."""
    tensors = {}
    parameters = run.optimizer.param_groups[0]["params"]
    for (name, _), parameter in zip(run.model.named_parameters(), parameters):
        state = run.optimizer.state.get(parameter, {})
        tensors |= {f"{name}/{key}": value for key, value in state.items()}
    if loss_scale(run.optimizer) > 1:
        tensors["loss_scale"] = torch.tensor(run.optimizer.loss_scale)
    save_file(tensors, path)


def load_optimizer(run, path):
    try:
        tensors = load_file(path)
        scale = tensors.pop("loss_scale", torch.tensor(1.0)).item()
        if scale > 1 and loss_scale(run.optimizer) > 1:
            run.optimizer.loss_scale = scale
        whole = run.optimizer.state_dict()
        # There is no state before the first update.
        parameters = run.model.named_parameters() if tensors else []
        for index, (name, parameter) in enumerate(parameters):
            state = {key: tensors[f"{name}/{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            if not state["exp_avg"].shape == state["exp_avg_sq"].shape == parameter.shape:
                raise ValueError(f"{name} has another shape")
            finite = all(torch.isfinite(value).all() for value in state.values())
            if not finite or state["exp_avg_sq"].min() < 0 or state["step"].numel() != 1:
                raise ValueError(f"{name} has moments that no training leaves")
            whole["state"][index] = state
        run.optimizer.load_state_dict(whole)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from None


def append_line(path, text):
    """Appends a line; never through a link."""
    with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_LINK, 0o666), "a") as file:
        file.write(text + "\n")


def step_of(line):
    """The step of a line (bytes) of metrics.jsonl: 0 of a blank one, None if it cannot be read."""
    if not line.strip():
        return 0
    try:
        step = json.loads(line)["step"]
        return step if isinstance(step, int) and line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def keep_steps(path, last):
    """Cuts off the lines of steps after `last`, which are done again, and one that a crash tore.

    What is damaged elsewhere is put aside, whole, and what can be read of it goes on: returns where
    it is then, else None.
    """
    with open(os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK, 0o666), "r+b") as file:
        lines = file.readlines()
        steps = [step_of(line) for line in lines]
        kept = [line for line, step in zip(lines, steps) if step is not None and step <= last]
        if None not in steps[:-1]:
            whole = sum(map(len, kept))
            if b"".join(lines)[:whole] == b"".join(kept):
                file.truncate(whole)  # in place and at once: no line before is written again
                return None
    aside = path.with_name(f"damaged-{time.time_ns()}-{path.name}")
    shutil.copyfile(path, aside)
    replace_file(path, b"".join(kept))
    return aside


def is_run(folder):
    """Whether tfpi.py's options lie in it."""
    path = folder / "config.json"
    return path.is_file() and b'"full_budget"' in path.read_bytes()


def last_model(run):
    """The folder of a run's last stage, or the furthest model that it has so far, for a message."""

    def numbers(path):
        return [int(n) for n in re.findall(r"\d+", path.name)]

    for name in ("rl", r"stage\d+", r"step\d+", r"checkpoint-\d+-\d+"):
        found = [path for path in run.iterdir() if re.fullmatch(name, path.name)]
        if found:
            return max(found, key=numbers)
    return "one of its stages, of which none has ended yet."
