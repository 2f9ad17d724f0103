"""FieldStream: an answer that is still being written, as changes of its fields."""

from __future__ import annotations

from typing import Any, Literal

from tuneful.adapters.base import Adapter, Parsed, Plan
from tuneful.adapters.prefix import is_text

#: A field "started", got a further "piece" of its text, or "ended" with its value.
Change = tuple[Literal["started", "piece", "ended"], str, Any]


class FieldStream:
    """Tells what each piece of an answer adds to which field.

    What was told is never taken back: a field's pieces only grow, whatever the adapter makes of the rest. The joined
    pieces are the value of a text field wherever the answer is in the adapter's form; in any case the value of
    "ended" counts. Fields that are no text have no pieces.

    Args:
        adapter: the adapter that reads the answer.
        plan: its plan.
    """

    def __init__(self, adapter: Adapter, plan: Plan) -> None:
        self._adapter = adapter
        self._plan = plan
        self._outputs = plan.signature.output_fields
        self._text = ""
        self._told: dict[str, str] = {}

    @property
    def begun(self) -> bool:
        """Whether anything was told."""
        return bool(self._told)

    def feed(self, text: str) -> list[Change]:
        """Take a further piece of the answer and return what it adds. Never raises."""
        self._text += text
        changes: list[Change] = []
        for section in self._adapter.partial(self._plan, self._text):
            if section.name in self._outputs:
                self._tell(section.name, section.text, changes)
        return changes

    def close(self, parsed: Parsed) -> list[Change]:
        """Take what was read of the whole answer; return what is left of the pieces, and the end of each field."""
        changes: list[Change] = []
        for name in (*self._told, *(n for n in parsed.fields if n not in self._told)):
            if name in parsed.fields:
                value = parsed.fields[name]
                text = value if isinstance(value, str) and is_text(self._outputs[name]) else ""
                self._tell(name, text, changes)
                changes.append(("ended", name, value))
        return changes

    def _tell(self, name: str, text: str, changes: list[Change]) -> None:
        if name not in self._told:
            self._told[name] = ""
            changes.append(("started", name, ""))
        told = self._told[name]
        if len(text) > len(told) and text.startswith(told):
            self._told[name] = text
            changes.append(("piece", name, text[len(told) :]))
