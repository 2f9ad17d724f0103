"""Sampled: a backend that gives as many samples as were asked for, whatever the service thinks of `n`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from tuneful.backends.base import Hearing, Wrapper
from tuneful.wire.request import Request
from tuneful.wire.response import Delta, Response, Usage


class Sampled(Wrapper):
    """Turns a request for n samples into n requests where the service takes one at a time.

    A service that takes `n` and gives fewer is asked for the rest. Each sample has a number of its own, which seeds it.
    It stands around the cache, so that samples that were paid for are kept even where a later one fails.
    """

    async def complete(self, request: Request) -> Response:
        """Answer one request with `sampling.n` choices."""
        wanted = request.sampling.n
        if wanted == 1:
            return _first(await self.inner.complete(request), 1)
        first = await self.inner.complete(request) if self.inner.several else None
        have = len(first.choices) if first else 0
        if first is not None and have >= wanted:
            return _first(first, wanted)
        sampling = request.sampling.resolved()
        singles = [
            replace(request, sampling=replace(sampling, n=1, sample=sampling.sample + i)) for i in range(have, wanted)
        ]
        parts = [*([first] if first else []), *await self._each(singles)]
        hit = all(p.hit for p in parts)
        usage = sum((p.usage if hit else p.charged for p in parts), Usage())
        return Response(tuple(c for p in parts for c in p.choices), usage, parts[0].model, hit)

    async def _each(self, singles: Sequence[Request]) -> list[Response]:
        """Ask for single samples, side by side where asking waits for anything. The first failure ends all."""
        if self.immediate:
            return [_first(await self.inner.complete(single), 1) for single in singles]
        tasks = [asyncio.ensure_future(self.inner.complete(single)) for single in singles]
        try:
            return [_first(r, 1) for r in await asyncio.gather(*tasks)]
        finally:
            for task in tasks:
                task.cancel()

    async def stream(self, request: Request) -> AsyncIterator[Delta | Response]:
        """Stream one sample; several are given whole."""
        if request.sampling.n == 1:
            async with Hearing(self.inner.stream(request)) as parts:
                async for part in parts:
                    yield part
            return
        response = await self.complete(request)
        for index, choice in enumerate(response.choices):
            yield Delta(choice.text, choice.reasoning, index)
        yield response


def _first(response: Response, count: int) -> Response:
    """Return a response without the choices that nobody asked for."""
    return response if len(response.choices) <= count else replace(response, choices=response.choices[:count])
