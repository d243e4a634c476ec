"""Data sets as people publish them: formats, columns, golds; what could not be rewarded stays out.

The examples have the form of the published sets, not their text.
"""

import csv
import gzip
import json
import sys
import types

import pytest
from shared import new_run, resumed_run

from problems import load_data, load_problems
from reward import grade
from support.rows import DataError

ROWS = [{"problem": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(3)]
PAIRS = [("What is 0 + 1?", "1"), ("What is 1 + 1?", "2"), ("What is 2 + 1?", "3")]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def load(tmp_path, *rows):
    """The answers that are read of these rows, as JSON lines."""
    (tmp_path / "data.jsonl").write_text(lines(rows))
    return [(p.problem, p.answer) for p in load_problems(tmp_path / "data.jsonl")]


# --------------------------------------------------------------------------------------------------
# Formats


def as_csv(path, rows, delimiter):
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, rows[0], delimiter=delimiter)
        table.writeheader()
        table.writerows(rows)


@pytest.mark.parametrize("packed", [False, True], ids=["", "gz"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "array.json", "a.csv", "a.tsv", "bare"])
def test_formats(name, packed, tmp_path):
    """The same three rows, whichever way they are written."""
    path = tmp_path / name
    if path.suffix in (".csv", ".tsv"):
        as_csv(path, ROWS, "," if path.suffix == ".csv" else "\t")
    else:
        path.write_text(json.dumps(ROWS, indent=1) if name == "array.json" else lines(ROWS))
    if packed:
        path = path.with_name(f"{name}.gz")
        path.write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    assert [(p.problem, p.answer) for p in load_problems(path)] == PAIRS


def test_cells_of_several_lines(tmp_path):
    """Quotes, commas and line ends within a cell; a solution longer than csv's own limit."""
    row = {"question": 'Say "a, b"\nor c: 1 + 1?', "answer": "So\n" * 60_000 + "#### 2"}
    as_csv(tmp_path / "a.csv", [row], ",")
    [problem] = load_problems(tmp_path / "a.csv")
    assert (problem.problem, problem.answer) == (row["question"], "2")


def test_parquet(tmp_path):
    """Also what parquet alone has: objects within a cell."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = []
    for row in ROWS:
        prompt = [{"role": "user", "content": row["problem"]}]
        gold = {"ground_truth": row["answer"], "style": "rule"}
        rows.append({"prompt": prompt, "reward_model": gold})
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [(p.problem, p.answer) for p in load_problems(tmp_path / "a.parquet")] == PAIRS


@pytest.mark.parametrize("missing, name", [("pyarrow", "a.parquet"), ("datasets", "who/what")])
def test_an_optional_library_that_is_missing_is_named(missing, name, tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(DataError, match=f"pip install {missing}"):
        load_problems(name)


@pytest.mark.parametrize(
    "source, asked",
    [
        ("openai/gsm8k:main:train", ("openai/gsm8k", "main", "train")),
        ("openai/gsm8k::test", ("openai/gsm8k", None, "test")),
        ("openai/gsm8k", ("openai/gsm8k", None, "train")),
        ("folder:main:test", ("folder", "main", "test")),
        ("folder", ("folder", None, "train")),
    ],
)
def test_a_data_set_is_asked_for_by_name_configuration_and_split(
    source, asked, tmp_path, monkeypatch
):
    """A name of the hub, or a folder of the same form; `datasets` itself is played here."""
    seen = []

    def load_dataset(name, configuration, split):
        seen.append((name, configuration, split))
        return ROWS

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert len(load_problems(source)) == 3
    assert seen == [asked]


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.jsonl.gz", b"\x1f\x8b\x08 cut off", "cannot be read"),
        ("a.csv", b"problem,answer\n1 + 1, 2, 3\n", "row 1: more cells"),
        ("a.json", b'[{"problem": "1 + 1", ', "not JSON"),
        ("a.json", b"[1, 2]", "row 1: not an object"),
    ],
)
def test_a_broken_file_is_named(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}.*{said}"):
        load_problems(tmp_path / name)


# --------------------------------------------------------------------------------------------------
# Columns

USER = {"role": "user", "content": "Q"}
SOLVED = {"role": "assistant", "content": "Hence $\\boxed{7}$."}


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Q", "answer": "4 + 3 = <<4+3=7>>7 eggs.\n#### 7"},  # GSM8K
        {"question": "Q", "answer": "So 3+4.\n#### <<3+4=7>>7"},
        {"question": "Q", "answer": "#### 5, or rather:\n#### 7"},
        {"problem": "Q", "solution": "We get $\\boxed{7}$.", "level": "Level 5"},  # MATH
        {"problem": "Q", "answer": None, "solution": "First \\boxed{5}, no: \\boxed{7}."},
        {"problem": "Q", "answer": "It is seen to be seven, as below.", "solution": "\\boxed{7}"},
        {"problem": "Q", "answer": "proof", "solution": "\\boxed{7}"},
        {"Problem": "Q", "Answer": 7},  # AIME
        {"question": "Q", "answer": 7.0},
        {"problem": "Q", "expected_answer": "7"},
        {"question": "Q", "final_answer": ["7"], "context": None},  # OlympiadBench
        {"problem": "Q", "answer": '["7"]'},
        {"problem": "Q", "answer": "['7']"},
        {"prompt": [USER], "reward_model": {"ground_truth": "7"}},
        {"prompt": [USER], "reward_model": {"ground_truth": '["7"]'}},
        {"prompt": json.dumps([USER]), "reward_model": '{"ground_truth": "7"}'},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Q"}]}, SOLVED]},
    ],
    ids=range(17),
)
def test_layouts_that_people_have(row, tmp_path):
    """Each is the question Q with the answer 7."""
    assert load(tmp_path, row) == [("Q", "7")]


@pytest.mark.parametrize("answer", ["[0, 1]", "\\{1, 2\\}", "(A)", "no solution", "1,234", "[1]"])
def test_answers_that_only_look_like_lists_stay_as_they_are(answer, tmp_path):
    assert load(tmp_path, {"problem": "Q", "answer": answer}) == [("Q", answer)]


@pytest.mark.parametrize(
    "row, said",
    [
        ({"question": "Which?", "choices": ["a", "b"], "answer": "A"}, "'choices'"),
        ({"question": "How many?", "Body": "Tom has 3.", "answer": "3"}, "'body'"),
        ({"problem": "Q", "answer": "It depends on what one means by it, as shown."}, "answer"),
        ({"problem": "Q", "answer": ["1", "2"]}, "answer"),
        ({"problem": "Q", "answer": "\\frac{1}{"}, "answer"),
        ({"problem": "Q", "answer": "Tom has 3 - 1 = <<3-1=2>>2 eggs."}, "answer"),
        ({"text": "Q", "answer": "2"}, "question"),
        ({"prompt": [USER] * 2, "answer": "2"}, "'prompt' has several turns"),
        ({"prompt": [USER | {"content": [{"type": "image_url"}]}], "answer": "2"}, "more than"),
    ],
    ids=range(9),
)
def test_what_cannot_be_asked_or_rewarded_is_refused_by_name(row, said, tmp_path):
    """Nothing is trained on in silence that could never earn a reward."""
    with pytest.raises(DataError, match=f"1 of 1 rows cannot be used.*{said}.*line 1"):
        load(tmp_path, row)


def test_half_of_the_rows_may_be_left_out_and_are_counted(tmp_path, capsys):
    """How many, why, and the first of each kind."""
    bad = [{"problem": "Q", "answer": "as is easily seen from the picture above"}] * 2
    bad += [{"problem": "Which?", "choices": ["1"], "answer": "1"}]
    assert load(tmp_path, *bad, *ROWS) == PAIRS
    said = capsys.readouterr().out
    assert "6 rows, questions from problem, answers from answer" in said
    assert "3 rows are left out: 2 without an answer that the grader can read (first: line" in said
    assert "1 that need 'choices', which is not read (first: line 3" in said


def test_more_than_half_stops(tmp_path):
    with pytest.raises(DataError, match="4 of 7 rows cannot be used"):
        load(tmp_path, *[{"problem": "Q"}] * 4, *ROWS)


def test_what_was_cut_out_of_a_solution_is_counted(tmp_path, capsys):
    load(tmp_path, {"question": "Q", "answer": "#### 7"}, {"question": "R", "answer": "8"})
    assert "(1 cut out of a worked solution)" in capsys.readouterr().out


def test_every_gold_that_is_read_can_be_earned(tmp_path):
    """The grader's own verdict on a response that is right."""
    rows = [{"problem": "Q", "answer": a} for a in ("1/2", "\\frac12", "x^2", "5 cm", "50\\%")]
    assert all(grade(f"\\boxed{{{gold}}}", gold)[0] for _, gold in load(tmp_path, *rows))


# --------------------------------------------------------------------------------------------------
# Splits, and the same data again


def test_near_copies_stay_on_one_side_and_are_measured_once(tmp_path):
    """Case and blanks apart, a question is the same question."""
    rows = []
    for i in range(30):
        rows += [{"problem": f"What is {i} + 1?", "answer": i + 1}]
        rows += [{"problem": f"WHAT is  {i} + 1? ", "answer": i + 1}]
    (tmp_path / "data.jsonl").write_text(lines(rows))
    data = load_data(tmp_path / "data.jsonl")
    keys = [{p.problem.upper().split()[2] for p in part} for part in (data.train, data.test)]
    assert not keys[0] & keys[1]
    assert len(data.test) == len(data.validation) == 3 and len(data.train) == 48


def test_a_run_goes_on_from_another_folder_with_its_own_data(tiny_options, tmp_path, monkeypatch):
    """--data mine.jsonl is found again wherever --resume is called."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.jsonl").write_text(lines(ROWS))
    new_run(tiny_options | {"data": "mine.jsonl", "out": str(tmp_path / "run")})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = resumed_run({"out": str(tmp_path / "run")})
    assert [(p.problem, p.answer) for p in run.train] == PAIRS


def test_a_run_refuses_other_questions_than_its_own(tiny_options, tmp_path):
    """The file has the same name, and one answer is another."""
    (tmp_path / "mine.jsonl").write_text(lines(ROWS))
    new_run(tiny_options | {"data": str(tmp_path / "mine.jsonl"), "out": str(tmp_path / "run")})
    (tmp_path / "mine.jsonl").write_text(lines([ROWS[0] | {"answer": "5"}, *ROWS[1:]]))
    with pytest.raises(ValueError, match="mine.jsonl are not those that the run .* began with"):
        resumed_run({"out": str(tmp_path / "run")})
