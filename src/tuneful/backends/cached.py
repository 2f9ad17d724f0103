"""Cached: a backend that asks only what the cache cannot answer, and asks the same thing only once at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from tuneful.backends.base import Backend, Hearing, Wrapper
from tuneful.backends.cache import Cache
from tuneful.errors import BudgetExceeded, CacheMissError, NotConfiguredError
from tuneful.wire.request import Request
from tuneful.wire.response import Delta, Response, Usage


class Cached(Wrapper):
    """Answers from a cache where it can.

    Identical requests in flight make one call (single-flight): the first one is asked, and charged; the others get its
    answer as a hit. Cancelling one of them does not cancel the call for the others; cancelling all does.

    Args:
        inner: the backend that is asked.
        cache: returns the cache in force where a request is made, or None.
    """

    def __init__(self, inner: Backend, cache: Callable[[], Cache | None]) -> None:
        super().__init__(inner)
        self._cache = cache
        self._flights: dict[tuple[Cache, str], _Flight] = {}

    def _in_force(self, request: Request) -> Cache | None:
        if not request.sampling.cache:
            return None
        cache = self._cache()
        return cache if cache is not None and cache.mode != "off" else None

    def find(self, request: Request) -> Response | None:
        """Return the kept answer to a request, or None. Asks nobody, waits for nothing.

        Raises:
            CacheMissError: the cache replays, and does not hold the answer.
        """
        cache = self._in_force(request)
        if cache is None or not cache.answers:
            return None
        if request.sampling.n == 1:  # the usual case, taken straight
            found = cache.find((request.key(self.endpoint),))
        else:
            found = cache.find(self._keys(request))
        if None not in found:
            return found[0] if len(found) == 1 else _joined([f for f in found if f is not None])
        if cache.mode == "replay":
            raise CacheMissError(
                f"the cache replays and has no answer for this request to {self.endpoint}:\n"
                f"{request.messages[-1].text[:300]}\nRecord it: run once with tf.Cache(..., mode='readwrite')."
            )
        return None

    def answers_at_once(self, request: Request) -> bool:
        """Say whether `ask` waits for nothing: neither the model nor a cache to write to."""
        return self.immediate and self._in_force(request) is None

    def _keys(self, request: Request) -> list[str]:
        return [one.key(self.endpoint) for one in _samples(request)]

    async def complete(self, request: Request) -> Response:
        """Answer from the cache, or ask."""
        found = self.find(request)
        return found if found is not None else await self.ask(request)

    async def ask(self, request: Request) -> Response:
        """Ask for what `find` did not have, and keep it. Samples that the cache has are not asked for again."""
        cache = self._in_force(request)
        if cache is None:
            return await self.inner.complete(request)
        several = request.sampling.n > 1
        key = (cache, request.key(self.endpoint) if several else self._keys(request)[0])
        while (flight := self._flights.get(key)) is not None and flight.may_be_joined():
            try:
                response = await flight.join()
            except (BudgetExceeded, NotConfiguredError):  # the budget of the one who asked, which is not ours
                continue
            self._count_as_hits(cache, request)
            return replace(response, hit=True)
        if cache.answers and not several and (kept := cache.remembered(key[1])) is not None:
            self._count_as_hits(cache, request)  # it was answered between `find` and now
            return kept
        flight = self._flights[key] = _Flight(self._asked(request, cache), lambda: self._flights.pop(key, None))
        return await flight.join()

    def _count_as_hits(self, cache: Cache, request: Request) -> None:
        if cache.answers:
            cache.count(request.sampling.n, -request.sampling.n)

    async def _asked(self, request: Request, cache: Cache) -> Response:
        if request.sampling.n == 1:
            response = await self.inner.complete(request)
            await self._keep(cache, request, response)
            return response
        found = cache.peek(self._keys(request)) if cache.answers else []
        have = next((i for i, f in enumerate(found) if f is None), len(found))
        kept = [f for f in found[:have] if f is not None]
        if have == request.sampling.n:  # they were answered between `find` and now
            self._count_as_hits(cache, request)
            return _joined(kept)
        sampling = request.sampling
        rest = replace(request, sampling=replace(sampling, n=sampling.n - have, sample=sampling.sample + have))
        response = await self.inner.complete(rest)
        await self._keep(cache, rest, response)
        return replace(response, choices=(*(c for f in kept for c in f.choices), *response.choices))

    async def _keep(self, cache: Cache, request: Request, response: Response) -> None:
        """Keep the samples before the first one that must not be kept: those after it would be asked for again."""
        if not cache.keeps:
            return
        choices = response.choices
        count = next((i for i, c in enumerate(choices) if c.truncated or c.finish_reason == "filter"), len(choices))
        shares = [response] if len(choices) == 1 else [_share(response, i) for i in range(count)]
        if count:
            await cache.keep(list(zip(self._keys(request), shares, strict=False)))

    async def stream(self, request: Request) -> AsyncIterator[Delta | Response]:
        """Answer from the cache in one piece, or hear the inner backend and keep what it said."""
        found = self.find(request)
        if found is not None:
            for index, choice in enumerate(found.choices):
                yield Delta(choice.text, choice.reasoning, index)
            yield found
            return
        cache = self._in_force(request)
        async with Hearing(self.inner.stream(request)) as parts:
            async for part in parts:
                if isinstance(part, Response) and cache is not None:
                    await self._keep(cache, request, part)
                yield part


def _samples(request: Request) -> list[Request]:
    """Return the request for each of its samples alone."""
    sampling = request.sampling
    if sampling.n == 1:
        return [request if sampling is request.sampling else replace(request, sampling=sampling)]
    return [replace(request, sampling=replace(sampling, n=1, sample=sampling.sample + i)) for i in range(sampling.n)]


def _share(response: Response, index: int) -> Response:
    """Return one sample as a response of its own; the first carries the usage of all."""
    usage = response.usage if index == 0 else Usage()
    return Response((response.choices[index],), usage, response.model)


def _joined(parts: Sequence[Response]) -> Response:
    usage = sum((p.usage for p in parts), Usage())
    return Response(tuple(c for p in parts for c in p.choices), usage, parts[0].model, hit=True)


class _Flight:
    """One call that several wait for. It is cancelled when nobody waits any more.

    Args:
        work: the call.
        landed: called when nobody may join any more.
    """

    def __init__(self, work: Any, landed: Callable[[], Any]) -> None:
        self._task: asyncio.Task[Response] = asyncio.ensure_future(work)
        self._task.add_done_callback(lambda _: self._land())
        self._landed: Callable[[], Any] | None = landed
        self._waiting = 0

    def may_be_joined(self) -> bool:
        """Whether it is still in the air, and in this event loop: a fork leaves flights behind that never land."""
        return self._landed is not None and self._task.get_loop() is asyncio.get_running_loop()

    async def join(self) -> Response:
        """Return the answer."""
        self._waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._waiting -= 1
            if not self._waiting and not self._task.done():  # everyone was cancelled
                self._land()
                self._task.cancel()

    def _land(self) -> None:
        landed, self._landed = self._landed, None
        if landed is not None:
            landed()
