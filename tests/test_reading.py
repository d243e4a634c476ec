"""The reading's examples are run, and print what stands below them; links and names exist in all
that is to be read.
"""

import contextlib
import importlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = sorted((ROOT / "reading").glob("[0-9]*.md"))
FOLDERS = (".", "docs", "reading", "bench", "bench/results", "assignments", "answers")
PAGES = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.md"))]
IDS = [path.stem for path in SECTIONS]
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.S)


@pytest.mark.parametrize("path", SECTIONS, ids=IDS)
def test_examples_print_what_stands_there(path):
    """In order, as one program."""
    text = path.read_text(encoding="utf-8")
    names = {}
    for code, expected in EXAMPLE.findall(text):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, path.name, "exec"), names)
        assert printed.getvalue() == expected
    assert text.count("```python") == len(EXAMPLE.findall(text))


@pytest.mark.parametrize("path", SECTIONS[:-1], ids=IDS[:-1])
def test_a_section_has_what_a_reader_looks_for(path):
    """Minutes and importance, an example, what is open, a question with its answer, homework."""
    text = path.read_text(encoding="utf-8")
    minutes, importance = re.search(r"^\*(\d+) minutes, importance (\d)\b", text, re.M).groups()
    row = re.search(
        rf"\({path.name}\) \| (\d+) \| (\d) \|", (ROOT / "reading/README.md").read_text()
    )
    assert (minutes, importance) == row.groups()
    assert re.search(r"<details><summary>Answer</summary>\n\n.+\n</details>", text, re.S)
    for word in ("**Question.**", "**Assignment:**", "```python"):
        assert word in text
    assert text.count("**What the paper leaves open.**") == (path.stem not in (IDS[0], IDS[11]))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_names_exist(path):
    """Links to files, `folder/file.py`, and `file.function`."""
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)#\s]+)", re.sub("```.*?```", "", text, flags=re.S)):
        assert (path.parent / link).exists(), link
    for name in re.findall(r"`([a-z]+/[\w/]+\.(?:py|md|tsv))`", text):
        assert (ROOT / name).exists() or "NN" in name, name
    for module, name in re.findall(
        r"`(tfpi|thinkfree|grpo|logprobs|reward|eval|rollout)\.(\w+)`", text
    ):
        assert name == "py" or hasattr(importlib.import_module(module), name), f"{module}.{name}"


@pytest.mark.parametrize("path", SECTIONS, ids=IDS)
def test_what_was_measured_here_stands_in_the_results(path):
    """Whatever has a spread; "64.7 ± 0.8, 64.4 ± 0.2" and tables alike."""
    files = (ROOT / "bench").rglob("*.md")
    results = "\n".join(file.read_text(encoding="utf-8") for file in files)
    text = " ".join(path.read_text(encoding="utf-8").split())
    for figure in re.findall(r"[\d.]+ ± [\d.]*\d", text):
        assert figure in results, figure


@pytest.mark.parametrize("path", SECTIONS, ids=IDS)
def test_assignments_exist(path):
    folder = ROOT / "assignments"
    line = re.search(r"\*\*Assignment:\*\* (.*)", path.read_text(encoding="utf-8"))
    for number in re.findall(r"\b\d+\b", line[1] if line else ""):
        assert list(folder.glob(f"{int(number):02}_*.md")), number
