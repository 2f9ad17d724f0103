"""What a number of rows can tell: checked against simulated comparisons."""

import random

import pytest

import tuneful as tf
from tuneful.evaluate.power import power_line, rows_needed, smallest_gain
from tuneful.evaluate.statistics import compare


def share_found(n, gain, spread, runs=100, seed=0):
    """How often a comparison on n rows finds a gain, where so many rows differ."""
    rng = random.Random(seed)
    wins, losses = (spread + gain) / 2, (spread - gain) / 2
    found = 0
    for i in range(runs):
        rows = rng.choices((1.0, -1.0, 0.0), (wins, losses, 1 - wins - losses), k=n)
        found += compare([0.0] * n, rows, i).better
    return found / runs


@pytest.mark.parametrize(("gain", "spread"), [(0.15, 0.4), (0.15, 0.3), (0.1, 0.2)])
def test_the_rows_that_are_said_to_be_needed_find_the_gain_about_8_times_in_10(gain, spread):
    assert share_found(rows_needed(gain, spread), gain, spread) == pytest.approx(0.78, abs=0.1)


def test_far_fewer_rows_do_not():
    assert share_found(rows_needed(0.15, 0.3) // 4, 0.15, 0.3) < 0.45


def test_graded_scores_need_as_many_rows_as_their_spread_says():
    rng = random.Random(1)
    gain, noise = 0.05, 0.2
    n = rows_needed(gain, gain**2 + noise**2)
    found = sum(compare([0.0] * n, [rng.gauss(gain, noise) for _ in range(n)], i).better for i in range(24))

    assert found / 24 == pytest.approx(0.8, abs=0.15)


def test_about_n_more_rows_would_tell_is_true():
    """A comparison that cannot tell says how many rows would; so many rows do, if the difference is what it seems."""
    seen = compare([0.0] * 60, [1.0] * 12 + [-1.0] * 6 + [0.0] * 42)
    assert not seen.better

    assert share_found(seen.rows_to_tell(), seen.difference, seen.spread, runs=100) == pytest.approx(0.8, abs=0.1)


def test_the_smallest_gain_is_the_inverse_of_the_rows_needed():
    gain = smallest_gain(150, 0.3)

    assert rows_needed(gain, 0.3) <= 150 < rows_needed(gain * 0.98, 0.3)
    assert smallest_gain(3, 0.3) is None
    assert smallest_gain(100, 0.0) is None


def test_more_power_and_a_stricter_level_take_more_rows():
    assert rows_needed(0.1, 0.3) < rows_needed(0.1, 0.3, power=0.95)
    assert rows_needed(0.1, 0.3) < rows_needed(0.1, 0.3, alpha=0.01)


def test_the_sentence_says_what_it_rests_on():
    assert "if the programs differ on 30 % of the rows" in power_line(100)
    assert "by the spread observed; 5 points take 312 rows" in power_line(100, 0.1)
    assert "too few" in power_line(3)
    assert "no row is held out" in power_line(0)
    assert "take" not in power_line(2000)  # enough for what is worth having: no advice


@pytest.mark.parametrize("wrong", [{"gain": 0.0}, {"gain": 0.1, "power": 1.0}, {"gain": 0.1, "alpha": 0.0}])
def test_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(tf.UsageError, match="expected a gain"):
        rows_needed(**wrong, spread=0.3)
