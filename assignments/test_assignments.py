"""The assignments themselves: is what is handed out blank, what is right right, and is every known
mistake told by its name?
"""

import ast
import csv
import json
import shutil
import subprocess
import sys
import types

import grade
import judging
import make
import packs
import planting
import pytest
import running
import wrong
from checking import close, grading_tests, name_mistake, run_tests, share
from table import BY_NUMBER, TABLE

CODE = [row for row in TABLE if row.functions]
ANSWERS = [row for row in TABLE if not row.functions]
SEEDS = (0, 1, 2, 3, 4)


def ids(row):
    return row.stem


def right(row, seed):
    return packs.right_values(row.number, seed)


def wrongs(row, seed):
    return packs.wrong_values(row.number, seed)


def marks_of(row, tree, seeds=(0, 1), file=None):
    """What the grader says of a tree, without a process of its own."""
    sets = [running.run_planted(row, tree, seed, file) for seed in seeds]
    return judging.judge(judging.Marks(row), sets, [right(row, seed) for seed in seeds], seeds[0])


def tree_of(row, source):
    return planting.cut(source, row.functions)


def with_body(row, body):
    """The row's functions, all with this body."""
    text = (planting.ROOT / row.file).read_text()
    return tree_of(row, planting.replace_bodies(text, dict.fromkeys(row.functions, body)))


def test_there_are_sixteen():
    assert [row.number for row in TABLE] == list(range(1, 17))


@pytest.mark.parametrize("row", TABLE, ids=ids)
def test_a_row_is_whole(row):
    """A text of one screen, three hints, points that are ten together."""
    text = row.path("text").read_text()
    assert text.startswith(f"# Assignment {row.number}: ") and len(text.splitlines()) <= 50
    assert len(row.hints) == 3 and all(row.hints)
    assert sum(row.points.values()) == 10
    assert set(row.points) == set(grading_tests(running.tests_module(row)))


@pytest.mark.parametrize("row", CODE, ids=ids)
def test_a_blank_fails_in_its_own_words(row):
    """Each grading test, with NotImplementedError and nothing else."""
    text = planting.blank((planting.ROOT / row.file).read_text(), row)
    outcomes = running.run_planted(row, tree_of(row, text), 0)
    for outcome in outcomes.values():
        assert outcome["error"]["type"] == "NotImplementedError"
        assert outcome["error"]["message"].startswith(f"assignment {row.number}: write ")
    marks = marks_of(row, tree_of(row, text))
    assert marks.points == 0 and "Not written yet" in marks.sentence


@pytest.mark.parametrize("row", CODE, ids=ids)
def test_the_projects_own_answer_is_right(row):
    """With five sets of numbers: what the slow loops say, and all ten points."""
    for seed in SEEDS:
        for name, outcome in right(row, seed).items():
            assert outcome["error"] is None, (name, outcome["error"])
            for entry in outcome["entries"]:
                assert close(entry["got"], entry["right"], entry["rtol"]), (name, entry)


@pytest.mark.parametrize("row", CODE, ids=ids)
def test_another_right_answer_is_right(row):
    """Written in another way, with helpers beside it."""
    source = wrong.load(row).RIGHT
    marks = marks_of(row, ast.parse(source), SEEDS[:2])
    assert marks.points == 10, marks.lines


SLOW = pytest.mark.slow
QUICKLY = [pytest.param(row, marks=SLOW if row.seconds > 50 else []) for row in CODE]


@pytest.mark.parametrize("row", QUICKLY, ids=[row.stem for row in CODE])
def test_each_known_mistake_fails_with_its_own_name(row):
    """And is taken for no other; at least six, zeros among them."""
    values, hints = wrongs(row, 0)
    assert len(values) >= 6 and "zeros" in values
    for name, variants in values.items():
        for outcomes in variants:
            assert any(share(outcomes[t], right(row, 0)[t]) < 1 for t in right(row, 0)), name
            assert name_mistake(outcomes, right(row, 0), values)[0] == name
            same = [
                other
                for other in values
                if name_mistake(outcomes, right(row, 0), {other: values[other]})[0]
            ]
            assert same == [name]
        assert len(hints[name]) > 20


@pytest.mark.parametrize("row", CODE, ids=ids)
def test_every_row_of_the_mutants_is_a_known_mistake(row):
    """Or says why no grading test can see it."""
    known = wrong.load(row)
    names = {mutant.name for mutant in wrong.mutants_of(row)}
    unlike = names ^ (set(known.HINTS) | set(known.SKIPPED))
    assert not unlike, f"{known.__name__}.py: no hint for a row, or no row for a hint: {unlike}"


@pytest.mark.parametrize("row", CODE, ids=ids)
@pytest.mark.parametrize("body", ["return 0.0", "return None", "return 1, 1", "return [0.5]"])
def test_a_constant_gets_nothing(row, body, monkeypatch):
    monkeypatch.setattr(judging, "wrong_values", lambda number, seed: ({}, {}))
    marks = marks_of(row, with_body(row, body))
    assert marks.points == 0


@pytest.mark.parametrize("row", ANSWERS, ids=ids)
def test_answers_are_marked(row, tmp_path):
    """Perfect ones get all points, none get none, and each known wrong one less than all."""
    known = wrong.load(row)

    def points(answers):
        file = tmp_path / row.file
        file.write_text(json.dumps(answers))
        if hasattr(known, "hand_in") and answers:
            known.hand_in(tmp_path, answers)
        outcomes = running.run_here(row, 0, file, tmp_path)
        return judging.judge(judging.Marks(row), [outcomes] * 2, [outcomes] * 2, 0).points

    assert points({}) == 0
    assert points(known.right_answers(0)) == pytest.approx(10)
    assert [name for name, answers in known.WRONG_ANSWERS if points(answers) > 9.9] == []


# --------------------------------------------------------------------------------------------------
# The hand-out, and grading in a process of its own


@pytest.fixture(scope="session")
def handout(tmp_path_factory):
    """All assignments in code, handed out; without the mistakes of those that take long."""
    folder = tmp_path_factory.mktemp("class") / "handout"
    slow = {row.number for row in CODE if row.seconds > 50}

    def wrong_values(number, seed):
        return ({}, {}) if number in slow else packs.wrong_values(number, seed)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(make, "wrong_values", wrong_values)
        make.main([*(str(row.number) for row in CODE), "--out", str(folder)])
    return folder


def files_of(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def own_lines(row):
    """Lines of the functions' bodies, but for those that other code of the project has, too."""
    text = (planting.ROOT / row.file).read_text()
    lines = text.splitlines()
    bodies = []
    for node in ast.parse(text).body:
        if getattr(node, "name", "") in row.functions:
            first, last = planting.body_lines(node)
            bodies += [line.strip() for line in lines[first - 1 : last]]
    bodies = [line for line in bodies if len(line) > 20]
    blanked = make.blanked(CODE)
    paths = [path for pattern in make.COPIED for path in planting.ROOT.glob(pattern)]
    paths = [path for path in paths if path.suffix == ".py"]
    others = {path.relative_to(planting.ROOT).as_posix(): path.read_text() for path in paths}
    found = [line for line in bodies if line not in "\n".join((others | blanked).values())]
    assert 2 * len(found) >= len(bodies)
    return found


def test_nothing_of_the_solution_is_handed_out(handout):
    """No line of a function's body, no table of mutants, no tests, no history, no cache."""
    names = {path.relative_to(handout).as_posix() for path in files_of(handout)}
    assert not [n for n in names if n.startswith(("tests/", "bench/", ".git")) or "wrong" in n]
    assert not [n for n in names if n.endswith(".pyc") or n == "README.md"]
    assert "class Sampler" not in (handout / "rollout.py").read_text()
    texts = {path: path.read_text(errors="replace") for path in files_of(handout)}
    for row in CODE:
        lines = own_lines(row)
        leaks = [(p.name, line) for p, text in texts.items() for line in lines if line in text]
        assert leaks == []


def answered(handout, folder, number, source, seconds=None):
    """A copy of what is handed out that matters to the grader, with an answer."""
    row = BY_NUMBER[number]
    (folder / "assignments").mkdir(parents=True)
    (folder / packs.HANDOUT).write_text((handout / packs.HANDOUT).read_text())
    text = (handout / row.file).read_text()
    (folder / row.file).write_text(planting.replace_bodies(text, source))
    return judging.grade(row, folder, 0, 5, seconds)


@pytest.mark.parametrize(
    "body, said",
    [
        ("import sys\nsys.exit(0)", "ends the program"),
        ("import os\nos._exit(0)", "ended the process"),
        ("return torch.zeros(()), torch.zeros(())", "the same, whatever it is given"),
        ("return (", "is no Python"),
    ],
)
def test_what_gets_nothing_gets_a_sentence(handout, tmp_path, body, said):
    """sys.exit, zeros, a syntax error: no points, one sentence, no traceback."""
    marks = answered(handout, tmp_path / "student", 7, {"policy_loss": body})
    assert marks.points == 0 and said in marks.sentence and marks.sentence.count("\n") == 0


def test_a_hang_is_ended(handout, tmp_path):
    """With all that it started; no points, one sentence."""
    body = "while True:\n    pass"
    marks = answered(handout, tmp_path / "student", 7, {"policy_loss": body}, seconds=1)
    assert marks.points == 0 and "took longer than 1 s" in marks.sentence


def test_a_helper_that_cannot_be_read_is_a_sentence(handout, tmp_path):
    """An import of what is not installed, say."""
    row = BY_NUMBER[7]
    folder = tmp_path / "student"
    folder.mkdir()
    text = (handout / row.file).read_text()
    (folder / row.file).write_text("import nothing_like_that\n" + text)
    marks = judging.grade(row, folder, 0, 5)
    assert marks.points == 0 and "No module named 'nothing_like_that'" in marks.sentence


def test_a_full_memory_is_the_students_own_line(handout, tmp_path):
    """The grader's machine goes on; the line is named."""
    body = "grown = bytearray(10**12)\nreturn grown"
    marks = answered(handout, tmp_path / "student", 7, {"policy_loss": body})
    shown = "\n".join(marks.lines)
    assert marks.points == 0 and "MemoryError" in shown and "bytearray(10**12)" in shown


def test_edited_tests_have_no_effect(handout, tmp_path):
    """Of a student's folder nothing but the function is looked at."""
    folder = tmp_path / "student"
    (folder / "assignments").mkdir(parents=True)
    for name in ("checking.py", "test_07_clipped_loss.py", "conftest.py"):
        (folder / "assignments" / name).write_text("raise SystemExit")
    (folder / "grpo.py").write_text((handout / "grpo.py").read_text())
    assert "Not written yet" in judging.grade(BY_NUMBER[7], folder, 0, 5).sentence


@pytest.mark.parametrize("row", CODE, ids=ids)
def test_the_hand_outs_tests_need_no_solution(row, handout):
    """Without their slow loops they record the same: compared with the values in the hand-out."""
    module = types.ModuleType("cut")
    text = (handout / "assignments" / row.path("test").name).read_text()
    exec(compile(text, "cut", "exec"), vars(module))
    pack = json.loads((handout / packs.HANDOUT).read_text())["packs"][str(row.number)]
    for seed, rights in pack["right"].items():
        outcomes = run_tests(module, int(seed))
        assert [test for test in rights if share(outcomes[test], rights[test]) < 1] == []


def test_the_hand_out_grades_itself(handout, tmp_path):
    """By its own command line, without solution and mistakes: a mistake has its name, what is
    right all points."""
    folder = tmp_path / "mine"
    shutil.copytree(handout, folder)
    name = "eps_low and eps_high are swapped"
    [found] = [m for m in wrong.mistakes(BY_NUMBER[7]) if m.name == name]
    right = planting.cut((planting.ROOT / "grpo.py").read_text(), ["token_weights"])
    text = "\n\n".join([(folder / "grpo.py").read_text(), *map(ast.unparse, (found.tree, right))])
    (folder / "grpo.py").write_text(text)
    command = [sys.executable, "assignments/grade.py", "--numbers", "7", "8"]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300).stdout
    assert f'Your values are those of "{name}".' in said
    assert "assignment 8   every token counts once   grpo.py, token_weights   10 of 10" in said


def test_a_class_at_once(tmp_path, capsys):
    """A line for each answer, what is wrong with it, and who has the same code."""
    make.main(["8", "--out", str(tmp_path / "handout"), "--seed", "3"])
    text = (tmp_path / "handout" / "grpo.py").read_text()
    bodies = {
        "ann": "n = torch.tensor(lengths)\nreturn (1.0 / n).repeat_interleave(n)",
        "bob": "size = torch.tensor(lengths)\nreturn (1.0 / size).repeat_interleave(size)",
        "cyd": "return (",
    }
    for student, body in bodies.items():
        folder = tmp_path / "class" / student
        (folder / "assignments").mkdir(parents=True)
        (folder / packs.HANDOUT).write_text((tmp_path / "handout" / packs.HANDOUT).read_text())
        (folder / "grpo.py").write_text(planting.replace_bodies(text, {"token_weights": body}))
    folders = sorted(map(str, (tmp_path / "class").iterdir()))
    grade.main([*folders, "--csv", str(tmp_path / "marks.csv"), "--seed", "7"])
    ann, bob, cyd = csv.DictReader((tmp_path / "marks.csv").open())
    assert (ann["student"], ann["assignment"], ann["seed"]) == ("ann", "8", "7")
    assert "grpo forgets the number of responses" in ann["mistake"]
    assert ann["mistake"] == bob["mistake"] and ann["points"] == bob["points"]
    assert cyd["points"] == "0" and "is no Python" in cyd["note"]
    said = capsys.readouterr().out
    assert "equal but for names: ann, bob" in said
    assert "assignment 8: 2 of 3: grpo forgets the number of responses" in said
