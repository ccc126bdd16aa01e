"""Build the online book: `python -m minirl.book.site` (or `make book`).

1. chapters/ is copied to build/book/, and the catalogue written into the pages that ask for it. A notebook that was
   executed there before, and whose inputs (its own source, the minirl package, the stored results) are unchanged, keeps
   its executed copy.
2. nbmake executes what is left, in place; tests/notebooks/notebook_budget.py measures time and memory.
3. Jupyter Book turns the executed copies into build/book/_build/html, warnings being errors.
4. Notebooks to download are laid beside the pages, without outputs:
     _static/notebooks/<slug>.ipynb    the chapter; the same behind the download button, in `_sources`
     _static/exercises/<slug>.ipynb    the assignment, as nbgrader released it
   In a chapter's Markdown write the repository's own path, `[the assignment](../../exercises/<slug>/<slug>.ipynb)`: it
   works in JupyterLab, and the copy that becomes the page has it replaced. An HTML output links to
   `../_static/exercises/<slug>.ipynb`.

With --test (`make test`) every notebook is executed, those of solutions/ too, and one over its budget fails. Without it
the budget is only reported: a slow laptop still gets its book. Nothing is written outside the build folder.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import minirl
from minirl.book import pages

ROOT = Path(minirl.__file__).parents[1]
SKIP = {"_build", ".ipynb_checkpoints", "__pycache__"}


def files(folder: Path) -> list[Path]:
    """Every file under `folder`, relative to it and sorted, without build folders and editors' leftovers."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not SKIP & set(path.parts))


def digest(paths: list[Path]) -> str:
    """One SHA-256 over the contents of several files."""
    sha = hashlib.sha256()
    for path in paths:
        sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()


def copy(source: Path, copied: Path, record: dict[str, str]) -> dict[str, str]:
    """Bring `copied` in step with `source`; return {notebook in `copied`: hash of its inputs} for those to execute.

    `record` holds the hashes under which notebooks were executed before; those still valid are left as they are.
    """
    shared = [path for path in sorted((ROOT / "minirl").rglob("*.py"))] + sorted(
        (ROOT / "chapters/results").glob("*.json")
    )
    common = digest(shared)
    wanted = files(source)
    if copied.exists():
        for path in set(files(copied)) - set(wanted):
            (copied / path).unlink()
    stale = {}
    for path in wanted:
        target = copied / path
        if path.suffix == ".ipynb":
            key = common + digest([source / path])
            if target.exists() and record.get(str(target)) == key:
                continue
            stale[str(target)] = key
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, target)
        if path.suffix in {".ipynb", ".md"}:
            target.write_text(link_assignments(target.read_text()))
        if path.suffix == ".md":
            target.write_text(pages.fill(target.read_text()))
    return stale


def link_assignments(text: str) -> str:
    """Turn Markdown links to ../../exercises/<slug>/<slug>.ipynb, right in the repository, to the copy in the book.

    `path:` tells MyST that the target is a file to download and not a page.
    """
    return re.sub(r"\]\(\.\./((?:\.\./)*)exercises/(\w+)/\2\.ipynb\)", r"](path:\1_static/exercises/\2.ipynb)", text)


def execute(notebooks: list[str], report: Path, budget: bool) -> set[str]:
    """Execute notebooks in place, two at a time; return those that passed: no error and, if asked, within budget."""
    report.unlink(missing_ok=True)
    env = dict(os.environ, MINIRL_STATIC="1", MINIRL_NOTEBOOK_REPORT=str(report))
    env["MINIRL_NOTEBOOK_BUDGET"] = "enforce" if budget else "report"
    env.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", PYTHONPATH=str(ROOT / "tests/notebooks"))
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "notebook_budget", "-n", "2"]
    command += ["--dist", "worksteal", "--nbmake", "--nbmake-timeout=120", "--overwrite", *notebooks]
    subprocess.run(command, env=env, cwd=ROOT)
    if not report.exists():  # pytest itself did not start: its own message stands above
        return set()
    return {name for name, run in json.loads(report.read_text()).items() if run["passed"]}


def lay_out_downloads(source: Path, static: Path) -> None:
    """Put clean notebooks (chapters without outputs, released exercises) under `static` for readers to download."""
    for folder in ("notebooks", "exercises"):
        shutil.rmtree(static / folder, ignore_errors=True)
        (static / folder).mkdir(parents=True)
    for path in files(source):
        if path.suffix == ".ipynb":
            shutil.copyfile(source / path, static / "notebooks" / path.name)
    for path in sorted((source.parent / "exercises").glob("*/*.ipynb")):
        shutil.copyfile(path, static / "exercises" / path.name)


def build(source: Path, copied: Path) -> int:
    """Run Jupyter Book on the executed copies; return its exit status."""
    lay_out_downloads(source, copied / "_static")
    command = [
        str(Path(sys.executable).with_name("jupyter-book")),
        "build",
        str(copied),
        "--config",
        str(ROOT / "book.yml"),
    ]
    command += ["--toc", str(copied / "_toc.yml"), "-W", "--keep-going", "--quiet"]
    status = subprocess.run(command, cwd=ROOT).returncode
    if status == 0:
        finish(source, copied / "_build/html")
    return status


def finish(source: Path, html: Path) -> None:
    """Put clean notebooks behind the download buttons and mend what no setting of Sphinx reaches."""
    for path in files(source):
        if path.suffix == ".ipynb":
            shutil.copyfile(source / path, html / "_sources" / path)
    for page in html.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        mended = mend(text)
        if mended != text:
            page.write_text(mended, encoding="utf-8")


def mend(page: str) -> str:
    """A page's HTML with the bibliography's entries as list items and an equation's number outside its `split`.

    Sphinx wraps every display with a line break in it, `cases` too, into `split`, which must not hold a `\\tag`.
    """
    page = page.replace('role="doc-biblioentry"', 'role="listitem"')
    return re.sub(r"(\\tag\{[^{}]*\})\s*\\end\{split\}", r"\\end{split}\1", page)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m minirl.book.site", description="Execute the chapters and build the book."
    )
    parser.add_argument("--source", type=Path, default=ROOT / "chapters", help="folder of pages with a _toc.yml")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="where everything is written")
    parser.add_argument("--test", action="store_true", help="execute everything, solutions too, within the budget")
    args = parser.parse_args()
    source, copied = args.source.resolve(), args.build.resolve() / "book"
    record_file, report = args.build / "executed.json", args.build / "notebooks.json"
    record = json.loads(record_file.read_text()) if record_file.exists() and not args.test else {}

    stale = copy(source, copied, record)
    if args.test:
        stale |= copy(source.parent / "solutions", args.build.resolve() / "solutions", record)
    if stale:
        passed = execute(sorted(stale), report, budget=args.test)
        record |= {name: key for name, key in stale.items() if name in passed}
        record_file.write_text(json.dumps(record, indent=1))
        if passed != set(stale):
            print(
                "The book was not built: these notebooks failed:",
                *sorted(set(stale) - passed),
                sep="\n  ",
                file=sys.stderr,
            )
            return 1
    else:
        print("No notebook has changed since it was executed.")

    status = build(source, copied)
    print(f"The book is at {copied / '_build/html/index.html'}" if status == 0 else "The book was not built.")
    return status


if __name__ == "__main__":
    sys.exit(main())
