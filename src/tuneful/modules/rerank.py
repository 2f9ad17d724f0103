"""Rerank: many passages from a retriever, the best of them by a closer look."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import pydantic

from tuneful.errors import AdapterParseError, UsageError
from tuneful.modules.retrieve import Searching, asked, configured, retrieved
from tuneful.program.parameter import checked_whole
from tuneful.program.predict import Predict
from tuneful.program.trace import note_event
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.passage import Passage
from tuneful.spec.signature import Signature

_log = logging.getLogger(__name__)


_ORDER = Signature(
    {
        "query": (str, InputField()),
        "passages": (list[str], InputField(desc="each begins with its number")),
        "order": (
            list[Annotated[int, pydantic.Field(ge=1)]],
            OutputField(desc="numbers of the helpful passages, the most helpful first"),
        ),
    },
    "Put the passages in order by how much they help with the query, the most helpful first.",
)


class Rerank(Searching):
    """Ask a retriever for many passages, and put them in a better order. Returns a prediction with `passages`.

    >>> by_length = lambda query, passages: [len(p) for p in passages]
    >>> Rerank(lambda query, k: ["a", "ccc", "bb"], by_length)("any", k=2).passages[0].text
    'ccc'

    Use it where the right passages are found but not among the first few. It stands in a program where a `Retrieve`
    would, or is the retriever of one.

    Args:
        retriever: the first retriever; by default `tf.configure(rm=...)`.
        ranker: any `(query, passages) -> scores`, plain or async, one number for each passage, higher for better: a
            cross-encoder of your own, or a `tf.Reranker`. By default the language model puts the passages in order, by
            the predictor `order`, which teleprompters tune like any other. A model below some billion parameters seldom
            helps.
        k: passages to return, where the call does not say.
        k0: passages that are looked at (or k, where that is more).

    With a language model, passages that its answer leaves out come after the others, in the retriever's order; that
    also holds for all of them where the answer cannot be read, which the trace counts ("order not read"). The scores of
    passages are then the retriever's.

    Raises, besides what every search raises:
        UsageError: the ranker gave something else than one number for each passage.

    Cost: 1 model call for each query with a language model, and 1 more for an answer that needed the repair turn.

    Source: Nogueira and Cho (2019), "Passage Re-ranking with BERT"; with a language model: Sun et al. (2023), "Is
    ChatGPT Good at Search? Investigating Large Language Models as Re-Ranking Agents". Deviation: one window.
    """

    def __init__(
        self,
        retriever: Callable[..., Any] | None = None,
        ranker: Callable[..., Any] | None = None,
        *,
        k: int = 3,
        k0: int = 20,
    ) -> None:
        super().__init__(k)
        for name, given in (("retriever", retriever), ("ranker", ranker)):
            if given is not None and not callable(given):
                raise UsageError(f"`{name}` is {given!r:.80}; expected a function.")
        self.retriever, self.ranker = retriever, ranker
        self.k0 = k0
        checked_whole("k0", self.k0)
        if ranker is None:
            self.order = Predict(_ORDER)

    async def _search(self, query: str, k: int) -> list[Any]:
        found = await retrieved(configured(self.retriever), query, max(k, self.k0))
        if len(found) < 2:
            return found
        ranked = await (self._by_model(query, found) if self.ranker is None else self._by_score(query, found))
        return ranked[:k]

    async def _by_score(self, query: str, found: Sequence[Passage]) -> list[Passage]:
        assert self.ranker is not None
        scores = _numbers(await asked(self.ranker, query, list(found)), len(found))
        order = sorted(range(len(found)), key=lambda i: -scores[i])
        return [found[i].scored(scores[i]) for i in order]

    async def _by_model(self, query: str, found: Sequence[Passage]) -> list[Passage]:
        numbered = [f"{number}. {passage}" for number, passage in enumerate(found, 1)]
        try:
            said = (await self.order.acall(query=query, passages=numbered)).order
        except AdapterParseError as error:
            note_event("order not read")
            _log.warning("the order of the passages for %.80r cannot be read; the retriever's stays: %s", query, error)
            said = []
        first = [number - 1 for number in dict.fromkeys(said) if number <= len(found)]
        return [found[i] for i in dict.fromkeys([*first, *range(len(found))])]


def _numbers(scores: Any, count: int) -> list[float]:
    """Return the scores of a ranker. Raises UsageError where they are not one finite number for each passage."""
    try:
        numbers = [float(score) for score in scores]
    except (TypeError, ValueError) as error:
        raise UsageError(f"a ranker returns a number for each passage, this one returned {scores!r:.120}.") from error
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise UsageError(f"a ranker returns a finite number for each of {count} passages, not {numbers!r:.120}.")
    return numbers
