"""Verdict: whether what a search proposes is better than the original, on rows that it never saw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tuneful.evaluate.power import ALPHA, rows_needed
from tuneful.evaluate.statistics import Comparison, compare_all, mean_interval
from tuneful.optimize.objectives import NONE, SHOWN, Cost, Objectives, costs_line, mean_costs
from tuneful.optimize.trial import Candidate

Word = Literal[
    "better", "not worse", "not distinguishable", "no gain", "not compared", "not validated", "nothing learned"
]


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
class Weighed:
    """A program that was compared: the candidate's values, its scores, and what a run takes (see `Objectives`)."""

    candidate: Candidate
    measured: Measured
    costs: dict[Cost, float | None]

    def cost(self, names: Sequence[Cost]) -> tuple[float, ...]:
        """Return some of its costs; one that is not known is the worst."""
        return tuple(math.inf if (c := self.costs.get(name)) is None else c for name in names)

    def __str__(self) -> str:
        low, high = self.measured.interval
        score = f"{100 * self.measured.mean:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        return ", ".join(filter(None, [score, costs_line(self.costs, SHOWN)]))


@dataclass(frozen=True)
class Verdict:
    """What the comparison came to.

    Args:
        verdict: "better"; "not worse" (as good as the original, and cheaper, or in its place); "not distinguishable" or
            "no gain" (the original is returned); "not compared" (too few rows have a score of both, or none: the
            original is returned); "not validated" (nothing to compare with: the candidate is returned as it is);
            "nothing learned" (there is no candidate).
        advice: the verdict as a sentence.
        candidate: the best candidate's values by parameter path, returned or not.
        baseline, best: the original and the best candidate on the held-out rows; None where not measured.
        comparison: the paired comparison of the two.
        weighed: the original, then every finalist; none where nothing was measured.
    """

    verdict: Word
    advice: str
    candidate: Candidate
    baseline: Measured | None = None
    best: Measured | None = None
    comparison: Comparison | None = None
    weighed: list[Weighed] = field(default_factory=list)


def judge(
    finalists: Sequence[Candidate],
    records: Sequence[Sequence[Mapping[str, Any]]],
    seed: int,
    objectives: Objectives = NONE,
    *,
    replacing: bool = False,
) -> Verdict:
    """Return the verdict on finalists.

    The chance of taking noise for a gain is `ALPHA` (two-sided) over all finalists together: see `compare_all`. Where
    costs are to be kept low, or the original is to be replaced, one that is not better may do as well: the interval of
    its difference lies above minus the margin (a test of non-inferiority).

    Args:
        finalists: at least one candidate.
        records: held-out records of the original, then of each finalist, row by row.
        seed: of the permutation test.
        objectives: what counts beside the metric.
        replacing: whether the original is to be replaced, so that one that is not worse need not be cheaper.
    """
    weighed = [Weighed(c, Measured.of(r), mean_costs(r)) for c, r in zip([{}, *finalists], records, strict=True)]
    scores = [[r["score"] for r in column] for column in records]
    comparisons = compare_all(scores[0], scores[1:], seed)
    costs = [one.cost(objectives.minimized) for one in weighed]
    good = [
        i
        for i, c in enumerate(comparisons, 1)
        if c.better or (_as_good(c, objectives) and (replacing or costs[i] < costs[0]))
    ]
    if good:
        best = max(good, key=lambda i: comparisons[i - 1].difference)
        to_best = compare_all(scores[best], [scores[i] for i in good], seed)
        equals = [i for i, c in zip(good, to_best, strict=True) if i == best or _as_good(c, objectives)]
        chosen = min(equals, key=lambda i: (costs[i], -comparisons[i - 1].difference))
    else:
        chosen = min(range(1, len(scores)), key=lambda i: (-comparisons[i - 1].difference, costs[i]))
    comparison = comparisons[chosen - 1]
    word: Word
    if comparison.n < 2:
        scored = f"{comparison.n} held-out row{'s' * (comparison.n != 1)} with a score of both"
        word, advice = "not compared", f"not compared: {scored} tell nothing; the original is returned"
    elif good and not comparison.better:
        word, advice = _not_worse(comparison, weighed[0], weighed[chosen], objectives)
    elif not good and (replacing or (comparison.difference <= 0 and costs[chosen] < costs[0])):
        word, advice = _not_replaced(comparison, objectives)
    else:
        word, advice = advise(comparison, len(finalists))
    one = weighed[chosen]
    return Verdict(word, advice, one.candidate, weighed[0].measured, one.measured, comparison, weighed)


def _as_good(comparison: Comparison, objectives: Objectives) -> bool:
    return comparison.n > 1 and comparison.interval[0] >= -objectives.margin


def _span(comparison: Comparison) -> str:
    low, high = comparison.interval
    return f"{100 * comparison.difference:+.1f} points, {100 * low:+.1f} to {100 * high:+.1f}"


def _not_worse(comparison: Comparison, old: Weighed, new: Weighed, objectives: Objectives) -> tuple[Word, str]:
    within = f"not worse by more than {100 * objectives.margin:g} points ({_span(comparison)})"
    if not objectives.minimized:
        return "not worse", within
    before, now = (costs_line(one.costs, objectives.minimized) for one in (old, new))
    return "not worse", f"{within}: {now} a run instead of {before}"


def _not_replaced(comparison: Comparison, objectives: Objectives) -> tuple[Word, str]:
    """Return the verdict where nothing may take the original's place."""
    if comparison.difference < 0 and comparison.p_value <= ALPHA:
        return "no gain", f"worse ({_span(comparison)}): the program as it was is returned"
    gap = comparison.difference + objectives.margin
    spread = max(comparison.spread, objectives.margin)  # were it worse by the margin, so many rows would differ
    needed = rows_needed(gap, spread) if gap > 0 else None
    more = f": about {max(1, needed - comparison.n)} more held-out rows would tell" if needed is not None else ""
    return "not distinguishable", (
        f"not shown to be as good, within {100 * objectives.margin:g} points ({_span(comparison)}): the program as it "
        f"was is returned{more}"
    )


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
