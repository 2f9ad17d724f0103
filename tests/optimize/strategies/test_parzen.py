"""Parzen: proposals come from where scores were good, are new, and come to an end with the space."""

import random
from statistics import fmean

from tuneful.optimize.strategies import parzen

SIZES = {f"axis {i}": 8 for i in range(6)}


def found(seed, trials, propose):
    """Return the best true value that a search finds; each axis has one option that is worth a point."""
    rng = random.Random(seed)
    best = {name: rng.randrange(size) for name, size in SIZES.items()}

    def value(point):
        return sum(point[name] == best[name] for name in SIZES)

    points = [{name: rng.randrange(size) for name, size in SIZES.items()} for _ in range(8)]
    while len(points) < trials:
        scores = [value(p) + rng.gauss(0, 0.5) for p in points]
        points += propose(points, scores, rng)
    return max(map(value, points))


def test_it_finds_more_than_chance_does():
    by_parzen = [found(s, 100, lambda p, v, rng: parzen.propose(SIZES, p, v, 4, rng)) for s in range(10)]
    by_chance = [
        found(s, 100, lambda p, v, rng: [{name: rng.randrange(size) for name, size in SIZES.items()}])
        for s in range(10)
    ]
    assert fmean(by_parzen) >= fmean(by_chance) + 1


def test_what_it_proposes_is_new_and_the_space_may_be_used_up():
    sizes, rng = {"a": 2, "b": 2}, random.Random(0)
    points, scores = [{"a": 0, "b": 0}], [1.0]
    for _ in range(20):
        new = parzen.propose(sizes, points, scores, 2, rng)
        assert all(p not in points for p in new)
        points, scores = [*points, *new], [*scores, *([0.5] * len(new))]
    assert len(points) == 4
    assert parzen.propose(sizes, points, scores, 2, rng) == []


def test_the_same_stream_proposes_the_same():
    points, scores = [{"a": 0}, {"a": 1}], [0.0, 1.0]
    assert parzen.propose({"a": 9}, points, scores, 3, random.Random(5)) == parzen.propose(
        {"a": 9}, points, scores, 3, random.Random(5)
    )
