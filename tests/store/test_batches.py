"""Which request is in which batch: written before anything is sent, shared by processes."""

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tuneful.store import batches as module
from tuneful.store.batches import Batches


@pytest.fixture
def table(tmp_path):
    made = Batches(tmp_path / "made" / "for_it" / "batches.sqlite")
    yield made
    made.close()


def test_new_requests_go_into_a_batch_of_the_callers(table):
    [row] = table.claim("first", ["a", "b"])

    assert (row.id, row.new, row.remote, row.pid) == ("first", True, None, os.getpid())
    assert row.numbers == {"a": 1, "b": 2}  # the lines of the file, which a provider counts from 1
    assert len(table) == 2


def test_a_request_is_in_one_batch_only(table):
    table.claim("first", ["a", "b"])
    table.submitted("first", "batch_1")

    old, new = table.claim("second", ["b", "c"])

    assert (old.id, old.remote, old.new, old.numbers) == ("first", "batch_1", False, {"b": 2})
    assert (new.id, new.remote, new.new, new.numbers) == ("second", None, True, {"c": 1})


def test_a_batch_that_was_not_submitted_is_found_as_such(table):
    table.claim("first", ["a"])
    table.close()

    [row] = table.claim("second", ["a"])

    assert (row.id, row.remote, row.new) == ("first", None, False)
    assert table.get("first").remote is None


def test_a_dropped_batch_leaves_its_requests_free(table):
    table.claim("first", ["a", "b"])
    table.drop("first")

    assert table.get("first") is None
    assert [row.new for row in table.claim("second", ["a", "b"])] == [True]


def test_a_forgotten_request_is_free_and_an_emptied_batch_goes(table):
    table.claim("first", ["a", "b"])
    table.submitted("first", "batch_1")

    table.forget(["a"])
    assert table.get("first").numbers == {"b": 2}
    table.forget(["b", "never there"])
    assert table.get("first") is None
    assert len(table) == 0


def test_claiming_can_forget_what_is_used_up_in_the_same_step(table):
    table.claim("first", ["a", "b"])
    table.submitted("first", "batch_1")

    old, new = table.claim("second", ["a", "b"], forget={"a"})

    assert (old.numbers, new.numbers) == ({"b": 2}, {"a": 1})


def test_batches_are_forgotten_when_no_provider_has_their_answers_any_more(table, monkeypatch):
    table.claim("first", ["a"])
    table.submitted("first", "batch_1")
    monkeypatch.setattr(module, "_KEPT_S", -1.0)

    assert [row.id for row in table.claim("second", ["a"])] == ["second"]


def test_one_of_many_threads_gets_each_request(tmp_path):
    tables = [Batches(tmp_path / "batches.sqlite") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: tables[i].claim(f"batch {i}", [str(k) for k in range(100)]), range(8)))
    for one in tables:
        one.close()

    assert sum(row.new for rows in found for row in rows) == 1
    assert len({row.id for rows in found for row in rows}) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_what_was_written_survives_a_kill(table):
    code = (
        "import os, signal; from tuneful.store.batches import Batches\n"
        f"t = Batches({str(table.path)!r})\n"
        "t.claim('first', [str(i) for i in range(50)]); t.submitted('first', 'batch_1'); t.claim('second', ['x'])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == -signal.SIGKILL

    rows = table.claim("third", [*(str(i) for i in range(50)), "x"])
    assert [(row.id, row.remote, len(row.numbers)) for row in rows] == [("first", "batch_1", 50), ("second", None, 1)]


def test_a_failed_claim_changes_nothing(table):
    table.claim("first", ["a"])
    with pytest.raises(sqlite3.IntegrityError):
        table.claim("first", ["b", "c"])
    assert len(table) == 1


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "batches.sqlite").write_text("no database, but a text that is long enough to be taken for one" * 20)
    with pytest.raises(sqlite3.DatabaseError):
        Batches(tmp_path / "batches.sqlite").claim("first", ["a"])
