"""ShownSteps: how much of an agent's trajectory its model is shown, where the prompt grows too long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuneful.errors import ContextWindowExceededError, UsageError
from tuneful.program.predict import Predict
from tuneful.program.trace import note_event
from tuneful.spec.trajectory import Trajectory


@dataclass
class ShownSteps:
    """How much of a trajectory is shown. What was once cut stays cut, so that the prompt stays the same up to there.

    Args:
        shortened: how many of the first steps have their observations shortened.
        left_out: how many of the first steps are left out.
    """

    shortened: int = 0
    left_out: int = 0

    async def ask(self, predictor: Predict[Any], given: Mapping[str, Any], trajectory: Trajectory) -> Any:
        """Ask a predictor with an input `trajectory`, showing as much of it as there is room for."""
        steps = len(trajectory)
        while not await predictor._fits(self._inputs(given, trajectory)) and self.shorten(steps):
            pass
        while True:
            try:
                return await predictor.acall(**self._inputs(given, trajectory))
            except ContextWindowExceededError:
                if not self.leave_out(steps):
                    raise

    def _inputs(self, given: Mapping[str, Any], trajectory: Trajectory) -> dict[str, Any]:
        return {**given, "trajectory": trajectory.within(self.shortened, self.left_out)}

    def shorten(self, steps: int) -> bool:
        """Shorten the oldest step that is not yet; the newest is kept whole. Returns False where none is left."""
        if self.shortened >= steps - 1:
            return False
        self.shortened += 1
        note_event("observation shortened")
        return True

    def leave_out(self, steps: int) -> bool:
        """Leave out half of what is shown, and at last shorten the newest step. Returns False where none is left."""
        if self.shorten(steps):
            while self.shorten(steps):
                pass
        elif self.left_out < steps - 1:
            more = math.ceil((steps - 1 - self.left_out) / 2)
            self.left_out += more
            for _ in range(more):
                note_event("step left out")
        elif self.shortened < steps:
            self.shortened = steps
            note_event("observation shortened")
        elif self.left_out < steps:
            self.left_out = steps
            note_event("step left out")
        else:
            return False
        return True


def checked_steps(max_iters: Any) -> int:
    """Return the most steps of an agent. Raises UsageError where it is no such number."""
    if isinstance(max_iters, bool) or not isinstance(max_iters, int) or max_iters < 1:
        raise UsageError(f"`max_iters` is {max_iters!r}; expected an integer of at least 1.")
    return max_iters
