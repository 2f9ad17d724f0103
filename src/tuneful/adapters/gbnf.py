"""Grammars in GBNF, the notation of llama.cpp: what an answer in labelled lines may look like, type by type."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from tuneful.spec.code import is_code
from tuneful.spec.fields import Field
from tuneful.spec.types import NoneType, choices, members

#: Most characters of a free text in a constrained answer. A small model that falls into a loop is stopped by it and
#: still gives the fields that follow.
TEXT_LIMIT = 800
_CODE_LINES = 60

_CHARACTER = r"""char ::= [^"\\\x00-\x1F] | "\\" ["\\/bfnrt]"""
_JSON_RULES = """\
object ::= "{" ws (pair ("," ws pair)*)? "}"
pair ::= string ":" ws value
array ::= "[" ws (value ("," ws value)*)? "]"
value ::= object | array | string | number | "true" | "false" | "null"
string ::= "\\"" char* "\\""
number ::= integer ("." [0-9]{1,15})?
integer ::= "-"? ("0" | [1-9] [0-9]{0,14})
ws ::= " "?
"""


def lines(outputs: Mapping[str, Field], labels: Mapping[str, str]) -> str:
    """Return the grammar of an answer with one labelled line for each output, or of a bare lone output."""
    rules: list[str] = []
    parts: list[str] = []
    for index, (name, field) in enumerate(outputs.items()):
        rules.append(f"f{index} ::= {_rule(field)}")
        label = _text(f"{labels[name]}: ") + " " if len(outputs) > 1 else ""
        parts.append(f"{label}f{index}")
    root = ' "\\n" '.join(parts)
    text = "\n".join([f"root ::= {root}", *rules])
    shared = ("object", "array", "number", "integer", "string", "value")
    return f"{text}\n{_JSON_RULES}{_CHARACTER}" if any(w in text for w in shared) else text


def quoted(field: Field) -> str:
    """Return the grammar of an answer that is one text in quotes, or null where the field may be None."""
    constraints = dict(field.constraints)
    limit, least = min(constraints.get("max_length", TEXT_LIMIT), TEXT_LIMIT), max(1, constraints.get("min_length", 1))
    none = ' | "null"' if NoneType in members(field.type) else ""
    return f'root ::= "\\"" char{{{least},{max(limit, least)}}} "\\""{none}\n{_CHARACTER}'


def _text(literal: str) -> str:
    return '"' + re.sub(r'[\x00-\x1f"\\]', lambda m: f"\\x{ord(m[0]):02X}", literal) + '"'


def _rule(field: Field) -> str:
    return " | ".join(_kind(kind, dict(field.constraints)) for kind in members(field.type))


def _kind(kind: Any, constraints: Mapping[str, Any]) -> str:
    options = choices(kind)
    if options is not None:
        return " | ".join(_text(o if isinstance(o, str) else json.dumps(o)) for o in options)
    if kind is NoneType:
        return '"null" | "none"'
    if kind is bool:
        return '"true" | "false"'
    if kind is int:
        return _integer(constraints)
    if kind is float:
        return "number"
    if kind is str or is_code(kind):
        return _line(constraints) if kind is str else _code(kind)
    if get_origin(kind) in (list, tuple, set, frozenset) or kind in (list, tuple, set, frozenset):
        inner = [a for a in get_args(kind) if a is not Ellipsis]
        if get_origin(kind) is tuple and Ellipsis not in get_args(kind):
            row = ' "," ws '.join(map(_member, inner))
            return f'"[" {row} "]"'
        member = _member(inner[0]) if inner else "value"
        return f'"[" ({member} ("," ws {member})*)? "]"'
    if kind is dict or get_origin(kind) is dict or hasattr(kind, "model_fields"):
        return "object"
    return "value"


def _code(kind: Any) -> str:
    """Code in a fence, with no backtick in it; its lines are indented, as those of every value are."""
    return f'{_text("```" + kind.language)} "\\n" ("  " [^\\n`]{{0,200}} "\\n"){{1,{_CODE_LINES}}} "  ```"'


def _member(kind: Any) -> str:
    return {str: "string", int: "integer", float: "number"}.get(kind, "value")


def _integer(constraints: Mapping[str, Any]) -> str:
    low = [math.ceil(constraints["ge"])] if "ge" in constraints else []
    low += [math.floor(constraints["gt"]) + 1] if "gt" in constraints else []
    high = [math.floor(constraints["le"])] if "le" in constraints else []
    high += [math.ceil(constraints["lt"]) - 1] if "lt" in constraints else []
    if low and high and 0 <= min(high) - max(low) <= 200:
        return " | ".join(_text(str(i)) for i in range(max(low), min(high) + 1))
    return '"0" | [1-9] [0-9]{0,14}' if low and max(low) >= 0 else "integer"


def _line(constraints: Mapping[str, Any]) -> str:
    """One line that neither starts nor ends with a blank is enough of a text for a small model."""
    limit = min(constraints.get("max_length", TEXT_LIMIT), TEXT_LIMIT)
    least = max(1, constraints.get("min_length", 1))
    return f"[^\\n ] [^\\n]{{{least - 1},{max(limit, least) - 1}}}"
