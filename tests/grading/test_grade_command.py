"""`minirl grade` as a student and as a teacher call it."""

import csv
import json
import re
import shutil

import nbformat
import pytest

from minirl.exercises import ROOT
from minirl.grade import clean, grade, harmless, main, report, student_name, table
from minirl.sandbox import Limits

SOLUTION = ROOT / "solutions" / "sac" / "sac.ipynb"
STUB = ROOT / "exercises" / "sac" / "sac.ipynb"


def test_student_reads_points_and_messages(capsys):
    assert main([str(STUB)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("sac: 0 of 20 points\n")
    assert re.search(r"0 / 4 +soft_target +not written yet", out)


@pytest.mark.slow
def test_folder_of_submissions(tmp_path, capsys):
    """nbgrader's layout, one good and one damaged notebook: both have a line, and the damaged one costs nothing."""
    for student, content in {"=alice": SOLUTION.read_bytes(), "bob": SOLUTION.read_bytes()[:5000]}.items():
        path = tmp_path / "submitted" / student / "sac" / "sac.ipynb"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    checkpoints = path.parent / ".ipynb_checkpoints"
    checkpoints.mkdir()
    shutil.copy(SOLUTION, checkpoints)

    assert main([str(tmp_path / "submitted"), "--csv", str(tmp_path / "scores.csv"), "--json", "--jobs", "2"]) == 1
    captured = capsys.readouterr()
    alice, bob = json.loads(captured.out)
    assert (alice["student"], alice["assignment"], alice["score"], alice["problem"]) == ("=alice", "sac", 20, "")
    assert (bob["student"], bob["score"]) == ("bob", 0) and "not a valid notebook" in bob["problem"]
    assert "2/2" in captured.err  # the progress bar

    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["student"] for row in rows] == ["'=alice", "bob"]  # not a formula in a spreadsheet
    assert [row["score"] for row in rows] == ["20", "0"]
    assert [row["sac.soft_target"] for row in rows] == ["4", ""]
    lines = table([alice, bob]).splitlines()
    assert lines[1].split() == ["=alice", "sac", "20", "20", "5", "4", "3", "5", "3"]
    assert "not a valid notebook" in lines[2]


def test_requests_that_make_no_sense(tmp_path, capsys):
    assert main([str(tmp_path / "nothing.ipynb")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "no notebook in this folder" in capsys.readouterr().err
    for argv in (["--jobs", "0", "x"], []):
        with pytest.raises(SystemExit):
            main(argv)


def test_without_the_solutions_only_visible_tests_run(course, submit, tmp_path):
    """A student who has nothing but the exercises is told so, and gets no points that could be wrong."""
    book = nbformat.read(course / "solutions" / "toy" / "toy.ipynb", as_version=4)
    for cell in book.cells:
        cell.source = re.sub(r"### BEGIN HIDDEN.*", "", cell.source, flags=re.DOTALL)
    released = tmp_path / "exercises" / "toy" / "toy.ipynb"
    released.parent.mkdir(parents=True)
    nbformat.write(book, released)
    result = grade(submit(double="def double(x):\n    return 1"), Limits(cell_s=5), tmp_path)
    assert result["score"] is None
    assert [exercise["score"] for exercise in result["exercises"]] == [None] * 4
    assert [exercise["passed"] for exercise in result["exercises"]] == [False, True, True, True]
    text = report(result)
    assert "visible tests of 3 of 4 exercises passed; no points" in text
    assert "visible tests passed, hidden tests remain" in text


def test_names_and_texts_of_strangers():
    assert student_name("submitted/alice/sac/sac.ipynb", "sac") == "alice"
    assert student_name("inbox/alice.ipynb", "sac") == "alice"
    assert clean("\x1b[31mred\x1b[0m\x07 and\nnext") == "red and next"
    assert len(clean("x" * 1000)) == 300
    assert harmless("=1+1") == "'=1+1" and harmless("alice") == "alice"
