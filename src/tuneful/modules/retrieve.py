"""Retrieve: passages for a query, from whatever retriever is configured or passed."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

from tuneful.errors import NotConfiguredError, UsageError
from tuneful.program.module import Module
from tuneful.program.portal import portal
from tuneful.program.runtime import settings
from tuneful.spec.prediction import Prediction


class Retrieve(Module):
    """Ask a retriever. Returns a prediction with `passages`, the best first.

    Args:
        k: passages to return, where the call does not say.
        rm: the retriever: any `(query, k) -> passages`, plain or async. By default `tf.configure(rm=...)`.

    Cost: no model call.
    """

    def __init__(self, k: int = 3, rm: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.k = k
        self.rm = rm

    async def forward(self, query: str, k: int | None = None) -> Prediction:
        """Retrieve.

        Raises:
            NotConfiguredError: there is no retriever.
            UsageError: it returned something that is no list of passages.
        """
        retriever = self.rm or settings.rm
        if retriever is None:
            raise NotConfiguredError(
                "no retriever is configured. Pass one, tf.Retrieve(rm=...), or tf.configure(rm=...): any function "
                "(query, k) -> passages, such as tf.BM25(list_of_texts)."
            )
        wanted = self.k if k is None else k
        found = await portal.in_thread(lambda: retriever(query, wanted))
        if inspect.isawaitable(found):
            found = await found
        if isinstance(found, str) or not hasattr(found, "__iter__"):
            raise UsageError(f"a retriever returns a list of passages, this one returned {found!r:.80}.")
        return Prediction(passages=[p if isinstance(p, str) else getattr(p, "text", str(p)) for p in found])

    def __deepcopy__(self, memo: dict[int, Any]) -> Retrieve:
        memo[id(self.rm)] = self.rm  # an index or a connection: shared by the copies of a program, as an LM is
        twin = object.__new__(type(self))
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin
