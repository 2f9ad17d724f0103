"""Runs: a table of the named compiles of a journal: what they were, how far they are, what came of them.

Several compiles may share a name (another teleprompter, other settings, seed or data), and with it their rollouts. Each
has a row of its own, so that no report is lost.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from tuneful.store.wal import opened

Status = Literal["running", "finished", "stopped", "killed"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS compile (
    name TEXT NOT NULL, about TEXT NOT NULL, starts INTEGER NOT NULL, started REAL NOT NULL, updated REAL NOT NULL,
    host TEXT NOT NULL, pid INTEGER NOT NULL, status TEXT NOT NULL, progress TEXT NOT NULL, spend TEXT NOT NULL,
    warnings TEXT NOT NULL, report TEXT, UNIQUE (name, about)
)
"""
_COLUMNS = "name, about, starts, started, updated, host, pid, status, progress, spend, warnings, report"

#: Least seconds between two updates of a row: enough to look at, and next to no work.
_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Run:
    """One named compile.

    Args:
        name: the name, which others may have too.
        about: teleprompter, its settings, seed, hash of the data, as JSON values.
        starts: how often it was started: 1, and once more for each time that it was stopped and went on.
        started, updated: seconds since 1970 of the first start and of the last sign of life.
        status: "running", "finished", "stopped" (by a budget, Ctrl-C or an error), or "killed" (it says that it runs,
            and its process is gone).
        progress: how far it is, or why it ended.
        spend: usage and seconds, as JSON values.
        warnings: what happened on the way, counted by kind.
        report: the compile report as JSON values, once there is one.
    """

    name: str
    about: dict[str, Any]
    starts: int
    started: float
    updated: float
    status: Status
    progress: str
    spend: dict[str, Any] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    report: dict[str, Any] | None = None


class Runs:
    """The runs of a journal file. Several processes may read it while one writes.

    Args:
        path: the SQLite file, made with its folder where it is not there.
    """

    def __init__(self, path: str | Path) -> None:
        self._lock = threading.Lock()
        self._next = 0.0
        self._begun: dict[str, str] = {}
        self._db = opened(Path(path), _SCHEMA)
        _take_over(self._db)

    def begin(self, name: str, about: dict[str, Any]) -> None:
        """Note that a run starts, which is then the one of that name. The same again counts as a further start.

        The report that it has stays until there is another one.
        """
        now, text = time.time(), json.dumps(about, sort_keys=True)
        self._begun[name] = text
        with self._lock:
            row = self._db.execute(
                "SELECT starts, started, report FROM compile WHERE name=? AND about=?", (name, text)
            ).fetchone()
            starts, started, report = (row[0] + 1, *row[1:]) if row else (1, now, None)
            self._db.execute(
                f"INSERT OR REPLACE INTO compile ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 (a constant)
                (
                    name,
                    text,
                    starts,
                    started,
                    now,
                    socket.gethostname(),
                    os.getpid(),
                    "running",
                    "",
                    "{}",
                    "{}",
                    report,
                ),
            )

    def update(self, name: str, progress: str, spend: dict[str, Any]) -> None:
        """Note how far a run is; at most once in a second, further calls do nothing."""
        with self._lock:
            if (now := time.time()) < self._next:
                return
            self._next = now + _PAUSE_S
            self._db.execute(
                "UPDATE compile SET updated=?, progress=?, spend=? WHERE name=? AND about=?",
                (now, progress, json.dumps(spend), name, self._begun[name]),
            )

    def end(
        self,
        name: str,
        status: Literal["finished", "stopped"],
        reason: str,
        *,
        spend: dict[str, Any],
        warnings: dict[str, int],
        report: dict[str, Any] | None,
    ) -> None:
        """Note how a run has ended."""
        with self._lock:
            self._db.execute(
                "UPDATE compile SET updated=?, status=?, progress=?, spend=?, warnings=?, report=COALESCE(?, report) "
                "WHERE name=? AND about=?",
                (
                    time.time(),
                    status,
                    reason,
                    json.dumps(spend),
                    json.dumps(warnings),
                    None if report is None else json.dumps(report),
                    name,
                    self._begun[name],
                ),
            )

    def all(self) -> list[Run]:
        """Return every run, the last updated first, without the reports."""
        with self._lock:
            found = self._db.execute(f"SELECT {_COLUMNS} FROM compile ORDER BY updated DESC").fetchall()  # noqa: S608 (a constant)
        return [_run((*row[:-1], None)) for row in found]

    def named(self, name: str) -> Run | None:
        """Return the run of a name, the last started where there are several; or None."""
        return next(iter(self.all_named(name)), None)

    def all_named(self, name: str) -> list[Run]:
        """Return every run of a name, the last started first."""
        with self._lock:
            found = self._db.execute(
                f"SELECT {_COLUMNS} FROM compile WHERE name=? ORDER BY rowid DESC",  # noqa: S608 (a constant)
                (name,),
            ).fetchall()
        return [_run(row) for row in found]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _take_over(db: sqlite3.Connection) -> None:
    """Take the rows over of a table in which a name had one, which the last compile of that name overwrote."""
    there = "SELECT 1 FROM sqlite_master WHERE type='table' AND name='run'"
    if db.execute(there).fetchone() is None:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.execute(there).fetchone() is not None:  # else another process was faster
            db.execute(f"INSERT OR IGNORE INTO compile ({_COLUMNS}) SELECT {_COLUMNS} FROM run")  # noqa: S608 (a constant)
            db.execute("DROP TABLE run")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _run(row: tuple[Any, ...]) -> Run:
    name, about, starts, started, updated, host, pid, status, progress, spend, warnings, report = row
    if status == "running" and host == socket.gethostname() and not _lives(pid):
        status = "killed"
    return Run(
        name,
        json.loads(about),
        starts,
        started,
        updated,
        status,
        progress,
        json.loads(spend),
        json.loads(warnings),
        json.loads(report or "null"),
    )


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True
