"""Earlier turns of a dialogue: a `History` among the inputs becomes exchanges in front of the current one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pydantic

from tuneful.errors import SignatureError, UsageError
from tuneful.spec.history import History, is_history
from tuneful.spec.signature import Signature

Values = Mapping[str, Any]


@lru_cache(maxsize=512)
def history_field(signature: Signature) -> str:
    """Return the name of the input that holds earlier turns, or "". Raises SignatureError where there are several."""
    names = [n for n, f in signature.input_fields.items() if is_history(f.type)]
    if len(names) > 1:
        raise SignatureError(
            f"the inputs {', '.join(names)} are all of type History: a dialogue has one order of turns. Keep one of "
            "them. No model was called."
        )
    return names[0] if names else ""


def earlier_turns(signature: Signature, name: str, values: Values) -> list[Values]:
    """Return the turns of a dialogue, as field values.

    Args:
        signature: the signature without the field that holds them.
        name: that field, or "".
        values: the inputs, or a demo.

    Raises:
        UsageError: a turn has no input, or no output. No model was called.
    """
    turns = _turns(values[name]) if name and values.get(name) is not None else []
    for number, turn in enumerate(turns, 1):
        for role, fields in (("input", signature.input_fields), ("output", signature.output_fields)):
            if not any(f in turn for f in fields):
                raise UsageError(
                    f"turn {number} of `{name}` has no {role} of the signature: expected some of {', '.join(fields)}, "
                    f"got {', '.join(turn) or 'nothing'}. No model was called."
                )
    return turns


def _turns(value: Any) -> list[Values]:
    try:
        return list(History.model_validate(value).messages)  # a demo that comes from a file holds JSON
    except pydantic.ValidationError:  # the name of the field, where a prompt is only looked at
        return []
