"""Interpreter: runs code that a model wrote, step by step, where it can do no harm."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from pydantic_core import to_jsonable_python

from tuneful.backends.rebuilt import Rebuilt
from tuneful.errors import BudgetExceeded, CodeInterpreterError, InputError, LMError, LMInvalidRequestError, UsageError
from tuneful.errors import CodeExecutionError as Failed
from tuneful.program.running.portal import portal
from tuneful.program.tools.tool import Tool, tools_by_name
from tuneful.program.trace import note_event
from tuneful.sandbox.submission import SUBMIT, Submission
from tuneful.spec.example import Example
from tuneful.spec.fields import Field


@dataclass(frozen=True)
class Execution:
    """What came of a piece of code.

    Args:
        printed: what it printed; the end is cut off beyond the interpreter's `max_output_chars`, with a notice.
        value: the value of its last line, where that is an expression: JSON values, or a text for anything else.
        submitted: the outputs that it submitted, or None where it did not.
    """

    printed: str = ""
    value: Any = None
    submitted: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class HostCall:
    """A call of a tool by the code, which waits for what comes of it."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What comes of a `HostCall`: a value, or an exception to raise in the code.

    Args:
        value: JSON values.
        error: name of an exception that Python has built in, or "".
        message: its message.
    """

    value: Any = None
    error: str = ""
    message: str = ""


class Interpreter(Rebuilt, ABC):
    """Runs Python code in a place of its own. What one piece of code defines, the next one finds.

    Use it as a context manager, so that the place is given up at the end. It starts by itself at the first code. Pass
    one to a module (`ProgramOfThought(..., interpreter=PythonInterpreter())`) to say where that runs code: the module
    takes it as a pattern, and each of its runs gets a `fresh` one.

    A subclass gives `_start`, `_begin`, `_resume` and `_stop`, all blocking, and `description`.

    Args:
        tools: functions or `Tool`s that the code may call by name. They run here, outside of the sandbox, plain or
            `async`; the code gets what they return as JSON values. Their arguments are checked against their types.
            A tool can do whatever it does for the code, so give none that takes a path, a query or a command as it
            comes.
        timeout_s: seconds that a piece of code may compute. Tools have time limits of their own.
        memory_mb: memory for its values, in MiB.
        max_output_chars: most characters of what a piece of code prints.
        max_tool_calls: most calls of tools in one piece of code.

    Attributes:
        description: what the code can count on and what it cannot, in words for a model.
    """

    description: str = ""

    def __init__(
        self,
        *,
        tools: Iterable[Any] = (),
        timeout_s: float = 10.0,
        memory_mb: int = 256,
        max_output_chars: int = 10_000,
        max_tool_calls: int = 1_000,
    ) -> None:
        self.timeout_s = _above_zero("timeout_s", timeout_s, (int, float))
        self.memory_mb = _above_zero("memory_mb", memory_mb, int)
        self.max_output_chars = _above_zero("max_output_chars", max_output_chars, int)
        self.max_tool_calls = _above_zero("max_tool_calls", max_tool_calls, int)
        self.tools: dict[str, Tool] = tools_by_name(tools, reserved=[SUBMIT])
        self._submission: Submission | None = None
        self._reset()

    def _reset(self) -> None:
        self._variables: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._running = self._busy = self._given_up = False

    def fresh(self, tools: Iterable[Any] | None = None, outputs: Mapping[str, Field] | None = None) -> Self:
        """Return an interpreter with the same limits that has run nothing yet.

        Args:
            tools: its tools, in place of this one's.
            outputs: fields that the code may give by calling `submit`, which ends it; without, there is no `submit`.
        """
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        new.tools = self.tools if tools is None else tools_by_name(tools, reserved=[SUBMIT])
        new._submission = None if outputs is None else Submission(outputs)
        new._reset()
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.fresh()

    # --- running ---

    def execute(self, code: str, variables: Mapping[str, Any] | None = None) -> Execution:
        """Run a piece of code and block until it ends.

        Args:
            code: Python.
            variables: values to set before it runs, by name. They are handed over as JSON values: a pydantic model
                becomes a dict, a set a list.

        Raises:
            CodeExecutionError: the code is at fault. The interpreter can be used further.
            CodeInterpreterError: the sandbox is: it cannot start, or broke.
            InputError: a variable has no JSON form.
            BudgetExceeded, LMError: from a model that a tool asked.
        """
        return portal.run(self.aexecute(code, variables))

    async def aexecute(self, code: str, variables: Mapping[str, Any] | None = None) -> Execution:
        """Do what `execute` does, in the current event loop."""
        given = {name: sent(name, value) for name, value in (variables or {}).items()}
        if self._busy:
            raise UsageError(
                "an interpreter runs one piece of code at a time. Use `fresh()` for another one beside it."
            )
        self._variables |= given
        self._busy, self._given_up = True, False
        try:
            return await self._driven(code, given)
        except Failed as error:
            if error.restarted:
                self.close()
            raise
        except BaseException:  # cancelled, or ended by what a tool raised: the code may be in the midst of something
            self._given_up = True
            self.close()
            raise
        finally:
            self._busy = False

    async def _driven(self, code: str, given: dict[str, Any]) -> Execution:
        """Run code, and answer its calls of tools, until it ends."""
        if not self._running:
            await portal.in_thread(self.start)
            given = dict(self._variables)
        step = await portal.in_thread(lambda: self._begin(code, given))
        for _ in range(self.max_tool_calls):
            if isinstance(step, Execution):
                return step
            answer = await self._answered(step)
            if isinstance(answer, Execution):
                return answer
            step = await portal.in_thread(partial(self._resume, answer))
        if isinstance(step, Execution):
            return step
        raise Failed(
            f"the code called tools more than {self.max_tool_calls:,} times and was stopped. {_RESTARTED}",
            printed=self._printed(),
            restarted=True,
        )

    async def _answered(self, call: HostCall) -> Answer | Execution:
        """Do what the code asks of its host."""
        if call.name == SUBMIT and self._submission is not None:
            return self._submitted(self._submission, call)
        tool = self.tools.get(call.name)
        if tool is None:
            return Answer(error="NameError", message=f"name '{call.name}' is not defined")
        try:
            found = await tool.acall(**_named(tool, call))
            return Answer(_plain(found.to_dict() if isinstance(found, Example) else found))
        except (BudgetExceeded, CodeInterpreterError):
            raise
        except LMError as error:
            if not isinstance(error, LMInvalidRequestError):  # a shorter prompt may help; nothing else that code can do
                raise
            return _raised(call, error)
        except Exception as error:  # noqa: BLE001  the tool is the user's own code, and its failure is the code's to deal with
            return _raised(call, error)

    def _submitted(self, submission: Submission, call: HostCall) -> Answer | Execution:
        try:
            outputs = submission.read(call.args, call.kwargs)
        except InputError as error:
            note_event("wrong answer")
            return Answer(error="ValueError", message=str(error))
        printed = self._printed()
        self.close()
        return Execution(printed, submitted=outputs)

    # --- life ---

    def start(self) -> None:
        """Start the sandbox. It starts by itself at the first code.

        Raises:
            CodeInterpreterError: it cannot start.
            MissingExtraError: a package that it needs is not installed.
        """
        with self._lock:
            if not self._running and not self._given_up:
                self._start()
                self._running = True

    def close(self) -> None:
        """Give up the sandbox and all that code has defined in it. Used again, it starts anew."""
        with self._lock:  # a start under way in a thread ends first
            if self._running:
                self._running = False
                self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()

    # --- what a subclass gives ---

    @abstractmethod
    def _start(self) -> None:
        """Start the sandbox."""

    @abstractmethod
    def _begin(self, code: str, variables: Mapping[str, Any]) -> Execution | HostCall:
        """Set variables and run code, to its end or to its next call of a tool.

        Raises CodeExecutionError where the code is at fault, with `restarted` where the sandbox must start anew.
        """

    @abstractmethod
    def _resume(self, answer: Answer) -> Execution | HostCall:
        """Let code that waits go on."""

    @abstractmethod
    def _printed(self) -> str:
        """Return what the code in hand has printed so far."""

    @abstractmethod
    def _stop(self) -> None:
        """End the sandbox, also while another thread is inside of `_begin` or `_resume`, which then raises."""


#: What a model is told after a sandbox was started anew.
_RESTARTED = "The interpreter was started anew: what earlier code defined is gone."


def stopped(why: str, printed: str) -> Failed:
    """Return the error for code that was stopped, and whose sandbox must start anew."""
    return Failed(f"{why} {_RESTARTED}", printed=printed, restarted=True)


def cut(text: str, most: int, length: int | None = None) -> str:
    """Return the beginning of a text, with a notice where it is longer.

    Args:
        text: what there is of it.
        most: characters to keep.
        length: its real length, where `text` is not all of it.
    """
    over = (len(text) if length is None else length) - most
    return text if over <= 0 else f"{text[:most]}\n[cut: {over:,} further characters are left out]"


def plain_or_text(value: Any) -> Any:
    """Return a value of the code's own as JSON values, or as a text where it has no such form."""
    try:
        found = _plain(value)
        repr(found)  # an integer of many thousand digits cannot be written
        return found
    except (InputError, ValueError, RecursionError):
        try:
            return repr(value)[:1_000]
        except Exception:  # noqa: BLE001  it comes from hostile code
            return "a value that cannot be shown"


def _plain(value: Any) -> Any:
    try:
        return to_jsonable_python(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{type(value).__name__} has no JSON form: {error}") from error


def sent(name: str, value: Any) -> Any:
    """Return the value of a variable as JSON values."""
    if not name.isidentifier():
        raise InputError(f"`{name}` is no name for a variable.", field=name)
    try:
        return _plain(value.to_dict() if isinstance(value, Example) else value)
    except InputError as error:
        raise InputError(
            f"the variable `{name}` cannot be handed to the sandbox: {error}. Give texts, numbers, lists, dicts or "
            "pydantic models.",
            field=name,
        ) from error


def _named(tool: Tool, call: HostCall) -> dict[str, Any]:
    """Return the arguments of a call by their names."""
    names = list(tool.arguments.schema.get("properties", {}))
    if len(call.args) > len(names):
        raise InputError(f"`{tool.name}` takes {tool.arguments.outline}, and got {len(call.args)} values.")
    placed = dict(zip(names, call.args, strict=False))
    twice = [n for n in call.kwargs if n in placed]
    if twice:
        raise InputError(f"`{tool.name}` got `{twice[0]}` twice.")
    return {name: _plain(value) for name, value in {**placed, **call.kwargs}.items()}


#: Exceptions of Python's that code of either sandbox can catch by name.
_KNOWN = (KeyError, IndexError, ValueError, TypeError, ZeroDivisionError, AttributeError, TimeoutError, OSError)


def _raised(call: HostCall, error: Exception) -> Answer:
    """Return the exception that the code sees where a tool raised one."""
    note_event("wrong arguments" if isinstance(error, InputError) else "tool failed")
    name = next((k.__name__ for k in _KNOWN if type(error) is k), "")
    if isinstance(error, InputError):
        name = "TypeError"
    said = str(error)
    if isinstance(error, KeyError) and len(error.args) == 1:
        said = str(error.args[0])  # the text of a KeyError has quotes around it
    if not name:
        said = f"`{call.name}` failed: {type(error).__name__}: {error}"
    return Answer(error=name or "RuntimeError", message=said[:2_000])


def _above_zero(name: str, value: Any, kind: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, kind) or not value > 0:
        raise UsageError(f"`{name}` is {value!r}; expected a number above 0{', a whole one' if kind is int else ''}.")
    return value
