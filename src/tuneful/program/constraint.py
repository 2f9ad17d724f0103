"""Constraints: `Assert` and `Suggest` inside `forward`, and checks on a predictor. Where one fails, it asks again.

A constraint that fails inside `forward` sends the run back: the innermost module that holds the responsible predictor's
step runs its `forward` once more. There every step gives what it gave before, at no cost, and only the responsible
predictor is asked again, shown what it wrote and what is wrong with it; what depends on its answer follows.

Source: Singhvi et al. (2023), "DSPy Assertions: Computational Constraints for Self-Refining Language Model Pipelines",
sections 3 and 4. There a run goes on from the predictor with the rest of its state as it was; here `forward` begins
anew, so that any Python in it (loops, exceptions, several tasks) stays what it is.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tuneful.errors import ConstraintError, UsageError
from tuneful.program.running.runtime import settings
from tuneful.program.trace import Recorder, Step, current_recorder, note_event
from tuneful.spec.fields import InputField
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature

if TYPE_CHECKING:
    from tuneful.program.module import Module

_log = logging.getLogger(__name__)

#: What a run notes of a suggestion that it went on without.
_NOT_MET = "suggestion not met"


def Assert(condition: Any, message: str = "", target: Module | None = None) -> None:  # noqa: N802 (the paper's name)
    """Demand something of the run: where it does not hold, a predictor is asked again; then the run fails.

        def forward(self, question):
            query = self.query(question=question).query
            tf.Assert(len(query) <= 80, "The query has more than 80 characters; write a shorter one.")
            ...

    Use it for what makes every later step pointless. The code of `forward` before it runs again, so keep side effects
    behind it.

    Args:
        condition: whether the constraint holds.
        message: what is wrong and what is wanted; the model reads it.
        target: the predictor (or a module that holds it) that is asked again. By default the last one that answered.

    Raises:
        ConstraintError: it still does not hold after `max_backtracks` (a setting, 2) further answers, or there is no
            step to go back to.

    Cost: up to `max_backtracks` further calls of the target, and of what depends on its answer.
    """
    _demand(condition, message, target, must=True)


def Suggest(condition: Any, message: str = "", target: Module | None = None) -> bool:  # noqa: N802 (the paper's name)
    """Ask for something as `Assert` does, but go on with a warning where it cannot be had. Returns whether it holds.

    Use it for what makes an answer better and is not worth a failed run. What was not met is counted in the trace.
    """
    return _demand(condition, message, target, must=False)


def _demand(condition: Any, message: str, target: Module | None, *, must: bool) -> bool:
    if condition:
        return True
    code = sys._getframe(2)  # the line of the constraint tells it from others
    step = _responsible(current_recorder(), target)
    site = (code.f_code.co_filename, code.f_lineno)
    if step is not None:
        failed = _Failed(step, message or "That answer does not meet a constraint of the program.", site)
        if failed.earlier < settings.max_backtracks:
            note_event("asked again by a constraint")
            raise Backtrack(failed)
    if must:
        raise _error(message, step)
    _not_met(message, step, site)
    return False


def _error(message: str, step: Step | None) -> ConstraintError:
    why = "no step came before it" if step is None else f"{settings.max_backtracks} further answers did not meet it"
    return ConstraintError(
        f"a constraint does not hold: {message or 'no message'} ({why}). Look at the trace; reword the message, allow "
        "more with tf.configure(max_backtracks=...), or make it a tf.Suggest.",
        message=message,
        predictor=step.path if step else None,
    )


#: Constraints whose suggestions were said not to be met.
_told: set[Any] = set()


def _not_met(message: str, step: Step | None, site: Any) -> None:
    note_event(_NOT_MET)
    if site not in _told:
        _told.add(site)
        _log.warning(
            "a suggestion is not met, the run goes on: %s (predictor `%s`; said once, every trace counts it)",
            message,
            step.path if step else "",
        )


def _responsible(recorder: Recorder | None, target: Module | None) -> Step | None:
    """Return the last step of the target that answered: one of the innermost module that has any."""
    if recorder is None:
        return None
    paths = None
    if target is not None:
        paths = {recorder.path_of(p.token) for p in target.predictors()}
        if not paths:
            raise UsageError(f"the `target` of a constraint is a predictor or holds one, got {target!r:.80}.")
    around = _around.get()
    while around is not None:
        for step in reversed(around.steps):
            if step.outputs and not step.superseded and (paths is None or step.path in paths):
                return step
        around = around.outer
    return None


# --- asking again ---


@dataclass(frozen=True, slots=True)
class Correction:
    """An answer that was not accepted, and why."""

    path: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    message: str
    site: Any

    def concerns(self, path: str, inputs: Mapping[str, Any]) -> bool:
        """Say whether a step is asked for the same."""
        return self.path == path and _same(self.inputs, inputs)


class Backtrack(BaseException):
    """Leaves `forward`, to begin it anew. No error, so that no `except Exception` of a user keeps it."""

    def __init__(self, failed: _Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed


@dataclass(frozen=True, slots=True)
class _Failed:
    step: Step
    message: str
    site: Any

    @property
    def earlier(self) -> int:
        """How many answers this constraint has turned down already, of this predictor and these inputs."""
        known = corrections_of(self.step.path, self.step.inputs)
        return sum(c.site == self.site for c in known)

    @property
    def correction(self) -> Correction:
        return Correction(self.step.path, self.step.inputs, self.step.outputs, self.message, self.site)


@dataclass(slots=True)
class Replay:
    """What a module that runs again knows from before: steps to give as they were, and answers to ask for anew.

    Args:
        steps: the steps that are given once more.
        home: who recorded them, and what they gave.
        corrections: the answers that were turned down, oldest first.
        outer: that of a module around this one.
    """

    steps: list[Step]
    home: Recorder
    corrections: list[Correction] = field(default_factory=list)
    outer: Replay | None = None

    def take(self, path: str, inputs: Mapping[str, Any]) -> tuple[Step, Recorder] | None:
        """Return the step that was asked the same, once, and who recorded it."""
        for index, step in enumerate(self.steps):
            if step.path == path and _same(step.inputs, inputs):
                return self.steps.pop(index), self.home
        return self.outer.take(path, inputs) if self.outer else None


_around: ContextVar[Retracing | None] = ContextVar("tuneful_retracing", default=None)
_replay: ContextVar[Replay | None] = ContextVar("tuneful_replay", default=None)


def took(step: Step) -> None:
    """Tell the modules around this code of a step of theirs."""
    if (around := _around.get()) is not None:
        around.took(step)


def retracing() -> bool:
    """Say whether a module around this code runs again."""
    return _replay.get() is not None


def replayed(recorder: Recorder, path: str, inputs: Mapping[str, Any]) -> Prediction | None:
    """Return what a step gave before the run went back, and put it into the trace again; None: it must be asked."""
    replay = _replay.get()
    taken = replay.take(path, inputs) if replay else None
    if taken is None:
        return None
    step, home = taken
    home.trace.steps[:] = [s for s in home.trace.steps if s is not step]  # a part of the run may record it now
    step.superseded = False
    recorder.trace.steps.append(step)
    recorder.predictions[id(step)] = home.predictions[id(step)]
    took(step)
    return home.predictions[id(step)]


def corrections_of(path: str, inputs: Mapping[str, Any]) -> list[Correction]:
    """Return the answers to the same question that were turned down, oldest first."""
    found: list[Correction] = []
    replay = _replay.get()
    while replay is not None:
        found = [c for c in replay.corrections if c.concerns(path, inputs)] + found
        replay = replay.outer
    return found


class Retracing:
    """Runs a `forward` again for as long as its constraints want it: `with Retracing() as retracing`.

    It knows the steps of its own run: those of modules that run beside it are none of its business.
    """

    def __init__(self) -> None:
        self._recorder = current_recorder()
        self.outer = _around.get()
        self._steps: dict[int, Step] = {}
        self._not_met = self._recorder.trace.events[_NOT_MET] if self._recorder else 0
        self._corrections: list[Correction] = []

    @property
    def steps(self) -> list[Step]:
        """The steps of the run, those of its parts included, in the order in which they began."""
        return list(self._steps.values())

    def __enter__(self) -> Self:
        self._token = _around.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        _around.reset(self._token)

    def took(self, step: Step) -> None:
        """Add a step of this run, which is one of all runs around it too."""
        self._steps.pop(id(step), None)  # one that is given once more comes last
        self._steps[id(step)] = step
        if self.outer is not None:
            self.outer.took(step)

    @contextmanager
    def back(self, wish: Backtrack) -> Iterator[None]:
        """Prepare the next run; raises the wish where the step is not one of this module."""
        recorder, failed = self._recorder, wish.failed
        steps, self._steps = self.steps, {}
        if not any(s is failed.step for s in steps):
            raise wish from None
        assert recorder is not None
        self._corrections.append(failed.correction)
        again = [s for s in steps if s is not failed.step and not s.superseded and id(s) in recorder.predictions]
        for step in steps:
            step.superseded = True
        events = recorder.trace.events
        events -= Counter({_NOT_MET: events[_NOT_MET] - self._not_met})  # the next run says anew what is not met
        token = _replay.set(Replay(again, recorder, self._corrections, _replay.get()))
        try:
            yield
        finally:
            _replay.reset(token)


def repeated(corrections: Sequence[Correction]) -> int:
    """Return how often the last answer that was turned down had been given."""
    return sum(_same(c.outputs, corrections[-1].outputs) for c in corrections)


def corrected(signature: Signature, corrections: Sequence[Correction]) -> tuple[Signature, dict[str, Any]]:
    """Return the signature that shows a model its last answer and what is wrong, and the inputs that it takes more."""
    last = corrections[-1]
    more: dict[str, Any] = {}
    for name, output in signature.output_fields.items():
        if name in last.outputs:
            shown = _free(signature, f"past_{name}")
            signature = signature.append(
                shown, InputField(desc=f"your earlier {output.label}, which was not accepted"), output.type
            )
            more[shown] = last.outputs[name]
    advice = _free(signature, "feedback")
    signature = signature.append(advice, InputField(desc="what was wrong, and what is wanted instead"), str)
    messages = list(dict.fromkeys(c.message for c in corrections))
    if (times := repeated(corrections)) > 1:  # also makes it another request than the one that the cache knows
        messages.append(f"You gave this answer {times} times. Give another one.")
    more[advice] = "\n".join(messages)
    return signature, more


def _free(signature: Signature, name: str) -> str:
    while name in signature.fields:
        name += "_"
    return name


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 (a value of a type of the user's, that cannot be compared)
        return False


# --- constraints of a predictor ---


@dataclass(frozen=True, slots=True)
class Constraint:
    """A check on every answer of a predictor.

    Args:
        check: `(prediction)` or `(inputs, prediction)` -> whether it holds; plain or async. A ValueError or an
            AssertionError says what is wrong beside the message, as in validators of pydantic.
        message: what is wrong and what is wanted; the model reads it.
        must: whether the run fails where it cannot be had.
    """

    check: Callable[..., Any]
    message: str
    must: bool = True

    def __post_init__(self) -> None:
        if not callable(self.check):
            raise UsageError(f"a constraint is a function of a prediction, got {self.check!r:.80}.")

    async def complaint(self, inputs: Mapping[str, Any], prediction: Prediction) -> str | None:
        """Return what the predictor is told of an answer, or None where it meets the constraint."""
        wanted = len(inspect.signature(self.check).parameters)
        try:
            found = self.check(inputs, prediction) if wanted > 1 else self.check(prediction)
            found = await found if inspect.isawaitable(found) else found
        except (ValueError, AssertionError) as error:
            return f"{self.message} {error}".strip()
        return None if found else self.message

    def turned_down(self, step: Step, complaint: str) -> Correction:
        """Return an answer that does not meet it, and what is wrong."""
        return Correction(step.path, step.inputs, step.outputs, complaint, self)

    def give_up(self, step: Step, complaint: str) -> None:
        """Go on with a warning, or raise ConstraintError."""
        if self.must:
            raise _error(complaint, step)
        _not_met(complaint, step, self)
