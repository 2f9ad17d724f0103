"""Retried: a backend that asks again when the reason may pass, waiting longer each time."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from tuneful.backends.base import Backend, Hearing, Wrapper
from tuneful.backends.metered import note_retry
from tuneful.errors import LMError, LMRateLimitError, LMServerError, LMTimeoutError, LMTransportError
from tuneful.wire.request import Request
from tuneful.wire.response import Delta, Response

RETRYABLE = (LMRateLimitError, LMServerError, LMTransportError, LMTimeoutError)

_log = logging.getLogger(__name__)


class Retried(Wrapper):
    """Repeats a request that failed for a passing reason (429, 5xx, a broken connection, a timeout).

    A stream is repeated as long as nothing of it was passed on.

    Args:
        inner: the backend that is asked.
        retries: further attempts after the first.
        first_wait_s: wait before the second attempt; doubles each time, with jitter, up to `longest_wait_s`. Where
            the provider says how long to wait, that counts.
        deadline_s: seconds for all attempts and waits together: no wait is begun that would end later.
    """

    def __init__(
        self,
        inner: Backend,
        *,
        retries: int = 3,
        first_wait_s: float = 0.5,
        longest_wait_s: float = 30.0,
        deadline_s: float = 600.0,
    ) -> None:
        super().__init__(inner)
        self.immediate = False
        self._retries = retries
        self._first_wait_s = first_wait_s
        self._longest_wait_s = longest_wait_s
        self._deadline_s = deadline_s

    async def complete(self, request: Request) -> Response:
        """Answer one request; raises the last error when every attempt failed."""
        begun = time.monotonic()
        attempt = 0
        while True:
            try:
                response = await self.inner.complete(request)
            except RETRYABLE as error:
                await self._wait(error, attempt, begun)
                attempt += 1
            else:
                return _counted(response, attempt)

    async def stream(self, request: Request) -> AsyncIterator[Delta | Response]:
        """Answer one request piece by piece; what fails before its first piece is repeated."""
        begun = time.monotonic()
        attempt = 0
        while True:
            passed_on = False
            try:
                async with Hearing(self.inner.stream(request)) as parts:
                    async for part in parts:
                        passed_on = True
                        yield _counted(part, attempt) if isinstance(part, Response) else part
                return
            except RETRYABLE as error:
                if passed_on:
                    raise
                await self._wait(error, attempt, begun)
                attempt += 1

    async def _wait(self, error: LMError, attempt: int, begun: float) -> None:
        """Wait before the next attempt, or raise the error where there is none."""
        if attempt >= self._retries:
            raise error
        wait_s = self._wait_s(attempt, error)
        if time.monotonic() - begun + wait_s > self._deadline_s:
            error.add_note(f"No further attempt: the next wait is {wait_s:.0f} s, the deadline {self._deadline_s:g} s.")
            raise error
        note_retry()
        _log.info(
            "attempt %d of %s failed (%s); again in %.1f s", attempt + 1, self.endpoint, type(error).__name__, wait_s
        )
        await asyncio.sleep(wait_s)

    def _wait_s(self, attempt: int, error: LMError) -> float:
        if error.retry_after_s is not None:
            return error.retry_after_s
        backoff: float = min(self._longest_wait_s, self._first_wait_s * 2**attempt)
        return backoff * random.uniform(0.5, 1.0)


def _counted(response: Response, retries: int) -> Response:
    return replace(response, usage=replace(response.usage, retries=retries)) if retries else response
