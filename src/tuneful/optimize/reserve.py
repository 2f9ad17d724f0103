"""Reserve: what of a budget a search must leave, so that what it found can still be compared with the original."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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

    A candidate costs what its own rollouts did. One that was not run yet costs what others did, and more where its
    prompts are longer; one that is not known yet what the dearest did. Only whole waves of rollouts are decided upon,
    by what the waves before have used: threads have no say in it.

    Args:
        meter: what the compile spends.
        size: about how many tokens the prompts of a candidate have, inputs aside, as a mean over predictors; it is
            given the candidate, and who runs it.
    """

    def __init__(self, meter: Meter, size: Callable[[Candidate, str], float]) -> None:
        self._meter, self._size = meter, size
        self._ran: dict[str, tuple[Candidate, str]] = {}
        self._sizes: dict[str, float] = {}
        self._used: dict[str, Counter[str]] = {}  # by candidate
        self._jobs = dict.fromkeys(_COUNTED, 0.0)  # of jobs that were done side by side, the dearest so far
        self._rollouts = 0

    def note(self, candidate: Candidate, records: Sequence[Mapping[str, Any]], who: str = "student") -> None:
        """Take a candidate's rollouts. What the cache answered says nothing of what a rollout costs."""
        self._rollouts += len(records)
        paid = [record["usage"] for record in records if record["usage"]["calls"]]
        key = _key(candidate, who)
        self._ran[key] = candidate, who
        used = self._used.setdefault(key, Counter())
        for one in paid:
            tokens = one["prompt_tokens"] + one["completion_tokens"]
            used.update({"paid": 1, "usd": one["cost_usd"] or 0.0, "tokens": tokens, "calls": one["calls"]})

    def ran(self, candidate: Candidate) -> bool:
        """Say whether a candidate was run."""
        return _key(candidate) in self._ran

    def _each(self, candidate: Candidate | None) -> dict[str, float]:
        """Return what a rollout of a candidate uses, by limit; 0 where nothing is known of any."""
        known = {key: {n: used[n] / used["paid"] for n in _COUNTED} for key, used in self._used.items() if used["paid"]}
        if candidate is None:
            of = list(known.values())
        elif (own := known.get(_key(candidate))) is not None:
            of = [own]
        else:
            size = self._size_of(candidate, "student")
            of = [_longer(each, size - self._size_of(*self._ran[key])) for key, each in known.items()]
        return {name: max((each[name] for each in of), default=0.0) for name in _COUNTED}

    def _size_of(self, candidate: Candidate, who: str) -> float:
        key = _key(candidate, who)
        if key not in self._sizes:
            self._sizes[key] = self._size(candidate, who)
        return self._sizes[key]

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
        limits = {name: limit for name in _COUNTED if (limit := getattr(budget, name)) is not None}
        each = [(self._each(candidate), n) for candidate, n in work] if limits else []
        for name, limit in limits.items():
            more = self._jobs[name] if jobs else 0.0
            rollouts = sum(n * cost[name] for cost, n in each)
            if rollouts and spent[name] + more + rollouts > limit:
                return name
        if budget.seconds is not None and self._rollouts:
            pace = self._meter.seconds / self._rollouts
            return "seconds" if self._meter.seconds + sum(n for _, n in work) * pace > budget.seconds else None
        return None

    def affordable(self, candidates: Sequence[Candidate], most: int) -> int:
        """Return on how many rows all of the candidates can be run, `most` at most."""
        return bisect_left(range(1, most + 1), 1, key=lambda n: bool(self.short_of([(c, n) for c in candidates])))


def _longer(each: Mapping[str, float], tokens: float) -> dict[str, float]:
    """Return what a rollout uses whose prompts are so many tokens longer."""
    share = max(0.0, 1 + each["calls"] * tokens / each["tokens"]) if each["tokens"] else 1.0
    return {"usd": each["usd"] * share, "tokens": each["tokens"] * share, "calls": each["calls"]}


def _key(candidate: Candidate, who: str = "student") -> str:
    return hash_of([who, candidate])
