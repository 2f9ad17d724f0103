"""Front: what is best by several measures at once, and which candidates are best on which rows.

Source: Pareto dominance; parents by instance as in Agrawal et al. (2025), "GEPA: Reflective Prompt Evolution Can
Outperform Reinforcement Learning", algorithm 2. Deviations: rows on which all are alike do not count; what is covered
is looked at from the weakest on, each time among those that are left, so that of equal candidates the first stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Say whether one is at least as good by all measures, and better by one. More is better."""
    return all(a >= b for a, b in zip(one, other, strict=True)) and any(a > b for a, b in zip(one, other, strict=True))


def front(measures: Sequence[Sequence[float]]) -> list[int]:
    """Return the indices of those that nothing dominates, in order; of equal ones the first.

    >>> front([(0.5, -10), (0.6, -20), (0.4, -30), (0.6, -20)])
    [0, 1]
    """
    return [
        i
        for i, own in enumerate(measures)
        if not any(dominates(other, own) for other in measures) and list(measures).index(own) == i
    ]


def wins(scores: Sequence[Mapping[int, float]]) -> list[int]:
    """Return on how many rows each candidate is among the best, where those do not count that others cover.

    A candidate is covered where others are among the best on each of the rows on which it is; so a candidate that is
    best on nothing of its own is no parent. Covered ones win 0 rows. Rows on which all that were run score alike tell
    nothing of who is best, and nobody wins them: else whoever was run on a row alone would win it.

    >>> wins([{0: 1.0, 1: 0.0, 2: 1.0}, {0: 0.0, 1: 1.0, 2: 1.0}, {0: 0.0, 1: 0.0, 2: 1.0}])
    [1, 1, 0]

    Args:
        scores: of each candidate, by row. A row that a candidate was not run on, it does not win.

    Returns:
        A number for each; all are 0 where no row tells anything.
    """
    rows = dict.fromkeys(row for own in scores for row in own)
    ran = {row: {i: own[row] for i, own in enumerate(scores) if row in own} for row in rows}
    best = {
        row: {i for i, score in found.items() if score == max(found.values())}
        for row, found in ran.items()
        if len(set(found.values())) > 1
    }
    standing = set(range(len(scores)))
    mean = [fmean(own.values()) if own else float("-inf") for own in scores]
    for i in sorted(standing, key=lambda i: (mean[i], -i)):  # the weakest go first; of equal ones the later
        if all(len(who & standing) > 1 for who in best.values() if i in who):
            standing.discard(i)
    return [sum(i in who for who in best.values()) if i in standing else 0 for i in range(len(scores))]
