"""FunctionAdapter: an adapter made of functions, for a format of one's own without a class."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pydantic

from tuneful.adapters.base import Adapter, Parsed, Plan, Values, request_of
from tuneful.adapters.dialogue import earlier_turns
from tuneful.adapters.values import ValueProblem, absent, problems_of, read_value
from tuneful.errors import UsageError
from tuneful.spec.fields import Field
from tuneful.spec.signature import Signature
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import Message
from tuneful.wire.request import Request, Sampling

Render = Callable[[Signature, list[dict[str, Any]], dict[str, Any]], Sequence[Message | Mapping[str, Any]]]
Parse = Callable[[Signature, str], Mapping[str, Any]]
Decide = Callable[[Signature, Capabilities], Mapping[str, Any] | None]

_ENFORCED = ("grammar", "json_schema")


class FunctionAdapter(Adapter):
    """An adapter made of two functions, or of three; made by `Adapter.from_functions`.

    What the functions need not do: types, constraints and defaults are checked here, a text is read tolerantly as a
    value of its field's type, and what is missing or does not fit leads to the repair turn.

    Args:
        name: its name, in parameters and saved programs.
        render: (signature, demos, inputs) -> messages: `{"role": ..., "content": ...}` or `Message`s. All but the
            last must not depend on the inputs. Demos are dicts of field values, and may lack some; the turns of a
            `History` follow them as further ones.
        parse: (signature, text) -> values by field name: texts, or values of the field's type. A field that it does
            not find it leaves out; where it can read nothing at all it may raise ValueError (so json.loads may).
        plan: (signature, capabilities) -> what the backend shall enforce: {"json_schema": {...}} or {"grammar": "..."},
            or None.
    """

    def __init__(self, *, name: str, render: Render, parse: Parse, plan: Decide | None = None) -> None:
        if not name.isidentifier():
            raise UsageError(f"the name of an adapter is a word such as 'yaml', got {name!r}.")
        self.name = name
        self._functions = (render, parse, plan)

    def constrain(self, signature: Signature, capabilities: Capabilities) -> Plan:
        """Return what `plan` decides."""
        decide = self._functions[2]
        found = (decide(signature, capabilities) if decide else None) or {}
        for key in found:
            if key not in _ENFORCED:
                raise UsageError(
                    f"`plan` of the adapter `{self.name}` returned {key!r}; it may hold: grammar, json_schema."
                )
        schema = found.get("json_schema")
        text = schema if schema is None or isinstance(schema, str) else json.dumps(schema)
        return Plan(signature, found.get("grammar"), text)

    def render(self, plan: Plan, demos: Sequence[Values], inputs: Values, sampling: Sampling | None = None) -> Request:
        """Return the request that holds the messages of `render`."""
        said = earlier_turns(plan.signature, plan.history, inputs)
        given = {name: value for name, value in inputs.items() if name != plan.history}
        made = self._functions[0](plan.signature, [dict(d) for d in (*demos, *said)], given)
        messages = tuple(self._message(m) for m in made)
        if not messages or messages[-1].role != "user":
            raise UsageError(
                f"`render` of the adapter `{self.name}` must return messages that end with the user's turn."
            )
        return request_of(plan, messages, sampling, stable=0 if said else None)

    def _message(self, message: Message | Mapping[str, Any]) -> Message:
        if isinstance(message, Message):
            return message
        try:
            return Message(message["role"], message["content"])
        except (KeyError, TypeError) as error:
            raise UsageError(
                f"`render` of the adapter `{self.name}` returned {message!r:.80}; a message is "
                "{'role': 'system', 'user' or 'assistant', 'content': text}."
            ) from error

    def output_text(self, signature: Signature, values: Values) -> str:
        """Return the assistant's turn of a demo with these outputs, as `render` shows it."""
        inputs = {n: f"{{{n}}}" for n in signature.input_fields}
        made = self._functions[0](signature, [{**inputs, **values}], inputs)
        turns = [m for m in map(self._message, made) if m.role == "assistant"]
        if not turns:
            raise UsageError(
                f"the adapter `{self.name}` shows no demo as an assistant's turn, so no answer can be written."
            )
        return turns[-1].text

    def parse(self, plan: Plan, text: str) -> Parsed:
        """Read an answer by `parse`, and check every value against its field."""
        outputs = plan.signature.output_fields
        salvages: list[str] = []
        read: dict[str, Any] = {}
        problems: dict[str, str] = {}
        try:
            found = self._functions[1](plan.signature, text) if text.strip() else {}
        except ValueError as error:
            problems = dict.fromkeys(outputs, f"the answer could not be read: {error}")
            return Parsed({}, problems)
        for name, field in outputs.items():
            if name in found:
                try:
                    read[name] = _value(field, found[name], salvages)
                except ValueProblem as problem:
                    problems[name] = str(problem)
        absent(outputs, read, problems)
        return Parsed({n: read[n] for n in outputs if n in read}, problems, tuple(salvages))

    def __repr__(self) -> str:
        return f"Adapter.from_functions(name={self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FunctionAdapter) and (self.name, self._functions) == (other.name, other._functions)

    def __hash__(self) -> int:
        return hash((self.name, self._functions))


def _value(field: Field, value: Any, salvages: list[str]) -> Any:
    """Return a value of the field: one that fits as it is, or what a text stands for."""
    try:
        return field.adapter.validate_python(value)
    except pydantic.ValidationError as error:
        if not isinstance(value, str):
            raise ValueProblem(problems_of(error)) from error
    return read_value(field, value, salvages)
