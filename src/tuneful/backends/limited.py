"""Limited: a backend that keeps within what a provider allows, and learns what that is from its refusals."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator

from tuneful.backends.base import Backend, Wrapper
from tuneful.errors import LMRateLimitError
from tuneful.wire.request import Request
from tuneful.wire.response import Delta, Response

_log = logging.getLogger(__name__)

#: Characters of a token, for what a request will probably count as before its answer says so.
_CHARS_PER_TOKEN = 4


class Limited(Wrapper):
    """Holds requests back until they may leave, first come first served.

    A refusal (429) halves the number in flight and stops departures for as long as the provider says; every answer
    after that raises it again by a little, up to where it was. Without any limit given, that alone is at work.

    Args:
        inner: the backend that is asked.
        max_concurrency: requests in flight.
        requests_per_minute: departures in any 60 seconds.
        tokens_per_minute: tokens sent and generated in any 60 seconds: estimated when a request leaves, put right when
            its answer comes.
    """

    def __init__(
        self,
        inner: Backend,
        *,
        max_concurrency: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        super().__init__(inner)
        self._ceiling: float = max_concurrency or math.inf
        self._limit = self._ceiling
        self._windows = [
            (_Window(rate), counts_tokens)
            for rate, counts_tokens in ((requests_per_minute, False), (tokens_per_minute, True))
            if rate is not None
        ]
        self._in_flight = 0
        self._departures = 0
        self._cut_at = -1  # the number of the departure at which the limit was last cut
        self._paused_until = 0.0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._answer_tokens = 100.0  # running mean

    @property
    def limit(self) -> float:
        """Requests in flight that are allowed now."""
        return self._limit

    async def complete(self, request: Request) -> Response:
        """Answer one request when it may leave."""
        number, charges = await self._enter(request)
        try:
            response = await self.inner.complete(request)
        except LMRateLimitError as error:
            self._refused(number, error)
            raise
        else:
            self._answered(response, charges)
            return response
        finally:
            self._leave()

    async def stream(self, request: Request) -> AsyncIterator[Delta | Response]:
        """Stream one request when it may leave."""
        number, charges = await self._enter(request)
        try:
            async for part in self.inner.stream(request):
                if isinstance(part, Response):
                    self._answered(part, charges)
                yield part
        except LMRateLimitError as error:
            self._refused(number, error)
            raise
        finally:
            self._leave()

    # --- coming and going ---

    async def _enter(self, request: Request) -> tuple[int, list[_Charge]]:
        if self._queue or self._in_flight >= self._limit:
            await self._queued()
        else:
            self._in_flight += 1
        try:
            charges = [] if not self._windows else await self._charged(request)
            await self._pause()
        except BaseException:
            self._leave()
            raise
        self._departures += 1
        return self._departures, charges

    async def _pause(self) -> None:
        pause = self._paused_until - time.monotonic()
        while pause > 0:
            await asyncio.sleep(pause)
            pause = self._paused_until - time.monotonic()

    async def _queued(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was let in and cancelled at once
                self._leave()
            raise

    def _leave(self) -> None:
        self._in_flight -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._queue and self._in_flight < self._limit:
            turn = self._queue.popleft()
            if not turn.done():
                self._in_flight += 1
                turn.set_result(None)

    async def _charged(self, request: Request) -> list[_Charge]:
        tokens = sum(len(m.text) for m in request.messages) / _CHARS_PER_TOKEN + self._answer_tokens
        return [await window.charge(tokens if counts else 1) for window, counts in self._windows]

    # --- learning ---

    def _answered(self, response: Response, charges: list[_Charge]) -> None:
        usage = response.usage
        self._answer_tokens += 0.05 * (usage.completion_tokens - self._answer_tokens)
        for (_, counts), charge in zip(self._windows, charges, strict=True):
            if counts and usage.total_tokens:
                charge.correct(usage.total_tokens)
        if self._limit < self._ceiling:
            self._limit = min(self._ceiling, self._limit + 1 / self._limit)
            if self._limit > 2 * self._most_wanted():
                self._limit = self._ceiling
            self._let_in()

    def _most_wanted(self) -> int:
        return max(8, self._in_flight + len(self._queue))

    def _refused(self, number: int, error: LMRateLimitError) -> None:
        if error.retry_after_s:
            self._paused_until = max(self._paused_until, time.monotonic() + error.retry_after_s)
        if number <= self._cut_at:  # it left before the last cut: it tells nothing new
            return
        self._cut_at = self._departures
        self._limit = max(1.0, min(self._limit, self._in_flight) / 2)
        _log.info("%s refuses: now at most %d requests in flight", self.endpoint, self._limit)


class _Charge:
    """One entry of a window."""

    __slots__ = ("amount", "at", "window")

    def __init__(self, window: _Window, at: float, amount: float) -> None:
        self.window, self.at, self.amount = window, at, amount

    def correct(self, amount: float) -> None:
        """Set what it really was."""
        self.window.used += amount - self.amount if not self.expired() else 0.0
        self.amount = amount

    def expired(self) -> bool:
        """Whether the window has forgotten it."""
        return not self.window.entries or self.at < self.window.entries[0].at


class _Window:
    """What was used in the last 60 seconds, and a queue for more."""

    SECONDS = 60.0

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._gate = asyncio.Lock()
        self.entries: deque[_Charge] = deque()
        self.used = 0.0

    async def charge(self, amount: float) -> _Charge:
        """Wait until `amount` fits (an amount beyond the rate fits an empty window), and enter it."""
        async with self._gate:
            while True:
                now = time.monotonic()
                while self.entries and self.entries[0].at <= now - self.SECONDS:
                    self.used -= self.entries.popleft().amount
                if not self.entries or self.used + amount <= self._rate:
                    break
                await asyncio.sleep(self.entries[0].at + self.SECONDS - now)
            entry = _Charge(self, now, amount)
            self.entries.append(entry)
            self.used += amount
            return entry
