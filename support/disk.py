"""What a run writes to disk: a crash at any moment loses nothing, and reading it runs no code.

    write_folder     a model or a checkpoint: with a partial name, flushed to the disk, then renamed
    write_json       the same for one small file
    keep_steps       cuts metrics.jsonl back to the steps that a checkpoint knows
    lock             one process at a time in a run's folder

A rename is all or nothing, so what has its own name is whole; `partial` is never read, and may be
removed at any time. Weights and optimizer are safetensors, the rest is JSON: a pickle, as
torch.save writes it, may run code when it is loaded. Left out: checkpoints in the background, or in
parts over several machines.
"""

import json
import os
import shutil
from dataclasses import fields

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file


def flush(path):
    """Waits until a file, or a folder's list of names, is on the disk: no power cut can undo it."""
    if os.name == "nt":  # Windows flushes neither folders nor what is open for reading
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_folder(final, fill):
    """Makes the folder `final` of what fill(folder) writes: whole, or not at all.

    Raises OSError if it cannot.
    """
    partial = final.parent / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
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
    if final.exists():  # a stage's model, made once more after a crash
        shutil.rmtree(final)
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
        file = open(folder / ".lock", "w")
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
    partial = folder.parent / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    os.replace(folder, partial)
    shutil.rmtree(partial)


def write_json(path, value):
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")
        flush(partial)
        os.replace(partial, path)
        flush(path.parent)
    except OSError as error:
        raise OSError(
            f"cannot write {path} ({error.strerror}). Free space there, or make it writable."
        ) from None


def read_json(path, kind):
    """The dataclass `kind` from a JSON file; raises ValueError if the file holds something else."""
    types = {f.name: type(f.default) for f in fields(kind)}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        for name, value in values.items():
            allowed = {float: (float, int), int: int, str: str}.get(types[name], list)
            if not isinstance(value, allowed) or isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}")
        return kind(**values)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} was not written by tfpi.py, or is damaged ({error})") from None


def save_model(run, folder, dtype=""):
    """Writes an ordinary Hugging Face folder; with a dtype, such as bfloat16, of that type."""
    weights = {}
    if dtype:
        cast = {}  # tied weights stay one
        for name, value in run.model.state_dict().items():
            cast.setdefault(value.data_ptr(), value.to(getattr(torch, dtype)))
            weights[name] = cast[value.data_ptr()]
    run.model.save_pretrained(folder, state_dict=weights or None)
    run.tokenizer.save_pretrained(folder)
    if dtype:
        path = folder / "config.json"  # which tells the type of the model, not of what was written
        path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": dtype}, indent=2))


def save_optimizer(run, path):
    """The state of each parameter, by its name. Learning rate and such are the run's options."""
    tensors = {}
    for name, parameter in run.model.named_parameters():
        state = run.optimizer.state.get(parameter, {})
        tensors |= {f"{name}/{key}": value for key, value in state.items()}
    save_file(tensors, path)


def load_optimizer(run, path):
    try:
        tensors = load_file(path)
        whole = run.optimizer.state_dict()
        # There is no state before the first update.
        parameters = run.model.named_parameters() if tensors else []
        for index, (name, parameter) in enumerate(parameters):
            state = {key: tensors[f"{name}/{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            if not state["exp_avg"].shape == state["exp_avg_sq"].shape == parameter.shape:
                raise ValueError(f"{name} has another shape")
            whole["state"][index] = state
        run.optimizer.load_state_dict(whole)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from None


def keep_steps(path, last):
    """Cuts off the lines of steps after `last`, which are done again, and one that a crash tore."""
    kept = 0
    with open(path, "ab+") as file:
        file.seek(0)
        for line in file:
            try:
                if not line.endswith(b"\n") or json.loads(line)["step"] > last:
                    break
            except (ValueError, KeyError, TypeError):
                break
            kept += len(line)
        file.truncate(kept)  # in place and at once: no line before is written again
