"""What a score is worth."""

import math
import random

import pytest

from tuneful.evaluate.statistics import compare, mean_interval, t_quantile


@pytest.mark.parametrize(
    ("degrees", "table"), [(1, 12.706), (2, 4.303), (5, 2.571), (10, 2.228), (30, 2.042), (200, 1.972)]
)
def test_t_quantile_agrees_with_the_tables(degrees, table):
    assert t_quantile(degrees) == pytest.approx(table, abs=0.02)


def test_wilson_interval_of_8_in_10():
    low, high = mean_interval([1.0] * 8 + [0.0] * 2)

    assert (low, high) == (pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))


def test_interval_of_nothing_is_everything():
    assert mean_interval([]) == mean_interval([0.5]) == (-math.inf, math.inf)


def test_interval_covers_the_truth_about_95_times_in_100():
    rng = random.Random(0)
    hits = 0
    for _ in range(400):
        low, high = mean_interval([rng.gauss(0.3, 1.0) for _ in range(25)])
        hits += low <= 0.3 <= high

    assert 0.92 <= hits / 400 <= 0.98


def test_compare_finds_a_planted_difference_and_counts_wins():
    found = compare([0.0] * 30, [1.0] * 20 + [0.0] * 10)

    assert found.better
    assert (found.wins, found.losses, found.n) == (20, 0, 30)
    assert found.difference == pytest.approx(2 / 3)


def test_compare_is_paired_so_that_hard_rows_do_not_hide_a_small_steady_gain():
    rng = random.Random(1)
    base = [rng.random() for _ in range(60)]

    assert compare(base, [b + 0.02 for b in base]).better


def test_equal_programs_are_not_better():
    found = compare([1.0, 0.0] * 10, [1.0, 0.0] * 10)

    assert not found.better
    assert found.p_value == 1.0
    assert found.rows_to_tell() is None


def test_noise_is_taken_for_a_gain_at_most_1_time_in_20():
    rng = random.Random(2)
    wrong = 0
    for i in range(300):
        base = [float(rng.random() < 0.5) for _ in range(40)]
        other = [float(rng.random() < 0.5) for _ in range(40)]
        wrong += compare(base, other, seed=i).better

    assert wrong / 300 <= 0.05


def test_rows_to_tell_grows_as_the_difference_shrinks():
    rng = random.Random(3)
    base = [float(rng.random() < 0.5) for _ in range(50)]
    noise = [float(rng.random() < 0.55) for _ in range(50)]
    near = compare(base, noise).rows_to_tell()

    assert near is None or near > 50
