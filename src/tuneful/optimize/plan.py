"""Plan: what a compile will take, before any call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tuneful.backends.models import Price

#: Characters of English text in a token.
_CHARS_PER_TOKEN = 4


@dataclass(frozen=True)
class Phase:
    """One phase of a compile: its fewest and most rollouts, calls and prompt tokens (prefix cache not deducted)."""

    name: str
    rollouts: tuple[int, int]
    calls: tuple[int, int]
    prompt_tokens: tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """The phases of a compile. Calls assume that `forward` asks each predictor once."""

    phases: tuple[Phase, ...]
    price: Price | None

    def total(self, what: str) -> tuple[int, int]:
        """Return the sum of "rollouts", "calls" or "prompt_tokens" over the phases, as a range."""
        pairs = [getattr(p, what) for p in self.phases]
        return (sum(a for a, _ in pairs), sum(b for _, b in pairs))

    @property
    def usd(self) -> tuple[float, float] | None:
        """US dollars for the prompt tokens, as a range; None where the price is not known."""
        if self.price is None:
            return None
        low, high = self.total("prompt_tokens")
        return (self.price.cost_usd(low, 0, 0), self.price.cost_usd(high, 0, 0))

    def __str__(self) -> str:
        rows = [("phase", "rollouts", "calls", "prompt tokens")]
        rows += [(p.name, _span(p.rollouts), _span(p.calls), _span(p.prompt_tokens)) for p in self.phases]
        total = [_span(self.total(w)) for w in ("rollouts", "calls", "prompt_tokens")]
        rows.append(("total", total[0], total[1], total[2]))
        widths = [max(len(r[i]) for r in rows) for i in range(4)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)).rstrip() for r in rows]
        cost = "price unknown" if self.usd is None else f"${self.usd[0]:.4f} to ${self.usd[1]:.4f} for prompt tokens"
        return "\n".join([*lines, f"cost: {cost} (estimated from {_CHARS_PER_TOKEN} characters a token)"])


def _span(pair: tuple[int, int]) -> str:
    return f"{pair[0]:,}" if pair[0] == pair[1] else f"{pair[0]:,} to {pair[1]:,}"


def tokens_of(messages: Any) -> int:
    """Return the estimated length of messages in tokens."""
    return sum(len(m.text) for m in messages) // _CHARS_PER_TOKEN
