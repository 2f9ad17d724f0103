"""ColBERTv2: passages from a server that holds a ColBERTv2 index."""

from __future__ import annotations

import json
import math
from typing import Any

from tuneful.backends.http.searching import SearchServer, search_request
from tuneful.backends.rebuilt import Rebuilt
from tuneful.backends.retried import Retried
from tuneful.errors import DataError, LMServerError, UsageError
from tuneful.program.running.portal import portal
from tuneful.spec.passage import Passage


class ColBERTv2(Rebuilt):
    """A retriever over HTTP: `GET url?query=...&k=...`, answered by `{"topk": [{"text", "pid", "score"}, ...]}`.

        tf.configure(rm=tf.ColBERTv2("http://colbert.example:2017/wiki17_abstracts"))

    Use it where a corpus is too large for this machine, or is served already. A text "Title | text", which such
    servers send, becomes a passage with that title. Connections are kept, and passing failures (a broken connection, a
    timeout, 429, 5xx) are tried again, longer and longer apart. Answers are not cached: an index may change.

    Args:
        url: address of the search.
        port: put behind the host, where the address has none.
        post_requests: send the query in the body of a POST: for queries longer than an address may be.
        timeout_s: seconds for one exchange.
        num_retries: further attempts.
        retry_deadline_s: seconds for all attempts together.
        options: connect_timeout_s, ca_bundle, headers.

    Raises:
        UsageError: the address or a limit is none.

    Cost: one request; no model call that a budget counts.

    Source: Santhanam et al. (2022), "ColBERTv2: Effective and Efficient Retrieval via Lightweight Late Interaction".
    """

    def __init__(
        self,
        url: str,
        port: int | str | None = None,
        post_requests: bool = False,
        *,
        timeout_s: float = 10.0,
        num_retries: int = 3,
        retry_deadline_s: float = 60.0,
        **options: Any,
    ) -> None:
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise UsageError(f"`url` is {url!r:.80}; expected an address such as 'http://host:2017/search'.")
        if isinstance(num_retries, bool) or not isinstance(num_retries, int) or num_retries < 0:
            raise UsageError(f"`num_retries` is {num_retries!r}; expected a whole number of at least 0.")
        self.url = f"{url.rstrip('/')}:{port}" if port is not None else url
        server = SearchServer(self.url, post=post_requests, options={"timeout_s": timeout_s, **options})
        self._backend = Retried(server, retries=num_retries, deadline_s=retry_deadline_s)

    def __call__(self, query: str, k: int = 10) -> list[Passage]:
        """Return at most k passages, the best first, and block until they are there.

        Raises:
            LMTimeoutError, LMTransportError, LMServerError: the server is not there, or its answer is none.
            LMInvalidRequestError: it refuses the request.
            UsageError: the query is no text, or k is below 1.
        """
        return portal.run(self._search(query, k))

    async def acall(self, query: str, k: int = 10) -> list[Passage]:
        """Return at most k passages, in the current event loop; otherwise as a call."""
        return await portal.bring(self._search(query, k))

    async def _search(self, query: str, k: int) -> list[Passage]:
        if not isinstance(query, str) or isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise UsageError(f"a query is a text and `k` a whole number of at least 1, got {query!r:.80} and {k!r}.")
        response = await self._backend.complete(search_request(query, k))
        try:
            return [_passage(found) for found in json.loads(response.choices[0].text)]
        except DataError as error:
            raise LMServerError(f"{self.url} answered with something that is no passage: {error}") from error

    async def aclose(self) -> None:
        """Close connections. It may be used again and reopens them then."""
        await portal.bring(self._backend.aclose())

    def __repr__(self) -> str:
        return f"ColBERTv2({self.url!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> ColBERTv2:
        return self  # connections are shared by the copies of a program


def _passage(found: dict[str, Any]) -> Passage:
    passage = Passage.of(found)
    title, bar, text = passage.text.partition(" | ")
    score = passage.score if passage.score is not None and math.isfinite(passage.score) else None
    if bar and not passage.title:
        return Passage(text, id=passage.id, title=title, score=score)
    return passage.scored(score)
