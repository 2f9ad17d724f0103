"""Reranker: scores of passages for a query, from a server with a reranking model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tuneful.backends.cached import Cached
from tuneful.backends.http.searching import RerankServer, rerank_request
from tuneful.backends.limited import Limited
from tuneful.backends.metered import Metered, note_hit
from tuneful.backends.models import Price
from tuneful.backends.rebuilt import Rebuilt
from tuneful.backends.retried import Retried
from tuneful.errors import InputError
from tuneful.program.running import runtime
from tuneful.program.running.portal import portal


class Reranker(Rebuilt):
    """A reranking model behind `POST {address}/rerank`: Cohere, Jina, Voyage, vLLM, llama.cpp and others.

        ranker = tf.Reranker("rerank-v3.5", api_base="https://api.cohere.com/v2", api_key=...)
        find = tf.Rerank(tf.BM25(corpus), ranker)

    Use it where a first retriever finds the right passages, but not in the right order. The response cache keeps the
    scores; budgets and `track_usage` count a request as a call.

    Args:
        model: the name that the server knows.
        api_base: its address, up to and including the version.
        api_key: key, where the server needs one. Never saved, logged or shown.
        price_per_million: US dollars for a million tokens, where the server counts them; else what
            `tf.configure(prices=...)` says. While it is not known, no budget in dollars lets a request leave.
        num_retries: further attempts when a request fails for a passing reason.
        retry_deadline_s: seconds for all attempts of a request together.
        max_concurrency, requests_per_minute: bounds for requests.
        options: timeout_s, connect_timeout_s, ca_bundle, headers.

    Raises:
        UsageError: an unknown option, or a limit that is none.

    Cost: 1 request for each query.

    Source: Nogueira and Cho (2019), "Passage Re-ranking with BERT".
    """

    def __init__(
        self,
        model: str,
        *,
        api_base: str,
        api_key: str | None = None,
        price_per_million: float | None = None,
        num_retries: int = 3,
        retry_deadline_s: float = 600.0,
        max_concurrency: int = 8,
        requests_per_minute: float | None = None,
        **options: Any,
    ) -> None:
        self.model = model
        self._price = None if price_per_million is None else runtime.price_of(model, (price_per_million, 0.0))
        server = RerankServer(model, api_base, api_key=api_key, options=options)
        metered = Metered(server, model, lambda: self.price)
        limited = Limited(metered, max_concurrency=max_concurrency, requests_per_minute=requests_per_minute)
        self._backend = Cached(
            Retried(limited, retries=num_retries, deadline_s=retry_deadline_s), runtime.current_cache
        )

    @property
    def price(self) -> Price | None:
        """Price in force, or None where it is not known."""
        prices: Mapping[str, Price] = runtime.settings.prices
        return self._price or prices.get(self.model)

    def __call__(self, query: str, passages: Sequence[str]) -> list[float]:
        """Return a score for each passage, higher for those that fit better, and block until they are there.

        Raises:
            InputError: something is no text. Nothing was asked.
            LMError, BudgetExceeded: from the server, or on the way to it.
        """
        return portal.run(self._scores(query, passages))

    async def acall(self, query: str, passages: Sequence[str]) -> list[float]:
        """Return a score for each passage, in the current event loop; otherwise as a call."""
        return await portal.bring(self._scores(query, passages))

    async def _scores(self, query: str, passages: Sequence[str]) -> list[float]:
        if isinstance(passages, str) or not all(isinstance(text, str) for text in (query, *passages)):
            raise InputError("a reranker takes a text and a list of texts. Nothing was asked.")
        if not passages:
            return []
        request = rerank_request(str(query), [str(p) for p in passages])
        response = self._backend.find(request)
        if response is None:
            response = await self._backend.ask(request)
        if response.hit:
            note_hit(self.model)
        scores: list[float] = json.loads(response.choices[0].text)
        return scores

    async def aclose(self) -> None:
        """Close connections. It may be used again and reopens them then."""
        await portal.bring(self._backend.aclose())

    def __repr__(self) -> str:
        return f"Reranker({self.model!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Reranker:
        return self  # connections are shared by the copies of a program
