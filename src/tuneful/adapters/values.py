"""One value <-> its text in a prompt. Shared by the adapters that write fields as text.

The writer checks itself: a value is written in its plainest form, and where the reader would not give the same value
back (a string with blank edges, one that looks like a number in a field `int | str`), as JSON instead. So reading
what was written returns the value, for every type, by construction.
"""

from __future__ import annotations

import enum
import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import json_repair
import pydantic
from pydantic_core import PydanticSerializationError, to_json

from tuneful.spec.fields import Field
from tuneful.spec.types import NoneType, choices, json_schema, members, type_name

_EMPTY_WORDS = {"none", "null", "n/a", "nil", ""}
_TRUE_WORDS = {"true", "yes", "y", "1", "correct", "right"}
_FALSE_WORDS = {"false", "no", "n", "0", "incorrect", "wrong"}


class ValueProblem(ValueError):
    """A text is no value of the field; the message says why, in words that a model can use too."""


def write_value(field: Field, value: Any) -> str:
    """Return the text of a value of the field."""
    if isinstance(value, str):
        if field.type is str or not field.typed:
            return value if _is_plain(value) else json.dumps(value, ensure_ascii=False)
        if choices(field.type) is not None:
            return value
    if isinstance(value, enum.Enum) and isinstance(value.value, str):
        value = value.value
        return str(value)
    plain = value if isinstance(value, str) else to_json_text(field, value)
    if not isinstance(value, str) or (_is_plain(plain) and _reads_back(field, plain, value)):
        return plain
    return json.dumps(value, ensure_ascii=False)


def to_json_text(field: Field, value: Any) -> str:
    """Return the value as JSON, by the field's own type where the value fits it."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    try:
        if not field.typed:
            return to_json(value, inf_nan_mode="constants", serialize_unknown=True).decode()
        return field.adapter.dump_json(value, warnings="error").decode()
    except PydanticSerializationError:
        return to_json(value, inf_nan_mode="constants", serialize_unknown=True).decode()


def _is_plain(text: str) -> bool:
    """Whether the reader gives back a string written as it stands."""
    if text != text.strip() or "\r" in text or text.lower() in _EMPTY_WORDS:
        return False
    return not (len(text) > 1 and text[0] == text[-1] == '"')


def _reads_back(field: Field, text: str, value: Any) -> bool:
    try:
        return bool(read_value(field, text) == value)
    except ValueProblem:
        return False


def read_value(field: Field, text: str, salvages: list[str] | None = None) -> Any:
    """Return the value that a text stands for, as tolerantly as the type allows.

    Args:
        field: the field.
        text: what the model wrote for it.
        salvages: receives the name of each tolerance that was needed.

    Raises:
        ValueProblem: the text is no value of the type, or breaks a constraint.
    """
    text = text.strip()
    notes = salvages if salvages is not None else []
    error: str | None = None
    for candidate in _candidates(field, text, notes):
        try:
            return field.adapter.validate_python(candidate)
        except pydantic.ValidationError as problem:
            error = error or problems_of(problem)
    raise ValueProblem(error or f"{text!r} cannot be read")


def problems_of(error: pydantic.ValidationError) -> str:
    """Return what pydantic found wrong, as one line."""
    lines = []
    for e in error.errors(include_url=False)[:3]:
        where = ".".join(map(str, e["loc"]))
        lines.append((f"{where}: " if where else "") + f"{e['msg']}, got {_short(e['input'])}")
    return "; ".join(lines)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _candidates(field: Field, text: str, notes: list[str]) -> Any:
    """Yield readings of the text, the most literal first."""
    kinds = members(field.type)
    if len(text) > 1 and text[0] == text[-1] == '"':
        with suppress(ValueError):
            yield json.loads(text)
    if NoneType in kinds and text.lower() in _EMPTY_WORDS:
        yield None
    options = choices(field.type)
    if options is not None:
        yield from _choice_readings(options, text, notes)
        return
    if kinds == (str,):
        yield text
        return
    for kind in kinds:
        inner = choices(kind)
        if inner is not None:
            yield from _choice_readings(inner, text, notes)
    with suppress(ValueError):
        yield json.loads(text)
    if str in kinds:
        yield text
        return
    yield from _scalar_readings(kinds, text, notes)
    yield from _structure_readings(kinds, text, notes)
    yield text


def _structure_readings(kinds: tuple[Any, ...], text: str, notes: list[str]) -> Any:
    mended = json_repair.loads(_unfence(text), skip_json_loads=True)
    if mended not in ("", [], {}):
        notes.append("json mended")
        yield mended
    if any(getattr(k, "__origin__", k) in (list, tuple, set, frozenset) for k in kinds):
        notes.append("list from lines")
        yield [re.sub(r"^\s*(?:[-*•]|\d+[.)])\s*", "", line).strip() for line in text.split("\n") if line.strip()]


def _choice_readings(options: tuple[Any, ...], text: str, notes: list[str]) -> Any:
    by_text = {json.dumps(o): o for o in options} | {str(o): o for o in options}
    if text in by_text:
        yield by_text[text]
        return
    bare = text.strip("'\"`*. \n").casefold()
    folded = {k.casefold(): v for k, v in by_text.items()}
    if bare in folded:
        notes.append("choice in other case")
        yield folded[bare]
        return
    named = [v for k, v in folded.items() if re.search(rf"(?<!\w){re.escape(k)}(?!\w)", bare)]
    if len(named) == 1:
        notes.append("choice within a sentence")
        yield named[0]
    yield text


def _scalar_readings(kinds: tuple[Any, ...], text: str, notes: list[str]) -> Any:
    if bool in kinds:
        word = text.strip("'\"`*. ").casefold().split(" ")[0].strip(",.!")
        if word in _TRUE_WORDS or word in _FALSE_WORDS:
            notes.append("boolean in other words")
            yield word in _TRUE_WORDS
    if int in kinds or float in kinds:
        if text in ("inf", "-inf", "nan"):
            yield float(text)
        found = re.findall(r"[-+]?\d[\d,_ ]*(?:\.\d+)?(?:[eE][-+]?\d+)?", text)
        if found:
            notes.append("number within words")
            number = re.sub(r"[,_ ]", "", found[-1] if len(found) > 1 and "=" in text else found[0])
            yield float(number) if "." in number or "e" in number.lower() else int(number)


def _unfence(text: str) -> str:
    found = re.search(r"```[\w-]*\n(.*?)(?:```|\Z)", text, re.DOTALL)
    return found.group(1) if found else text


def type_text(field: Field) -> str:
    """Return the type in words that a model can follow: a name, and the JSON schema where a name says too little."""
    schema = json_schema(field.annotation) if field.typed else {}
    if "properties" not in json.dumps(schema):
        return type_name(field.type)
    return f"JSON that fits {json.dumps(without_titles(schema), ensure_ascii=False)}"


def describe(field: Field) -> str:
    """Return a field as one line of a list: name, type, constraints, description."""
    detail = f" ({field.constraint_text})" if field.constraints else ""
    return f"- {field.name}: {type_text(field)}{detail}" + (f" - {field.desc}" if field.desc else "")


def without_titles(node: Any) -> Any:
    """Return a JSON schema without the titles that pydantic adds; they repeat the names."""
    if isinstance(node, dict):
        return {k: without_titles(v) for k, v in node.items() if not (k == "title" and isinstance(v, str))}
    if isinstance(node, list):
        return [without_titles(v) for v in node]
    return node


def absent(fields: Mapping[str, Field], read: dict[str, Any], problems: dict[str, str]) -> None:
    """Fill outputs that the answer leaves out: a default where there is one, otherwise a problem."""
    for name, field in fields.items():
        if name in read or name in problems:
            continue
        if field.optional:
            read[name] = field.absent_value()
        else:
            problems[name] = "it is missing from the answer"
