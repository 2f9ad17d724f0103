"""XMLAdapter: every field between tags of its name."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from tuneful.adapters import lark
from tuneful.adapters.base import Adapter, Parsed, Plan, Section, Values
from tuneful.adapters.prefix import settled
from tuneful.adapters.thinking import spoken, strip_thinking
from tuneful.adapters.values import ValueProblem, absent, describe, read_value, write_value
from tuneful.spec.fields import Field
from tuneful.spec.signature import Signature
from tuneful.wire.capabilities import Capabilities

#: Quantifiers are possessive here and below: a text full of blanks takes no longer than any other.
_ATTRIBUTES = r"""(?:\s++[\w:-]++\s*+=\s*+(?:"[^"<>]*+"|'[^'<>]*+'))*+"""


class XMLAdapter(Adapter):
    r"""Fields between tags, `<name>...</name>`; the choice for models trained on such tags, as Claude is.

    Other than in XML, a text stands as it is, so that code and mathematics stay readable: only what looks like a tag
    of one of the fields is escaped by a backslash (`<\name>`, `<\/name>`), and unescaped on the way back. So a text
    can never open or close a field, and every text comes back as it was.

    Cost: about 8 prompt tokens a field more than `CompactAdapter`.
    """

    name = "xml"

    def constrain(self, signature: Signature, capabilities: Capabilities) -> Plan:
        """Return a plan with a grammar, where the backend takes one in Lark."""
        if capabilities.grammar != "lark":
            return Plan(signature)
        names = list(signature.output_fields)
        heads = [f"<{names[0]}>", *(f"</{before}>\n<{name}>" for before, name in pairwise(names))]

        def write(field: Field, value: Any) -> str:
            return _written(signature, field, value)

        grammar = lark.answer(
            signature.output_fields,
            heads,
            f"</{names[-1]}>",
            write,
            lark.shortness(capabilities, signature.output_fields),
        )
        return Plan(signature, grammar=grammar)

    def system_text(self, plan: Plan) -> str:
        """Return the instructions, fields, their types and the layout to follow."""
        signature = plan.signature
        inputs = "\n".join(map(describe, signature.input_fields.values()))
        outputs = "\n".join(map(describe, signature.output_fields.values()))
        layout = "\n".join(f"<{n}>{{{n}}}</{n}>" for n in signature.output_fields)
        return (
            f"{signature.instructions}\n\nYou are given these fields:\n{inputs}\n\n"
            f"You write these fields:\n{outputs}\n\n"
            f"Put each field between its tags, in this order, and nothing else:\n\n{layout}"
        )

    def input_text(self, signature: Signature, values: Values) -> str:
        """Return the given inputs between their tags."""
        return _elements(signature, signature.input_fields, values)

    def output_text(self, signature: Signature, values: Values) -> str:
        """Return the outputs between their tags."""
        return _elements(signature, signature.output_fields, values)

    def partial_text(self, signature: Signature, values: Values) -> str:
        """Return the fields that a partial demo has."""
        return _elements(signature, signature.fields, values)

    def parse(self, plan: Plan, text: str) -> Parsed:
        """Read elements by tag; the first of a name counts. A lone output needs no tag."""
        signature = plan.signature
        outputs = signature.output_fields
        salvages: list[str] = []
        body = text if _opens(text, outputs) else strip_thinking(text, salvages, outputs)
        sections = {e.name: e.text for e in _elements_in(body, outputs, salvages)}
        if not sections and len(outputs) == 1:
            bare = _tag(tuple(outputs)).sub("", body)
            if bare.strip():
                salvages.append("tag missing")
                sections = {next(iter(outputs)): bare}
        read: dict[str, Any] = {}
        problems: dict[str, str] = {}
        for name, section in sections.items():
            try:
                read[name] = read_value(outputs[name], _unescaped(signature, section.strip()), salvages)
            except ValueProblem as problem:
                problems[name] = str(problem)
        absent(outputs, read, problems)
        return Parsed({n: read[n] for n in outputs if n in read}, problems, tuple(salvages))

    def partial(self, plan: Plan, text: str) -> list[Section]:
        """Read the elements that have begun. An answer without tags says nothing before it is whole."""
        signature = plan.signature
        outputs = signature.output_fields
        found = []
        body = text if _opens(text, outputs) else spoken(text, outputs)
        for name, section, closed, growing in _elements_in(body, outputs, [], whole=False):
            certain = _unescaped(signature, _held_back(signature, section) if growing else section)
            found.append(Section(name, settled(outputs[name], certain.strip(), closed=closed), closed))
        return found


# --- writing ---


def _elements(signature: Signature, fields: Mapping[str, Field], values: Values) -> str:
    parts = []
    for name, field in fields.items():
        if name in values:
            text = _written(signature, field, values[name])
            parts.append(f"<{name}>\n{text}\n</{name}>" if "\n" in text else f"<{name}>{text}</{name}>")
    return "\n".join(parts)


def _written(signature: Signature, field: Field, value: Any) -> str:
    text = write_value(field, value)
    return _marked(tuple(signature.fields)).sub(r"<\\\1\2", text) if "<" in text else text


def _unescaped(signature: Signature, text: str) -> str:
    return _escaped(tuple(signature.fields)).sub(r"<\1", text) if "<\\" in text else text


@lru_cache(maxsize=512)
def _marked(names: tuple[str, ...]) -> re.Pattern[str]:
    """Return what matches a tag, escaped or not; `<image 1>` is none, though a field may be called `image`."""
    return re.compile(rf"<(\\*+)({_inside(names)})", re.IGNORECASE)


@lru_cache(maxsize=512)
def _escaped(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"<\\(\\*+{_inside(names)})", re.IGNORECASE)


def _inside(names: tuple[str, ...]) -> str:
    return rf"\s*+/?+\s*+(?:{'|'.join(names)}){_ATTRIBUTES}\s*+/?+>"


# --- reading ---


@lru_cache(maxsize=512)
def _tag(names: tuple[str, ...]) -> re.Pattern[str]:
    """Return what matches a tag of a field. Groups: the slash of a closing tag, the name, the slash of an empty one."""
    return re.compile(rf"<\s*+(/?+)\s*+({'|'.join(names)}){_ATTRIBUTES}\s*+(/?+)>", re.IGNORECASE)


@lru_cache(maxsize=512)
def _tag_begun(names: tuple[str, ...]) -> re.Pattern[str]:
    """Return what matches, from a `<` on, the end of a text that may become a tag, or an escaped one."""
    starts = "|".join(re.escape(name[:i]) for name in names for i in range(len(name)))
    return re.compile(rf"<\\*+\s*+/?+\s*+(?:{starts}|(?:{'|'.join(names)})(?:[\s/][^<>]*)?)\Z", re.IGNORECASE)


def _opens(text: str, outputs: Collection[str]) -> bool:
    """Whether a text begins with a tag of a field, which may be called `thought`."""
    return bool(_tag(tuple(outputs)).match(text.lstrip()))


def _held_back(signature: Signature, section: str) -> str:
    """Return an unfinished section without an end that may become a tag or an escape."""
    last = section.rfind("<")
    begun = last >= 0 and _tag_begun(tuple(signature.fields)).match(section, last)
    return section[:last] if begun else section


class _Element(NamedTuple):
    """A field in an answer: its text, whether its closing tag is there, and whether the text ends with the answer."""

    name: str
    text: str
    closed: bool
    growing: bool


def _elements_in(text: str, outputs: Collection[str], salvages: list[str], *, whole: bool = True) -> list[_Element]:
    """Return the first element of each field.

    An element ends at its closing tag. Where that is missing, it ends at the next field's tag. A tag of another field
    before the closing one is part of the text (`<b>` in a text, beside a field `b`).

    Args:
        text: an answer.
        outputs: the names.
        salvages: receives the tolerances.
        whole: whether the text is the whole answer; otherwise a closing tag may still come.
    """
    by_name = {n.casefold(): n for n in outputs} | {n: n for n in outputs}
    tags = [(m, by_name.get(m[2]) or by_name.get(m[2].casefold())) for m in _tag(tuple(outputs)).finditer(text)]
    found: dict[str, _Element] = {}
    at = 0
    for index, (tag, name) in enumerate(tags):
        if name is None or tag[1] or name in found or tag.start() < at:
            continue
        if name != tag[2]:
            salvages.append("tag in other case")
        later = [t for t in tags[index + 1 :] if t[1] is not None]
        end = tag if tag[3] else next((t for t, n in later if n == name and t[1]), None)
        if end is not None:
            at = end.end()
            found[name] = _Element(name, text[tag.end() : end.start()], closed=True, growing=False)
            continue
        following = next((t for t, n in later if n not in (name, *found) and not t[1]), None)
        stop = following.start() if following else len(text)
        found[name] = _Element(name, text[tag.end() : stop], closed=False, growing=following is None)
        if not whole:
            break  # what follows may be part of this one
        salvages.append("closing tag missing")
        at = stop
    return list(found.values())
