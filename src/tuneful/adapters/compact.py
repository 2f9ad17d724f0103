"""CompactAdapter: short labelled lines, for small models, with a grammar where the backend takes one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar

from tuneful.adapters import gbnf
from tuneful.adapters.base import Adapter, Parsed, Plan, Section, Values
from tuneful.adapters.chat import THINKING, spoken, strip_thinking
from tuneful.adapters.prefix import settled
from tuneful.adapters.values import ValueProblem, absent, read_value, type_text, write_value
from tuneful.spec.fields import Field
from tuneful.spec.signature import Signature
from tuneful.spec.types import choices
from tuneful.wire.capabilities import Capabilities


class CompactAdapter(Adapter):
    """One line for each field, `Label: value`; a lone output is the bare value, with no label.

    Further lines of a value are indented by two spaces, so a text can never open a field: a label counts only at the
    start of a line. With a backend that takes grammars the answer is constrained to the labels and the types;
    a free text is then at most `gbnf.TEXT_LIMIT` characters long, or its `max_length`.

    Cost: the fewest tokens of all adapters. Not for long or nested outputs of a large model: use JSON there.
    """

    name: ClassVar[str] = "compact"

    def constrain(self, signature: Signature, capabilities: Capabilities) -> Plan:
        """Return a plan with a grammar, unless the only output is unconstrained text, which stays free."""
        outputs = signature.output_fields
        free = [f for f in outputs.values() if f.type is str and not f.constraints]
        if not capabilities.grammar or len(free) == len(outputs) == 1:
            return Plan(signature)
        return Plan(signature, grammar=gbnf.lines(outputs, labels(signature)))

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
            lines.append(f"Answer with the {shown[next(iter(outputs))].lower()} only.")
        return "\n\n".join(lines)

    def input_text(self, signature: Signature, values: Values) -> str:
        """Return the given inputs as labelled lines."""
        return _lines(signature.input_fields, labels(signature), values)

    def output_text(self, signature: Signature, values: Values) -> str:
        """Return the outputs as labelled lines, a lone one bare."""
        outputs = signature.output_fields
        if len(outputs) > 1:
            return _lines(outputs, labels(signature), values)
        ((name, field),) = outputs.items()
        if name not in values:
            return ""
        text = write_value(field, values[name])
        if _label_at_start(labels(signature)[name]).match(text) or THINKING.match(text):
            return json.dumps(text, ensure_ascii=False)  # bare, it would read as a label or a thought and be taken off
        return text

    def partial_text(self, signature: Signature, values: Values) -> str:
        """Return the labelled lines of the fields that a partial demo has."""
        return _lines(signature.fields, labels(signature), values)

    def parse(self, plan: Plan, text: str) -> Parsed:
        """Read lines by label; unlabelled lines go on with the field above. A lone output needs no label."""
        outputs, shown = plan.signature.output_fields, labels(plan.signature)
        salvages: list[str] = []
        body = strip_thinking(text, salvages).strip("\n")
        if len(outputs) == 1:
            (name,) = outputs
            bare = _label_at_start(shown[name]).sub("", body, count=1)
            if bare != body:
                salvages.append("label removed")
            sections = {name: bare} if bare.strip() else {}
        else:
            split = _split_lines(body, {n: shown[n] for n in outputs})
            sections = {name: _dedented(section) for name, section, _ in split}
        read: dict[str, Any] = {}
        problems: dict[str, str] = {}
        for name, section in sections.items():
            try:
                read[name] = read_value(outputs[name], section, salvages)
            except ValueProblem as problem:
                problems[name] = str(problem)
        absent(outputs, read, problems)
        return Parsed({n: read[n] for n in outputs if n in read}, problems, tuple(salvages))

    def partial(self, plan: Plan, text: str) -> list[Section]:
        """Read the lines whose label is there. Indented lines wait for the end of their field: see `_certain`."""
        outputs, shown = plan.signature.output_fields, labels(plan.signature)
        shown = {n: shown[n] for n in outputs}
        body = spoken(text).lstrip("\n")
        if any(c in label for label in shown.values() for c in ":：\n"):  # one label could be the start of another
            return []
        if len(outputs) == 1:
            ((name, field),) = outputs.items()
            bare = "" if _label_begun((shown[name],)).fullmatch(body) else _label_at_start(shown[name]).sub("", body, 1)
            return [Section(name, settled(field, bare, closed=False), closed=False)] if bare.strip() else []
        found = []
        for name, section, closed in _split_lines(body, shown):
            certain = _dedented(section) if closed else _certain(section, _label_begun(tuple(shown.values())))
            found.append(Section(name, settled(outputs[name], certain, closed=closed), closed))
        return found


@lru_cache(maxsize=512)
def labels(signature: Signature) -> Mapping[str, str]:
    """Return the label of each field; where two fields share one, both show their names instead."""
    shown = {n: f.label for n, f in signature.fields.items()}
    counts = [label.casefold() for label in shown.values()]
    return {n: label if counts.count(label.casefold()) == 1 else n for n, label in shown.items()}


def _hint(field: Field, label: str) -> str:
    options = choices(field.type)
    kind = "one of " + ", ".join(map(str, options)) if options else ("" if field.type is str else type_text(field))
    details = [d for d in (kind, field.desc, field.constraint_text) if d]
    return f"{label}: {'; '.join(details)}" if details else label


def _lines(fields: Mapping[str, Field], shown: Mapping[str, str], values: Values) -> str:
    rows = []
    for name, field in fields.items():
        if name in values:
            indented = write_value(field, values[name]).replace("\n", "\n  ")
            rows.append(f"{shown[name]}: {indented}")
    return "\n".join(rows)


@lru_cache(maxsize=1024)
def _label_at_start(label: str) -> re.Pattern[str]:
    return re.compile(rf"\A[ \t]*[*_`#]*{re.escape(label)}[*_`]*[ \t]*[:：][*_`]*[ \t]*", re.IGNORECASE)


@lru_cache(maxsize=512)
def _any_label(shown: tuple[str, ...]) -> re.Pattern[str]:
    words = "|".join(re.escape(label) for label in sorted(shown, key=len, reverse=True))
    return re.compile(rf"^[*_`#]*[ \t]?({words})[*_`]*[ \t]*[:：][*_`]*[ \t]?", re.IGNORECASE | re.MULTILINE)


@lru_cache(maxsize=512)
def _label_begun(shown: tuple[str, ...]) -> re.Pattern[str]:
    """Return what matches the start of a line that may become a label."""
    starts = "|".join(re.escape(label[:i]) for label in shown for i in range(len(label)))
    whole = "|".join(map(re.escape, shown))
    return re.compile(rf"[ \t]*[*_`#]*[ \t]?(?:{starts}|(?:{whole})[*_`]*[ \t]*)", re.IGNORECASE)


def _split_lines(text: str, shown: Mapping[str, str]) -> Iterator[tuple[str, str, bool]]:
    """Yield name and text of the first section of each field, and whether a label follows it."""
    by_label = {label.casefold(): name for name, label in shown.items()}
    found_marks = _any_label(tuple(shown.values())).finditer(text)
    marks = [m for m in found_marks if m.group(1).casefold() in by_label]  # a dotless i matches an i
    seen = set()
    for mark, following in pairwise([*marks, None]):
        assert mark is not None
        name = by_label[mark.group(1).casefold()]
        if name not in seen:
            seen.add(name)
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
