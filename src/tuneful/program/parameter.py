"""Parameters: everything of a program that a teleprompter may set, as JSON values under paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

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

    def with_value(self, value: Any) -> Tunable:
        """Return the tunable at another value. Raises UsageError where the value is outside its space."""
        self.check(value)
        return replace(self, value=value)

    def check(self, value: Any) -> None:
        """Raise UsageError unless `value` belongs to the space."""
        raise NotImplementedError


@dataclass(frozen=True, init=False)
class Choice(Tunable):
    """One of several JSON values."""

    values: tuple[Any, ...] = ()
    kind = "choice"

    def __init__(self, values: Sequence[Any], *, default: Any = _UNSET, value: Any = _UNSET) -> None:
        if not values:
            raise UsageError("Choice needs at least one value, got none.")
        object.__setattr__(self, "values", tuple(values))
        start = next((v for v in (value, default) if v is not _UNSET), self.values[0])  # None may be one of the values
        self.check(start)
        object.__setattr__(self, "value", start)

    def check(self, value: Any) -> None:
        """Raise UsageError unless `value` is one of the values."""
        if value not in self.values:
            raise UsageError(f"{value!r} is none of the values of Choice({list(self.values)!r}).")


@dataclass(frozen=True, init=False)
class _Range(Tunable):
    low: Any = 0
    high: Any = 0
    log: bool = False

    def __init__(self, low: Any, high: Any, *, default: Any = None, log: bool = False, value: Any = None) -> None:
        if not low <= high or (log and low <= 0):
            raise UsageError(
                f"{type(self).__name__}({low!r}, {high!r}): expected low <= high, and low > 0 with log=True."
            )
        for name, given in (("low", low), ("high", high), ("log", log)):
            object.__setattr__(self, name, given)
        start = value if value is not None else (default if default is not None else low)
        self.check(start)
        object.__setattr__(self, "value", start)

    def check(self, value: Any) -> None:
        """Raise UsageError unless `value` is a number of the right kind in the range."""
        kinds: tuple[type, ...] = (int,) if isinstance(self, Integer) else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not self.low <= value <= self.high:
            raise UsageError(f"{value!r} is not in {type(self).__name__}({self.low!r}, {self.high!r}).")


class Integer(_Range):
    """A whole number from low to high, both included; `log=True` where its size matters, not its difference."""

    kind = "integer"


class Real(_Range):
    """A number from low to high, both included; `log=True` where its size matters, not its difference."""

    kind = "real"


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
