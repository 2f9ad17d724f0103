"""Retried: a backend that asks again when the reason may pass, waiting longer each time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

from tuneful.backends.base import Backend
from tuneful.errors import LMError, LMRateLimitError, LMServerError, LMTimeoutError, LMTransportError
from tuneful.wire.messages import Message
from tuneful.wire.request import Request
from tuneful.wire.response import Response

RETRYABLE = (LMRateLimitError, LMServerError, LMTransportError, LMTimeoutError)


class Retried(Backend):
    """Repeats a request that failed for a passing reason (429, 5xx, a broken connection, a timeout).

    Args:
        inner: the backend that is asked.
        retries: further attempts after the first.
        first_wait_s: wait before the second attempt; doubles each time, with jitter, up to `longest_wait_s`. Where
            the provider says how long to wait, that counts.
    """

    def __init__(
        self, inner: Backend, *, retries: int = 3, first_wait_s: float = 0.5, longest_wait_s: float = 30.0
    ) -> None:
        self._inner = inner
        self._retries = retries
        self._first_wait_s = first_wait_s
        self._longest_wait_s = longest_wait_s
        self.endpoint = inner.endpoint
        self.capabilities = inner.capabilities
        self.local = inner.local

    async def complete(self, request: Request) -> Response:
        """Answer one request; raises the last error when every attempt failed."""
        for attempt in range(self._retries + 1):
            try:
                response = await self._inner.complete(request)
                return replace(response, usage=replace(response.usage, retries=attempt))
            except RETRYABLE as error:
                if attempt == self._retries:
                    raise
                await asyncio.sleep(self._wait_s(attempt, error))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _wait_s(self, attempt: int, error: LMError) -> float:
        if error.retry_after_s is not None:
            return error.retry_after_s
        backoff: float = min(self._longest_wait_s, self._first_wait_s * 2**attempt)
        return backoff * random.uniform(0.5, 1.0)

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Return the inner backend's count."""
        return await self._inner.count_tokens(messages)

    async def aclose(self) -> None:
        """Close the inner backend."""
        await self._inner.aclose()
