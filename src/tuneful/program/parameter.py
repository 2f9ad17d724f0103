"""Parameters: everything of a program that a teleprompter may set, as JSON values under paths."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from tuneful.errors import UsageError

Kind = Literal[
    "instructions", "wording", "demos", "demo_pool", "adapter", "lm", "sampling", "choice", "integer", "real"
]


_UNSET: Any = object()


@dataclass(frozen=True)
class Parameter:
    """One parameter of a program, as it stands.

    Args:
        path: where it is, such as "answer.predict.demos" or "k".
        kind: what it is.
        value: its value, as JSON.
        frozen: whether teleprompters must leave it alone.
        space: the declared values of a `Choice`, `Integer` or `Real`; None for the others.
    """

    path: str
    kind: Kind
    value: Any
    frozen: bool = False
    space: Tunable | None = None


@dataclass(frozen=True)
class Tunable:
    """A number or a choice in the user's own logic. In `forward` it reads as its plain value.

    >>> Choice([1, 3, 5], default=3).value, Integer(1, 8).value, Real(0.0, 1.0, default=0.5).value
    (3, 1, 0.5)
    """

    value: Any = None

    kind = "choice"

    def with_value(self, value: Any) -> Self:
        """Return the tunable at another value. Raises UsageError where the value is outside its space."""
        self.check(value)
        twin = copy.copy(self)
        object.__setattr__(twin, "value", value)
        return twin

    def check(self, value: Any) -> None:
        """Raise UsageError unless `value` belongs to the space."""
        raise NotImplementedError


@dataclass(frozen=True, init=False)
class Choice(Tunable):
    """One of several JSON values."""

    values: tuple[Any, ...] = ()
    kind = "choice"

    def __init__(self, values: Iterable[Any], *, default: Any = _UNSET) -> None:
        object.__setattr__(self, "values", _distinct(values))
        start = self.values[0] if default is _UNSET else default  # None may be one of the values
        self.check(start)
        object.__setattr__(self, "value", start)

    def check(self, value: Any) -> None:
        """Raise UsageError unless `value` is one of the values. True is not 1."""
        if not any(value == v and isinstance(value, bool) == isinstance(v, bool) for v in self.values):
            raise UsageError(f"{value!r} is none of the values of Choice({list(self.values)!r}).")


@dataclass(frozen=True, init=False)
class _Range(Tunable):
    low: Any = 0
    high: Any = 0
    log: bool = False

    def __init__(self, low: Any, high: Any, *, default: Any = None, log: bool = False) -> None:
        name = f"{type(self).__name__}({low!r:.40}, {high!r:.40}{', log=True' if log else ''})"
        if not self._fits(low) or not self._fits(high):
            raise UsageError(
                f"{name}: expected two {self._numbers}, neither infinite nor beyond what a float can hold."
            )
        if low > high:
            raise UsageError(f"{name}: the lower bound comes first. Write: {type(self).__name__}({high!r}, {low!r}).")
        if log and low <= 0:
            raise UsageError(f"{name}: on a logarithmic scale all values are above 0. Raise `low`, or leave `log` out.")
        if not math.isfinite(high / low if log else float(high) - float(low)):
            raise UsageError(f"{name}: the bounds are too far apart to be searched between. Give nearer ones.")
        for field, given in (("low", low), ("high", high), ("log", log)):
            object.__setattr__(self, field, given)
        start = low if default is None else default
        self.check(start)
        object.__setattr__(self, "value", start)

    def check(self, value: Any) -> None:
        """Raise UsageError unless `value` is a number of the right kind in the range."""
        if not self._fits(value) or not self.low <= value <= self.high:
            expected = f"{type(self).__name__}({self.low!r}, {self.high!r}), which holds {self._numbers}"
            raise UsageError(f"{value!r} is not in {expected}.")

    _numbers = "numbers"
    _types: tuple[type, ...] = (int, float)

    @classmethod
    def _fits(cls, value: Any) -> bool:
        known = isinstance(value, cls._types) and not isinstance(value, bool)
        try:
            return known and math.isfinite(value)
        except OverflowError:  # a whole number that is beyond all floats
            return False


class Integer(_Range):
    """A whole number from low to high, both included; `log=True` where its size matters, not its difference."""

    kind = "integer"
    _numbers = "whole numbers"
    _types = (int,)


class Real(_Range):
    """A number from low to high, both included; `log=True` where its size matters, not its difference."""

    kind = "real"


def _distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    """Return declared values. Raises UsageError where they are none, or cannot be saved and told apart."""
    if isinstance(values, (str, bytes, Mapping, set, frozenset)) or not isinstance(
        values, Iterable
    ):  # a set's order is chance
        raise UsageError(f"Choice takes a list of values, got {values!r:.80}. Write: Choice([...]).")
    found = tuple(values)
    if not found:
        raise UsageError("Choice needs at least one value, got none.")
    for i, value in enumerate(found):
        if not _is_json(value):
            raise UsageError(
                f"Choice: {value!r:.80} is no JSON value, and programs are saved as JSON. Write a tuple as a list; "
                "for anything else choose among names, and look them up in `forward`."
            )
        if value in found[:i]:
            raise UsageError(f"Choice: {value!r:.80} equals a value before it. Give each one once (True equals 1).")
    return found


def _is_json(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_json(v) for name, v in value.items())
    return value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))


def checked_whole(name: str, value: Any, least: int = 1) -> Any:
    """Return a number that a module was given, or a tunable of such numbers, as it is.

    Raises:
        UsageError: it is no whole number of at least `least`.
    """
    plain = value.value if isinstance(value, Tunable) else value
    if isinstance(plain, bool) or not isinstance(plain, int) or plain < least:
        raise UsageError(f"`{name}` is {plain!r}; expected a whole number of at least {least}.")
    return value


def frozen_test(modules: Sequence[tuple[str, Any]], path: str) -> Callable[[str], bool]:
    """Return a test for paths below `path`: whether a `freeze` on the way from the root covers them.

    Args:
        modules: the modules of a program with their paths, the root first.
        path: that of the module whose parameters are asked about.
    """
    patterns: list[tuple[str, re.Pattern[str]]] = []
    for owner_path, module in modules:
        inside = owner_path in ("", path) or path.startswith((f"{owner_path}.", f"{owner_path}["))
        if inside:
            prefix = f"{owner_path}." if owner_path else ""
            patterns += [(prefix, pattern_of(p)) for p in module.__dict__.get("_frozen", ())]
    return lambda full: any(p.fullmatch(full.removeprefix(prefix)) is not None for prefix, p in patterns)


def pattern_of(pattern: str) -> re.Pattern[str]:
    """Compile a pattern in which only `*` is special, so that `steps[0]` means what it says."""
    return re.compile(".*".join(map(re.escape, pattern.split("*"))))
