"""DemoPool: rows of which a predictor shows, for each input, those that are most like it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tuneful.errors import UsageError
from tuneful.program.demos.knn import KNN
from tuneful.program.parameter import checked_whole
from tuneful.program.vectors.embedder import Embedder
from tuneful.spec.example import Example

Vectorizer = Embedder | Callable[..., Any]


class DemoPool:
    """Rows, how many of them become demos at a call, and what measures likeness. Never changed in place.

    >>> pool = DemoPool(lambda texts: [[t.count("a"), t.count("b")] for t in texts])
    >>> pool = pool.with_value({"rows": [{"word": "aab", "letter": "a"}, {"word": "bb", "letter": "b"}], "k": 1})
    >>> from tuneful.program.running.portal import portal
    >>> [demo["letter"] for demo in portal.run(pool.nearest({"word": "abbb"}))]
    ['b']

    Args:
        vectorizer: a `tf.Embedder`, or a function from texts to vectors; None: the embedder that the value names.
        value: the parameter, as JSON: `rows` (field values), `k`, `embedder` (a model's name, or a function's, which
            says only that one is needed), `dimensions` (of a model that can give several). None is an empty pool.

    Cost: the rows are embedded once, at the first call, and each call embeds one text. The response cache keeps the
    vectors of a named model.
    """

    def __init__(self, vectorizer: Vectorizer | None = None, value: Mapping[str, Any] | None = None) -> None:
        self.vectorizer = vectorizer
        self.value = None if value is None else {**_checked(value), **_described(vectorizer)}
        self._named = _named(self.value) if self.value is not None and vectorizer is None else None
        self._search: list[KNN] = []  # made at the first call; a list, so that `shown_as` shares it
        self._form: Callable[[Any], list[Any]] | None = None

    def with_value(self, value: Mapping[str, Any] | None) -> DemoPool:
        """Return a pool of other rows, with the vectorizer that this one was given."""
        return self if value == self.value else DemoPool(self.vectorizer, value)

    def without(self, unwanted: Collection[int]) -> DemoPool:
        """Return the pool without the rows of these numbers."""
        rows = [row for i, row in enumerate(self.rows) if i not in unwanted]
        return self.with_value({**self.value, "rows": rows} if self.value and rows else None)

    def shown_as(self, form: Callable[[Any], list[Any]]) -> DemoPool:
        """Return the same pool, whose demos are written in another form once they are picked: each as one or more."""
        twin = copy.copy(self)
        twin._form = form
        return twin

    @property
    def function(self) -> Callable[..., Any] | None:
        """The user's function that embeds, or None where a named model does."""
        found = self.vectorizer.model if isinstance(self.vectorizer, Embedder) else self.vectorizer
        return found if callable(found) else None

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The rows."""
        return self.value["rows"] if self.value else ()

    async def nearest(self, inputs: Mapping[str, Any]) -> list[Any]:
        """Return the k rows that are most like some inputs, the most alike last, where a model heeds it most."""
        if not self._search:
            vectorizer = self.vectorizer or self._named
            assert self.value is not None
            assert vectorizer is not None
            examples = [_example(row, list(inputs)) for row in self.rows]
            self._search.append(KNN(min(self.value["k"], len(examples)), examples, vectorizer))
        found = (await self._search[0].acall(**inputs))[::-1]
        return [shown for demo in found for shown in self._form(demo)] if self._form else found

    def __deepcopy__(self, memo: dict[int, Any]) -> DemoPool:
        return self  # vectors and connections are shared by the copies of a program

    def __repr__(self) -> str:
        return f"DemoPool({len(self.rows)} rows)"


def vectorizer_of(given: Any) -> Vectorizer:
    """Return what embeds: an embedder, a function, or the embedder of a model's name. Raises UsageError otherwise."""
    if isinstance(given, str):
        return Embedder(given)
    if not callable(given):
        raise UsageError(
            "an embedder is a tf.Embedder, a model's name such as 'local/wordllama', or a function from texts to "
            f"vectors; got {given!r:.80}."
        )
    found: Vectorizer = given
    return found


def _described(vectorizer: Vectorizer | None) -> dict[str, Any]:
    if vectorizer is None:
        return {}
    if not isinstance(vectorizer, Embedder):
        return {"embedder": getattr(vectorizer, "__name__", type(vectorizer).__name__)}
    name = vectorizer.model if isinstance(vectorizer.model, str) else vectorizer.name
    return {"embedder": name, **({"dimensions": vectorizer.dimensions} if vectorizer.dimensions else {})}


def _named(value: Mapping[str, Any]) -> Embedder:
    name = value.get("embedder")
    if isinstance(name, str) and "/" in name:
        return Embedder(name, dimensions=value.get("dimensions"))
    raise UsageError(
        f"the demos were picked with the function `{name}`, and functions are not saved. Give it again before you "
        "load or set the pool: program.set_embedder(your_function)."
    )


def _checked(value: Mapping[str, Any]) -> dict[str, Any]:
    rows = value.get("rows") if isinstance(value, Mapping) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, Mapping) for row in rows):
        raise UsageError(f"a demo pool has `rows`, at least one, each with field values; got {value!r:.80}.")
    checked_whole("k", value.get("k"))
    return {**value, "rows": [Example(row).to_dict() for row in rows]}


def _example(row: Mapping[str, Any], names: Sequence[str]) -> Example:
    """Return a row as an example, its inputs first and in the order of the call's, so that like reads alike."""
    inputs = {n: row[n] for n in names if n in row}
    return Example({**inputs, **row}).with_inputs(*inputs)
