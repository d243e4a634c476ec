"""What every command line is made of: its parser, its options and their bounds, what it says.

    with command("eval"):    what goes wrong within is one line, and an exit code
    option, add_options      options that are the fields of a dataclass
    check_options, ...       numbers within bounds, text that can be written
    calm_streams             a terminal that goes, a full disk behind `>`, a closed pipe: no error
    visible                  control characters shown, not obeyed: they may come from anybody's data
    say, say_above, paste    print a text, above a progress bar; an option, to be pasted

A terminal obeys what it is shown: escapes in a problem, an answer or a model's output may set its
title, clear it, or type into it. Left out: what one option means beside another, which the files
say that know them; colours (but show.py has some).
"""

import argparse
import os
import re
import shlex
import sys
from contextlib import contextmanager
from dataclasses import field, fields
from typing import get_args

from tqdm import tqdm

LARGEST = 2**31 - 1  # of whole numbers: no count of a run is larger, and libraries take no larger
LARGEST_SEED = 2**63 - 1  # what numpy and torch take
SMALLEST = 1e-12  # of numbers that must be positive: a smaller one is 0 in some product


@contextmanager
def command(name, more=lambda: ""):
    """Around a command line: a user's mistake, a full disk or Ctrl-C ends it with one sentence.

    more: what to say behind that sentence, such as how to go on.
    """
    calm_streams()
    try:
        yield
        return
    except (ValueError, OSError, MemoryError) as error:  # DataError and ModelError are ValueErrors
        reason = str(error)
    except KeyboardInterrupt as error:
        reason = str(error) or "stopped."
    sys.exit(visible(f"{name}: {reason}{more()}"))


class Parser(argparse.ArgumentParser):
    """One that shows control characters in what it refuses."""

    def error(self, message):
        super().error(visible(message))

    def given(self, argv):
        """What is given, {name: value}: an option whose default is None may not be."""
        values = vars(self.parse_args(argv))
        return {name: value for name, value in values.items() if value is not None}


def flag(name):
    """`--full-budget` of full_budget, and `-k` of k."""
    return ("-" if len(name) == 1 else "--") + name.replace("_", "-")


def expand(path):
    """The path with `~` as the home folder; a shell leaves it in `--out=~/runs`."""
    return path and os.path.expanduser(path)


# --------------------------------------------------------------------------------------------------
# Options that are fields of a dataclass


def option(default, text, *, least=None, most=LARGEST, choices=None, fixed=False, heading=None):
    """One option of the command line; its type is its field's.

    least, most: the bounds of a number; without them whole ones are 1 at least, others positive.
    choices: the words that are allowed. fixed: a resumed run may not change it, since its state and
    its table of measurements rest on it. heading: begins a group of --help.
    """
    if least is None:
        least = SMALLEST if isinstance(default, float) else 1
    known = {"text": text, "choices": choices, "fixed": fixed, "heading": heading}
    return field(default=default, metadata=known | {"least": least, "most": most})


def add_options(parser, options, describe_default):
    """Gives the parser the options of a dataclass, each with None as its default.

    describe_default(field) is what --help says of it instead. Where an option has no text, --help
    shows the words that it allows, and the parser takes no other.
    """
    group = parser
    for f in fields(options):
        known = f.metadata
        if known["heading"]:
            group = parser.add_argument_group(known["heading"])
        text = (known["text"] + describe_default(f)).replace("%", "%%") if known["text"] else None
        kind, *_ = get_args(f.type) or (f.type,)  # of `int | None`, int
        choices = None if text else known["choices"]
        group.add_argument(flag(f.name), type=kind, choices=choices, help=text)


# --------------------------------------------------------------------------------------------------
# What they may be


def check_number(name, value, least, most):
    """Raises ValueError, naming the option, for a number out of bounds, or for NaN."""
    if not least <= value <= most:
        raise ValueError(f"{flag(name)} {value} is not a number from {least} to {most}.")


def check_text(name, value):
    """Raises ValueError, naming the option, for text that is not UTF-8 (half a character of it)."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{flag(name)} {ascii(value)} is not UTF-8. Write it in UTF-8, and name files so."
        ) from None


def check_options(options, bounds):
    """Both, for parsed arguments; bounds: {name: (least, most)}. An option not given is None."""
    for name, value in vars(options).items():
        if isinstance(value, str):
            check_text(name, value)
    for name, (least, most) in bounds.items():
        value = getattr(options, name)
        if value is not None:
            check_number(name, value, least, most)


def check_fields(options):
    """Both, for options that are fields of a dataclass, by what they say of themselves."""
    for f in fields(options):
        value = getattr(options, f.name)
        choices = f.metadata["choices"]
        if isinstance(value, str):
            check_text(f.name, value)
        elif value is not None:
            check_number(f.name, value, f.metadata["least"], f.metadata["most"])
        if choices and value not in choices:
            raise ValueError(f"{flag(f.name)} {value} is not one of {', '.join(choices)}.")


# --------------------------------------------------------------------------------------------------
# What is said: it may be lost, but never costs a result


# All but line ends and tabs: C0, DEL, C1, and what turns the direction of writing around.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class CalmStream:
    """stdout or stderr; what cannot be written is dropped, and what is not known becomes `?`."""

    def __init__(self, stream):
        self.stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot write "±"

    def write(self, text):
        try:
            self.stream.write(text)
        except (OSError, ValueError):  # gone, full, or closed
            self.drop()
        return len(text)

    def flush(self):
        try:
            self.stream.flush()
        except (OSError, ValueError):
            self.drop()

    def drop(self):
        """From now on all goes nowhere, also what Python flushes at its end."""
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            self.stream = open(os.devnull, "w")

    def __getattr__(self, name):
        return getattr(self.stream, name)


def calm_streams():
    """Makes stdout and stderr such that no print ends the program."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # without a terminal, on Windows
            setattr(sys, name, open(os.devnull, "w"))
        elif not isinstance(stream, CalmStream):
            setattr(sys, name, CalmStream(stream))


def visible(text):
    """The text with control characters as `\\x1b`; line ends and tabs stay."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def say(text):
    print(visible(text))


def say_above(text):
    """Prints above the progress bar, where that is: on stderr."""
    tqdm.write(visible(text), file=sys.stderr)


def paste(option, value):
    """`--out 'my runs/x'`; with a sign of equality where the value looks like an option."""
    quoted = shlex.quote(str(value))
    return f"{option}={quoted}" if str(value).startswith("-") else f"{option} {quoted}"
