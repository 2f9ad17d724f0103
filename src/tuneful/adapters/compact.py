"""CompactAdapter: short labelled lines, for small models, with a grammar where the backend takes one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, zip_longest
from typing import Any

from tuneful.adapters import gbnf, lark
from tuneful.adapters.base import Adapter, Parsed, Plan, Section, Values, stops
from tuneful.adapters.loose import MARKER_MISSING, before_first_mark, read_without_marks
from tuneful.adapters.objects import read_members, read_object
from tuneful.adapters.prefix import is_text, open_string, settled
from tuneful.adapters.quotes import read_quoted
from tuneful.adapters.thinking import begins_with_thoughts, spoken, strip_thinking
from tuneful.adapters.values import ValueProblem, absent, read_value, to_json_text, type_text, write_value
from tuneful.adapters.wrapping import FENCE, LABEL, fence_held_back, opens_fence, without_closing_fence
from tuneful.spec.code import is_code
from tuneful.spec.fields import Field
from tuneful.spec.signature import Signature
from tuneful.spec.types import choices
from tuneful.wire.capabilities import Capabilities

_OBJECT_BEGINS = re.compile(r"\s*(?:```\w*\s*)?\{")
_OBJECT_MAY_BEGIN = re.compile(r"\s*(?:```\w*\s*\Z|`{1,2}\Z|(?:```\w*\s*)?\{)")


class CompactAdapter(Adapter):
    """One line for each field, `Label: value`; a lone output is the value without its label, a text in quotes.

    Further lines of a value are indented by two spaces, so a text can never open a field: a label counts only at the
    start of a line. A lone text is a JSON string: a small model that opened a quote closes it where the answer ends,
    while one that writes bare goes on with a sentence of its own (docs/lab-notes.md). With a backend that takes
    grammars the answer is constrained to the labels and the types; a text of a small model is then one line, of at
    most `lark.TEXT_LIMIT` characters or its `max_length`.

    Cost: the fewest tokens of all adapters. Not for long or nested outputs of a large model: use JSON there.
    """

    name = "compact"

    def constrain(self, signature: Signature, capabilities: Capabilities) -> Plan:
        """Return a plan with a grammar, unless the only output is code, which stays free."""
        outputs, shown = signature.output_fields, labels(signature)
        alone = next(iter(outputs.values())) if len(outputs) == 1 else None
        lone = _lone_text(outputs)
        if not capabilities.grammar or (alone and is_code(alone.type)):
            again = next(iter(signature.input_fields), None)  # a small model may go on with a case of its own
            ends = (f"\n{shown[again]}: ",) if again and capabilities.small else ()
            return Plan(signature, stop=stops(capabilities, *ends))
        if capabilities.grammar == "gbnf":
            return Plan(signature, grammar=gbnf.quoted(lone) if lone else gbnf.lines(outputs, shown))
        short = lark.shortness(capabilities, outputs)  # a small model that begins another line seldom finds an end
        if lone:
            return Plan(signature, grammar=lark.quoted(lone, short))
        first, *others = (f"{shown[n]}: " for n in outputs)
        write = write_value if alone else _indented
        heads = [""] if alone else [first, *(f"\n{head}" for head in others)]
        grammar = lark.answer(outputs, heads, "", write, short, one_line=capabilities.small)
        return Plan(signature, grammar=grammar)

    def system_text(self, plan: Plan) -> str:
        """Return the instructions and one line for each output that needs words."""
        shown = labels(plan.signature)
        lines = [plan.signature.instructions]
        described = [_hint(f, shown[n]) for n, f in plan.signature.fields.items() if f.desc or f.role == "output"]
        if described:
            lines.append("\n".join(described))
        outputs = plan.signature.output_fields
        if len(outputs) > 1:
            lines.append("Answer with one line for each: " + ", ".join(f"{shown[n]}" for n in outputs) + ".")
        else:
            quotes = ", in double quotes" if _lone_text(outputs) else ""
            lines.append(f"Answer with the {shown[next(iter(outputs))].lower()} only{quotes}.")
        return "\n\n".join(lines)

    def input_text(self, signature: Signature, values: Values) -> str:
        """Return the given inputs as labelled lines."""
        return _lines(signature.input_fields, labels(signature), values)

    def output_text(self, signature: Signature, values: Values) -> str:
        """Return the outputs as labelled lines, a lone one without its label."""
        outputs = signature.output_fields
        if len(outputs) > 1:
            return _lines(outputs, labels(signature), values)
        ((name, field),) = outputs.items()
        if name not in values:
            return ""
        if _lone_text(outputs):
            return to_json_text(field, values[name])
        text = write_value(field, values[name])
        if _label_at_start(labels(signature)[name]).match(text) or begins_with_thoughts(text, outputs):
            return json.dumps(text, ensure_ascii=False)  # bare, it would read as a label or a thought and be taken off
        return text

    def partial_text(self, signature: Signature, values: Values) -> str:
        """Return the labelled lines of the fields that a partial demo has."""
        return _lines(signature.fields, labels(signature), values)

    def parse(self, plan: Plan, text: str) -> Parsed:
        """Read lines by label; unlabelled lines go on with the field above. A lone output needs no label."""
        outputs, marks = plan.signature.output_fields, _marks(plan.signature)
        salvages: list[str] = []
        body = strip_thinking(text, salvages, outputs).strip("\n")
        read: dict[str, Any] = {}
        problems: dict[str, str] = {}
        if len(outputs) == 1:
            read, problems = _lone(body, text, outputs, marks.alone, salvages)
        else:
            sections = _sections(plan, body, marks, salvages)
            lead = _lead(body, marks) if "`" in body or len(sections) < len(outputs) else ""
            for name, section, closed in sections:
                whole = section if closed else _without_fence(section, lead, salvages)
                try:
                    read[name] = read_value(outputs[name], _dedented(whole), salvages)
                except ValueProblem as problem:
                    problems[name] = str(problem)
            if not sections:
                read, problems = read_without_marks(body, text, outputs, salvages)
            elif lead:
                before_first_mark(lead, outputs, sections[0][0], (read, problems), salvages)
        if len(read) < len(outputs):
            absent(outputs, read, problems)
        return Parsed({n: read[n] for n in outputs if n in read}, problems, tuple(salvages))

    def partial(self, plan: Plan, text: str) -> list[Section]:
        """Read the lines whose label is there. Indented lines wait for the end of their field: see `_certain`."""
        outputs, marks = plan.signature.output_fields, _marks(plan.signature)
        body = spoken(text, outputs).lstrip("\n")
        if marks.unclear:
            return []
        if len(outputs) == 1:
            ((name, field),) = outputs.items()
            if body.startswith('"') and _lone_text(outputs):
                return [_string_begun(name, body)]
            bare = "" if _label_begun((marks.shown[name],)).fullmatch(body) else marks.alone.sub("", body, 1)
            told = "" if _OBJECT_MAY_BEGIN.match(bare) else settled(field, bare, closed=False)
            return [Section(name, told, closed=False)] if bare.strip() else []
        found = []
        lead = _lead(body, marks) if "`" in body else ""
        for name, section, closed in _sections(plan, body, marks, []):
            if not closed and opens_fence(lead):
                section = fence_held_back(section)  # noqa: PLW2901 (the section, without its end)
            certain = _dedented(section) if closed else _certain(section, marks.begun)
            found.append(Section(name, settled(outputs[name], certain, closed=closed), closed))
        return found


@lru_cache(maxsize=512)
def labels(signature: Signature) -> Mapping[str, str]:
    """Return the label of each field; where two fields share one, both show their names instead."""
    shown = {n: f.label for n, f in signature.fields.items()}
    counts = [label.casefold() for label in shown.values()]
    return {n: label if counts.count(label.casefold()) == 1 else n for n, label in shown.items()}


def _lone_text(outputs: Mapping[str, Field]) -> Field | None:
    """Return the only output where it is a text, which is written in quotes."""
    field, *others = outputs.values()
    return field if is_text(field) and not others else None


def _string_begun(name: str, body: str) -> Section:
    """Return what a text in quotes says so far."""
    try:
        return Section(name, json.loads(body), closed=True)
    except ValueError:
        return Section(name, open_string(body, 1), closed=False)


def _lone(
    body: str, text: str, outputs: Mapping[str, Field], label: re.Pattern[str], salvages: list[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the only output: the bare value, or where that is none, what the answer marks as it."""
    ((name, field),) = outputs.items()
    mark = label.match(body)
    bare = body[mark.end() :] if mark else body
    noted = [LABEL] if mark else []
    if "{" in bare and is_text(field) and (own := _own_object(bare, outputs)) is not None:
        salvages += ["object instead of marks"]
        return read_members(own, outputs, salvages)
    if not bare.strip():
        return ({}, {}) if is_text(field) else read_without_marks(body, text, outputs, salvages)
    if is_text(field) and bare.startswith('"'):
        bare = to_json_text(field, read_quoted(bare, noted))
    try:
        read = {name: read_value(field, bare, noted)}
    except ValueProblem as problem:
        found = read_without_marks(body, text, outputs, salvages)
        return found if found[0] else ({}, {name: str(problem)})
    if noted and "{" in bare:
        inside: list[str] = []
        found = read_without_marks(body, text, outputs, inside)
        if found[0] and MARKER_MISSING not in inside:
            salvages += inside
            return found
    salvages += noted
    return read, {}


def _own_object(text: str, outputs: Mapping[str, Field]) -> dict[str, Any] | None:
    """Return the outputs in a text that is an object which names them."""
    return read_object(text, outputs, []) if _OBJECT_BEGINS.match(text) else None


def _lead(text: str, marks: _Marks) -> str:
    """Return the words in front of the first label."""
    first = marks.any.search(text)
    return text[: first.start()] if first else ""


def _without_fence(section: str, lead: str, salvages: list[str]) -> str:
    if "`" not in section or not opens_fence(lead) or (bare := without_closing_fence(section)) == section:
        return section
    salvages.append(FENCE)
    return bare


def _hint(field: Field, label: str) -> str:
    options = choices(field.type)
    kind = "one of " + ", ".join(map(str, options)) if options else ("" if field.type is str else type_text(field))
    details = [d for d in (kind, field.desc, field.constraint_text) if d]
    return f"{label}: {'; '.join(details)}" if details else label


def _lines(fields: Mapping[str, Field], shown: Mapping[str, str], values: Values) -> str:
    rows = []
    for name, field in fields.items():
        if name in values:
            rows.append(f"{shown[name]}: {_indented(field, values[name])}")
    return "\n".join(rows)


def _indented(field: Field, value: Any) -> str:
    return write_value(field, value).replace("\n", "\n  ")


@lru_cache(maxsize=1024)
def _label_at_start(label: str) -> re.Pattern[str]:
    return re.compile(rf"\A[ \t]*[*_`#]*{re.escape(label)}[*_`]*[ \t]*[:：][*_`]*[ \t]*", re.IGNORECASE)


@lru_cache(maxsize=512)
def _label_begun(shown: tuple[str, ...]) -> re.Pattern[str]:
    """Return what matches the start of a line that may become a label."""
    starts = "|".join(re.escape(label[:i]) for label in shown for i in range(len(label)))
    whole = "|".join(map(re.escape, shown))
    return re.compile(rf"[ \t]*[*_`#]*[ \t]?(?:{starts}|(?:{whole})[*_`]*[ \t]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Marks:
    """What marks the outputs of a signature.

    Args:
        shown: the label of each.
        by_word: the field of each word that marks a line: the labels, and the names where they are other words.
        any: matches a label at the start of a line.
        begun: matches the start of a line that may become a label.
        alone: matches the first output's label in front of a text.
        unclear: whether one label could be the start of another.
    """

    shown: Mapping[str, str]
    by_word: Mapping[str, str]
    any: re.Pattern[str]
    begun: re.Pattern[str]
    alone: re.Pattern[str]
    unclear: bool


@lru_cache(maxsize=512)
def _marks(signature: Signature) -> _Marks:
    every = labels(signature)
    shown = {n: every[n] for n in signature.output_fields}
    words = (*shown.values(), *(n for n, label in shown.items() if n.casefold() != label.casefold()))
    spelt = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return _Marks(
        shown,
        {n.casefold(): n for n in shown} | {label.casefold(): n for n, label in shown.items()},
        re.compile(rf"^[*_`#]*[ \t]?({spelt})[*_`]*[ \t]*[:：][*_`]*[ \t]?", re.IGNORECASE | re.MULTILINE),
        _label_begun(words),
        _label_at_start(next(iter(shown.values()))),
        any(c in label for label in shown.values() for c in ":：\n"),
    )


def _sections(plan: Plan, text: str, marks: _Marks, salvages: list[str]) -> list[tuple[str, str, bool]]:
    """Return name and text of the first section of each field, and whether a label follows it.

    A grammar leaves no doubt what is a label: there a line of reasoning may look like one in another case.
    """
    heads = [f"\n{label}: " for label in marks.shown.values()]
    if plan.grammar is None or not f"\n{text}".startswith(heads[0]):
        return list(_split_lines(text, marks, salvages))
    found = []
    rest = f"\n{text}"[len(heads[0]) :]
    for name, head in zip_longest(marks.shown, heads[1:], fillvalue="\n\0"):
        section, label, rest = rest.partition(head)
        if not label:
            begun = next((i for i in range(len(head) - 1, 0, -1) if section.endswith(head[:i])), 0)
            found.append((name, section[: len(section) - begun], False))
            break
        found.append((name, section, True))
    return found


def _split_lines(text: str, marks: _Marks, salvages: list[str]) -> Iterator[tuple[str, str, bool]]:
    """Yield name and text of the first section of each field, and whether a label follows it."""
    found = [m for m in marks.any.finditer(text) if m[1].casefold() in marks.by_word]  # a dotless i matches an i
    seen = set()
    for mark, following in pairwise([*found, None]):
        assert mark is not None
        word = mark[1].casefold()
        name = marks.by_word[word]
        if name not in seen:
            seen.add(name)
            if word != marks.shown[name].casefold():
                salvages.append("name instead of label")
            yield name, text[mark.end() : following.start() if following else len(text)], following is not None


def _dedented(section: str) -> str:
    """Return a section without the indent of its further lines, which counts only if all of them have it."""
    first, *rest = section.rstrip("\n").split("\n")
    if all(line.startswith("  ") for line in rest):
        rest = [line[2:] for line in rest]
    return "\n".join([first, *rest])


def _certain(section: str, label_begun: re.Pattern[str]) -> str:
    """Return the part of an unfinished section that no later line can change.

    While all further lines are indented only the first is certain: one without an indent makes the others keep theirs.
    """
    line = section.rfind("\n")
    if line >= 0 and label_begun.fullmatch(section, line + 1):
        section = section[:line]
    first, *rest = section.rstrip("\n").split("\n")
    *whole, last = rest or [""]
    indented = all(line.startswith("  ") for line in whole) and "  ".startswith(last[:2])
    return first if indented else section
