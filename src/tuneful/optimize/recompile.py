"""recompile: move a compiled program to another LM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tuneful.backends.budget import Budget
from tuneful.errors import UsageError
from tuneful.optimize.objectives import NONE, Objectives
from tuneful.optimize.recipes.tune import Tune
from tuneful.optimize.report import CompileReport
from tuneful.optimize.teleprompter import Teleprompter
from tuneful.optimize.trial import Candidate
from tuneful.program.lm import LM
from tuneful.program.module import Module
from tuneful.program.running.runtime import settings
from tuneful.spec.example import Example
from tuneful.store.runs import Runs

P = TypeVar("P", bound=Module)

#: Candidates of each earlier run that the search on the new LM begins with.
_EARLIER = 4


def recompile(
    compiled: P,
    new_lm: LM | str,
    budget: Budget | None = None,
    *,
    trainset: Sequence[Example],
    metric: Callable[..., Any] | Module | None = None,
    teleprompter: Teleprompter | None = None,
    valset: Sequence[Example] | None = None,
    run: str | None = None,
    history: str | Sequence[str] = (),
    objectives: Objectives = NONE,
    seed: int = 0,
    **tune: Any,
) -> P:
    """Return the program for another LM, where it is not worse there; otherwise the program as it was.

    A model is retired, or a cheaper one may do. What was compiled for the old one is tried on the new one as it is, and
    beside it what a search on the new one finds. That search begins with the best candidates of the one that made the
    program (and of the runs in `history`), and the old program is its teacher: its answers become demos. The
    verdict is a test of non-inferiority on held-out rows: "better", or "not worse" by more than `objectives.margin` (5
    points by default), returns the program on the new LM. Where that cannot be shown the program comes back with its
    old LM, and the report says how many rows would tell: for 5 points 73, where both answer equally well on all.

    Args:
        compiled: the program, with the LM that it has now: its predictors' own, or the one in force.
        new_lm: the LM that all of its predictors are to ask; a name, or `tf.LM(...)`.
        budget: hard limits on what both LMs may use.
        trainset, valset, run, history, seed: as for `Teleprompter.compile`. With `history="name"` of the run that made
            the program, on the same rows, what the old LM said then is taken over, and costs nothing.
        metric: judges a run. Not needed beside a `teleprompter`, which brings its own.
        teleprompter: what searches on the new LM; by default `Tune(metric, **tune)`.
        objectives: the margin, and what counts beside the metric.
        tune: further arguments of `Tune`.

    Raises:
        UsageError: neither a metric nor a teleprompter, or both; no rows that could be held out.

    Cost: as for the teleprompter, with two or more candidates compared instead of one.

    >>> from tuneful.testing import ScriptedLM
    >>> from tuneful.program.predict import Predict
    >>> rows = [Example(question=f"{i}?", answer="4").with_inputs("question") for i in range(150)]
    >>> def exact(row, said, trace=None):
    ...     return row.answer == said.answer
    >>> old, new = (ScriptedLM(lambda request: "[[ ## answer ## ]] 4") for _ in range(2))
    >>> moved = recompile(Predict("question -> answer").using(lm=old), new, trainset=rows, metric=exact, propose=False)
    >>> moved.report.verdict, moved.lm is new
    ('not worse', True)
    """
    if (metric is None) == (teleprompter is None):
        raise UsageError("`recompile` takes a `metric`, or a `teleprompter` that has one; give one of the two.")
    if teleprompter is None:
        known = _earlier(compiled, (history,) if isinstance(history, str) else history)
        teleprompter = Tune(metric, **{"earlier": known, **tune})  # type: ignore[arg-type]  # checked above
    return teleprompter.compile(
        compiled.using(lm=LM(new_lm) if isinstance(new_lm, str) else new_lm),
        trainset=trainset,
        valset=valset,
        teacher=compiled,
        budget=budget,
        run=run,
        history=history,
        objectives=objectives,
        replaces=compiled,
        seed=seed,
    )


def _earlier(compiled: Module, history: Sequence[str]) -> list[Candidate]:
    """Return the best candidates of the search that made the program, and of runs of the journal."""
    reports = [report] if (report := compiled.report) is not None else []
    if history and settings.journal is not None:
        with Runs(settings.journal) as runs:
            kept = [run.report for name in history for run in runs.all_named(name)]
        reports += [CompileReport.from_json(body) for body in kept if body is not None]
    return [one.candidate for report in reports for one in report.ranked[:_EARLIER] if one.candidate]
