"""Task: what a user hands to `compile`, split into rows to search on and rows held out, and checked before any call."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import NoneType
from typing import Any

from tuneful.backends.budget import Budget
from tuneful.errors import DataError, UsageError, nearest
from tuneful.evaluate.evaluate import check_examples, check_list, check_program
from tuneful.optimize.objectives import NONE, Objectives
from tuneful.optimize.recipe import Recipe
from tuneful.optimize.trial import Brief
from tuneful.program.module import Module
from tuneful.program.running.runtime import settings
from tuneful.spec.example import Example
from tuneful.store.hold import Hold
from tuneful.store.journal import Journal

#: Trainsets below this size are searched whole: too few rows would be left to hold out.
SMALLEST_SPLIT = 20

#: Most rows held out when no valset is given, and their share.
LARGEST_HOLD_OUT, HELD_OUT_SHARE = 200, 0.5

#: Of a recipe's `teacher_settings`, those that predictors can have for their own.
BOUND = ("lm", "adapter")


@dataclass(frozen=True)
class Task:
    """What a user hands to `compile`.

    `replaces` is the program that the result is to replace, if not the student; `as_given` the student as the user has
    it, where the recipe has changed what is no parameter.
    """

    student: Module
    trainset: Sequence[Example]
    valset: Sequence[Example] | None
    teacher: Module | None
    budget: Budget
    run: str | None
    seed: int
    history: Sequence[str] = ()
    objectives: Objectives = NONE
    replaces: Module | None = None
    as_given: Module | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for what is not of its kind. No model was called."""
        check_student(self.student)
        check_list(self.trainset, "trainset")
        if self.valset is not None:
            check_list(self.valset, "valset")
        for name, (kind, expected) in _KINDS.items():
            if not isinstance(given := getattr(self, name), kind):
                raise UsageError(f"`{name}` is {given!r:.80}; expected {expected}.")
        if self.run is not None and not (isinstance(self.run, str) and self.run and self.run.isprintable()):
            expected = "a name that can be shown, by which the journal knows the compile"
            raise UsageError(f"`run` is {self.run!r:.80}; expected {expected}.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise UsageError(f"`seed` is {self.seed!r:.80}; expected a whole number.")


_PROGRAM = (Module, NoneType)
#: What the other arguments are, and how to write them.
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "teacher": (_PROGRAM, "one program; of several make one, tf.Ensemble().compile([...])"),
    "replaces": (_PROGRAM, "a program"),
    "budget": (Budget, "limits by name, such as tf.Budget(usd=2, calls=1000)"),
    "history": ((list, tuple), "the name of a run, or a list of names"),
    "objectives": (Objectives, "tf.Objectives(minimize='total_tokens')"),
}


def split(task: Task, *, validated: bool) -> tuple[list[Example], list[Example], list[int]]:
    """Return search rows, held-out rows, and where the former stand in the trainset; by seed and size alone."""
    train = list(task.trainset)
    if task.valset is not None:
        return train, list(task.valset), list(range(len(train)))
    if not validated or len(train) < SMALLEST_SPLIT:
        return train, [], list(range(len(train)))
    held = min(LARGEST_HOLD_OUT, int(len(train) * HELD_OUT_SHARE))
    order = Brief({}, {}, (), task.seed).stream("held-out").sample(range(len(train)), len(train))
    chosen = set(order[:held])
    searched = [i for i in range(len(train)) if i not in chosen]
    return [train[i] for i in searched], [train[i] for i in sorted(chosen)], searched


def teacher_of(task: Task, recipe: Recipe) -> Module:
    """Return a copy of the teacher, bound to the LM and the adapter of the recipe's `teacher_settings`.

    Bound, and not merely in force while it runs: a metric that asks a model is the same judge of all runs then. A
    student that teaches itself takes them in place of its own; a teacher that was given keeps those that it has.
    """
    teacher = (task.teacher or task.student).deepcopy()
    given = {name: value for name, value in (recipe.teacher_settings or {}).items() if name in BOUND}
    for predictor in teacher.predictors():
        free = task.teacher is None
        predictor.bind(**{name: value for name, value in given.items() if free or getattr(predictor, name) is None})
    return teacher


def check_student(student: Any) -> None:
    """Raise for what is no program, or has nothing to compile."""
    if not isinstance(student, Module):
        raise UsageError(f"`compile` takes a program, a tf.Module, got {student!r:.80}.")
    if not student.parameters():
        name = type(student).__name__
        raise UsageError(f"{name} has neither a predictor nor a parameter of its own, so there is nothing to compile.")
    if all(parameter.frozen for parameter in student.parameters().values()):
        raise UsageError(
            f"all parameters of this {type(student).__name__} are frozen, so there is nothing to compile: `unfreeze()` "
            "it, or freeze fewer."
        )


def check_metric(recipe: Recipe) -> None:
    """Raise for a recipe that chooses by scores, and has no metric."""
    if recipe.selects and recipe.metric is None:
        raise UsageError(
            f"{type(recipe).__name__} chooses by scores, and its `metric` is None: give it a function or a program "
            "that judges a run. (A recipe that chooses nothing says `selects = False`.)"
        )


def check_run(task: Task) -> None:
    """Raise where a run is named, and nothing would be kept of it."""
    if task.run is not None and settings.journal is None:
        raise UsageError(
            f"the run {task.run!r} has a name, and there is no journal to keep it in: `journal` is None. Set one, "
            "tf.configure(journal='.tuneful/journal.sqlite'), or leave `run` out. No call was made."
        )


def held(task: Task) -> AbstractContextManager[Any]:
    """Return the hold on the task's run, to be let go of at its end. Raises UsageError where somebody else has it."""
    if task.run is None:
        return nullcontext()
    try:
        return Hold(settings.journal, task.run)
    except BlockingIOError as error:
        raise UsageError(
            f"the run {task.run!r} of the journal {str(settings.journal)!r} is being compiled already, in this process "
            "or another: two at once would pay for the same calls twice. Wait for it (`tuneful runs` says how far it "
            "is), stop it, or give this one another name. No call was made."
        ) from error


def check_rows(task: Task, *, run: bool) -> None:
    """Raise for rows that are known not to work; `run` says whether the trainset's are run at all."""
    if run:
        check_examples(task.trainset, "trainset")
        check_program(task.student, task.trainset)
        _check_taught(task)
    if task.valset is not None:
        check_examples(task.valset, "valset")
        check_program(task.student, task.valset)


def _check_taught(task: Task) -> None:
    if task.teacher is None:
        return
    try:
        check_program(task.teacher, task.trainset)
    except UsageError as error:
        raise DataError(f"the teacher cannot run the trainset: {error}") from error


def check_teacher(task: Task, *, related: bool) -> None:
    """Raise for a teacher that is no relation of the student."""
    if task.teacher is None or related:
        return
    raise UsageError(
        f"the teacher shares no predictor with the student: {_shape(task.teacher)} against {_shape(task.student)}. "
        "A teacher is the same program, compiled or with another LM, or a program that holds it."
    )


def _shape(program: Module) -> str:
    found = [f"{path}: {p.signature}" if path else str(p.signature) for path, p in program.named_predictors()]
    return f"({'; '.join(found)})"


def check_compared(task: Task, *, compared: bool) -> None:
    """Raise where something rests on a comparison, and none is possible."""
    if task.replaces is not None and not compared:
        raise UsageError(
            "whether a program may take another's place is told by held-out rows, and there are none: give `valset`, "
            f"or {SMALLEST_SPLIT} rows or more from which some can be held out, and a metric. No model was called."
        )
    task.objectives.check(task.student, task.replaces or task.student, compared=compared)


def check_history(journal: Journal, task: Task) -> None:
    """Raise where another run's records are asked for, and there are none, or there is no journal to look into."""
    if not task.history:
        return
    if task.run is None:
        raise UsageError("`history` needs a named run to take the records over to: compile(..., run='name').")
    known = [name for name in journal.names() if name != task.run]
    for name in task.history:
        if name not in known:
            raise UsageError(
                f"the journal {str(settings.journal)!r} has no run {name!r}.{nearest(name, known)} "
                f"It has: {', '.join(known) or 'none'}."
            )
