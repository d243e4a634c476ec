"""One problem and what a model wrote, in a terminal: both modes side by side where there is room.

The thinking is dim, words that verify and the final answer are in colour; in a pipe, and with
NO_COLOR, all is plain. Control characters of a text are shown, not obeyed (cli.visible); the only
escapes printed are those of STYLES. rich wraps and aligns. Left out: a pager.
"""

import os
import sys

from rich.box import ASCII
from rich.console import Console
from rich.table import Table
from rich.text import Text

from support.cli import visible
from support.samples import name_of, pieces, size_of

STYLES = {"thinking": "dim", "verification": "yellow", "answer": "bold cyan"}
WIDE_ENOUGH = 100  # columns of a terminal, for two of text


def show(question, gold, samples):
    """Prints them; samples: {mode: Sample}. Without a gold nothing is right or wrong."""
    terminal = sys.stdout.isatty()  # rich itself would colour a pipe where FORCE_COLOR is set
    system = None if os.environ.get("NO_COLOR") else "auto"
    console = Console(color_system=system, force_terminal=terminal)
    title = f"\n--- {question}" + (f" (the answer is {gold})" if gold else "")
    console.print(Text(visible(title)), soft_wrap=True)
    texts = [describe(mode, sample, gold) for mode, sample in samples.items()]
    if terminal and console.width >= WIDE_ENOUGH and len(texts) == 2:
        beside = Table(box=ASCII, show_edge=False, show_header=False, pad_edge=False, expand=True)
        for _ in texts:
            beside.add_column(ratio=1, overflow="fold")  # or the end of a long word would be lost
        beside.add_row(*texts)
        console.print(beside)
        return
    for text in texts:
        console.print(Text("\n") + text, soft_wrap=True)


def describe(mode, sample, graded=True):
    """`thinking: right, answer 63, 213 tokens`, and the response with its marks: a Text."""
    words = [("right" if sample.correct else "wrong")] if graded else []
    words.append("no answer" if sample.answer is None else f"answer {sample.answer}")
    words.append(size_of(sample))
    text = Text(f"{name_of(mode)}: {visible(', '.join(words))}\n", tab_size=4)
    for piece, kinds in pieces(sample.text, sample.marks):
        text.append(visible(piece), " ".join(STYLES[kind] for kind in kinds))
    return text
