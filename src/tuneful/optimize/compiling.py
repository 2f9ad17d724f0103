"""compile: make a program good at a metric, with no teleprompter named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tuneful.backends.budget import Budget
from tuneful.optimize.objectives import NONE, Objectives
from tuneful.optimize.recipes.tune import Tune
from tuneful.program.module import Module
from tuneful.spec.example import Example

P = TypeVar("P", bound=Module)


def compile(  # noqa: A001 (read as tf.compile)
    program: P,
    trainset: Sequence[Example],
    metric: Callable[..., Any] | Module,
    *,
    budget: Budget | None = None,
    valset: Sequence[Example] | None = None,
    teacher: Module | None = None,
    run: str | None = None,
    history: str | Sequence[str] = (),
    objectives: Objectives = NONE,
    seed: int = 0,
    **settings: Any,
) -> P:
    """Return a copy of the program that is better at the metric, or the original where the gain is noise.

    `Tune(metric, **settings).compile(program, ...)`: see `Tune` for what is tried and for the settings, and
    `Teleprompter.compile` for the other arguments.

    >>> from tuneful.testing import ScriptedLM
    >>> from tuneful.program.predict import Predict
    >>> from tuneful.program.running.runtime import context
    >>> rows = [Example(question=f"{i}?", answer="4").with_inputs("question") for i in range(20)]
    >>> def exact(row, said, trace=None):
    ...     return row.answer == said.answer
    >>> with context(lm=ScriptedLM(lambda request: "[[ ## answer ## ]] 4"), cache=False):
    ...     compiled = compile(Predict("question -> answer"), rows, exact, propose=False)
    >>> compiled.report.verdict
    'nothing learned'
    """
    return Tune(metric, **settings).compile(
        program,
        trainset=trainset,
        valset=valset,
        teacher=teacher,
        budget=budget,
        run=run,
        history=history,
        objectives=objectives,
        seed=seed,
    )
