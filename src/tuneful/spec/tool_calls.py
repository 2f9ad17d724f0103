"""ToolCall and ToolCallList: the calls that a model wants made, as the value of a field."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from tuneful.errors import UsageError
from tuneful.spec.field_value import FieldValue


@dataclass(frozen=True)
class ToolCall(FieldValue):
    """A wish to call a tool.

    Args:
        name: name of the tool.
        args: its arguments, by name, as JSON values.
        id: the provider's identity of the call, where it was made by native tool calling; not part of the value.
        signature: what the provider wants back with the call; not part of the value.
    """

    name: str
    args: Mapping[str, Any]
    id: str = field(default="", compare=False, repr=False)
    signature: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or not isinstance(self.args, Mapping):
            raise UsageError(f"a call is {{'name': tool, 'args': {{...}}}}, got {self.name!r:.60}, {self.args!r:.60}")

    def to_json(self) -> dict[str, Any]:
        """Return name and arguments."""
        return {"name": self.name, "args": dict(self.args)}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what `to_json` wrote; the arguments may be called `arguments`, and may be JSON text."""
        if not isinstance(value, Mapping) or "name" not in value:
            raise UsageError(f"a call is {{'name': tool, 'args': {{...}}}}, got {value!r:.120}")
        args = value.get("args", value.get("arguments", {}))
        return cls(value["name"], json.loads(args) if isinstance(args, str) else args)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.args.items())})"

    def __hash__(self) -> int:
        return hash(self.name)


_CALL = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "args": {"type": "object"}},
    "required": ["name", "args"],
}


@dataclass(frozen=True)
class ToolCallList(FieldValue):
    """Calls that a model wants made, side by side.

    Args:
        tool_calls: the calls.
        thought: what the model said beside them; not part of the value.
        observations: what came of each of them, where they were made and a demo is to show it; not part of the value.
    """

    tool_calls: tuple[ToolCall, ...] = ()
    thought: str = field(default="", compare=False)
    observations: tuple[str, ...] = field(default=(), compare=False)

    json_schema: ClassVar[dict[str, Any]] = {"type": "array", "items": _CALL}

    def __post_init__(self) -> None:
        object.__setattr__(self, "tool_calls", _calls(self.tool_calls))

    def to_json(self) -> Any:
        """Return the calls; with a thought or observations, as an object that holds all."""
        calls = [c.to_json() for c in self.tool_calls]
        if not self.thought and not self.observations:
            return calls
        told = {"observations": list(self.observations)} if self.observations else {}
        return {"thought": self.thought, "tool_calls": calls, **told}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what `to_json` wrote; a lone call is understood too."""
        if isinstance(value, ToolCallList):
            return cls(value.tool_calls, value.thought, value.observations)
        if isinstance(value, Mapping) and "tool_calls" in value:
            observations = tuple(map(str, value.get("observations") or ()))
            return cls(value["tool_calls"], str(value.get("thought") or ""), observations)
        lone = isinstance(value, (Mapping, ToolCall))
        return cls(_calls([value] if lone else value))

    def __iter__(self) -> Iterator[ToolCall]:
        return iter(self.tool_calls)

    def __len__(self) -> int:
        return len(self.tool_calls)

    def __getitem__(self, index: int) -> ToolCall:
        return self.tool_calls[index]


def _calls(given: Iterable[Any]) -> tuple[ToolCall, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UsageError(f"expected a list of calls, got {given!r:.120}")
    return tuple(c if isinstance(c, ToolCall) else ToolCall.from_json(c) for c in given)
