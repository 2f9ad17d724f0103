"""BestOfN: several attempts of a program, and the one that a reward likes best."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from tuneful.errors import MetricError, TunefulError, UsageError
from tuneful.modules.attempt import Attempt, attempted, sampled
from tuneful.program.module import Module
from tuneful.program.parameter import checked_whole
from tuneful.program.running.portal import portal

Reward = Callable[[dict[str, Any], Any], Any]


class BestOfN(Module):
    """Run a program up to N times, until its reward reaches the threshold, and return the best prediction.

    >>> from tuneful.program.predict import Predict
    >>> from tuneful.testing import DummyLM
    >>> short = BestOfN(Predict("topic -> title"), N=3, reward_fn=lambda args, p: len(p.title) < 10, threshold=1)
    >>> short.using(lm=DummyLM([{"title": "A title that is long"}, {"title": "Rivers"}]))(topic="rivers").title
    'Rivers'

    Use it where a good result is easier to tell than to make: a length, a form, a test that passes, a judge. Where
    words about a failure would help the next attempt, use `Refine`.

    Args:
        module: the program. It is not changed.
        N: most attempts. Each is another sample to the response cache; predictors without a temperature have 1.0.
        reward_fn: (inputs, prediction) -> how good it is: a number, a bool or a `Score`; plain or async.
        threshold: reward that is enough: no further attempt is made.
        fail_count: attempts that may raise before the last error is raised; by default all of them may, and it is
            raised where none is left. What no attempt can mend (wrong inputs, a used-up budget) is raised at once.

    Raises (when it runs):
        MetricError: the reward raised, or returned no number.
        UsageError: all predictors have temperature 0, and N is above 1.

    Cost: from 1 to N runs of the program, one after the other. The trace holds all of them; the steps of those whose
    prediction is not returned are marked `superseded`.

    Source: Stiennon et al. (2020), "Learning to summarize from human feedback", section 4 (best of N by a reward), with
    a threshold that ends it early.
    """

    #: Whether its attempts differ by nothing but chance.
    _differing = True

    def __init__(
        self,
        module: Module,
        N: int,  # noqa: N803 (DSPy's name)
        reward_fn: Reward,
        threshold: float,
        fail_count: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(module, Module):
            raise UsageError(f"`module` must be a tf.Module, got {module!r:.80}.")
        if not callable(reward_fn):
            raise UsageError(f"`reward_fn` must be a function (inputs, prediction) -> number, got {reward_fn!r:.80}.")
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or math.isnan(threshold):
            raise UsageError(f"`threshold` is {threshold!r}; expected a number.")
        self.module = module
        self.N = checked_whole("N", N)
        self.reward_fn = reward_fn
        self.threshold = threshold
        self.fail_count = fail_count if fail_count is None else checked_whole("fail_count", fail_count, 0)

    async def forward(self, **inputs: Any) -> Any:
        """Try, until the reward is high enough or N attempts are made."""
        plain = sampled(self.module, 1.0, differing=self._differing and self.N > 1)
        program, attempts = plain, list[Attempt]()
        best: Attempt | None = None
        for number in range(1, self.N + 1):
            attempt = await attempted(program, inputs, number)
            attempts.append(attempt)
            if attempt.error is None:
                await self._rate(attempt, inputs)
                best = max(best or attempt, attempt, key=_reward)
                if _reward(best) >= self.threshold:
                    break
            elif sum(a.error is not None for a in attempts) > (self.N if self.fail_count is None else self.fail_count):
                raise attempt.error
            if number < self.N:
                program = await self._next(plain, attempt, inputs)
        for attempt in attempts:
            if attempt is not best:
                attempt.supersede()
        if best is None:
            raise attempts[-1].error or AssertionError("an attempt without a prediction has an error")
        return best.prediction

    async def _next(self, program: Module, attempt: Attempt, inputs: Mapping[str, Any]) -> Module:
        """Return the program of the next attempt."""
        return program

    async def _rate(self, attempt: Attempt, inputs: Mapping[str, Any]) -> None:
        """Ask the reward about an attempt."""
        name = getattr(self.reward_fn, "__name__", type(self.reward_fn).__name__)
        try:
            found = await portal.in_thread(lambda: self.reward_fn(dict(inputs), attempt.prediction))
            if inspect.isawaitable(found):
                found = await found
        except TunefulError:  # of a judge that asks a model
            raise
        except Exception as error:
            raise MetricError(f"`reward_fn` {name} raised {type(error).__name__}: {error}") from error
        try:
            attempt.reward = float(found)
        except (TypeError, ValueError) as error:
            raise MetricError(f"`reward_fn` {name} must return a number, it returned {found!r:.80}.") from error
        if math.isnan(attempt.reward):
            raise MetricError(f"`reward_fn` {name} returned NaN, with which nothing can be compared.")
        attempt.feedback = getattr(found, "feedback", None)


def _reward(attempt: Attempt) -> float:
    assert attempt.reward is not None
    return attempt.reward
