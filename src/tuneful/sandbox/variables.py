"""The inputs of a program as variables of code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneful.errors import InputError
from tuneful.sandbox.interpreter import sent


def variables_of(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs that code can be given, as JSON values. Others (a picture, say) only a model sees."""
    found: dict[str, Any] = {}
    for name, value in inputs.items():
        try:
            found[name] = sent(name, value)
        except InputError:
            continue
    return found
