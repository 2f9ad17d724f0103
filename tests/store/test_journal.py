"""What was run, kept so that a stopped run goes on where it was."""

import json
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tuneful.store.journal import Journal

RECORD = {"score": 0.5, "text": "naïve \U0001f642\n", "nested": {"list": [1, None, True]}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "made" / "for_it" / "journal.sqlite"


def test_a_record_comes_back_as_it_was(path):
    journal = Journal(path, "run")
    journal.write("key", RECORD)
    assert journal.read("key") == RECORD
    assert journal.read("another") is None
    journal.close()


def test_records_survive_the_process(path):
    first = Journal(path, "run")
    first.write("key", RECORD)
    first.close()
    second = Journal(path, "run")
    assert second.read("key") == RECORD
    assert len(second) == 1
    second.close()


def test_a_record_is_never_changed(path):
    journal = Journal(path, "run")
    journal.write("key", {"score": 1})
    journal.write("key", {"score": 2})
    assert journal.read("key") == {"score": 1}
    assert len(journal) == 1
    journal.close()


def test_what_is_read_can_be_changed_without_harm(path):
    journal = Journal(path, "run")
    journal.write("key", {"list": [1]})
    journal.read("key")["list"].append(2)
    assert journal.read("key") == {"list": [1]}
    journal.close()


def test_runs_are_kept_apart(path):
    one, two = Journal(path, "one"), Journal(path, "two")
    one.write("key", {"run": 1})
    assert two.read("key") is None
    two.write("key", {"run": 2})
    assert (one.read("key"), two.read("key")) == ({"run": 1}, {"run": 2})
    assert (len(one), len(two)) == (1, 1)
    one.close()
    two.close()


@pytest.mark.parametrize("in_memory", [lambda p: Journal(None, "run"), lambda p: Journal(p, None)])
def test_without_a_file_or_a_run_nothing_is_kept_on_disk(path, in_memory):
    journal = in_memory(path)
    journal.write("key", RECORD)
    assert journal.read("key") == RECORD
    journal.close()
    assert not path.parent.exists()


def test_a_record_that_is_no_json_is_refused_and_leaves_nothing(path):
    journal = Journal(path, "run")
    with pytest.raises(TypeError):
        journal.write("key", {"object": object()})
    assert journal.read("key") is None
    journal.write("key", {"fine": 1})
    assert journal.read("key") == {"fine": 1}
    journal.close()


def test_the_file_holds_plain_json(path):
    journal = Journal(path, "run")
    journal.write("key", RECORD)
    journal.close()
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT run, key, record FROM rollout").fetchall()
    database.close()
    assert [(run, key, json.loads(record)) for run, key, record in rows] == [("run", "key", RECORD)]


def test_keys_and_runs_may_hold_any_text(path):
    journal = Journal(path, "it's; DROP TABLE rollout")
    journal.write('"k" -- \U0001f642', RECORD)
    assert journal.read('"k" -- \U0001f642') == RECORD
    journal.close()


def test_many_threads_may_write_at_once(path):
    journal = Journal(path, "run")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: journal.write(str(i % 200), {"i": i % 200}), range(400)))
    assert len(journal) == 200
    assert [journal.read(str(i)) for i in range(200)] == [{"i": i} for i in range(200)]
    journal.close()


def test_several_processes_may_write_at_once_and_one_wins_for_each_key(path):
    Journal(path, "run").close()
    code = (
        "import sys; from tuneful.store.journal import Journal\n"
        f"j = Journal({str(path)!r}, 'run')\n"
        "for i in range(100): j.write(str(i), {'by': sys.argv[1]})\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(n)]) for n in range(3)]
    assert [w.wait(30) for w in writers] == [0, 0, 0]
    journal = Journal(path, "run")
    assert len(journal) == 100
    assert {journal.read(str(i))["by"] for i in range(100)} <= {"0", "1", "2"}
    journal.close()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_what_was_written_survives_a_kill(path):
    code = (
        "import os, signal; from tuneful.store.journal import Journal\n"
        f"j = Journal({str(path)!r}, 'run')\n"
        "for i in range(50): j.write(str(i), {'i': i})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == -signal.SIGKILL
    journal = Journal(path, "run")
    assert [journal.read(str(i)) for i in range(50)] == [{"i": i} for i in range(50)]
    journal.write("after", {"i": 50})
    assert len(journal) == 51
    journal.close()


def test_half_a_character_is_kept_as_it_is(tmp_path):
    with Journal(tmp_path / "j.sqlite", "run") as journal:
        journal.write("k", {"text": "\ud83d é"})
        assert journal.read("k") == {"text": "\ud83d é"}
