"""Reserve: what of a budget a search must leave, so that what it found can still be compared with the original."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tuneful.backends.budget import Meter
from tuneful.optimize.facts import hash_of
from tuneful.optimize.trial import Candidate

#: Limits of a budget that are known from what rollouts have used; seconds are known from how long they took.
_COUNTED = ("usd", "tokens", "calls")


#: Rollouts to come: of which candidate, None being one that is not known yet, and how many.
Work = Sequence[tuple[Candidate | None, int]]


class Reserve:
    """Knows what a rollout costs, from those that were run, and so what can still be afforded.

    A candidate costs what its own rollouts did, one that was not run yet what those of the dearest did. Only whole
    waves of rollouts are decided upon, by what the waves before have used: threads have no say in it.

    Args:
        meter: what the compile spends.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._used: dict[str, Counter[str]] = {}  # by candidate
        self._jobs = dict.fromkeys(_COUNTED, 0.0)  # of jobs that were done side by side, the dearest so far
        self._rollouts = 0

    def note(self, candidate: Candidate, records: Sequence[Mapping[str, Any]], who: str = "student") -> None:
        """Take a candidate's rollouts. What the cache answered says nothing of what a rollout costs."""
        self._rollouts += len(records)
        paid = [record["usage"] for record in records if record["usage"]["calls"]]
        used = self._used.setdefault(_key(candidate, who), Counter())
        for one in paid:
            tokens = one["prompt_tokens"] + one["completion_tokens"]
            used.update({"paid": 1, "usd": one["cost_usd"] or 0.0, "tokens": tokens, "calls": one["calls"]})

    def _each(self, candidate: Candidate | None) -> dict[str, float]:
        """Return what a rollout of a candidate uses, by limit; 0 where nothing is known of any."""
        known = {key: used for key, used in self._used.items() if used["paid"]}
        own = known.get(_key(candidate)) if candidate is not None else None
        of = [own] if own else list(known.values())
        return {name: max((used[name] / used["paid"] for used in of), default=0.0) for name in _COUNTED}

    def spent(self) -> dict[str, float]:
        """Return what has been used so far, by limit."""
        used = self._meter.usage
        return {"usd": used.cost_usd or 0.0, "tokens": used.total_tokens, "calls": used.calls}

    def note_jobs(self, before: Mapping[str, float]) -> None:
        """Take what jobs have used that were done side by side, from what was spent before them."""
        self._jobs = {name: max(self._jobs[name], now - before[name]) for name, now in self.spent().items()}

    def short_of(self, work: Work, *, jobs: bool = False) -> str | None:
        """Return the limit that further rollouts would reach, or None.

        Args:
            work: which ones.
            jobs: whether jobs come before them, as dear as the dearest so far.
        """
        budget, spent = self._meter.budget, self.spent()
        each = [(self._each(candidate), n) for candidate, n in work]
        for name in _COUNTED:
            limit, more = getattr(budget, name), self._jobs[name] if jobs else 0.0
            rollouts = sum(n * cost[name] for cost, n in each)
            if limit is not None and rollouts and spent[name] + more + rollouts > limit:
                return name
        if budget.seconds is not None and self._rollouts:
            pace = self._meter.seconds / self._rollouts
            return "seconds" if self._meter.seconds + sum(n for _, n in work) * pace > budget.seconds else None
        return None

    def affordable(self, candidates: Sequence[Candidate], most: int) -> int:
        """Return on how many rows all of the candidates can be run, `most` at most."""
        return bisect_left(range(1, most + 1), 1, key=lambda n: bool(self.short_of([(c, n) for c in candidates])))


def _key(candidate: Candidate, who: str = "student") -> str:
    return hash_of([who, candidate])
