"""Sampled: a backend that gives as many samples as were asked for, whatever the service thinks of `n`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from tuneful.backends.base import Wrapper
from tuneful.wire.request import Request
from tuneful.wire.response import Delta, Response, Usage


class Sampled(Wrapper):
    """Turns a request for n samples into n requests where the service takes one at a time.

    A service that takes `n` and gives fewer is asked for the rest. Each sample has a number of its own, which seeds it.
    """

    async def complete(self, request: Request) -> Response:
        """Answer one request with `sampling.n` choices."""
        wanted = request.sampling.n
        if wanted == 1:
            return await self.inner.complete(request)
        first = await self.inner.complete(request) if self.inner.several else None
        have = len(first.choices) if first else 0
        if first is not None and have >= wanted:
            return first
        sampling = request.sampling.resolved()
        singles = [
            replace(request, sampling=replace(sampling, n=1, sample=sampling.sample + i)) for i in range(have, wanted)
        ]
        tasks = [asyncio.ensure_future(self.inner.complete(single)) for single in singles]
        try:
            parts = [*([first] if first else []), *await asyncio.gather(*tasks)]
        finally:
            for task in tasks:
                task.cancel()
        usage = sum((p.usage for p in parts), Usage())
        return Response(tuple(c for p in parts for c in p.choices), usage, parts[0].model)

    async def stream(self, request: Request) -> AsyncIterator[Delta | Response]:
        """Stream one sample; several are given whole."""
        if request.sampling.n == 1:
            async for part in self.inner.stream(request):
                yield part
            return
        response = await self.complete(request)
        for index, choice in enumerate(response.choices):
            yield Delta(choice.text, choice.reasoning, index)
        yield response
