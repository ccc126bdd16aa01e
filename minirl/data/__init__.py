"""The offline data sets: how they are made, checked and loaded.

    from minirl.data import load
    data = load("lineworld-hard")        # checked arrays, with `data.meta` and `data.score(returns)`

`python -m minirl.data` lists the sets, builds them and shows their cards.
"""

from minirl.data.dataset import OfflineData
from minirl.data.store import build, load

__all__ = ["OfflineData", "build", "load"]
