"""The driver's side of rollouts that run in other processes.

A task is small: the row, and the names of the program and of what surrounds it, which each worker is sent once and
keeps. The journal, the budget and every decision stay here: a worker is told what may still be spent, and tells what it
has used.
"""

from __future__ import annotations

import copy
import logging
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from tuneful.backends.metered import current_phase, meters
from tuneful.errors import BudgetExceeded
from tuneful.evaluate.metric import Metric
from tuneful.evaluate.rollout import Row
from tuneful.evaluate.sending import Sending, engine_in_force
from tuneful.evaluate.worker import Account, Part, RolloutErrand, Surroundings, run
from tuneful.program.module import Module
from tuneful.program.running.concurrency import in_flight
from tuneful.program.running.executor import engine_of
from tuneful.program.running.portal import portal
from tuneful.program.running.runtime import current_rollout, settings
from tuneful.spec.example import Example

_log = logging.getLogger(__name__)

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
    assert executor is not None
    engine = await engine_in_force(executor)
    found = {name: getattr(settings, name) for name in _SENT}
    given = _shared(lambda: Surroundings(metric, found), (metric, *found.values()), 0)
    sending = _RolloutSending(engine, meters(), program=_shared(lambda: program, (program,), -1), surroundings=given)
    errand = RolloutErrand(
        token=uuid.uuid4().hex,
        phase=current_phase(),
        budget=sending.left(),
        program=Part(sending.program.key),
        surroundings=Part(given.key),
        example=example,
        options=options,
        sample=current_rollout(),
    )
    account = await sending.account(errand)
    if account.error is not None:
        if isinstance(account.error, BudgetExceeded):
            sending.left()  # says it in the words of the budget that it is
        raise account.error
    row: Row = account.result
    row.example = example
    if sending.lost:
        row.trace.events[LOST] += sending.lost
    return row


@dataclass(kw_only=True)
class _RolloutSending(Sending[RolloutErrand]):
    """One rollout on its way.

    Args:
        program, surroundings: what is shared with other rollouts.
        lacking: keys of those that the last worker did not have.
    """

    what = "rollout"
    advice = (
        "Does the program crash, or need more memory than a worker has? Run it on the row (`error.example`) without an "
        "executor."
    )

    program: _Shared
    surroundings: _Shared
    lacking: tuple[str, ...] = ()

    def function(self) -> Callable[[RolloutErrand], Account]:
        """Return what runs a rollout."""
        return run

    def sent(self, errand: RolloutErrand) -> RolloutErrand:
        """Return the errand with the parts that the worker may lack."""
        program, surroundings = self.program.part(self.lacking), self.surroundings.part(self.lacking)
        return replace(errand, program=program, surroundings=surroundings)

    def understood(self, account: Account) -> bool:
        """Say whether the worker had all parts."""
        self.lacking = account.missing
        if not self.lacking:
            self.program.arrived = self.surroundings.arrived = True
        return not self.lacking

    def example_of(self, errand: RolloutErrand) -> Any:
        """Return the rollout's row."""
        return errand.example

    def uncopied(self) -> list[str]:
        """Return what the program and the retriever hold that cannot travel."""
        return [*_uncopied(self.program.value), *_uncopied(self.surroundings.value.settings.get("rm"))]


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
