"""What the benchmarks share: cases in fresh processes, interleaved rounds, medians, one table.

A case is a function of a script, run as `PYTHON SCRIPT --case NAME OPTIONS` by the interpreter that it is for, so that
nothing of one candidate is in the process of another. It prints its figures as one line of JSON.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PEER = "DSPy 3.4.1"
HOW_TO_PEER = "python -m venv peer && peer/bin/pip install dspy==3.4.1"
_HERE = Path(__file__).resolve().parent


def arguments(doc, *, peer=True, rounds=5, **numbers):
    """Read the command line: `--peer`, `--rounds`, and an integer option for each of `numbers`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if peer:
        parser.add_argument("--peer", metavar="PYTHON", help=f"interpreter of the peer's environment: {HOW_TO_PEER}")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds, interleaved (default {rounds})")
    for name, default in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=f"default {default:,}")
    options = parser.parse_args()
    if not peer:
        return options
    if options.peer is None:
        print(f"Without {PEER}: give --peer PYTHON, of an environment made by `{HOW_TO_PEER}`.\n")
    else:  # not resolved: an environment's interpreter is a link, and the link is what tells it where it lives
        options.peer = os.path.abspath(options.peer)  # noqa: PTH100
    return options


# --- processes ---


def run_case(script, case, options=None, python=None, timeout=3600):
    """Run a case in a fresh process and return its figures."""
    script = str(Path(script).resolve())
    return run_python([script, "--case", case, json.dumps(options or {})], python, case, timeout)


def run_python(words, python=None, name="the process", timeout=3600):
    """Run an interpreter in a folder of its own; return the figures it prints.

    The peer's gets none of the variables that steer Python, which are meant for ours.
    """
    environment = {k: v for k, v in os.environ.items() if not (python and k.startswith("PYTHON"))}
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [python or sys.executable, *words],
                capture_output=True,
                text=True,
                cwd=folder,
                env={**environment, "DSPY_CACHEDIR": str(Path(folder, "dspy"))},
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            sys.exit(f"{name} did not end within {timeout} s")
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr or done.stdout}")
    return json.loads(done.stdout.splitlines()[-1])


def emit(figures):
    """Print the figures of a case."""
    print(json.dumps(figures))


def dispatch(cases, main):
    """Run the case that the command line names, or the script."""
    if sys.argv[1:2] == ["--case"]:
        cases[sys.argv[2]](**json.loads(sys.argv[3]))
    else:
        main()


def rounds(count, cases):
    """Run every case once a round, so that a slow minute of the machine falls on all; return medians by name.

    `cases` are functions that return figures, by name.
    """
    runs = {name: [] for name in cases}
    for number in range(count):
        for name, case in cases.items():
            note(f"round {number + 1} of {count}: {name}")
            runs[name].append(case())
    note("")
    return {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]} for name, found in runs.items()
    }


def note(text):
    """Show what is going on, where a person sees it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


# --- one process ---


class Stopwatch:
    """Wall time and processor time (of all threads) of a block."""

    def __enter__(self):
        self._cpu, self._begun = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self._begun
        self.cpu_seconds = time.process_time() - self._cpu

    def figures(self, calls):
        return {
            "calls_per_s": calls / self.seconds,
            "us": 1e6 * self.seconds / calls,
            "cpu_ms": 1e3 * self.cpu_seconds / calls,
            "seconds": self.seconds,
            "peak_mib": peak_mib(),
        }


def peak_mib():
    """Return the most memory that this process has held.

    Linux hands `ru_maxrss` on from the process that started this one, so its own high-water mark is read there.
    """
    return _status("VmHWM")


def memory_mib():
    """Return the memory that this process holds; where the system does not say, the most that it has held."""
    return _status("VmRSS")


def _status(entry):
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(rf"^{entry}:\s+(\d+) kB", status.read_text(), re.MULTILINE)[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


# --- the model server ---


class Server:
    """`server.py` in a process of its own."""

    def __init__(self, wait_ms):
        self._wait_ms = wait_ms

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, str(_HERE / "server.py"), "--serve", str(self._wait_ms)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
            return json.loads(answer.read())

    def count(self):
        """Return how many completions were asked for."""
        return self.get("/count")

    def counted(self, case, expected):
        """Run a case and return its figures; end the script unless it asked for as many completions as it said."""
        before = self.count()
        figures = case()
        if (asked := self.count() - before) != expected:
            sys.exit(f"{asked} completions were asked for, not {expected}: the figures mean nothing.")
        return figures


# --- tables ---


def table(columns, found):
    """Print a table: `columns` are (heading, width, function of (figures, all figures) that returns a text)."""
    widest = max(len(name) for name in found)
    print(" " * widest, *(f"{heading:>{width}}" for heading, width, _ in columns))
    for name, figures in found.items():
        print(f"{name:{widest}}", *(f"{show(figures, found):>{width}}" for _, width, show in columns))


def number(key, form=",.0f"):
    """Return a column's function that shows a figure."""
    return lambda figures, _: format(figures[key], form) if key in figures else ""


def ratio(key, to, form=".2f"):
    """Return a column's function that shows a figure as a multiple of another row's."""
    return lambda figures, found: format(figures[key] / found[to][key], form) + "x" if to in found else ""
