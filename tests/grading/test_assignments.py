"""The proofs about every assignment: copy in step, the stub scores 0, the solution all, every wrong answer loses."""

import ast
import json
import re
import shutil

import pytest

from minirl.exercises import ROOT, differing, sources
from minirl.grade import grade, has, load_assignment, read_notebook, score
from minirl.papers import PAPERS, paper
from minirl.sandbox import Cell, Limits, run_cells

READY = [p.slug for p in PAPERS if p.status == "ready"]
ASSIGNMENTS = sources()


def source(slug):
    return ROOT / "solutions" / slug / f"{slug}.ipynb"


def released(slug):
    return ROOT / "exercises" / slug / f"{slug}.ipynb"


def wrong_answers(slug):
    """WRONG of tests/<part>/test_<slug>.py, read without importing what that file tests."""
    path = ROOT / "tests" / paper(slug).part / f"test_{slug}.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "WRONG":
            return ast.literal_eval(node.value)
    raise AssertionError(f"{path} has no WRONG")


def test_every_ready_paper_has_an_assignment():
    assert set(READY) <= set(ASSIGNMENTS)


@pytest.mark.parametrize("slug", ASSIGNMENTS)
def test_students_copy_is_in_step(slug):
    assert differing([slug]) == [], f"run: python -m minirl.exercises {slug}"


def test_a_copy_out_of_step_is_seen(tmp_path):
    slug = ASSIGNMENTS[0]
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    for folder in ("solutions", "exercises"):
        shutil.copytree(ROOT / folder / slug, tmp_path / folder / slug)
    copy = tmp_path / "exercises" / slug / f"{slug}.ipynb"
    copy.write_bytes(copy.read_bytes() + b"\n")
    assert differing([slug], tmp_path) == [f"{slug}/{slug}.ipynb"]


@pytest.mark.parametrize("slug", ASSIGNMENTS)
def test_students_copy_hides_solutions_and_tests(slug):
    text = released(slug).read_text(encoding="utf-8")
    assert "BEGIN" not in text and "END SOLUTION" not in text
    kept = {line.strip() for cell in read_notebook(released(slug)).cells for line in cell.source.splitlines()}
    for cell in read_notebook(source(slug)).cells:
        for region in re.findall(r"### BEGIN.*?\n(.*?)### END", cell.source, re.DOTALL):
            secret = {line.strip() for line in region.splitlines() if len(line.strip()) > 30}
            assert not secret & kept


@pytest.mark.parametrize("slug", ASSIGNMENTS)
def test_stubs_parse_and_raise(slug):
    cells = {
        cell.metadata.nbgrader.grade_id: cell
        for cell in read_notebook(released(slug)).cells
        if cell.cell_type == "code"
    }
    for exercise in load_assignment(slug).exercises:
        body = ast.parse(cells[exercise.name].source).body
        assert ast.unparse(body[-1].body[-1]) == "raise NotImplementedError", exercise.name
        assert ast.get_docstring(body[-1]), exercise.name


@pytest.mark.parametrize("slug", ASSIGNMENTS)
def test_text_and_metadata_agree(slug):
    """Three to five exercises, each with points, difficulty and minutes in its text; the points are the metadata's."""
    assignment = load_assignment(slug)
    cells = read_notebook(source(slug)).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    told = re.findall(
        r"^## \d+\. .+\n\n\*\*(\d+) points, difficulty [1-5] of 5, (\d+) minutes\.\*\*$", text, re.MULTILINE
    )
    assert [int(points) for points, _ in told] == [exercise.points for exercise in assignment.exercises]
    assert 3 <= len(assignment.exercises) <= 5
    assert f"{assignment.points:g} points" in cells[0].source
    assert f"about {sum(int(minutes) for _, minutes in told)} minutes" in cells[0].source
    for exercise in assignment.exercises:
        assert exercise.tests == (f"{exercise.name}_visible", f"{exercise.name}_hidden")


@pytest.mark.parametrize("slug", ASSIGNMENTS)
def test_stub_scores_nothing(slug):
    result = grade(released(slug))
    assert result["score"] == 0
    assert [exercise["score"] for exercise in result["exercises"]] == [0] * len(result["exercises"])
    assert {exercise["message"] for exercise in result["exercises"]} == {"not written yet"}


@pytest.mark.parametrize("slug", ASSIGNMENTS)
def test_solution_scores_full(slug):
    result = grade(source(slug))
    assert result["score"] == result["max_score"] == load_assignment(slug).points > 0
    assert {exercise["message"] for exercise in result["exercises"]} == {"passed"}


@pytest.mark.slow
@pytest.mark.parametrize("slug", ASSIGNMENTS)
def test_every_wrong_answer_loses_its_points(slug):
    """One kernel for all: a wrong cell, the tests of its exercise, the right cell again."""
    assignment, wrong = load_assignment(slug), wrong_answers(slug)
    names = {exercise.name: exercise for exercise in assignment.exercises}
    assert wrong.keys() == names.keys()
    assert all(len(answers) >= 3 for answers in wrong.values())

    run = [Cell(cell.source) for name, cell in assignment.cells.items() if name.removesuffix("_visible") not in names]
    run = [cell for cell in run if "### BEGIN HIDDEN" not in cell.source]
    run += [Cell(assignment.cells[name].source) for name in names]
    places = {}
    for name, answers in wrong.items():
        for what, code in answers.items():
            places[name, what] = len(run)
            run.append(Cell(code))
            run += [Cell(assignment.cells[test].source, f"{name}: {what}") for test in names[name].tests]
            run.append(Cell(assignment.cells[name].source))
    outcomes = run_cells(run, Limits(notebook_s=240, cell_s=20))

    for (name, what), at in places.items():
        assert not outcomes[at].stopped and not has(outcomes[at], "error"), f"{name}, {what}: the cell does not run"
        tests = outcomes[at + 1 : at + 1 + len(names[name].tests)]
        points = [score(assignment.cells[test], out) for test, out in zip(names[name].tests, tests, strict=True)]
        assert sum(points) == 0, f"{name}: {what!r} keeps its points"
        assert not any(has(out, "stderr") for out in tests), f"{name}: {what!r} loses by stderr only, not by a test"


@pytest.mark.parametrize("slug", ASSIGNMENTS)
def test_source_is_clean(slug):
    """Nothing in the source depends on who saved it last."""
    book = json.loads(source(slug).read_text(encoding="utf-8"))
    assert book["metadata"].keys() == {"kernelspec", "language_info", "minirl"}
    assert book["metadata"]["minirl"] == {"assignment": slug}
    assert book["metadata"]["language_info"] == {"name": "python"}
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
