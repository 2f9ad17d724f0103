"""Executors: other processes that do a part of the work, and what is known of them beyond the standard library's."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

from tuneful.errors import UsageError, nearest

#: Modules that serve addresses such as "dask://127.0.0.1:8786", by what stands before the "://". Each has a function
#: `connected(address)`, and perhaps `wrapped(executor)`. They are named here and not imported, since integrations
#: are a layer above.
ENGINES = {"dask": "tuneful.integrations.dask", "ray": "tuneful.integrations.ray"}

#: Which of them knows the executors of a package.
_SCHEMES = {"distributed": "dask"}


class Engine:
    """What rollouts need of an executor. This one serves any `concurrent.futures.Executor`.

    Attributes:
        lost: what a future raises whose worker was lost, where it may be submitted again.
        over: what a future, or `submit`, raises where that would help nothing.
        closed: whether it must be connected anew.
    """

    lost: tuple[type[BaseException], ...] = ()
    over: tuple[type[BaseException], ...] = (BrokenExecutor,)
    closed: bool = False

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def __repr__(self) -> str:
        return repr(self.executor)

    def room(self) -> int | None:
        """Return how many calls to keep in flight: those that run at once, and a few that wait; None: nobody knows."""
        return None

    def submit(self, token: str, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have a worker call a function, and return its future at once.

        Args:
            token: identity of the call.
            function: what is called, known by its name at the workers.
            args: its arguments.
        """
        return self.executor.submit(function, *args)

    def known_of(self, error: BaseException) -> tuple[int, str | None]:
        """Return how many workers an error says were lost, and the last one's name."""
        return 1, None

    def begun_again(self, token: str) -> int:
        """Return how often the engine itself has given a call to another worker, since one was lost."""
        return 0

    def stop(self, token: str) -> bool:
        """Stop a call that may be running; returns whether its worker hears of it, so that the call will soon return.

        At the worker that is a call of `tuneful.evaluate.worker.stop`.
        """
        return False


def checked_executor(value: Any) -> Engine | str | None:
    """Return what a setting means: an engine, or an address of one, to which nothing is connected yet.

    Raises:
        UsageError: it is no executor and no address.
    """
    if value is None or isinstance(value, Engine):
        return value
    if isinstance(value, str):
        scheme = value.partition("://")[0]
        if scheme not in ENGINES:
            raise UsageError(
                f"`executor={value!r}` names no engine.{nearest(scheme, ENGINES)} Expected an address such as "
                "'dask://127.0.0.1:8786' or 'ray', or anything like a concurrent.futures.Executor."
            )
        return value
    if not callable(getattr(value, "submit", None)):
        raise UsageError(
            "`executor` must be anything like a concurrent.futures.Executor (it needs a method `submit`), or an "
            f"address such as 'dask://127.0.0.1:8786', got {value!r:.80}."
        )
    package = type(value).__module__.partition(".")[0]
    scheme = _SCHEMES.get(package, "")
    return _module(scheme).wrapped(value) if scheme else Engine(value)


_connected: dict[str, Engine] = {}
_lock = threading.Lock()


def engine_of(value: Engine | str) -> Engine:
    """Return the engine of a setting; connects to an address at its first use, which may block.

    Raises:
        MissingExtraError: the engine's package is not installed.
        NotConfiguredError: nothing answers at the address.
    """
    if isinstance(value, Engine):
        return value
    scheme, _, address = value.partition("://")
    with _lock:
        found = _connected.get(value)
        if found is None or found.closed:
            found = _connected[value] = _module(scheme).connected(address)
        return found


def _module(scheme: str) -> Any:
    return importlib.import_module(ENGINES[scheme])
