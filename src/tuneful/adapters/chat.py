"""ChatAdapter: every field under a marker `[[ ## name ## ]]`, the convention of the field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from tuneful.adapters import lark
from tuneful.adapters.base import Adapter, Parsed, Plan, Section, Values, stops
from tuneful.adapters.loose import before_first_mark, read_without_marks
from tuneful.adapters.prefix import settled
from tuneful.adapters.thinking import spoken, strip_thinking
from tuneful.adapters.values import ValueProblem, absent, describe, read_value, write_value
from tuneful.adapters.wrapping import FENCE, fence_held_back, opens_fence, without_closing_fence
from tuneful.spec.fields import Field
from tuneful.spec.signature import Signature
from tuneful.wire.capabilities import Capabilities

_MARKER = re.compile(r"^[ \t]*[*_`#]*[ \t]*\[\[[ \t]*##[ \t]*(\w+)[ \t]*##[ \t]*\]\][*_`]*:?", re.MULTILINE)
_OPENING = re.compile(r"\[\[(\\*)(\s*##)")
_ESCAPED = re.compile(r"\[\[\\(\\*\s*##)")
#: The start of a line that may become a marker, and a backslash that may turn out to be an escape.
_MARKER_BEGUN = re.compile(
    r"[ \t]*[*_`#]*[ \t]*(?:\[(?:\[[ \t]*(?:\#(?:\#[ \t]*(?:\w+[ \t]*(?:\#(?:\#[ \t]*\]?)?)?)?)?)?)?)?"
)
_ESCAPE_BEGUN = re.compile(r"(?<=\[\[)\\+\s*#?\Z")
#: A marker in which an answer breaks off.
_MARKER_CUT = re.compile(r"\n[ \t]*[*_`#]*[ \t]*\[\[[ \t]*##[ \t]*\w*[ \t]*#{0,2}[ \t]*\]?[ \t]*\Z")

_END = "[[ ## completed ## ]]"


class ChatAdapter(Adapter):
    r"""Fields under markers; works with any chat model of a few billion parameters and more.

    Text of a user that contains a marker is escaped by a backslash (`[[\ ## x ## ]]`), and unescaped on the way
    back, so it can never open a field.

    With a backend that takes grammars in Lark the answer is constrained to the markers, in order, and to the types.

    Cost: about 12 prompt tokens a field more than `CompactAdapter`.
    """

    name = "chat"

    def constrain(self, signature: Signature, capabilities: Capabilities) -> Plan:
        """Return a plan with a grammar, or where there is none with an end to stop at."""
        if capabilities.grammar != "lark":
            return Plan(signature, stop=stops(capabilities, _END))
        outputs = signature.output_fields
        first, *others = (f"{_marker(n)}\n" for n in outputs)
        heads = [first, *(f"\n\n{head}" for head in others)]
        grammar = lark.answer(
            outputs, heads, f"\n\n{_END}", _escaped, lark.shortness(capabilities, signature.output_fields)
        )
        return Plan(signature, grammar=grammar)

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
        """Read sections by marker; the first of a name counts. An answer without any marker is read loosely."""
        outputs = plan.signature.output_fields
        salvages: list[str] = []
        body = strip_thinking(text, salvages, outputs)
        marks = _marks(body)
        read: dict[str, Any] = {}
        problems: dict[str, str] = {}
        sections = _sections_between(marks, body, outputs, salvages)
        for name, section, closed in sections:
            if not closed and ("[[" in section or "`" in section):
                section = _ended(section, body[: marks[0].start()], salvages)  # noqa: PLW2901 (the section, without its end)
            try:
                read[name] = read_value(outputs[name], _unescaped(section.strip()), salvages)
            except ValueProblem as problem:
                problems[name] = str(problem)
        if not sections:
            read, problems = read_without_marks(body, text, outputs, salvages)
        elif len(sections) < len(outputs):
            first = marks[0][1] if marks[0][1] in outputs else ""
            before_first_mark(body[: marks[0].start()], outputs, first, (read, problems), salvages)
        if len(read) < len(outputs):
            absent(outputs, read, problems)
        return Parsed({n: read[n] for n in outputs if n in read}, problems, tuple(salvages))

    def partial(self, plan: Plan, text: str) -> list[Section]:
        """Read the sections whose marker is there. An answer without markers says nothing before it is whole."""
        outputs = plan.signature.output_fields
        found = []
        body = spoken(text, outputs)
        marks = _marks(body)
        for name, section, closed in _sections_between(marks, body, outputs, []):
            if not closed and "`" in section and opens_fence(body[: marks[0].start()]):
                section = fence_held_back(section)  # noqa: PLW2901 (the section, without its end)
            certain = _unescaped(section.strip() if closed else _held_back(section))
            found.append(Section(name, settled(outputs[name], certain, closed=closed), closed))
        return found


def _marker(name: str) -> str:
    return f"[[ ## {name} ## ]]"


def _sections(fields: Mapping[str, Field], values: Values) -> str:
    parts = []
    for name, field in fields.items():
        if name in values:
            text = _escaped(field, values[name])
            label = f"{field.label}:\n" if field.reworded else ""
            parts.append(f"{_marker(name)}\n{label if field.role == 'input' else ''}{text}")
    return "\n\n".join(parts)


def _escaped(field: Field, value: Any) -> str:
    text = write_value(field, value)
    return _OPENING.sub(r"[[\\\1\2", text) if "[[" in text else text


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


def _sections_between(
    marks: list[re.Match[str]], text: str, outputs: Mapping[str, Field], salvages: list[str]
) -> list[tuple[str, str, bool]]:
    """Return name and text of the first section of each field, and whether a marker follows it."""
    by_name = {n.casefold(): n for n in outputs}
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


def _ended(section: str, lead: str, salvages: list[str]) -> str:
    """Return the last section without the marker in which it breaks off, or the fence that closes the answer."""
    if cut := _MARKER_CUT.search(section):
        salvages.append("marker cut off")
        return section[: cut.start()]
    if opens_fence(lead) and (bare := without_closing_fence(section)) != section:
        salvages.append(FENCE)
        return bare
    return section
