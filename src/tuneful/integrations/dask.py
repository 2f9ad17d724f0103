"""Rollouts on a Dask cluster: `tf.configure(executor="dask://127.0.0.1:8786")`, or `executor=client`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from tuneful.errors import MissingExtraError, NotConfiguredError, UsageError
from tuneful.evaluate.worker import stop
from tuneful.program.running.executor import Engine

if TYPE_CHECKING:
    import distributed

#: Seconds for which a scheduler is waited for.
_CONNECT_S = 10.0

#: What stands before a rollout's token in the key of its task.
_KEY = "tuneful-"


class DaskEngine(Engine):
    """A Dask cluster.

    A task whose worker died is given to another one by Dask itself, three times (`distributed.scheduler.
    allowed-failures`); how often that was is heard from its scheduler.

    Args:
        address: of the scheduler, such as "tcp://127.0.0.1:8786".
        security: as for `distributed.Client`, where the cluster wants TLS.

    Raises:
        MissingExtraError: `distributed` is not installed.
        NotConfiguredError: no scheduler answers.
    """

    def __init__(self, address: str, security: Any = None) -> None:
        try:
            from distributed import Client, KilledWorker
            from distributed.comm import CommClosedError
        except ImportError as error:
            raise MissingExtraError("distributed", "dask", f"An executor at {address!r}") from error
        self.over = (KilledWorker, CommClosedError, BrokenExecutor)
        self._address = address
        self._asked: dict[str, distributed.Future[Any]] = {}
        self._again: Counter[str] = Counter()
        try:  # a client of our own: of the events of a scheduler, a client tells one listener
            self._client = Client(address, security=security, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise NotConfiguredError(
                f"no Dask scheduler answers at {address!r}: {error}\nStart one (`dask scheduler`, and "
                f"`dask worker {address}` where the work shall be done), or set another executor. No call was made."
            ) from error
        self._client.subscribe_topic("all", self._heard)

    def __repr__(self) -> str:
        return f"Dask at {self._address}"

    @property
    def closed(self) -> bool:  # type: ignore[override]  # it can change
        """Whether the connection was closed."""
        return self._client.status in ("closing", "closed")

    def room(self) -> int:
        """Return the number of threads of all workers, and one more call for each worker, which then never waits."""
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()) + len(threads))

    def submit(self, token: str, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have a worker call a function."""
        from distributed.protocol import serialize_bytes

        sent = serialize_bytes(args, on_error="raise")
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # nobody knows better; `stop` ends it where it waits, too
        asked = self._asked[token] = self._client.submit(_called, function, sent, key=_KEY + token, pure=False)
        outcome = asyncio.run_coroutine_threadsafe(_outcome(asked), self._client.loop.asyncio_loop)
        outcome.add_done_callback(partial(self._pass_on, token, future))
        return future

    def _pass_on(self, token: str, future: Future[Any], outcome: Future[Any]) -> None:
        del self._asked[token]
        error = CancelledError() if outcome.cancelled() else outcome.exception()
        if isinstance(error, (CancelledError, asyncio.CancelledError)):  # by nobody who holds the future
            error = BrokenExecutor(f"the task was dropped: {error}")
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(outcome.result())

    def _heard(self, event: tuple[float, Any]) -> None:
        """Count tasks that must begin again, since the scheduler has lost a worker."""
        told = event[1]
        if isinstance(told, dict) and told.get("action") == "remove-worker":
            for key in (*told.get("processing-tasks", ()), *told.get("lost-computed-tasks", ())):
                if (token := str(key).removeprefix(_KEY)) in self._asked:
                    self._again[token] += 1

    def begun_again(self, token: str) -> int:
        """Return how often a call was given to another worker."""
        return self._again.pop(token, 0)

    def known_of(self, error: BaseException) -> tuple[int, str | None]:
        """Return how many workers died with a task, and the last one's address."""
        from distributed import KilledWorker

        return (error.allowed_failures + 1, error.last_worker.address) if isinstance(error, KilledWorker) else (1, None)

    def stop(self, token: str) -> bool:
        """Stop a call at the worker that runs it; one that runs nowhere yet never will."""
        if any(answer is True for answer in self._client.run(stop, token, on_error="ignore").values()):
            return True
        if (asked := self._asked.get(token)) is not None:
            asked.cancel()
        return False


def _called(function: Callable[..., Any], sent: bytes) -> bytes:
    """Call a function, at a worker.

    What it takes and returns is written by Dask's own serializer, but here: so the scheduler needs none of the user's
    code, and a failure is one of the task, not of a connection.
    """
    from distributed.protocol import deserialize_bytes, serialize_bytes

    found: bytes = serialize_bytes(function(*deserialize_bytes(sent)), on_error="raise")
    return found


async def _outcome(asked: distributed.Future[Any]) -> Any:
    from distributed.protocol import deserialize_bytes

    return deserialize_bytes(await asked.result())  # a coroutine, since this is called on the client's own loop


_of_clients: WeakKeyDictionary[Any, DaskEngine] = WeakKeyDictionary()


def connected(address: str) -> DaskEngine:
    """Return the engine of an address, "HOST:PORT" or one with a protocol, such as "tls://HOST:PORT"."""
    if not address:
        raise UsageError("`executor='dask'` has no address: write 'dask://HOST:PORT', that of a Dask scheduler.")
    return DaskEngine(address if "://" in address else f"tcp://{address}")


def wrapped(executor: Any) -> DaskEngine:
    """Return the engine of a `distributed.Client`, or of its `get_executor()`."""
    client = getattr(executor, "_client", executor)
    found = _of_clients.get(client)
    if found is None or found.closed:
        found = _of_clients[client] = DaskEngine(client.scheduler.address, client.security)
    return found
