"""The one door to ambient state: `settings`, `configure`, `context`.

`configure` sets process-wide values and may be called from any thread or task, at any time. `context` sets values for
a block of code; it holds only what it was given, so a later `configure` of something else shows through. Both are
read through context variables, which the portal carries into every thread and task that works for a call.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from os import PathLike
from typing import Any

from tuneful.backends.budget import Meter
from tuneful.backends.cache import DEFAULT_PATH, Cache
from tuneful.backends.metered import metered
from tuneful.backends.models import Price
from tuneful.errors import UsageError, nearest
from tuneful.program.running.executor import checked_executor
from tuneful.program.watching.callback import checked_callbacks
from tuneful.wire.request import Request
from tuneful.wire.response import Response, Usage, written

#: Settings and their defaults.
DEFAULTS: dict[str, Any] = {
    "lm": None,  # the LM that predictors use which have none of their own
    "adapter": None,  # an Adapter, its name, several ("json>chat"), or None for "auto"
    "rm": None,  # the retriever: (query, k) -> passages
    "num_threads": 8,  # examples in flight in Evaluate, batch and compile
    "max_repairs": 1,  # 0 or 1: turns that show the model what is wrong with its answer
    "max_backtracks": 2,  # further answers that a constraint may ask for; 0: none
    "history_size": 10,  # calls kept for inspect_history
    "cache": DEFAULT_PATH,  # a Cache, the path of its file, or None (or False) for none
    "prices": {},  # Price, or (input, output) in dollars for a million tokens, by model: over the built-in table
    "callbacks": (),  # Callback objects, told of every module, model and evaluation
    "journal": ".tuneful/journal.sqlite",  # where named runs are kept; None: nowhere, and no run may be named
    "executor": None,  # an Executor or an address ("dask://HOST:PORT"): where Evaluate and compile run programs
}

#: The least value of the settings that are whole numbers.
_LEAST = {"num_threads": 1, "max_backtracks": 0, "history_size": 0}

_overrides: ContextVar[tuple[dict[str, Any], ...]] = ContextVar("tuneful_overrides", default=())
_configured: dict[str, Any] = {}
#: Names of the settings that anything has ever set: what is not here has its default, and needs no look-up.
ever_set: set[str] = set()
_lock = threading.Lock()
_history: deque[tuple[str, Request, Response]] = deque()


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    for name, value in values.items():
        if name not in DEFAULTS:
            raise UsageError(f"there is no setting `{name}`.{nearest(name, DEFAULTS)} Settings: {', '.join(DEFAULTS)}.")
        if name == "lm" and value is not None and not hasattr(value, "complete"):
            raise UsageError(f"`lm` must be a tf.LM, got {value!r:.80}. Write tf.configure(lm=tf.LM({value!r:.60})).")
        if name in _LEAST and (not isinstance(value, int) or value < _LEAST[name]):
            raise UsageError(f"`{name}` must be a whole number of at least {_LEAST[name]}, got {value!r}.")
        if name == "cache":
            values = {**values, "cache": _cache(value)}
        if name == "prices":
            values = {**values, "prices": _prices(value)}
        if name == "executor":
            values = {**values, "executor": checked_executor(value)}
        if name == "callbacks":
            values = {**values, "callbacks": checked_callbacks(value)}
        if name == "max_repairs" and value not in (0, 1):
            raise UsageError(f"`max_repairs` must be 0 or 1, got {value!r}.")
    ever_set.update(values)
    return values


def _prices(value: Any) -> dict[str, Price]:
    if not isinstance(value, Mapping):
        raise UsageError(f"`prices` must be a mapping of model names to prices, got {value!r:.80}.")
    return {model: price_of(model, price) for model, price in value.items()}


_caches: dict[str, Cache] = {}


def _cache(value: Any) -> Cache | None:
    """Return the cache that a setting means; one path is one cache."""
    if value is None or value is False or isinstance(value, Cache):
        return value if isinstance(value, Cache) else None
    if value is True:
        value = DEFAULT_PATH
    if not isinstance(value, (str, PathLike)):
        raise UsageError(f"`cache` must be a tf.Cache, the path of its file, True or False, got {value!r:.80}.")
    path = str(value)
    found = _caches.get(path)
    if found is None:
        with _lock:
            found = _caches.setdefault(path, Cache(path))
    return found


def current_cache() -> Cache | None:
    """Return the response cache in force, or None."""
    value = settings.cache
    return _cache(value) if isinstance(value, str) else value


def price_of(model: str, value: Any) -> Price:
    """Return the price that a setting means. Raises UsageError for anything that is none."""
    try:
        if isinstance(value, str):
            raise TypeError
        price = value if isinstance(value, Price) else Price(*map(float, value))
        if not all(0 <= p < math.inf for p in (price.input, price.output, price.cached or 0.0)):
            raise ValueError
        return price
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the price of `{model}` is {value!r}; expected (input, output) or (input, output, cached), "
            "in US dollars for a million tokens, each a number of at least 0."
        ) from error


def configure(**values: Any) -> None:
    """Set process-wide values; see `DEFAULTS` for what there is. Raises UsageError for an unknown setting."""
    values = _checked(values)
    with _lock:
        _configured.update(values)


@contextmanager
def context(**values: Any) -> Iterator[None]:
    """Set values for a block of code, and for every thread and task that works for it."""
    token = _overrides.set((*_overrides.get(), _checked(values)))
    try:
        yield
    finally:
        _overrides.reset(token)


class Settings:
    """The values in force here: `context` over `configure` over the defaults. Read-only; attributes are settings."""

    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULTS:
            raise AttributeError(f"there is no setting `{name}`.{nearest(name, DEFAULTS)}")
        for layer in reversed(_overrides.get()):
            if name in layer:
                return layer[name]
        return _configured.get(name, DEFAULTS[name])

    def __setattr__(self, name: str, value: Any) -> None:
        raise UsageError(f"settings are not set by attribute. Use tf.configure({name}=...) or tf.context({name}=...).")

    def get(self, name: str, default: Any = None) -> Any:
        """Return a setting, or `default` where there is none of that name or it is None."""
        found = getattr(self, name, None)
        return default if found is None else found

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{n}={getattr(self, n)!r}' for n in DEFAULTS)})"


settings = Settings()


# --- usage ---


@contextmanager
def track_usage() -> Iterator[Meter]:
    """Count calls, tokens and cost of a block, concurrent work included.

    Yields a meter: `meter.usage` is the sum, `meter.by_model()` the parts.
    """
    with metered(Meter()) as meter:
        yield meter


# --- independent repetitions ---


_rollout: ContextVar[int] = ContextVar("tuneful_rollout", default=0)


def current_rollout() -> int:
    """Return the number of the repetition that this code is part of; 0 is the ordinary run."""
    return _rollout.get()


@contextmanager
def rollout(number: int) -> Iterator[None]:
    """Make the block an independent repetition: its requests are other requests, sampled anew."""
    token = _rollout.set(number)
    try:
        yield
    finally:
        _rollout.reset(token)


@contextmanager
def attempt(number: int) -> Iterator[None]:
    """Make the block the number-th attempt (from 1 on) of the repetition that this code is part of, sampled anew.

    No two share a number: those of attempts begin at 1001, those of attempts within attempts at 1,002,001.
    """
    with rollout(1000 * (current_rollout() + 1) + number):
        yield


# --- the last few calls ---


def remember(model: str, request: Request, response: Response) -> None:
    """Keep a call for `inspect_history`; the oldest falls out."""
    with _lock:
        _history.append((model, request, response))
        while len(_history) > settings.history_size:
            _history.popleft()


def inspect_history(n: int = 1, file: Any = None) -> None:
    """Print the last n calls of this process: every message as sent, and the answers.

    The last 10 are kept; `configure(history_size=...)` changes it. Nothing is kept on disk.
    """
    out = file or sys.stdout
    with _lock:
        shown = list(_history)[-n:] if n > 0 else []
    if not shown:
        out.write("No calls yet.\n")
    for model, request, response in shown:
        out.write(f"\n--- {model} ---\n")
        for message in request.messages:
            out.write(f"\n[{message.role}]\n{message.text}\n")
        for choice in response.choices:
            out.write(f"\n[answer, {choice.finish_reason}]\n{written(choice)}\n")
        out.write(f"\n{usage_line(response.usage)}\n")


def usage_line(usage: Usage) -> str:
    """Return usage as a line for people."""
    cost = "cost unknown" if usage.cost_usd is None else f"${usage.cost_usd:.4f}"
    hits = f" and {usage.hits:,} answers from the cache" if usage.hits else ""
    return (
        f"{usage.calls:,} calls{hits}, {usage.prompt_tokens:,} prompt tokens "
        f"({usage.cached_tokens:,} from the prefix cache, {usage.recomputed_tokens:,} recomputed), "
        f"{usage.completion_tokens:,} generated, {cost}"
    )


def notice(line: str) -> None:
    """Say one line to the person at the terminal, on standard error."""
    sys.stderr.write(f"tuneful: {line}\n")


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 (another thread may have held it)
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
