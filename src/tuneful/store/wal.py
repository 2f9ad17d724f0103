"""Opening an SQLite file that many processes may open at the same moment."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

#: Seconds to wait for others who hold the file.
_PATIENCE_S = 60.0
_PAUSE_S = 0.02


def opened(path: Path, schema: str, *, synchronous: str = "NORMAL") -> sqlite3.Connection:
    """Return a connection to a file in WAL mode, made with its folder and its tables where they are not there yet.

    SQLite's own waiting does not cover the change to WAL mode, which fails at once while another connection changes it
    too; this does.

    Args:
        path: the file.
        schema: statements that make the tables if they do not exist.
        synchronous: "NORMAL" survives the death of the process, "FULL" a loss of power as well.

    Raises:
        sqlite3.Error, OSError: the file cannot be used, or is held by others for a minute.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        made = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=_PATIENCE_S)
        try:
            made.execute("PRAGMA journal_mode=WAL")
            made.execute(f"PRAGMA synchronous={synchronous}")
            made.executescript(schema)
        except sqlite3.Error as error:
            made.close()
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)
        else:
            return made
