"""Tool: a function that a model may call."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from copy import copy, deepcopy
from functools import partial
from typing import Any, Self

from pydantic_core import to_jsonable_python

from tuneful.errors import (
    BudgetExceeded,
    ExitError,
    InputError,
    LMError,
    LMInvalidRequestError,
    ToolTimeoutError,
    UsageError,
)
from tuneful.program.module import Module
from tuneful.program.running.portal import portal
from tuneful.program.tools.tool_arguments import Arguments
from tuneful.program.watching.watched import watched
from tuneful.spec.example import Example
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature
from tuneful.spec.tool_form import ToolForm

_log = logging.getLogger(__name__)

#: The name of a signature that was given none.
_UNNAMED = "Signature"
#: What all services take as a name.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Observation(str):  # noqa: SLOT000 (it has an attribute)
    """What a model is told of a call: the tool's result as text, or what went wrong.

    Attributes:
        problem: "" for a result; else "unknown tool", "wrong arguments", "tool failed" or "tool timeout".
    """

    problem: str

    def __new__(cls, text: str, problem: str = "") -> Self:
        """Return the text, marked with a problem."""
        made = super().__new__(cls, text)
        made.problem = problem
        return made


class Tool(ToolForm):
    '''A function that a model may call: its types and its docstring become what the model is told.

    >>> def area(width: float, height: float = 1.0) -> float:
    ...     """The area of a rectangle."""
    ...     return width * height
    >>> tool = Tool(area)
    >>> tool.name, tool.description, tool.arguments.outline
    ('area', 'The area of a rectangle.', 'width, height?')
    >>> tool(width="2", height=3)  # arguments are checked, and made what the types say
    6.0

    Any callable will do: a function, plain or `async def`, a method, a program. Of a predictor, an agent or another
    module with a signature, the inputs become the arguments and the outputs the result; its steps are part of the run,
    and an agent that has it as a tool has it among its parts, to be tuned with it. Pass a tool to `ReAct`, or to a
    predictor of your own: `tf.Predict("question, tools: list[tf.Tool] -> calls: tf.ToolCalls")`. An argument without a
    type takes any value; `**kwargs` takes what is not named.

    A plain function runs in a thread of its own. When its time is up it is abandoned: Python cannot stop a thread, so
    what it does goes on unheard, and the exit of the program does not wait for it. Give what it does inside (a request,
    a query) a time limit too.

    Args:
        func: what it does.
        name: its name; by default the function's; of a module, its signature's, where that was given one.
        desc: what it does, in words; by default the docstring; of a module with a signature, its instructions.
        parameters: JSON schema of the arguments, in place of the types; the function then gets what the model wrote.
        timeout_s: seconds for a call, or None for no limit.
        max_result_chars: most characters of a result; a longer one is cut, and the model is told how much.

    Raises:
        UsageError: it cannot be called by a model: `*args`, positional-only arguments, no name, types without a JSON
            form.

    Cost: no model call of its own.
    '''

    def __init__(
        self,
        func: Callable[..., Any],
        name: str | None = None,
        desc: str | None = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        timeout_s: float | None = 120.0,
        max_result_chars: int = 10_000,
    ) -> None:
        if not callable(func):
            raise UsageError(f"a tool is made of a function, got {func!r:.80}.")
        if timeout_s is not None and (isinstance(timeout_s, bool) or not timeout_s > 0):
            raise UsageError(f"`timeout_s` is {timeout_s!r}; expected seconds above 0, or None.")
        if isinstance(max_result_chars, bool) or not isinstance(max_result_chars, int) or max_result_chars < 1:
            raise UsageError(f"`max_result_chars` is {max_result_chars!r}; expected an integer of at least 1.")
        self.func = func
        inner = func.func if isinstance(func, partial) else func
        asked = signature_of(func) if isinstance(func, Module) else None
        given = asked.name if asked and asked.name != _UNNAMED else getattr(inner, "__name__", type(inner).__name__)
        found = str(name or given)
        if not _NAME.fullmatch(found):
            raise UsageError(
                f"{found!r} is no name for a tool: letters, digits, `_` and `-`, 64 at most. Give one: "
                "tf.Tool(function, name='search')."
            )
        if parameters is not None:
            self.arguments = Arguments(found, parameters)
        elif asked is not None:
            self.arguments = Arguments.of_signature(asked, found)
        else:
            self.arguments = Arguments.of(func.forward if isinstance(func, Module) else func, found)
        self._outputs = tuple(asked.without_thoughts.output_fields) if asked else ()
        self.timeout_s = timeout_s
        self.max_result_chars = max_result_chars
        self._asynchronous = _is_async(func)
        told = asked.instructions if asked else _docstring(inner)
        super().__init__(found, told if desc is None else desc, self.arguments.schema)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Return a function as a tool, where a field of tools is given one."""
        if not callable(value):
            raise UsageError(f"{value!r:.80} is no tool: give a function, or tf.Tool(function)")
        return cls(value)

    def __call__(self, **args: Any) -> Any:
        """Call the tool with checked arguments, and block until it returns. What it raises comes through.

        Raises:
            InputError: the arguments do not fit. It was not called.
            ToolTimeoutError: its time was up.
            ExitError: it called `sys.exit`.
        """
        return portal.run(self.acall(**args))

    async def acall(self, **args: Any) -> Any:
        """Call the tool, in the current event loop."""
        return await self._run(self.arguments.read(args))

    async def observe(self, args: Mapping[str, Any]) -> Observation:
        """Call the tool for a model: whatever goes wrong is told as an observation.

        Raises:
            BudgetExceeded: a budget was reached inside of the tool. Cancellation passes too.
            LMError: from a model that the tool asked, but for a request that the model does not take.
        """
        try:
            read = self.arguments.read(args)
        except InputError as error:
            return Observation(str(error), "wrong arguments")
        try:
            return Observation(_cut(_text_of(await self._run(read)), self.max_result_chars))
        except BudgetExceeded:
            raise
        except ToolTimeoutError as error:
            return Observation(str(error), "tool timeout")
        except LMError as error:
            if not isinstance(error, LMInvalidRequestError):  # a failure of the infrastructure says nothing of the tool
                raise
            return self._failed(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001  the tool is the user's own code, and its failure is the model's to deal with
            return self._failed(error)

    def _failed(self, error: BaseException) -> Observation:
        _log.debug("the tool `%s` failed", self.name, exc_info=error)
        said = f"the tool `{self.name}` failed: {type(error).__name__}: {error or 'no message'}"
        return Observation(_cut(said, self.max_result_chars), "tool failed")

    @watched("tool", lambda self, args: (self, args))
    async def _run(self, args: dict[str, Any]) -> Any:
        work = asyncio.ensure_future(self._called(args))
        try:
            done, _ = await asyncio.wait({work}, timeout=self.timeout_s)
        except BaseException:
            _abandon(work)
            raise
        if not done:
            _abandon(work)
            raise ToolTimeoutError(
                f"the tool `{self.name}` did not end in {self.timeout_s:g} s, and was abandoned.", tool=self.name
            )
        return work.result()

    async def _called(self, args: dict[str, Any]) -> Any:
        try:
            return await self._returned(args)
        except SystemExit as error:  # in a task of its own, it would end the event loop
            raise ExitError.of(f"the tool `{self.name}`", error) from error

    async def _returned(self, args: dict[str, Any]) -> Any:
        if isinstance(self.func, Module):
            return self._result(await self.func.acall(**args))
        if self._asynchronous:
            return await self.func(**args)
        found = await portal.in_thread(lambda: self.func(**args), abandonable=True)
        return await found if inspect.isawaitable(found) else found

    def _result(self, found: Any) -> Any:
        """Return what a module gave: of a signature's outputs and more (a trajectory, thoughts), the outputs."""
        if not self._outputs or not isinstance(found, Prediction):
            return found
        result = Prediction({name: found[name] for name in self._outputs if name in found})
        result.__dict__["_trace"] = found.trace
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if not isinstance(self.func, Module):
            return self
        memo[id(self)] = twin = copy(self)
        twin.func = deepcopy(self.func, memo)  # a part of the program that is copied
        return twin

    def __repr__(self) -> str:
        return f"Tool({self.name}({self.arguments.outline}))"


def tools_by_name(tools: Iterable[Any], *, reserved: Iterable[str] = ()) -> dict[str, Tool]:
    """Return functions and tools as tools, by name.

    Raises:
        UsageError: something that is no tool, or two of one name.
    """
    if isinstance(tools, (str, Mapping)) or not isinstance(tools, Iterable):
        raise UsageError(f"`tools` is a list of functions or of tf.Tool objects, got {tools!r:.80}.")
    found: dict[str, Tool] = {}
    for given in tools:
        tool = given if isinstance(given, Tool) else Tool(given)
        if tool.name in found:
            raise UsageError(
                f"there are two tools of the name `{tool.name}`. Give one of them another: tf.Tool(function, name=...)."
            )
        if tool.name in reserved:
            raise UsageError(
                f"`{tool.name}` is the tool that gives the answer. Give yours another name: "
                "tf.Tool(function, name=...)."
            )
        found[tool.name] = tool
    return found


def signature_of(module: Module) -> Signature | None:
    """Return the signature that a module is called with, or None where its `forward` names its own arguments."""
    shape = inspect.signature(module.forward).parameters.values()
    if any(p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in shape):
        return None
    if isinstance(own := getattr(module, "signature", None), Signature):
        return own
    inner = getattr(module, "module", None)
    parts = [m for path, m in module.named_sub_modules() if path and "." not in path]
    found = [signature_of(part) for part in ([inner] if isinstance(inner, Module) else parts)]
    first = found[0] if found else None
    same = all(s is not None and first is not None and s.input_fields == first.input_fields for s in found)
    return first if same else None


def _docstring(function: Any) -> str:
    """Return the words of a function, or of the class of an object: not those that either inherits."""
    if inspect.isroutine(function):
        return inspect.cleandoc(function.__doc__ or "")
    owner = function if isinstance(function, type) else type(function)
    return inspect.cleandoc(owner.__dict__.get("__doc__") or "")


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 (an object with an asynchronous `__call__`)
    )


def _abandon(work: asyncio.Future[Any]) -> None:
    """Cancel what a tool does without waiting for it, and take note of how it ends, which nobody asks for."""
    work.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception())
    work.cancel()


def _text_of(result: Any) -> str:
    """Return a result as text: a text as it is, anything else as JSON."""
    if isinstance(result, str):
        return str(result)
    if isinstance(result, Example):
        result = result.to_dict()
    return json.dumps(to_jsonable_python(result, serialize_unknown=True), ensure_ascii=False)


def _cut(text: str, most: int) -> str:
    over = len(text) - most
    return text if over <= 0 else f"{text[:most]}\n[cut: {over:,} further characters are left out]"
