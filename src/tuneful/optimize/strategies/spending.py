"""Spending: what rollouts have cost so far, as JSON, and how many more a budget has room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneful.optimize.trial import Brief, Outcome, State, Trial

#: Programs that the comparison runs on each held-out row: the original and two others.
_COMPARED = 3


def start() -> State:
    """Return the state in which nothing is spent."""
    return {"rollouts": 0, "paid": 0, "calls": 0, "tokens": 0, "usd": 0.0}


def after(state: Mapping[str, Any], results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
    """Return the state after the results of trials."""
    found = dict(state)
    for _, outcomes in results:
        for used in (o.detail["usage"] for o in outcomes):
            found["rollouts"] += 1
            found["paid"] += bool(used["calls"])
            found["calls"] += used["calls"]
            found["tokens"] += used["prompt_tokens"] + used["completion_tokens"]
            found["usd"] += used["cost_usd"] or 0.0
    return found


def room(state: Mapping[str, Any], brief: Brief) -> int | None:
    """Return about how many rollouts the search may have in all, the comparison left out; None is no limit.

    Known from what rollouts have cost so far: with none yet, nothing is known. Seconds do not count here.
    """
    if not state["paid"]:
        return None
    found = []
    for name in ("calls", "tokens", "usd"):
        limit, each = getattr(brief.budget, name), state[name] / state["paid"]
        if limit is not None and each > 0:
            found.append(int(limit / each) - _COMPARED * brief.held_out)
    return min(found, default=None)
