"""Many may open one file at the same moment."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, get_ident

import pytest

from tuneful.store.wal import opened

SCHEMA = "CREATE TABLE IF NOT EXISTS word (text TEXT NOT NULL UNIQUE); CREATE INDEX IF NOT EXISTS words ON word (text);"


def test_threads_may_make_a_file_at_the_same_moment(tmp_path):
    """SQLite by itself fails in some of two hundred attempts."""
    together = Barrier(2)

    def write(path):
        together.wait(30)
        connection = opened(path, SCHEMA)
        connection.execute("INSERT INTO word VALUES (?)", (str(get_ident()),))
        connection.close()

    with ThreadPoolExecutor(2) as pool:
        for attempt in range(200):
            path = tmp_path / "made" / f"{attempt}.sqlite"
            list(pool.map(write, [path, path]))
            connection = opened(path, SCHEMA)
            assert connection.execute("SELECT count(*) FROM word").fetchone() == (2,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            connection.close()


def test_several_processes_may_make_the_file_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tuneful.store.wal import opened\n"
        f"c = opened(Path({str(tmp_path / 'words.sqlite')!r}), {SCHEMA!r})\n"
        "c.execute('INSERT INTO word VALUES (?)', (sys.argv[1],))\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(n)]) for n in range(6)]
    assert [w.wait(60) for w in writers] == [0] * 6


def test_a_file_that_is_no_database_is_refused_at_once(tmp_path):
    (tmp_path / "words.sqlite").write_text("no database, but a text that is long enough to be taken for one" * 20)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        opened(tmp_path / "words.sqlite", SCHEMA)
