"""ToolForm: a tool as a model sees it, as the value of a field. What it does is not known here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic_core import SchemaSerializer, core_schema

from tuneful.errors import UsageError
from tuneful.spec.field_value import FieldValue


class ToolForm(FieldValue):
    """Name, description and arguments of a tool.

    Args:
        name: its name.
        description: what it does, in words.
        parameters: JSON schema of its arguments: an object.
    """

    def __init__(self, name: str, description: str, parameters: Mapping[str, Any]) -> None:
        self.name = name
        self.description = description
        self.parameters = dict(parameters)

    def to_json(self) -> dict[str, Any]:
        """Return what a model is told of the tool in a text: a plain argument by its type, another by its schema."""
        told = {"name": self.name, "description": self.description}
        if "$defs" in self.parameters:
            return {**told, "parameters": self.parameters}
        required = self.parameters.get("required", ())
        arguments = self.parameters.get("properties", {})
        return {**told, "args": {n: _told(p, optional=n not in required) for n, p in arguments.items()}}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Raise UsageError: a tool is more than what is written of it."""
        raise UsageError(f"{value!r:.80} is no tool")

    @classmethod
    def _validated(cls, value: Any) -> Any:
        return value if isinstance(value, ToolForm) else cls.from_json(value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # it may hold a connection: shared by the copies of a program, as an LM is

    #: In a row (a demo, a journal) a tool is its name: what it takes is told anew at each call.
    __pydantic_serializer__: ClassVar[SchemaSerializer] = SchemaSerializer(
        core_schema.any_schema(serialization=core_schema.plain_serializer_function_ser_schema(lambda tool: tool.name))
    )


def _told(schema: Any, *, optional: bool) -> Any:
    """Return an argument in few words: small models copy what they see, and a schema is much to see."""
    rest = {k: v for k, v in schema.items() if k not in ("title", "default")} if isinstance(schema, Mapping) else schema
    if isinstance(rest, dict) and rest.keys() <= {"type"}:
        return f"{rest.get('type', 'any value')}{' (optional)' if optional else ''}"
    return schema
