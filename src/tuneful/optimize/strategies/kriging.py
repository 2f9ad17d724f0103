"""Kriging: what points of a space are worth, from the scores of all points that share options with them.

A candidate that was run on few rows says little by itself. Points that have an option in common say something of one
another: this is a Gaussian process whose covariance is the share of axes (and of pairs of axes) on which two points
agree, so what is known of an option from all points that have it counts, and what goes together only is found too.

Source: Rasmussen and Williams (2006), "Gaussian Processes for Machine Learning", sections 2.2 and 5.4 (the likelihood
chooses the covariance, here from a few); Srinivas et al. (2010), "Gaussian Process Optimization in the Bandit Setting",
for what is tried next. Needs no library.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuneful.optimize.space import Point

#: How alike two options are that are both a change, as against the same option (1) and a change and none (0).
_BOTH_CHANGED = 0.5
#: Shares of what points differ by that come from single options, from pairs of them, and from the point itself.
_MIXES = ((0.8, 0.1, 0.1), (0.4, 0.4, 0.2), (0.2, 0.2, 0.6))
#: Standard deviations of what points are worth, as shares of the range of scores.
_SPREADS = (0.02, 0.06, 0.12, 0.25)
#: Standard deviations above the mean that a point is hoped to be worth.
_HOPE = 1.0
#: Points that are drawn for each that is proposed.
_DRAWN = 24
#: Probability that a point near another one has its option on an axis.
_STAY = 0.6


@dataclass(frozen=True)
class Surrogate:
    """What is believed of points.

    Args:
        points: those that were run.
        weights: what each of them adds to another one's mean, by their covariance.
        factor: the lower triangle of the covariances of what was observed.
        mix: shares of single options, pairs and points in the covariance.
        variance: of what points are worth.
        centre: the mean of what was observed.
    """

    points: Sequence[Point]
    weights: list[float]
    factor: list[list[float]]
    mix: tuple[float, float, float]
    variance: float
    centre: float

    def at(self, point: Point) -> tuple[float, float]:
        """Return the mean and the standard deviation of what a point is worth."""
        shared = [self.variance * _alike(point, other, self.mix) for other in self.points]
        mean = self.centre + sum(k * w for k, w in zip(shared, self.weights, strict=True))
        known = sum(z * z for z in _forward(self.factor, shared))
        return mean, math.sqrt(max(0.0, self.variance - known))


def fitted(points: Sequence[Point], scores: Sequence[float], noise: Sequence[float], span: float = 1.0) -> Surrogate:
    """Return what is believed after scores.

    Args:
        points: what was run, at least one, each with an option for every axis, 0 where it changes nothing.
        scores: the mean score of each.
        noise: the variance of each such mean.
        span: the range of scores.
    """
    centre = sum(scores) / len(scores)
    off = [score - centre for score in scores]
    tried = [_with(points, off, noise, mix, (spread * span) ** 2) for mix in _MIXES for spread in _SPREADS]
    _, factor, weights, mix, variance = max(tried, key=lambda one: one[0])
    return Surrogate(points, weights, factor, mix, variance, centre)


def propose(sizes: Mapping[str, int], known: Surrogate, n: int, rng: random.Random) -> list[Point]:
    """Return up to n new points, none of them tried; fewer where the space has no more.

    Args:
        sizes: number of options, by axis.
        known: what is believed so far.
        n: how many to propose at once.
        rng: where chance comes from.
    """
    best = sorted(known.points, key=lambda point: -known.at(point)[0])[: max(1, len(known.points) // 4)]
    seen, found = list(known.points), []
    for _ in range(n):
        drawn = [_near(sizes, rng.choice(best), rng) for _ in range(_DRAWN)]
        fresh = [point for point in drawn if point not in seen]
        if fresh:
            found.append(max(fresh, key=lambda point: _hoped(known.at(point))))
            seen.append(found[-1])
    return found


def _hoped(belief: tuple[float, float]) -> float:
    mean, deviation = belief
    return mean + _HOPE * deviation


def _near(sizes: Mapping[str, int], point: Point, rng: random.Random) -> Point:
    return {
        name: point[name] if size == 1 or rng.random() < _STAY else rng.randrange(size) for name, size in sizes.items()
    }


def _alike(one: Point, other: Point, mix: tuple[float, float, float]) -> float:
    """Return the correlation of what two points are worth."""
    if one == other:
        return 1.0
    shares = [1.0 if one[a] == other[a] else _BOTH_CHANGED if one[a] and other[a] else 0.0 for a in one]
    n, total = len(shares), sum(shares)
    pairs = (total**2 - sum(s * s for s in shares)) / (n * (n - 1)) if n > 1 else 0.0
    return mix[0] * total / n + mix[1] * pairs


def _with(
    points: Sequence[Point],
    off: Sequence[float],
    noise: Sequence[float],
    mix: tuple[float, float, float],
    variance: float,
) -> tuple[float, list[list[float]], list[float], tuple[float, float, float], float]:
    """Return the log likelihood of scores, and what predictions need: for one covariance."""
    factor = _cholesky(
        [
            [variance * _alike(p, q, mix) + (noise[i] if i == j else 0.0) for j, q in enumerate(points[: i + 1])]
            for i, p in enumerate(points)
        ]
    )
    half = _forward(factor, off)
    likelihood = -0.5 * sum(z * z for z in half) - sum(math.log(row[-1]) for row in factor)
    return likelihood, factor, _backward(factor, half), mix, variance


def _cholesky(lower: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the factor of a matrix that is given by its lower triangle."""
    factor: list[list[float]] = []
    for i, row in enumerate(lower):
        done: list[float] = []
        for j in range(i):
            dot = sum(a * b for a, b in zip(done, factor[j], strict=False))
            done.append((row[j] - dot) / factor[j][j])
        done.append(math.sqrt(max(1e-12, row[i] - sum(a * a for a in done))))
        factor.append(done)
    return factor


def _forward(factor: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    solved: list[float] = []
    for row, value in zip(factor, values, strict=True):
        solved.append((value - sum(a * b for a, b in zip(row, solved, strict=False))) / row[-1])
    return solved


def _backward(factor: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    n = len(values)
    solved = [0.0] * n
    for i in reversed(range(n)):
        later = sum(factor[j][i] * solved[j] for j in range(i + 1, n))
        solved[i] = (values[i] - later) / factor[i][i]
    return solved
