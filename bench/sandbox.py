"""The sandboxes: how fast they start and run, what they take, and whether they calculate as CPython does.

    python bench/sandbox.py [--programs 1000] [--seed 0]

Start: from nothing to the first result. Run: a short piece of code in a sandbox that is there. Tool: a call of a tool
and back, in a loop. Memory: proportional set size of its process. Programs: generated arithmetic programs (expressions,
loops, functions, lists, texts), each a piece of code in one sandbox, compared with what this Python makes of them.
"""

import argparse
import random
import statistics
import time
from pathlib import Path

from tabulate import tabulate

import tuneful as tf
from tuneful.sandbox import seccomp


def milliseconds(work, times):
    """Median time of a piece of work."""
    spent = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        spent.append(1000 * (time.perf_counter() - begun))
    return statistics.median(spent)


class Programs:
    """Arithmetic programs by chance. Their last line is an expression."""

    def __init__(self, seed):
        self.chance = random.Random(seed)

    def number(self):
        r = self.chance
        return str(r.choice([r.randint(-20, 20), r.randint(0, 10**6), round(r.uniform(-50, 50), 3), r.randint(1, 9)]))

    def expression(self, names, depth=0):
        r = self.chance
        if depth > 3 or r.random() < 0.2:
            return r.choice([*names, self.number()])
        a, b = self.expression(names, depth + 1), self.expression(names, depth + 1)
        positive = f"(abs({b}) + 1)"
        return r.choice(
            [
                f"({a} + {b})",
                f"({a} - {b})",
                f"({a} * {b})",
                f"({a} / {positive})",
                f"({a} // {positive})",
                f"({a} % {positive})",
                f"(int({a}) % 7) ** {r.randint(0, 5)}",
                f"round({a}, {r.randint(0, 4)})",
                f"max({a}, {b})",
                f"({a} if {a} < {b} else {b})",
                f"divmod({a}, {positive})[{r.randint(0, 1)}]",
                f"abs({a})",
                f"-{a}" if a[0] != "-" else f"({a})",
                f"sum([{a}, {b}, {self.number()}])",
                f"float('{{:.3f}}'.format({a}))",
            ]
        )

    def loop(self, names):
        r = self.chance
        return r.choice(
            [
                f"total = 0\nfor i in range({r.randint(1, 30)}):\n    total += {self.expression([*names, 'i'], 2)}\n",
                f"total, n = 0, {r.randint(1, 200)}\nwhile n > 0:\n    total += n % 10\n    n //= {r.randint(2, 9)}\n",
                (
                    f"total = sum({self.expression([*names, 'i'], 2)} "
                    f"for i in range({r.randint(1, 20)}) if i % {r.randint(1, 4)})\n"
                ),
                (
                    f"found = sorted([{self.number()} for _ in range(3)] + [{self.number()}, {self.number()}])\n"
                    f"total = found[{r.randint(0, 4)}]\n"
                ),
                f"a, b = 0, 1\nfor _ in range({r.randint(1, 90)}):\n    a, b = b, a + b\ntotal = a\n",
                (
                    f"counts = {{}}\nfor c in str({r.randint(10**5, 10**12)}):\n"
                    "    counts[c] = counts.get(c, 0) + 1\ntotal = max(counts.values())\n"
                ),
            ]
        )

    def program(self):
        r = self.chance
        text = f"x = {self.number()}\ny = {self.number()}\n"
        names = ["x", "y"]
        if r.random() < 0.7:
            text += self.loop(names)
            names.append("total")
        if r.random() < 0.6:
            text += f"def f(a, b=2):\n    c = {self.expression(['a', 'b'])}\n"
            text += f"    return c if a > b else {self.expression(['a', 'b'])}\n"
            text += f"z = f(x) + f(y, {self.number()})\n"
            names.append("z")
        if r.random() < 0.2:
            function = r.choice(["sqrt", "log", "sin", "floor", "atan"])
            text += f"import math\nw = math.{function}(abs({self.expression(names)}) + 1)\n"
            names.append("w")
        return f"{text}[{', '.join(names)}, {self.expression(names)}, f'{{x:.2f}} {{y!r}}']"


def expected(program):
    """What this Python makes of a program."""
    *lines, last = program.split("\n")
    names = {}
    exec("\n".join(lines), names)
    return eval(last, names)


def compared(interpreter, programs):
    """How many programs give what they should, the seconds that all took, and the first that does not."""
    wrong, failed, first, spent = 0, 0, "", 0.0
    for program in programs:
        wanted = expected(program)
        begun = time.perf_counter()
        try:
            found = interpreter.execute(program).value
        except tf.CodeExecutionError as error:
            failed += 1
            first = first or f"{program}\n-> {error}"
            continue
        finally:
            spent += time.perf_counter() - begun
        if found != wanted:
            wrong += 1
            first = first or f"{program}\n-> {found}, and CPython gives {wanted}"
    return wrong, failed, spent, first


def memory_mib(pid):
    """Proportional set size of a process, in MiB."""
    path = Path(f"/proc/{pid}/smaps_rollup")
    if not path.exists():
        return None
    line = next(line for line in path.read_text().splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) / 1024


def double(x: int) -> int:
    """Double a number."""
    return 2 * x


def measured(name, make, programs):
    """One row of the table."""

    def started():
        with make() as fresh:
            fresh.execute("1 + 1")

    started()  # the first one loads the library
    start = milliseconds(started, 15)
    with make() as interpreter:
        interpreter.execute("1")
        run = milliseconds(lambda: interpreter.execute("sum(i * i for i in range(10))"), 300)
        tool = milliseconds(lambda: interpreter.execute("for i in range(50): double(i)"), 10) / 50
        pid = getattr(interpreter, "_pid", None) or interpreter._process.pid
        memory = memory_mib(pid)
        wrong, failed, spent, first = compared(interpreter, programs)
    same = len(programs) - wrong - failed
    if first:
        print(f"--- {name}, the first that differs:\n{first}\n")
    return [name, start, run, tool, memory, f"{same} of {len(programs)}", wrong, failed, 1000 * spent / len(programs)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    maker = Programs(given.seed)
    programs = []
    while len(programs) < given.programs:
        program = maker.program()
        try:
            expected(program)
        except (OverflowError, ValueError, ZeroDivisionError):  # numbers beyond what floats hold
            continue
        programs.append(program)
    kinds = {"MontyInterpreter": lambda: tf.MontyInterpreter(tools=[double])}
    if not seccomp.lacking():
        kinds["PythonInterpreter"] = lambda: tf.PythonInterpreter(tools=[double])
    rows = [measured(name, make, programs) for name, make in kinds.items()]
    headers = ["sandbox", "start ms", "run ms", "tool ms", "MiB", "as CPython", "other value", "failed", "ms a program"]
    print(tabulate(rows, headers=headers, floatfmt=".2f", tablefmt="github"))


if __name__ == "__main__":
    main()
