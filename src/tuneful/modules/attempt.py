"""One attempt of a program among several: sampled anew, with a trace of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tuneful.errors import BudgetExceeded, LMAuthError, UsageError
from tuneful.program.lm import LM
from tuneful.program.module import Module
from tuneful.program.predict import Predict
from tuneful.program.running import runtime
from tuneful.program.trace import Trace, note_event, recording_part

M = TypeVar("M", bound=Module)

#: What no further attempt can mend.
_FINAL = (BudgetExceeded, LMAuthError, UsageError)


@dataclass(slots=True)
class Attempt:
    """What came of one attempt.

    Args:
        prediction: what the program returned.
        error: what it raised instead, or None.
        trace: its steps.
        reward: how good it is, where that was asked.
        feedback: what the reward has to say about it, in words.
    """

    prediction: Any = None
    error: Exception | None = None
    trace: Trace = field(default_factory=Trace)
    reward: float | None = None
    feedback: str | None = None

    def supersede(self) -> None:
        """Mark the steps as those of a result that is not used."""
        for step in self.trace:
            step.superseded = True


async def attempted(program: Module, inputs: Mapping[str, Any], number: int) -> Attempt:
    """Run a program for the number-th time (from 1 on) on the same inputs.

    Raises what no further attempt can mend: BudgetExceeded, LMAuthError, UsageError. Other errors are the result.
    """
    with runtime.attempt(number), recording_part(program) as trace:
        made = Attempt(trace=trace)
        try:
            made.prediction = await program.acall(**inputs)
        except _FINAL:
            raise
        except Exception as error:  # noqa: BLE001 (whatever the user's program raises is the attempt's result)
            made.error = error
            note_event("attempt failed")
        return made


def sampled(program: M, temperature: float, *, differing: bool) -> M:
    """Return the program with a temperature for the predictors that have none, where their LM takes one.

    Args:
        program: the program; it is not changed, and its predictors keep their paths in traces.
        temperature: the temperature.
        differing: whether nothing but chance tells its runs apart.

    Raises:
        UsageError: then, all of its predictors are greedy, so that every run would give the same.
    """
    program = program.using()
    predictors = program.predictors()
    for predictor in predictors:
        lm = predictor.lm or runtime.settings.lm
        if lm is not None and lm.takes_temperature(predictor.sampling):
            predictor.bind(temperature=temperature)
    lms = [(p, p.lm or runtime.settings.lm) for p in predictors]
    if differing and lms and all(lm is not None and _temperature(p, lm) == 0 for p, lm in lms):
        raise UsageError(
            "every predictor has temperature=0, so all attempts would be the same. Set a temperature above 0, or none. "
            "No model was called."
        )
    return program


def _temperature(predictor: Predict[Any], lm: LM) -> float | None:
    own = predictor.sampling.temperature
    return lm.sampling.temperature if own is None else own
