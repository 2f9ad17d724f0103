"""What an import and an installation cost, against the peer.

    python bench/import_and_size.py [--peer PYTHON] [--rounds 10] [--no-install]

Imports: medians over fresh interpreters, interleaved; `ms` is the statement alone, `process` with start and end of
Python, `peak` the most memory held. Installation: two fresh environments, one with a wheel of this repository, without
extras, and one with the peer from the package index; pip and what else a new environment has are not counted. It needs
pip and takes minutes; `--no-install` leaves it out.
"""

import importlib.metadata
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import PEER, arguments, dispatch, emit, note, number, ratio, rounds, run_case, run_python, table

ROOT = Path(__file__).resolve().parent.parent
PEER_PACKAGE = "dspy==3.4.1"
#: Prints what a statement costs. On its own, so that next to nothing is loaded before; memory as in measure.py.
PROBE = """
import json, re, resource, sys, time
before = len(sys.modules)
begun = time.perf_counter()
exec(sys.argv[1])
ms = 1000 * (time.perf_counter() - begun)
modules = len(sys.modules) - before
try:
    mib = int(re.search("VmHWM:\\\\s+(\\\\d+)", open("/proc/self/status").read())[1]) / 1024
except OSError:
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
print(json.dumps({"ms": ms, "modules": modules, "peak_mib": mib}))
"""
#: What `python -m venv` puts into an environment.
INITIAL = {"pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth"}


def installed():
    """Count the distributions of this environment, and their bytes."""
    home = next(Path(sys.prefix).glob("[Ll]ib*/**/site-packages"))
    files = [
        f
        for entry in home.iterdir()
        if entry.name.split("-")[0] not in INITIAL and entry.name not in INITIAL
        for f in ([entry] if entry.is_file() else entry.rglob("*"))
        if f.is_file()
    ]
    size = {f: f.stat().st_size for f in files}
    names = {d.metadata["Name"].lower() for d in importlib.metadata.distributions(path=[str(home)])}
    emit(
        {
            "distributions": len(names - INITIAL),
            "files": len(files),
            "mib": sum(n for f, n in size.items() if f.suffix != ".pyc") / 2**20,
            "mib_with_bytecode": sum(size.values()) / 2**20,
        }
    )


def imports(options):
    cases = {
        "python alone": ("pass", None),
        "import tuneful": ("import tuneful", None),
        "... and Predict": ("import tuneful as tf; tf.Predict('question -> answer')", None),
        "... and LM, Evaluate": ("import tuneful as tf; tf.LM('openai/m'), tf.Evaluate", None),
        "... and a teleprompter": ("import tuneful as tf; tf.BootstrapFewShot()", None),
    }
    if options.peer:
        cases[PEER] = ("import dspy", options.peer)
        cases[f"{PEER} and Predict"] = ("import dspy; dspy.Predict('question -> answer')", options.peer)
        cases[f"{PEER} and LM, Evaluate"] = ("import dspy; dspy.LM('openai/m'), dspy.Evaluate", options.peer)

    def case(code, python):
        def run():
            begun = time.perf_counter()
            figures = run_python(["-c", PROBE, code], python)
            return {**figures, "process_ms": 1000 * (time.perf_counter() - begun)}

        return run

    found = rounds(options.rounds, {name: case(*what) for name, what in cases.items()})
    print(f"Imports, medians of {options.rounds} fresh interpreters each:\n")
    columns = [
        ("ms", 8, number("ms", ".1f")),
        ("of DSPy", 9, ratio("ms", PEER, ".3f")),
        ("process ms", 12, number("process_ms", ".0f")),
        ("peak MiB", 9, number("peak_mib", ".1f")),
        ("modules loaded", 15, number("modules")),
    ]
    table(columns, found)


def pip(python, *words):
    done = subprocess.run([python, "-m", "pip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"pip {' '.join(words)} failed:\n{done.stderr}")


def installs():
    with tempfile.TemporaryDirectory() as folder:
        note("building the wheel")
        pip(sys.executable, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, str(ROOT))
        wheel = next(Path(folder).glob("tuneful-*.whl"))
        found = {}
        for name, package in {"tuneful": str(wheel), PEER: PEER_PACKAGE}.items():
            note(f"installing {package}")
            home = Path(folder, name.split()[0])
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
            python = str(next(home.glob("[bS]*/python*")))
            pip(python, "install", "--quiet", "--disable-pip-version-check", package)
            found[name] = run_case(__file__, "installed", python=python)
        note("")
    print(f"\nInstallation, without extras ({wheel.name}; {PEER_PACKAGE}):\n")
    columns = [
        ("distributions", 14, number("distributions")),
        ("files", 8, number("files")),
        ("MiB", 8, number("mib", ".1f")),
        ("of DSPy", 9, ratio("mib", PEER)),
        ("MiB with bytecode", 18, number("mib_with_bytecode", ".1f")),
    ]
    table(columns, found)


def main():
    install = "--no-install" not in sys.argv
    sys.argv = [word for word in sys.argv if word != "--no-install"]
    options = arguments(__doc__, rounds=10)
    imports(options)
    if install:
        installs()


if __name__ == "__main__":
    dispatch({"installed": installed}, main)
