"""Verdict: whether what a search proposes is better than the original, on rows that it never saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tuneful.evaluate.statistics import Comparison, compare, mean_interval
from tuneful.optimize.trial import Candidate

Word = Literal["better", "not distinguishable", "no gain", "not compared", "not validated", "nothing learned"]

#: Chance of taking noise for a gain, over all finalists together (two-sided).
ALPHA = 0.05


@dataclass(frozen=True)
class Measured:
    """A program's scores on the held-out rows.

    Args:
        mean: mean score, in the metric's units.
        interval: its 95 % interval.
        n: rows that count.
        statuses: how the rows ended, by status.
    """

    mean: float
    interval: tuple[float, float]
    n: int
    statuses: dict[str, int]

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]]) -> Measured:
        """Sum up journal records."""
        scores = [r["score"] for r in records if r["score"] is not None]
        mean = sum(scores) / len(scores) if scores else float("nan")
        return cls(mean, mean_interval(scores), len(scores), dict(Counter(r["status"] for r in records)))

    def __str__(self) -> str:
        low, high = self.interval
        odd = ", ".join(f"{v} {k}" for k, v in self.statuses.items() if k != "ok")
        return f"{100 * self.mean:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f}, n = {self.n}" + (
            f"; {odd})" if odd else ")"
        )


@dataclass(frozen=True)
class Verdict:
    """What the comparison came to.

    Args:
        verdict: "better"; "not distinguishable" or "no gain" (the original is returned); "not compared" (the budget
            ended first: the original is returned); "not validated" (nothing to compare with: the candidate is
            returned as it is); "nothing learned" (there is no candidate).
        advice: the verdict as a sentence.
        candidate: the best candidate's values by parameter path, returned or not.
        baseline, best: the original and the best candidate on the held-out rows; None where not measured.
        comparison: the paired comparison of the two.
    """

    verdict: Word
    advice: str
    candidate: Candidate
    baseline: Measured | None = None
    best: Measured | None = None
    comparison: Comparison | None = None


def judge(finalists: Sequence[Candidate], records: Sequence[Sequence[Mapping[str, Any]]], seed: int) -> Verdict:
    """Return the verdict on finalists.

    Args:
        finalists: at least one candidate.
        records: held-out records of the original, then of each finalist, row by row.
        seed: of the permutation test.
    """
    comparisons = [_paired(records[0], column, seed) for column in records[1:]]
    top = max(range(len(finalists)), key=lambda i: comparisons[i].difference)
    word, advice = advise(comparisons[top], ALPHA / len(finalists))
    measured = Measured.of(records[0]), Measured.of(records[top + 1])
    return Verdict(word, advice, finalists[top], *measured, comparisons[top])


def _paired(base: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], seed: int) -> Comparison:
    pairs = [
        (a["score"], b["score"])
        for a, b in zip(base, other, strict=True)
        if a["score"] is not None and b["score"] is not None
    ]
    return compare([a for a, _ in pairs], [b for _, b in pairs], seed)


def advise(comparison: Comparison, alpha: float) -> tuple[Word, str]:
    """Return the verdict on a comparison and the sentence that explains it."""
    low, high = comparison.interval
    span = f"{100 * low:+.1f} to {100 * high:+.1f}"
    if comparison.is_better_at(alpha):
        return "better", f"better by {100 * comparison.difference:.1f} points (95 % interval {span})"
    more = comparison.rows_to_tell()
    if comparison.difference > 0 and more is not None:
        advice = (
            f"not distinguishable from the original ({100 * comparison.difference:+.1f} points, {span}), which is "
            f"returned: about {max(1, more - comparison.n)} more held-out rows would tell"
        )
        return "not distinguishable", advice
    return "no gain", f"no gain ({100 * comparison.difference:+.1f} points, {span}): the original is returned"
