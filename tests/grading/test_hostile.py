"""Submissions that are broken, hostile or endless cost their own points and nobody else's."""

import ast
import json
import os
import time

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell

from minirl.exercises import sources
from minirl.grade import GradeError, grade, has, load_assignment, passed, read_notebook
from minirl.sandbox import Cell, Limits, run_cells

pytestmark = pytest.mark.slow  # a kernel for each test
QUICK = Limits(cell_s=2, notebook_s=120)


def scores(result):
    return [exercise["score"] for exercise in result["exercises"]]


def messages(result):
    return [exercise["message"] for exercise in result["exercises"]]


def cell(book, name):
    return next(cell for cell in book.cells if cell.id == name)


# ---- code that does not come back ----


def test_endless_loops(course, submit):
    """One that can be interrupted, one that swallows the interrupt and must be killed with its kernel, and one in a
    cell of no exercise, which costs nothing."""
    deaf = "while True:\n        try:\n            time.sleep(60)\n        except BaseException:\n            pass"
    path = submit(
        lambda book: book.cells.insert(2, new_code_cell("while True:\n    a = 1")),
        double="def double(x):\n    while True:\n        x = -x",
        square=f"import time\ndef square(x):\n    {deaf}",
    )
    result = grade(path, QUICK, course)
    assert scores(result) == [0, 1, 0, 1]
    assert "took too long" in messages(result)[0] and "took too long" in messages(result)[2]


def test_code_that_ends_its_process(course, submit):
    """In a call, in the cell itself, and by a crash in C; what was defined before is there again afterwards."""
    path = submit(
        double="helper = 2\ndef double(x):\n    os._exit(0)",
        triple="os._exit(0)\ndef triple(x):\n    return 3 * x",
        square="def square(x):\n    return x * x * helper // 2",
        negate="import ctypes\ndef negate(x):\n    ctypes.string_at(0)",
    )
    result = grade(path, QUICK, course)
    assert scores(result) == [0, 0, 1, 0]
    assert "your cell ended the Python process" in messages(result)[1]


def test_limit_of_the_whole_notebook(course, submit):
    slow = "import time\ndef {0}(x):\n    time.sleep(60)"
    result = grade(submit(double=slow.format("double")), Limits(cell_s=3, notebook_s=3), course)
    assert scores(result) == [0, 0, 0, 0]
    assert "took too long" in messages(result)[0] and "time for the whole notebook" in messages(result)[3]


# ---- code that takes more than its share ----


def test_bombs_and_children(course, submit, monkeypatch):
    """Memory, output, processes in sessions of their own, and a look at the environment of the grader."""
    monkeypatch.setenv("SECRET_TOKEN", "12345")
    path = submit(
        double="def double(x):\n    return 2 * x if bytearray(2**36) else 0",
        triple="def triple(x):\n    os.system('setsid sleep 98765 &')\n    if os.fork() == 0:\n        os.setsid()\n"
        "        os.execvp('sleep', ['sleep', '98765'])\n    return 3 * x",
        square="def square(x):\n    for _ in range(10):\n        print('x' * 10**6)\n    return x * x",
        negate="def negate(x):\n    assert 'SECRET_TOKEN' not in os.environ and os.environ['HOME'] in os.getcwd()\n"
        "    return -x",
    )
    before = set(psutil.pids())
    result = grade(path, Limits(cell_s=15), course)
    assert scores(result) == [0, 1, 1, 1], messages(result)
    assert "MemoryError" in messages(result)[0]
    assert len(json.dumps(result)) < 5_000
    for pid in set(psutil.pids()) - before:
        try:
            assert "98765" not in psutil.Process(pid).cmdline()
        except psutil.NoSuchProcess:
            pass


def test_output_is_cut_but_errors_are_kept():
    flood = "import sys\nfor i in range(300):\n    print(i, file=sys.stderr if i % 2 else sys.stdout, flush=True)\n"
    printed, failed = run_cells([Cell(flood + "print('y' * 10**6)"), Cell(flood + "assert False, 'z' * 10**6")], QUICK)
    assert len(json.dumps(printed.outputs)) < 500_000
    assert has(printed, "stderr") and has(failed, "error")


# ---- code that wants points it did not earn ----


def test_tampered_test_cells_do_not_matter(course, submit):
    """Edited, deleted, copied and moved test cells, and points raised in the metadata."""

    def edit(book):
        cell(book, "double_visible").source = cell(book, "double_hidden").source = "assert True"
        book.cells = [c for c in book.cells if c.id not in ("triple_visible", "triple_hidden")]
        cell(book, "square_hidden").metadata.nbgrader.points = 100
        cell(book, "square_hidden").metadata.nbgrader.grade = False
        book.cells.append(new_code_cell("", metadata=cell(book, "square_hidden").metadata))
        moved = cell(book, "negate_hidden")
        book.cells.remove(moved)
        book.cells.insert(0, moved)

    result = grade(
        submit(edit, double="def double(x):\n    return 0", square="def square(x):\n    return 0"), QUICK, course
    )
    assert scores(result) == [0, 1, 0, 1]
    assert result["max_score"] == 4


def test_asserts_that_never_fail_are_noticed(course, submit):
    mask = (
        "import ast\nclass Strip(ast.NodeTransformer):\n    def visit_Assert(self, node):\n        return ast.Pass()\n"
        "get_ipython().ast_transformers.append(Strip())\ndef double(x):\n    return 0"
    )
    result = grade(submit(double=mask), QUICK, course)
    assert scores(result) == [0, 0, 0, 0]
    assert "changes how Python runs the tests" in messages(result)[0]


def test_stderr_costs_the_points_and_the_student_is_told(course, submit):
    """In a test; not in the student's own cells."""
    path = submit(
        lambda book: book.cells.insert(3, new_code_cell("print('mine', file=sys.stderr)")),
        double="def double(x):\n    print('step', x, file=sys.stderr)\n    return 2 * x",
        triple="import warnings\ndef triple(x):\n    warnings.warn('old')\n    return 3 * x",
        square="print('defined', file=sys.stderr)\ndef square(x):\n    return x * x",
    )
    result = grade(path, QUICK, course)
    assert scores(result) == [0, 0, 1, 1]
    assert all("stderr" in message for message in messages(result)[:2])


NAMES = "abs all any check list math max min round sorted sum warnings zip".split()


@pytest.mark.parametrize("slug", sources())
def test_rebound_names_neither_help_nor_hurt(slug):
    """A notebook that uses `sum`, `max` or `check` for something else gets what its answers deserve."""
    assignment = load_assignment(slug)
    hidden = {exercise.name: assignment.cells[exercise.tests[-1]].source for exercise in assignment.exercises}
    solutions = [Cell(assignment.cells[name].source) for name in ("setup", *hidden)]
    code = "\n".join(cell.source for cell in solutions)
    mine = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    rebind = Cell("\n".join(f"{name} = lambda *a, **k: True" for name in NAMES if name not in mine))
    wrong = [Cell(f"def {name}(*a, **k):\n    return a[0]") for name in hidden]
    tests = [Cell(source, name) for name, source in hidden.items()]
    again = [Cell(source, f"{name} again") for name, source in hidden.items()]
    outcomes = run_cells([*solutions, rebind, *tests, *wrong, *again])
    right = dict(zip(hidden, outcomes[len(solutions) + 1 :], strict=False))
    assert not [name for name, outcome in right.items() if not passed(outcome)]
    assert all(has(outcome, "error") for outcome in outcomes[-len(hidden) :])


# ---- files that are no notebooks ----


def nested():
    return '{"cells": ' + "[" * 100_000 + "]" * 100_000 + "}"


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\xff\x89PNG", b"[1, 2]", b"null", b'{"cells": 3}', b'{"cells": [', b"{}", nested().encode(),
     b'{"cells": [{"cell_type": "code", "source": 7}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
     b'{"cells": [[]], "metadata": [], "nbformat": 4, "nbformat_minor": 5}',
     b'{"cells": [], "metadata": {}, "nbformat": 99, "nbformat_minor": 0}',
     b'{"cells": [' + b"{}," * 5000 + b'{}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'],
    ids=["empty", "binary", "list", "null", "number", "truncated", "object", "deep", "source", "metadata", "future",
         "long"],
)  # fmt: skip
def test_what_is_not_a_notebook_is_refused(tmp_path, course, content):
    path = tmp_path / "toy.ipynb"
    path.write_bytes(content)
    with pytest.raises(GradeError):
        grade(path, QUICK, course)


def test_odd_files_are_refused_at_once(tmp_path, course):
    """A folder, a pipe that nobody writes to, and a file that is too large."""
    os.mkfifo(tmp_path / "pipe.ipynb")
    with open(tmp_path / "large.ipynb", "wb") as file:
        file.truncate(2**30)
    start = time.monotonic()
    for path in (tmp_path, tmp_path / "pipe.ipynb", tmp_path / "large.ipynb", tmp_path / "none.ipynb"):
        with pytest.raises(GradeError):
            grade(path, QUICK, course)
    assert time.monotonic() - start < 1


def test_a_notebook_of_another_course_is_refused(tmp_path, course):
    nbformat.write(nbformat.v4.new_notebook(cells=[new_code_cell("1")]), tmp_path / "homework.ipynb")
    with pytest.raises(GradeError, match=r"no assignment of this course \(there are: toy\)"):
        grade(tmp_path / "homework.ipynb", QUICK, course)


def test_strange_metadata_and_old_formats_are_read(course, submit):
    """Lost names (some editors drop them): the functions are there, so are the points."""

    def edit(book):
        for index, one in enumerate(book.cells):
            one.metadata = [{}, {"nbgrader": {}}, {"nbgrader": []}, {"nbgrader": {"grade_id": 7}}][index % 4]
        book.nbformat_minor = 2
        for one in book.cells:
            del one["id"]

    path = submit(edit)
    book = read_notebook(path)
    assert len(book.cells) == 14
    assert scores(grade(path, QUICK, course)) == [1, 1, 1, 1]
