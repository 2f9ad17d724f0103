"""The accepted answers: one text, or several of which any will do."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tuneful.errors import MetricError


def texts(value: Any) -> list[str]:
    """Return texts as a list: a text by itself is one, and not a list of its characters."""
    several = isinstance(value, Collection) and not isinstance(value, (str, bytes))
    return [str(one) for one in value] if several else [str(value)]


def accepted(answers: Any) -> list[str]:
    """Return the accepted answers as a list: no answer at all could never be met."""
    found = texts(answers)
    if not found:
        raise MetricError("the accepted answers are an empty list; at least one is needed.")
    return found
