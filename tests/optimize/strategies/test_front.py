"""Fronts: what nothing dominates, and who is best on which rows."""

import random

import pytest

from tuneful.optimize.strategies.front import dominates, front, wins


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [((1, 2), (1, 1), True), ((1, 1), (1, 1), False), ((2, 0), (1, 1), False), ((0, 0), (1, 1), False)],
)
def test_better_by_one_measure_and_worse_by_none_dominates(one, other, said):
    assert dominates(one, other) is said


def test_nothing_on_the_front_is_dominated_and_all_else_is():
    rng = random.Random(0)
    points = [(rng.randint(0, 9), rng.randint(0, 9), rng.randint(0, 9)) for _ in range(60)]
    found = front(points)

    assert not any(dominates(points[a], points[b]) for a in found for b in found)
    rest = [p for i, p in enumerate(points) if i not in found]
    assert all(any(dominates(points[i], p) or points[i] == p for i in found) for p in rest)


def test_of_equal_ones_the_first_is_on_the_front():
    assert front([(1, 1), (1, 1), (0, 2), (0, 2)]) == [0, 2]
    assert front([]) == []


def by_row(*scores):
    return [dict(enumerate(own)) for own in scores]


def test_a_specialist_is_a_parent_though_it_is_worse_on_the_whole():
    assert wins(by_row([1, 1, 1, 0], [0, 0, 0, 1])) == [3, 1]


def test_one_that_is_best_on_nothing_of_its_own_is_no_parent():
    assert wins(by_row([1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0])) == [2, 2, 0]


def test_of_equal_candidates_the_earlier_stays():
    assert wins(by_row([0, 0], [1, 0], [1, 0])) == [0, 1, 0]


def test_rows_on_which_all_are_alike_count_for_nobody():
    assert wins(by_row([1, 0, 1], [1, 0, 0])) == [1, 0]
    assert wins(by_row([1, 1], [1, 1])) == [0, 0]
    assert wins(by_row([0.5])) == [0]
    assert wins([]) == []


def test_nobody_wins_a_row_by_being_alone_on_it():
    assert wins([{0: 1.0, 1: 0.0, 2: 0.0, 3: 1.0}, {0: 0.0, 1: 1.0}, {0: 0.0, 1: 1.0}]) == [1, 1, 0]


def test_graded_scores_count_by_who_is_best():
    assert wins(by_row([0.9, 0.2, 0.5], [0.8, 0.6, 0.5])) == [1, 1]


def test_every_row_that_tells_something_is_won_by_a_parent():
    rng = random.Random(1)
    for _ in range(50):
        scores = [{row: float(rng.random() < 0.5) for row in range(12) if rng.random() < 0.8} for _ in range(6)]
        won = wins(scores)
        for row in range(12):
            ran = {i: own[row] for i, own in enumerate(scores) if row in own}
            if len(set(ran.values())) > 1:
                assert any(won[i] for i, score in ran.items() if score == max(ran.values()))
