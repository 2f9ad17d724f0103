"""CompileProgress: how far a compile is."""

from __future__ import annotations

from dataclasses import dataclass

from tuneful.backends.budget import Budget
from tuneful.wire.response import Usage


@dataclass(frozen=True, slots=True)
class CompileProgress:
    """How far a compile is, as callbacks are told.

    >>> from tuneful.backends.budget import Budget
    >>> print(CompileProgress("search", 12, 40, 3, 0.71, (0.62, 0.79), Usage(calls=24), Budget(calls=500), 8.0, 19.0))
    search: 12 of at most 40 rollouts, 3 candidates, best 71.0 % (62.0 to 79.0), 24 of 500 calls, about 19 s left

    Args:
        phase: "search" or "comparison".
        rollouts: how many of the phase are done, those read from the journal included.
        expected: how many there will be at most; 0 where nobody knows.
        candidates: how many the search has measured, or, in the comparison, how many are compared with the original.
        best_score: mean score of the best candidate so far, or None where none is measured.
        best_interval: its 95 % interval.
        usage: what the compile has spent.
        budget: its limits.
        seconds: wall time so far.
        seconds_left: seconds until the phase is over at this pace, or the budget's are used up; None where nobody
            knows.
    """

    phase: str
    rollouts: int
    expected: int
    candidates: int
    best_score: float | None
    best_interval: tuple[float, float]
    usage: Usage
    budget: Budget
    seconds: float
    seconds_left: float | None

    def __str__(self) -> str:
        of = f" of at most {self.expected:,}" if self.expected else ""
        return ", ".join([f"{self.phase}: {self.rollouts:,}{of} rollouts", *self.standing])

    @property
    def standing(self) -> list[str]:
        """All but the rollouts, as short texts."""
        said = [f"{self.candidates} candidate{'s' if self.candidates != 1 else ''}"] if self.candidates else []
        if self.best_score is not None:
            low, high = self.best_interval
            span = f" ({100 * low:.1f} to {100 * high:.1f})" if high - low < 1 else ""
            said.append(f"best {100 * self.best_score:.1f} %{span}")
        said += self._spent()
        if self.seconds_left is not None:
            said.append(f"about {duration(self.seconds_left)} left")
        return said

    def _spent(self) -> list[str]:
        """What is spent against each limit there is; the calls, where there is none."""
        usage, budget = self.usage, self.budget
        said = []
        if budget.calls is not None:
            said.append(f"{usage.calls:,} of {budget.calls:,} calls")
        if budget.tokens is not None:
            said.append(f"{usage.total_tokens:,} of {budget.tokens:,} tokens")
        if budget.usd is not None:
            said.append(f"${usage.cost_usd or 0:.4f} of ${budget.usd:.4f}")
        if budget.seconds is not None:
            said.append(f"{self.seconds:.0f} of {budget.seconds:g} s")
        return said or [f"{usage.calls:,} calls"]


def duration(seconds: float) -> str:
    """Return a time for people.

    >>> duration(42.4), duration(600), duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
