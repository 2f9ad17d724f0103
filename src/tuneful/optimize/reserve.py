"""Reserve: what of a budget a search must leave, so that what it found can still be compared with the original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuneful.backends.budget import Meter
from tuneful.optimize.trial import Outcome

#: Limits of a budget that are known from what rollouts have used; seconds are known from how long they took.
_COUNTED = ("usd", "tokens", "calls")


class Reserve:
    """Knows what a rollout costs, from those that were run, and so what can still be afforded.

    Only whole waves of rollouts are decided upon, by what the waves before have used: threads have no say in it.

    Args:
        meter: what the compile spends.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._most = dict.fromkeys(_COUNTED, 0.0)  # of a rollout, in the dearest trial so far
        self._jobs = dict.fromkeys(_COUNTED, 0.0)  # of jobs that were done side by side, the dearest so far
        self._rollouts = 0

    def note(self, outcomes: Sequence[Outcome]) -> None:
        """Take the outcomes of a trial. What the cache answered says nothing of what a rollout costs."""
        self._rollouts += len(outcomes)
        paid = [o.detail["usage"] for o in outcomes if o.detail["usage"]["calls"]]
        if not paid:
            return
        sums = {
            "usd": sum(u["cost_usd"] or 0.0 for u in paid),
            "tokens": sum(u["prompt_tokens"] + u["completion_tokens"] for u in paid),
            "calls": sum(u["calls"] for u in paid),
        }
        self._most = {name: max(self._most[name], total / len(paid)) for name, total in sums.items()}

    def spent(self) -> dict[str, float]:
        """Return what has been used so far, by limit."""
        used = self._meter.usage
        return {"usd": used.cost_usd or 0.0, "tokens": used.total_tokens, "calls": used.calls}

    def note_jobs(self, before: Mapping[str, float]) -> None:
        """Take what jobs have used that were done side by side, from what was spent before them."""
        self._jobs = {name: max(self._jobs[name], now - before[name]) for name, now in self.spent().items()}

    def short_of(self, rollouts: int, *, jobs: bool = False) -> str | None:
        """Return the limit that so many further rollouts would reach, or None.

        Args:
            rollouts: how many.
            jobs: whether jobs come before them, as dear as the dearest so far.
        """
        budget, spent = self._meter.budget, self.spent()
        for name in _COUNTED:
            limit, more = getattr(budget, name), self._jobs[name] if jobs else 0.0
            if limit is not None and self._most[name] and spent[name] + more + rollouts * self._most[name] > limit:
                return name
        if budget.seconds is not None and self._rollouts:
            pace = self._meter.seconds / self._rollouts
            return "seconds" if self._meter.seconds + rollouts * pace > budget.seconds else None
        return None
