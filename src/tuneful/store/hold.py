"""Hold: a name of a journal that one process has for itself, by a lock that ends with that process however it ends."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Self

#: Seconds to wait for a holder that is just about to let go.
_PATIENCE_S = 2.0


class Hold:
    """The hold on a name, until it is closed. A context manager.

    It is a transaction of SQLite on an empty file beside the journal, which nobody else can begin meanwhile: it works
    wherever the journal does, ends when the process is killed, and a fork does not carry it on. The file stays, since
    whoever waits for it may have it open.

    Args:
        journal: the journal's file, or a folder that is worked in: the empty file stands beside it.
        name: the name.

    Raises:
        BlockingIOError: somebody else has it, in this process or another one.
        sqlite3.Error, OSError: the file cannot be used.
    """

    def __init__(self, journal: str | Path, name: str) -> None:
        path = Path(journal)
        file = (
            path.with_name(f"{path.name}.held") / hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(file, check_same_thread=False, isolation_level=None, timeout=_PATIENCE_S)
        try:
            self._db.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            self._db.close()
            if "locked" in str(error):
                raise BlockingIOError(f"{name!r} is held by somebody else") from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go."""
        self._db.close()
