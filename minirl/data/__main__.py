"""The data sets on the command line.

python -m minirl.data                                    list them
python -m minirl.data build NAME... [--seed S] [--force] make them and keep them in the cache
python -m minirl.data card NAME [--seed S]               who made it, returns, coverage
python -m minirl.data plot NAME... [--seed S]            write a picture of each, NAME-seedS.png
"""

import argparse
import json
import sys

from minirl.data.describe import card, plot
from minirl.data.store import RECIPES, SHIPPED, build, find, folder, load, path, recipe, stored


def state(name: str, seed: int) -> str:
    """One word and a half about the file of a set."""
    file = find(name, seed)
    if file is not None:
        return "shipped" if file.parent == SHIPPED else "in the cache"
    if path(name, seed).exists():
        return "out of date"
    return "made on demand" if recipe(name).instant else "not built"


def main(argv: list[str] | None = None, prog: str = "python -m minirl.data") -> int:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs="?", default="list", choices=("list", "build", "card", "plot"))
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="build also what lies intact in the cache")
    options = parser.parse_args(argv)
    try:
        if options.command == "list":
            print(f"cache: {folder()}")
            for name, each in RECIPES.items():
                print(f"{name:<26} {state(name, options.seed):<15} {each.env_id:<22} {each.text}")
        elif not options.names:
            parser.error(f"{options.command} needs the name of a set; `python -m minirl.data` lists them")
        for name in options.names if options.command == "build" else ():
            if options.force or find(name, options.seed) is None:
                build(name, options.seed)
            data = stored(name, options.seed)
            print(f"{find(name, options.seed)}: {len(data):,} transitions")
        for name in options.names if options.command == "card" else ():
            print(json.dumps({name: card(load(name, options.seed))}, indent=1))
        for name in options.names if options.command == "plot" else ():
            plot(load(name, options.seed)).savefig(f"{name}-seed{options.seed}.png", dpi=150)
            print(f"{name}-seed{options.seed}.png")
    except (ValueError, ImportError, PermissionError) as error:
        print(f"minirl.data: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
