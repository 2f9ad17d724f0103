"""Checks what a step is given against its signature, before any model is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic

from tuneful.errors import InputError, nearest
from tuneful.spec.fields import MISSING
from tuneful.spec.signature import Signature
from tuneful.spec.types import is_optional, type_name


def check_inputs(signature: Signature, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the inputs, validated and with defaults filled in.

    Args:
        signature: what is expected.
        given: what the caller passed.
        where: the step, for the message.

    Raises:
        InputError: missing, unknown and ill-typed inputs, all in one message.
    """
    expected = signature.input_fields
    problems: list[tuple[str, str]] = []
    for name in given:
        if name not in expected:
            role = " It is an output." if name in signature.output_fields else nearest(name, expected)
            problems.append((name, f"`{name}` is no input field.{role}"))
    values: dict[str, Any] = {}
    for name, field in expected.items():
        if name not in given:
            if field.default is not MISSING or (field.typed and is_optional(field.type)):
                values[name] = field.absent_value()
            else:
                problems.append((name, f"no value for input field `{name}`."))
        elif not field.typed:
            values[name] = given[name]
        else:
            try:
                values[name] = field.adapter.validate_python(given[name])
            except pydantic.ValidationError as error:
                detail = "; ".join(e["msg"] for e in error.errors(include_url=False)[:3])
                kind = type_name(field.type) + (f" ({field.constraint_text})" if field.constraints else "")
                problems.append((name, f"`{name}` must be {kind}, got {given[name]!r:.120}: {detail}."))
    if problems:
        raise InputError(
            f"{where}: " + " ".join(p for _, p in problems) + f" Expected: {', '.join(expected)}. "
            f"Got: {', '.join(given) or 'nothing'}. No model was called.",
            field=problems[0][0],
        )
    return values
