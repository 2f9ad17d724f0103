"""The JSON object in an answer, and the output fields in it: also where it needs mending, is nested, or breaks off."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

import pydantic

from tuneful.adapters.readings import JSON_MENDED, load_json, mended_json
from tuneful.adapters.values import ValueProblem, problems_of, read_value
from tuneful.spec.fields import Field

Outputs = Mapping[str, Field]

#: Opening braces that are tried: enough for those in the words before the object.
MOST_OPENINGS = 20

_DECODER = json.JSONDecoder()
_MARKS = re.compile(r'\\.|["{}\[\]]', re.DOTALL)
_LAST_IS_WHOLE = re.compile(r'(?:["\]},]|true|false|null|True|False|None|[\d.]\s+)\s*\Z')
_CUT = "it was cut off before its end"


def key_of(name: str) -> str:
    """Return a name as names are compared: without case, blanks, underscores and hyphens."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def read_object(text: str, outputs: Outputs, salvages: list[str]) -> dict[str, Any] | None:
    """Return the values of the object in a text that has any of the outputs, by field name, or None.

    A value that breaks off with the text is `CUT_OFF`: `read_members` makes a problem of it.
    """
    whole: Any = None
    with suppress(ValueError):
        whole = load_json(text)
    if isinstance(whole, dict):
        if not whole or outputs.keys() <= whole.keys():  # nearly every answer
            return whole
        if (found := _outputs_in(whole, outputs, salvages)) is not None:
            return found
    if "{" not in text:
        return None
    for opening in islice(re.finditer(r"\{", text), MOST_OPENINGS):
        with suppress(ValueError, RecursionError):
            sound, _ = _DECODER.raw_decode(text, opening.start())
            if (found := _outputs_in(sound, outputs, salvages)) is not None:
                salvages.append(JSON_MENDED)
                return found
    return _mended_object(text[text.index("{") :], outputs, salvages)


def _mended_object(text: str, outputs: Outputs, salvages: list[str]) -> dict[str, Any] | None:
    mended = mended_json(text)
    if isinstance(mended, list):
        mended = next((m for m in mended if isinstance(m, dict)), None)
    found = _outputs_in(mended, outputs, salvages) if isinstance(mended, dict) else None
    if found is not None:
        cut = _breaks_off(text)
        salvages.append("json cut off" if cut else JSON_MENDED)
        if cut and (name := _last_output(mended, outputs)):
            found[name] = CUT_OFF
    return found


class _CutOff:
    """Stands for a value that breaks off."""


CUT_OFF = _CutOff()


def _outputs_in(found: dict[str, Any], outputs: Outputs, salvages: list[str]) -> dict[str, Any] | None:
    """Return the members that are outputs, by field name; those of an object one level deeper where there are none."""
    named = _named(found, outputs)
    if named:
        return named
    deeper = [n for v in found.values() if isinstance(v, dict) and (n := _named(v, outputs))]
    if len(deeper) == 1:
        salvages.append("object in an object")
        return deeper[0]
    return None


def _named(found: Mapping[str, Any], outputs: Outputs) -> dict[str, Any]:
    if outputs.keys() <= found.keys():
        return {n: found[n] for n in outputs}
    by_key = {key_of(str(n)): v for n, v in reversed(list(found.items()))}
    named = {}
    for name, field in outputs.items():
        if name in found:
            named[name] = found[name]
            continue
        key = next((k for k in (key_of(name), key_of(field.label)) if k in by_key), None)
        if key is not None:
            named[name] = by_key[key]
    return named


def _last_output(found: dict[str, Any], outputs: Outputs) -> str | None:
    """Return the output that an object, or the one inside it, ends with, if it ends with one."""
    last, value = list(found.items())[-1]
    key = key_of(str(last))
    name = next((n for n, f in outputs.items() if key in (key_of(n), key_of(f.label))), None)
    return _last_output(value, outputs) if name is None and isinstance(value, dict) and value else name


def _breaks_off(text: str) -> bool:
    """Whether a text that begins with an object ends before the last value of the object is whole."""
    depth = 0
    within = False
    for mark in _MARKS.finditer(text):
        sign = mark.group()
        if sign == '"':
            within = not within
        elif not within and len(sign) == 1:
            depth += 1 if sign in "{[" else -1
            if depth == 0:
                return False
    return within or depth > 1 or not _LAST_IS_WHOLE.search(text)


def read_members(
    found: Mapping[str, Any], outputs: Outputs, salvages: list[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values of the outputs that an object has, and the problems of those that do not fit."""
    read: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, field in outputs.items():
        if name in found:
            try:
                read[name] = _read_member(field, found[name], salvages)
            except ValueProblem as problem:
                problems[name] = str(problem)
    return read, problems


def _read_member(field: Field, value: Any, salvages: list[str]) -> Any:
    if value is CUT_OFF:
        raise ValueProblem(_CUT)
    try:
        return field.adapter.validate_json(json.dumps(value))
    except pydantic.ValidationError as error:
        problem = ValueProblem(problems_of(error))
    if isinstance(value, dict) and len(value) == 1 and key_of(str(next(iter(value)))) == key_of(field.name):
        inner = _read_member(field, next(iter(value.values())), salvages)
        salvages.append("value under its name")
        return inner
    if value is None:
        raise problem
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    try:
        read = read_value(field, text, salvages)
    except ValueProblem as error:
        raise problem from error
    if text is not value:
        salvages.append("value of another type")
    return read
