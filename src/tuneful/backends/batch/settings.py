"""Batch: how an LM uses its provider's batch API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tuneful.errors import UsageError

#: Most requests that a provider takes in one batch.
MOST_REQUESTS = 50_000

#: Growth of the waits between two looks at a batch.
_GROWTH = 1.5


@dataclass(frozen=True, slots=True)
class Batch:
    """How an LM uses its provider's batch API: `tf.LM(..., batch=tf.Batch(...))`.

    >>> Batch(gather_s=10).completion_window
    '24h'

    Args:
        gather_s: a batch is submitted when no further request came for so many seconds.
        poll_s: seconds between two looks at a batch, at first; they grow up to `longest_poll_s`.
        longest_poll_s: the longest such wait.
        completion_window: time that the provider may take, as it writes it.
        most_requests, most_bytes: a batch that holds so much is submitted at once, and the next one begun.
        path: the file that remembers what was submitted. Several processes may share it.

    Raises:
        UsageError: a number makes no sense.
    """

    gather_s: float = 2.0
    poll_s: float = 5.0
    longest_poll_s: float = 60.0
    completion_window: str = "24h"
    most_requests: int = MOST_REQUESTS
    most_bytes: int = 100_000_000
    path: str | Path = ".tuneful/batches.sqlite"

    def __post_init__(self) -> None:
        if self.gather_s < 0 or self.poll_s <= 0 or self.longest_poll_s <= 0:
            raise UsageError(
                f"{self!r}: `gather_s` is at least 0 seconds, `poll_s` and `longest_poll_s` are more than 0."
            )
        if not 1 <= self.most_requests <= MOST_REQUESTS or self.most_bytes < 1:
            raise UsageError(f"{self!r}: `most_requests` is 1 to {MOST_REQUESTS:,}, `most_bytes` at least 1.")

    def longer(self, wait_s: float) -> float:
        """Return the wait after a wait."""
        return min(wait_s * _GROWTH, max(self.longest_poll_s, self.poll_s))
