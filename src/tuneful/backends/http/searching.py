"""Servers that search and rerank: requests that are no chat, through the connections and errors of the others.

A search is a request of one message, and its response one choice with the passages as JSON; a reranking is a request
of the query and of each passage as messages, and its response one choice with the scores as JSON. So `Retried`,
`Limited`, `Metered` and the response cache serve them unchanged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from tuneful.backends.base import Backend
from tuneful.backends.http.backend import HTTPBackend
from tuneful.backends.http.exchange import Reply
from tuneful.errors import LMServerError
from tuneful.wire.messages import user
from tuneful.wire.request import Request, Sampling
from tuneful.wire.response import Choice, Response, Usage

#: A server of the user's own: no key but one that is given.
_OWN = "vllm"


def search_request(query: str, k: int) -> Request:
    """Return the request that asks for k passages."""
    return Request((user(query),), Sampling(n=k))


def rerank_request(query: str, passages: Sequence[str]) -> Request:
    """Return the request that asks for the scores of some passages."""
    return Request(tuple(map(user, (query, *passages))))


class _Server(Backend):
    """Base: an address, and how an answer is read."""

    def __init__(self, name: str, url: str, api_key: str | None, options: dict[str, Any]) -> None:
        self.http = HTTPBackend(name, provider=_OWN, api_base=url, api_key=api_key, **options)
        self.endpoint = f"{type(self).__name__.lower()} {self.http.endpoint}"

    async def complete(self, request: Request) -> Response:
        """Send one request. Raises a branch of LMError that says what failed."""
        body = self.http.json_of(await self._reply(request))
        try:
            text, usage = self._answer(body, request)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise LMServerError(
                f"{self.http.base_url} answered with something else than {self.expected} ({error!r:.100}): "
                f"{self.http.safe(str(body)[:300])!r}.",
                model=self.http.model,
            ) from None  # the error may quote the body, and a body may quote the key
        return Response((Choice(text),), usage, self.http.model)

    #: What an answer holds, in words.
    expected: str

    async def _reply(self, request: Request) -> Reply:
        raise NotImplementedError

    def _answer(self, body: Any, request: Request) -> tuple[str, Usage]:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the connections."""
        await self.http.aclose()


class SearchServer(_Server):
    """A server that answers `GET url?query=...&k=...` with `{"topk": [{"text", "pid", "score"}, ...]}`.

    Args:
        url: its address.
        post: send the query as JSON in the body of a POST instead: for queries longer than an address may be.
        options: settings of `HTTPBackend` (timeout_s, connect_timeout_s, ca_bundle, headers).
    """

    expected = 'a list of passages, {"topk": [{"text": ..., "pid": ..., "score": ...}]}'

    def __init__(self, url: str, *, post: bool, options: dict[str, Any]) -> None:
        super().__init__("search", url, None, options)
        self._post = post

    async def _reply(self, request: Request) -> Reply:
        http, asked = self.http, {"query": request.messages[0].text, "k": request.sampling.n}
        if self._post:
            return await http.transport.post_json(http.base_url, asked, http.request_headers())
        return await http.transport.get(f"{http.base_url}?{urlencode(asked)}", http.request_headers())

    def _answer(self, body: Any, request: Request) -> tuple[str, Usage]:
        found = body["topk"]
        if not isinstance(found, list) or not all(isinstance(p["text"], str) for p in found):
            raise ValueError("no list of passages")
        return json.dumps(found[: request.sampling.n]), Usage(calls=1)


class RerankServer(_Server):
    """A server with `POST {address}/rerank`, as Cohere, Jina, Voyage, vLLM, llama.cpp and others have it.

    Args:
        model: the name that the server knows.
        url: its address, up to and including the version.
        api_key: key, where it needs one.
        options: settings of `HTTPBackend`.
    """

    expected = 'a score for each passage, {"results": [{"index": ..., "relevance_score": ...}]}'

    def __init__(self, model: str, url: str, *, api_key: str | None, options: dict[str, Any]) -> None:
        super().__init__(model, url, api_key, options)

    async def _reply(self, request: Request) -> Reply:
        query, *documents = (m.text for m in request.messages)
        body = {"model": self.http.model, "query": query, "documents": documents}
        return await self.http.transport.post_json(f"{self.http.base_url}/rerank", body, self.http.request_headers())

    def _answer(self, body: Any, request: Request) -> tuple[str, Usage]:
        rows = body if isinstance(body, list) else body.get("results") or body["data"]
        scores = {row["index"]: float(row["relevance_score" if "relevance_score" in row else "score"]) for row in rows}
        listed = [scores[index] for index in range(len(request.messages) - 1)]
        if len(scores) != len(listed) or not all(map(math.isfinite, listed)):
            raise ValueError("not one finite score for each")
        usage = body.get("usage") if isinstance(body, dict) else None
        tokens = (usage or {}).get("total_tokens") or 0
        return json.dumps(listed), Usage(calls=1, prompt_tokens=int(tokens))
