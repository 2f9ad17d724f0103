"""Runs: a table of the named compiles of a journal: what they were, how far they are, what came of them."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from tuneful.store.wal import opened

Status = Literal["running", "finished", "stopped", "killed"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (
    name TEXT PRIMARY KEY, about TEXT NOT NULL, starts INTEGER NOT NULL, started REAL NOT NULL, updated REAL NOT NULL,
    host TEXT NOT NULL, pid INTEGER NOT NULL, status TEXT NOT NULL, progress TEXT NOT NULL, spend TEXT NOT NULL,
    warnings TEXT NOT NULL, report TEXT
)
"""
_COLUMNS = "name, about, starts, started, updated, host, pid, status, progress, spend, warnings, report"

#: Least seconds between two updates of a row: enough to look at, and next to no work.
_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Run:
    """One named compile.

    Args:
        name: the name.
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
        self._db = opened(Path(path), _SCHEMA)

    def begin(self, name: str, about: dict[str, Any]) -> None:
        """Note that a run starts. The same run again counts as a further start, another one takes the name over."""
        now, text = time.time(), json.dumps(about, sort_keys=True)
        with self._lock:
            row = self._db.execute("SELECT about, starts, started FROM run WHERE name=?", (name,)).fetchone()
            starts, started = (row[1] + 1, row[2]) if row and row[0] == text else (1, now)
            self._db.execute(
                f"INSERT OR REPLACE INTO run ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 (a constant)
                (name, text, starts, started, now, socket.gethostname(), os.getpid(), "running", "", "{}", "{}", None),
            )

    def update(self, name: str, progress: str, spend: dict[str, Any]) -> None:
        """Note how far a run is; at most once in a second, further calls do nothing."""
        with self._lock:
            if (now := time.time()) < self._next:
                return
            self._next = now + _PAUSE_S
            self._db.execute(
                "UPDATE run SET updated=?, progress=?, spend=? WHERE name=?", (now, progress, json.dumps(spend), name)
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
                "UPDATE run SET updated=?, status=?, progress=?, spend=?, warnings=?, report=? WHERE name=?",
                (
                    time.time(),
                    status,
                    reason,
                    json.dumps(spend),
                    json.dumps(warnings),
                    None if report is None else json.dumps(report),
                    name,
                ),
            )

    def all(self) -> list[Run]:
        """Return every run, the last updated first, without the reports."""
        with self._lock:
            found = self._db.execute(f"SELECT {_COLUMNS} FROM run ORDER BY updated DESC").fetchall()  # noqa: S608 (a constant)
        return [_run((*row[:-1], None)) for row in found]

    def named(self, name: str) -> Run | None:
        """Return one run, or None."""
        with self._lock:
            row = self._db.execute(f"SELECT {_COLUMNS} FROM run WHERE name=?", (name,)).fetchone()  # noqa: S608 (a constant)
        return _run(row) if row else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


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
