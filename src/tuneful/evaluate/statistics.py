"""What a score is worth: intervals, and paired comparisons on the same examples. Standard library only."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from tuneful.evaluate.power import ALPHA, rows_needed

_Z = NormalDist().inv_cdf(0.975)

#: Random sign flips of the permutation test; its p-value is exact to about 0.004 near 0.05.
_FLIPS = 4000

#: Up to so many rows that differ, every assignment of signs is tried.
_EXACT = 12


def t_quantile(degrees: int, alpha: float = ALPHA) -> float:
    """Return the quantile of Student's t that is exceeded, on either side, with probability alpha.

    Exact for 1 and 2 degrees of freedom; otherwise by the expansion of Cornish and Fisher about the normal one.
    """
    if degrees == 1:
        return 1 / math.tan(math.pi * alpha / 2)
    if degrees == 2:
        return (1 - alpha) * math.sqrt(2 / (alpha * (2 - alpha)))
    z, n = NormalDist().inv_cdf(1 - alpha / 2), degrees
    z3, z5, z7 = z**3, z**5, z**7
    return (
        z
        + (z3 + z) / (4 * n)
        + (5 * z5 + 16 * z3 + 3 * z) / (96 * n**2)
        + (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * n**3)
    )


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a 95 % interval of the mean.

    Wilson's interval for values that are all 0 or 1 (Wilson, 1927). For other values between 0 and 1 the same, with
    as many rows as would give right-or-wrong values their variance: Student's is far too narrow where most values are
    0 or 1 and a few lie between (its 95 % are 61 % for 10 values of which nine tenths are 1). Student's elsewhere.
    With fewer than two values nothing is known: (-inf, inf).
    """
    n = len(values)
    if n < 2:
        return (-math.inf, math.inf)
    mean = fmean(values)
    if all(v in (0, 1) for v in values):
        return _wilson(mean, n, _Z)
    if all(0 <= v <= 1 for v in values):
        towards_half = (sum(values) + 1) / (n + 2)  # one more row, in doubt: a few equal values do not prove certainty
        variance = (sum((v - mean) ** 2 for v in values) + towards_half * (1 - towards_half)) / n
        return _wilson(mean, n * max(1.0, mean * (1 - mean) / variance), t_quantile(n - 1))
    half = t_quantile(n - 1) * stdev(values) / math.sqrt(n)
    return (mean - half, mean + half)


def _wilson(mean: float, n: float, z: float) -> tuple[float, float]:
    centre = (mean + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(mean * (1 - mean) / n + z**2 / (4 * n * n))
    return (max(0.0, centre - half), min(1.0, centre + half))


@dataclass(frozen=True)
class Comparison:
    """Two programs on the same examples.

    Where several are compared with the same base, interval and p-value allow for their number: they hold for all of
    them together, so also for the one that looks best.

    Args:
        difference: mean of (other - base), in score units.
        interval: 95 % interval of the difference; 0 is in it where the p-value tells no difference.
        p_value: two-sided, from random sign flips of the differences (Fisher's paired permutation test).
        n: examples that both have a score for.
        wins, losses: examples where the other scores more, and less.
        spread: mean squared difference; for right or wrong, the share of examples on which they differ.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    n: int
    wins: int
    losses: int
    spread: float

    @property
    def better(self) -> bool:
        """Whether the other is better beyond noise, at the 95 % level."""
        return self.is_better_at(0.05)

    def is_better_at(self, alpha: float) -> bool:
        """Say whether the other is better beyond noise, at a level that you choose."""
        return self.difference > 0 and self.p_value <= alpha

    def rows_to_tell(self, alpha: float = ALPHA) -> int | None:
        """Return about how many rows, in all, would tell this difference from noise; None where there is none.

        With 80 % power, if the true difference is the one observed. With few rows it often is smaller.
        """
        if self.n < 2 or self.difference == 0:
            return None
        return rows_needed(self.difference, self.spread, alpha=alpha)

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.difference:+.3f} (95 % interval {low:+.3f} to {high:+.3f}, p = {self.p_value:.3f}, "
            f"n = {self.n}, {self.wins} wins, {self.losses} losses)"
        )


def compare(base: Sequence[float], other: Sequence[float], seed: int = 0) -> Comparison:
    """Compare two lists of scores, paired by position."""
    return compare_all(base, [other], seed)[0]


def compare_all(
    base: Sequence[float | None], others: Sequence[Sequence[float | None]], seed: int = 0
) -> list[Comparison]:
    """Compare several lists of scores with one, paired by position. A pair with a None does not count.

    Source: the p-values are those of the largest standardised difference under joint sign flips (Westfall and Young,
    1993), which costs less power than Bonferroni's correction where the others are alike; the intervals are
    Bonferroni's, see `difference_interval`.
    """
    columns = [
        [None if a is None or b is None else b - a for a, b in zip(base, other, strict=True)] for other in others
    ]
    known = [s for column in (base, *others) for s in column if s is not None]
    span = max([1.0, *known]) - min([0.0, *known])
    p_values = _sign_flip_p(columns, seed)
    return [_compared(column, p, ALPHA / len(columns), span) for column, p in zip(columns, p_values, strict=True)]


def _compared(column: Sequence[float | None], p_value: float, alpha: float, span: float) -> Comparison:
    differences = [d for d in column if d is not None]
    n = len(differences)
    mean = fmean(differences) if n else 0.0
    low, high = difference_interval(differences, alpha, span)
    if p_value > ALPHA:  # the test is exact, the interval is not: it must not tell what the test does not
        low, high = min(low, 0.0), max(high, 0.0)
    elif n > 1:
        low, high = (max(low, 0.0), high) if mean > 0 else (low, min(high, 0.0))
    spread = fmean(d * d for d in differences) if n else 0.0
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return Comparison(mean, (low, high), p_value, n, wins, losses, spread)


def difference_interval(differences: Sequence[float], alpha: float = ALPHA, span: float = 1.0) -> tuple[float, float]:
    """Return a 95 % interval of the mean of paired differences.

    For scores that are 0 or 1 Tango's score interval ("Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design", Statistics in Medicine, 1998), which holds with few rows, and where none
    differs: 20 equal pairs do not prove two programs equal. For other scores between 0 and 1 the same, with as many
    rows as would give right-or-wrong ones their variance (see `mean_interval`). Student's for scores beyond these,
    where some row differs. With fewer than two rows nothing is known: (-inf, inf).

    Args:
        differences: one for each row.
        alpha: 0.05 for 95 %.
        span: the largest difference that there can be.
    """
    n = len(differences)
    if n < 2:
        return (-math.inf, math.inf)
    mean, wins = fmean(differences), sum(max(d, 0.0) for d in differences) / span / n
    if span > 1 and any(differences):
        half = t_quantile(n - 1, alpha) * stdev(differences) / math.sqrt(n)
        return (mean - half, mean + half)
    losses = wins - mean / span
    if all(d in (-span, 0, span) for d in differences):
        z, rows = NormalDist().inv_cdf(1 - alpha / 2), float(n)
    else:
        variance = (sum((d - mean) ** 2 for d in differences) + 0.25) / n  # one more row, in doubt
        z, rows = t_quantile(n - 1, alpha), n * max(1.0, (wins + losses - mean**2) / variance)
    low, high = (_where(lambda d: _tango(wins, losses, d, rows), mean / span, end, z) for end in (-1.0, 1.0))
    return (low * span, high * span)


def _tango(wins: float, losses: float, difference: float, n: float) -> float:
    """Return by how many standard errors such shares of wins and losses are off a true difference."""
    a, c = 2.0, -losses * difference * (1 - difference)
    b = -wins - losses + (2 - wins + losses) * difference
    lost = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)  # the likeliest share of losses, were it true
    variance = max(0.0, 2 * lost + difference * (1 - difference))
    off = wins - losses - difference
    return off * math.sqrt(n / variance) if variance else math.copysign(math.inf, off) if off else 0.0


def _where(off: Callable[[float], float], near: float, far: float, z: float) -> float:
    """Return where, from `near` to `far`, a truth is just z standard errors off."""
    for _ in range(50):
        middle = (near + far) / 2
        near, far = (middle, far) if abs(off(middle)) <= z else (near, middle)
    return near


def _sign_flip_p(columns: Sequence[Sequence[float | None]], seed: int) -> list[float]:
    """Return the p-value of each column of differences: how often flipped signs give any column one as large."""
    rows = [row for row in zip(*columns, strict=True) if any(row)]
    sums = [[d or 0.0 for d in column] for column in zip(*rows, strict=True)]
    scales = [math.sqrt(sum(d * d for d in column)) or math.inf for column in sums]
    observed = [abs(sum(column)) / scale for column, scale in zip(sums, scales, strict=True)]
    if not rows:
        return [1.0] * len(columns)
    masks = [_masks(column) for column in sums]
    exact = len(rows) <= _EXACT
    rng = random.Random(seed)
    flips: Iterable[int] = range(2 ** len(rows)) if exact else (rng.getrandbits(len(rows)) for _ in range(_FLIPS))
    extreme = [0] * len(columns)
    total = 0
    for bits in flips:
        largest = max(abs(_flipped(m, bits)) / scale for m, scale in zip(masks, scales, strict=True)) + 1e-9
        extreme = [count + (largest >= seen) for count, seen in zip(extreme, observed, strict=True)]
        total += 1
    return [count / total if exact else (count + 1) / (total + 1) for count in extreme]


def _masks(column: Sequence[float]) -> list[tuple[float, int, int]]:
    """Return each value of a column other than 0, the rows that have it as bits, and their number."""
    masks: dict[float, int] = {}
    for i, value in enumerate(column):
        if value:
            masks[value] = masks.get(value, 0) | 1 << i
    return [(value, mask, mask.bit_count()) for value, mask in masks.items()]


def _flipped(masks: Sequence[tuple[float, int, int]], bits: int) -> float:
    """Return the sum of a column in which the rows of `bits` have their signs flipped."""
    return sum(value * (count - 2 * (bits & mask).bit_count()) for value, mask, count in masks)
