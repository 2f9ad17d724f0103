"""The table of answers: bounded, shared by processes and threads, safe against crashes and forks."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tuneful.store.answers import Answers

ROOM = 1_000_000_000

WRITER = """
import sys
from tuneful.store.answers import Answers
path, me, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
answers = Answers(path, 10**9)
print("ready", flush=True)
sys.stdin.readline()
for i in range(count):
    answers.put([(f"own-{me}-{i}", f"own {me} {i} \\u00e9"), (f"shared-{i}", f"shared {i}")])
    assert answers.get(f"own-{me}-{i}") == f"own {me} {i} \\u00e9"
    assert answers.get(f"shared-{i}") == f"shared {i}"
    if i % 50 == 0:
        print(i, flush=True)
"""


def start(path, number, count):
    command = [sys.executable, "-c", WRITER, str(path), str(number), str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def integrity(path):
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]
    finally:
        connection.close()


@pytest.fixture
def answers(tmp_path):
    made = Answers(tmp_path / "folder" / "answers.sqlite", ROOM)
    yield made
    made.close()


def test_the_first_text_of_a_key_stays_unless_it_is_replaced(answers):
    answers.put([("a", "one"), ("b", "two")])
    answers.put([("a", "other")])
    assert [answers.get("a"), answers.get("b"), answers.get("c")] == ["one", "two", None]
    answers.put([("a", "other")], replace=True)
    assert answers.get("a") == "other"
    assert sorted(answers.rows()) == [("a", "other"), ("b", "two")]
    answers.clear()
    assert (len(answers), list(answers.rows())) == (0, [])


def test_four_processes_that_write_and_read_one_new_file_at_once_lose_nothing(tmp_path):
    path, count = tmp_path / "shared.sqlite", 1500
    running = [start(path, number, count) for number in range(4)]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        process.communicate(timeout=60)
    assert [process.returncode for process in running] == [0] * 4

    found = dict(Answers(path, ROOM).rows())
    expected = {f"shared-{i}": f"shared {i}" for i in range(count)}
    expected |= {f"own-{me}-{i}": f"own {me} {i} é" for me in range(4) for i in range(count)}
    assert found == expected
    assert integrity(path) == "ok"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_process_killed_while_it_writes_leaves_everything_that_was_written(tmp_path):
    path = tmp_path / "killed.sqlite"
    process = start(path, 0, 1_000_000)
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()
    for _ in range(4):
        last = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)

    answers = Answers(path, ROOM)
    assert all(answers.get(f"own-0-{i}") == f"own 0 {i} é" for i in range(last + 1))
    answers.put([("after", "the crash")])
    assert answers.get("after") == "the crash"
    answers.close()
    assert integrity(path) == "ok"


def test_threads_may_close_it_while_others_use_it(answers):
    def work(number):
        for i in range(30):
            answers.put([(f"{number}-{i}", f"text {number} {i}")])
            assert answers.get(f"{number}-{i}") == f"text {number} {i}"
            if number == 0:
                answers.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(answers) == 240


def test_the_oldest_go_when_the_bound_is_reached(tmp_path):
    bound = 300_000
    answers = Answers(tmp_path / "small.sqlite", bound)
    for i in range(1000):
        answers.put([(f"{i:04}", "x" * 1000)])
    assert answers.bytes_used() <= 1.1 * bound
    kept = [key for key, _ in answers.rows()]
    assert len(kept) > 100
    assert kept == [f"{i:04}" for i in range(1000 - len(kept), 1000)]
    assert answers._file.stat().st_size <= 1.5 * bound
    answers.close()


def test_the_bound_holds_over_many_processes_that_write_little(tmp_path):
    bound = 300_000
    for run in range(30):
        answers = Answers(tmp_path / "small.sqlite", bound)
        answers.put([(f"{run}-{i}", "x" * 1000) for i in range(20)])
        answers.close()
    assert Answers(tmp_path / "small.sqlite", bound).bytes_used() <= 1.1 * bound


def test_a_relative_path_stays_where_it_was_when_the_working_folder_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answers = Answers("here.sqlite", ROOM)
    answers.put([("a", "one")])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert list(answers.rows()) == [("a", "one")]
    answers.close()
    assert answers.get("a") == "one"
    answers.close()
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("kind", ["corrupt", "folder", "under a file", "other table"])
def test_a_file_that_cannot_be_used_is_an_os_error(tmp_path, kind):
    path = tmp_path / "x.sqlite"
    if kind == "corrupt":
        path.write_bytes(b"this is no database" * 1000)
    elif kind == "folder":
        path.mkdir()
    elif kind == "under a file":
        path.write_text("a file")
        path = path / "cache.sqlite"
    else:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE answer (other TEXT)")
        connection.close()
    answers = Answers(path, ROOM)
    for use in (lambda: answers.get("a"), lambda: answers.put([("a", "b")])):
        with pytest.raises(OSError):
            use()
    answers.close()


def test_a_failed_write_says_what_failed_and_leaves_the_table_usable(answers):
    answers.put([("a", "one")])
    with pytest.raises(UnicodeEncodeError):
        answers.put([("b", "two"), ("c", "half a pair: \ud800")])
    assert answers.get("b") is None
    answers.put([("b", "two")])
    assert answers.get("b") == "two"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_while_threads_write_leaves_both_sides_a_working_file(tmp_path):
    code = """
import os, sys, threading
from tuneful.store.answers import Answers
answers = Answers(sys.argv[1], 10**9)
answers.put([("before", "x")])
stop = threading.Event()
def write(me):
    i = 0
    while not stop.is_set():
        answers.put([(f"thread-{me}-{i}", "x")])
        answers.get(f"thread-{me}-{i}")
        i += 1
threads = [threading.Thread(target=write, args=(me,)) for me in range(3)]
[t.start() for t in threads]
children = []
for child in range(5):
    pid = os.fork()
    if pid == 0:
        for i in range(20):
            answers.put([(f"child-{child}-{i}", "y")])
            assert answers.get(f"child-{child}-{i}") == "y"
        os._exit(0)
    children.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
stop.set()
[t.join() for t in threads]
pid = os.fork()
if pid == 0:
    os.read(0, 1)  # until the parent has closed the file, and taken the log away
    answers.put([("after", "z")])
    os._exit(0)
answers.close()
os.write(int(sys.argv[2]), b"x")
codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(codes, answers.get("after"), sum(k.startswith("child") for k, _ in answers.rows()))
"""
    path = tmp_path / "forked.sqlite"
    reading, writing = os.pipe()
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, str(path), str(writing)]
    done = subprocess.run(command, stdin=reading, pass_fds=[writing], capture_output=True, text=True, timeout=50)
    os.close(reading)
    os.close(writing)
    assert (done.stdout, done.stderr) == ("[0, 0, 0, 0, 0, 0] z 100\n", "")
    assert integrity(path) == "ok"


def test_many_open_one_file_in_the_same_moment(tmp_path):
    barrier = threading.Barrier(16)

    def one(number):
        answers = Answers(tmp_path / "new.sqlite", ROOM)
        barrier.wait()
        answers.put([(str(number), "x")])
        answers.close()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(16)))
    assert len(Answers(tmp_path / "new.sqlite", ROOM)) == 16
