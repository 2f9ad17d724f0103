"""Batches: which request is in which batch of a provider, in an SQLite file that processes and threads may share.

A row is written before anything is sent, so that no crash can lose sight of a batch that is paid for.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuneful.store.wal import opened

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batch (id TEXT NOT NULL UNIQUE, remote TEXT, pid INTEGER NOT NULL, written REAL NOT NULL);
CREATE TABLE IF NOT EXISTS line (key TEXT NOT NULL UNIQUE, batch TEXT NOT NULL, number INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS line_of_batch ON line (batch);
"""

#: Seconds after which a batch is forgotten: providers keep no answers for longer.
_KEPT_S = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One batch, as far as it is asked for.

    Args:
        id: our own name of the batch, which the provider is told.
        remote: the provider's name, or None as long as nobody knows whether the provider has it.
        pid: the process that submits it.
        written: when it was noted, in seconds since 1970.
        numbers: the number of its line (the first is 1), by the key of the request.
        new: whether it was noted just now, by whoever holds this row, who must submit it.
    """

    id: str
    remote: str | None
    pid: int
    written: float
    numbers: dict[str, int]
    new: bool = False


class Batches:
    """The batches that are open. A request, by its key, is in one of them at most.

    Args:
        path: the SQLite file, made with its folder at the first use.

    Raises:
        sqlite3.Error, OSError: the file cannot be used; at the first use.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._pid = 0
        self._db: sqlite3.Connection

    def _open(self) -> None:
        if self._pid == os.getpid():  # a fork opens the file anew
            return
        # FULL: commits are few, and each stands for money
        self._db, self._pid = opened(self.path, _SCHEMA, synchronous="FULL"), os.getpid()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._open()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def claim(self, batch: str, keys: Sequence[str], forget: Iterable[str] = ()) -> list[BatchRow]:
        """Say which batch each request is in; those that are in none go into a new one, which is the caller's.

        One transaction: of several processes that ask for the same request, one gets to submit it.

        Args:
            batch: name of the new batch.
            keys: requests, in the order of their lines.
            forget: keys whose batches are used up; they are forgotten first.
        """
        with self._transaction() as db:
            self._forget(db, forget)
            old = db.execute("SELECT id FROM batch WHERE written < ?", (time.time() - _KEPT_S,)).fetchall()
            for (outdated,) in old:
                _drop(db, outdated)
            known: dict[str, dict[str, int]] = {}
            fresh: list[str] = []
            for key in keys:
                row = db.execute("SELECT batch, number FROM line WHERE key=?", (key,)).fetchone()
                if row is None:
                    fresh.append(key)
                else:
                    known.setdefault(row[0], {})[key] = row[1]
            found = [_row(db, other, numbers) for other, numbers in known.items()]
            return [*found, *([_noted(db, batch, fresh)] if fresh else [])]

    def get(self, batch: str) -> BatchRow | None:
        """Return a batch with all of its lines, or None where there is none."""
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM batch WHERE id=?", (batch,)).fetchone() is None:
                return None
            numbers = dict(db.execute("SELECT key, number FROM line WHERE batch=?", (batch,)).fetchall())
            return _row(db, batch, numbers)

    def submitted(self, batch: str, remote: str) -> None:
        """Note the provider's name of a batch. It is on disk when this returns."""
        with self._transaction() as db:
            db.execute("UPDATE batch SET remote=? WHERE id=?", (remote, batch))

    def drop(self, batch: str) -> None:
        """Forget a batch and all of its lines: the provider does not have it."""
        with self._transaction() as db:
            _drop(db, batch)

    def forget(self, keys: Iterable[str]) -> None:
        """Forget requests whose answers were handed over, or which have none; an emptied batch goes with them."""
        with self._transaction() as db:
            self._forget(db, keys)

    def _forget(self, db: sqlite3.Connection, keys: Iterable[str]) -> None:
        gone = [(key,) for key in keys]
        if gone:
            db.executemany("DELETE FROM line WHERE key=?", gone)
            db.execute("DELETE FROM batch WHERE id NOT IN (SELECT batch FROM line)")

    def __len__(self) -> int:
        """Return how many requests are in batches."""
        with self._transaction() as db:
            count: int = db.execute("SELECT count(*) FROM line").fetchone()[0]
        return count

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._pid == os.getpid():
                self._db.close()
            self._pid = 0


def _row(db: sqlite3.Connection, batch: str, numbers: dict[str, int]) -> BatchRow:
    remote, pid, written = db.execute("SELECT remote, pid, written FROM batch WHERE id=?", (batch,)).fetchone()
    return BatchRow(batch, remote, pid, written, numbers)


def _noted(db: sqlite3.Connection, batch: str, keys: Sequence[str]) -> BatchRow:
    row = BatchRow(batch, None, os.getpid(), time.time(), {k: i for i, k in enumerate(keys, 1)}, new=True)
    db.execute("INSERT INTO batch (id, pid, written) VALUES (?, ?, ?)", (row.id, row.pid, row.written))
    lines = [(key, row.id, number) for key, number in row.numbers.items()]
    db.executemany("INSERT INTO line (key, batch, number) VALUES (?, ?, ?)", lines)
    return row


def _drop(db: sqlite3.Connection, batch: str) -> None:
    db.execute("DELETE FROM line WHERE batch=?", (batch,))
    db.execute("DELETE FROM batch WHERE id=?", (batch,))
