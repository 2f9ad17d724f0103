"""The only bridge between blocking and asynchronous code.

One background event loop owns all model I/O of the process; worker threads run user code that blocks (plain
`forward` methods, metrics, tools). So a program runs the same in a script, in Jupyter, inside a running event loop
and in many threads at once. Context variables travel with every hand-over.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from tuneful.errors import UsageError

T = TypeVar("T")

_WOULD_WAIT = (
    "a program was called in the blocking way inside `async def forward`. "
    "Write `await self.step.acall(...)` there, or make the forward a plain `def`."
)

#: Threads are made on demand and reused; the number is only a fence against runaway recursion.
_MOST_THREADS = 4096


class _Scope:
    """What a worker thread waits for, so that cancelling the work cancels the calls that it has in flight."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[Future[Any]] = set()
        self._cancelled = False

    def enter(self, call: Callable[[], Future[T]]) -> Future[T]:
        """Make a call and note it. Raises CancelledError, and makes none, once the work was cancelled."""
        with self._lock:
            if self._cancelled:
                raise asyncio.CancelledError
            future = call()
            self._waiting.add(future)
        return future

    def leave(self, future: Future[Any]) -> None:
        """Forget a call."""
        with self._lock:
            self._waiting.discard(future)

    def cancel(self) -> None:
        """Cancel every call in flight, and allow no later one."""
        with self._lock:
            self._cancelled, waiting = True, list(self._waiting)
        for future in waiting:
            future.cancel()


_scope: contextvars.ContextVar[_Scope | None] = contextvars.ContextVar("tuneful_scope", default=None)


class Portal:
    """A background event loop and a pool of worker threads, both started at first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._workers: ThreadPoolExecutor | None = None

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is not None and self._pid == os.getpid():
            return self._loop
        with self._lock:
            if self._loop is None or self._pid != os.getpid():  # threads do not survive a fork: start anew
                loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=loop.run_forever, name="tuneful-loop", daemon=True)
                self._workers = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="tuneful-worker")
                self._pid = os.getpid()
                self._thread.start()
                self._loop = loop
            return self._loop

    def inside(self) -> bool:
        """Say whether the current thread is the background loop's."""
        return self._thread is not None and threading.current_thread() is self._thread

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the background loop and block until it is done. Ctrl-C cancels it.

        Raises:
            UsageError: called on the background loop itself, which would wait for itself for ever.
        """
        if self.inside():
            work.close()
            raise UsageError(_WOULD_WAIT)
        loop, scope = self._started(), _scope.get() or _Scope()
        try:
            future = scope.enter(lambda: asyncio.run_coroutine_threadsafe(work, loop))
        except asyncio.CancelledError:
            work.close()
            raise
        try:
            return future.result()
        except CancelledError as error:
            raise asyncio.CancelledError from error  # one that a careless `except Exception` lets through
        except BaseException:
            future.cancel()
            raise
        finally:
            scope.leave(future)

    async def bring(self, work: Coroutine[Any, Any, T], *, immediate: bool = False) -> T:
        """Run a coroutine on the background loop, awaited from whichever loop this is. Cancelling cancels it.

        Where no loop runs (a predictor that was called in the blocking way is driven by the caller's own thread), this
        blocks instead of suspending.

        Args:
            work: what to run.
            immediate: it waits for nothing, and may run right here.
        """
        if immediate or self.inside():
            return await work
        if asyncio._get_running_loop() is None:
            return self.run(work)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._started()))

    async def bring_stream(self, work: AsyncIterator[T]) -> AsyncIterator[T]:
        """Run an asynchronous generator on the background loop, heard from whichever loop this is.

        Leaving it early closes the generator, and with it the connection that it reads from.
        """
        try:
            while (part := await self.bring(_next(work))) is not _END:
                yield part
        finally:
            await self.bring(work.aclose())  # type: ignore[attr-defined]

    def drive(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of our own in this thread, to its end, without a loop: it blocks where it would suspend.

        For coroutines that wait for nothing but `bring` and one another. It saves two changes of thread, and with a
        cached answer there is none at all.
        """
        if asyncio._get_running_loop() is not None:
            return self.run(work)
        try:
            work.send(None)
        except StopIteration as end:
            found: T = end.value
            return found
        work.close()
        raise AssertionError("a coroutine that is driven without a loop must not wait for anything but the portal")

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run a blocking function in a worker thread, with the current context variables.

        Cancelling it cancels the model calls that the function waits for, and those it still makes.
        """
        self._started()
        assert self._workers is not None
        context, scope = contextvars.copy_context(), _Scope()
        context.run(_scope.set, scope)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._workers, context.run, function)
        except asyncio.CancelledError:
            scope.cancel()  # a thread cannot be stopped, but what it waits for can
            raise

    def close(self) -> None:
        """Stop the loop and the threads; the next use starts them again."""
        with self._lock:
            if self._loop is None or self._pid != os.getpid() or self._thread is None or self._workers is None:
                return
            self._workers.shutdown(wait=False, cancel_futures=True)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)
            if not self._thread.is_alive():
                self._loop.close()
            self._loop = None


_END: Any = object()


async def _next(work: AsyncIterator[T]) -> T:
    return await anext(work, _END)


portal = Portal()
atexit.register(portal.close)
