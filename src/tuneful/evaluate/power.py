"""What a number of rows can tell: the power of the paired comparison. Standard library only.

Everything rests on one number, the spread: the mean squared difference of two programs' scores on a row. For a metric
that says right or wrong it is the share of rows on which one program is right and the other wrong.

Source: Connor (1987), "Sample size for testing differences in proportions for the paired-sample design"; here also
for scores of any size, where the test flips the signs of the differences.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from tuneful.errors import UsageError

#: Probability of finding a gain that is there, and of taking noise for one (two-sided).
POWER, ALPHA = 0.8, 0.05

#: Spread that is assumed where none has been observed: the programs differ on 3 rows in 10.
ASSUMED_SPREAD = 0.3

#: A gain that is worth having: advice on the size of a split says how many rows find it.
WORTH_HAVING = 0.05


def rows_needed(gain: float, spread: float, *, power: float = POWER, alpha: float = ALPHA) -> int:
    """Return about how many rows find a gain.

    Where fewer than some 30 of them differ, the power is 5 to 15 points less: the test has few signs to flip.

    >>> rows_needed(0.15, spread=0.3)
    103

    Args:
        gain: mean difference, in score units; its sign does not count.
        spread: mean squared difference on a row. It is at least gain squared.
        power: probability of finding it.
        alpha: level of the test, two-sided.
    """
    if gain == 0 or not 0 < power < 1 or not 0 < alpha < 1:
        raise UsageError(f"expected a gain other than 0, and power and alpha in (0, 1), got {gain}, {power}, {alpha}.")
    chance, found = NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(power)
    spread = max(spread, gain * gain)
    return math.ceil(((chance * math.sqrt(spread) + found * math.sqrt(spread - gain * gain)) / gain) ** 2)


def smallest_gain(n: int, spread: float, *, power: float = POWER, alpha: float = ALPHA) -> float | None:
    """Return the smallest gain that n rows find, in score units, or None where they find none of this spread.

    >>> round(smallest_gain(100, spread=0.3), 3)
    0.152

    Args:
        n: rows on which both programs are scored.
        spread, power, alpha: see `rows_needed`.
    """
    low, high = 0.0, math.sqrt(max(0.0, spread))
    if high == 0 or rows_needed(high, spread, power=power, alpha=alpha) > n:
        return None
    for _ in range(40):
        middle = (low + high) / 2
        found = rows_needed(middle, spread, power=power, alpha=alpha) <= n
        low, high = (low, middle) if found else (middle, high)
    return high


def power_line(n: int, spread: float | None = None, *, alpha: float = ALPHA) -> str:
    r"""Return what n held-out rows can tell, and how many to hold out, as a sentence for plans and reports.

    >>> print(power_line(90, spread=0.1).replace("; ", "\n"))
    with 90 held-out rows a gain of 9.2 points is found with 80 % power, by the spread observed
    5 points take 312 rows

    Args:
        n: held-out rows.
        spread: the observed one. None or 0: none was observed; the sentence says what is assumed.
        alpha: level of the test, two-sided.
    """
    if n == 0:
        return "no row is held out, so no gain can be told from noise"
    assumed = f"if the programs differ on {100 * ASSUMED_SPREAD:.0f} % of the rows"
    basis = "by the spread observed" if spread else assumed
    gain = smallest_gain(n, spread or ASSUMED_SPREAD, alpha=alpha)
    advice = ""
    if gain is None or gain > WORTH_HAVING:
        more = rows_needed(WORTH_HAVING, spread or ASSUMED_SPREAD, alpha=alpha)
        advice = f"; {100 * WORTH_HAVING:.0f} points take {more:,} rows"
    if gain is None:
        return f"{n} held-out rows are too few to tell a gain from noise, {basis}{advice}"
    points = f"{100 * gain:.0f}" if gain >= 0.1 else f"{100 * gain:.2g}"
    return f"with {n} held-out rows a gain of {points} points is found with {100 * POWER:.0f} % power, {basis}{advice}"
