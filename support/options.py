"""What every command line asks of its options: numbers within bounds, text that can be written.

Left out: what one option means beside another, which the files say that know them.
"""

import argparse
import os

from support.terminal import visible

LARGEST = 2**31 - 1  # of whole numbers: no count of a run is larger, and libraries take no larger
LARGEST_SEED = 2**63 - 1  # what numpy and torch take
SMALLEST = 1e-12  # of numbers that must be positive: a smaller one is 0 in some product


class Parser(argparse.ArgumentParser):
    """One that shows control characters in what it refuses."""

    def error(self, message):
        super().error(visible(message))


def flag(name):
    """`--full-budget` of full_budget, and `-k` of k."""
    return ("-" if len(name) == 1 else "--") + name.replace("_", "-")


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


def expand(path):
    """The path with `~` as the home folder; a shell leaves it in `--out=~/runs`."""
    return path and os.path.expanduser(path)
