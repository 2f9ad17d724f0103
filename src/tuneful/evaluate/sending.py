"""Sending: work on its way to the workers of an executor, and back.

Whatever becomes of the workers, an errand has one account: it is sent again where one was lost, what it used is charged
to the meters of whoever sent it, and it is stopped where nobody wants it any more.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Generic, TypeVar

from tuneful.backends.budget import Budget, Meter
from tuneful.errors import TunefulError, UsageError, WorkerLostError
from tuneful.evaluate.worker import Account, Errand
from tuneful.program.running.executor import Engine, engine_of
from tuneful.program.running.portal import portal

E = TypeVar("E", bound=Errand)

_log = logging.getLogger(__name__)

#: Work whose worker was lost is given to so many others, one after another.
MOST_LOST = 3

#: Seconds for which cancelled work is waited for, so that what it has used is known.
STOP_S = 2.0

#: Seconds for which a pool that broke may tell all that wait. Python's own fails at a future that is cancelled
#: meanwhile, as all are when the first one has raised.
BREAK_S = 0.1


class _Interrupted(Exception):  # a reason to send work again, which nobody else sees
    """A worker was told to stop by somebody else."""


async def engine_in_force(executor: Engine | str) -> Engine:
    """Return the engine of a setting, which is connected to where it is an address."""
    return executor if isinstance(executor, Engine) else await portal.in_thread(lambda: engine_of(executor))


@dataclass
class Sending(Generic[E]):
    """One errand on its way to workers and back.

    Args:
        engine: who has workers.
        charged: the meters that what it uses is charged to.
        lost: how many workers were lost with it.
    """

    what: ClassVar[str] = "work"
    advice: ClassVar[str] = ""

    engine: Engine
    charged: tuple[Meter, ...]
    lost: int = 0

    def function(self) -> Callable[[E], Account]:
        """Return what a worker calls with the errand: known by its name there."""
        raise NotImplementedError

    def sent(self, errand: E) -> E:
        """Return the errand as it travels."""
        return errand

    def understood(self, account: Account) -> bool:
        """Say whether an account is the last word; otherwise the errand is sent once more."""
        return True

    def example_of(self, errand: E) -> Any:
        """Return the row that an error is about, where there is one."""
        return None

    def uncopied(self) -> list[str]:
        """Return what of the errand cannot travel, and why, for a message."""
        return []

    def left(self) -> Budget:
        """Return what may be used. Raises BudgetExceeded where that is nothing: then nothing is sent."""
        budgets = [meter.left() for meter in self.charged]
        limits = {f.name: [v for b in budgets if (v := getattr(b, f.name)) is not None] for f in fields(Budget)}
        return Budget(**{name: min(values) for name, values in limits.items() if values})

    async def account(self, errand: E) -> Account:
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
                _log.warning("a worker was lost (%s): its %s is run again", error, self.what)
                errand = replace(errand, token=uuid.uuid4().hex, budget=self.left())
                continue
            self.lost += self.engine.begun_again(errand.token)
            if self.understood(account):
                return account

    async def _attempt(self, errand: E) -> Account:
        future = self._submitted(errand)
        waiting = asyncio.wrap_future(future)
        waiting.add_done_callback(lambda w: w.cancelled() or w.exception())  # one that nobody waits for is no complaint
        try:
            account: Account = await asyncio.shield(waiting)
        except asyncio.CancelledError as error:
            if waiting.cancelled():
                raise WorkerLostError(f"{self.engine!r} has dropped a {self.what}: was it shut down?") from error
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

    def _submitted(self, errand: E) -> Future[Any]:
        sent = self.sent(errand)
        over: tuple[type[BaseException], ...] = (RuntimeError, *self.engine.over)  # the former if it was shut down
        try:
            return self.engine.submit(errand.token, self.function(), sent)
        except over as error:
            raise self._over(errand, error) from error
        except Exception as error:
            raise self._unsendable(error) from error

    # --- what to say ---

    def _died(self, errand: E, error: BaseException, attempts: int, worker: str | None) -> WorkerLostError:
        return WorkerLostError(
            f"{attempts} workers of {self.engine!r} died, one after another, while they ran the same {self.what}: "
            f"{error}\n{self.advice} What is in the journal and in the cache is not lost.",
            attempts=attempts,
            worker=worker,
            example=self.example_of(errand),
        )

    def _over(self, errand: E, error: BaseException) -> WorkerLostError:
        attempts, worker = self.engine.known_of(error)
        if attempts > 1:
            return self._died(errand, error, attempts, worker)
        return WorkerLostError(
            f"{self.engine!r} takes no more {self.what}s ({type(error).__name__}): {error}\nWas it shut down, or did a "
            "worker crash? Make a new one (a ProcessPoolExecutor replaces no worker that dies; Dask and Ray do). "
            "What is in the journal and in the cache is not lost.",
            example=self.example_of(errand),
        )

    def _unsendable(self, error: Exception) -> TunefulError:
        if isinstance(error, TunefulError):
            return error
        found = self.uncopied()
        named = f"\nThese cannot travel: {'; '.join(found)}." if found else ""
        return UsageError(
            f"a {self.what} could not be sent to a worker, or its result back: {type(error).__name__}: "
            f"{str(error)[:1000]}{named}\nThe program, the metric and what they hold travel, and what `forward` "
            "returns. Their code must be installed at the workers, and tuneful too; locks, connections and open files "
            "stay where they are: make them where they are first used."
        )

    # --- an end before the end ---

    async def _stop(self, token: str, future: Future[Any]) -> None:
        """Stop work that nobody wants any more, and charge what it has used as soon as that is known."""
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
