"""What a score is worth: intervals, and paired comparisons on the same examples. Standard library only."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

_Z = NormalDist().inv_cdf(0.975)

#: Random sign flips of the permutation test; its p-value is exact to about 0.004 near 0.05.
_FLIPS = 4000


def t_quantile(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t, by the expansion of Cornish and Fisher about the normal one."""
    if degrees == 1:
        return 12.7062
    if degrees == 2:
        return 4.3027
    z, n = _Z, degrees
    z3, z5, z7 = z**3, z**5, z**7
    return (
        z
        + (z3 + z) / (4 * n)
        + (5 * z5 + 16 * z3 + 3 * z) / (96 * n**2)
        + (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * n**3)
    )


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a 95 % interval of the mean.

    Wilson's interval for values that are all 0 or 1 (Wilson, 1927), Student's otherwise. With fewer than two values
    nothing is known: (-inf, inf).
    """
    n = len(values)
    if n < 2:
        return (-math.inf, math.inf)
    mean = fmean(values)
    if all(v in (0, 1) for v in values):
        centre = (mean + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * math.sqrt(mean * (1 - mean) / n + _Z**2 / (4 * n * n))
        return (max(0.0, centre - half), min(1.0, centre + half))
    half = t_quantile(n - 1) * stdev(values) / math.sqrt(n)
    return (mean - half, mean + half)


@dataclass(frozen=True)
class Comparison:
    """Two programs on the same examples.

    Args:
        difference: mean of (other - base), in score units.
        interval: 95 % interval of the difference.
        p_value: two-sided, from random sign flips of the differences (Fisher's paired permutation test).
        n: examples that both have a score for.
        wins, losses: examples where the other scores more, and less.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    n: int
    wins: int
    losses: int

    @property
    def better(self) -> bool:
        """Whether the other is better beyond noise, at the 95 % level."""
        return self.is_better_at(0.05)

    def is_better_at(self, alpha: float) -> bool:
        """Say whether the other is better beyond noise, at a level that you choose."""
        return self.difference > 0 and self.p_value <= alpha

    def rows_to_tell(self) -> int | None:
        """Return about how many rows would tell a difference of this size from noise, or None where there is none."""
        if self.n < 2 or self.difference == 0:
            return None
        spread = (self.interval[1] - self.interval[0]) / 2 / t_quantile(self.n - 1) * math.sqrt(self.n)
        power_z = NormalDist().inv_cdf(0.8)
        return math.ceil(((_Z + power_z) * spread / self.difference) ** 2)

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.difference:+.3f} (95 % interval {low:+.3f} to {high:+.3f}, p = {self.p_value:.3f}, "
            f"n = {self.n}, {self.wins} wins, {self.losses} losses)"
        )


def compare(base: Sequence[float], other: Sequence[float], seed: int = 0) -> Comparison:
    """Compare two lists of scores, paired by position."""
    differences = [b - a for a, b in zip(base, other, strict=True)]
    n = len(differences)
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    if n < 2:
        return Comparison(fmean(differences) if n else 0.0, (-math.inf, math.inf), 1.0, n, wins, losses)
    mean = fmean(differences)
    half = t_quantile(n - 1) * stdev(differences) / math.sqrt(n)
    return Comparison(mean, (mean - half, mean + half), _sign_flip_p(differences, seed), n, wins, losses)


def _sign_flip_p(differences: Sequence[float], seed: int) -> float:
    sizes = [abs(d) for d in differences if d]
    if not sizes:
        return 1.0
    observed = abs(sum(d for d in differences))
    k, slack = len(sizes), 1e-9
    if k <= 12:  # every assignment of signs
        totals = [0.0]
        for size in sizes:
            totals = [t + s for t in totals for s in (size, -size)]
        return sum(abs(t) >= observed - slack for t in totals) / len(totals)
    rng = random.Random(seed)
    whole = sum(sizes)
    extreme = 0
    for _ in range(_FLIPS):
        bits = rng.getrandbits(k)
        negative = sum(size for i, size in enumerate(sizes) if bits >> i & 1)
        extreme += abs(whole - 2 * negative) >= observed - slack
    return (extreme + 1) / (_FLIPS + 1)
