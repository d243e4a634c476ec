"""What is written to disk: a crash at any moment loses nothing, and reading it runs no code.

    put, put_all         a file, a folder, a run; several: made beside, flushed, then renamed
    new_file, try_folder ...    what the user named: is it free, can it be written to?
    write_json, read_json       JSON of our own, checked by the types of a dataclass
    append_line, keep_steps     a step's metrics; cut back to the steps that a checkpoint knows
    lock                 one process at a time in a run's folder

A rename is all or nothing, so what has its own name is whole; `.partial-...` is never read, and may
be removed at any time. Nothing is written through a link, which is replaced: a folder that came
from somebody else may hold one that points at a file of yours. Weights and optimizer are
safetensors, the rest is JSON: a pickle, as torch.save writes it, may run code when it is loaded.
Left out: checkpoints in the background, or in parts over several machines.
"""

import errno
import json
import os
import re
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, get_args, get_origin

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from support.cli import expand

PARTIAL = ".partial"  # how the name of what is being written, or removed, begins
NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # of a file system without them


# --------------------------------------------------------------------------------------------------
# Whole, or not there


def partial_folder(folder):
    """A folder within it for what has no name yet; it goes at the end of a `with`."""
    return tempfile.TemporaryDirectory(prefix=f"{PARTIAL}-", dir=folder, ignore_cleanup_errors=True)


def put_all(folder, fill, again=False):
    """Puts what fill(another folder) writes, files or folders, into the folder, each of them whole.

    again: a folder may have been there before, as a stage's model that is made once more after a
    crash; a file always may. Raises OSError if it cannot, before any is put there if the disk is
    full.
    """
    try:
        with partial_folder(folder) as beside:
            fill(Path(beside))
            for path in Path(beside).rglob("*"):
                flush(path)
            for path in sorted(Path(beside).iterdir()):
                if again and os.path.lexists(folder / path.name):
                    remove(folder / path.name)
                os.replace(path, folder / path.name)
        flush(folder)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"cannot write to {folder} ({getattr(error, 'strerror', None) or error}). Free space "
            "there, or make it writable; nothing written before is lost."
        ) from None


def put(path, fill, again=False):
    """Makes the file or the folder `path` of what fill(another path) writes; as put_all."""
    put_all(path.parent, lambda beside: fill(beside / path.name), again)


def remove(path):
    """Renames first: a folder removed by half must not look whole."""
    with partial_folder(path.parent) as beside:
        os.replace(path, Path(beside) / path.name)


def flush(path):
    """Waits until a file, or a folder's list of names, is on the disk: no power cut can undo it."""
    if os.name == "nt":  # Windows flushes neither folders nor what is open for reading
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(folder):
    """Keeps other processes out of the run's folder until this one ends, or releases the lock.

    Raises ValueError if another one has it: two that train in one folder would spoil each other's
    files.
    """
    own = FileLock(folder / ".lock", timeout=0, is_singleton=True)
    try:
        own.acquire()
    except Timeout:
        raise ValueError(
            f"another process is at work on the run in {folder}. Wait for it to end, or stop it."
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise OSError(
                f"cannot write to {folder} ({error.strerror}). Make it writable."
            ) from None
    return own


# --------------------------------------------------------------------------------------------------
# What the user named


def free_name(path):
    """The path, or the first of path-2, path-3, ... that does not exist."""
    found = path
    copies = 1
    while os.path.lexists(found):
        copies += 1
        found = path.with_name(f"{path.name}-{copies}")
    return found


def new_folder(given, default):
    """The folder given, or the default's first free name.

    Raises ValueError for one in which there is something.
    """
    if not given:
        return free_name(Path(default))
    folder = Path(expand(given))
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} exists, and is no empty folder. Give --out another name.")
    return folder


@contextmanager
def try_folder(folder, option="--out"):
    """Makes the folder and writes to it; at the end removes what it made and nobody filled.

    Raises OSError, which says so, where that cannot be done.
    """
    made = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise OSError(
                f"cannot write to {folder} ({error.strerror}). Give {option} a folder that can be "
                "made and written to."
            ) from None
        yield
    finally:
        for path in made:  # the inner ones first
            with suppress(OSError):
                path.rmdir()


@contextmanager
def new_file(given, option):
    """The path of a file that is not there yet, in a folder that was tried.

    Raises ValueError for a name that something has, and OSError for one that cannot be written.
    """
    path = Path(expand(given))
    if os.path.lexists(path):
        raise ValueError(f"{path} exists. Give {option} another name.")
    with try_folder(path.parent, option):
        try:
            path.touch(exist_ok=False)
            path.unlink()
        except OSError as error:
            raise OSError(
                f"cannot write {path} ({error.strerror}). Give {option} another."
            ) from None
        yield path


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


# --------------------------------------------------------------------------------------------------
# JSON of our own


def to_json(value):
    """A value as a file's bytes."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def write_json(path, value):
    put(path, lambda made: made.write_bytes(to_json(value)))


def read_json(path, kind, whole=False):
    """What a JSON file holds, as `kind` (see as_kind); raises ValueError if that is something else.

    whole: a dataclass must be there with all its fields, but for those that are newer than some
    files.
    """
    try:
        return as_kind(kind, json.loads(path.read_text(encoding="utf-8")), "it", whole)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} was not written by tfpi.py, or is damaged ({error})") from None


def as_kind(kind, value, name, whole=False):
    """A value of JSON as what a type says; raises ValueError, by its name, for anything else.

    kind: int, float, str, bool, list, dict, list[X], dict[str, X], X | None, a dataclass, or
    Annotated[X, least, most] for a number within bounds.
    """
    origin = get_origin(kind)
    parts = get_args(kind)
    if is_dataclass(kind) and isinstance(value, dict):
        return as_dataclass(kind, value, whole)
    if origin is list and isinstance(value, list):
        return [as_kind(parts[0], item, name) for item in value]
    if origin is dict and isinstance(value, dict):
        return {key: as_kind(parts[1], item, f"{name}, {key}") for key, item in value.items()}
    if origin is UnionType:
        return None if value is None else as_kind(parts[0], value, name)
    if origin is Annotated:
        number, least, most = parts
        if least <= as_kind(number, value, name) <= most:
            return value
    elif type(value) in ((int, float) if kind is float else (kind,)):
        return value
    raise ValueError(f"{name} is {value!r:.60}")


def as_dataclass(kind, values, whole):
    """Of an object; a field may be missing where it has a default, unless `whole`."""
    known = {f.name: f for f in fields(kind)}
    for name, f in known.items():
        needed = f.default is f.default_factory is MISSING
        if name not in values and (needed or whole and not f.metadata.get("newer")):
            raise ValueError(f"{name} is missing")
    for name in values.keys() - known.keys():
        raise ValueError(f"{name} is unknown")
    return kind(**{name: as_kind(known[name].type, v, name) for name, v in values.items()})


def write_manifest(folder):
    """Notes what a checkpoint consists of, so that a missing or shortened file is found."""
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    (folder / "files.json").write_bytes(to_json(sizes))


def check_manifest(folder):
    """Raises ValueError where a file of the checkpoint is missing or of another size."""
    manifest = folder / "files.json"
    sizes = read_json(manifest, dict[str, int]) if manifest.exists() else {}  # as in older ones
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise ValueError(f"{name} is missing, or not whole")


# --------------------------------------------------------------------------------------------------
# Lines of metrics


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
        if None not in steps[:-1] and kept == lines[: len(kept)]:
            file.truncate(sum(map(len, kept)))  # in place: no line before is written again
            return None
    aside = path.with_name(f"damaged-{time.time_ns()}-{path.name}")
    shutil.copyfile(path, aside)
    put(path, lambda made: made.write_bytes(b"".join(kept)))
    return aside
