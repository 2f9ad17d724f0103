"""Verdict: whether what a search proposes is better than the original, on rows that it never saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tuneful.evaluate.power import ALPHA
from tuneful.evaluate.statistics import Comparison, compare_all, mean_interval
from tuneful.optimize.trial import Candidate

Word = Literal["better", "not distinguishable", "no gain", "not compared", "not validated", "nothing learned"]


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

    The chance of taking noise for a gain is `ALPHA` (two-sided) over all finalists together: see `compare_all`.

    Args:
        finalists: at least one candidate.
        records: held-out records of the original, then of each finalist, row by row.
        seed: of the permutation test.
    """
    base, *others = [[r["score"] for r in column] for column in records]
    comparisons = compare_all(base, others, seed)
    top = max(range(len(finalists)), key=lambda i: (comparisons[i].better, comparisons[i].difference))
    word, advice = advise(comparisons[top], len(finalists))
    measured = Measured.of(records[0]), Measured.of(records[top + 1])
    return Verdict(word, advice, finalists[top], *measured, comparisons[top])


def advise(comparison: Comparison, finalists: int = 1) -> tuple[Word, str]:
    """Return the verdict on a comparison, the best of so many, and the sentence that explains it."""
    low, high = comparison.interval
    span = f"{100 * low:+.1f} to {100 * high:+.1f}"
    if comparison.better:
        return "better", f"better by {100 * comparison.difference:.1f} points (95 % interval {span})"
    needed = comparison.rows_to_tell(ALPHA / finalists)
    if comparison.difference > 0 and needed is not None:
        advice = (
            f"not distinguishable from the original ({100 * comparison.difference:+.1f} points, {span}), which is "
            f"returned: about {max(1, needed - comparison.n)} more held-out rows would tell"
        )
        return "not distinguishable", advice
    return "no gain", f"no gain ({100 * comparison.difference:+.1f} points, {span}): the original is returned"
