"""What a score is worth."""

import math
import random

import pytest

from tuneful.evaluate.statistics import compare, compare_all, difference_interval, mean_interval, t_quantile


@pytest.mark.parametrize(
    ("degrees", "table"), [(1, 12.706), (2, 4.303), (5, 2.571), (10, 2.228), (30, 2.042), (200, 1.972)]
)
def test_t_quantile_agrees_with_the_tables(degrees, table):
    assert t_quantile(degrees) == pytest.approx(table, abs=0.02)


def test_t_quantiles_of_other_levels():
    assert t_quantile(1, 0.01) == pytest.approx(63.657, abs=0.01)
    assert t_quantile(2, 0.01) == pytest.approx(9.925, abs=0.01)
    assert t_quantile(10, 0.01) == pytest.approx(3.169, abs=0.01)


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


@pytest.mark.parametrize("n", [10, 30, 100])
@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda rng: rng.random(), 0.5),
        (lambda rng: rng.betavariate(8, 2), 0.8),
        (lambda rng: rng.betavariate(0.5, 0.5), 0.5),
        (lambda rng: 1.0 if rng.random() < 0.9 else rng.random(), 0.95),
        (lambda rng: 0.0 if rng.random() < 0.8 else rng.random(), 0.1),
        (lambda rng: rng.choice([1.0] * 9 + [0.5]), 0.95),
        (lambda rng: float(rng.random() < 0.9), 0.9),
    ],
)
def test_intervals_of_scores_between_0_and_1_cover_the_truth_also_near_the_ends(draw, mean, n):
    rng = random.Random(n)
    hits = 0
    for _ in range(300):
        low, high = mean_interval([draw(rng) for _ in range(n)])
        assert 0 <= low <= high <= 1
        hits += low <= mean <= high

    assert hits / 300 >= 0.92


def test_a_few_equal_scores_do_not_prove_certainty():
    low, high = mean_interval([0.5] * 5)

    assert low < 0.4 < 0.6 < high


def test_the_interval_of_a_difference_covers_the_truth():
    rng = random.Random(5)
    hits = 0
    for _ in range(100):
        base = [rng.random() for _ in range(40)]
        found = compare(base, [min(1.0, b + rng.choice([0.0, 0.0, 0.3])) for b in base])
        truth = 0.1 - 0.3**2 / 2 / 3  # those that would pass 1 stop there
        hits += found.interval[0] <= truth <= found.interval[1]

    assert hits / 100 >= 0.9


def test_the_best_of_many_is_not_taken_for_better_more_often_than_a_single_one():
    rng = random.Random(6)
    wrong = 0
    for i in range(80):
        base, *others = [[float(rng.random() < 0.5) for _ in range(30)] for _ in range(9)]
        wrong += any(c.better for c in compare_all(base, others, i))

    assert wrong / 80 <= 0.05


def test_finalists_that_are_alike_cost_little_power():
    base = [0.0] * 40
    other = [1.0] * 9 + [-1.0] + [0.0] * 30
    one, *_ = compare_all(base, [other] * 5)

    assert one.p_value == pytest.approx(compare(base, other).p_value, abs=0.01)  # Bonferroni would make it 5 times that
    assert one.interval[0] < compare(base, other).interval[0]


def test_rows_without_a_score_are_left_out_of_their_own_pair_only():
    first, second = compare_all([1.0, None, 0.0, 1.0], [[1.0, 1.0, None, 0.0], [0.0, 1.0, 1.0, 1.0]])

    assert (first.n, first.losses) == (2, 1)
    assert (second.n, second.wins, second.losses) == (3, 1, 1)


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


@pytest.mark.parametrize(("wins", "losses"), [(0.0, 0.02), (0.05, 0.05), (0.3, 0.1), (0.1, 0.25)])
def test_an_interval_of_right_or_wrong_holds_the_truth_with_few_rows_too(wins, losses):
    rng = random.Random(4)
    held = 0
    for _ in range(400):
        drawn = [rng.random() for _ in range(20)]
        low, high = difference_interval([float(u < wins) - float(wins <= u < wins + losses) for u in drawn])
        held += low <= wins - losses <= high

    assert held / 400 >= 0.92


def test_equal_scores_on_few_rows_leave_much_open_in_whatever_units():
    low, high = compare([1.0, 0.0] * 10, [1.0, 0.0] * 10).interval
    assert low == -high == pytest.approx(-0.161, abs=1e-3)  # z² / (n + z²)
    low, high = compare([100.0, 0.0] * 10, [100.0, 0.0] * 10).interval
    assert low == -high == pytest.approx(-16.1, abs=0.1)


def test_an_interval_tells_nothing_that_the_test_does_not():
    for wins in range(16):
        for losses in range(wins):
            even = [0.0] * wins + [1.0] * losses + [0.0] * (30 - wins - losses)
            other = [1.0] * wins + [0.0] * losses + [0.0] * (30 - wins - losses)
            found = compare(even, other)
            assert (found.interval[0] > 0) <= found.better, (wins, losses)


def test_rows_to_tell_grows_as_the_difference_shrinks():
    rng = random.Random(3)
    base = [float(rng.random() < 0.5) for _ in range(50)]
    noise = [float(rng.random() < 0.55) for _ in range(50)]
    near = compare(base, noise).rows_to_tell()

    assert near is None or near > 50
