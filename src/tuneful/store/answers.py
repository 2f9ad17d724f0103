"""Answers: a bounded table of texts by key, in an SQLite file that several processes and threads may share."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SCHEMA = "CREATE TABLE IF NOT EXISTS answer (key TEXT NOT NULL UNIQUE, body TEXT NOT NULL, written REAL NOT NULL)"

#: Writes between two looks at the size of the file.
_CHECK_EVERY = 256


class Answers:
    """Texts by key. The first text of a key stays, unless it is replaced on purpose.

    Reading and writing go through connections of their own, so that a reader never waits for a commit. A fork opens
    new ones.

    Args:
        path: the SQLite file, made with its folder at the first use.
        max_bytes: bound on the file's content; beyond it the oldest tenth is dropped.

    Raises:
        OSError: the file cannot be used; at the first use.
    """

    def __init__(self, path: str | Path, max_bytes: int) -> None:
        self.path = Path(path)
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._pid = 0
        self._reader: sqlite3.Connection
        self._writer: sqlite3.Connection
        self._unchecked = 0

    def _open(self) -> None:
        if self._pid == os.getpid():
            return
        with self._write_lock:
            if self._pid != os.getpid():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._writer = self._connection()
                self._writer.execute(_SCHEMA)
                self._reader = self._connection()
                self._pid = os.getpid()

    def _connection(self) -> sqlite3.Connection:
        made = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=60)
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("PRAGMA synchronous=NORMAL")
        return made

    def get(self, key: str) -> str | None:
        """Return the text under a key, or None."""
        with _as_os_error(), self._lock:
            self._open()
            row = self._reader.execute("SELECT body FROM answer WHERE key=?", (key,)).fetchone()
        return row[0] if row else None

    def put(self, rows: Iterable[tuple[str, str]], *, replace: bool = False) -> None:
        """Write (key, text) pairs in one transaction. They are in the file when this returns."""
        now = time.time()
        verb = "REPLACE" if replace else "INSERT OR IGNORE"
        values = [(key, body, now) for key, body in rows]
        with _as_os_error():
            self._open()
            self._put(verb, values)

    def _put(self, verb: str, values: list[tuple[str, str, float]]) -> None:
        with self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                self._writer.executemany(f"{verb} INTO answer (key, body, written) VALUES (?, ?, ?)", values)
                self._bound(len(values))
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    def _bound(self, written: int) -> None:
        self._unchecked += written
        if self._unchecked < _CHECK_EVERY:
            return
        self._unchecked = 0
        if self.bytes_used() > self._max_bytes:
            self._writer.execute(
                "DELETE FROM answer WHERE rowid IN "
                "(SELECT rowid FROM answer ORDER BY rowid LIMIT (SELECT count(*) / 10 + 1 FROM answer))"
            )

    def bytes_used(self) -> int:
        """Return the bytes of the file that hold something."""
        pages, free, size = (
            self._writer.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def __len__(self) -> int:
        with _as_os_error(), self._lock:
            self._open()
            count: int = self._reader.execute("SELECT count(*) FROM answer").fetchone()[0]
        return count

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield every (key, text), the oldest first, as they are when this begins."""
        with _as_os_error():
            self._open()
            own = self._connection()
        try:
            yield from own.execute("SELECT key, body FROM answer ORDER BY rowid")
        finally:
            own.close()

    def clear(self) -> None:
        """Forget everything."""
        with _as_os_error():
            self._open()
            with self._write_lock:
                self._writer.execute("DELETE FROM answer")

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._write_lock, self._lock:
            if self._pid == os.getpid():
                self._reader.close()
                self._writer.close()
            self._pid = 0


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(str(error)) from error
