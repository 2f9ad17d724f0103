"""Answers: a bounded table of texts by key, in an SQLite file that several processes and threads may share."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet

from tuneful.store.wal import opened

_SCHEMA = "CREATE TABLE IF NOT EXISTS answer (key TEXT NOT NULL UNIQUE, body TEXT NOT NULL, written REAL NOT NULL)"

#: The file's size is looked at each time this share of its bound was written.
_CHECK_SHARE = 0.01


class Answers:
    """Texts by key. The first text of a key stays, unless it is replaced on purpose.

    Reading and writing go through connections of their own, so that a reader never waits for a commit. A fork closes
    them before, since SQLite must not be carried through one; both sides open them anew.

    Args:
        path: the SQLite file, made with its folder at the first use.
        max_bytes: bound on the file's content; beyond it the oldest are dropped, a tenth at a time.

    Raises:
        OSError: the file cannot be used; at the first use.
    """

    def __init__(self, path: str | Path, max_bytes: int) -> None:
        self.path = Path(path)
        self._file = self.path.expanduser().absolute()  # a later change of the working folder does not move it
        self._max_bytes = max_bytes
        self._read_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._unchecked = max_bytes  # the first write of a process looks at the size
        _open.add(self)

    def _reading(self) -> sqlite3.Connection:
        """Return the connection that reads; call it with the lock held."""
        if self._reader is None:
            self._reader = self._connection()
        return self._reader

    def _writing(self) -> sqlite3.Connection:
        """Return the connection that writes; call it with the lock held."""
        if self._writer is None:
            self._writer = self._connection()
        return self._writer

    def _connection(self) -> sqlite3.Connection:
        return opened(self._file, _SCHEMA)

    def get(self, key: str) -> str | None:
        """Return the text under a key, or None."""
        with _as_os_error(), self._read_lock:
            row = self._reading().execute("SELECT body FROM answer WHERE key=?", (key,)).fetchone()
        return row[0] if row else None

    def put(self, rows: Iterable[tuple[str, str]], *, replace: bool = False) -> None:
        """Write (key, text) pairs in one transaction. They are in the file when this returns."""
        now = time.time()
        verb = "REPLACE" if replace else "INSERT OR IGNORE"
        values = [(key, body, now) for key, body in rows]
        with _as_os_error(), self._write_lock:
            writer = self._writing()
            writer.execute("BEGIN IMMEDIATE")
            try:
                writer.executemany(f"{verb} INTO answer (key, body, written) VALUES (?, ?, ?)", values)
                self._bound(writer, sum(len(body) for _, body, _ in values))
                writer.execute("COMMIT")
            except BaseException:
                if writer.in_transaction:  # a full disk ends a transaction by itself
                    writer.execute("ROLLBACK")
                raise

    def _bound(self, writer: sqlite3.Connection, written: int) -> None:
        self._unchecked += written
        if self._unchecked < self._max_bytes * _CHECK_SHARE:
            return
        self._unchecked = 0
        while _bytes_used(writer) > self._max_bytes:
            dropped = writer.execute(
                "DELETE FROM answer WHERE rowid IN "
                "(SELECT rowid FROM answer ORDER BY rowid LIMIT (SELECT count(*) / 10 + 1 FROM answer))"
            )
            if not dropped.rowcount:
                return

    def bytes_used(self) -> int:
        """Return the bytes of the file that hold something."""
        with _as_os_error(), self._read_lock:
            return _bytes_used(self._reading())

    def __len__(self) -> int:
        with _as_os_error(), self._read_lock:
            count: int = self._reading().execute("SELECT count(*) FROM answer").fetchone()[0]
        return count

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield every (key, text), the oldest first, as they are when this begins."""
        with _as_os_error():
            own = self._connection()
            try:
                yield from own.execute("SELECT key, body FROM answer ORDER BY rowid")
            finally:
                own.close()

    def clear(self) -> None:
        """Forget everything."""
        with _as_os_error(), self._write_lock:
            self._writing().execute("DELETE FROM answer")

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._read_lock, self._write_lock:
            self._disconnect()

    def _disconnect(self) -> None:
        reader, writer = self._reader, self._writer
        self._reader = self._writer = None
        for connection in (reader, writer):
            if connection is not None:
                connection.close()


def _bytes_used(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(str(error)) from error


_open: WeakSet[Answers] = WeakSet()
_forking: list[Answers] = []


def _before_fork() -> None:
    for answers in list(_open):
        answers._read_lock.acquire()
        answers._write_lock.acquire()
        answers._disconnect()
        _forking.append(answers)


def _after_fork() -> None:
    while _forking:
        answers = _forking.pop()
        answers._write_lock.release()
        answers._read_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
