"""`tuneful`: the commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuneful.errors import TunefulError

if TYPE_CHECKING:
    from tuneful.backends.cache import Cache


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 for an error of the package, 2 for a wrong command line."""
    given = _parser().parse_args(arguments)
    try:
        given.run(given)
    except TunefulError as error:
        sys.stderr.write(f"tuneful: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tuneful", description="Program language models instead of prompting them.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="compile a two-step program on a real local model and watch its score rise")
    demo.add_argument("--out", type=Path, default=Path("front_desk.json"), help="where the compiled program is saved")
    demo.add_argument("--model", default="local/smollm2", help="the LM that runs the program")
    demo.add_argument("--rows", type=int, help="held-out rows to score on; all 160 by default")
    demo.add_argument("--seed", type=int, default=0, help="where all chance comes from")
    demo.set_defaults(run=_demo)
    cache = commands.add_parser("cache", help="look at, export and load cached answers").add_subparsers(
        required=True, metavar="ACTION"
    )
    for name, action, purpose in (
        ("show", _cache_show, "print how much is kept"),
        ("export", _cache_export, "write every answer to a JSON-lines file"),
        ("load", _cache_load, "take over the answers of such a file"),
        ("clear", _cache_clear, "forget every answer"),
    ):
        one = cache.add_parser(name, help=purpose)
        if name in ("export", "load"):
            one.add_argument("file", type=Path)
        one.add_argument("--path", default=None, help="the cache file; by default the usual one")
        one.set_defaults(run=action)
    runs = commands.add_parser("runs", help="list the named compiles of a journal, or show one")
    runs.add_argument("--journal", type=Path, help="the journal's file; by default the usual one")
    runs.set_defaults(run=_runs)
    show = runs.add_subparsers(metavar="ACTION").add_parser("show", help="print a run: how far it is, or its report")
    show.add_argument("name")
    show.add_argument("--html", type=Path, help="write its report to this file, to be looked at in a browser")
    show.set_defaults(run=_runs_show)
    return parser


def _runs(given: argparse.Namespace) -> None:
    from tuneful.cli.runs import listed

    print(listed(given.journal))


def _runs_show(given: argparse.Namespace) -> None:
    from tuneful.cli.runs import shown

    print(shown(given.journal, given.name, given.html))


def _demo(given: argparse.Namespace) -> None:
    from tuneful.demo.run import run

    run(given.out, model=given.model, rows=given.rows, seed=given.seed)


def _cache(given: argparse.Namespace) -> Cache:
    from tuneful.backends.cache import DEFAULT_PATH, Cache

    return Cache(str(given.path or DEFAULT_PATH))


def _cache_show(given: argparse.Namespace) -> None:
    cache = _cache(given)
    size = cache.path.stat().st_size if cache.path is not None and cache.path.exists() else 0
    print(f"{len(cache) if size else 0:,} answers, {size / 1e6:.1f} MB in {cache.path}")


def _cache_export(given: argparse.Namespace) -> None:
    print(f"{_cache(given).export(given.file):,} answers written to {given.file}")


def _cache_load(given: argparse.Namespace) -> None:
    print(f"{_cache(given).load(given.file):,} answers taken from {given.file}")


def _cache_clear(given: argparse.Namespace) -> None:
    _cache(given).clear()
    print("forgotten")


if __name__ == "__main__":
    sys.exit(main())
