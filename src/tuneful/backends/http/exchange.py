"""What passes through a transport: time limits, an answer read whole, an answer that is still coming."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from tuneful.errors import UsageError

#: Bound of a time limit, in seconds.
_LONGEST_S = 366 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one exchange, in seconds.

    Args:
        total: from sending to the last byte. A streamed answer has no such limit.
        connect: opening a connection.
        read: between one piece of an answer and the next. None: as `total`.
    """

    total: float = 120.0
    connect: float = 10.0
    read: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("timeout_s", self.total), ("connect_timeout_s", self.connect), ("read", self.read)):
            if name == "read" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _LONGEST_S:
                raise UsageError(f"`{name}` is {value!r}; expected seconds: a number above 0, and no more than a year.")


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, read whole. Names of headers are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class EventStream:
    """An HTTP answer that is still coming: read either as `events`, the data of each server-sent event, or whole."""

    status: int
    headers: Mapping[str, str]
    events: AsyncIterator[str]
    whole: Callable[[], Awaitable[bytes]]
