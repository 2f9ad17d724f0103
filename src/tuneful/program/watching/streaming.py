"""Streaming: running a program and hearing, piece by piece, what its predictors write.

Who listens is ambient: a context variable holds the listeners, and a predictor that finds any asks its LM for a stream.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, overload

from tuneful.adapters.base import Adapter, Parsed, Plan
from tuneful.adapters.field_stream import Change, FieldStream
from tuneful.adapters.mended import mended
from tuneful.errors import LMTransportError
from tuneful.program.lm import LM
from tuneful.program.running.portal import portal
from tuneful.program.watching.events import (
    Event,
    FieldEnded,
    FieldPiece,
    FieldStarted,
    Finished,
    ReasoningPiece,
    Retracted,
)
from tuneful.wire.request import Request
from tuneful.wire.response import Delta, Response

if TYPE_CHECKING:
    from tuneful.program.module import Module

Listener = Callable[[Event], None]

_listeners: contextvars.ContextVar[tuple[Listener, ...]] = contextvars.ContextVar("tuneful_listeners", default=())


# --- in a predictor ---


def heard(lm: LM, adapter: Adapter, plan: Plan, path: str) -> LM:
    """Return the LM that a predictor asks: `lm` itself, or one that tells the listeners while it answers."""
    listeners = _listeners.get()
    return _HeardLM(lm, _Telling(listeners, adapter, plan, path)) if listeners else lm


def heard_by(lm: LM, adapter: Adapter, plan: Plan) -> LM:
    """Return an LM that came from `heard`, for a predictor that asks again by another adapter."""
    if isinstance(lm, _HeardLM):
        lm.read_by(adapter, plan)
    return lm


class _Telling:
    """Tells the listeners of the answers of one predictor, until one could be read."""

    def __init__(self, listeners: tuple[Listener, ...], adapter: Adapter, plan: Plan, path: str) -> None:
        self._listeners = listeners
        self._adapter = adapter
        self._plan = plan
        self._path = path
        self.done = False
        self._answers: list[Parsed] = []
        self.begin()

    def read_by(self, adapter: Adapter, plan: Plan) -> None:
        """Read the answers to come as another adapter does."""
        self._adapter, self._plan = adapter, plan
        self._answers.clear()

    def begin(self) -> None:
        """Be ready for a new answer."""
        self._fields = FieldStream(self._adapter, self._plan)
        self._told = False

    def hear(self, delta: Delta) -> None:
        """Tell what a piece of the answer adds. Only the first sample is heard."""
        if delta.index != 0:
            return
        if delta.reasoning:
            self._tell(ReasoningPiece(self._path, delta.reasoning))
        if delta.text:
            self._tell_all(self._fields.feed(delta.text))

    def end(self, response: Response) -> None:
        """Tell the values of the fields, or that the answer cannot be read."""
        if self._adapter.asks:  # its fields come from another model, which is heard too
            return
        parsed = self._adapter.read(self._plan, response.choices[0])
        self._answers.append(parsed)
        if len(self._answers) == 2:  # the second is the repair turn of the first
            parsed = mended(self._plan.signature, *self._answers)
        if parsed.complete:
            self.done = True
            self._tell_all(self._fields.close(parsed))
        else:
            self._tell(Retracted(self._path, _reason(response, parsed)))

    def broken(self, error: BaseException) -> None:
        """Take back what was told of an answer that did not come to its end."""
        if self._told:
            self._tell(Retracted(self._path, str(error) or type(error).__name__))

    def _tell_all(self, changes: list[Change]) -> None:
        for kind, field, content in changes:
            match kind:
                case "started":
                    self._tell(FieldStarted(self._path, field))
                case "piece":
                    self._tell(FieldPiece(self._path, field, content))
                case "ended":
                    self._tell(FieldEnded(self._path, field, content))

    def _tell(self, event: Event) -> None:
        self._told = True
        for listener in self._listeners:
            listener(event)


def _reason(response: Response, parsed: Parsed) -> str:
    problems = "; ".join(f"`{name}`: {problem}" for name, problem in parsed.problems.items())
    return f"the answer was cut off at its most tokens; {problems}" if response.choices[0].truncated else problems


class _HeardLM(LM):
    """An LM in one call of a predictor, heard while it writes. Turns after a readable first sample are not heard."""

    def __init__(self, inner: LM, telling: _Telling) -> None:
        self.__dict__.update(inner.__dict__)
        self._inner = inner
        self._telling = telling

    def read_by(self, adapter: Adapter, plan: Plan) -> None:
        self._telling.read_by(adapter, plan)

    def copy(self, **options: Any) -> LM:
        return _HeardLM(self._inner.copy(**options), self._telling)

    async def ask(self, request: Request) -> Response:
        if self._telling.done:
            return await self._inner.ask(request)
        return await portal.bring(self._answer(request))  # all of it there: one change of thread for all pieces

    async def _answer(self, request: Request) -> Response:
        self._telling.begin()
        response: Response | None = None
        try:
            async for part in self._inner.stream(request):
                if isinstance(part, Response):
                    response = part
                else:
                    self._telling.hear(part)
            if response is None:
                raise LMTransportError(f"the stream of `{self.model}` ended without its response.", model=self.model)
        except BaseException as error:
            self._telling.broken(error)
            raise
        self._telling.end(response)
        return response


# --- around a program ---


class _Run:
    """A run that is listened to: its task, and the events that nobody has taken yet. Belongs to its loop."""

    def __init__(self, program: Module, args: Any, kwargs: Any, context: contextvars.Context) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        context.run(_listeners.set, (*context.get(_listeners, ()), self._note))
        self._task = self._loop.create_task(program.acall(*args, **kwargs), context=context)
        self._task.add_done_callback(self._over)
        _runs.add(self)

    def _note(self, event: Event) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def _over(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # a listener that has left does not ask for it
        self._events.put_nowait(None)

    async def next(self) -> list[Event]:
        """Return the events that are there, waiting for the first; the last is Finished. Raises what the run raised."""
        event = await self._events.get()
        found: list[Event] = []
        while event is not None:
            found.append(event)
            if self._events.empty():
                return found
            event = self._events.get_nowait()
        if found:
            self._events.put_nowait(None)
            return found
        return [Finished(self._task.result())]

    def leave(self) -> None:
        """Cancel the run. May be called from any thread; waits for nothing."""
        with suppress(RuntimeError):  # the loop is closed, and the run with it
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def left(self) -> None:
        """Cancel the run and wait for its end."""
        self._task.cancel()
        await asyncio.wait([self._task])


_runs: weakref.WeakSet[_Run] = weakref.WeakSet()


def _leave_all() -> None:
    for run in list(_runs):
        run.leave()


# An iterator may still be held when the interpreter exits: its run must end before worker threads are waited for, and
# an ordinary `atexit` function comes after that. Where a Python lacks this hook, the exit waits for the run to end.
with suppress(AttributeError, RuntimeError):
    threading._register_atexit(_leave_all)  # type: ignore[attr-defined]


def stream(program: Module, args: Any, kwargs: Any) -> Generator[Event, None, None]:
    """Run a program on the background loop and iterate over its events; see `Module.stream`."""
    return _stream(program, args, kwargs, contextvars.copy_context())


def _stream(program: Module, args: Any, kwargs: Any, context: contextvars.Context) -> Generator[Event, None, None]:
    async def begun() -> _Run:
        return _Run(program, args, kwargs, context)

    run = portal.run(begun())
    try:
        event: Event | None = None
        while not isinstance(event, Finished):
            for event in portal.run(run.next()):
                yield event
    finally:
        run.leave()


def astream(program: Module, args: Any, kwargs: Any) -> AsyncGenerator[Event, None]:
    """Run a program in the current event loop and iterate over its events; see `Module.astream`."""
    return _astream(program, args, kwargs, contextvars.copy_context())


async def _astream(
    program: Module, args: Any, kwargs: Any, context: contextvars.Context
) -> AsyncGenerator[Event, None]:
    run = _Run(program, args, kwargs, context)
    try:
        event: Event | None = None
        while not isinstance(event, Finished):
            for event in await run.next():
                yield event
    finally:
        await run.left()


@overload
def streamify(program: Module, async_streaming: Literal[True] = True) -> Callable[..., AsyncIterator[Event]]: ...
@overload
def streamify(program: Module, async_streaming: Literal[False]) -> Callable[..., Iterator[Event]]: ...
def streamify(program: Module, async_streaming: bool = True) -> Callable[..., Any]:
    """Return a function that runs a program and gives its events: `program.astream`, or `program.stream`.

    DSPy's name. The items are typed events (`tuneful.program.watching.events`), `Finished` with the prediction last; no
    listeners are declared, since every field of every predictor is heard.

    Args:
        program: the program.
        async_streaming: give an asynchronous iterator; otherwise a plain one, which blocks.
    """
    return program.astream if async_streaming else program.stream
