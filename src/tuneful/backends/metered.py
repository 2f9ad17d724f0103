"""Metered: the backend next to the model. Every request that leaves passes here, is allowed, priced and charged.

Meters are ambient: each scope that a piece of code runs in (an example, an evaluation, a compile, a `track_usage`
block) has one, and all of them are charged. A budget is a meter with limits.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tuneful.backends.base import Backend, Hearing, Wrapper
from tuneful.backends.budget import Meter
from tuneful.backends.models import Price
from tuneful.errors import LMRateLimitError, TunefulError, UsageError
from tuneful.wire.request import Request
from tuneful.wire.response import Delta, Response, Usage

#: Characters of a token, where nobody has counted.
CHARS_PER_TOKEN = 4

#: Failures that are no calls: turned away at the door, or not sent at all.
NO_CALL = (LMRateLimitError, UsageError)

_meters: ContextVar[tuple[Meter, ...]] = ContextVar("tuneful_meters", default=())
_phase: ContextVar[str] = ContextVar("tuneful_phase", default="")


def meters() -> tuple[Meter, ...]:
    """Return the meters of every scope that this code runs in, the outermost first."""
    return _meters.get()


class metered:  # noqa: N801 (used as a function; a class, since a generator costs twice as much)
    """Charge everything in the block to a meter as well: `with metered(meter)`."""

    __slots__ = ("_meter", "_token")

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def __enter__(self) -> Meter:
        self._token = _meters.set((*_meters.get(), self._meter))
        return self._meter

    def __exit__(self, *error: object) -> None:
        _meters.reset(self._token)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Name what the block does; meters keep the phases apart: `meter.by_phase()`."""
    token = _phase.set(name)
    try:
        yield
    finally:
        _phase.reset(token)


def current_phase() -> str:
    """Return the name of the phase that this code is part of; "" outside of any."""
    return _phase.get()


def note_retry() -> None:
    """Count a failed attempt in every meter in force."""
    for meter in _meters.get():
        meter.note_retry()


def note_hit(model: str, count: int = 1) -> None:
    """Count answers from the cache in every meter in force."""
    for meter in _meters.get():
        meter.settle(model, Usage(hits=count), _phase.get())


class Metered(Wrapper):
    """Asks every meter in force whether a request may leave, prices the answer and charges it.

    Args:
        inner: the backend that is asked.
        model: the name under which it is charged.
        price: returns the price in force, or None where it is not known.
    """

    def __init__(self, inner: Backend, model: str, price: Callable[[], Price | None]) -> None:
        super().__init__(inner)
        self._model = model
        self._price = price

    async def complete(self, request: Request) -> Response:
        """Answer one request. Raises BudgetExceeded where a budget is used up; nothing was sent then.

        A call that fails counts as a call: it was sent, and may have been answered.
        """
        charged, price = _meters.get(), self._price()
        self._depart(charged, price)
        begun = time.perf_counter()
        try:
            response = await self.inner.complete(request)
        except NO_CALL:
            _stay(charged)
            raise
        return self._settled(charged, price, response, begun)

    async def stream(self, request: Request) -> AsyncIterator[Delta | Response]:
        """Answer one request piece by piece; it is charged when it ends.

        Left or broken off early, it is charged as a call of as many tokens as its text lets expect: nobody tells then.
        """
        charged, price = _meters.get(), self._price()
        self._depart(charged, price)
        begun = time.perf_counter()
        heard = 0  # characters, while it has not ended
        try:
            async with Hearing(self.inner.stream(request)) as parts:
                async for part in parts:
                    if isinstance(part, Response):
                        heard = 0
                        yield self._settled(charged, price, part, begun)
                    else:
                        heard += len(part.text) + len(part.reasoning)
                        yield part
        except NO_CALL:
            if not heard:
                _stay(charged)
            raise
        finally:
            if heard:
                self._settled(charged, price, _estimate(request, heard), begun)

    def _depart(self, charged: tuple[Meter, ...], price: Price | None) -> None:
        for index, meter in enumerate(charged):
            try:
                meter.depart(self._model, priced=price is not None)
            except TunefulError:
                _stay(charged[:index])
                raise

    def _settled(self, charged: tuple[Meter, ...], price: Price | None, response: Response, begun: float) -> Response:
        usage = response.usage
        cost = None
        if price is not None:
            cost = price.cost_usd(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
        usage = Usage(
            usage.calls,
            usage.prompt_tokens,
            usage.cached_tokens,
            usage.completion_tokens,
            cost,
            reasoning_tokens=usage.reasoning_tokens,
            seconds=usage.seconds or time.perf_counter() - begun,  # a backend with a queue of its own knows better
        )
        named = _phase.get()
        for meter in charged:
            meter.settle(self._model, usage, named)
        return Response(response.choices, usage, response.model)


def _stay(charged: tuple[Meter, ...]) -> None:
    for meter in charged:
        meter.stay()


def _estimate(request: Request, heard: int) -> Response:
    """Return what a stream that was left early has probably used."""
    sent = sum(len(m.text) for m in request.messages)
    usage = Usage(calls=1, prompt_tokens=sent // CHARS_PER_TOKEN, completion_tokens=-(-heard // CHARS_PER_TOKEN))
    return Response((), usage)
