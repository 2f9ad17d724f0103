"""ChatAdapter: every field under a marker `[[ ## name ## ]]`, the convention of the field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, ClassVar

from tuneful.adapters.base import Adapter, Parsed, Plan, Section, Values
from tuneful.adapters.prefix import settled
from tuneful.adapters.values import ValueProblem, absent, describe, read_value, write_value
from tuneful.spec.fields import Field
from tuneful.spec.signature import Signature

_MARKER = re.compile(r"^[ \t]*[*_`#]*[ \t]*\[\[[ \t]*##[ \t]*(\w+)[ \t]*##[ \t]*\]\][*_`]*:?", re.MULTILINE)
_OPENING = re.compile(r"\[\[(\\*)(\s*##)")
_ESCAPED = re.compile(r"\[\[\\(\\*\s*##)")
#: The start of a line that may become a marker, and a backslash that may turn out to be an escape.
_MARKER_BEGUN = re.compile(
    r"[ \t]*[*_`#]*[ \t]*(?:\[(?:\[[ \t]*(?:\#(?:\#[ \t]*(?:\w+[ \t]*(?:\#(?:\#[ \t]*\]?)?)?)?)?)?)?)?"
)
_ESCAPE_BEGUN = re.compile(r"(?<=\[\[)\\+\s*#?\Z")
THINKING = re.compile(r"\A\s*<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)
_THINKING_BEGUN = re.compile(r"\s*(?:<(?:t(?:h(?:i(?:n(?:k(?:i(?:n(?:g)?)?)?)?)?)?)?)?)?")

_END = "[[ ## completed ## ]]"


def strip_thinking(text: str, salvages: list[str]) -> str:
    """Remove a block of thoughts in front of an answer, as reasoning models write it."""
    stripped = THINKING.sub("", text, count=1) if "<think" in text else text
    if stripped != text:
        salvages.append("thinking removed")
    return stripped


def spoken(text: str) -> str:
    """Return the beginning of an answer without thoughts in front; "" while it may still be thoughts."""
    return "" if _THINKING_BEGUN.fullmatch(text) else strip_thinking(text, [])


class ChatAdapter(Adapter):
    r"""Fields under markers; works with any chat model of a few billion parameters and more.

    Text of a user that contains a marker is escaped by a backslash (`[[\ ## x ## ]]`), and unescaped on the way
    back, so it can never open a field.

    Cost: about 12 prompt tokens a field more than `CompactAdapter`.
    """

    name: ClassVar[str] = "chat"

    def system_text(self, plan: Plan) -> str:
        """Return fields, their types, the layout to follow and the instructions."""
        signature = plan.signature
        inputs = "\n".join(map(describe, signature.input_fields.values()))
        outputs = "\n".join(map(describe, signature.output_fields.values()))
        layout = "\n\n".join(f"{_marker(n)}\n{{{n}}}" for n in signature.output_fields)
        return (
            f"{signature.instructions}\n\nYou are given these fields:\n{inputs}\n\n"
            f"You write these fields:\n{outputs}\n\n"
            f"Put each field under its marker, in this order, and nothing else:\n\n{layout}\n\n{_END}"
        )

    def input_text(self, signature: Signature, values: Values) -> str:
        """Return the given inputs under their markers."""
        return _sections(signature.input_fields, values)

    def output_text(self, signature: Signature, values: Values) -> str:
        """Return the outputs under their markers, and the end marker."""
        return f"{_sections(signature.output_fields, values)}\n\n{_END}"

    def partial_text(self, signature: Signature, values: Values) -> str:
        """Return the fields that a partial demo has, without an end marker."""
        return _sections(signature.fields, values)

    def parse(self, plan: Plan, text: str) -> Parsed:
        """Read sections by marker; the first of a name counts. One text output needs no marker."""
        outputs = plan.signature.output_fields
        salvages: list[str] = []
        body = strip_thinking(text, salvages)
        sections = {name: section for name, section, _ in _split_sections(body, outputs, salvages)}
        if not sections and len(outputs) == 1 and body.strip():
            salvages.append("marker missing")
            sections = {next(iter(outputs)): _MARKER.split(body)[0]}
        read: dict[str, Any] = {}
        problems: dict[str, str] = {}
        for name, section in sections.items():
            try:
                read[name] = read_value(outputs[name], _unescaped(section.strip()), salvages)
            except ValueProblem as problem:
                problems[name] = str(problem)
        absent(outputs, read, problems)
        return Parsed({n: read[n] for n in outputs if n in read}, problems, tuple(salvages))

    def partial(self, plan: Plan, text: str) -> list[Section]:
        """Read the sections whose marker is there. An answer without markers says nothing before it is whole."""
        outputs = plan.signature.output_fields
        found = []
        for name, section, closed in _split_sections(spoken(text), outputs, []):
            certain = _unescaped(section.strip() if closed else _held_back(section))
            found.append(Section(name, settled(outputs[name], certain, closed=closed), closed))
        return found


def _marker(name: str) -> str:
    return f"[[ ## {name} ## ]]"


def _sections(fields: Mapping[str, Field], values: Values) -> str:
    parts = []
    for name, field in fields.items():
        if name in values:
            text = write_value(field, values[name])
            if "[[" in text:
                text = _OPENING.sub(r"[[\\\1\2", text)
            label = f"{field.label}:\n" if field.reworded else ""
            parts.append(f"{_marker(name)}\n{label if field.role == 'input' else ''}{text}")
    return "\n\n".join(parts)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"[[\1", text) if "[[" in text else text


def _held_back(section: str) -> str:
    """Return an unfinished section without an end that may become a marker or an escape."""
    line = section.rfind("\n")
    if line >= 0 and _MARKER_BEGUN.fullmatch(section, line + 1):
        section = section[:line]
    return _ESCAPE_BEGUN.sub("", section)


def _marks(text: str) -> list[re.Match[str]]:
    """Return the markers: at most one a line, and only lines with brackets are looked at."""
    found = []
    at = text.find("[[")
    while at >= 0:
        if mark := _MARKER.match(text, text.rfind("\n", 0, at) + 1):
            found.append(mark)
        line_end = text.find("\n", at)
        at = text.find("[[", line_end) if line_end >= 0 else -1
    return found


def _split_sections(text: str, outputs: Mapping[str, Field], salvages: list[str]) -> list[tuple[str, str, bool]]:
    """Return name and text of the first section of each field, and whether a marker follows it."""
    by_name = {n.casefold(): n for n in outputs}
    marks = _marks(text)
    found: dict[str, tuple[str, str, bool]] = {}
    for mark, following in zip_longest(marks, marks[1:]):
        name = by_name.get(mark[1].casefold())
        if name is None or name in found:
            continue
        if name != mark[1]:
            salvages.append("marker in other case")
        end = following.start() if following else len(text)
        found[name] = (name, text[mark.end() : end], following is not None)
    return list(found.values())
