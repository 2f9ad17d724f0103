"""The queue in front of a model's slots: it sends a request where the start of its prompt is computed already."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Waiting:
    """A job that waits.

    Args:
        future: receives its result.
        work: does it.
        prefix: what its prompt starts with.
        overtaken_at: how many jobs will have left when as many have overtaken it as may.
    """

    future: Future[Any]
    work: Callable[[], Any]
    prefix: Hashable
    overtaken_at: int


class Slots(Executor):
    """Threads that each feed one slot of a model, and the order in which they take the jobs that wait.

    A thread that is free takes the oldest job whose prompt starts as its last one did. Where there is none it takes
    the prefix that most jobs wait for, of those that no other thread is at if there is one. So a batch over several
    prompts is answered prompt by prompt, and each start is computed once a turn and not once a request. Which slot
    the engine gives to a job is its own choice: the one whose prompt is most alike.

    Args:
        count: slots.
        overtaking: most jobs that may overtake one that waits; then it is next. 0: first come, first served.
    """

    def __init__(self, count: int, overtaking: int) -> None:
        self._overtaking = overtaking
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="tuneful-local")
        self._lock = threading.Lock()
        self._by_age: dict[_Waiting, None] = {}
        self._by_prefix: dict[Hashable, deque[_Waiting]] = {}
        self._left = 0  # jobs that have left the queue
        self._at: dict[int, Hashable] = {}  # the last prefix of each thread

    def submit(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Queue a job whose prompt has nothing to share."""
        return self.submit_behind(None, lambda: work(*args, **kwargs))

    def submit_behind(self, prefix: Hashable, work: Callable[[], T]) -> Future[T]:
        """Queue a job whose prompt starts with `prefix`."""
        future: Future[T] = Future()
        with self._lock:
            # Those before it leave first in any case; only who leaves beyond them has overtaken it.
            job = _Waiting(future, work, prefix, self._left + len(self._by_age) + self._overtaking)
            self._by_age[job] = None
            self._by_prefix.setdefault(prefix, deque()).append(job)
        self._threads.submit(self._serve)  # one turn for each job, though not this job's own
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads; with `cancel_futures` whatever still waits is cancelled."""
        if cancel_futures:
            with self._lock:
                waiting = list(self._by_age)
            for job in waiting:
                job.future.cancel()
        self._threads.shutdown(wait)

    def _serve(self) -> None:
        job = self._next()
        if not job.future.set_running_or_notify_cancel():
            return
        try:
            result = job.work()
        except BaseException as error:  # noqa: BLE001 (whoever waits for the job gets whatever it raised)
            job.future.set_exception(error)
        else:
            job.future.set_result(result)

    def _next(self) -> _Waiting:
        """Take a job out of the queue: there is one for each turn."""
        me = threading.get_ident()
        with self._lock:
            oldest = next(iter(self._by_age))
            last = self._at.get(me)
            if self._left >= oldest.overtaken_at:
                prefix = oldest.prefix
            elif last in self._by_prefix:
                prefix = last
            else:
                elsewhere = {p for thread, p in self._at.items() if thread != me}
                prefix = max(self._by_prefix, key=lambda p: (p not in elsewhere, len(self._by_prefix[p])))
            queue = self._by_prefix[prefix]
            job = queue.popleft()
            if not queue:
                del self._by_prefix[prefix]
            del self._by_age[job]
            self._left += 1
            if not job.future.cancelled():
                self._at[me] = prefix
            return job
