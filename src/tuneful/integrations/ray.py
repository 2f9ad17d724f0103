"""Rollouts on a Ray cluster: `tf.configure(executor="ray")`, or "ray://HOST:PORT"."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from tuneful.errors import MissingExtraError, NotConfiguredError
from tuneful.evaluate.worker import stop
from tuneful.program.running.executor import Engine

#: Seconds between two looks of a worker whether its task was cancelled.
_TURN_S = 0.05


class RayEngine(Engine):
    """A Ray cluster: the one that this process is connected to already, or else the one at the address.

    A rollout is a task of its own, which Ray does not try again by itself.

    Args:
        address: as for `ray.init`; None finds a cluster on this machine, or starts one.
        num_cpus: what a rollout takes of a worker's processors. A rollout that waits for a model most of the time
            takes little: with 0.1, ten of them run for each processor.

    Raises:
        MissingExtraError: `ray` is not installed.
        NotConfiguredError: no cluster answers.
    """

    def __init__(self, address: str | None = None, *, num_cpus: float = 1.0) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("ray", "ray", "An executor on Ray") from error
        self._ray = ray
        self._num_cpus = num_cpus
        failures = ray.exceptions
        self.lost = (failures.WorkerCrashedError, failures.NodeDiedError, failures.OutOfMemoryError)
        self.over = (failures.LocalRayletDiedError, failures.TaskCancelledError, ConnectionError, BrokenExecutor)
        self._asked: dict[str, Any] = {}
        if not ray.is_initialized():
            try:
                ray.init(address, log_to_driver=False, include_dashboard=None if address else False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise NotConfiguredError(
                    f"no Ray cluster answers at {address!r}: {error}\nStart one (`ray start --head`), or set another "
                    "executor. No call was made."
                ) from error
        self._call = ray.remote(num_cpus=num_cpus, max_retries=0)(_call)

    def __repr__(self) -> str:
        return "Ray"

    @property
    def closed(self) -> bool:  # type: ignore[override]  # it can change
        """Whether the connection was closed."""
        return not self._ray.is_initialized()

    def room(self) -> int:
        """Return how many calls the processors of the cluster allow at once, and one more for each machine."""
        at_once = self._ray.cluster_resources().get("CPU", 1) / self._num_cpus
        return max(1, int(at_once)) + len(self._ray.nodes())

    def submit(self, token: str, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have a worker call a function."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # nobody knows better; `stop` ends it where it waits, too
        asked = self._asked[token] = self._call.remote(token, function, *args)
        asked.future().add_done_callback(partial(self._pass_on, token, future))
        return future

    def _pass_on(self, token: str, future: Future[Any], outcome: Future[Any]) -> None:
        del self._asked[token]
        if (error := outcome.exception()) is not None:
            future.set_exception(error)
        else:
            future.set_result(outcome.result())

    def stop(self, token: str) -> bool:
        """Interrupt a call at the worker that runs it; one that runs nowhere yet never will."""
        asked = self._asked.get(token)
        if asked is not None:
            self._ray.cancel(asked)
        return asked is not None


def _call(token: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function, at a worker. Ray cancels it by an interrupt, which its main thread hears between two waits."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(function, *args)
        while not future.done():
            with suppress(TimeoutError):
                try:
                    future.exception(timeout=_TURN_S)
                except KeyboardInterrupt:
                    stop(token)
        return future.result()


def connected(address: str) -> RayEngine:
    """Return the engine of an address: "" for the cluster at hand, else "HOST:PORT" of a Ray client's server."""
    return RayEngine(f"ray://{address}" if address else None)
