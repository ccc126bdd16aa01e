"""Make the students' notebooks in exercises/ from their only source, solutions/.

    python -m minirl.exercises [slug...]     write exercises/<slug>/<slug>.ipynb
    python -m minirl.exercises --check       fail where the committed copy differs; writes nothing

nbgrader does the work (`generate_assignment`): it takes out the solutions and the hidden tests. Its gradebook is made
for the occasion and thrown away; the same source always gives the same bytes.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import minirl

ROOT = Path(minirl.__file__).parents[1]


def generate(slugs, target, root=ROOT):
    """Writes <target>/<slug>/<slug>.ipynb for every slug. Raises RuntimeError with nbgrader's words when it refuses."""
    from nbgrader.apps import NbGraderAPI
    from traitlets.config.loader import PyFileConfigLoader

    # nbgrader starts `alembic` by name, which is not found when the environment is not activated
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    with tempfile.TemporaryDirectory(prefix="minirl-") as folder:
        config = PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config()
        config.CourseDirectory.root = str(root)
        config.CourseDirectory.release_directory = f"{folder}/release"
        config.CourseDirectory.db_url = f"sqlite:///{folder}/gradebook.db"
        api = NbGraderAPI(config=config)
        for slug in slugs:
            result = api.generate_assignment(slug)
            if not result["success"]:
                raise RuntimeError(f"nbgrader refuses solutions/{slug}:\n{result.get('error', '')}{result['log']}")
            shutil.copytree(f"{folder}/release/{slug}", Path(target) / slug, dirs_exist_ok=True)


def differing(slugs, root=ROOT):
    """The files under exercises/ that are missing, superfluous, or differ from what their source gives."""
    with tempfile.TemporaryDirectory(prefix="minirl-") as folder:
        generate(slugs, folder, root)
        made = contents(Path(folder), slugs)
    kept = contents(root / "exercises", slugs)
    return sorted(name for name in made.keys() | kept.keys() if made.get(name) != kept.get(name))


def contents(folder, slugs):
    paths = [path for slug in slugs for path in (folder / slug).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if "/." not in path.as_posix()}


def sources(root=ROOT):
    """The slugs that have a solution notebook."""
    return sorted(path.stem for path in (root / "solutions").glob("*/*.ipynb") if path.stem == path.parent.name)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m minirl.exercises", description=__doc__.split("\n")[0])
    parser.add_argument("slugs", nargs="*", metavar="slug", help="assignments (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a committed copy differs")
    options = parser.parse_args(argv)
    known = sources()
    if unknown := sorted(set(options.slugs) - set(known)):
        parser.error(f"no solutions/{unknown[0]}/{unknown[0]}.ipynb; there are: {', '.join(known) or 'none'}")
    slugs = options.slugs or known
    try:
        if options.check:
            wrong = differing(slugs)
            for name in wrong:
                print(f"exercises/{name} differs from its source; run: python -m minirl.exercises", file=sys.stderr)
            return 1 if wrong else 0
        generate(slugs, ROOT / "exercises")
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"wrote exercises for {', '.join(slugs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
