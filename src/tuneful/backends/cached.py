"""Cached: a backend that asks only what the cache cannot answer, and asks the same thing only once at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from tuneful.backends.base import Backend, Wrapper
from tuneful.backends.cache import Cache
from tuneful.errors import CacheMissError
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
        self._flights: dict[str, _Flight] = {}

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
        found = cache.find(self._keys(request))
        if all(f is not None for f in found):
            return found[0] if len(found) == 1 else _joined([f for f in found if f is not None])
        if cache.mode == "replay":
            raise CacheMissError(
                f"the cache replays and has no answer for this request to {self.endpoint}:\n"
                f"{request.messages[-1].text[:300]}\nRecord it: run once with tf.Cache(..., mode='readwrite')."
            )
        return None

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
        key = request.key(self.endpoint)
        flight = self._flights.get(key)
        if flight is not None:
            return replace(await flight.join(), hit=True)
        flight = self._flights[key] = _Flight(self._asked(request, cache))
        try:
            return await flight.join()
        finally:
            if self._flights.get(key) is flight and flight.task.done():
                del self._flights[key]

    async def _asked(self, request: Request, cache: Cache) -> Response:
        if request.sampling.n == 1:
            response = await self.inner.complete(request)
            await self._keep(cache, request, response)
            return response
        found = cache.find(self._keys(request)) if cache.answers else []
        have = next((i for i, f in enumerate(found) if f is None), 0)
        sampling = request.sampling.resolved()
        rest = replace(request, sampling=replace(sampling, n=sampling.n - have, sample=sampling.sample + have))
        response = await self.inner.complete(rest)
        await self._keep(cache, rest, response)
        kept = [f for f in found[:have] if f is not None]
        return replace(response, choices=(*(c for f in kept for c in f.choices), *response.choices))

    async def _keep(self, cache: Cache, request: Request, response: Response) -> None:
        if not cache.keeps or any(c.truncated or c.finish_reason == "filter" for c in response.choices):
            return
        count = len(response.choices)
        shares = [response] if count == 1 else [_share(response, i) for i in range(count)]
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
        async for part in self.inner.stream(request):
            if isinstance(part, Response) and cache is not None:
                await self._keep(cache, request, part)
            yield part


def _samples(request: Request) -> list[Request]:
    """Return the request for each of its samples alone."""
    sampling = request.sampling.resolved()
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
    """One call that several wait for. It is cancelled when nobody waits any more."""

    def __init__(self, work: Any) -> None:
        self.task: asyncio.Task[Response] = asyncio.ensure_future(work)
        self._waiting = 0

    async def join(self) -> Response:
        """Return the answer."""
        self._waiting += 1
        try:
            return await asyncio.shield(self.task)
        except asyncio.CancelledError:
            if self._waiting == 1 and not self.task.done():
                self.task.cancel()
            raise
        finally:
            self._waiting -= 1
