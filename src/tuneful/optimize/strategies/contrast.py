"""Contrast: on which rows several runs differ most, and picking by score. Pure functions.

Source: the buckets of DSPy's SIMBA, which has no paper.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

Run = Mapping[str, Any]


def buckets(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs by row, the best first; the rows where best and worst differ most come first.

    Then come those with the higher best score, then those where the best is further above the mean.

    >>> scored = [(0, 1.0), (0, 1.0), (1, 0.0), (1, 1.0), (2, 0.0)]
    >>> [[run["score"] for run in row] for row in buckets([{"row": r, "score": s} for r, s in scored])]
    [[1.0, 0.0], [1.0, 1.0], [0.0]]

    Args:
        runs: each with `row` and `score`.
    """
    rows = dict.fromkeys(run["row"] for run in runs)
    found = [sorted((r for r in runs if r["row"] == row), key=lambda r: -r["score"]) for row in rows]

    def worth(own: list[Run]) -> tuple[float, float, float]:
        best = own[0]["score"]
        return (best - own[-1]["score"], best, best - fmean(r["score"] for r in own))

    return sorted(found, key=worth, reverse=True)


def low(runs: Sequence[Run], share: float = 0.1) -> float:
    """Return the score that a share of the runs does not exceed."""
    return float(sorted(r["score"] for r in runs)[int(share * (len(runs) - 1))])


def pick(scores: Sequence[float], temperature: float, rng: random.Random) -> int:
    """Return an index at random, more often where the score is higher.

    Args:
        scores: one for each; their unit is 1, or the largest of them where that is more.
        temperature: near 0 the best is picked; the higher, the more alike the odds are.
        rng: where chance comes from.
    """
    unit = max(1.0, *map(abs, scores)) * temperature
    top = max(scores)
    return rng.choices(range(len(scores)), [math.exp((s - top) / unit) for s in scores])[0]


def poisson(mean: float, rng: random.Random) -> int:
    """Return a Poisson number, by counting exponential waits."""
    count, waited = 0, rng.expovariate(1.0)
    while waited < mean:
        count, waited = count + 1, waited + rng.expovariate(1.0)
    return count
