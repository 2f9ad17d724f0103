"""Trajectory: the steps that an agent has taken, as a value: the same whichever way the model calls its tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from tuneful.errors import UsageError
from tuneful.spec.field_value import FieldValue
from tuneful.spec.tool_calls import ToolCall

#: Characters that are left of an observation that is shortened.
SHORTENED_CHARS = 300

_LEFT_OUT = "steps_left_out"


@dataclass(frozen=True)
class TrajectoryStep(FieldValue):
    """One step of an agent.

    Args:
        thought: what the model said before it acted, or "".
        calls: the tools that it called, side by side.
        observations: what came of each of them, in order; with no call, what the agent was told instead.
    """

    thought: str
    calls: tuple[ToolCall, ...] = ()
    observations: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the step as JSON values."""
        calls = [c.to_json() for c in self.calls]
        return {"thought": self.thought, "calls": calls, "observations": [str(o) for o in self.observations]}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what `to_json` wrote."""
        if not isinstance(value, Mapping):
            raise UsageError(f"a step of a trajectory is an object, got {value!r:.80}")
        calls = tuple(ToolCall.from_json(c) for c in value.get("calls", ()))
        return cls(str(value.get("thought", "")), calls, tuple(map(str, value.get("observations", ()))))

    def shortened(self) -> TrajectoryStep:
        """Return the step with only the beginning of each long observation."""
        return replace(self, observations=tuple(map(_shortened, self.observations)))


@dataclass(frozen=True)
class Trajectory(FieldValue):
    """The steps of an agent, the first one first.

    >>> step = TrajectoryStep("look it up", (ToolCall("search", {"query": "fjord"}),), ("Sognefjord",))
    >>> print(Trajectory((step,)))
    look it up
      search(query='fjord')
      -> Sognefjord

    Args:
        steps: the steps.
        left_out: earlier steps that are not shown any more, for lack of room.
    """

    steps: tuple[TrajectoryStep, ...] = ()
    left_out: int = 0

    json_schema: ClassVar[dict[str, Any]] = {"type": "array", "items": {"type": "object"}}

    def to_json(self) -> list[Any]:
        """Return the steps as JSON values, after a note on those that are left out."""
        note = [{_LEFT_OUT: self.left_out}] if self.left_out else []
        return [*note, *(s.to_json() for s in self.steps)]

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what `to_json` wrote."""
        if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
            raise UsageError(f"a trajectory is a list of steps, got {value!r:.80}")
        rows = list(value)
        left_out = 0
        if rows and isinstance(rows[0], Mapping) and _LEFT_OUT in rows[0]:
            left_out = int(rows.pop(0)[_LEFT_OUT])
        return cls(tuple(r if isinstance(r, TrajectoryStep) else TrajectoryStep.from_json(r) for r in rows), left_out)

    def with_step(self, step: TrajectoryStep) -> Trajectory:
        """Return the trajectory with a further step."""
        return replace(self, steps=(*self.steps, step))

    def within(self, shortened: int, left_out: int) -> Trajectory:
        """Return it with the observations of the first steps shortened, and with the very first steps left out."""
        steps = [s.shortened() if i < shortened else s for i, s in enumerate(self.steps)]
        return Trajectory(tuple(steps[left_out:]), self.left_out + left_out)

    @property
    def note(self) -> str:
        """What is said of the steps that are left out, or ""."""
        return f"[the first {self.left_out} steps are left out, for lack of room]" if self.left_out else ""

    def __iter__(self) -> Iterator[TrajectoryStep]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> TrajectoryStep:
        return self.steps[index]

    def __str__(self) -> str:
        lines = [self.note] if self.left_out else []
        for step in self.steps:
            lines += [step.thought] if step.thought else []
            lines += [f"  {call}" for call in step.calls]
            lines += [f"  -> {observation}" for observation in step.observations]
        return "\n".join(lines)


def _shortened(text: str) -> str:
    cut = len(text) - SHORTENED_CHARS
    if cut <= 40:  # no shorter with its notice
        return text
    return f"{text[:SHORTENED_CHARS]} [shortened: {cut:,} further characters are left out]"
