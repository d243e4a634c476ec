"""The report of a run, a page to look at: its table, its figure, and what the model wrote.

    python -m support.page runs/small            # writes runs/small/report.html

One file that opens from the disk: nothing is fetched, and without JavaScript all of it is a plain
list. It shows the same problems before training and after each stage, in both modes, from what the
run kept (samples.py); page.html is its form, which jinja2 fills. Every text in it may come from
anybody's data or model, so each is escaped; should one slip through, the page's policy lets no
script of it run. Left out: the other samples, and the middle of very long responses, which are
whole in samples-*.json.
"""

import base64
import hashlib
import re
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from support.cli import Parser, command, expand, say, visible
from support.config import MODES
from support.disk import put
from support.plot import parse, read_entries, read_text
from support.samples import name_of, part, pieces, read_samples, size_of

FORM = Path(__file__).with_name("page.html")
# Shares of a measurement that are in the table, where they are known: {key: its head}.
SHARES = {
    "truncated": "truncated",
    "verification": "verifying lines",
    "thought": "think",
    "empty": "empty blocks",
}
SETTINGS = ("model", "recipe", "seed", "budgets", "full_budget", "temperature")
LONGEST = 6000  # characters of a response; of a longer one half of it from each end
LONGEST_ANSWER = 200
LARGEST_FIGURE = 5_000_000  # bytes


def write_page(folder):
    """Writes report.html into the run's folder and returns its path.

    Raises ValueError or OSError, and nothing else.
    """
    folder = Path(folder)
    try:
        entries = read_entries(folder / "summary.json", SHARES)
        names, problems = find_samples(folder, entries)
        text = fill(
            run=folder.resolve().name,
            facts=find_facts(folder / "config.json"),
            entries=entries,
            figure=encode_figure(folder / "figure.png"),
            names=names,
            problems=problems,
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
    form = FORM.read_text(encoding="utf-8")
    for name in ("style", "script"):
        own = re.search(f"<{name}>(.*?)</{name}>", form, re.DOTALL)[1]
        digest = hashlib.sha256(own.encode()).digest()
        parts[f"{name}_hash"] = "sha256-" + base64.b64encode(digest).decode()
    jinja = Environment(autoescape=True, finalize=as_shown, trim_blocks=True, lstrip_blocks=True)
    functions = {"name_of": name_of, "size_of": size_of, "clip": clip, "ends": ends}
    return jinja.from_string(form).render(modes=MODES, shares=SHARES, **functions, **parts)


def as_shown(value):
    """What goes into the page, before it is escaped: control characters can be seen."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


def find_facts(path):
    """The run's main options, as far as they are known: a list of texts."""
    if not path.is_file():
        return []
    config = parse(read_text(path), path)
    return [f"{name.replace('_', ' ')} {config[name]}" for name in SETTINGS if name in config]


def encode_figure(path):
    """The figure in base64; nothing where there is none."""
    if not path.is_file() or path.stat().st_size > LARGEST_FIGURE:
        return ""
    return base64.b64encode(path.read_bytes()).decode()


def find_samples(folder, entries):
    """The names of the evaluations that have samples; of each problem a Shown of each of them."""
    files = {path.name: path for path in folder.glob("samples-*.json")}
    names = [entry["name"] for entry in entries]
    names = [name for name in names if f"samples-{name}.json" in files]
    found = [read_samples(files[f"samples-{name}.json"]) for name in names]
    for shown in found:
        if [one.problem for one in shown] != [one.problem for one in found[0]]:
            raise ValueError(f"the files samples-*.json in {folder} are not of the same problems")
    return names, list(zip(*found))


def clip(text):
    """An answer may be as long as a response."""
    return text if len(text) <= LONGEST_ANSWER else text[:LONGEST_ANSWER] + " ..."


def ends(sample):
    """A response as pieces with their marks: (pieces, how many characters are left out, pieces)."""
    size = len(sample.text)
    if size <= LONGEST:
        return pieces(sample.text, sample.marks), 0, ()
    half = LONGEST // 2
    first = pieces(*part(sample.text, sample.marks, 0, half))
    last = pieces(*part(sample.text, sample.marks, size - half, size))
    return first, size - 2 * half, last


def main(argv=None):
    parser = Parser(description="Write the report of a finished run.")
    parser.add_argument("folder", help="the run's folder, such as runs/small")
    with command("page"):
        say(write_page(expand(parser.parse_args(argv).folder)))


if __name__ == "__main__":
    main()
