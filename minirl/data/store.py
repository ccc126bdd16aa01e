"""Where the sets lie, and how a name becomes data.

Sets that take a moment are made in memory whenever they are asked for. Of the others the small ones come with the package; what
does not is made once and kept in a cache folder, $MINIRL_DATA or ~/.cache/minirl/data. A set in the cache goes before a shipped one.
"""

import difflib
import os
from collections.abc import Callable
from pathlib import Path

from minirl.data.dataset import BadData, OfflineData, read, read_record, remake, save
from minirl.data.describe import card
from minirl.data.mixtures import MIXTURES
from minirl.data.recipes import INSTANT, Recipe

RECIPES = INSTANT | MIXTURES
SHIPPED = Path(__file__).parent / "sets"


def folder() -> Path:
    """The cache folder; it need not exist."""
    if here := os.environ.get("MINIRL_DATA"):
        return Path(here)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minirl" / "data"


def recipe(name: str) -> Recipe:
    """The recipe of a set. Raises ValueError with the nearest names when there is none."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else "`python -m minirl.data list` shows all of them"
        raise ValueError(f"there is no data set {name!r}; {hint}")
    return RECIPES[name]


def check_seed(seed: int) -> None:
    """Raise ValueError unless the seed is a whole number that is not negative."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number >= 0, got {seed!r}")


def path(name: str, seed: int) -> Path:
    """The .npz file of a set in the cache."""
    recipe(name)
    return folder() / f"{name}-seed{seed}.npz"


def make(name: str, seed: int, progress: Callable[[float], object] | None = None) -> dict[str, OfflineData]:
    """Run the recipe and return the sets that it gives, `name` among them. `progress` is told the share that is done."""
    check_seed(seed)
    for log in recipe(name).build(name, seed):
        if progress:
            progress(log["progress"])
    return log["sets"]


def build(name: str, seed: int = 0, bar: bool = True) -> OfflineData:
    """Make a set anew, with a progress bar, and write it into the cache with its siblings of the same training run."""
    from tqdm import tqdm

    with tqdm(
        total=100, desc=f"{name}, seed {seed}", unit="%", disable=not bar, bar_format="{l_bar}{bar}| {elapsed}"
    ) as line:
        sets = make(name, seed, lambda share: line.update(round(100 * share) - line.n))
    for each, data in sets.items():
        save(data, path(each, seed), card(data))
    return sets[name]


def load(name: str, seed: int = 0) -> OfflineData:
    """The set with this name and seed, checked.

    An instant set is made in memory. Another one is read from the cache or from the package, and made with a progress bar where
    it is in neither or another version of the recipe made it. Raises BadData, naming file, field and the command that builds it
    anew, when the file is damaged, and ValueError for a name that does not exist.
    """
    check_seed(seed)
    if recipe(name).instant:
        return make(name, seed)[name]
    return build(name, seed) if find(name, seed) is None else stored(name, seed)


def stored(name: str, seed: int = 0) -> OfflineData:
    """The set as it lies in the cache or in the package, checked. Raises BadData when it is missing, damaged or out of date."""
    file = find(name, seed) or path(name, seed)
    data = read(file, name, seed)
    if data.meta["recipe"] != recipe(name).fingerprint:
        raise BadData(f"{file}: recipe: made by another version of the recipe; {remake(name, seed)}")
    return data


def find(name: str, seed: int) -> Path | None:
    """The file that `stored` reads: that of the cache, else the shipped one; None where neither is current."""
    files = (path(name, seed), SHIPPED / path(name, seed).name)
    return next((file for file in files if is_current(file, recipe(name).fingerprint)), None)


def is_current(file: Path, fingerprint: str) -> bool:
    """False where there is no file, or an intact one that another version of the recipe made. A damaged file is current:
    whoever reads it is told."""
    if not file.exists() and not file.with_suffix(".json").exists():
        return False
    try:
        return read_record(file.with_suffix(".json"))["meta"]["recipe"] == fingerprint
    except (BadData, KeyError, TypeError):
        return True
