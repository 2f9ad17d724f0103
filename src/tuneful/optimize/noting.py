"""Noting: what did not go plainly in a job, told by whoever does it to whoever counts it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_noted: ContextVar[Counter[str] | None] = ContextVar("tuneful_noted", default=None)


@contextmanager
def noting() -> Iterator[Counter[str]]:
    """Collect what the block notes, by kind."""
    found: Counter[str] = Counter()
    token = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(token)


def note(kinds: Mapping[str, int]) -> None:
    """Note what did not go plainly, such as `trace.noted`. Where nobody collects it, it is lost."""
    if (found := _noted.get()) is not None:
        found.update(kinds)
