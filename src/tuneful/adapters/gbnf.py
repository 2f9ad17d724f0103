"""Grammars in GBNF, the notation of llama.cpp: what an answer in labelled lines may look like, type by type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from tuneful.spec.fields import Field
from tuneful.spec.types import NoneType, choices, members

#: Most characters of a free text in a constrained answer. A small model that falls into a loop is stopped by it and
#: still gives the fields that follow.
TEXT_LIMIT = 800

_JSON_RULES = """\
object ::= "{" ws (pair ("," ws pair)*)? "}"
pair ::= string ":" ws value
array ::= "[" ws (value ("," ws value)*)? "]"
value ::= object | array | string | number | "true" | "false" | "null"
string ::= "\\"" ([^"\\\\\\x00-\\x1F] | "\\\\" ["\\\\/bfnrt])* "\\""
number ::= "-"? [0-9]{1,15} ("." [0-9]{1,15})?
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
    return (
        f"{text}\n{_JSON_RULES}" if any(w in text for w in ("object", "array", "number", "string", "value")) else text
    )


def _text(literal: str) -> str:
    return json.dumps(literal, ensure_ascii=False)


def _rule(field: Field) -> str:
    return " | ".join(_kind(kind, dict(field.constraints)) for kind in members(field.type))


def _kind(kind: Any, constraints: Mapping[str, Any]) -> str:
    options = choices(kind)
    if options is not None:
        return " | ".join(_text(o if isinstance(o, str) else json.dumps(o)) for o in options)
    if kind is NoneType:
        return '"none"'
    if kind is bool:
        return '"true" | "false"'
    if kind is int:
        return _integer(constraints)
    if kind is float:
        return "number"
    if kind is str:
        return _line(constraints)
    if get_origin(kind) in (list, tuple, set, frozenset) or kind in (list, tuple, set, frozenset):
        inner = get_args(kind)
        member = {str: "string", int: "number", float: "number"}.get(inner[0], "value") if inner else "value"
        return f'"[" ({member} ("," ws {member})*)? "]"'
    if kind is dict or get_origin(kind) is dict or hasattr(kind, "model_fields"):
        return "object"
    return "value"


def _integer(constraints: Mapping[str, Any]) -> str:
    low = constraints.get("ge", constraints.get("gt", -2) + 1 if "gt" in constraints else None)
    high = constraints.get("le", constraints.get("lt", 0) - 1 if "lt" in constraints else None)
    if low is not None and high is not None and high - low <= 200:
        return " | ".join(_text(str(i)) for i in range(int(low), int(high) + 1))
    sign = "" if low is not None and low >= 0 else '"-"? '
    return f"{sign}[0-9]{{1,15}}"


def _line(constraints: Mapping[str, Any]) -> str:
    """One line that neither starts nor ends with a blank is enough of a text for a small model."""
    limit = min(constraints.get("max_length", TEXT_LIMIT), TEXT_LIMIT)
    least = max(1, constraints.get("min_length", 1))
    return f"[^\\n ] [^\\n]{{{least - 1},{max(limit, least) - 1}}}"
