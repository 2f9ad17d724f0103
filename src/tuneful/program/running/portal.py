"""The only bridge between blocking and asynchronous code.

One background event loop owns all model I/O of the process; worker threads run user code that blocks (plain
`forward` methods, metrics, tools). So a program runs the same in a script, in Jupyter, inside a running event loop
and in many threads at once. Context variables travel with every hand-over.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import math
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
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

    #: Seconds after which a thread looks whether a plain function on the loop waits for threads such as it.
    PATIENCE_S = 0.5

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._workers: ThreadPoolExecutor | None = None
        self._plain: Plainly | None = None  # what has the loop to itself now

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is not None and self._pid == os.getpid():
            return self._loop
        with self._lock:
            if self._loop is None or self._pid != os.getpid():  # threads do not survive a fork: start anew
                loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_run_on, args=(loop,), name="tuneful-loop", daemon=True)
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
        if self.inside() or (self._plain is not None and self._plain is _plainly.get()):
            work.close()
            raise self.refusal(_WOULD_WAIT)
        loop, scope = self._started(), _scope.get() or _Scope()
        try:
            future = scope.enter(lambda: asyncio.run_coroutine_threadsafe(work, loop))
        except asyncio.CancelledError:
            work.close()
            raise
        try:
            return future.result() if self._plain is None else self._patiently(future)
        except CancelledError as error:
            raise asyncio.CancelledError from error  # one that a careless `except Exception` lets through
        except BaseException:
            future.cancel()
            raise
        finally:
            scope.leave(future)

    def refusal(self, message: str) -> UsageError:
        """Return the error for a blocking call on the loop. A `Plainly` that made it is called again in a thread."""
        attempt = _plainly.get()
        if attempt is not None:
            attempt.wanted_to_wait = True
        return UsageError(message)

    def _patiently(self, future: Future[T]) -> T:
        """Wait for a future while a plain function has the loop, which may itself be waiting for this very thread."""
        while (attempt := self._plain) is not None:
            if wait([future], timeout=self.PATIENCE_S).done:
                break
            if attempt is self._plain and _waits_for_threads(self._thread):
                attempt.wanted_to_wait = True
                raise UsageError(_WOULD_WAIT)
        return future.result()

    async def bring(self, work: Coroutine[Any, Any, T], *, immediate: bool = False) -> T:
        """Run a coroutine on the background loop, awaited from whichever loop this is. Cancelling cancels it.

        Where no loop runs (a predictor that was called in the blocking way is driven by the caller's own thread), this
        blocks instead of suspending.

        Args:
            work: what to run.
            immediate: it waits for nothing, and may run right here.
        """
        if immediate:
            return await work
        running = asyncio._get_running_loop()
        if running is None:
            return self.run(work)
        if self.inside():
            if running is self._loop:
                return await work
            work.close()
            raise self.refusal(_WOULD_WAIT)  # on a loop of its own, which a plain function runs on top of this one
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._started()))

    async def bring_stream(self, work: AsyncIterator[T]) -> AsyncIterator[T]:
        """Run an asynchronous generator on the background loop, heard from whichever loop this is.

        Leaving it early closes the generator, and with it the connection that it reads from.
        """
        try:
            while (part := await self.bring(_next(work))) is not _END:
                yield part
        finally:
            await self.bring(_closed(work))

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

    async def in_thread(self, function: Callable[[], T], *, abandonable: bool = False) -> T:
        """Run a blocking function in a worker thread, with the current context variables.

        Cancelling it cancels the model calls that the function waits for, and those it still makes.

        Args:
            function: what to run.
            abandonable: run it in a thread of its own, for which the exit of the interpreter does not wait: for
                functions that may hang.
        """
        self._started()
        assert self._workers is not None
        context, scope = contextvars.copy_context(), _Scope()
        context.run(_scope.set, scope)
        try:
            if abandonable:
                return await asyncio.wrap_future(_in_own_thread(lambda: context.run(function)))
            return await asyncio.get_running_loop().run_in_executor(self._workers, context.run, function)
        except asyncio.CancelledError:
            scope.cancel()  # a thread cannot be stopped, but what it waits for can
            raise

    @contextmanager
    def given_to(self, attempt: Plainly) -> Iterator[None]:
        """Give the loop's thread to a plain function, which then finds no loop running, as it does in a thread."""
        loop = asyncio.get_running_loop()
        self._plain = attempt
        asyncio._set_running_loop(None)
        try:
            yield
        finally:
            asyncio._set_running_loop(loop)
            self._plain = None

    def after_fork(self) -> None:
        """Let go of what another thread may have held when this process was forked."""
        self._lock = threading.Lock()
        self._plain = None

    def close(self) -> None:
        """Stop the loop and the threads; the next use starts them again."""
        with self._lock:
            if self._loop is None or self._pid != os.getpid() or self._thread is None or self._workers is None:
                return
            self._workers.shutdown(wait=False, cancel_futures=True)
            with suppress(TimeoutError):  # a task that does not let itself be cancelled
                asyncio.run_coroutine_threadsafe(_end_all(), self._loop).result(timeout=5)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)
            if not self._thread.is_alive():
                self._loop.close()
            self._loop = None


def _run_on(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop until it is stopped.

    A task that raises SystemExit or KeyboardInterrupt breaks off `run_forever`, though whoever awaits the task is told
    of it as of any other exception. With the loop gone, all that wait for it would wait for ever.
    """
    while True:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            continue
        return


def _in_own_thread(function: Callable[[], T]) -> Future[T]:
    """Start a function in a daemon thread."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001  whatever it is, whoever waits gets it
            future.set_exception(error)

    threading.Thread(target=work, name="tuneful-abandonable", daemon=True).start()
    return future


async def _end_all() -> None:
    """Cancel every other task of the loop and wait for its end: what is left pending would be complained of.

    Then its generators are closed, and with them connections that are kept.
    """
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=3)
    await asyncio.get_running_loop().shutdown_asyncgens()


_END: Any = object()


_plainly: contextvars.ContextVar[Plainly | None] = contextvars.ContextVar("tuneful_plainly", default=None)


class Plainly:
    """A plain function of the user's that is called very often, such as a metric: run where it costs least.

    It begins in worker threads, since it may block. Once it has shown itself quick, it is called on the loop itself: a
    change of thread costs more than it does. When a call takes long after all, it goes back to threads, until it has
    shown itself quick for four times as long. When it asks a model in the blocking way it stays there for good, and the
    call that asked is made again in a thread, whatever it made of the refusal.
    """

    #: Calls in a row that must have been quick at first, and seconds that are quick and that are too long.
    TRIALS = 8
    QUICK_S = 0.002
    LONG_S = 0.02

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._quick = 0
        self._trials: float = self.TRIALS
        self._in_threads = 0
        self._idle = asyncio.Event()
        self.wanted_to_wait = False

    async def __call__(self, *args: Any) -> Any:
        """Call the function, with the current context variables."""
        if self._quick >= self._trials and portal.inside() and await self._threads_idle():
            return await self._here(args)
        self._in_threads += 1
        self._idle.clear()
        try:
            result, seconds = await portal.in_thread(lambda: self._timed(args))
        finally:
            self._in_threads -= 1
            if not self._in_threads:
                self._idle.set()
        self._quick = self._quick + 1 if seconds < self.QUICK_S else 0
        return result

    async def _threads_idle(self) -> bool:
        """Wait a little until no call is in a thread: it might hold a lock that a call on the loop would wait for."""
        if self._in_threads:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), self.LONG_S)
        return not self._in_threads

    def _timed(self, args: tuple[Any, ...]) -> tuple[Any, float]:
        begun = time.perf_counter()
        result = self._function(*args)
        return result, time.perf_counter() - begun

    async def _here(self, args: tuple[Any, ...]) -> Any:
        context = contextvars.copy_context()
        context.run(_plainly.set, self)
        try:
            with portal.given_to(self):
                result, seconds = context.run(self._timed, args)
        except (Exception, SystemExit):
            if not self.wanted_to_wait:
                raise
        else:
            if seconds > self.LONG_S:
                self._quick, self._trials = 0, 4 * self._trials
            if not self.wanted_to_wait:
                return result
        self._trials = math.inf
        return await portal.in_thread(lambda: self._function(*args))


async def _next(work: AsyncIterator[T]) -> T:
    return await anext(work, _END)


async def _closed(work: AsyncIterator[Any]) -> None:
    """Close a generator. The call for its next part may have been cancelled just now, and be about to end."""
    while getattr(work, "ag_running", False):  # noqa: ASYNC110 (nothing tells when; it takes a turn or two of the loop)
        await asyncio.sleep(0)
    await work.aclose()  # type: ignore[attr-defined]


def _waits_for_threads(thread: threading.Thread | None) -> bool:
    """Say whether a thread waits for other threads right now: for a future, a lock's condition, a queue, an end."""
    frame = sys._current_frames().get(thread.ident or 0) if thread is not None else None
    return frame is not None and frame.f_globals.get("__name__") in ("threading", "queue", "concurrent.futures._base")


portal = Portal()
atexit.register(portal.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=portal.after_fork)
