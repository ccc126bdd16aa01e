"""The parts of the book's build that can be wrong without a page looking wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minirl.book import site

ROOT = Path(__file__).parents[1]


def write_notebook(path, *cells):
    code = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [code | {"id": f"cell{i}", "source": source} for i, source in enumerate(cells)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


def test_links_to_assignments_are_turned_to_the_book():
    text = "Do [it](../../exercises/sac/sac.ipynb), [this](../exercises/dsac_t/dsac_t.ipynb) or [that](../sac.ipynb)."
    assert site.link_assignments(text) == (
        "Do [it](path:../_static/exercises/sac.ipynb), [this](path:_static/exercises/dsac_t.ipynb) or [that](../sac.ipynb)."
    )


def test_the_number_of_an_equation_leaves_its_split():
    before = r"\[\begin{split}x = \begin{cases} 1 \\ 2 \end{cases} \tag{12}\end{split}\] and \[y \tag{13}\]"
    after = r"\[\begin{split}x = \begin{cases} 1 \\ 2 \end{cases} \end{split}\tag{12}\] and \[y \tag{13}\]"
    assert site.mend(before) == after


def test_only_what_changed_is_executed_again(tmp_path):
    source, copied = tmp_path / "pages", tmp_path / "copy"
    write_notebook(source / "a/one.ipynb", "1")
    write_notebook(source / "a/two.ipynb", "2")
    first = site.copy(source, copied, {})
    one, two = str(copied / "a/one.ipynb"), str(copied / "a/two.ipynb")
    assert set(first) == {one, two}

    Path(one).write_text("executed")
    Path(two).write_text("executed")
    assert site.copy(source, copied, first) == {}
    assert Path(one).read_text() == "executed"

    write_notebook(source / "a/two.ipynb", "2 + 2")
    assert set(site.copy(source, copied, first)) == {two}
    assert Path(one).read_text() == "executed"
    assert "2 + 2" in Path(two).read_text()


def test_what_left_the_source_leaves_the_copy(tmp_path):
    source, copied = tmp_path / "pages", tmp_path / "copy"
    write_notebook(source / "one.ipynb", "1")
    write_notebook(copied / "gone.ipynb", "1")
    write_notebook(copied / "_build/kept.ipynb", "1")
    site.copy(source, copied, {})
    assert not (copied / "gone.ipynb").exists()
    assert (copied / "_build/kept.ipynb").exists()


def run_with_budget(report, notebook, budget="enforce", **limits):
    """Execute one notebook under the plugin, with its limits replaced; what it reports and what it prints."""
    code = f"import notebook_budget as b, pytest, sys; vars(b).update({limits}); sys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "-c", str(ROOT / "pyproject.toml"), "-p", "notebook_budget", "--nbmake"]
    env = dict(os.environ, PYTHONPATH=str(ROOT / "tests/notebooks"), MINIRL_NOTEBOOK_REPORT=str(report))
    env["MINIRL_NOTEBOOK_BUDGET"] = budget
    env.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run([*command, str(notebook)], env=env, capture_output=True, text=True, cwd=ROOT)
    return json.loads(report.read_text())[str(notebook)], done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["enforce", "report"])
def test_a_notebook_over_its_budget_fails(tmp_path, budget):
    """A kernel that lives for over a second and holds 0.3 GB."""
    notebook = tmp_path / "n.ipynb"
    write_notebook(notebook, "import time\nheld = bytes(range(250)) * 1_200_000\ntime.sleep(1)")
    run, printed = run_with_budget(tmp_path / "report.json", notebook, budget, SECONDS=1, GIGABYTES=0.2)
    assert run["passed"] is (budget == "report")
    assert ("more than 1 s and held" in printed and "more than 0.2 GB" in printed) is (budget == "enforce")
    assert run["seconds"] > 1
    assert 0.3 < run["peak_gb"] < 0.6


@pytest.mark.slow
def test_a_notebook_within_its_budget_passes(tmp_path):
    notebook = tmp_path / "n.ipynb"
    write_notebook(notebook, "1 + 1")
    run, printed = run_with_budget(tmp_path / "report.json", notebook)
    assert run["passed"] is True
    assert "n.ipynb" in printed


@pytest.mark.slow
def test_a_notebook_that_fails_does_not_pass(tmp_path):
    notebook = tmp_path / "n.ipynb"
    write_notebook(notebook, "1 / 0")
    run, printed = run_with_budget(tmp_path / "report.json", notebook)
    assert run["passed"] is False
    assert "ZeroDivisionError" in printed
