"""The driver's side of rollouts that run in other processes.

A task is small: the row, and the names of the program and of what surrounds it, which each worker is sent once and
keeps. The journal, the budget and every decision stay here: a worker is told what may still be spent, and tells what it
has used.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import uuid
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import Any

from tuneful.backends.budget import Budget, Meter
from tuneful.backends.metered import current_phase, meters
from tuneful.errors import BudgetExceeded, TunefulError, UsageError, WorkerLostError
from tuneful.evaluate.metric import Metric
from tuneful.evaluate.rollout import Row
from tuneful.evaluate.worker import Account, Errand, Part, Surroundings, run
from tuneful.program.concurrency import in_flight
from tuneful.program.executor import Engine, engine_of
from tuneful.program.module import Module
from tuneful.program.portal import portal
from tuneful.program.runtime import current_rollout, settings
from tuneful.spec.example import Example

_log = logging.getLogger(__name__)

#: A rollout whose worker was lost is given to so many others, one after another.
MOST_LOST = 3

#: Seconds for which a cancelled rollout is waited for, so that what it has used is known.
STOP_S = 2.0

#: Seconds for which a pool that broke may tell all that wait. Python's own fails at a future that is cancelled
#: meanwhile, as all are when the first one has raised.
BREAK_S = 0.1

#: What a trace calls a rollout that was begun again.
LOST = "run again, since its worker was lost"

#: Settings that decide what a run gives, or how fast. Those who watch (callbacks, the history) stay here.
_SENT = ("lm", "adapter", "rm", "max_repairs", "max_backtracks", "num_threads", "cache", "prices")


@dataclass(eq=False)
class _Shared:
    """What many rollouts share.

    Args:
        value: what it is.
        of: what it was made from, held so that no other object gets the identity of one of them.
        arrived: whether some worker has it. Until then every rollout brings it; later one is sent again, with it, where
            a worker lacks it.
    """

    value: Any
    of: tuple[Any, ...] = ()
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    arrived: bool = False

    def part(self, lacking: Collection[str]) -> Part:
        """Return what is sent."""
        return Part(self.key) if self.arrived and self.key not in lacking else Part(self.key, (self.value,))


_Scope = dict[tuple[int, ...], _Shared]
_scopes: ContextVar[tuple[_Scope, ...]] = ContextVar("tuneful_sharing", default=())


@contextmanager
def sharing() -> Iterator[None]:
    """Send what the rollouts of the block share once to each worker, and take it that nobody changes it meanwhile.

    In a block within a block, programs are shared in the inner one, and what surrounds them in the outer one.
    """
    token = _scopes.set((*_scopes.get(), {}))
    try:
        yield
    finally:
        _scopes.reset(token)


def _shared(make: Callable[[], Any], of: tuple[Any, ...], which: int) -> _Shared:
    scopes = _scopes.get()
    key = tuple(map(id, of))
    for scope in scopes:
        if key in scope:
            return scope[key]
    made = _Shared(make(), of)
    if scopes:
        scopes[which][key] = made
    return made


async def rollouts_in_flight(num_threads: int | None, program: Module) -> int:
    """Return how many rollouts of a program to keep in flight.

    That is what the caller says; else what the executor in force has room for, where it says so; else as `in_flight`.
    """
    executor = settings.executor
    if num_threads or executor is None:
        return in_flight(num_threads, program)
    return await portal.in_thread(lambda: engine_of(executor).room()) or in_flight(None, program)


async def roll_out_there(program: Module, example: Example, metric: Metric | None, **options: Any) -> Row:
    """Run a program on an example by the executor in force; otherwise as `roll_out`.

    Raises:
        WorkerLostError: worker after worker died with it, or the executor is gone.
        UsageError: something cannot be sent to the workers, or is not installed there.
    """
    executor = settings.executor
    engine = executor if isinstance(executor, Engine) else await portal.in_thread(lambda: engine_of(executor))
    found = {name: getattr(settings, name) for name in _SENT}
    given = _shared(lambda: Surroundings(metric, found), (metric, *found.values()), 0)
    sending = _Sending(engine, _shared(lambda: program, (program,), -1), given, meters())
    errand = Errand(
        uuid.uuid4().hex,
        Part(sending.program.key),
        Part(given.key),
        example,
        options,
        current_rollout(),
        current_phase(),
        sending.left(),
    )
    account = await sending.account(errand)
    if account.error is not None:
        if isinstance(account.error, BudgetExceeded):
            sending.left()  # says it in the words of the budget that it is
        raise account.error
    assert account.row is not None
    account.row.example = example
    if sending.lost:
        account.row.trace.events[LOST] += sending.lost
    return account.row


class _Interrupted(Exception):  # a reason to send a rollout again, which nobody else sees
    """A worker was told to stop by somebody else."""


@dataclass
class _Sending:
    """One rollout on its way to workers and back.

    Args:
        engine: who has workers.
        program, surroundings: what is shared with other rollouts.
        charged: the meters that what it uses is charged to.
    """

    engine: Engine
    program: _Shared
    surroundings: _Shared
    charged: tuple[Meter, ...]
    lost: int = 0
    lacking: tuple[str, ...] = ()

    def left(self) -> Budget:
        """Return what may be used. Raises BudgetExceeded where that is nothing: then nothing is sent."""
        budgets = [meter.left() for meter in self.charged]
        limits = {f.name: [v for b in budgets if (v := getattr(b, f.name)) is not None] for f in fields(Budget)}
        return Budget(**{name: min(values) for name, values in limits.items() if values})

    async def account(self, errand: Errand) -> Account:
        """Return what a worker says of the errand, whichever worker it takes."""
        lost: tuple[type[BaseException], ...] = (_Interrupted, *self.engine.lost)
        while True:
            try:
                account = await self._attempt(errand)
                if account.stopped:
                    raise _Interrupted(f"the worker {account.worker} was interrupted")
            except lost as error:
                self.lost += 1
                if self.lost > MOST_LOST:
                    raise self._died(errand, error, self.lost, None) from error
                _log.warning("a worker was lost (%s): its rollout is run again", error)
                errand = replace(errand, token=uuid.uuid4().hex, budget=self.left())
                continue
            self.lacking = account.missing
            self.lost += self.engine.begun_again(errand.token)
            if not self.lacking:
                self.program.arrived = self.surroundings.arrived = True
                return account

    async def _attempt(self, errand: Errand) -> Account:
        future = self._submitted(errand)
        waiting = asyncio.wrap_future(future)
        waiting.add_done_callback(lambda w: w.cancelled() or w.exception())  # one that nobody waits for is no complaint
        try:
            account: Account = await asyncio.shield(waiting)
        except asyncio.CancelledError as error:
            if waiting.cancelled():
                raise WorkerLostError(f"{self.engine!r} has dropped a rollout: was it shut down?") from error
            await self._stop(errand.token, future)
            raise
        except self.engine.lost:
            raise
        except self.engine.over as error:
            await asyncio.sleep(BREAK_S)
            raise self._over(errand, error) from error
        except Exception as error:
            raise self._unsendable(error) from error
        self._charge(account)
        return account

    def _submitted(self, errand: Errand) -> Future[Any]:
        program, surroundings = self.program.part(self.lacking), self.surroundings.part(self.lacking)
        sent = replace(errand, program=program, surroundings=surroundings)
        over: tuple[type[BaseException], ...] = (RuntimeError, *self.engine.over)  # the former if it was shut down
        try:
            return self.engine.submit(errand.token, run, sent)
        except over as error:
            raise self._over(errand, error) from error
        except Exception as error:
            raise self._unsendable(error) from error

    # --- what to say ---

    def _died(self, errand: Errand, error: BaseException, attempts: int, worker: str | None) -> WorkerLostError:
        return WorkerLostError(
            f"{attempts} workers of {self.engine!r} died, one after another, while they ran the same rollout: {error}\n"
            "Does the program crash, or need more memory than a worker has? Run it on the row (`error.example`) "
            "without an executor. What is in the journal and in the cache is not lost.",
            attempts=attempts,
            worker=worker,
            example=errand.example,
        )

    def _over(self, errand: Errand, error: BaseException) -> WorkerLostError:
        attempts, worker = self.engine.known_of(error)
        if attempts > 1:
            return self._died(errand, error, attempts, worker)
        return WorkerLostError(
            f"{self.engine!r} takes no more rollouts ({type(error).__name__}): {error}\nWas it shut down, or did a "
            "worker crash? Make a new one (a ProcessPoolExecutor replaces no worker that dies; Dask and Ray do). "
            "What is in the journal and in the cache is not lost.",
            example=errand.example,
        )

    def _unsendable(self, error: Exception) -> TunefulError:
        if isinstance(error, TunefulError):
            return error
        found = [*_uncopied(self.program.value), *_uncopied(self.surroundings.value.settings.get("rm"))]
        named = f"\nThese cannot travel: {'; '.join(found)}." if found else ""
        return UsageError(
            f"a rollout could not be sent to a worker, or its result back: {type(error).__name__}: "
            f"{str(error)[:1000]}{named}\nThe program, the metric and what they hold travel, and what `forward` "
            "returns. Their code must be installed at the workers, and tuneful too; locks, connections and open files "
            "stay where they are: make them where they are first used."
        )

    # --- an end before the end ---

    async def _stop(self, token: str, future: Future[Any]) -> None:
        """Stop a rollout that nobody wants any more, and charge what it has used as soon as that is known."""
        if future.cancel():
            return
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def charge(future: Future[Any]) -> None:
            if not future.cancelled() and future.exception() is None:
                self._charge(future.result())
            with suppress(RuntimeError):  # the loop may be closed by then
                loop.call_soon_threadsafe(ended.set)

        future.add_done_callback(charge)
        if await portal.in_thread(lambda: self.engine.stop(token)):
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), STOP_S)

    def _charge(self, account: Account) -> None:
        for meter in self.charged:
            meter.absorb(account.meter)


def _uncopied(value: Any) -> list[str]:
    """Return what a program, or a retriever, holds that cannot be copied, nor travel, and why: for a message."""
    modules = value.named_sub_modules() if isinstance(value, Module) else [("rm", value)]
    found = []
    for path, module in modules:
        for name, part in getattr(module, "__dict__", {}).items():
            try:
                copy.deepcopy(part)
            except Exception as error:  # noqa: BLE001 (whatever a user's value raises)
                found.append(f"`{f'{path}.{name}'.lstrip('.')}` ({error})")
    return found
