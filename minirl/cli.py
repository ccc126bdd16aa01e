"""The command line: `minirl list | train | reproduce | data | grade | doctor`. Each command explains itself with --help."""

import dataclasses
import inspect
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import tyro

from minirl.papers import PAPERS, PARTS, UnknownPaper


def list_papers(json_: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """The 53 papers by part, with their status.

    Args:
        json_: print the whole catalogue as JSON.
    """
    if json_:
        print(json.dumps([dataclasses.asdict(p) for p in PAPERS], indent=1, ensure_ascii=False))
        return
    for part, title in PARTS.items():
        print(f"\n{title} ({part})")
        for p in (p for p in PAPERS if p.part == part):
            print(f"  {p.slug:<20} {p.status:<8} {p.difficulty}/5  {p.minutes:>3} min  {p.title} ({p.year})")


def train(argv: list[str]) -> int:
    """`minirl train <slug> [--steps N] [--out FILE] [--config-field value ...]`."""
    from minirl.core.checkpoint import agent_class, agent_module, save

    if not argv or argv[0].startswith("-"):
        ready = ", ".join(p.slug for p in PAPERS if p.status == "ready")
        print(f"usage: minirl train <slug> [options]; `minirl train <slug> --help` lists them\nready: {ready}")
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    slug, *rest = argv
    module = agent_module(slug)
    _, amount = inspect.signature(agent_class(module).learn).parameters.values()  # self, and how long to train

    @dataclasses.dataclass
    class Options:
        # environment steps to train for, or iterations where a method has no environment
        steps: int = 20_000 if amount.default is inspect.Parameter.empty else amount.default
        out: Path | None = None  # checkpoint file (default: <slug>.safetensors)
        config: tyro.conf.OmitArgPrefixes[module.Config] = dataclasses.field(default_factory=module.Config)

    options = tyro.cli(
        Options, args=rest, prog=f"minirl train {slug}", description=f"Train {slug} and save a checkpoint."
    )

    import torch
    from tqdm import tqdm

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    agent, path, step = agent_class(module)(options.config), options.out or Path(f"{slug}.safetensors"), 0
    verdict = "finished"
    with tqdm(total=options.steps, unit="step") as bar:
        try:
            for log in agent.learn(options.steps):
                if log.get("progress"):  # what counts as a step differs: dialogues, updates of all stages
                    bar.total = round(log["step"] / log["progress"])
                bar.update(log["step"] - step)
                step = log["step"]
                shown = next((key for key in ("return", "exploitability", "reward") if key in log), None)
                if shown:
                    bar.set_postfix_str(f"{shown} {log[shown]:.4g}")
        except KeyboardInterrupt:
            verdict = "interrupted"
    save(agent, slug, step, path)
    print(f"{verdict} after {step:,} steps; checkpoint saved to {path.resolve()}")
    return 130 if verdict == "interrupted" else 0


def reproduce(
    slug: Annotated[str, tyro.conf.Positional] = "",
    seeds: int = 5,
    jobs: int = 2,
    engine: str = "local",
    only: str | None = None,
    stale: bool = False,
) -> int:
    """Run a paper's reproduction and write chapters/results/<slug>.json. Interrupt it and run it again: finished runs are kept.

    Args:
        slug: the paper.
        seeds: evaluation seeds per arm; side arms may need fewer.
        jobs: runs at a time, each on one thread.
        engine: "local" for processes on this machine, "ray" for a Ray cluster.
        only: run just the arms whose name contains this text, without writing results.
        stale: run nothing; list the results whose sources have changed since.
    """
    from minirl.reproduce import experiment
    from minirl.reproduce import reproduce as run
    from minirl.reproduce import stale as changed

    if stale:
        slugs = [slug] if slug else [p.slug for p in PAPERS if p.status == "ready"]
        found = {s: changed(s) for s in slugs}
        for s, files in found.items():
            print(f"{s}: " + (f"stale, changed since: {', '.join(files)}" if files else "current"))
        return int(any(found.values()))
    if not slug:
        print("which paper? `minirl list` shows them; `minirl reproduce --help` explains")
        return 2
    from functools import partial

    from tqdm import tqdm

    module = experiment(slug)
    record = run(module, slug, seeds, jobs, engine, only, progress=partial(tqdm, unit="run", desc=slug))
    if only is not None:
        for r in record["runs"]:
            print(f"{r['arm']}, seed {r['seed']}: {r['metrics']}")
    for c in record["claims"]:
        print(f"{c['id']:<4} {c['verdict']:<22} {c['claim']}\n     ours: {c['ours']}")
    return 0


def grade(argv: list[str]) -> int:
    """Handled by minirl.grade."""
    from minirl.grade import main as grade_main

    return grade_main(argv)


def data(argv: list[str]) -> int:
    """Handled by minirl.data."""
    from minirl.data.__main__ import main as data_main

    return data_main(argv, "minirl data")


def doctor() -> int:
    """Check this installation: packages, browser, results, exercises."""
    from minirl.doctor import report

    return report()


def main() -> None:
    argv = sys.argv[1:]
    commands = {"list": list_papers, "reproduce": reproduce, "doctor": doctor}
    try:
        if argv and argv[0] in ("train", "grade", "data"):  # they read their own options
            code = {"train": train, "grade": grade, "data": data}[argv[0]](argv[1:])
        elif argv and argv[0] in commands:
            code = tyro.cli(commands[argv[0]], args=argv[1:], prog=f"minirl {argv[0]}")
        else:
            print(
                __doc__
                + "\n  list       the papers and their status\n  train      train an agent, with a progress bar and a checkpoint\n"
                "  reproduce  run a paper's reproduction\n  data       list, build and describe the offline data sets\n  grade      score exercise notebooks\n  doctor     check this installation"
            )
            code = 0 if not argv or argv[0] in ("-h", "--help") else 2
            if code:
                print(f"\nthere is no command {argv[0]!r}", file=sys.stderr)
    except (UnknownPaper, ValueError, ImportError, FloatingPointError) as error:
        print(f"minirl: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("\ninterrupted; finished runs are kept", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # `minirl data | head`: whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
