"""Retrieve: passages for a query, from whatever retriever is configured or passed."""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from tuneful.errors import DataError, InputError, NotConfiguredError, RetrieverError, TunefulError, UsageError
from tuneful.program.module import Module
from tuneful.program.parameter import checked_whole
from tuneful.program.predict import Token
from tuneful.program.running.portal import portal
from tuneful.program.running.runtime import settings
from tuneful.program.trace import Retrieval, current_recorder
from tuneful.spec.passage import Passage
from tuneful.spec.prediction import Prediction


class Searching(Module):
    """Base of the modules that give passages for a query. A subclass gives `_search`.

    Each returns a prediction with `passages`, notes the search in the trace, and is a retriever itself: what takes a
    retriever takes one of them. Retrievers that are no modules (indexes, connections) are shared by the copies of a
    program.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        checked_whole("k", self.k)
        self.token = Token()

    async def forward(self, query: str, k: int | None = None) -> Prediction:
        """Find passages.

        Args:
            query: what to look for.
            k: passages to return, in place of the module's own.

        Raises:
            NotConfiguredError: there is no retriever.
            RetrieverError: a retriever raised something of its own. What it asked a model for raises as that does.
            UsageError: a retriever returned something that is no list of passages, or k is below 1.
            InputError: the query is no text.
        """
        wanted = checked_whole("k", self.k if k is None else k)
        if not isinstance(query, str):
            raise InputError(f"a query is a text, got {query!r:.80}. No retriever was asked.", field="query")
        with self._noted(query, wanted) as noted:
            noted.passages = await self._search(query, wanted)
        return Prediction(passages=list(noted.passages))

    async def _search(self, query: str, k: int) -> list[Any]:
        """Return at most k passages."""
        raise NotImplementedError(f"{type(self).__name__} must define _search()")

    @contextmanager
    def _noted(self, query: str, k: int) -> Iterator[Retrieval]:
        recorder = current_recorder()
        noted = Retrieval(recorder.path_of(self.token) if recorder else "", query, k)
        if recorder:
            recorder.trace.retrievals.append(noted)
        begun = time.perf_counter()
        try:
            yield noted
        except TunefulError as error:
            noted.error = str(error)
            raise
        finally:
            noted.seconds = time.perf_counter() - begun

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        for value in self.__dict__.values():
            for part in value if isinstance(value, (list, tuple)) else (value,):
                if callable(part) and not isinstance(part, Module):
                    memo[id(part)] = part
        twin = object.__new__(type(self))
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin


class Retrieve(Searching):
    """Ask a retriever. Returns a prediction with `passages`, the best first.

    >>> from tuneful.retrieval.bm25 import BM25
    >>> find = Retrieve(rm=BM25([{"title": "Nile", "text": "A river."}, {"title": "Paris", "text": "A city."}]))
    >>> find("Which river?").passages[0].title
    'Nile'

    The passages are `Passage`s: texts, which go into a field `context: list[str]` as they are, with `id`, `title` and
    `score`. A retriever that has fewer than k returns those that it has: that is no error.

    Args:
        k: passages to return, where the call does not say.
        rm: the retriever: any `(query, k) -> passages`, plain or async; a plain one runs in a worker thread. Passages
            are texts, or mappings or objects with a `text`. By default `tf.configure(rm=...)`.

    Cost: no model call.
    """

    def __init__(self, k: int = 3, rm: Callable[..., Any] | None = None) -> None:
        super().__init__(k)
        self.rm = rm

    async def _search(self, query: str, k: int) -> list[Any]:
        return await retrieved(configured(self.rm), query, k)


def configured(retriever: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return the retriever, or the configured one. Raises NotConfiguredError where there is none."""
    found: Callable[..., Any] | None = retriever or settings.rm
    if found is None:
        raise NotConfiguredError(
            "no retriever is configured. Pass one, tf.Retrieve(rm=...), or tf.configure(rm=...): any function "
            "(query, k) -> passages, such as tf.BM25(list_of_texts)."
        )
    return found


async def retrieved(retriever: Callable[..., Any], query: str, k: int) -> list[Any]:
    """Return at most k passages from a retriever of any kind.

    Raises:
        RetrieverError: it raised something of its own.
        UsageError: it returned something that is no list of passages.
    """
    found = await asked(retriever, query, k)
    found = getattr(found, "passages", found) if isinstance(found, Prediction) else found
    if isinstance(found, (str, bytes, Mapping)) or not isinstance(found, Iterable):
        raise UsageError(f"a retriever returns a list of passages, this one returned {found!r:.80} for {query!r:.80}.")
    try:
        return [Passage.of(item) for item in found][:k]
    except DataError as error:
        raise UsageError(f"a retriever returns a list of passages. For {query!r:.80} this one's {error}") from error


async def asked(function: Callable[..., Any], query: str, *rest: Any) -> Any:
    """Return what a retriever or a ranker of the user's returns, whether it is plain, asynchronous or a module.

    Raises:
        RetrieverError: it raised something that is none of this package's errors.
    """
    try:
        if (call := getattr(function, "acall", None)) is not None:
            return await call(query, *rest)
        found = await portal.in_thread(lambda: function(query, *rest))
        return await found if inspect.isawaitable(found) else found
    except TunefulError:
        raise
    except Exception as error:
        name = getattr(function, "__qualname__", type(function).__qualname__)
        raise RetrieverError(
            f"`{name}` raised {type(error).__name__} for the query {query!r:.200}: {error}", query=query
        ) from error
