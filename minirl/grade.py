"""Grade assignments: `minirl grade <notebook or folder>...`.

A student sees a score and a message for every exercise in seconds; a teacher sees a table for a folder of submissions
(nbgrader's `submitted/<student>/<assignment>/<assignment>.ipynb`, or any folder of notebooks).

The submission supplies the solution cells and the student's own cells. Every test cell comes from
`solutions/<slug>/<slug>.ipynb`, so an edited, deleted, copied or moved test cell changes nothing. Points follow
nbgrader's own rule (`nbgrader.utils.determine_grade`): a test cell that raises or that writes anything to stderr
scores 0. `minirl.sandbox` runs the cells and says what it protects from and what it does not. The tests run in the
same Python process as the answer: they are proof against mistakes, and against rebinding a name that a test uses,
not against a student who sets out to break them.
"""

import argparse
import csv
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import minirl
from minirl.sandbox import Cell, Limits, run_cells

ROOT = Path(minirl.__file__).parents[1]
SIZE_LIMIT = 20 * 2**20  # bytes of a submission, pictures included
CELLS_LIMIT = 2_000
MESSAGE_LIMIT = 300  # characters


class GradeError(Exception):
    """A notebook that cannot be graded, or a request that makes no sense; the text says why."""


@dataclass(frozen=True)
class Exercise:
    """One solution cell and the test cells behind it; all are named by nbgrader's grade_id."""

    name: str
    tests: tuple[str, ...]
    points: float


@dataclass(frozen=True)
class Assignment:
    """`cells` maps a grade_id to its reference cell. `hidden` is False where only the students' copy is here."""

    slug: str
    cells: dict
    exercises: tuple[Exercise, ...]
    hidden: bool

    @property
    def points(self):
        return sum(exercise.points for exercise in self.exercises)


# --- what there is to grade ---------------------------------------------------------------------------------------


def assignments(root=ROOT):
    """The notebook with the tests of each assignment, by slug: the source where it is, else the students' copy."""
    found = {}
    for folder in ("exercises", "solutions"):
        for path in sorted((root / folder).glob("*/*.ipynb")):
            if path.stem == path.parent.name:
                found[path.stem] = path
    return found


def load_assignment(slug, root=ROOT):
    """The `Assignment`. Raises GradeError when there is none of this name."""
    known = assignments(root)
    if slug not in known:
        raise GradeError(f"there is no assignment {slug!r}; there are: {', '.join(sorted(known)) or 'none'}")
    cells = {}
    exercises = []
    for cell in read_notebook(known[slug]).cells:
        name = grade_id(cell)
        if name is None or cell.cell_type != "code":
            continue
        cells[name] = cell
        if cell.metadata["nbgrader"]["solution"]:
            exercises.append(Exercise(name, (), 0))
        elif exercises:
            last = exercises[-1]
            points = cell.metadata["nbgrader"].get("points", 0)
            exercises[-1] = Exercise(last.name, (*last.tests, name), last.points + points)
    return Assignment(slug, cells, tuple(exercises), known[slug].parents[1].name == "solutions")


def grade_id(cell):
    """nbgrader's name of a cell, or None. The metadata may be anything: it comes from a stranger."""
    nbgrader = cell.metadata.get("nbgrader")
    name = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    return name if isinstance(name, str) else None


def read_notebook(path):
    """The notebook as nbformat 4. Raises GradeError for everything that is not one."""
    import nbformat

    path = Path(path)
    try:
        if not path.is_file():
            raise GradeError("not a file")
        if path.stat().st_size > SIZE_LIMIT:
            raise GradeError(f"larger than {SIZE_LIMIT // 2**20} MB; clear the outputs and save it again")
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or len(data.get("cells", ())) > CELLS_LIMIT:
            raise GradeError(f"not a notebook, or one with more than {CELLS_LIMIT} cells")
        book = nbformat.convert(nbformat.from_dict(data), 4)
        for index, cell in enumerate(book.cells):  # what older notebooks lack, or copies have twice
            cell.setdefault("metadata", {})
            cell.id = f"cell-{index}"
            if not isinstance(cell.source, str):
                cell.source = "".join(cell.source)
        book.nbformat, book.nbformat_minor = 4, 5
        nbformat.validate(book)
        return book
    except GradeError:
        raise
    except UnicodeDecodeError:
        raise GradeError("not a notebook: not even text") from None
    except (OSError, RecursionError) as error:
        raise GradeError(f"cannot be read ({type(error).__name__})") from None
    except Exception as error:  # json, nbformat and its validator raise many kinds, all of them about the content
        raise GradeError(f"not a valid notebook ({clean(error)[:100]})") from None


def which_assignment(book, path, root=ROOT):
    """The slug of a submission: by the grade_ids in it, else by its metadata, else by its file name."""
    known = assignments(root)
    names = {grade_id(cell) for cell in book.cells} - {None}
    overlap = {slug: len(names & solution_names(slug, root)) for slug in known}
    best = max(overlap, key=overlap.get, default=None)
    if best and overlap[best]:
        return best
    note = book.metadata.get("minirl")
    claimed = note.get("assignment") if isinstance(note, dict) else None
    words = [claimed, Path(path).stem, Path(path).parent.name, *re.split(r"[-. ]+", Path(path).stem)]
    for word in words:
        if word in known:
            return word
    raise GradeError(f"belongs to no assignment of this course (there are: {', '.join(sorted(known)) or 'none'})")


def solution_names(slug, root):
    return {exercise.name for exercise in load_assignment(slug, root).exercises}


# --- grading one notebook -----------------------------------------------------------------------------------------


def arrange(book, assignment):
    """The cells to run: the student's code in the student's order, our tests in place. -> [(grade_id or None, Cell)]

    A test stays where the student left it if that is behind its solution cell; otherwise it follows the solution
    cell, or comes last where no cell carries the solution's name (a cell without the name may still define it).
    """
    owner = {test: exercise.name for exercise in assignment.exercises for test in exercise.tests}
    solutions = {exercise.name for exercise in assignment.exercises}
    setup = [name for name in assignment.cells if name not in owner and name not in solutions]
    places = {grade_id(cell): index for index, cell in enumerate(book.cells)}  # of the last copy

    def test_cells(names):
        return [(name, Cell(assignment.cells[name].source, owner[name])) for name in names]

    order = [
        (name, Cell(assignment.cells[name].source)) for name in setup if assignment.cells[name].cell_type == "code"
    ]
    seen = set()
    for index, cell in enumerate(book.cells):
        name = grade_id(cell)
        if name in owner:
            if places[name] == index and owner[name] in seen:
                order += test_cells([name])
        elif name in solutions or (cell.cell_type == "code" and name not in setup):
            order.append((name, Cell(cell.source)))
            seen.add(name)
    for exercise in assignment.exercises:
        present = [name for name, _ in order]
        missing = [name for name in exercise.tests if name not in present]
        last = max((i for i, name in enumerate(present) if name in (exercise.name, *exercise.tests)), default=None)
        at = len(order) if last is None else last + 1
        order[at:at] = test_cells(missing)
    return order


def score(cell, outcome):
    """Points of a test cell that ran, by nbgrader's rule."""
    from nbformat import from_dict
    from nbgrader.utils import determine_grade

    if outcome.stopped:
        return 0.0
    ran = from_dict({**cell, "outputs": outcome.outputs})
    try:
        return float(determine_grade(ran)[0])
    except (ValueError, KeyError):  # a last value above the cell's points: nbgrader refuses it as well
        return 0.0


def grade(path, limits=None, root=ROOT):
    """Grades one notebook file and returns a plain dict (see `minirl grade --json`). Raises GradeError."""
    book = read_notebook(path)
    assignment = load_assignment(which_assignment(book, path, root), root)
    order = arrange(book, assignment)
    outcomes = run_cells([cell for _, cell in order], limits or Limits())
    ran = [(name, outcome) for (name, _), outcome in zip(order, outcomes, strict=True) if name]
    results = [grade_exercise(exercise, assignment, ran) for exercise in assignment.exercises]
    return {
        "file": str(path),
        "student": student_name(path, assignment.slug),
        "assignment": assignment.slug,
        "score": sum(result["score"] for result in results) if assignment.hidden else None,
        "max_score": assignment.points,
        "hidden_tests": assignment.hidden,
        "exercises": results,
        "problem": "",
    }


def grade_exercise(exercise, assignment, ran):
    outcomes = dict(ran)
    points = sum(
        score(assignment.cells[name], outcomes[name])
        for name in exercise.tests
        if assignment.cells[name].metadata["nbgrader"]["grade"]
    )
    failed = [name for name in exercise.tests if not passed(outcomes[name])]
    written = [outcome for name, outcome in ran if name == exercise.name]
    message = explain(exercise, assignment, failed, outcomes, written[-1] if written else None)
    return {
        "name": exercise.name,
        "score": points if assignment.hidden else None,
        "max_score": exercise.points,
        "passed": not failed,
        "message": message,
    }


def passed(outcome):
    return not outcome.stopped and not has(outcome, "error") and not has(outcome, "stderr")


def has(outcome, kind):
    return any(kind in (output["output_type"], output.get("name")) for output in outcome.outputs)


# --- what the student reads ---------------------------------------------------------------------------------------

STOPPED = {
    "timeout": "took too long and was stopped",
    "died": "ended the Python process (os._exit, a crash, or too much memory)",
    "tampered": "changes how Python runs the tests",
    "skipped": "was not run",
    "out of time": "was not run: the time for the whole notebook was used up",
    "failed": "could not be run: the grader itself was stopped, run it again",
}


def explain(exercise, assignment, failed, outcomes, written):
    """One line: what is wrong, never the answer."""
    if not failed:
        return "passed" if assignment.hidden else "visible tests passed, hidden tests remain"
    if written is None:
        return f"no solution cell named {exercise.name} and no function that passes the tests"
    if written.stopped:
        return f"your cell {STOPPED[written.stopped]}"
    if has(written, "error"):
        return f"your cell does not run: {error_text(written)}"
    test, outcome = failed[0], outcomes[failed[0]]
    visible_count = sum(not assignment.cells[name].metadata["nbgrader"]["grade"] for name in exercise.tests)
    which = "a visible test" if exercise.tests.index(test) < visible_count else "visible tests passed, a hidden test"
    if outcome.stopped:
        return f"{which} {STOPPED[outcome.stopped]}"
    if has(outcome, "error"):
        error = error_text(outcome)
        if error.startswith("NotImplementedError"):
            return "not written yet"
        return f"{which} failed: {error.removeprefix('AssertionError: ')}"
    text = next(output["text"] for output in outcome.outputs if output.get("name") == "stderr")
    return f"{which} saw output on stderr, which costs the points (a warning, print, progress bar?): {clean(text)}"


def error_text(outcome):
    error = next(output for output in outcome.outputs if output["output_type"] == "error")
    text = clean(f"{error['ename']}: {error['evalue']}")
    return text.removesuffix(": ") if not error["evalue"] else text


def clean(text):
    """One short printable line: no colour codes or control characters of a stranger reach the terminal."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", str(text))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 3] + "..."


def student_name(path, slug):
    """nbgrader's layout names the student by the folder above the assignment's; elsewhere the file does."""
    path = Path(path).absolute()
    return path.parents[1].name if path.stem == slug == path.parent.name else path.stem


# --- the command line ---------------------------------------------------------------------------------------------


def main(argv=None):
    """The command. Returns 0 when every notebook was graded (whatever the scores), 1 when one could not be, 2 for a
    request that makes no sense, 130 after Ctrl-C."""
    options = parse(argv)
    limits = Limits(cell_s=options.timeout, notebook_s=options.limit, memory_bytes=int(options.memory * 2**30))
    try:
        files = [file for path in options.paths for file in notebooks(path)]
        results = grade_all(files, limits, options.jobs)
        if options.csv:
            write_csv(results, options.csv)
    except (GradeError, OSError) as error:
        print(f"minirl grade: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("minirl grade: stopped", file=sys.stderr)
        return 130
    if options.json:
        json.dump(results, sys.stdout, indent=1)
        print()
    elif len(files) == 1 and Path(options.paths[0]).is_file():
        print(report(results[0]))
    else:
        print(table(results))
    return 1 if any(result["problem"] for result in results) else 0


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="minirl grade",
        description="Grade assignment notebooks: your own, or a folder of submissions.",
        epilog="Submitted code runs with limits, but as you: for strangers' code use a separate user or a container.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="notebook-or-folder")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the scores as CSV")
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead of a table")
    parser.add_argument("--jobs", type=positive, default=min(os.cpu_count() or 1, 8), help="notebooks at the same time")
    parser.add_argument("--timeout", type=positive, default=30, metavar="S", help="seconds a cell (default 30)")
    parser.add_argument("--limit", type=positive, default=300, metavar="S", help="seconds a notebook (default 300)")
    parser.add_argument("--memory", type=float, default=4, metavar="GIB", help="memory of a process (default 4)")
    return parser.parse_args(argv)


def positive(text):
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def notebooks(path):
    """The file itself, or every notebook below the folder."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise GradeError(f"{path}: no such file or folder")
    found = [
        p for p in sorted(path.rglob("*.ipynb")) if not any(part.startswith(".") for part in p.parts[len(path.parts) :])
    ]
    if not found:
        raise GradeError(f"{path}: no notebook in this folder")
    return found


def grade_all(files, limits, jobs):
    """Grades every file, several at the same time; a file that cannot be graded becomes a result with a `problem`."""
    from tqdm import tqdm

    def one(file):
        try:
            return grade(file, limits)
        except GradeError as error:
            return {"file": str(file), "student": student_name(file, file.stem), "assignment": "", "score": 0.0,
                    "max_score": 0.0, "hidden_tests": False, "exercises": [], "problem": str(error)}  # fmt: skip

    results = {}
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(one, file): index for index, file in enumerate(files)}
        try:
            for future in tqdm(as_completed(futures), total=len(files), unit="notebook", disable=len(files) < 2):
                results[futures[future]] = future.result()
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    return [results[index] for index in range(len(files))]


def report(result):
    """What a student reads."""
    if result["problem"]:
        return f"{result['file']}: {result['problem']}"
    name, total = result["assignment"], number(result["max_score"])
    lines = [f"{name}: {number(result['score'])} of {total} points"]
    if not result["hidden_tests"]:
        count = sum(exercise["passed"] for exercise in result["exercises"])
        lines = [
            f"{name}: visible tests of {count} of {len(result['exercises'])} exercises passed; no points, since the"
            f" hidden tests are not in this copy of the course (solutions/{name}/{name}.ipynb)"
        ]
    width = max(len(exercise["name"]) for exercise in result["exercises"])
    for exercise in result["exercises"]:
        points = f"{number(exercise['score']):>4} / {number(exercise['max_score'])}"
        lines.append(f"  {points}  {exercise['name']:<{width}}  {exercise['message']}")
    return "\n".join(lines)


def table(results):
    """What a teacher reads: one line a submission."""
    rows = [("student", "assignment", "score", "of", "exercises, or what is wrong")]
    for result in results:
        points = "  ".join(number(exercise["score"]) for exercise in result["exercises"])
        rows.append(
            (
                clean(result["student"]),
                result["assignment"],
                number(result["score"]),
                number(result["max_score"]),
                result["problem"] or points,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    form = "{:<%d}  {:<%d}  {:>%d}  {:>%d}  {}" % tuple(widths)  # noqa: UP031
    return "\n".join(form.format(*row) for row in rows)


def number(points):
    return "-" if points is None else f"{points:g}"


def write_csv(results, path):
    """One line a submission, one column an exercise; what a spreadsheet would run as a formula is quoted."""
    columns = [f"{r['assignment']}.{exercise['name']}" for r in results for exercise in r["exercises"]]
    columns = list(dict.fromkeys(columns))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["student", "assignment", "file", "score", "max_score", *columns, "problem"])
        for r in results:
            points = {f"{r['assignment']}.{e['name']}": number(e["score"]) for e in r["exercises"]}
            head = [r["student"], r["assignment"], r["file"]]
            row = [*map(harmless, head), number(r["score"]), number(r["max_score"])]
            writer.writerow([*row, *(points.get(column, "") for column in columns), harmless(r["problem"])])


def harmless(text):
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


if __name__ == "__main__":
    sys.exit(main())
