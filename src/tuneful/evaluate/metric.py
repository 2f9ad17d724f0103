"""Metric: the user's own judgement of a prediction, in whichever form it was written."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tuneful.backends.rebuilt import Rebuilt
from tuneful.errors import MetricError
from tuneful.evaluate.score import Score
from tuneful.program.module import Module
from tuneful.program.running.portal import Plainly
from tuneful.program.trace import Trace, recording
from tuneful.spec.example import Example
from tuneful.spec.prediction import Prediction

_SHAPE = "def metric(example, prediction, trace=None)"
#: Scores are smaller than this, so that sums of squares of many are finite too.
_MOST = 1e100
#: What a metric may take beside, to give feedback on single steps.
_OF_STEPS = ("pred_name", "pred_trace")


class Metric(Rebuilt):
    """A metric, checked once and called in one way.

    Args:
        function: a plain function, an async function or a program, with the parameters (example, prediction) and
            perhaps `trace`, `pred_name` and `pred_trace`. It returns a bool, a number, a `Score`, or a prediction with
            a field `score` (and perhaps `feedback`).

    `trace` is None in an evaluation and the run's trace while demos are being bootstrapped, where a metric may be
    stricter: the convention of the field. `prediction.trace` is there in both. `pred_name` and `pred_trace` are None
    where a run is scored; a metric that takes `pred_name` is called once more for feedback on a step, see `of_step`.

    Raises:
        MetricError: it cannot be called like that.
    """

    def __init__(self, function: Callable[..., Any] | Module) -> None:
        self.name = getattr(function, "__name__", type(function).__name__)
        if not callable(function):
            raise MetricError(f"a metric is a function or a program, got {function!r:.80}. Write: {_SHAPE}.")
        self._function = function
        self._steps: tuple[str, ...] = ()
        self._plainly = Plainly(self._at_once)
        self._asynchronous = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 (an object with an asynchronous `__call__`)
        )
        target = function.forward if isinstance(function, Module) else function
        try:
            shape = inspect.signature(target)
        except (TypeError, ValueError):  # a builtin without a signature is taken at its word
            self._takes_trace = False
            return
        self._steps = tuple(name for name in _OF_STEPS if name in shape.parameters)
        shape = shape.replace(parameters=[p for name, p in shape.parameters.items() if name not in _OF_STEPS])
        self._takes_trace = _accepts(shape, 3) or "trace" in shape.parameters
        if not _accepts(shape, 2) and not _accepts(shape, 3):
            raise MetricError(
                f"the metric `{self.name}{shape}` cannot be called with (example, prediction). "
                f"Write: {_SHAPE}. No model was called."
            )

    @property
    def speaks_of_steps(self) -> bool:
        """Whether it gives feedback on single steps: it takes `pred_name`."""
        return "pred_name" in self._steps

    async def __call__(self, example: Example, prediction: Any, trace: Trace | None = None) -> Score:
        """Return the score of a prediction; whatever the metric raises comes through."""
        unasked: dict[str, Any] = dict.fromkeys(self._steps)
        return await self._called(example, prediction, trace, unasked)

    async def of_step(
        self, example: Example, prediction: Any, trace: Trace, pred_name: str, pred_trace: Sequence[Any]
    ) -> Score:
        """Return what it says of one step of a run. Only the feedback counts: the score is that of the run.

        Args:
            example, prediction, trace: the run.
            pred_name: path of the predictor; "self" where the program is one predictor.
            pred_trace: (predictor, inputs, prediction) of each of its calls.
        """
        given = {"pred_name": pred_name, "pred_trace": pred_trace}
        return await self._called(example, prediction, trace, {name: given[name] for name in self._steps})

    async def _called(self, example: Example, prediction: Any, trace: Trace | None, steps: dict[str, Any]) -> Score:
        arguments = (example, prediction, trace) if self._takes_trace else (example, prediction)
        function = self._function
        if isinstance(function, Module):
            with recording(function):  # the metric's own steps do not belong to the run that it judges
                returned = await function.acall(*arguments, **steps)
        elif self._asynchronous:
            returned = await function(*arguments, **steps)
        else:
            returned = await self._plainly(arguments, steps)
            if inspect.isawaitable(returned):
                returned = await returned
        return self._score(returned)

    def _at_once(self, arguments: Sequence[Any], steps: dict[str, Any]) -> Any:
        return self._function(*arguments, **steps)

    def _score(self, returned: Any) -> Score:
        if isinstance(returned, Score):
            return replace(returned, value=self._number(returned.value, returned))
        if isinstance(returned, Prediction) and "score" in returned:
            return Score(self._number(returned["score"], returned), returned.get("feedback"))
        return Score(self._number(returned, returned))

    def _number(self, value: Any, returned: Any) -> float:
        """Return a score as a number; one that is not finite would make every mean and comparison meaningless."""
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) < _MOST:
            raise MetricError(
                f"the metric `{self.name}` returned {returned!r:.80}; expected a bool, a finite number, "
                "tf.Score(value, feedback=...), or a prediction with a field `score`."
            )
        return number


def _accepts(shape: inspect.Signature, count: int) -> bool:
    try:
        shape.bind(*range(count))
    except TypeError:
        return False
    return True
