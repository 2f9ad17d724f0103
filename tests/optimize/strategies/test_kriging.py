"""Kriging: what shares options is judged together, proposals are new, and they come to an end with the space."""

import itertools
import math
import random
from statistics import fmean

from tuneful.optimize.strategies import kriging

SIZES = {f"axis {i}": 4 for i in range(4)}


def believed(points, scores, noise=0.25 / 8):
    return kriging.fitted(points, scores, [noise] * len(points))


def drawn(rng, n):
    return [{name: rng.randrange(size) for name, size in SIZES.items()} for _ in range(n)]


def test_an_option_is_judged_by_all_points_that_have_it():
    better_by_kriging, better_by_mean = 0, 0
    for seed in range(40):
        rng = random.Random(seed)
        worth = {(name, 2): 0.15 for name in ("axis 0", "axis 1")}
        points = drawn(rng, 24)
        true = [sum(worth.get(pair, 0.0) for pair in p.items()) for p in points]
        seen = [t + rng.gauss(0, 0.15) for t in true]
        known = believed(points, seen, 0.15**2)
        better_by_kriging += true[max(range(24), key=lambda i: known.at(points[i])[0])] / 0.3
        better_by_mean += true[max(range(24), key=lambda i: seen[i])] / 0.3

    assert better_by_kriging >= better_by_mean + 2  # of 40


def test_what_helps_together_only_is_believed_of_points_that_have_both():
    points = [dict(zip("abc", options, strict=True)) for options in itertools.product(range(2), range(2), range(2))]
    known = believed(points, [0.5 * (p["a"] == p["b"] == 1) for p in points], 0.05**2)
    both, one = (fmean(known.at(p)[0] for p in points if p["a"] + p["b"] == n) for n in (2, 1))

    assert both > one + 0.3


def test_few_rows_are_believed_less_than_many():
    points = [{"a": 0}, {"a": 1}, {"a": 2}]
    known = kriging.fitted(points, [0.5, 0.7, 0.7], [0.002, 0.002, 0.05])
    (_, sure), (_, unsure) = known.at({"a": 1}), known.at({"a": 2})

    assert known.at({"a": 1})[0] > known.at({"a": 2})[0]
    assert sure < unsure < known.at({"a": 3})[1]


def test_what_it_proposes_does_better_than_chance():
    def found(seed, propose):
        rng = random.Random(seed)
        best = {name: rng.randrange(size) for name, size in SIZES.items()}
        points = drawn(rng, 8)
        while len(points) < 28:
            scores = [0.1 * sum(p[n] == best[n] for n in SIZES) + rng.gauss(0, 0.05) for p in points]
            points += propose(points, scores, rng)
        return max(sum(p[n] == best[n] for n in SIZES) for p in points)

    by_kriging = [found(s, lambda p, v, rng: kriging.propose(SIZES, believed(p, v, 0.05**2), 4, rng)) for s in range(8)]
    by_chance = [found(s, lambda p, v, rng: drawn(rng, 4)) for s in range(8)]
    assert fmean(by_kriging) >= fmean(by_chance) + 0.5


def test_what_it_proposes_is_new_and_the_space_may_be_used_up():
    sizes, rng = {"a": 2, "b": 2}, random.Random(0)
    points, scores = [{"a": 0, "b": 0}], [1.0]
    for _ in range(20):
        new = kriging.propose(sizes, believed(points, scores), 2, rng)
        assert all(p not in points for p in new)
        points, scores = [*points, *new], [*scores, *([0.5] * len(new))]
    assert len(points) == 4
    assert kriging.propose(sizes, believed(points, scores), 2, rng) == []


def test_the_same_stream_proposes_the_same():
    known = believed([{"a": 0}, {"a": 1}], [0.0, 1.0])
    assert kriging.propose({"a": 9}, known, 3, random.Random(5)) == kriging.propose(
        {"a": 9}, known, 3, random.Random(5)
    )


def test_what_is_believed_does_not_depend_on_the_unit_of_the_scores():
    rng = random.Random(3)
    points = drawn(rng, 12)
    scores = [rng.random() for _ in points]
    shares = kriging.fitted(points, scores, [0.03] * 12)
    points_of_100 = kriging.fitted(points, [100 * s for s in scores], [300.0] * 12, span=100.0)

    for point in points:
        assert math.isclose(100 * shares.at(point)[0], points_of_100.at(point)[0])
