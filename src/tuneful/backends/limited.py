"""Limited: a backend that keeps within what a provider allows, and learns what that is from its refusals."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections import deque
from collections.abc import AsyncIterator
from weakref import WeakSet

from tuneful.backends.base import Backend, Hearing, Wrapper
from tuneful.backends.metered import CHARS_PER_TOKEN
from tuneful.errors import LMRateLimitError
from tuneful.wire.request import Request
from tuneful.wire.response import Delta, Response

_log = logging.getLogger(__name__)


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
        longest_pause_s: where a provider asks for a longer wait, requests fail at once instead of waiting.
    """

    def __init__(
        self,
        inner: Backend,
        *,
        max_concurrency: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        longest_pause_s: float = 600.0,
    ) -> None:
        super().__init__(inner)
        self.immediate = False
        self._ceiling: float = max_concurrency or math.inf
        self._limit = self._ceiling
        self._windows = [
            (_Window(rate), counts_tokens)
            for rate, counts_tokens in ((requests_per_minute, False), (tokens_per_minute, True))
            if rate is not None
        ]
        self._longest_pause_s = longest_pause_s
        self._gate = asyncio.Lock()
        self._in_flight = 0
        self._departures = 0
        self._cut_at = -1  # the number of the departure at which the limit was last cut
        self._wanted = 0  # most requests at once since then
        self._paused_until = 0.0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._answer_tokens = 100.0  # running mean
        _made.add(self)

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
            async with Hearing(self.inner.stream(request)) as parts:
                async for part in parts:
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
        if self._queue or self._in_flight + 1 > self._limit:
            await self._queued()
        else:
            self._in_flight += 1
        charges: list[_Charge] = []
        if self._windows or self._paused_until:
            try:
                charges = await self._charged(request)
            except BaseException:
                self._leave()
                raise
        self._departures += 1
        return self._departures, charges

    async def _charged(self, request: Request) -> list[_Charge]:
        """Wait until no pause is on and every window has room, and enter the request into all of them at once.

        What is entered leaves in the same moment, so that no 60 seconds see more departures than entries.
        """
        tokens = sum(len(m.text) for m in request.messages) / CHARS_PER_TOKEN + self._answer_tokens
        amounts = [tokens if counts else 1.0 for _, counts in self._windows]
        async with self._gate:
            while True:
                now = time.monotonic()
                pause = self._pause_s(now)
                wait = max([pause, *(w.wait_s(now, a) for (w, _), a in zip(self._windows, amounts, strict=True))])
                if wait <= 0:
                    return [w.enter(now, a) for (w, _), a in zip(self._windows, amounts, strict=True)]
                await asyncio.sleep(wait)

    def _pause_s(self, now: float) -> float:
        pause = self._paused_until - now
        if pause > self._longest_pause_s:
            raise LMRateLimitError(
                f"{self.endpoint} has refused a request and asked to wait: for another {pause:.0f} s now. "
                "Nothing was sent.",
                retry_after_s=pause,
            )
        if pause <= 0:
            self._paused_until = 0.0
        return pause

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
        while self._queue and self._in_flight + 1 <= self._limit:
            turn = self._queue.popleft()
            if not turn.done():
                self._in_flight += 1
                turn.set_result(None)

    # --- learning ---

    def _answered(self, response: Response, charges: list[_Charge]) -> None:
        usage = response.usage
        self._answer_tokens += 0.05 * (usage.completion_tokens - self._answer_tokens)
        for (_, counts), charge in zip(self._windows, charges, strict=True):
            if counts and usage.total_tokens:
                charge.correct(usage.total_tokens)
        if self._limit < self._ceiling:
            self._limit = min(self._ceiling, self._limit + 1 / self._limit)
            self._wanted = max(self._wanted, self._in_flight + len(self._queue))
            if self._limit > 2 * self._wanted:  # it binds nobody any more
                self._limit = self._ceiling
            self._let_in()

    def _refused(self, number: int, error: LMRateLimitError) -> None:
        if error.retry_after_s:
            self._paused_until = max(self._paused_until, time.monotonic() + error.retry_after_s)
        if number <= self._cut_at:  # it left before the last cut: it tells nothing new
            return
        self._cut_at = self._departures
        self._wanted = self._in_flight + len(self._queue)
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
    """What was used in the last 60 seconds."""

    SECONDS = 60.0

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self.entries: deque[_Charge] = deque()
        self.used = 0.0

    def wait_s(self, now: float, amount: float) -> float:
        """Return how long to wait before `amount` may fit; an amount beyond the rate fits an empty window."""
        while self.entries and self.entries[0].at <= now - self.SECONDS:
            self.used -= self.entries.popleft().amount
        if not self.entries:
            self.used = 0.0  # no rounding error outlives its entries
            return 0.0
        return 0.0 if self.used + amount <= self._rate else self.entries[0].at + self.SECONDS - now

    def enter(self, now: float, amount: float) -> _Charge:
        """Enter an amount."""
        entry = _Charge(self, now, amount)
        self.entries.append(entry)
        self.used += amount
        return entry


_made: WeakSet[Limited] = WeakSet()


def _after_fork() -> None:
    """Forget the requests of the process that was forked: here they never leave."""
    for limited in list(_made):
        limited._in_flight = 0
        limited._queue.clear()
        limited._gate = asyncio.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
