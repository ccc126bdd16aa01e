"""The rules of the house that a file breaks without any test of its own noticing."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from minirl.papers import PARTS

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(
    p
    for folder in ("chapters", "solutions")
    for p in (ROOT / folder).rglob("*.ipynb")
    if ".ipynb_checkpoints" not in p.parts
)
MODULES = sorted((ROOT / "minirl").rglob("*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def relative(path):
    return str(path.relative_to(ROOT))


def code_cells(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [("".join(cell["source"]), cell) for cell in cells if cell["cell_type"] == "code"]


# ---- notebooks ----


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=relative)
def test_no_outputs_are_committed(notebook):
    for source, cell in code_cells(notebook):
        assert not cell["outputs"] and cell["execution_count"] is None, f"clear the outputs of the cell {source[:60]!r}"


@pytest.mark.parametrize("notebook", [p for p in NOTEBOOKS if "chapters" in p.parts], ids=relative)
def test_cells_of_a_chapter_are_short(notebook):
    """None above 30 lines, and half of them at most 8."""
    lengths = sorted(len(source.splitlines()) for source, _ in code_cells(notebook))
    assert lengths[-1] <= 30
    assert lengths[len(lengths) // 2] <= 8


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=relative)
def test_no_cell_installs_or_downloads(notebook):
    forbidden = (
        r"^\s*!|^\s*%(pip|conda)|\bpip install\b|\burlopen\b|\burlretrieve\b|\brequests\.|\bwget\b|\bcurl\b|\blogin\("
    )
    for source, _ in code_cells(notebook):
        assert not re.search(forbidden, source, re.MULTILINE), source


# ---- modules ----


def imports(path):
    """Every dotted name that a module imports, wherever the statement stands; `from a import b` gives a.b."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            yield from (f"{start}{node.module or ''}.{alias.name}".replace("..", ".") for alias in node.names)


SHARED = {"core", "envs", "lm", "data", "papers"}  # papers is the catalogue: facts, and no import of its own
MAY_IMPORT = {
    "core": {"core", "papers"},
    "envs": {"core", "envs"},
    "lm": {"core", "lm"},
    "data": {"core", "envs", "data"},
    "experiments": SHARED | set(PARTS) | {"experiments", "reproduce"},
    "book": {"book", "papers", "reproduce"},
}
# A paper that builds on another in the literature may import it, and a long paper the second file that it is split
# into: {"part/slug": {"part/slug", ...}}.
BUILDS_ON = {
    "agents/archer": {"agents/archer_start"},
    "agents/archer_baselines": {"agents/archer", "agents/archer_start"},
    "agents/archer_start": {"agents/archer"},
    "theory/sqirl": {"theory/sqirl_exact", "theory/sqirl_regressors"},
}


def forbidden_imports(path):
    """The imports of a module that go against the arrows."""
    folder, *rest = path.relative_to(ROOT / "minirl").parts
    if not rest:  # the catalogue, the command line and what it calls
        return []
    ours = [name.split(".")[1:] for name in imports(path) if name.startswith("minirl.")]
    if folder in PARTS:
        others = BUILDS_ON.get(f"{folder}/{path.stem}", set())
        return [".".join(name) for name in ours if name[0] not in SHARED and "/".join(name[:2]) not in others]
    return [".".join(name) for name in ours if name[0] not in MAY_IMPORT[folder] and name[0] != "__version__"]


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_arrows_go_one_way(path):
    """Papers use what is shared; what is shared knows no paper; experiments use papers."""
    assert not forbidden_imports(path)


def test_an_arrow_against_the_grain_is_seen(tmp_path, monkeypatch):
    """The oracle of the test above."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    for place, line in [
        ("core/nets.py", "from minirl.control import sac"),
        ("core/nets.py", "from ..control.sac import Config"),
        ("core/nets.py", "def f():\n    import minirl.control.sac"),
        ("control/dsac_t.py", "from minirl.control.sac import Config"),
        ("book/live.py", "import minirl.control.sac"),
    ]:
        path = tmp_path / "minirl" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line)
        assert forbidden_imports(path), line
    path.write_text("from minirl.papers import paper")
    assert not forbidden_imports(path)


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_nothing_is_unpickled(path):
    """Reading a pickle runs code from the file: weights are safetensors, results are JSON."""
    banned = {"pickle", "cPickle", "dill", "shelve", "cloudpickle", "marshal"}
    assert not {name.split(".")[0] for name in imports(path)} & banned
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    for call in calls:
        assert ast.unparse(call.func) not in {"torch.load", "joblib.load"}, f"line {call.lineno}"
        assert "allow_pickle" not in {keyword.arg for keyword in call.keywords}, f"line {call.lineno}"


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=relative)
def test_every_package_is_one(folder):
    """A folder without __init__.py would be left out of the wheel."""
    assert (folder / "__init__.py").exists()


def test_import_is_light():
    """`import minirl` costs nothing: the heavy packages come with the part that needs them."""
    code = "import sys, minirl; print(*{'torch', 'numpy', 'matplotlib', 'gymnasium', 'IPython'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""


# ---- dependencies ----


def requirements():
    """Every requirement of pyproject.toml, extras included."""
    project = PYPROJECT["project"]
    listed = project["dependencies"] + [r for extra in project["optional-dependencies"].values() for r in extra]
    return [Requirement(line) for line in listed]


def locked():
    """{package: version} of requirements.lock."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_lock_satisfies_pyproject(requirement):
    assert requirement.specifier.contains(locked()[canonicalize_name(requirement.name)])


def test_lock_is_for_every_machine():
    """Pins of public packages only: no GPU packages, no local builds, no files, no addresses."""
    assert not [name for name in locked() if name.startswith(("nvidia", "cuda", "triton"))]
    assert not [version for version in locked().values() if not re.fullmatch(r"[0-9a-z.]+", version)]


# ---- every tracked file ----


def tracked():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


MACHINE_PATH = re.compile(r"(?<![\w./~>-])/(?:work|root|opt|tmp|mnt|Users|home/\w+)/[\w.]|\b[A-Z]:\\Users\\")
INDEX = re.compile(r"index[-]url|find[-]links|(?:pypi|pythonhosted|npmjs)\.org|download\.pytorch", re.IGNORECASE)


def test_no_machine_path_and_no_package_index():
    """The checkout works wherever it lies and whichever index a machine uses."""
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a picture
            continue
        found += [
            f"{relative(path)}: {match.group()}" for rule in (MACHINE_PATH, INDEX) for match in rule.finditer(text)
        ]
    assert not found


def test_a_machine_path_is_seen():
    """The oracle of the test above, with | for / so that this file passes it."""
    for text in ("'|home|ann|x'", "cd |tmp|x", "open(|root|x)", "C:" + r"\Users\ann"):
        assert MACHINE_PATH.search(text.replace("|", "/")), text
    for text in ("https://a.org/work/x", "chapters/results/x", "../tmp/x", "a / opt / b"):
        assert not MACHINE_PATH.search(text), text
    assert INDEX.search("--extra-index" + "-url")
