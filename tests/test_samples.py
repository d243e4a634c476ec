"""What a model wrote: what is kept of it, what is marked in it, how a terminal shows it."""

import json
import random
import re
import sys

import pytest

import eval as eval_module
from eval import VERIFICATION, evaluate_both, make_sample
from reward import extract_answer
from rollout import Rollout
from support.cli import visible
from support.config import MODES
from support.samples import KINDS, Sample, find_marks, part, pieces, read_samples
from support.show import show

# --------------------------------------------------------------------------------------------------
# Marks


def marked(text):
    """{kind: the pieces of the text that have it}."""
    found = {}
    for begin, end, kind in find_marks(text, VERIFICATION, extract_answer(text)):
        found.setdefault(kind, []).append(text[begin:end])
    return found


@pytest.mark.parametrize(
    "text, thinking",
    [
        ("<think>\na\n</think>\n\nb", ["<think>\na\n</think>"]),
        ("a\n</think>\n\nb", ["a\n</think>"]),  # opened by the prompt
        ("<think>\n\n</think>\n\nb", ["<think>\n\n</think>"]),
        ("<think>\na, then", ["<think>\na, then"]),  # cut off
        ("<think>a</think>b<think>c</think>d", ["<think>a</think>b<think>c</think>"]),
        ("so <think>a</think>b<think>c", ["<think>a</think>b<think>c"]),
        ("b", None),
    ],
)
def test_the_thinking_is_all_that_the_grader_does_not_read(text, thinking):
    assert marked(text).get("thinking") == thinking


def test_words_that_verify_are_marked_to_their_end():
    text = "<think>\nChecking: 2. Wait, I await it\n</think>\nLet me confirm: verifying."
    assert marked(text)["verification"] == ["Checking", "Wait", "Let me confirm", "verifying"]


@pytest.mark.parametrize(
    "text, place",
    [
        (r"So \boxed{63}, not 63.", 10),
        (r"\boxed{63} or \boxed{ 63 }", 22),  # the last one counts
        (r"\boxed{63}</think>\boxed{63}", 25),
        (r"\boxed{\boxed{63}}", 7),  # the outer one closes last
        (r"\boxed {\frac{1}{2}}.", 8),
    ],
)
def test_the_answer_is_marked_where_the_grader_read_it(text, place):
    [[begin, end, kind]] = find_marks(text, VERIFICATION, extract_answer(text))[-1:]
    assert (begin, text[begin:end], kind) == (place, extract_answer(text), "answer")


@pytest.mark.parametrize("text", ["63", r"\boxed{63} \boxed{", r"<think>\boxed{63}"])
def test_where_the_grader_read_nothing_no_answer_is_marked(text):
    assert "answer" not in marked(text)


def random_marks(text, rng):
    places = [sorted(rng.choices(range(len(text) + 1), k=2)) for _ in range(6)]
    return [[*place, rng.choice(KINDS)] for place in places]


def kinds_of_each(text, marks):
    """Character by character."""
    return [
        (character, [k for k in KINDS if any(b <= i < e and k == kind for b, e, kind in marks)])
        for i, character in enumerate(text)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_pieces_and_parts_against_a_loop(seed):
    """Of a text with marks that lie over each other: each character with its kinds."""
    rng = random.Random(seed)
    text = "abcdefghijklmnop"
    marks = random_marks(text, rng)
    begin, end = sorted(rng.choices(range(17), k=2))
    found = [(c, kinds) for piece, kinds in pieces(*part(text, marks, begin, end)) for c in piece]
    assert found == kinds_of_each(text, marks)[begin:end]


# --------------------------------------------------------------------------------------------------
# What a run keeps


def test_a_run_keeps_the_first_responses_of_each_evaluation(canned, small_run, monkeypatch):
    """Of two samples the first, of the first problems, in both modes; and draws no more for it."""
    monkeypatch.setattr(eval_module, "KEPT", 3)
    small_run.config.eval_samples = 2
    evaluate_both(small_run, "stage1")
    assert [request["samples"] for request in canned.requests] == [2, 2]
    kept = read_samples(small_run.folder / "samples-stage1.json")
    assert [one.problem for one in kept] == canned.requests[0]["questions"][:3]
    for request, mode in zip(canned.requests, MODES):
        assert [one.samples[mode] for one in kept] == [
            make_sample(rollout) for rollout in request["rollouts"][:6:2]
        ]


def test_a_sample_is_what_was_graded():
    text = "<think>\n1\n</think>\n\\boxed{2}"
    graded = {"text": text, "gold": "3", "answer": "2", "correct": True}
    rollout = Rollout([1], [5] * 7, [-1.0] * 7, False, **graded)
    assert make_sample(rollout) == Sample(
        text, 7, False, True, "2", [[0, 18, "thinking"], [26, 27, "answer"]]
    )


def test_a_run_goes_on_where_samples_cannot_be_written(canned, small_run, monkeypatch, capsys):
    (small_run.folder / "samples-before.json").mkdir()
    evaluate_both(small_run, "before")
    assert len(small_run.state.evaluations) == 1
    assert "the report will show no responses of before" in capsys.readouterr().err


SAMPLE = {"text": "abc", "tokens": 1, "finished": True, "correct": False, "answer": None}
SAMPLE |= {"marks": [[0, 1, "thinking"]]}


@pytest.mark.parametrize(
    "change",
    [
        {"text": 3},
        {"tokens": "1"},
        {"tokens": 2**40},
        {"correct": "0"},
        {"answer": 5},
        {"marks": [[0, 4, "thinking"]]},
        {"marks": [[0, 1, '"><script>']]},
        {"marks": [[0, 0.5, "thinking"]]},
        {"marks": 5},
        {"more": 1},
    ],
)
def test_samples_that_no_run_wrote_are_one_sentence(change, tmp_path):
    """They may come from anybody."""
    modes = {mode: SAMPLE | change for mode in MODES}
    path = tmp_path / "samples-x.json"
    path.write_text(json.dumps([{"problem": "?", "gold": "1", "samples": modes}]))
    with pytest.raises(ValueError, match="samples-x.json cannot be read, or was not written by"):
        read_samples(path)


# --------------------------------------------------------------------------------------------------
# In a terminal

TEXT = "<think>\nWait, 3 of 84 \x1b[2J\n</think>\nSo \\boxed{63}"


@pytest.fixture
def shown(monkeypatch, capsys):
    """What show() prints of TEXT in both modes; the thinking-free one has its last line alone."""

    def call(terminal, width, gold="63", texts=(TEXT, TEXT.split("\n")[-1])):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
        monkeypatch.setenv("COLUMNS", str(width))
        samples = {}
        for mode, text in zip(MODES, texts):
            answer = extract_answer(text)
            marks = find_marks(text, VERIFICATION, answer)
            samples[mode] = Sample(text, 9, True, answer == "63", answer, marks)
        show("What is 3/4 of 84?", gold, samples)
        return capsys.readouterr().out

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return call


PLAIN = r"""
--- What is 3/4 of 84? (the answer is 63)

thinking: right, answer 63, 9 tokens
<think>
Wait, 3 of 84 \x1b[2J
</think>
So \boxed{63}

thinking-free: right, answer 63, 9 tokens
So \boxed{63}
"""


def test_a_pipe_gets_plain_text(shown, monkeypatch):
    """However wide a terminal would be, and whatever rich is told."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert shown(False, 200) == PLAIN


def test_a_narrow_terminal_has_one_mode_under_the_other_in_colour(shown):
    """Thinking dim, the word that verifies dim yellow, the answer bold."""
    printed = shown(True, 80)
    assert "\x1b[2m<think>\x1b[0m" in printed and "\x1b[2;33mWait\x1b[0m" in printed
    assert printed.count("\\boxed{\x1b[1;36m63\x1b[0m}") == 2
    assert re.sub(r"\x1b\[[\d;]*m", "", printed) == PLAIN


def test_no_color_is_respected(shown, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown(True, 80) == PLAIN


def test_a_wide_terminal_has_both_modes_side_by_side(shown):
    rows = re.sub(r"\x1b\[[\d;]*m", "", shown(True, 100)).splitlines()[2:]
    sides = [[side.strip() for side in row.split("|")] for row in rows]
    assert [left for left, _ in sides] == PLAIN.splitlines()[3:8]
    assert [right for _, right in sides] == PLAIN.splitlines()[9:11] + [""] * 3


def test_side_by_side_no_word_is_cut_and_none_is_markup(shown):
    """A word that is longer than its side goes on in the next row."""
    printed = shown(True, 100, texts=("x" * 130, "[red] :smile:"))
    assert printed.count("x") == 130 and "[red] :smile:" in printed


@pytest.mark.parametrize("terminal, width", [(True, 120), (True, 80), (False, 80)])
def test_no_escape_of_a_model_reaches_the_terminal(terminal, width, shown):
    """But for our own, of colours."""
    printed = shown(terminal, width, texts=("\x1b[2J\x9b2J \r", "\x1b]0;title\x07\\boxed{\x1b[1m}"))
    rest = re.sub(r"\x1b\[(0|2|2;33|33|1;36)m", "", printed).replace("\n", "")
    assert rest == visible(rest) and "\\x1b]0;title\\x07" in rest


# --------------------------------------------------------------------------------------------------
# --ask


def test_a_question_is_answered_in_both_modes(canned, capsys):
    """Once each, with nothing measured, and nothing right or wrong."""
    canned.answers["What is 3/4 of 84?"] = "63"
    eval_module.main(["--device", "cpu", "--ask", "What is 3/4 of 84?"])
    asked = [(r["questions"], r["samples"], r["thinking"]) for r in canned.requests]
    assert asked == [(["What is 3/4 of 84?"], 1, True), (["What is 3/4 of 84?"], 1, False)]
    printed = capsys.readouterr().out
    assert "\n--- What is 3/4 of 84?\n\nthinking: answer 63, " in printed
    assert "avg@" not in printed and "right" not in printed and "wrong" not in printed


@pytest.mark.parametrize(
    "options, named",
    [
        ("--data x.jsonl", "--data"),
        ("--json x.json", "--json"),
        ("--show 3", "--show"),
        ("-k 3", "-k"),
        ("--problems 3", "--problems"),
    ],
)
def test_a_question_and_what_is_measured_do_not_go_together(options, named, refuse):
    said = refuse(eval_module.main, "--device", "cpu", "--ask", "1 + 1?", *options.split())
    assert f"so {named} says nothing beside it" in said


def test_an_empty_question_is_refused(refuse):
    assert "--ask is empty" in refuse(eval_module.main, "--device", "cpu", "--ask", " ")
