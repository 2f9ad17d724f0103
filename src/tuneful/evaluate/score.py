"""Score: what a metric says about one prediction."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Score:
    """The value of a prediction, with words about it.

    Args:
        value: larger is better; from 0 to 1 unless you have a reason.
        feedback: what was wrong, in words; teleprompters that reflect read it.
        parts: values of its parts, by name.
    """

    value: float
    feedback: str | None = None
    parts: dict[str, float] = field(default_factory=dict)

    def __float__(self) -> float:
        return float(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)
