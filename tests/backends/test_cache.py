"""The cache: answers by key, in memory over a file."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import tuneful as tf
from tuneful.backends.cache import DEFAULT_PATH, Cache
from tuneful.wire.messages import ToolCall
from tuneful.wire.response import Choice, Response, Usage

RICH = Response(
    (Choice("naïve 数 \U0001f642", "tools", (("a", -0.5),), (ToolCall("1", "f", '{"x": 1}'),), "thoughts"),),
    Usage(1, 10, 4, 3, 0.25, reasoning_tokens=2, seconds=1.5),
    "model-1",
)
HALVES = Response((Choice("half a pair \ud800, the other \udc00, 数"),))


def answer(text):
    return Response((Choice(text),))


def keep(cache, *answers):
    asyncio.run(cache.keep(answers))


def text_of(cache, key):
    found = cache.find([key])[0]
    return found and found.text


@pytest.fixture(params=["memory", "file"])
def cache(request, tmp_path):
    made = Cache(None if request.param == "memory" else tmp_path / "cache.sqlite")
    yield made
    made.close()


@pytest.fixture
def default_path(tmp_path, monkeypatch):
    """The default path, where it cannot be used: its folder is a file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".tuneful").write_text("a file")


# --- finding and keeping ---


def test_an_answer_comes_back_as_it_was_and_as_a_hit(cache):
    keep(cache, ("a", RICH))
    (found,) = cache.find(["a"])
    assert (found.choices, found.usage, found.model, found.hit) == (RICH.choices, RICH.usage, "model-1", True)


def test_an_answer_comes_back_the_same_from_the_file_alone(tmp_path):
    keep(Cache(tmp_path / "c.sqlite"), ("a", RICH), ("b", HALVES))
    fresh = Cache(tmp_path / "c.sqlite")
    a, b = fresh.find(["a", "b"])
    assert (a.choices, a.usage, a.model, a.hit) == (RICH.choices, RICH.usage, "model-1", True)
    assert b.choices == HALVES.choices


def test_hits_and_misses_are_counted(cache):
    keep(cache, ("a", RICH))
    cache.find(["a", "b", "c"])
    cache.find(["a"])
    assert (cache.hits, cache.misses) == (2, 2)
    assert "2 hits, 2 misses" in repr(cache)


def test_the_first_answer_stays_unless_it_is_recorded_anew(tmp_path):
    for mode, kept in (("readwrite", "one"), ("record", "three")):
        cache = Cache(tmp_path / f"{mode}.sqlite", mode=mode)
        for text in ("one", "two", "three"):
            keep(Cache(cache.path, mode=mode), ("a", answer(text)))
        assert text_of(Cache(cache.path), "a") == kept


def test_a_mode_that_is_changed_counts_from_then_on(tmp_path):
    cache = Cache(tmp_path / "c.sqlite")

    async def both():
        await cache.keep([("a", answer("one"))])
        cache.mode = "record"
        await cache.keep([("a", answer("two"))])

    asyncio.run(both())
    assert text_of(Cache(cache.path), "a") == "two"


def test_a_mode_that_is_none_is_a_usage_error():
    with pytest.raises(tf.UsageError, match="Did you mean `replay`"):
        Cache(None, mode="repaly")


def test_half_a_character_pair_blocks_nobody(cache):
    """Models write such halves; UTF-8 cannot hold them."""

    async def all_of_them():
        await asyncio.gather(*[cache.keep([(str(i), HALVES if i % 3 else RICH)]) for i in range(9)])
        await cache.keep([("later", RICH)])

    asyncio.run(asyncio.wait_for(all_of_them(), 20))
    assert text_of(cache, "1") == HALVES.text
    assert text_of(cache, "later") == RICH.text


def test_many_threads_and_loops_at_once(cache):
    def one(number):
        if number % 2:
            keep(cache, *[(f"{number}-{i}", answer(f"{number} {i}")) for i in range(20)])
        else:  # on a thread without a loop
            work = cache.keep([(f"{number}-{i}", answer(f"{number} {i}")) for i in range(20)])
            with pytest.raises(StopIteration):
                work.send(None)
        return [text_of(cache, f"{number}-{i}") for i in range(20)]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(one, range(48)))
    assert found == [[f"{n} {i}" for i in range(20)] for n in range(48)]
    assert len(cache) == 48 * 20


def test_memory_is_bounded_and_the_least_recently_used_go_first():
    cache = Cache(None, memory_bytes=20_000)
    for i in range(100):
        keep(cache, (str(i), answer("x" * 1000)))
        cache.find(["0"])
    assert cache._used <= 20_000
    assert 5 < len(cache) < 20
    assert cache.find(["0"])[0] is not None
    assert cache.find(["1"])[0] is None
    assert cache.find(["99"])[0] is not None


def test_what_memory_dropped_comes_from_the_file(tmp_path):
    cache = Cache(tmp_path / "c.sqlite", memory_bytes=5000)
    for i in range(50):
        keep(cache, (str(i), answer(f"{i}" * 500)))
    assert [text_of(cache, str(i)) for i in range(50)] == [f"{i}" * 500 for i in range(50)]
    assert len(cache) == 50
    cache.close()


def test_clear_forgets_everything(cache):
    keep(cache, ("a", RICH))
    cache.clear()
    assert (cache.find(["a"]), len(cache)) == ([None], 0)


# --- export and load ---


def test_an_export_can_be_loaded_elsewhere(cache, tmp_path):
    keep(cache, ("a", RICH), ("b", HALVES), ("c", answer("line\nbreak \u2028 \x00")))
    assert cache.export(tmp_path / "answers.jsonl") == 3
    other = Cache(None)
    keep(other, ("a", answer("stays")))
    assert other.load(tmp_path / "answers.jsonl") == 3
    assert [text_of(other, k) for k in "abc"] == ["stays", HALVES.text, "line\nbreak \u2028 \x00"]
    cache.clear()
    cache.load(tmp_path / "answers.jsonl")
    assert cache.find(["a"])[0].choices == RICH.choices


GOOD = json.dumps({"key": "good", "response": answer("x").to_json()})


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"7",
        b'{"key": "a"}',
        b'{"key": 5, "response": {"choices": [{"text": "x"}], "usage": {}, "model": ""}}',
        b'{"key": "a", "response": null}',
        b'{"key": "a", "response": {"choices": ["x"], "usage": {}, "model": ""}}',
        b'{"key": "a", "response": {"choices": [{"text": 5}], "usage": {}, "model": ""}}',
        b'{"key": "a", "response": {"choices": [], "usage": {}, "model": ""}}',
        b'{"key": "a", "response": {"choices": [{"text": "x"}], "usage": {"bogus": 1}, "model": ""}}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=lambda line: repr(line[:60]),
)
def test_a_file_that_is_no_export_is_a_usage_error_and_nothing_of_it_is_taken(cache, tmp_path, line):
    (tmp_path / "bad.jsonl").write_bytes(GOOD.encode() + b"\n" + line + b"\n")
    with pytest.raises(tf.UsageError, match=r"bad\.jsonl.*Nothing was taken"):
        cache.load(tmp_path / "bad.jsonl")
    assert len(cache) == 0


def test_a_file_that_is_not_there_is_a_usage_error(cache, tmp_path):
    with pytest.raises(tf.UsageError, match="cannot be read"):
        cache.load(tmp_path / "nowhere.jsonl")


# --- files that cannot be used ---


def _broken(tmp_path, kind):
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
    return path


@pytest.mark.parametrize("kind", ["corrupt", "folder", "under a file", "other table"])
def test_a_path_that_somebody_gave_and_that_cannot_be_used_is_a_usage_error(tmp_path, kind):
    cache = Cache(_broken(tmp_path, kind))
    uses = [
        lambda: cache.find(["a"]),
        lambda: keep(cache, ("a", RICH)),
        lambda: cache.export(tmp_path / "out.jsonl"),
    ]
    if kind != "other table":
        uses += [lambda: len(cache), cache.clear]
    for use in uses:
        cache._memory.clear()
        with pytest.raises(tf.UsageError, match=r"cache file.*cannot be used.*cache=False"):
            use()
    cache.close()


def test_a_default_path_that_cannot_be_used_is_said_once_and_memory_goes_on(default_path, capsys):
    cache = Cache(DEFAULT_PATH)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: (keep(cache, (str(i), answer(str(i)))), text_of(cache, str(i)))[1], range(32)))
    assert found == [str(i) for i in range(32)]
    assert len(cache) == 32
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "cached in memory only" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("body", ["no JSON", "[]", '{"choices": ["x"]}', '{"choices": [{"text": 1}]}', b"\xff\xff"])
def test_a_foreign_row_is_a_usage_error(tmp_path, body):
    cache = Cache(tmp_path / "c.sqlite")
    keep(cache, ("a", RICH))
    cache.close()
    connection = sqlite3.connect(tmp_path / "c.sqlite")
    connection.execute("UPDATE answer SET body=?", (body,))
    connection.commit()
    connection.close()
    with pytest.raises(tf.UsageError, match="cache"):
        Cache(tmp_path / "c.sqlite").find(["a"])


# --- settings ---


def test_one_path_is_one_cache(tmp_path):
    path = str(tmp_path / "c.sqlite")
    with tf.context(cache=path):
        one = tf.settings.cache
    with tf.context(cache=tmp_path / "c.sqlite"):
        assert tf.settings.cache is one
    for off in (None, False):
        with tf.context(cache=off):
            assert tf.settings.cache is None


@pytest.mark.parametrize("value", [7, ["x"], object()])
def test_a_setting_that_is_no_cache_is_a_usage_error(value):
    with pytest.raises(tf.UsageError, match="`cache`"):
        tf.configure(cache=value)


def test_a_home_folder_may_be_written_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    cache = Cache("~/answers.sqlite")
    keep(cache, ("a", RICH))
    cache.close()
    assert (tmp_path / "answers.sqlite").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_in_the_middle_of_calls_blocks_neither_side(tmp_path):
    code = """
import os, sys, threading
import tuneful as tf
from tuneful.testing import ScriptedLM
import asyncio
async def slow(request):
    await asyncio.sleep(0.001)
    return "[[ ## a ## ]] " + request.messages[-1].text[-40:]
tf.configure(cache=sys.argv[1])
program = tf.Predict("q -> a").using(lm=ScriptedLM(slow, cache=True, max_concurrency=2))
stop = threading.Event()
def ask(me):
    i = 0
    while not stop.is_set():
        program(q=f"{me} {i % 200}")
        i += 1
threads = [threading.Thread(target=ask, args=(me,)) for me in range(4)]
[t.start() for t in threads]
codes = []
for child in range(6):
    pid = os.fork()
    if pid == 0:
        for i in range(5):
            program(q=f"child {child} {i}")
            program(q=f"0 {i}")
        os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
stop.set()
[t.join() for t in threads]
print(codes)
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, str(tmp_path / "c.sqlite")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.stderr) == ("[0, 0, 0, 0, 0, 0]\n", "")
