"""Watched: a decorator for the few functions of whose calls callbacks are told."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from contextvars import copy_context
from functools import wraps
from typing import Any, TypeVar, cast

from tuneful.program.running.runtime import ever_set, settings
from tuneful.program.watching.callback import Call

F = TypeVar("F", bound=Callable[..., Any])


def watched(kind: str, described: Callable[..., tuple[Any, Any]]) -> Callable[[F], F]:
    """Tell the callbacks in force of each call of a function.

    While nobody has ever set callbacks, a call costs one look into a set.

    Args:
        kind: see `Call`.
        described: returns the instance and the inputs that callbacks are told, from the function's arguments.

    Returns:
        A decorator for plain functions, for `async def`, and for asynchronous generators whose last value is the
        outcome.
    """

    def decorate(function: F) -> F:
        run: Callable[..., Any] = _run
        if inspect.iscoroutinefunction(function):
            run = _arun
        elif inspect.isasyncgenfunction(function):
            run = _stream

        @wraps(function)
        def around(*args: Any, **kwargs: Any) -> Any:
            if "callbacks" in ever_set and (callbacks := settings.callbacks):
                call = Call(callbacks, kind, *described(*args, **kwargs))
                return run(call, lambda: function(*args, **kwargs))
            return function(*args, **kwargs)

        return cast("F", around)

    return decorate


def _run(call: Call, function: Callable[[], Any]) -> Any:
    with call.running():
        call.outputs = function()
    return call.outputs


async def _arun(call: Call, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    with call.running():
        call.outputs = await function()
    return call.outputs


async def _stream(call: Call, function: Callable[[], AsyncGenerator[Any, None]]) -> AsyncIterator[Any]:
    """Pass on what a generator yields. Its consumer's own code runs meanwhile, so it is not made the current call."""
    context = copy_context()  # of the hooks, which may set context variables and reset them
    context.run(call.start)
    last = None
    try:
        async with aclosing(function()) as parts:
            async for last in parts:
                yield last
        call.outputs = last
    except BaseException as error:
        context.run(call.end, error)
        raise
    context.run(call.end)
