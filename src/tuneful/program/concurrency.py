"""Bounded concurrency with results in the order of the items, whatever the timing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tuneful.program.runtime import settings

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
    results: list[Any] = [None] * len(items)
    upcoming = iter(enumerate(items))

    async def worker() -> None:
        for index, item in upcoming:
            try:
                results[index] = await work(item)
            except Exception as error:
                if not keep_errors:
                    raise
                results[index] = error

    workers = [asyncio.ensure_future(worker()) for _ in range(max(1, min(limit, len(items))))]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return results


def in_flight(num_threads: int | None, program: Module) -> int:
    """Return how many runs of a program to keep in flight.

    That is what the caller says; else what the LMs in force want, where one of them gathers batches; else the setting.
    """
    if num_threads:
        return num_threads
    own = [predictor.lm for _, predictor in program.named_predictors()]
    wanted = [lm.capabilities.in_flight or 0 for lm in {*own, settings.lm} if lm is not None]
    return max(wanted, default=0) or settings.num_threads
