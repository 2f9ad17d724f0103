"""Proposer: the base of programs that propose: one predictor, asked so that several proposals differ."""

from __future__ import annotations

import logging
from typing import Any

from tuneful.optimize.propose.describe import halved
from tuneful.program.lm import current_lm
from tuneful.program.module import Module
from tuneful.program.predict import Predict
from tuneful.program.trace import note_event
from tuneful.spec.prediction import Prediction
from tuneful.wire.request import Sampling

_log = logging.getLogger(__name__)

#: What stands for an input that is empty.
_NONE = "(none)"


class Proposer(Module):
    """Base of programs that ask a model for a proposal, for teleprompters that subclass `Proposing`.

    A subclass writes `forward`, which calls `_ask`. It is an ordinary program, compiled like any other. Inputs that are
    too long for the model are halved, the longest first, until the prompt leaves room for an answer: a small model
    proposes from less.

    Args:
        signature: what is asked.
        temperature: of the predictor, where its LM takes one, so that several samples differ.
        cuttable: inputs that may be shortened.
        keep_end: those of them whose end matters most.

    Raises:
        UsageError: a temperature below 0.

    Cost: 1 call for each run.
    """

    _drivable = True

    def __init__(
        self, signature: Any, temperature: float = 1.0, *, cuttable: tuple[str, ...], keep_end: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        Sampling.from_options({"temperature": temperature})  # raises where it is none
        self.temperature = temperature
        self.predict = Predict(signature)
        self.cuttable = cuttable
        self.keep_end = keep_end

    async def _ask(self, **given: Any) -> Prediction:
        """Ask the predictor. An input that is "" is shown as (none)."""
        shown = {name: value.strip() or _NONE if isinstance(value, str) else value for name, value in given.items()}
        predict = self._warmed()
        while not await predict._fits(shown) and (longest := self._longest(shown)):
            shown[longest] = halved(shown[longest], keep_end=longest in self.keep_end) or _NONE
            note_event("proposer's input shortened")
            _log.info("the input `%s` of %s was shortened: it was too long", longest, type(self).__name__)
        found: Prediction = await predict.acall(**shown)
        return found

    def _longest(self, shown: dict[str, Any]) -> str | None:
        found = max(self.cuttable, key=lambda name: len(shown.get(name, "")), default=None)
        return found if found is not None and len(shown.get(found, "")) > len(_NONE) else None

    def _warmed(self) -> Predict[Any]:
        """Return the predictor with a temperature, whatever its LM has of its own: that one may be 0."""
        lm = self.predict.lm or current_lm()
        if lm.copy(temperature=None).takes_temperature(self.predict.sampling):
            return self.predict.using(temperature=self.temperature)
        return self.predict
