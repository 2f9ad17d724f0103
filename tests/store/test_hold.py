"""A name of a journal that one process has for itself."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from tuneful.store import hold
from tuneful.store.hold import Hold


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(hold, "_PATIENCE_S", 0.1)


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "new" / "j.sqlite"


def test_one_has_a_name_at_a_time_and_another_once_it_lets_go(journal):
    with Hold(journal, "mine"):
        with pytest.raises(BlockingIOError, match="mine"):
            Hold(journal, "mine")
        Hold(journal, "yours").close()
    Hold(journal, "mine").close()


def test_any_text_is_a_name(journal):
    for name in ("", "../x", "a/b", "two\nlines", "\ud800", "x" * 5000):
        Hold(journal, name).close()


HOLDER = """
import os, sys, time
from tuneful.store.hold import Hold
held = Hold(sys.argv[1], "mine")
if sys.argv[2] == "forked" and os.fork() == 0:
    time.sleep(30)
    os._exit(0)
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["alone", "forked"])
def test_it_ends_with_a_process_that_is_killed_also_where_a_child_of_it_lives_on(journal, how):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, journal, how], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError):
            Hold(journal, "mine")
        process.kill()
        process.wait()

        Hold(journal, "mine").close()
    finally:
        os.killpg(process.pid, signal.SIGKILL) if how == "forked" else process.kill()
        process.stdout.close()
        process.wait()


def test_who_is_about_to_let_go_is_waited_for(journal, monkeypatch):
    monkeypatch.setattr(hold, "_PATIENCE_S", 10)
    first = Hold(journal, "mine")
    threading.Timer(0.2, first.close).start()

    Hold(journal, "mine").close()
