"""One value <-> its text in a prompt. Shared by the adapters that write fields as text.

The writer checks itself: a value is written in its plainest form, and where the reader would not give the same value
back (a string with blank edges, one that looks like a number in a field `int | str`), as JSON instead. So reading
what was written returns the value, for every type, by construction.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import json_repair
import pydantic
from pydantic_core import PydanticSerializationError, to_jsonable_python

from tuneful.spec.fields import Field
from tuneful.spec.types import NoneType, choices, json_schema, type_name

_EMPTY_WORDS = {"none", "null", "n/a", "nil", ""}
_TRUE_WORDS = {"true", "yes", "y", "1", "correct", "right"}
_FALSE_WORDS = {"false", "no", "n", "0", "incorrect", "wrong"}
_DIGITS = r"\d{1,3}(?:(?:,\d{2,3})*,\d{3}|(?:[_ ]\d{3})+)(?!\d)|\d+"  # `1,234` is one number, `1, 2` are two
_NUMBER = re.compile(rf"(?:(?<![\w.])[-+])?(?:(?:{_DIGITS})(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
_BULLET = re.compile(r"^\s*(?:[-*]\s+|•\s*|\d+[.)]\s+)")
_ANYTHING = pydantic.TypeAdapter(Any)

#: What a text may stand for, and the name of the tolerance that it takes to read it so, or "".
Reading = tuple[Any, str]


class ValueProblem(ValueError):
    """A text is no value of the field; the message says why, in words that a model can use too."""


def write_value(field: Field, value: Any) -> str:
    """Return the text of a value of the field."""
    shown = value.value if isinstance(value, enum.Enum) else value
    if not isinstance(shown, str):
        return to_json_text(field, value)
    if field.type is str or not field.typed:
        return shown if _is_plain(shown) else json.dumps(shown, ensure_ascii=False)
    quoted = json.dumps(shown, ensure_ascii=False)
    plain = _is_plain(shown) and _reads_back(field, shown, value)
    return quoted if not plain and _reads_back(field, quoted, value) else shown


def to_json_text(field: Field, value: Any) -> str:
    """Return the value as JSON, by the field's own type where the value fits it."""
    try:
        adapter = field.adapter if field.typed else _ANYTHING
        plain = adapter.dump_python(value, mode="json", warnings="error")
    except PydanticSerializationError:
        plain = to_jsonable_python(value, serialize_unknown=True)
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def load_json(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError where it is none, or nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


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
    error: str | None = None
    stripped = text.strip()
    if field.plain and stripped[:1] != '"':  # any text is a value: the usual case, taken straight
        with suppress(pydantic.ValidationError):
            return field.adapter.validate_python(stripped)
    for reading, tolerance in _readings(field, stripped):
        try:
            value = field.adapter.validate_python(reading)
        except pydantic.ValidationError as problem:
            error = error or problems_of(problem)
            continue
        if tolerance and salvages is not None:
            salvages.append(tolerance)
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


def _readings(field: Field, text: str) -> Iterator[Reading]:
    """Yield readings of the text, the most literal first."""
    kinds = field.kinds
    if len(text) > 1 and text[0] == text[-1] == '"':
        with suppress(ValueError):
            yield load_json(text), ""
    if NoneType in kinds and text.lower() in _EMPTY_WORDS:
        yield None, ""
    for kind in kinds:
        options = choices(kind)
        if options is not None:
            yield from _choice_readings(options, text)
    if kinds != (str,):
        with suppress(ValueError):
            yield load_json(text), ""
    if str not in kinds:
        yield from _scalar_readings(kinds, text)
        yield from _structure_readings(kinds, text)
    yield text, ""


def _structure_readings(kinds: tuple[Any, ...], text: str) -> Iterator[Reading]:
    is_list = any(getattr(k, "__origin__", k) in (list, tuple, set, frozenset) for k in kinds)
    lines = [_BULLET.sub("", line).strip() for line in text.split("\n") if line.strip()]
    if is_list and _BULLET.match(text):
        yield lines, "list from lines"
    mended: Any = ""
    with suppress(ValueError):
        mended = json_repair.loads(_unfence(text), skip_json_loads=True)
    if mended not in ("", [], {}):
        yield mended, "json mended"
    if is_list:
        yield lines, "list from lines"


def _choice_readings(options: tuple[Any, ...], text: str) -> Iterator[Reading]:
    by_text = {str(o): o for o in options} | {json.dumps(o, default=str): o for o in options}
    if text in by_text:
        yield by_text[text], ""
        return
    bare = text.strip("'\"`*. \n").casefold()
    folded = {k.casefold(): v for k, v in by_text.items()}
    if bare in folded:
        yield folded[bare], "choice in other case"
        return
    named = [o for o in options if re.search(rf"(?<!\w){re.escape(str(o).casefold())}(?!\w)", bare)]
    if len(named) == 1:
        yield named[0], "choice within a sentence"


def _scalar_readings(kinds: tuple[Any, ...], text: str) -> Iterator[Reading]:
    if bool in kinds:
        word = (text.casefold().split() or [""])[0].strip("'\"`*.,:;!()")
        if word in _TRUE_WORDS or word in _FALSE_WORDS:
            yield word in _TRUE_WORDS, "boolean in other words"
    if int in kinds or float in kinds:
        if text in ("inf", "-inf", "nan"):
            yield float(text), ""
        found = _NUMBER.findall(text)
        if found:
            number = re.sub(r"[,_ ]", "", found[-1] if "=" in text else found[0])
            with suppress(ValueError):  # more digits than Python reads
                yield float(number) if "." in number or "e" in number.lower() else int(number), "number within words"


def _unfence(text: str) -> str:
    found = re.search(r"```[\w-]*\n(.*?)(?:```|\Z)", text, re.DOTALL)
    return found.group(1) if found else text


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
