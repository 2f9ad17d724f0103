"""The worker's side of what runs in other processes: rollouts, and whatever else has an account.

Executors find its functions by their names.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tuneful.backends.budget import Budget, Meter
from tuneful.backends.metered import metered, phase
from tuneful.errors import ExitError, TunefulError, UsageError
from tuneful.evaluate.metric import Metric
from tuneful.evaluate.rollout import Row, roll_out_here
from tuneful.program.module import Module
from tuneful.program.running.portal import portal
from tuneful.program.running.runtime import context, rollout
from tuneful.program.trace import paths_of
from tuneful.spec.example import Example

#: Programs and surroundings that a worker keeps; the ones that were not used for longest go first.
KEPT = 32

VERSION: str = sys.modules[__name__.partition(".")[0]].__version__


@dataclass(frozen=True, slots=True)
class Part:
    """What many rollouts share. It is sent to a worker once, which keeps it under its key.

    Args:
        key: its identity.
        value: what it is, in a tuple of one; empty where the worker should have it.
    """

    key: str
    value: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a rollout finds besides its program.

    Args:
        metric: the metric, or None.
        settings: of the driver, those that decide what a run gives.
    """

    metric: Metric | None
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Errand:
    """Work for a worker.

    Args:
        token: its identity.
        phase: what the driver's meters call it.
        budget: what it may use.
        version: the driver's.
    """

    token: str
    phase: str
    budget: Budget
    version: str = VERSION


@dataclass(frozen=True, kw_only=True)
class RolloutErrand(Errand):
    """One rollout.

    Args:
        program, surroundings: see `Part`.
        example: the row.
        options: further arguments of `roll_out`.
        sample: number of the repetition; see `tuneful.program.running.runtime.rollout`.
    """

    program: Part
    surroundings: Part
    example: Example
    options: dict[str, Any]
    sample: int


@dataclass(slots=True)
class Account:
    """What a worker says of an errand: a result, an error, or which parts it lacks. None of them where it was stopped.

    Args:
        worker: its name.
        meter: what the errand has used.
    """

    worker: str
    result: Any = None
    error: BaseException | None = None
    missing: tuple[str, ...] = ()
    meter: Meter = field(default_factory=Meter)

    @property
    def stopped(self) -> bool:
        """Whether it was stopped before its end."""
        return self.result is None and self.error is None and not self.missing


_kept: OrderedDict[str, Any] = OrderedDict()
_running: dict[str, asyncio.Task[Any]] = {}
_stopped: deque[str] = deque(maxlen=1000)
_lock = threading.Lock()


def run(errand: RolloutErrand) -> Account:
    """Run a rollout and block until it is done. Failures of any kind are in the account."""
    parts = [_part(errand.program), _part(errand.surroundings)]
    missing = tuple(p.key for p, found in zip((errand.program, errand.surroundings), parts, strict=True) if not found)
    if missing and errand.version == VERSION:
        return Account(_name(), missing=missing)
    return accounted(errand, lambda: _rolled_out(errand, *(part[0] for part in parts)))


def accounted(errand: Errand, work: Callable[[], Awaitable[Any]]) -> Account:
    """Do the work of an errand, under a meter of its own, and block until it is done: its result, or what it raised."""
    if errand.version != VERSION:
        text = f"the worker {_name()} has tuneful {VERSION}, and this process has {errand.version}. Install the same."
        return Account(_name(), error=UsageError(text))
    account = Account(_name(), meter=Meter(errand.budget))
    with suppress(KeyboardInterrupt):  # Ctrl-C reaches workers as well, and Ray stops a task by it
        portal.run(_fill(account, errand, work))
    return account


def _name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def stop(token: str) -> bool:
    """Stop an errand, also one that has not begun yet. Returns whether it was running here."""
    _stopped.append(token)
    task = _running.get(token)
    if task is None:
        return False
    task.get_loop().call_soon_threadsafe(task.cancel)
    return True


def _part(part: Part) -> tuple[Any, ...]:
    """Return what a part is, in a tuple of one; empty where it is not here."""
    with _lock:
        if part.value:
            _kept.setdefault(part.key, part.value)
        found: tuple[Any, ...] = _kept.get(part.key, ())
        if found:
            _kept.move_to_end(part.key)
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return found


async def _fill(account: Account, errand: Errand, work: Callable[[], Awaitable[Any]]) -> None:
    task = asyncio.current_task()
    assert task is not None
    _running[errand.token] = task
    if errand.token in _stopped:
        task.cancel()
    try:
        with context(executor=None, callbacks=()), phase(errand.phase), metered(account.meter):
            account.result = await work()
    except asyncio.CancelledError:  # by `stop`: what it has used is told
        return
    except Exception as error:  # noqa: BLE001 (the driver raises it)
        account.error = _portable(error)
    except SystemExit as error:  # it would end the worker, and with it what others run there
        account.error = ExitError.of("the work of an errand", error)
    finally:
        del _running[errand.token]


async def _rolled_out(errand: RolloutErrand, program: Module, surroundings: Surroundings) -> Row:
    with context(**surroundings.settings), rollout(errand.sample):
        row = await roll_out_here(
            program, errand.example, surroundings.metric, paths=paths_of(program), **errand.options
        )
    row.example = Example()  # the driver has it
    row.cause = None if row.cause is None else _portable(row.cause)
    return row


def _portable(error: BaseException) -> BaseException:
    """Return an exception that another process can make: one of ours, or of Python's own, or its words."""
    plain = all(isinstance(part, (str, int, float, type(None))) for part in error.args)
    if isinstance(error, TunefulError) or (type(error).__module__ == "builtins" and plain):
        return error
    return RuntimeError(f"{type(error).__qualname__}: {error}")
