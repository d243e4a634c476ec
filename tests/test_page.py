"""The page of a run: all that was measured and written is on it, as text, and nothing else is.

What the page says is read by Python's own parser of HTML, and in a browser where one is installed.
"""

import base64
import hashlib
import json
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from browser import browser

import support.page as page_module
import support.report as report_module
from eval import first_samples
from reward import extract_answer, grade
from support.cli import visible
from support.config import MODES
from support.page import write_page
from support.samples import write_samples

NAMES = ("before", "stage1", "stage2")
# Of each problem, right or wrong in each evaluation, with thinking and without.
RIGHT = [("000", "000"), ("011", "110"), ("110", "000"), ("111", "111"), ("010", "111")]
RESULT = {"accuracy": 0.125, "error": 0.031, "tokens": 45.6, "truncated": 0.078}
RESULT |= {"verification": 0.09, "thought": 0.011, "empty": 0.022}
EVIL = [
    "<script>document.title = 'evil'</script>",
    "</script><!--",
    "</details></section><img src=http://127.0.0.1:9/x onerror=alert(1)>",
    '" onclick="alert(1)',
    "&lt;b&gt; &amp; $title ${x}",
    "\x1b[31m \x00 \u202e \ud800 \U0001f469\u200d\U0001f467",
    "e\u0301\u0323 \u65e5\u672c \u0627\u0644",
]


def written(text, gold, size=9, finished=True):
    correct, _ = grade(text, gold)
    ids = [0] * size
    return SimpleNamespace(
        text=text,
        response_ids=ids,
        finished=finished,
        correct=correct,
        answer=extract_answer(text),
    )


def write_run(folder, texts=("Wait, so",), names=NAMES):
    """A finished run whose problems, golds and responses hold the texts."""
    folder.mkdir()
    table = [{"name": name} | {mode: RESULT for mode in MODES} for name in NAMES]
    summary = {"before": table[0], "stages": table[1:]}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "config.json").write_text(json.dumps({"model": texts[0], "seed": 7}))
    (folder / "figure.png").write_bytes(b"image")
    for i, name in enumerate(names):
        problems = []
        firsts = {mode: [] for mode in MODES}
        for number, ways in enumerate(RIGHT):
            text = texts[number % len(texts)]
            problems.append(SimpleNamespace(problem=f"{number} {text}", answer=f"{number}"))
            for mode, way in zip(MODES, ways):
                said = f"{text} \\boxed{{{number if way[i] == '1' else text}}}"
                thought = f"<think>\n{text} checks\n</think>\n" if mode == "thinking" else ""
                firsts[mode].append(written(thought + said, str(number)))
        write_samples(folder, name, first_samples(problems, firsts))
    return folder


class Page(HTMLParser):
    """The tags with their attributes, and the text of each tag with all that is in it."""

    def __init__(self, path):
        super().__init__()
        self.tags = []
        self.texts = []
        self.inside = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.texts.append("")
        if tag not in ("meta", "link", "img", "br", "input"):
            self.inside.append(len(self.tags) - 1)

    def handle_endtag(self, tag):
        assert self.tags[self.inside.pop()][0] == tag

    def handle_data(self, data):
        for i in self.inside:
            self.texts[i] += data

    def all(self, tag, kind=None):
        """The texts of the tags of this name, and of this class."""
        return [
            text
            for (name, attributes), text in zip(self.tags, self.texts)
            if name == tag and kind in (None, *attributes.get("class", "").split())
        ]


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


# --------------------------------------------------------------------------------------------------
# What stands on it


def test_the_page_has_every_response_with_its_marks(run):
    """Of five problems, three evaluations and two modes."""
    page = Page(write_page(run))
    responses = page.all("div", "response")
    assert len(responses) == 5 * 3 * 2
    assert responses[:2] == [
        "<think>\nWait, so checks\n</think>\nWait, so \\boxed{Wait, so}",
        "Wait, so \\boxed{Wait, so}",
    ]
    assert page.all("span", "thinking")[1:4] == ["<think>\n", "Wait", ", so "]  # behind the legend
    assert page.all("span", "verification")[1:4] == ["Wait", "checks", "Wait"]
    assert "".join(page.all("span", "answer")[1:3]) == "Wait, so"
    heads = page.all("h4")
    assert heads[0] == "thinking: ✗ wrong, answer Wait, so, 9 tokens"
    assert heads[8] == "thinking: ✓ right, answer 1, 9 tokens"


def test_each_problem_says_when_it_was_right(run):
    """To the filters, by mode, and to whoever reads."""
    page = Page(write_page(run))
    kept = [a for tag, a in page.tags if tag == "details"]
    assert [(a["data-thinking"], a["data-free"]) for a in kept] == RIGHT
    signs = "".join("✓" if way == "1" else "✗" for way in RIGHT[1][0])
    assert page.all("span", "path")[2] == f"thinking {signs}"


def test_the_page_has_the_table_of_the_run(run):
    page = Page(write_page(run))
    heads = ["", "accuracy", "tokens", "truncated", "verifying lines", "think", "empty blocks"]
    assert page.all("th")[:7] == heads
    assert page.all("td")[:6] == ["12.5 ± 3.1 %", "45.6", "7.8 %", "9.0 %", "1.1 %", "2.2 %"]
    assert page.all("th")[7:10] == ["before", "thinking", "thinking-free"]
    assert len(page.all("td")) == 6 * 2 * 3


def test_of_a_long_response_both_ends_are_shown(run):
    text = "<think>\n" + "a" * 50_000 + "</think>\n" + "b" * 50_000 + "\\boxed{1}"
    problem = SimpleNamespace(problem="?", answer="1")
    firsts = {mode: [written(text, "1", 32768, False)] for mode in MODES}
    for name in NAMES:
        write_samples(run, name, first_samples([problem], firsts))
    page = Page(write_page(run))
    shown = page.all("div", "response")[0]
    head, tail = shown.split("[94,026 characters are left out here]")
    assert (head, tail) == (text[:3000], text[-3000:])
    assert page.all("span", "answer")[1:] == ["1"] * 6
    assert "32768 tokens, cut off at the budget" in page.all("h4")[0]


def test_a_run_without_responses_has_a_page(run):
    """One that an older version made, or without matplotlib."""
    for path in (*run.glob("samples-*.json"), run / "figure.png", run / "config.json"):
        path.unlink()
    summary = json.loads((run / "summary.json").read_text())
    del summary["before"]["thinking"]["empty"]
    (run / "summary.json").write_text(json.dumps(summary))
    page = Page(write_page(run))
    assert page.all("td")[5] == "-"
    notes = page.all("p", "dim")
    assert "no figure" in notes[1] and "kept no responses" in notes[2]
    assert not page.all("details")


def test_evaluations_of_which_nothing_was_kept_are_left_out(run):
    (run / "samples-stage1.json").unlink()
    page = Page(write_page(run))
    assert page.all("h3")[:2] == ["before", "stage2"]
    labels = [text.strip() for text in page.all("label")]
    assert labels[0] == "stage2" and len(labels) == 5


# --------------------------------------------------------------------------------------------------
# Nothing else


def test_texts_are_text_whatever_they_say(tmp_path):
    """The page has the tags and attributes that it has of harmless texts, but for their words."""

    def form(page):
        words = ("title", "aria-label", "content")
        return [(tag, {k: v for k, v in a.items() if k not in words}) for tag, a in page.tags]

    evil = Page(write_page(write_run(tmp_path / "evil", EVIL)))
    tame = Page(write_page(write_run(tmp_path / "tame", [f"text {i}" for i in range(len(EVIL))])))
    assert form(evil) == form(tame)
    questions = evil.all("span", "question")
    for number, text in enumerate(EVIL[:5]):
        assert questions[number] == f"{number} {visible(text)}"


def test_half_a_character_and_escapes_are_shown(tmp_path):
    page = Page(write_page(write_run(tmp_path / "evil", EVIL[5:])))
    said = "0 \\x1b[31m \\x00 \\u202e \\ud800 \U0001f469\u200d\U0001f467"
    assert page.all("span", "question")[0] == said


def test_the_page_fetches_nothing(run):
    page = Page(write_page(run))
    sources = [a[name] for _, a in page.tags for name in ("src", "href") if name in a]
    assert sources == ["data:,", "data:image/png;base64," + base64.b64encode(b"image").decode()]
    [policy] = [a["content"] for _, a in page.tags if "http-equiv" in a]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    for name in ("style", "script"):
        [own] = page.all(name)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert rules[f"{name}-src"] == f"'sha256-{digest}'"


# --------------------------------------------------------------------------------------------------
# Where it is made


def test_a_report_that_fails_is_one_sentence(run, monkeypatch, capsys):
    """The run is over, and its table printed."""
    table = [{"name": name} | {mode: RESULT | {"k": 4} for mode in MODES} for name in NAMES]
    for entry in table:
        entry["thinking"] |= {"problems": 250}
    state = SimpleNamespace(evaluations=table, step=2, generated_tokens=5, flops=7)
    config = SimpleNamespace(full_budget=64)
    done = SimpleNamespace(folder=run, config=config, state=state, seconds=lambda: 1.0)
    (run / "samples-stage1.json").write_text("[1")
    report_module.report(done)
    printed = capsys.readouterr().out
    assert printed.count("report: no report of") == 1
    assert printed.splitlines()[-1].startswith("2 steps, ")


def test_the_page_is_made_again_from_the_disk(run, capsys):
    page_module.main([str(run)])
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"


@pytest.mark.parametrize("damage", ["summary.json", "samples-stage1.json", "config.json"])
def test_a_folder_that_is_damaged_is_one_sentence(damage, run, refuse):
    (run / damage).write_text("{")
    said = refuse(page_module.main, run)
    assert said.startswith("page: no report of") and damage in said


def test_samples_of_other_problems_are_refused(run, refuse):
    rows = json.loads((run / "samples-stage1.json").read_text())
    (run / "samples-stage1.json").write_text(json.dumps(rows[1:]))
    assert "not of the same problems" in refuse(page_module.main, run)


def test_the_page_is_not_written_through_a_link(run, tmp_path):
    (tmp_path / "mine").write_text("precious")
    (run / "report.html").symlink_to(tmp_path / "mine")
    write_page(run)
    assert (tmp_path / "mine").read_text() == "precious"


# --------------------------------------------------------------------------------------------------
# In a browser


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The page of a run with evil texts, opened from the disk."""
    folder = tmp_path_factory.mktemp("page")
    path = write_page(write_run(folder / "run", EVIL))
    with browser(folder / "profile") as window:
        if not window:
            pytest.skip("no Chromium is installed that starts")
        window.path = path
        window.open(path.as_uri())
        yield window


SHOWN = "[...document.querySelectorAll('.problem')].flatMap((p, i) => p.hidden ? [] : [i])"
STAGES = (
    "[...document.querySelectorAll('.problem h3')].filter(h => h.checkVisibility())"
    ".map(h => h.textContent)"
)


def click(window, name, value):
    window.run(f"document.querySelector('input[name={name}][value=\"{value}\"]').click()")


def changed(stage, sign):
    """The problems that became right (1) or wrong (-1) from the first evaluation, in a mode."""
    return [
        i
        for i, ways in enumerate(RIGHT)
        if any(int(way[stage]) - int(way[0]) == sign for way in ways)
    ]


@pytest.mark.parametrize("stage", [1, 2])
def test_the_filters_compare_the_start_with_the_stage_chosen(stage, opened):
    click(opened, "stage", stage)
    right = changed(stage, 1)
    wrong = changed(stage, -1)
    same = [i for i in range(5) if i not in right + wrong]
    for value, found in (("right", right), ("wrong", wrong), ("same", same), ("all", range(5))):
        click(opened, "change", value)
        assert opened.run(SHOWN) == list(found)
        said = opened.run("document.getElementById('shown').textContent")
        assert said == f"{len(found)} of 5 problems"
        label = f"document.querySelector('[data-count={value}]').textContent"
        assert opened.run(label) == str(len(found))
    assert opened.run(STAGES) == ["before", NAMES[stage]]  # of the first, which is open


def test_the_filters_can_be_used_with_the_keyboard(opened):
    click(opened, "stage", 2)
    click(opened, "change", "all")
    opened.run("document.querySelector('input[name=change]:checked').focus()")
    opened.press("ArrowRight", 39)
    assert opened.run(SHOWN) == changed(2, 1)


@pytest.mark.parametrize("width", [400, 1600])
def test_the_page_fits_its_window(width, opened):
    """Nothing reaches beyond it; both modes are side by side where there is room."""
    click(opened, "change", "all")
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.call("Emulation.setDeviceMetricsOverride", **size)
    assert opened.run("document.documentElement.scrollWidth") <= width
    tops = opened.run(
        "[...document.querySelector('.pair').children].map(d => d.getBoundingClientRect().top)"
    )
    assert (tops[0] == tops[1]) == (width == 1600)


def test_no_request_leaves_and_no_text_runs(opened):
    """But for the file itself and the figure that is in it."""
    asked = {event["request"]["url"] for event in opened.said("Network.requestWillBeSent")}
    assert {url for url in asked if not url.startswith("data:")} == {opened.path.as_uri()}
    assert opened.run("document.title") == "Run run"
    assert opened.said("Runtime.exceptionThrown") == []
    assert opened.said("Log.entryAdded") == []  # the policy had nothing to stop


def test_without_javascript_it_is_a_plain_list(opened):
    opened.call("Emulation.setScriptExecutionDisabled", value=True)
    opened.open(opened.path.as_uri())
    assert opened.run(SHOWN) == [0, 1, 2, 3, 4]
    assert opened.run(STAGES) == list(NAMES)
    assert opened.run("document.getElementById('controls').checkVisibility()") is False
