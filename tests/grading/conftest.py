"""A course with one small assignment of four exercises, `toy`, whose notebooks cost one second each to grade."""

import copy

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

FUNCTIONS = {"double": "2 * x", "triple": "3 * x", "square": "x * x", "negate": "-x"}


def toy_cell(name, source, grade=False, locked=False, solution=False):
    meta = {
        "grade": grade,
        "grade_id": name,
        "locked": locked,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }
    if grade:
        meta["points"] = 1
    return new_code_cell(source, id=name, metadata={"nbgrader": meta})


def toy_notebook():
    cells = [new_markdown_cell("# Toy", id="title"), toy_cell("setup", "import os, sys", locked=True)]
    for name, value in FUNCTIONS.items():
        region = f"### BEGIN SOLUTION\n    return {value}\n    ### END SOLUTION"
        test = f"for x in (2, 3, -5):\n    assert {name}(x) == {value}, f'wrong at {{x}}'"
        cells += [
            toy_cell(name, f"def {name}(x):\n    {region}", solution=True),
            toy_cell(f"{name}_visible", f"x = 0\nassert {name}(0) == 0, 'wrong at 0'", locked=True),
            toy_cell(
                f"{name}_hidden", f"### BEGIN HIDDEN TESTS\n{test}\n### END HIDDEN TESTS", grade=True, locked=True
            ),
        ]
    return new_notebook(cells=cells, metadata={"minirl": {"assignment": "toy"}})


@pytest.fixture(scope="session")
def course(tmp_path_factory):
    """The root of the course; its source is solutions/toy/toy.ipynb."""
    root = tmp_path_factory.mktemp("course")
    path = root / "solutions" / "toy" / "toy.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(toy_notebook(), path)
    return root


@pytest.fixture
def submit(tmp_path):
    """submit(double="...", edit=function) writes a submission: whole cells replaced, right answers elsewhere."""

    def write(edit=None, **answers):
        book = copy.deepcopy(toy_notebook())
        for cell in book.cells:
            cell.source = answers.get(cell.id, cell.source)
        if edit:
            edit(book)
        path = tmp_path / "toy.ipynb"
        nbformat.write(book, path)
        return path

    return write
