"""NativeToolsAdapter: a signature with tools and tool calls, by the tool calling of the backend itself.

A signature takes part when it has an input of `Tool`s and an output of `ToolCalls`. Both leave the text then: the tools
go beside the messages, and the calls come back beside the answer. An input `Trajectory` becomes the turns that it tells
of. All else is written by the adapter within.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, get_args

import pydantic

from tuneful.adapters.base import Adapter, Parsed, Plan, Values
from tuneful.adapters.readings import JSON_MENDED, load_json, mended_json
from tuneful.adapters.tool_calling import answered_calls, call_id
from tuneful.adapters.values import ValueProblem, describe, problems_of, read_value
from tuneful.spec import tool_calls as spec
from tuneful.spec.fields import Field
from tuneful.spec.signature import Signature, default_instructions
from tuneful.spec.tool_form import ToolForm
from tuneful.spec.trajectory import Trajectory
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import Message, Tool, ToolCall, assistant, user
from tuneful.wire.request import Request, Sampling
from tuneful.wire.response import Choice

#: Numbers of the calls of a demo, and of those that the current inputs tell of.
_CALLS_OF_A_DEMO = 200
_CURRENT = 80_000

#: What the adapter within may count on: what a backend enforces, it does not enforce beside tool calls.
_PLAIN = Capabilities()


def with_native_tools(adapter: Adapter, signature: Signature, capabilities: Capabilities) -> Adapter:
    """Return the adapter for a signature: itself, or where the signature has tools and the backend calls them, this."""
    if not capabilities.tools or shape_of(signature) is None or any(a.asks for a in adapter.chain):
        return adapter
    return NativeToolsAdapter(adapter)


@dataclass(frozen=True)
class Shape:
    """Which fields of a signature are tools, calls and a trajectory, by name, and the signature without them."""

    tools: str
    calls: str
    trajectory: str | None
    rest: Signature


@lru_cache(maxsize=512)
def shape_of(signature: Signature) -> Shape | None:
    """Return the shape of a signature, or None where it has no tools or no calls."""
    tools = _first(signature.input_fields.values(), ToolForm)
    calls = _first(signature.output_fields.values(), spec.ToolCallList)
    trajectory = _first(signature.input_fields.values(), Trajectory)
    if tools is None or calls is None:
        return None
    rest = signature
    for name in filter(None, (tools, calls, trajectory)):
        rest = rest.delete(name)
    if signature.instructions == default_instructions(signature.fields.values()):
        wanted = f", and produce the fields {_named(rest.output_fields)}" if rest.output_fields else ""
        rest = rest.with_instructions(
            f"Given the fields {_named(rest.input_fields)}, call the tools that help{wanted}."
        )
    else:
        rest = rest.with_instructions(signature.instructions)
    return Shape(tools, calls, trajectory, rest)


class NativeToolsAdapter(Adapter):
    """The turns of a chat with tools, around another adapter. Predictors choose it by themselves.

    An answer without a call is `ToolCalls([])`; where the field says `min_length=1`, the model must call.

    Args:
        inner: writes and reads the other fields.
    """

    def __init__(self, inner: Adapter) -> None:
        self.inner = inner
        self.name = inner.name

    @property
    def chain(self) -> tuple[Adapter, ...]:
        """The adapters that ask in turn, each with tools."""
        return tuple(NativeToolsAdapter(a) for a in self.inner.chain)

    def render(self, plan: Plan, demos: Sequence[Values], inputs: Values, sampling: Sampling | None = None) -> Request:
        """Return the request: the inputs, the turns of the trajectory, and the tools beside them."""
        shape = _shape(plan.signature)
        request = super().render(plan, demos, inputs, sampling)
        messages = (*request.messages, *_turns(_trajectory(shape, inputs), _CURRENT))
        tools = tuple(_tool(t) for t in _tools(inputs.get(shape.tools)))
        choice = None
        if tools:
            choice = "required" if _must_call(plan.signature.output_fields[shape.calls]) else "auto"
        return replace(request, messages=messages, tools=tools, tool_choice=choice, stable=len(messages) - 1)

    def system_text(self, plan: Plan) -> str:
        """Return the instructions and the fields that stand in the text."""
        shape = _shape(plan.signature)
        calls = plan.signature.output_fields[shape.calls].desc
        if shape.rest.output_fields:
            head = self.inner.system_text(self._inner_plan(shape))
        else:
            inputs = "\n".join(map(describe, shape.rest.input_fields.values()))
            head = f"{shape.rest.instructions}\n\nYou are given these fields:\n{inputs}"
        return f"{head}\n\nCall the tools: {calls}" if calls else head

    def input_text(self, signature: Signature, values: Values) -> str:
        """Return the inputs that stand in the text, and what is left out of the trajectory."""
        shape = _shape(signature)
        text = self.inner.input_text(shape.rest, values) or "(no inputs)"
        note = _trajectory(shape, values).note
        return f"{text}\n\n{note}" if note else text

    def partial_text(self, signature: Signature, values: Values) -> str:
        """Return what a demo without calls shows."""
        hidden = [n for n, f in signature.input_fields.items() if holds(f.type, ToolForm)]
        return self.inner.partial_text(signature, {n: v for n, v in values.items() if n not in hidden})

    def output_text(self, signature: Signature, values: Values) -> str:
        """Return the text that stands beside the calls."""
        shape = _shape(signature)
        if shape.rest.output_fields:
            return self.inner.output_text(shape.rest, values)
        return _call_list(signature.output_fields[shape.calls], values[shape.calls]).thought

    def answer_turns(self, plan: Plan, demo: Values, number: int) -> Sequence[Message]:
        """Return the turns of a demo: its trajectory, the calls, and results, without which no service goes on."""
        shape = _shape(plan.signature)
        first = _CALLS_OF_A_DEMO * number
        past = list(_turns(_trajectory(shape, demo), first))
        text = self.output_text(plan.signature, demo)
        calls = _call_list(plan.signature.output_fields[shape.calls], demo[shape.calls])
        if not calls:
            return (*past, assistant(text or _NOTHING))
        sent = _wire_calls(calls, first + _CALLS_OF_A_DEMO // 2)
        told = (*calls.observations, *["Received."] * len(sent))
        results = [Message("tool", observation, call_id=c.id) for c, observation in zip(sent, told, strict=False)]
        return (*past, Message("assistant", text, sent), *results)

    def parse(self, plan: Plan, text: str) -> Parsed:
        """Read an answer that is only text."""
        return self.read(plan, Choice(text))

    def read(self, plan: Plan, choice: Choice) -> Parsed:
        """Read the calls, and the other outputs from the text."""
        shape = _shape(plan.signature)
        salvages: list[str] = []
        others = Parsed({}, {})
        if shape.rest.output_fields:
            others = self.inner.read(self._inner_plan(shape), replace(choice, tool_calls=()))
        field = plan.signature.output_fields[shape.calls]
        fields, problems = dict(others.fields), dict(others.problems)
        try:
            fields[shape.calls] = _read_calls(field, choice, salvages, told=not shape.rest.output_fields)
        except ValueProblem as problem:
            problems[shape.calls] = str(problem)
        ordered = {n: fields[n] for n in plan.signature.output_fields if n in fields}
        return Parsed(ordered, problems, (*others.salvages, *salvages))

    def repair(self, request: Request, answer: Choice | str, parsed: Parsed) -> Request:
        """Return the repair turn; what is wrong with calls is said as their result."""
        if isinstance(answer, str) or not answer.tool_calls:
            return self.inner.repair(request, answer, parsed)
        wrong = "; ".join(f"{name}: {problem}" for name, problem in parsed.problems.items())
        return answered_calls(request, answer, f"Nothing was called: {wrong}. Give the whole answer again.")

    def _inner_plan(self, shape: Shape) -> Plan:
        return self.inner.plan(shape.rest, _PLAIN)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NativeToolsAdapter) and self.inner == other.inner

    def __hash__(self) -> int:
        return hash((type(self), self.inner))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"


#: Stands for a turn in which nothing was said: services take no empty one.
_NOTHING = "(nothing)"


def _shape(signature: Signature) -> Shape:
    shape = shape_of(signature)
    assert shape is not None, "it is chosen by the shape of the signature"
    return shape


def _first(fields: Iterable[Field], kind: type) -> str | None:
    return next((f.name for f in fields if any(holds(k, kind) for k in f.kinds)), None)


def holds(annotation: Any, kind: type) -> bool:
    """Say whether a type is `kind`, or a list of it."""
    parts = [annotation, *get_args(annotation)]
    return any(isinstance(p, type) and issubclass(p, kind) for p in parts)


def _named(fields: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in fields)


def _must_call(field: Field) -> bool:
    return bool(dict(field.constraints).get("min_length"))


# --- what is sent ---


def _tools(value: Any) -> list[ToolForm]:
    found = [value] if isinstance(value, ToolForm) else value
    return [t for t in found if isinstance(t, ToolForm)] if isinstance(found, (list, tuple)) else []


def _tool(tool: ToolForm) -> Tool:
    return Tool(tool.name, tool.description, json.dumps(tool.parameters, sort_keys=True))


def _trajectory(shape: Shape, values: Values) -> Trajectory:
    """Return the trajectory among some values; rows that come from a file hold JSON, and one that is shown, a name."""
    value = values.get(shape.trajectory) if shape.trajectory else None
    if value is None or isinstance(value, str):
        return Trajectory()
    return value if isinstance(value, Trajectory) else Trajectory.from_json(value)


def _call_list(field: Field, value: Any) -> spec.ToolCallList:
    return value if isinstance(value, spec.ToolCallList) else field.kinds[0].from_json(value)


def _wire_calls(calls: Iterable[spec.ToolCall], first: int) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(c.id or call_id(first + i), c.name, json.dumps(dict(c.args), ensure_ascii=False), c.signature)
        for i, c in enumerate(calls)
    )


def _turns(trajectory: Trajectory, first: int) -> Iterator[Message]:
    """Yield the turns that a trajectory tells of; its calls without an identity are numbered from `first` on."""
    for step in trajectory:
        if not step.calls:
            yield assistant(step.thought or _NOTHING)
            yield user("\n".join(step.observations) or _NOTHING)
            continue
        calls = _wire_calls(step.calls, first)
        first += len(calls)
        yield Message("assistant", step.thought, calls)
        for i, call in enumerate(calls):
            result = step.observations[i] if i < len(step.observations) else _NOTHING
            yield Message("tool", str(result), call_id=call.id)


# --- what comes back ---


def _read_calls(field: Field, choice: Choice, salvages: list[str], *, told: bool) -> Any:
    """Return the calls of a sample as a value of the field. Raises ValueProblem.

    Args:
        field: the field of the calls.
        choice: the sample.
        salvages: receives the tolerances that were needed.
        told: whether the text beside the calls is the thought, and no field of its own.
    """
    text = choice.text.strip()
    if not choice.tool_calls and told and "{" in text:
        inside: list[str] = []
        try:
            found = read_value(field, text, inside)
        except ValueProblem:
            pass  # it is only talk
        else:
            salvages += [*inside, "calls in the text"]
            return found
    calls = [spec.ToolCall(c.name, _arguments(c, salvages), c.id, c.signature) for c in choice.tool_calls if c.name]
    try:
        return field.adapter.validate_python({"tool_calls": calls, "thought": text if told else ""})
    except pydantic.ValidationError as error:
        missing = not calls and _must_call(field)
        raise ValueProblem("no tool was called; call one" if missing else problems_of(error)) from error


def _arguments(call: ToolCall, salvages: list[str]) -> dict[str, Any]:
    text = call.arguments.strip() or "{}"
    try:
        found = load_json(text)
    except ValueError:
        found = mended_json(text)
        salvages.append(JSON_MENDED)
    if not isinstance(found, dict):
        raise ValueProblem(f"the arguments of `{call.name}` are no JSON object: {text[:200]}")
    return found
