"""Front: what is best by several measures at once, and which candidates are best on which rows.

Source: Pareto dominance; parents by instance as in Agrawal et al. (2025), "GEPA: Reflective Prompt Evolution Can
Outperform Reinforcement Learning", algorithm 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


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
    """Return on how many rows each candidate is among the best, where those do not count that another one covers.

    A candidate is covered where others are among the best on each of the rows on which it is; so a candidate that is
    best on nothing of its own is no parent. Covered ones win 0 rows.

    >>> wins([{0: 1.0, 1: 0.0, 2: 1.0}, {0: 0.0, 1: 1.0, 2: 1.0}, {0: 0.0, 1: 0.0, 2: 1.0}])
    [2, 2, 0]

    Args:
        scores: of each candidate, by row. A row that a candidate was not run on, it does not win.
    """
    best = {row: max(own[row] for own in scores if row in own) for row in {r for own in scores for r in own}}
    winners = {row: {i for i, own in enumerate(scores) if own.get(row) == high} for row, high in best.items()}
    standing = set(range(len(scores)))
    total = {i: sum(own.values()) / max(1, len(own)) for i, own in enumerate(scores)}
    for i in sorted(standing, key=lambda i: (total[i], -i)):
        mine = [row for row, who in winners.items() if i in who]
        if all(len(winners[row] & standing) > 1 for row in mine):
            standing.discard(i)
    return [sum(i in who for who in winners.values()) if i in standing else 0 for i in range(len(scores))]
