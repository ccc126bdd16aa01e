"""nbgrader's own round (autograde, feedback, export) over three submissions gives the scores that `minirl grade` gives."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from minirl.exercises import ROOT
from minirl.grade import grade, load_assignment

SLUG = "sac"


def nbgrader(course, *arguments):
    """Runs a command of nbgrader in the course folder, whose gradebook is thrown away with it."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=course, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def submission(answers):
    """The students' copy with the given cells replaced."""
    book = nbformat.read(ROOT / "exercises" / SLUG / f"{SLUG}.ipynb", as_version=4)
    for cell in book.cells:
        cell.source = answers.get(cell.id, cell.source)
    return book


@pytest.mark.slow
def test_both_graders_agree(tmp_path):
    exercises = load_assignment(SLUG).exercises
    solution = {cell.id: cell.source for cell in nbformat.read(ROOT / "solutions" / SLUG / f"{SLUG}.ipynb", 4).cells}
    right = {exercise.name: solution[exercise.name] for exercise in exercises}
    first, second = exercises[0].name, exercises[1].name
    # bob prints to stderr inside a function, which costs its points, and his own cell fails after a definition
    noisy = right[first].replace("### BEGIN", "print('here', file=sys.stderr)\n    ### BEGIN")
    students = {
        "alice": submission(right),
        "bob": submission({**right, first: f"import sys\n{noisy}", second: right[second] + "\n1/0"}),
        "carol": submission({second: right[second], **{test: "assert True" for e in exercises for test in e.tests}}),
    }
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    shutil.copytree(ROOT / "solutions" / SLUG, tmp_path / "solutions" / SLUG)
    for student, book in students.items():
        path = tmp_path / "submitted" / student / SLUG / f"{SLUG}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(book, path)
    nbgrader(tmp_path, "generate_assignment", SLUG)
    nbgrader(tmp_path, "autograde", SLUG)
    nbgrader(tmp_path, "generate_feedback", SLUG)
    nbgrader(tmp_path, "export", "--to", "scores.csv")

    rows = csv.DictReader((tmp_path / "scores.csv").read_text().splitlines())
    theirs = {row["student_id"]: float(row["score"]) for row in rows}
    ours = {student: grade(tmp_path / "submitted" / student / SLUG / f"{SLUG}.ipynb")["score"] for student in students}
    points = {exercise.name: exercise.points for exercise in exercises}
    full = sum(points.values())
    assert theirs == ours == {"alice": full, "bob": full - points[first], "carol": points[second]}
    pages = {s: (tmp_path / "feedback" / s / SLUG / f"{SLUG}.html").read_text(encoding="utf-8") for s in students}
    assert [student for student, page in pages.items() if "ZeroDivisionError" in page] == ["bob"]
    mentions = {student: page.count("NotImplementedError") for student, page in pages.items()}
    assert mentions["carol"] > mentions["alice"]  # the text of the assignment has one
