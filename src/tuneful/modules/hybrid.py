"""Hybrid: one list of passages from several retrievers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tuneful.errors import UsageError
from tuneful.modules.retrieve import Searching, retrieved
from tuneful.program.parameter import checked_whole
from tuneful.program.running.concurrency import gather_bounded
from tuneful.spec.passage import Passage


class Hybrid(Searching):
    """Ask several retrievers and fuse what they found. Returns a prediction with `passages`, the best first.

    >>> by_word, by_meaning = lambda query, k: ["a", "b"], lambda query, k: ["c", "b"]
    >>> Hybrid([by_word, by_meaning])("any", k=2).passages[0].text
    'b'

    Use it over a `BM25` and a `Dense`: what both find comes first, and what one of them misses is still there. It
    stands in a program where a `Retrieve` would, or is the retriever of one. Passages with the same text are one, and
    so are those with the same id where that is a text: a number may be a mere position. A passage's score is its fused
    one.

    Args:
        retrievers: at least one `(query, k) -> passages`, plain, async or modules; they are asked at once.
        weights: how much each counts; by default all the same.
        k: passages to return, where the call does not say.
        k0: passages that each is asked for (or k, where that is more).
        damping: the constant of the formula: the larger, the less the first ranks count beside the later ones.

    Cost: no model call but those of the retrievers.

    Source: Cormack, Clarke and Buettcher (2009), "Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank
    Learning Methods": the score is the sum of 1 / (60 + rank). Deviation: weights.
    """

    def __init__(
        self,
        retrievers: Iterable[Callable[..., Any]],
        weights: Sequence[float] | None = None,
        *,
        k: int = 3,
        k0: int = 50,
        damping: float = 60.0,
    ) -> None:
        super().__init__(k)
        self.retrievers = list(retrievers)
        if not self.retrievers or not all(map(callable, self.retrievers)):
            raise UsageError(f"`retrievers` is {self.retrievers!r:.80}; expected one or more (query, k) -> passages.")
        self.weights = [1.0] * len(self.retrievers) if weights is None else list(weights)
        if len(self.weights) != len(self.retrievers) or not all(map(_is_weight, self.weights)) or not any(self.weights):
            raise UsageError(
                f"`weights` is {self.weights!r:.80}; expected {len(self.retrievers)} numbers of at least 0, not all 0."
            )
        self.k0 = k0
        checked_whole("k0", self.k0)
        self.damping = damping
        if not _is_weight(self.damping):
            raise UsageError(f"`damping` is {self.damping!r}; expected a number of at least 0.")

    async def _search(self, query: str, k: int) -> list[Any]:
        depth = max(k, self.k0)
        found = await gather_bounded(
            self.retrievers, lambda retriever: retrieved(retriever, query, depth), len(self.retrievers)
        )
        return fused(found, self.weights, self.damping)[:k]


def fused(rankings: Sequence[Sequence[Passage]], weights: Sequence[float], damping: float) -> list[Passage]:
    """Return the passages of several rankings as one, by reciprocal rank; among equals the first found comes first."""
    passages: list[Passage] = []
    scores: list[float] = []
    places: dict[tuple[str, str], int] = {}  # by text, and by id
    for ranking, weight in zip(rankings, weights, strict=True):
        counted: set[int] = set()
        for rank, passage in enumerate(ranking, 1):
            names = [("text", str(passage))] + ([("id", passage.id)] if isinstance(passage.id, str) else [])
            place = next((places[name] for name in names if name in places), len(passages))
            if place == len(passages):
                passages.append(passage)
                scores.append(0.0)
            places.update((name, place) for name in names if name not in places)
            if place not in counted:  # a retriever that repeats itself does not count twice
                counted.add(place)
                scores[place] += weight / (damping + rank)
    order = sorted(range(len(passages)), key=lambda place: -scores[place])
    return [passages[place].scored(scores[place]) for place in order]


def _is_weight(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and 0 <= value < math.inf
