"""Contrast: the rows that tell most come first, and better candidates are picked more often."""

import random
from collections import Counter
from statistics import fmean

import pytest

from tuneful.optimize.strategies import contrast


def runs(**scores):
    return [{"row": row, "score": score} for row, own in scores.items() for score in own]


def test_rows_where_runs_differ_most_come_first_then_those_with_good_runs():
    found = contrast.buckets(runs(wrong=[0, 0], half=[0.5, 0, 0.5], apart=[0, 1, 0], right=[1, 1]))

    assert [own[0]["row"] for own in found] == ["apart", "half", "right", "wrong"]
    assert [r["score"] for r in found[0]] == [1, 0, 0]


def test_of_rows_alike_the_one_with_a_rare_success_comes_first():
    found = contrast.buckets(runs(often=[1, 1, 0], rarely=[0, 1, 0]))
    assert found[0][0]["row"] == "rarely"


def test_the_low_score_is_that_of_a_tenth():
    assert contrast.low(runs(a=range(21))) == 2
    assert contrast.low(runs(a=[1.0])) == 1.0


@pytest.mark.parametrize("scale", [1, 100])
def test_better_ones_are_picked_more_often_whatever_the_unit(scale):
    rng = random.Random(0)
    picked = Counter(contrast.pick([0.2 * scale, 0.6 * scale, 1.0 * scale], 0.2, rng) for _ in range(3000))

    assert picked[2] > 3 * picked[1] > 3 * picked[0] > 0


def test_near_zero_the_best_is_picked_and_nothing_overflows():
    rng = random.Random(0)
    assert {contrast.pick([-1e9, 5.0, 1e9], 1e-9, rng) for _ in range(50)} == {2}
    assert contrast.pick([0.0], 0.2, rng) == 0


def test_counts_are_poisson():
    rng = random.Random(0)
    drawn = [contrast.poisson(1.5, rng) for _ in range(4000)]
    mean = fmean(drawn)

    assert mean == pytest.approx(1.5, abs=0.1)
    assert fmean((n - mean) ** 2 for n in drawn) == pytest.approx(1.5, abs=0.2)
    assert contrast.poisson(0, rng) == 0
