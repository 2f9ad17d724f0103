"""The ranges of a trainer's numbers, each with its typed error."""

from __future__ import annotations

from typing import Any

from tuneful.errors import UsageError


def check_count(name: str, value: Any) -> None:
    """Raise UsageError for anything but a whole number of at least 1."""
    _check(name, value, _is_whole(value) and value >= 1, "a whole number of at least 1")


def check_positive(name: str, value: Any) -> None:
    """Raise UsageError for anything but a number above 0."""
    _check(name, value, _is_number(value) and value > 0, "a number above 0")


def check_not_negative(name: str, value: Any) -> None:
    """Raise UsageError for anything but a number of at least 0."""
    _check(name, value, _is_number(value) and value >= 0, "a number of at least 0")


def check_share(name: str, value: Any) -> None:
    """Raise UsageError for anything but a number from 0 up to 1, 1 left out."""
    _check(name, value, _is_number(value) and 0 <= value < 1, "a number from 0 up to 1")


def _check(name: str, value: Any, fits: bool, expected: str) -> None:
    if not fits:
        raise UsageError(f"`{name}` is {value!r}; expected {expected}.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
