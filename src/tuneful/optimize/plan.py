"""Plan: what a compile will take, before any call; afterwards, what it took against what was planned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tuneful.wire.response import Usage

#: Fewest and most of something.
Range = tuple[int, int]


@dataclass(frozen=True)
class Phase:
    """One phase of a compile, in ranges.

    Args:
        name: "search" or "comparison", as `Meter.by_phase` has them.
        rollouts: runs of the program.
        calls: calls of models.
        prompt_tokens: tokens sent; what a prefix cache may serve is not deducted.
        completion_tokens: tokens generated.
        usd: US dollars, or None where a price is not known.
    """

    name: str
    rollouts: Range
    calls: Range
    prompt_tokens: Range
    completion_tokens: Range
    usd: tuple[float, float] | None


@dataclass(frozen=True)
class Plan:
    """The phases of a compile, and what the figures rest on (`assumptions`, as sentences)."""

    phases: tuple[Phase, ...]
    assumptions: tuple[str, ...] = field(default=())

    def total(self, what: str) -> Range:
        """Return the sum of "rollouts", "calls", "prompt_tokens" or "completion_tokens", as a range."""
        pairs = [getattr(p, what) for p in self.phases]
        return (sum(a for a, _ in pairs), sum(b for _, b in pairs))

    @property
    def usd(self) -> tuple[float, float] | None:
        """US dollars, as a range; None where a price is not known."""
        costs = [p.usd for p in self.phases]
        known = [c for c in costs if c is not None]
        return (sum(a for a, _ in known), sum(b for _, b in known)) if len(known) == len(costs) else None

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("phase", "rollouts", "calls", "prompt tokens", "completion tokens", "dollars")]
        rows += [
            (p.name, *map(_span, (p.rollouts, p.calls, p.prompt_tokens, p.completion_tokens)), _usd(p.usd))
            for p in self.phases
        ]
        totals = [_span(self.total(w)) for w in ("rollouts", "calls", "prompt_tokens", "completion_tokens")]
        rows.append(("total", totals[0], totals[1], totals[2], totals[3], _usd(self.usd)))
        return "\n".join([table(rows), *(f"({a})" for a in self.assumptions)])

    def against(self, phases: Mapping[str, Usage]) -> list[tuple[str, ...]]:
        """Return the rows of a table, the head first: what was planned, and what each phase has used.

        Args:
            phases: usage by phase, as `Meter.by_phase` gives it.
        """
        rows: list[tuple[str, ...]] = [("phase", "", "calls", "prompt tokens", "completion tokens", "dollars")]
        planned = {p.name: p for p in self.phases}
        for name in dict.fromkeys([*planned, *phases]):
            used = phases.get(name, Usage())
            spent = "unknown" if used.cost_usd is None else _dollars(used.cost_usd)
            if name in planned:
                p = planned[name]
                told = map(_span, (p.calls, p.prompt_tokens, p.completion_tokens))
                rows.append((name, "planned", *told, _usd(p.usd)))
            counts = (f"{n:,}" for n in (used.calls, used.prompt_tokens, used.completion_tokens))
            rows.append(("" if name in planned else name or "other", "actual", *counts, spent))
        return rows


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text, in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)).rstrip() for r in rows)


def _span(pair: Range) -> str:
    return f"{pair[0]:,}" if pair[0] == pair[1] else f"{pair[0]:,} to {pair[1]:,}"


def _usd(pair: tuple[float, float] | None) -> str:
    if pair is None:
        return "unknown"
    return _dollars(pair[0]) if pair[0] == pair[1] else f"{_dollars(pair[0])} to {_dollars(pair[1])}"


def _dollars(amount: float) -> str:
    return f"${amount:.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"
