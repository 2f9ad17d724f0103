"""Calls a second when every answer is cached: the second pass of an evaluation, against the peer's own cache.

    python bench/cache.py [--peer PYTHON] [--calls 2000] [--in-flight 256] [--wait-ms 50] [--rounds 5]

`same process`: the pass before filled memory and file. `file only`: a fresh process, over the file that another one
left. For scale, the bare client that asks the server (it has no cache), and bare sqlite3: a key hashed from the body,
one row selected, its JSON read. The script checks that no timed pass asked the server anything.
"""

import hashlib
import json
import shutil
import sqlite3
import tempfile
from pathlib import Path

from clients import CLIENTS, PLACEHOLDER, filled, questions, text_of
from measure import PEER, Server, Stopwatch, arguments, dispatch, emit, number, ratio, rounds, run_case, table
from server import CONTENT, completion
from throughput import body_of_tuneful


def sqlite(calls):
    """Look answers up in SQLite, with nothing around it."""
    template = {"model": "m", "messages": [{"role": "user", "content": "x" * 700 + PLACEHOLDER}]}

    def key(question):
        return hashlib.sha256(json.dumps(filled(template, question), sort_keys=True).encode()).hexdigest()

    database = sqlite3.connect("bare.sqlite")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE answers (key TEXT PRIMARY KEY, body BLOB)")
    with database:
        database.executemany("INSERT INTO answers VALUES (?, ?)", ((key(q), completion()) for q in questions(calls)))
    asked = questions(calls)
    with Stopwatch() as watch:
        for question in asked:
            (body,) = database.execute("SELECT body FROM answers WHERE key = ?", (key(question),)).fetchone()
            assert text_of(body) == CONTENT
    database.close()
    emit(watch.figures(calls))


def main():
    options = arguments(__doc__, calls=2000, in_flight=256, wait_ms=50)
    template = body_of_tuneful()
    everything = options.calls + options.in_flight  # with those that warm up
    with Server(options.wait_ms) as server, tempfile.TemporaryDirectory() as folder:
        load = {"port": server.port, "calls": options.calls, "in_flight": options.in_flight}

        def pair(name, client, place, python=None):
            """Return the two cases of a framework; the second takes over what the first has left in the file."""

            def run(asked, cold_passes):
                more = {"cache": str(place), "cold_passes": cold_passes}
                return server.counted(lambda: run_case(CLIENTS, client, {**load, **more}, python), asked)

            def same_process():
                shutil.rmtree(place.parent, ignore_errors=True)
                place.parent.mkdir()
                return run(everything, cold_passes=1)

            return {f"{name}, same process": same_process, f"{name}, file only": lambda: run(0, cold_passes=0)}

        def bare():
            return server.counted(lambda: run_case(CLIENTS, "aiohttp", {**load, "template": template}), everything)

        cases = {
            "bare aiohttp, no cache": bare,
            "bare sqlite3": lambda: run_case(__file__, "sqlite", {"calls": options.calls}),
            **pair("tuneful", "tuneful", Path(folder, "tuneful", "cache.sqlite")),
        }
        if options.peer:
            cases |= pair(PEER, "dspy", Path(folder, "peer", "cache"), options.peer)
        found = rounds(options.rounds, cases)
    print(
        f"{options.calls:,} calls, all cached, {options.in_flight} in flight; medians of {options.rounds} rounds. "
        f"The server waits {options.wait_ms} ms where it is asked.\n"
    )
    columns = [
        ("calls/s", 9, number("calls_per_s")),
        ("of DSPy, same process", 22, ratio("calls_per_s", f"{PEER}, same process", ".1f")),
        ("of DSPy, file only", 19, ratio("calls_per_s", f"{PEER}, file only", ".1f")),
        ("cpu ms/call", 12, number("cpu_ms", ".3f")),
        ("peak MiB", 9, number("peak_mib", ".1f")),
    ]
    table(columns, found)


if __name__ == "__main__":
    dispatch({"sqlite": sqlite}, main)
