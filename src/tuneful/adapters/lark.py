"""Grammars in Lark as llguidance reads it: an answer held exactly to its types, with its texts left free.

Source: the description of the notation that comes with llguidance (docs/syntax.md). The embedded model reads it.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tuneful.adapters.values import without_titles
from tuneful.spec.code import is_code
from tuneful.spec.fields import Field
from tuneful.spec.types import NoneType, choices, json_schema, members
from tuneful.wire.capabilities import Capabilities

#: Most characters of a text, and members of a list, that a small model writes into a constrained answer. One that falls
#: into a loop is stopped there and still gives the fields that follow.
TEXT_LIMIT = 1600
LIST_LIMIT = 64

#: What a token stands for at the least in a text that a small model repeats; ordinary words have four and more.
_CHARACTERS_PER_TOKEN = 2
_LEAST_TEXT = 40

#: `answer` is a rule of its own, so that a backend can add what ends an answer of its model.
_HEAD = "%llguidance {}\nstart: answer\n"
#: JSON as `write_value` writes it: no blanks, which a small model may go on writing for ever. A keyword that has no
#: grammar (`uniqueItems`) is left to the reader of the answer.
_JSON_OPTIONS = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":", "lenient": True}
_FRACTION = r"(\.[0-9]{1,15})"
_WRITTEN_OUT = 200  # whole numbers of a range
_MOST = 10**15  # of a number without bounds: the digits too may go on for ever
#: What llguidance does not take in a pattern: what looks around and what refers back.
_IRREGULAR = re.compile(r"\(\?[=!<]|\(\?P[=>]|\\[bBAzZ1-9]")
#: A pattern with no anchor but at its ends.
_ANCHORED = re.compile(r"(\^?)((?:\\.|\[(?:\\.|[^\]\\])+\]|[^\\^$\[])*)(\$?)")
_GROUP = re.compile(r"\\.|\[(?:\\.|[^\]\\])+\]|\([^()]*\)")

#: Where a JSON schema holds others: as they are or in a list, and by name.
_SCHEMAS = {"items", "additionalProperties", "anyOf", "oneOf", "allOf", "prefixItems"}
_NAMED_SCHEMAS = {"properties", "$defs", "patternProperties"}

Writer = Callable[[Field, Any], str]


def shortness(capabilities: Capabilities, outputs: Mapping[str, Field]) -> int | None:
    """Return how many characters a text may have, so that a small model has tokens left for the fields that follow."""
    if not capabilities.small:
        return None
    if capabilities.answer_tokens is None:
        return TEXT_LIMIT
    share = _CHARACTERS_PER_TOKEN * capabilities.answer_tokens / len(outputs)
    return min(TEXT_LIMIT, max(_LEAST_TEXT, int(share)))


def answer(
    outputs: Mapping[str, Field],
    heads: Sequence[str],
    end: str,
    write: Writer,
    short: int | None,
    *,
    one_line: bool = False,
) -> str:
    """Return the grammar of an answer that gives each output behind its head, in their order.

    A text may hold anything; it ends where the next head begins.

    Args:
        outputs: the fields.
        heads: what stands in front of each.
        end: what ends the answer.
        write: writes a value as the adapter does.
        short: most characters of a text, where lists are limited too; see `shortness`.
        one_line: whether a text is a single line.
    """
    start = [_literal(heads[0])] if heads[0] else []
    rules: list[str] = []
    for index, (field, following) in enumerate(zip(outputs.values(), [*heads[1:], end], strict=True)):
        start.append(f"f{index}")
        rules += _field(f"f{index}", field, following, write, short, one_line=one_line)
    return _HEAD + "\n".join([f"answer: {' '.join(start)}", *rules]) + "\n"


def json_object(outputs: Mapping[str, Field], short: int | None) -> str:
    """Return the grammar of a JSON object with each output as a member, in their order."""
    parts, rules = [], []
    for index, (name, field) in enumerate(outputs.items()):
        opening = ", " if index else "{"
        parts.append(f"{_literal(f'{opening}{json.dumps(name)}: ')} f{index}")
        rules.append(f"f{index}: {_member(field, short)}")
    return _HEAD + "\n".join([f"answer: {' '.join(parts)} {_literal('}')}", *rules]) + "\n"


def quoted(field: Field, short: int | None) -> str:
    """Return the grammar of an answer that is one text in quotes, or null where the field may be None."""
    none = '"null" | ' if NoneType in members(field.type) else ""
    text = _json({"minLength": 1, **_string(json_schema(field.annotation))}, short)
    return f"{_HEAD}answer: {none}text\ntext: {text}\n"


def _string(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a text's schema that is of a string."""
    return next((part for part in schema.get("anyOf", ()) if part.get("type") == "string"), schema)


def _field(
    name: str, field: Field, following: str, write: Writer, short: int | None, *, one_line: bool
) -> Iterator[str]:
    """Yield the rules of a value and what follows it."""
    kinds = members(field.type)
    if str in kinds or not field.typed or Any in kinds or any(map(is_code, kinds)):
        token = name.upper()  # only tokens, spelt in capitals, may be intersections
        yield f"{token}: {_text(field, short, one_line=one_line)}"
        yield f"{name}[suffix={_literal(following)}]: {token}" if following else f"{name}: {token}"
        return
    alternatives = []
    for number, kind in enumerate(kinds):
        alternatives.append(f"{name}_{number}")
        yield f"{name}_{number}: {_kind(kind, field, write, short)}"
    yield f"{name}: ({' | '.join(alternatives)}) {_literal(following) if following else ''}"


def _kind(kind: Any, field: Field, write: Writer, short: int | None) -> str:
    if choices(kind) is not None:
        values = list(kind) if isinstance(kind, type) and issubclass(kind, enum.Enum) else choices(kind)
        return " | ".join(_literal(write(field, v)) for v in values or ())
    if kind is NoneType:
        return '"null"'
    if kind is float and short is not None and (number := _number(dict(field.constraints))):
        return number
    return _json(json_schema(field.annotation if field.constraints else kind), short)


def _member(field: Field, short: int | None) -> str:
    """Return a field as a value in JSON."""
    kinds = set(members(field.type))
    ends = _number(dict(field.constraints)) if short is not None and kinds in ({float}, {float, NoneType}) else None
    if ends is not None:
        return f'{ends} | "null"' if NoneType in kinds else ends
    return _json(json_schema(field.annotation), short)


def _number(bounds: Mapping[str, Any]) -> str | None:
    """Return the pattern of a number whose digits come to an end, or None where its bounds are no small whole ones.

    JSON's own has no end to its fraction, and a small model may write zeros for ever.
    """
    if not bounds:
        return rf"/-?(0|[1-9][0-9]{{0,14}}){_FRACTION}?/"
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if bounds.keys() - {"ge", "gt", "le", "lt"} or None in (low, high):
        return None
    if int(low) != low or int(high) != high or not 0 <= low < high <= _WRITTEN_OUT:
        return None
    inner = "|".join(str(whole) for whole in range(int(low), int(high)))
    end = rf"|{int(high)}(\.0{{1,15}})?" if "le" in bounds else ""
    return f"/({inner}){_FRACTION}?{end}/"


def _text(field: Field, short: int | None, *, one_line: bool) -> str:
    """Return the pattern of a text: anything that begins with no blank, or what its constraints say."""
    limits = dict(field.constraints)
    least = max(1, limits.get("min_length", 1)) - 1
    most = limits.get("max_length", short)
    character = r"[^\n]" if one_line else "(?s:.)"
    free = rf"/\S{character}{{{least},{'' if most is None else max(most - 1, least)}}}/"
    simple = _ANCHORED.fullmatch(limits.get("pattern", ""))
    if not limits.get("pattern") or simple is None or _IRREGULAR.search(limits["pattern"]):
        return free  # a pattern that is none for a grammar is checked when the answer is read
    begin, body, end = simple.groups()
    if (begin or end) and "|" in _without_groups(body):
        return free  # there an anchor belongs to one alternative
    inner = body.replace("/", r"\/")
    return f"/{'' if begin else '(?s:.*)'}(?:{inner}){'' if end else '(?s:.*)'}/ & {free}"


def _without_groups(pattern: str) -> str:
    while (shorter := _GROUP.sub("", pattern)) != pattern:
        pattern = shorter
    return pattern


def _json(schema: Mapping[str, Any], short: int | None) -> str:
    return "%json " + json.dumps({"x-guidance": _JSON_OPTIONS, **_closed(without_titles(schema), short)})


def _closed(schema: Any, short: int | None) -> Any:
    """Return a JSON schema without members it does not name, irregular patterns and, if short, endless values."""
    if isinstance(schema, list):
        return [_closed(inner, short) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _closed(inner, short) if key in _SCHEMAS else inner for key, inner in schema.items()}
    for key in _NAMED_SCHEMAS & schema.keys():
        found[key] = {name: _closed(inner, short) for name, inner in schema[key].items()}
    if "properties" in found:
        found.setdefault("additionalProperties", False)
    if _IRREGULAR.search(found.get("pattern", "")):
        del found["pattern"]
    if short is not None:
        _shorten(found, short)
    return found


def _shorten(schema: dict[str, Any], short: int) -> None:
    match schema.get("type"):
        case "string" if not schema.keys() & {"pattern", "format", "enum", "const"}:
            schema.setdefault("maxLength", max(short, schema.get("minLength", 0)))
        case "array":
            schema.setdefault("maxItems", max(LIST_LIMIT, schema.get("minItems", 0)))
        case "integer" | "number" if not schema.keys() & {"enum", "const"}:
            if not schema.keys() & {"minimum", "exclusiveMinimum"}:
                schema["minimum"] = -_MOST
            if not schema.keys() & {"maximum", "exclusiveMaximum"}:
                schema["maximum"] = _MOST


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
