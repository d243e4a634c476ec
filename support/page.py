"""The report of a run, a page to look at: its table, its figure, and what the model wrote.

    python -m support.page runs/small            # writes runs/small/report.html

One file that opens from the disk: nothing is fetched, and without JavaScript all of it is a plain
list. It shows the same problems before training and after each stage, in both modes, from what the
run kept (samples.py); page.html is its form. Every text in it may come from anybody's data or
model, so each is escaped; should one slip through, the page's policy lets no script of it run. Left
out: the other samples, and the middle of very long responses, which are whole in samples-*.json.
"""

import base64
import hashlib
import html
import re
from pathlib import Path
from string import Template

from support.cli import Parser, command, expand
from support.config import MODES
from support.disk import put
from support.plot import parse, read_entries, read_text
from support.samples import name_of, part, pieces, read_samples, size_of
from support.terminal import say, visible

TEMPLATE = Path(__file__).with_name("page.html")
# Shares of a measurement that are in the table, where they are known: {key: its head}.
SHARES = {
    "truncated": "truncated",
    "verification": "verifying lines",
    "thought": "think",
    "empty": "empty blocks",
}
SETTINGS = ("model", "recipe", "seed", "budgets", "full_budget", "temperature")
LONGEST = 6000  # characters of a response; of a longer one half of it from each end
LARGEST_FIGURE = 5_000_000  # bytes


def escape(text):
    """Text as HTML, control characters shown: whatever it is, it is text."""
    return html.escape(visible(text))


def write_page(folder):
    """Writes report.html into the run's folder and returns its path.

    Raises ValueError or OSError, and nothing else.
    """
    folder = Path(folder)
    try:
        entries = read_entries(folder / "summary.json", SHARES)
        text = fill(
            title=f"Run {escape(folder.resolve().name)}",
            facts=write_facts(folder),
            table=write_table(entries),
            figure=write_figure(folder / "figure.png"),
            browser=write_browser(*find_samples(folder, entries)),
        )
    except (ValueError, MemoryError) as error:
        raise ValueError(
            f"no report of {folder}, which needs what a finished run left: {error}."
        ) from None
    path = folder / "report.html"
    # Half a character, which is not UTF-8, is shown by its number.
    content = text.encode("utf-8", "backslashreplace")
    put(path, lambda made: made.write_bytes(content))
    return path


def fill(**parts):
    """The page: its form with the parts in it, and the hashes of its own style and script."""
    form = Template(TEMPLATE.read_text(encoding="utf-8"))
    for name in ("style", "script"):
        own = re.search(f"<{name}>(.*?)</{name}>", form.template, re.DOTALL)[1]
        digest = hashlib.sha256(own.encode()).digest()
        parts[f"{name}_hash"] = "sha256-" + base64.b64encode(digest).decode()
    return form.substitute(parts)


# --------------------------------------------------------------------------------------------------
# What was measured


def write_facts(folder):
    """The run's main options, as far as they are known."""
    path = folder / "config.json"
    if not path.is_file():
        return ""
    config = parse(read_text(path), path)
    known = [name for name in SETTINGS if name in config]
    return "; ".join(f"{name.replace('_', ' ')} {escape(config[name])}" for name in known)


def write_table(entries):
    heads = ["", "accuracy", "tokens", *SHARES.values()]
    rows = [f'<th scope="col">{head}</th>' for head in heads]
    parts = [f"<thead><tr>{''.join(rows)}</tr></thead>"]
    for entry in entries:
        name = f'<th scope="row" colspan="{len(heads)}">{escape(entry["name"])}</th>'
        parts.append(f"<tbody><tr>{name}</tr>")
        parts += [write_row(mode, entry[mode]) for mode in MODES]
        parts.append("</tbody>")
    table = f"<table>{''.join(parts)}</table>"
    return f'<div class="scroll" role="region" aria-label="table" tabindex="0">{table}</div>'


def write_row(mode, result):
    cells = [f"{100 * result['accuracy']:.1f} ± {100 * result['error']:.1f} %"]
    cells.append(f"{result['tokens']:.1f}")
    cells += [f"{100 * result[key]:.1f} %" if key in result else "-" for key in SHARES]
    values = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row" class="dim">{name_of(mode)}</th>{values}</tr>'


def write_figure(path):
    if not path.is_file() or path.stat().st_size > LARGEST_FIGURE:
        return '<p class="dim">There is no figure: it needs matplotlib.</p>'
    image = base64.b64encode(path.read_bytes()).decode()
    about = "Accuracy and tokens before training and after each stage; the rollouts, step by step"
    region = 'class="scroll" role="region" aria-label="figure" tabindex="0"'
    return f'<figure {region}><img src="data:image/png;base64,{image}" alt="{about}"></figure>'


# --------------------------------------------------------------------------------------------------
# What it writes


def find_samples(folder, entries):
    """The names of the evaluations that have samples, and these: a list of Shown each."""
    files = {path.name: path for path in folder.glob("samples-*.json")}
    names = [entry["name"] for entry in entries]
    names = [name for name in names if f"samples-{name}.json" in files]
    found = [read_samples(files[f"samples-{name}.json"]) for name in names]
    for shown in found:
        if [one.problem for one in shown] != [one.problem for one in found[0]]:
            raise ValueError(f"the files samples-*.json in {folder} are not of the same problems")
    return names, found


def write_browser(names, found):
    """The problems, each with its samples of all evaluations; and the filters."""
    if not found:
        return '<p class="dim">This run kept no responses: an older version made it.</p>'
    about = (
        "The first response to each of the first test problems; the shares above are of all of "
        "them. It is one draw, so a change may be chance. Behind each mode stands whether it is "
        'right, before and after each stage. <span class="thinking">The thinking is dim</span>, '
        'words that <span class="verification">verify</span> and the <span class="answer">final '
        "answer</span>, as the grader reads it, are marked."
    )
    problems = [
        write_problem(number, names, shown) for number, shown in enumerate(zip(*found), start=1)
    ]
    filters = write_controls(names) if len(names) > 1 else ""
    return f"<p>{about}</p>{filters}{''.join(problems)}"


def write_controls(names):
    stages = enumerate(names[1:], start=1)
    choices = [radio("stage", i, escape(name), i == len(names) - 1) for i, name in stages]
    changes = {"all": "all", "right": "became right", "wrong": "became wrong", "same": "same"}
    kinds = [
        radio("change", key, f'{text} (<span data-count="{key}"></span>)', key == "all")
        for key, text in changes.items()
    ]
    return (
        '<div id="controls" hidden>'
        f"<fieldset><legend>compare {escape(names[0])} with</legend>{''.join(choices)}</fieldset>"
        f"<fieldset><legend>in either mode</legend>{''.join(kinds)}</fieldset>"
        '<div><button type="button" id="open">open or close all</button> '
        '<span id="shown" role="status"></span></div></div>'
    )


def radio(name, value, text, checked):
    state = " checked" if checked else ""
    return f'<label><input type="radio" name="{name}" value="{value}"{state}> {text}</label>'


def write_problem(number, names, shown):
    """One problem; shown: a Shown of each evaluation."""
    ways = {mode: [one.samples[mode].correct for one in shown] for mode in MODES}
    data = {mode: "".join(str(int(right)) for right in way) for mode, way in ways.items()}
    paths = "".join(write_path(mode, names, way) for mode, way in ways.items())
    sections = [
        f'<section data-stage="{i}"><h3>{escape(name)}</h3><div class="pair">'
        + "".join(write_response(mode, one.samples[mode]) for mode in MODES)
        + "</div></section>"
        for i, (name, one) in enumerate(zip(names, shown))
    ]
    return (
        f'<details class="problem" data-thinking="{data["thinking"]}"'
        f' data-free="{data["thinking_free"]}"{" open" if number == 1 else ""}>'
        f'<summary><b>{number}.</b> <span class="question">{escape(shown[0].problem)}</span>'
        f"<br>{paths}</summary>"
        f"<p>The answer is <b>{escape(shown[0].gold)}</b>.</p>{''.join(sections)}</details>"
    )


def write_path(mode, names, way):
    """Right or wrong in each evaluation, as signs; in words for whoever cannot see them."""
    words = [f"{name}: {'right' if right else 'wrong'}" for name, right in zip(names, way)]
    signs = "".join(sign(right) for right in way)
    return (
        f'<span class="path" role="img" title="{escape(", ".join(words))}"'
        f' aria-label="{name_of(mode)}: {escape(", ".join(words))}">{name_of(mode)} {signs}</span>'
    )


def sign(right, word=""):
    kind = "right" if right else "wrong"
    return f'<span class="{kind}">{"✓" if right else "✗"}{word}</span>'


def write_response(mode, sample):
    answer = "no answer" if sample.answer is None else f"answer {clip(sample.answer)}"
    verdict = sign(sample.correct, " right" if sample.correct else " wrong")
    return (
        f"<div><h4>{name_of(mode)}: {verdict}, {answer}, {size_of(sample)}</h4>"
        f'<div class="response">{write_text(sample)}</div></div>'
    )


def clip(text):
    """A short text as HTML: an answer may be as long as a response."""
    return escape(text if len(text) <= 200 else text[:200] + " ...")


def write_text(sample):
    """A response with its marks; of a very long one both ends, and how much is left out."""
    size = len(sample.text)
    if size <= LONGEST:
        return write_part(sample, 0, size)
    half = LONGEST // 2
    note = f"[{size - 2 * half:,} characters are left out here]"
    return (
        write_part(sample, 0, half)
        + f'<p class="left-out">{note}</p>'
        + write_part(sample, size - half, size)
    )


def write_part(sample, begin, end):
    found = []
    for piece, kinds in pieces(*part(sample.text, sample.marks, begin, end)):
        text = escape(piece)
        found.append(f'<span class="{" ".join(kinds)}">{text}</span>' if kinds else text)
    return "".join(found)


def main(argv=None):
    parser = Parser(description="Write the report of a finished run.")
    parser.add_argument("folder", help="the run's folder, such as runs/small")
    with command("page"):
        say(write_page(expand(parser.parse_args(argv).folder)))


if __name__ == "__main__":
    main()
