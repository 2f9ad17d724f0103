"""Bounded concurrency with results in the order of the items, whatever the timing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tuneful.program.running.runtime import settings

if TYPE_CHECKING:
    from tuneful.program.module import Module

T = TypeVar("T")


async def gather_bounded(
    items: Sequence[T], work: Callable[[T], Awaitable[Any]], limit: int, *, keep_errors: bool = False
) -> list[Any]:
    """Run `work` on every item, at most `limit` at once.

    Args:
        items: what to work on.
        work: an asynchronous function of one item.
        limit: items in flight.
        keep_errors: put an exception in the place of its result; otherwise the first cancels the rest and is raised.

    Returns:
        One result for each item, in their order.
    """
    crew = _Crew(items, work, limit, keep_errors=keep_errors)
    await crew.finish()
    return crew.results


class _Crew:
    """Workers that share one list of items.

    A worker starts the next one when it takes its first item, so there are only as many as ever wait at once: items
    that are done without waiting (answers from the cache) need one.
    """

    #: Seconds of work without a wait after which the event loop gets a turn.
    TURN_S = 0.02

    def __init__(
        self, items: Sequence[T], work: Callable[[T], Awaitable[Any]], limit: int, *, keep_errors: bool
    ) -> None:
        self._upcoming = iter(enumerate(items))
        self._count = len(items)
        self._work: Callable[[Any], Awaitable[Any]] = work
        self._limit = max(1, limit)
        self._keep_errors = keep_errors
        self._workers: list[asyncio.Task[None]] = []
        self._at_work = 0
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.results: list[Any] = [None] * len(items)

    async def finish(self) -> None:
        """Return when every item is done, or raise the first error; nothing goes on after that."""
        if not self._count:
            return
        self._hire()
        try:
            await self._ended
        finally:
            for task in self._workers:
                task.cancel()
            await asyncio.gather(*self._workers, return_exceptions=True)

    def _hire(self) -> None:
        self._at_work += 1
        task = asyncio.ensure_future(self._worker())
        task.add_done_callback(self._left)
        self._workers.append(task)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._at_work -= 1
        if self._ended.done():
            return
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._ended.set_exception(error)
        elif task.cancelled():
            self._ended.cancel()
        elif not self._at_work:
            self._ended.set_result(None)

    async def _worker(self) -> None:
        alone = True
        begun = time.perf_counter()
        for index, item in self._upcoming:
            if alone and len(self._workers) < self._limit and index + 1 < self._count:
                self._hire()
            alone = False
            try:
                self.results[index] = await self._work(item)
            except Exception as error:
                if not self._keep_errors:
                    raise
                self.results[index] = error
            if (now := time.perf_counter()) - begun > self.TURN_S:
                await asyncio.sleep(0)
                begun = now


def in_flight(num_threads: int | None, program: Module) -> int:
    """Return how many runs of a program to keep in flight.

    That is what the caller says; else what the LMs in force want, where one of them gathers batches; else the setting.
    """
    if num_threads:
        return num_threads
    own = [predictor.lm for _, predictor in program.named_predictors()]
    wanted = [lm.capabilities.in_flight or 0 for lm in {*own, settings.lm} if lm is not None]
    return max(wanted, default=0) or settings.num_threads
