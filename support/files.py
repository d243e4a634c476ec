"""Files for the user: written whole or not at all, in a folder that was tried before.

    free_name        a name that nothing has yet: runs/distilled, runs/distilled-2
    new_folder       such a one, or the user's, if nothing is in it
    try_folder       can it be made, and written to? Asked before hours of work
    new_file         the same for a file that is not there yet
    fill_folder      files made beside and renamed, so that each has its name only once it is whole

A link of a file's name is replaced, never written through. What a run writes is disk.py's.
"""

import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

from support.cli import expand


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
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        remove_empty(made)
        raise OSError(
            f"cannot write to {folder} ({error.strerror}). Give {option} a folder that can be made "
            "and written to."
        ) from None
    try:
        yield
    finally:
        remove_empty(made)


@contextmanager
def new_file(given, option):
    """The path of a file that is not there yet, in a folder that was tried.

    Raises ValueError for a name that something has, and OSError for one that cannot be written.
    """
    path = Path(expand(given))
    if os.path.lexists(path):
        raise ValueError(f"{path} exists. Give {option} another name.")
    with try_folder(path.parent, option):
        try:  # as long a name as disk.replace_file's: eight characters more
            tempfile.NamedTemporaryFile(prefix=path.name, dir=path.parent).close()
        except OSError as error:
            raise OSError(
                f"cannot write {path} ({error.strerror}). Give {option} another."
            ) from None
        yield path


def remove_empty(folders):
    """Removes those of the folders in which nothing is, the inner ones first."""
    for path in folders:
        with suppress(OSError):
            path.rmdir()


def fill_folder(folder, fill):
    """Puts the files that fill(another folder) writes into the folder, each of them whole.

    Raises OSError if it cannot, before any is put there if the disk is full.
    """
    try:
        with tempfile.TemporaryDirectory(
            prefix=".partial-", dir=folder, ignore_cleanup_errors=True
        ) as beside:
            fill(Path(beside))
            # The longest of like names first: a copy, a.jsonl.before, and then the new a.jsonl.
            made = sorted(Path(beside).iterdir(), reverse=True)
            for path in made:
                flush(path)
            for path in made:
                os.replace(path, folder / path.name)
        flush(folder)
    except OSError as error:
        raise OSError(
            f"cannot write to {folder} ({error.strerror or error}). Free space there, or make it "
            "writable."
        ) from None


def flush(path):
    """Waits until a file, or a folder's list of names, is on the disk: no power cut can undo it."""
    if os.name == "nt":  # Windows flushes neither folders nor what is open for reading
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
