"""Journal: an append-only table of what was run, so that a stopped compile goes on where it was."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tuneful.store.wal import opened

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rollout (
    run TEXT NOT NULL, key TEXT NOT NULL, record TEXT NOT NULL, written REAL NOT NULL,
    UNIQUE (run, key)
)
"""


class Journal:
    """Records by run and key. A record, once written, is never changed; several processes may read it live.

    Args:
        path: the SQLite file, made with its folder at the first use; None keeps the journal in memory.
        run: name of the run. None reads and keeps nothing beyond this process.
        history: names of other runs of the file, whose records `of_others` returns.
    """

    def __init__(self, path: str | Path | None, run: str | None, history: Sequence[str] = ()) -> None:
        self._run = run or ""
        self._history = tuple(history)
        self._lock = threading.Lock()
        self._db = opened(Path(":memory:") if path is None or run is None else Path(path), _SCHEMA)

    def read(self, key: str) -> dict[str, Any] | None:
        """Return the record under a key, or None."""
        return self._one(self._run, key)

    def of_others(self, key: str) -> tuple[str, dict[str, Any]] | None:
        """Return the first of the history's runs that has a record under a key, and the record; or None."""
        found = ((name, self._one(name, key)) for name in self._history)
        return next(((name, record) for name, record in found if record is not None), None)

    def _one(self, run: str, key: str) -> dict[str, Any] | None:
        with self._lock:
            row = self._db.execute("SELECT record FROM rollout WHERE run=? AND key=?", (run, key)).fetchone()
        found: dict[str, Any] | None = json.loads(row[0]) if row else None
        return found

    def names(self) -> list[str]:
        """Return the names of the runs that have records."""
        with self._lock:
            return [name for (name,) in self._db.execute("SELECT DISTINCT run FROM rollout ORDER BY run")]

    def write(self, key: str, record: dict[str, Any]) -> None:
        """Append a record. One that is there already stays as it is. Durable when this returns."""
        text = json.dumps(record)  # in ASCII: a model may write halves of characters, which SQLite does not take
        with self._lock:
            self._db.execute(
                "INSERT OR IGNORE INTO rollout (run, key, record, written) VALUES (?, ?, ?, ?)",
                (self._run, key, text, time.time()),
            )

    def __len__(self) -> int:
        with self._lock:
            count: int = self._db.execute("SELECT count(*) FROM rollout WHERE run=?", (self._run,)).fetchone()[0]
        return count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
