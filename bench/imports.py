"""What an import costs: modules loaded, wall time, memory, against the peer.

    python bench/imports.py [PYTHON_WITH_DSPY]

Each figure is the median of 7 fresh processes. The peer needs an environment of its own, named by its interpreter.
"""

import json
import statistics
import subprocess
import sys

PROBE = """
import json, resource, sys, time
before = len(sys.modules)
begun = time.perf_counter()
{code}
seconds = time.perf_counter() - begun
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([len(sys.modules), len(sys.modules) - before, seconds * 1000, memory]))
"""
RUNS = 7

CASES = [
    ("python alone", sys.executable, "pass"),
    ("import tuneful", sys.executable, "import tuneful"),
    ("... and Predict", sys.executable, "import tuneful as tf; tf.Predict('q -> a')"),
    ("... and a teleprompter", sys.executable, "import tuneful as tf; tf.BootstrapFewShot()"),
]


def measure(python, code):
    runs = []
    for _ in range(RUNS):
        done = subprocess.run(
            [python, "-c", PROBE.format(code=code)], capture_output=True, text=True, check=True, timeout=120
        )
        runs.append(json.loads(done.stdout))
    return [statistics.median(column) for column in zip(*runs, strict=True)]


def main():
    cases = list(CASES)
    if len(sys.argv) > 1:
        cases += [
            ("import dspy (peer)", sys.argv[1], "import dspy"),
            ("... and Predict", sys.argv[1], "import dspy; dspy.Predict('q -> a')"),
        ]
    print(f"{'':24} {'in sys.modules':>14} {'newly loaded':>12} {'ms':>8} {'MiB':>7}   medians of {RUNS}")
    for name, python, code in cases:
        total, new, ms, memory = measure(python, code)
        print(f"{name:24} {total:14.0f} {new:12.0f} {ms:8.1f} {memory:7.1f}")


if __name__ == "__main__":
    main()
