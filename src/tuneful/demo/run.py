"""Run the demo: compile and evaluate on the embedded model, and say what happened."""

from __future__ import annotations

import inspect
import logging
import sys
import time
from pathlib import Path

from tuneful.backends.budget import Budget
from tuneful.demo import program as demo
from tuneful.errors import UsageError
from tuneful.optimize.recipes.bootstrap_few_shot import BootstrapFewShot
from tuneful.program.lm import LM
from tuneful.program.running.runtime import context, usage_line
from tuneful.progress import shown_to_a_person


def run(out: Path, *, model: str, rows: int | None, seed: int) -> None:
    """Compile the front desk on a model and save it.

    Args:
        out: the JSON file of the compiled program.
        model: name of the LM.
        rows: held-out rows to score on; None is all 160.
        seed: where all chance comes from.
    """
    begun = time.monotonic()
    train, held_out = demo.messages()
    held_out = held_out[:rows]
    if rows is not None and rows < 2:
        raise UsageError(f"--rows is {rows}; at least 2 held-out rows are needed for a comparison.")
    lm = LM(model)
    teleprompter = BootstrapFewShot(
        metric=demo.fields_right, metric_threshold=1.0, max_bootstrapped_demos=4, max_labeled_demos=8
    )
    _introduce(lm, len(train), len(held_out))
    with context(lm=lm), _progress_lines():
        student = demo.FrontDesk()
        print(f"The plan, before any call:\n{teleprompter.plan(student, trainset=train, valset=held_out)}\n")
        print("Compiling: bootstrapping demos from the program's own successes, then scoring on the held-out rows.")
        compiled = teleprompter.compile(
            student, trainset=train, valset=held_out, budget=Budget(seconds=1800), seed=seed
        )
        _show(compiled, time.monotonic() - begun)
        compiled.save(out)
        _show_how_to_use(out, held_out[0].message)


def _introduce(lm: LM, train: int, held_out: int) -> None:
    lines = inspect.getsource(demo).split("class FindLanguage", 1)[1].split("def fields_right", 1)[0].rstrip()
    print("A program of two steps: in which language is a customer's message, and about which product?\n")
    print("\n".join(f"    {line}" for line in f"class FindLanguage{lines}".split("\n")))
    print(f"\nModel: {lm.model}. Data: {train} messages to search on, {held_out} held out, in four languages.\n")


def _progress_lines() -> _Lines:
    return _Lines()


class _Lines(logging.Handler):
    """Shows the progress of a compile as lines, where no bar can be shown."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._logger = logging.getLogger("tuneful.optimize")

    def __enter__(self) -> None:
        if not shown_to_a_person():
            self._logger.addHandler(self)
            self._logger.setLevel(logging.INFO)

    def __exit__(self, *exc: object) -> None:
        self._logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record as a line."""
        sys.stdout.write(f"  {record.getMessage()}\n")
        sys.stdout.flush()


def _show(compiled: demo.FrontDesk, seconds: float) -> None:
    report = compiled.report
    print(f"\n{report}\n")
    print("What was learned:" if report.improved else "What was learned, and not returned because of the verdict:")
    for path, demos in report.candidate.items():
        print(f"  {path}: {len(demos)}, the first of them")
        for row in demos[:3]:
            print(f"    {row}")
    answers = sum(report.baseline.statuses.values()) + sum(report.best.statuses.values()) if report.best else 0
    unparsable = report.warnings.get("parse error", 0)
    print(f"\nUnparsable answers: {unparsable} (in {answers} held-out runs and the search).")
    print(f"Spent: {usage_line(report.usage)}; {seconds:.0f} s in all.")


def _show_how_to_use(out: Path, message: str) -> None:
    loaded = demo.FrontDesk().load(out)
    print(f"\nSaved to {out}. To load and call it:\n")
    print("    import tuneful as tf")
    print("    from tuneful.demo.program import FrontDesk\n")
    print(f'    desk = FrontDesk().load("{out}")')
    print(f"    desk(message={message!r})")
    print(f"    # {loaded(message=message)!r}")
