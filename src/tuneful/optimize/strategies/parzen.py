"""Parzen: new points of a space, near those that did well and far from those that did not. Needs no library.

Source: Bergstra et al. (2011), "Algorithms for Hyper-Parameter Optimization", section 4. Deviation: a point is drawn
near a good one as a whole, so that choices which go together stay together (one product kernel for each point).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

#: Probability that a point near another one has its option on an axis.
_STAY = 0.6
#: Share of the points that are good ones.
_GOOD = 0.25
#: Points that are drawn for each that is proposed.
_DRAWN = 24

Point = dict[str, int]


def propose(
    sizes: Mapping[str, int], points: Sequence[Point], scores: Sequence[float], n: int, rng: random.Random
) -> list[Point]:
    """Return up to n new points, none of them tried; fewer where the space has no more.

    Args:
        sizes: number of options, by axis.
        points: what was tried.
        scores: what each of them gave, more being better.
        n: how many to propose at once.
        rng: where chance comes from.
    """
    order = sorted(range(len(points)), key=lambda i: (-scores[i], i))
    cut = max(1, math.ceil(_GOOD * len(order)))
    good, bad = [points[i] for i in order[:cut]], [points[i] for i in order[cut:]]
    known = [*points]
    found: list[Point] = []
    for _ in range(n):
        drawn = [_near(sizes, rng.choice(good), rng) for _ in range(_DRAWN)]
        fresh = [point for point in drawn if point not in known]
        if not fresh:
            continue
        best = max(fresh, key=lambda point: _density(sizes, good, point) - _density(sizes, bad, point))
        found.append(best)
        known.append(best)
    return found


def _near(sizes: Mapping[str, int], point: Point, rng: random.Random) -> Point:
    return {
        name: point[name] if size == 1 or rng.random() < _STAY else rng.randrange(size) for name, size in sizes.items()
    }


def _density(sizes: Mapping[str, int], points: Sequence[Point], at: Point) -> float:
    """Return the logarithm of the density of points at one; every option has its share beforehand."""
    uniform = math.prod(1 / size for size in sizes.values())
    total = uniform + sum(
        math.prod(_STAY * (at[name] == point[name]) + (1 - _STAY) / size for name, size in sizes.items())
        for point in points
    )
    return math.log(total / (len(points) + 1))
