"""Callback: what an observer of a run is told, and when."""

from __future__ import annotations

import inspect
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tuneful.errors import UsageError
from tuneful.program.watching.compile_progress import CompileProgress
from tuneful.wire.request import Request
from tuneful.wire.response import Response

_log = logging.getLogger(__name__)


class Callback:
    """Told of every module, model, adapter, tool, evaluation and compile, when it starts and when it ends.

    Write the hooks that you need in a subclass, and hand an instance to `tf.configure(callbacks=[...])` or
    `tf.context(callbacks=[...])`:

        class Slow(tf.Callback):
            def on_lm_end(self, call_id, outputs, exception=None):
                if outputs is not None and outputs.usage.seconds > 10:
                    print(f"{outputs.model} took {outputs.usage.seconds:.0f} s")

    The hooks of one call have the same `call_id`. In a hook `current_call_id()` is the call that this one is part of,
    or None; it is right in every thread and task that works for a call. An end is told of whatever a start was told
    of, and by the same thread or task; `outputs` is None where it did not come to an end, and `exception` says why
    (a cancelled call has one too, an `asyncio.CancelledError`; a stream that was left early a `GeneratorExit`).

    Hooks are plain functions. They run where the work is done, many at once, some of them on the event loop: they must
    be quick and safe to call from several threads. What they are given is not theirs to change. An exception in a hook
    is logged and changes nothing in the run.
    """

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that a module is about to run.

        Args:
            call_id: identity of the call.
            instance: the module.
            inputs: arguments of `forward`, by name.
        """

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Hear that a module has run; `outputs` is what `forward` returned."""

    def on_lm_start(self, call_id: str, instance: Any, inputs: Request) -> None:
        """Hear that a model is about to be asked.

        Args:
            call_id: identity of the call.
            instance: the LM.
            inputs: the request as it is sent; the cache may answer it.
        """

    def on_lm_end(self, call_id: str, outputs: Response | None, exception: BaseException | None = None) -> None:
        """Hear that a model has answered.

        Args:
            call_id: identity of the call.
            outputs: the response. `outputs.hit` says whether the response cache gave it, `outputs.charged` what it
                costs now, and `outputs.usage.retries` how many attempts had failed before.
            exception: what ended the call, where there is no response.
        """

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that an adapter is about to write a request: from "signature", "demos" and "inputs"."""

    def on_adapter_format_end(
        self, call_id: str, outputs: Request | None, exception: BaseException | None = None
    ) -> None:
        """Hear that an adapter has written a request, to which the LM adds its own sampling."""

    def on_adapter_parse_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that an adapter is about to read an answer: "completion", by a "signature"."""

    def on_adapter_parse_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Hear that an adapter has read an answer.

        Args:
            call_id: identity of the call.
            outputs: what it found: `fields`, and `problems` by field, which is empty where all could be read.
            exception: what ended the reading. A field that cannot be read is a problem, not an exception.
        """

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that a tool is about to be called: `instance` is the Tool, inputs are its checked arguments."""

    def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Hear that a tool has ended, with what it returned."""

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that an evaluation begins: `instance` is the Evaluate, inputs are "program", "metric" and "devset"."""

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Hear that an evaluation has ended, with its EvaluationResult."""

    def on_compile_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Hear that a compile begins: `instance` is the teleprompter, inputs are the arguments, by name."""

    def on_compile_progress(self, call_id: str, progress: CompileProgress) -> None:
        """Hear how far a compile is: after each trial, and a few times in a second while rollouts end.

        Args:
            call_id: identity of the compile.
            progress: phase, rollouts, candidates, the best so far with its interval, what is spent, the time left.
        """

    def on_compile_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Hear that a compile has ended, with the program; its `report` says what was done."""


#: The name that programs of this field know.
BaseCallback = Callback

_current: ContextVar[str | None] = ContextVar("tuneful_call_id", default=None)


def current_call_id() -> str | None:
    """Return the identity of the innermost call that this code is part of, or None where no callback is in force."""
    return _current.get()


class Call:
    """One call that callbacks are told of.

    Args:
        callbacks: whom to tell.
        kind: which hooks: "module", "lm", "adapter_format", "adapter_parse", "tool", "evaluate" or "compile".
        instance: whose call it is.
        inputs: what it is given.
    """

    def __init__(self, callbacks: Sequence[Callback], kind: str, instance: Any, inputs: Any) -> None:
        self._callbacks = callbacks
        self._kind = kind
        self._instance = instance
        self._inputs = inputs
        self._id = uuid.uuid4().hex
        self.outputs: Any = None

    def start(self) -> None:
        """Tell that it begins."""
        self._tell(f"on_{self._kind}_start", self._instance, self._inputs)

    def end(self, exception: BaseException | None = None) -> None:
        """Tell that it has ended, with its `outputs` or with what it raised."""
        self._tell(f"on_{self._kind}_end", self.outputs, exception)

    def _tell(self, hook: str, *told: Any) -> None:
        tell(self._callbacks, hook, self._id, *told)

    @contextmanager
    def running(self) -> Iterator[Call]:
        """Run the block as the call: told of before and after, and the current one meanwhile."""
        self.start()
        token = _current.set(self._id)
        try:
            yield self
        except BaseException as error:
            _current.reset(token)
            self.end(error)
            raise
        _current.reset(token)
        self.end()


def tell(callbacks: Sequence[Callback], hook: str, *told: Any) -> None:
    """Call a hook of each callback. What one raises is logged."""
    for callback in callbacks:
        try:
            getattr(callback, hook)(*told)
        except Exception:  # noqa: BLE001  it is the user's own code, and a run is worth more than who watches it
            _complain(callback, hook)


def _complain(callback: Callback, hook: str) -> None:
    """Log what a hook raised: as a warning the first time, since it would do so at every call."""
    known: set[str] = callback.__dict__.setdefault("_hooks_that_raised", set())
    level = logging.DEBUG if hook in known else logging.WARNING
    known.add(hook)
    _log.log(
        level,
        "%s.%s raised; the run goes on, and later failures of this hook are logged at DEBUG",
        type(callback).__name__,
        hook,
        exc_info=True,
    )


def checked_callbacks(value: Any) -> tuple[Callback, ...]:
    """Return what a setting means. Raises UsageError for anything that is no list of callbacks."""
    if isinstance(value, (str, Mapping, Callback)) or not hasattr(value, "__iter__"):
        raise UsageError(f"`callbacks` is a list of tf.Callback objects, got {value!r:.80}. Write callbacks=[...].")
    found = tuple(value)
    for callback in found:
        if not isinstance(callback, Callback):
            made = ": it is a class, make an instance of it" if isinstance(callback, type) else ""
            raise UsageError(f"`callbacks` holds {callback!r:.80}, which is no tf.Callback object{made}.")
        for name in _HOOKS:
            if inspect.iscoroutinefunction(getattr(callback, name)):
                raise UsageError(
                    f"`{type(callback).__name__}.{name}` is an `async def`, and nobody would await it. Hooks are plain "
                    "functions; hand slow work to a queue or to a thread of your own."
                )
    return found


_HOOKS = [name for name in vars(Callback) if name.startswith("on_")]
