"""One problem and what a model wrote, in a terminal: both modes side by side where there is room.

The thinking is dim, words that verify and the final answer are in colour; in a pipe, and with
NO_COLOR, all is plain. Control characters of a text are shown, not obeyed (terminal.py); the only
escapes printed are those of STYLES. Left out: a pager.
"""

import os
import shutil
import sys
import unicodedata

from support.samples import name_of, pieces, size_of
from support.terminal import say, visible

STYLES = {"thinking": "2", "verification": "33", "answer": "1;36"}  # dim, yellow, bold cyan
WIDE_ENOUGH = 100  # columns of a terminal, for two of text
GAP = " | "


def show(question, gold, samples):
    """Prints them; samples: {mode: Sample}. Without a gold nothing is right or wrong."""
    terminal = sys.stdout.isatty()
    colors = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    width = shutil.get_terminal_size().columns
    say(f"\n--- {question}" + (f" (the answer is {gold})" if gold else ""))
    heads = [f"{name_of(mode)}: {describe(sample, gold)}" for mode, sample in samples.items()]
    if terminal and width >= WIDE_ENOUGH and len(samples) == 2:
        room = (width - len(GAP)) // 2
        sides = []
        for head, sample in zip(heads, samples.values()):
            lines = [*cells(head, []), *cells(sample.text, sample.marks)]
            sides.append([row for line in lines for row in wrap(line, room)])
        print_beside(*sides, room, colors)
        return
    for head, sample in zip(heads, samples.values()):
        say(f"\n{head}")
        for line in cells(sample.text, sample.marks):
            print(paint(line, colors))


def describe(sample, graded=True):
    """`right, answer 63, 213 tokens`."""
    words = [("right" if sample.correct else "wrong")] if graded else []
    words.append("no answer" if sample.answer is None else f"answer {sample.answer}")
    words.append(size_of(sample))
    return ", ".join(words)


# --------------------------------------------------------------------------------------------------
# A text as lines of cells: pairs of a character and its style


def cells(text, marks):
    lines = [[]]
    for piece, kinds in pieces(text, marks):
        style = ";".join(STYLES[kind] for kind in kinds)
        for character in visible(piece).expandtabs(4):
            if character == "\n":
                lines.append([])
            else:
                lines[-1].append((character, style))
    return lines


def columns(character):
    """How many columns of a terminal it takes."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def wrap(line, room):
    """A line as rows of so many columns at most, broken behind a blank where there is one."""
    rows = [[]]
    used = 0
    blank = 0  # how much of the last row can stay, since a blank follows
    for cell in line:
        taken = columns(cell[0])
        if used + taken > room:
            if cell[0] == " ":  # the end of a row stands for it
                blank = len(rows[-1])
                continue
            kept = blank or len(rows[-1])
            rows.append(rows[-1][kept:])
            del rows[-2][kept:]
            used = sum(columns(character) for character, _ in rows[-1])
            blank = 0
        rows[-1].append(cell)
        used += taken
        if cell[0] == " ":
            blank = len(rows[-1])
    return rows


def paint(row, colors):
    """A row of cells as text, with an escape where the style changes."""
    text = ""
    last = ""
    for character, style in row:
        if colors and style != last:
            text += ("\x1b[0m" if last else "") + (f"\x1b[{style}m" if style else "")
            last = style
        text += character
    return text + ("\x1b[0m" if last else "")


def print_beside(left, right, room, colors):
    for i in range(max(len(left), len(right))):
        first = left[i] if i < len(left) else []
        second = right[i] if i < len(right) else []
        fill = " " * (room - sum(columns(character) for character, _ in first))
        print(f"{paint(first, colors)}{fill}{GAP}{paint(second, colors)}".rstrip())
