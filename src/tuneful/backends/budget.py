"""Budget: hard limits on what a piece of work may use; Meter: what it has used, enforced where requests leave."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, fields, replace
from typing import Any

from tuneful.errors import BudgetExceeded, NotConfiguredError, UsageError
from tuneful.wire.response import Usage


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits shared by everything in a scope: task, teacher, proposer and judge alike. None is no limit.

    A limit is exceeded by no more than the calls in flight when it is reached. Cached calls cost nothing.

    Args:
        usd: US dollars. Every model used must have a known price (local models cost 0).
        tokens: tokens sent and generated.
        calls: requests to models.
        seconds: wall time.
    """

    usd: float | None = None
    tokens: int | None = None
    calls: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None and not (isinstance(value, (int, float)) and value >= 0):
                raise UsageError(f"Budget({f.name}={value!r}): a limit is a number of at least 0, or None.")

    def __str__(self) -> str:
        given = [f"{f.name}={getattr(self, f.name):g}" for f in fields(self) if getattr(self, f.name) is not None]
        return f"Budget({', '.join(given)})"


_UNLIMITED = Budget()


class Meter:
    """Counts what a scope uses, by model and phase, and refuses a request once the budget is used up. Thread-safe."""

    #: Latencies that are kept for `latency`.
    KEPT = 1000

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = budget or _UNLIMITED
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._departed = 0
        self._retries = 0
        self._total = Usage()
        self._parts: dict[tuple[str, str], Usage] = {}
        self._latencies: deque[float] | None = None

    @property
    def seconds(self) -> float:
        """Wall seconds since the scope began."""
        return time.monotonic() - self._begun

    @property
    def usage(self) -> Usage:
        """What has been used, all models together."""
        with self._lock:
            return replace(self._total, retries=self._total.retries + self._retries) if self._retries else self._total

    def by_model(self) -> dict[str, Usage]:
        """Return what has been used, by model."""
        return self._by(0)

    def by_phase(self) -> dict[str, Usage]:
        """Return what has been used, by phase, such as "search" and "comparison" of a compile; "" is outside any."""
        return self._by(1)

    def _by(self, part: int) -> dict[str, Usage]:
        found: dict[str, Usage] = {}
        with self._lock:
            for names, usage in self._parts.items():
                found[names[part]] = found.get(names[part], Usage()) + usage
        return found

    def latency(self) -> dict[str, float]:
        """Return the seconds that calls took: "median", "p95" and "longest" of the last 1,000. Empty before any."""
        with self._lock:
            ordered = sorted(self._latencies or ())
        if not ordered:
            return {}
        last = len(ordered) - 1
        return {"median": ordered[last // 2], "p95": ordered[round(0.95 * last)], "longest": ordered[-1]}

    def depart(self, model: str, *, priced: bool) -> None:
        """Note that a request is about to leave.

        Raises:
            BudgetExceeded: a limit is reached; the request must not leave.
            NotConfiguredError: there is a limit in dollars and the model has no known price.
        """
        with self._lock:
            if self.budget is not _UNLIMITED:
                if self.budget.usd is not None and not priced:
                    raise unpriced(model)
                self._check()
            self._departed += 1

    @property
    def over(self) -> bool:
        """Whether a limit is reached."""
        try:
            self.check()
        except BudgetExceeded:
            return True
        return False

    def check(self) -> None:
        """Raise BudgetExceeded where a limit is reached: for work that sends no requests, such as training."""
        with self._lock:
            self._check()

    def _check(self) -> None:
        limit, spent = self.budget, self._total
        if limit.calls is not None and self._departed >= limit.calls:
            raise _exceeded(limit, "calls", f"{self._departed} calls")
        if limit.tokens is not None and spent.total_tokens >= limit.tokens:
            raise _exceeded(limit, "tokens", f"{spent.total_tokens} tokens")
        cost = spent.cost_usd or 0.0
        if limit.usd is not None and cost > 0 and cost >= limit.usd:  # free models go on under `usd=0`
            raise _exceeded(limit, "usd", f"{cost:.4f} dollars")
        if limit.seconds is not None and self.seconds >= limit.seconds:
            raise _exceeded(limit, "seconds", f"{self.seconds:.1f} seconds")

    def stay(self) -> None:
        """Take back a `depart`: another meter in force refused the request, so it has not left."""
        with self._lock:
            self._departed -= 1

    def restore(self, usage: Usage, phase: str = "") -> None:
        """Note what a phase had used before its run was stopped, so that the budget covers the whole of it."""
        with self._lock:
            self._departed += usage.calls
            self._add("before the restart", phase, usage)

    def settle(self, model: str, usage: Usage, phase: str = "") -> None:
        """Note what a request has used."""
        with self._lock:
            self._add(model, phase, usage)
            if usage.calls:
                if self._latencies is None:
                    self._latencies = deque(maxlen=self.KEPT)
                self._latencies.append(usage.seconds / usage.calls)

    def absorb(self, other: Meter) -> None:
        """Note what another meter has counted, such as one of another process."""
        with self._lock:
            self._departed += other._departed
            self._retries += other._retries
            for (model, phase), usage in other._parts.items():
                self._add(model, phase, usage)
            if other._latencies:
                if self._latencies is None:
                    self._latencies = deque(maxlen=self.KEPT)
                self._latencies.extend(other._latencies)

    def left(self) -> Budget:
        """Return what may still be used. Raises BudgetExceeded where that is nothing."""
        with self._lock:
            self._check()
            limit, spent = self.budget, self._total
        used = {"usd": spent.cost_usd or 0.0, "tokens": spent.total_tokens, "calls": self._departed}
        used["seconds"] = self.seconds
        given = {name: getattr(limit, name) for name in used}
        return Budget(**{name: max(0, most - used[name]) for name, most in given.items() if most is not None})

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def note_retry(self) -> None:
        """Note an attempt that failed and is repeated."""
        with self._lock:
            self._retries += 1

    def _add(self, model: str, phase: str, usage: Usage) -> None:
        first = not self._parts
        self._total = usage if first else self._total + usage
        old = self._parts.get((model, phase))
        self._parts[model, phase] = usage if old is None else old + usage


def unpriced(model: str) -> NotConfiguredError:
    """Return the error for a limit in dollars on a model whose price is not known."""
    return NotConfiguredError(
        f"the budget has a limit in dollars, but the price of `{model}` is not known. "
        "Give it: tf.LM(..., price_per_million=(input_usd, output_usd)), or limit tokens or calls."
    )


def _exceeded(budget: Budget, limit: str, spent: str) -> BudgetExceeded:
    return BudgetExceeded(f"{budget} is used up: {spent} spent. Nothing more was sent.", limit=limit)
