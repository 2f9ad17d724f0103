"""Stop: Ctrl-C during a compile. The first ends it in good order, with what was compared; the second as anywhere."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any, TypeVar

from tuneful.program.running.runtime import notice

T = TypeVar("T")


class Stopped(Exception):  # an outcome that the loop acts on, not an error that anyone sees
    """The work was asked to stop."""


class Stop:
    """A request to stop, which may come from any thread or from a signal; what is in flight is cancelled then."""

    def __init__(self) -> None:
        self.requested = False
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def request(self) -> None:
        """Ask the work to stop."""
        self.requested = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def guard(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the work. Raises Stopped where it was asked to stop before its end."""
        self._loop = asyncio.get_running_loop()
        token = _in_force.set(None)  # a compile within the work is another one
        self._task = task = asyncio.ensure_future(work)
        _in_force.reset(token)
        if self.requested:
            self._task.cancel()
        try:
            return await task
        except asyncio.CancelledError as error:
            outer = asyncio.current_task()
            if not self.requested or (outer is not None and outer.cancelling()):
                raise  # somebody cancelled the compile as a whole
            raise Stopped from error
        finally:
            self._task = None


_in_force: ContextVar[Stop | None] = ContextVar("tuneful_stop", default=None)


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Let the first Ctrl-C of the block request the stop that this yields; further ones do what they did before.

    Only the main thread hears of Ctrl-C; elsewhere, and where the process ignores it, this does nothing. A block within
    a block, in whichever thread, yields the same.
    """
    if (outer := _in_force.get()) is not None:
        yield outer
        return
    stop = Stop()
    token = _in_force.set(stop)
    before = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    usual = before if callable(before) else None

    def heard(number: int, frame: FrameType | None) -> None:
        if stop.requested and usual is not None:
            usual(number, frame)
            return
        notice(
            "stopping: the verdict is on the held-out rows that were compared so far; a named run goes on when it is "
            "started again. Press Ctrl-C again to stop at once, with no result"
        )
        stop.request()

    if usual is not None:
        signal.signal(signal.SIGINT, heard)
    try:
        yield stop
    finally:
        if usual is not None:
            signal.signal(signal.SIGINT, usual)
        _in_force.reset(token)
