"""Teleprompter: the base class of the optimizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tuneful.optimize import loop
from tuneful.optimize.plan import Plan
from tuneful.optimize.trial import Brief, Candidate, Outcome, State, Trial
from tuneful.program.budget import Budget
from tuneful.program.module import Module
from tuneful.program.portal import portal
from tuneful.spec.example import Example

P = TypeVar("P", bound=Module)


class Teleprompter:
    """Makes a program better at a metric. Also called an optimizer.

    A recipe gives four functions, all pure: the state is JSON, and chance comes from `brief.stream(name)` only.

    Attributes:
        metric: the user's metric, or None for a recipe that scores nothing.
        teacher_settings: settings in force while the teacher runs, such as {"lm": tf.LM(...)}.
    """

    metric: Callable[..., Any] | Module | None = None
    teacher_settings: dict[str, Any] | None = None

    # --- what a recipe gives ---

    def init(self, brief: Brief) -> State:
        """Return the first state."""
        return {}

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return the trials to run next; none when the search is over."""
        return []

    def tell(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Return the state after the results of the trials that `ask` returned."""
        return state

    def finalists(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the candidates to compare with the original on the held-out rows."""
        raise NotImplementedError(f"{type(self).__name__} must define finalists()")

    def found(self, brief: Brief, state: State) -> list[str]:
        """Return lines for the report: what the search kept, dropped, and why."""
        return []

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the fewest and the most rollouts of the search, for the plan."""
        return (0, 0)

    # --- what every recipe has ---

    def compile(
        self,
        student: P,
        *,
        trainset: Sequence[Example],
        valset: Sequence[Example] | None = None,
        teacher: Module | None = None,
        budget: Budget | None = None,
        run: str | None = None,
        seed: int = 0,
    ) -> P:
        """Return a copy of the student that is better at the metric, or the original where the gain is noise.

        Args:
            student: the program; it is not changed. It may be compiled already.
            trainset: examples with inputs marked. Labels may be missing, also on some fields only.
            valset: rows on which the result is compared with the original, never seen by the search. By default a
                part of the trainset is held out, where it has at least `loop.SMALLEST_SPLIT` rows.
            teacher: program whose successes become demos; by default the student.
            budget: hard limits. When one is reached, the best program so far is returned.
            run: name of a journal entry: a script that is stopped and run again goes on where it was.
            seed: where all chance comes from.

        Returns:
            The program; `program.report` says what was done and what it is worth.

        Raises:
            DataError, MetricError, UsageError: before any model call, where they can be known then.

        Cost: `plan(...)` tells.
        """
        return portal.run(
            self.acompile(student, trainset=trainset, valset=valset, teacher=teacher, budget=budget, run=run, seed=seed)
        )

    async def acompile(
        self,
        student: P,
        *,
        trainset: Sequence[Example],
        valset: Sequence[Example] | None = None,
        teacher: Module | None = None,
        budget: Budget | None = None,
        run: str | None = None,
        seed: int = 0,
    ) -> P:
        """Do what `compile` does, in the current event loop."""
        task = loop.Task(student, trainset, valset, teacher, budget or Budget(), run, seed)
        program: P = await loop.Loop(self, task).run()
        return program

    def plan(
        self,
        student: Module,
        *,
        trainset: Sequence[Example],
        valset: Sequence[Example] | None = None,
        teacher: Module | None = None,
        seed: int = 0,
    ) -> Plan:
        """Return how many rollouts, calls and tokens a compile will take, as ranges. No model is called."""
        return loop.plan(self, loop.Task(student, trainset, valset, teacher, Budget(), None, seed))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.settings().items())})"

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters, as values that can be shown and saved."""
        return {
            k: v if isinstance(v, (int, float, str, bool, type(None))) else getattr(v, "__name__", type(v).__name__)
            for k, v in self.__dict__.items()
            if not k.startswith("_")
        }
