"""Teleprompter: the base class of the optimizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from tuneful.backends.budget import Budget
from tuneful.optimize import arguments
from tuneful.optimize.interrupt import interruptible
from tuneful.optimize.loop import Loop
from tuneful.optimize.objectives import NONE, Objectives
from tuneful.optimize.plan import Plan
from tuneful.optimize.recipe import Recipe
from tuneful.optimize.task import Task
from tuneful.program.module import Module
from tuneful.program.running.portal import portal
from tuneful.program.watching.watched import watched
from tuneful.spec.example import Example

P = TypeVar("P", bound=Module)


class Teleprompter(Recipe):
    """Makes a program better at a metric. Also called an optimizer.

    A subclass is a recipe: it says what to try (see `Recipe`); compiling and planning are the same for all.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in cls.__dict__:
            cls.__init__ = arguments.checked(cls.__init__)  # type: ignore[method-assign]

    def compile(
        self,
        student: P,
        trainset: Sequence[Example],
        *,
        valset: Sequence[Example] | None = None,
        teacher: Module | None = None,
        budget: Budget | None = None,
        run: str | None = None,
        history: str | Sequence[str] = (),
        objectives: Objectives = NONE,
        replaces: Module | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> P:
        """Return a copy of the student that is better at the metric, or the original where the gain is noise.

        Args:
            student: the program; it is not changed. It may be compiled already.
            trainset: examples with inputs marked. Labels may be missing, also on some fields only.
            valset: rows on which the result is compared with the original, never seen by the search. By default a
                part of the trainset is held out, where it has at least `task.SMALLEST_SPLIT` rows.
            teacher: program whose successes become demos; by default the student.
            budget: hard limits. When one is reached, the best program so far is returned.
            run: name of a journal entry: a script that is stopped and run again goes on where it was.
                `tuneful runs` lists them.
            history: names of other runs of the journal to start from: what they have run of this program, metric and
                rows is taken over, and costs nothing. Rollouts of other candidates do not fit and are not used.
            objectives: what counts beside the metric: costs to keep low, and limits on what a run may take.
            replaces: program that the result is to take the place of, where that is not the student: they are compared
                with it, and one that is not worse (by `objectives.margin`) will do. See `tf.recompile`.
            seed: where all chance comes from.
            settings: arguments of the constructor, which hold for this compile in place of what it was given.

        Returns:
            The program; `program.report` says what was done and what it is worth. Ctrl-C ends it in good order: the
            verdict is on the rows that were compared so far, and where there are none, what was found stands in the
            report and the original is returned. A second Ctrl-C is a KeyboardInterrupt.

        Raises:
            DataError, MetricError, UsageError: before any model call, where they can be known then. A named run with
                no journal to keep it in (`tf.configure(journal=None)`) is one.

        Cost: `plan(...)` tells.
        """
        with interruptible():
            return portal.run(
                self.acompile(
                    student,
                    trainset=trainset,
                    valset=valset,
                    teacher=teacher,
                    budget=budget,
                    run=run,
                    history=history,
                    objectives=objectives,
                    replaces=replaces,
                    seed=seed,
                    **settings,
                )
            )

    async def acompile(
        self,
        student: P,
        trainset: Sequence[Example],
        *,
        valset: Sequence[Example] | None = None,
        teacher: Module | None = None,
        budget: Budget | None = None,
        run: str | None = None,
        history: str | Sequence[str] = (),
        objectives: Objectives = NONE,
        replaces: Module | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> P:
        """Do what `compile` does, in the current event loop."""
        others = (history,) if isinstance(history, str) else history
        limits = Budget() if budget is None else budget
        task = Task(student, trainset, valset, teacher, limits, run, seed, others, objectives, replaces)
        recipe = arguments.anew(self, settings) if settings else self
        program: P = await recipe._compiled(task)
        return program

    @watched("compile", lambda self, task: (self, vars(task)))
    async def _compiled(self, task: Task) -> Any:
        with interruptible() as stop:
            return await Loop(self, task, stop).run()

    def plan(
        self,
        student: Module,
        trainset: Sequence[Example],
        *,
        valset: Sequence[Example] | None = None,
        teacher: Module | None = None,
        seed: int = 0,
        calls_per_run: float | None = None,
    ) -> Plan:
        """Return how many rollouts, calls, tokens and dollars a compile will take, as ranges. No model is called.

        A few rows are rendered and counted by the model's tokenizer, where it has one at hand; with the embedded model
        this loads it. The assumptions stand in the plan, and the report sets what was spent beside it.

        Args:
            student, trainset, valset, teacher, seed: as for `compile`.
            calls_per_run: model calls of one run of the program, where it is not one for each predictor: a loop that
                asks more often, say.
        """
        return Loop(self, Task(student, trainset, valset, teacher, Budget(), None, seed)).plan(calls_per_run)
