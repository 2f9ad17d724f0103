"""One value <-> its text in a prompt. Shared by the adapters that write fields as text.

The writer checks itself: a value is written in its plainest form, and where the reader would not give the same value
back (a string with blank edges, one that looks like a number in a field `int | str`), as JSON instead. So reading
what was written returns the value, for every type, by construction.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, get_args

import pydantic
from pydantic_core import PydanticSerializationError, to_jsonable_python

from tuneful.adapters.numbers import SeveralNumbersError
from tuneful.adapters.readings import EMPTY_WORDS, load_json, readings
from tuneful.adapters.wrapping import unwrapped, wrapping_begins
from tuneful.spec.code import fenced, is_code
from tuneful.spec.document import Document, written_documents
from tuneful.spec.fields import Field
from tuneful.spec.types import json_schema, type_name

_JSON_TYPES = (int, float, bool)
_ANYTHING = pydantic.TypeAdapter(Any)


class ValueProblem(ValueError):
    """A text is no value of the field; the message says why, in words that a model can use too."""


def write_value(field: Field, value: Any) -> str:
    """Return the text of a value of the field."""
    shown = value.value if isinstance(value, enum.Enum) else value
    if not isinstance(shown, str):
        documents = _documents(field, value) if field.role == "input" else None
        return to_json_text(field, value) if documents is None else documents
    if is_code(field.kinds[0]):
        return fenced(shown)
    if field.type is str or not field.typed:
        return shown if _is_plain(field, shown) else json.dumps(shown, ensure_ascii=False)
    quoted = json.dumps(shown, ensure_ascii=False)
    plain = _is_plain(field, shown) and _reads_back(field, shown, value)
    return quoted if not plain and _reads_back(field, quoted, value) else shown


def _documents(field: Field, value: Any) -> str | None:
    """Return the text of an input that is made of documents; in a demo that comes from a file they are JSON."""
    if any(Document in (kind, *get_args(kind)) for kind in field.kinds):
        with suppress(pydantic.ValidationError):
            value = field.adapter.validate_python(value)
    return written_documents(value)


def to_json_text(field: Field, value: Any) -> str:
    """Return the value as JSON, by the field's own type where the value fits it."""
    try:
        adapter = field.adapter if field.typed else _ANYTHING
        plain = adapter.dump_python(value, mode="json", warnings="error")
    except PydanticSerializationError:
        plain = to_jsonable_python(value, serialize_unknown=True)
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _is_plain(field: Field, text: str) -> bool:
    """Whether the reader gives back a string written as it stands."""
    if text != text.strip() or "\r" in text or text.lower() in EMPTY_WORDS:
        return False
    if text[:1] not in wrapping_begins(field.name, field.label):
        return True
    return not (len(text) > 1 and text[0] == text[-1] == '"') and not unwrapped(field, text)[1]


def _reads_back(field: Field, text: str, value: Any) -> bool:
    salvages: list[str] = []
    try:
        return bool(read_value(field, text, salvages) == value) and not salvages
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
    stripped = text.strip()
    if field.plain and stripped[:1] not in wrapping_begins(field.name, field.label):
        with suppress(pydantic.ValidationError):  # any text is a value: the usual case, taken straight
            return field.adapter.validate_python(stripped)
    kind = field.kinds[0]
    if kind in _JSON_TYPES:
        with suppress(ValueError):  # also what pydantic refuses: why, is said below
            plain = load_json(stripped)
            if type(plain) is kind:
                return field.adapter.validate_python(plain)
    error: str | None = None
    for reading, tolerances in readings(field, stripped, read_value):
        if isinstance(reading, SeveralNumbersError):
            error = f"it holds several numbers ({reading}); write only the one that is meant"
            continue
        try:
            value = field.adapter.validate_python(reading)
        except pydantic.ValidationError as problem:
            error = error or problems_of(problem)
            continue
        if salvages is not None:
            salvages.extend(tolerances)
        return value
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


def type_text(field: Field) -> str:
    """Return the type in words that a model can follow: a name, and the JSON schema where a name says too little."""
    schema: dict[str, Any] = {}
    if field.typed:
        with suppress(pydantic.errors.PydanticInvalidForJsonSchema):  # a class that pydantic does not know
            schema = json_schema(field.annotation)
    if "properties" not in json.dumps(schema):
        return type_name(field.type)
    return f"JSON that fits {json.dumps(without_titles(schema), ensure_ascii=False)}"


def describe(field: Field) -> str:
    """Return a field as one line of a list: name, label where it has one of its own, type, constraints, description."""
    return _line(field, type_text(field))


def outline(field: Field) -> str:
    """Return the line of `describe` with the mere name of the type, for a list that stands beside a JSON schema."""
    return _line(field, type_name(field.type))


def _line(field: Field, kind: str) -> str:
    label = f" ({field.label})" if field.reworded else ""
    detail = f" ({field.constraint_text})" if field.constraints else ""
    return f"- {field.name}{label}: {kind}{detail}" + (f" - {field.desc}" if field.desc else "")


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
