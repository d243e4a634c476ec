"""What is said to the user: it may be lost, but never costs a result; and it cannot do harm.

    calm_streams     a terminal that goes, a full disk behind `>`, a pipe that closes: no error
    visible          control characters shown, not obeyed: they may come from anybody's data
    say, say_above   print a text, above a progress bar
    paste            an option with its value, as it can be pasted into a shell

A terminal obeys what it is shown: escapes in a problem, an answer or a model's output may set its
title, clear it, or type into it. Left out: colours (but show.py has some).
"""

import os
import re
import shlex
import sys

from tqdm import tqdm

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
