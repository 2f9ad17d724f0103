"""Kill a compile by SIGKILL at random moments, restart it each time, and look whether anything was lost or paid twice.

    python bench/kill.py                       # the embedded model, 20 kills
    python bench/kill.py --model scripted --rows 40      # a model that answers by script

A call counts as paid when its answer has come back to the program. What is in flight at a kill was sent and never
answered; that is sent again, and counted apart.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    kills: int
    calls: int
    paid_twice: int
    sent_again: int
    same_program: bool
    whole_s: float
    killed_s: float


# --- the process that is killed ---


def child(folder: Path, model: str, rows: int) -> None:
    import tuneful as tf
    from tuneful.demo import program as demo
    from tuneful.testing import ScriptedLM

    class Log(tf.Callback):
        def __init__(self) -> None:
            self.asked: dict[str, str] = {}
            self.file = os.open(folder / "calls.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def on_lm_start(self, call_id, instance, inputs):
            self.asked[call_id] = inputs.key()

        def on_lm_end(self, call_id, outputs, exception=None):
            if outputs is not None and not outputs.hit:
                self.write("paid", self.asked[call_id])

        def write(self, what: str, key: str) -> None:
            os.write(self.file, f"{what} {key}\n".encode())

    log = Log()
    train, held_out = demo.messages()
    known = train + held_out

    def answer(request):
        log.write("sent", request.key())
        turns = [m.text for m in request.messages if m.role == "user"]
        row = next(r for r in known if any(r.message in t for t in turns[::-1][:1]))
        right = random.Random(request.key()).random() < (0.9 if len(turns) > 1 else 0.5)
        if "product" in request.messages[0].text:
            return f"[[ ## product ## ]] {row.product if right else 'thing'}"
        return f"[[ ## language ## ]] {row.language if right else 'french'}"

    if model == "scripted":
        lm = ScriptedLM(answer, seconds=0.004, cache=True)
        teleprompter = tf.BootstrapFewShotWithRandomSearch(
            metric=demo.fields_right, max_bootstrapped_demos=2, max_labeled_demos=3, num_candidate_programs=3
        )
    else:
        lm = tf.LM(model)
        teleprompter = tf.BootstrapFewShot(metric=demo.fields_right, max_bootstrapped_demos=2, max_labeled_demos=3)
    tf.configure(lm=lm, num_threads=4, callbacks=[log], cache=os.environ.get("KILL_CACHE") != "off")
    compiled = teleprompter.compile(
        demo.FrontDesk(), trainset=train[:rows], valset=held_out[:rows], run="killed", seed=1
    )
    compiled.save(folder / "program.json")


# --- the one that kills ---


def start(folder: Path, model: str, rows: int) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        str(Path(__file__).resolve()),
        "--child",
        str(folder),
        "--model",
        model,
        "--rows",
        str(rows),
    ]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)


def logged(folder: Path) -> list[tuple[str, str]]:
    path = folder / "calls.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line.split()[0], line.split()[1]) for line in lines]


def paid(folder: Path) -> int:
    return sum(what == "paid" for what, _ in logged(folder))


def finish(folder: Path, model: str, rows: int) -> None:
    with start(folder, model, rows) as process:
        if process.wait(timeout=600):
            raise RuntimeError(f"the compile ended with exit status {process.returncode}")


def kill_and_restart(folder: Path, *, model: str, kills: int, rows: int, seed: int = 0) -> Outcome:
    """Run a compile without and with kills, and compare."""
    whole, killed = folder / "whole", folder / "killed"
    whole.mkdir()
    killed.mkdir()
    begun = time.monotonic()
    finish(whole, model, rows)
    whole_s, begun = time.monotonic() - begun, time.monotonic()
    rng = random.Random(seed)
    landed = 0
    for wanted in sorted(rng.sample(range(paid(whole)), kills)):
        with start(killed, model, rows) as process:
            while process.poll() is None and paid(killed) < wanted:
                time.sleep(0.002)
            time.sleep(rng.random() * 0.01)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                landed += 1
    finish(killed, model, rows)
    calls = Counter(key for what, key in logged(killed) if what == "paid")
    sent = Counter(key for what, key in logged(killed) if what == "sent")
    programs = [json.loads((f / "program.json").read_text()) for f in (whole, killed)]
    return Outcome(
        landed,
        paid(whole),
        sum(n - 1 for n in calls.values()),
        sum(n - 1 for n in sent.values()),
        programs[0] == programs[1],
        whole_s,
        time.monotonic() - begun,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="local/smollm2", help="an LM, or 'scripted'")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=12, help="rows to search on, and as many held out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        child(given.child, given.model, given.rows)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = kill_and_restart(Path(folder), model=given.model, kills=given.kills, rows=given.rows, seed=given.seed)
    print(f"model                        {given.model}")
    print(f"kills                        {found.kills}")
    print(f"calls of the compile         {found.calls}")
    print(f"calls paid twice             {found.paid_twice}")
    print(f"in flight at a kill          {found.sent_again if given.model == 'scripted' else 'not seen'}")
    print(f"same program as without      {found.same_program}")
    print(f"seconds without, with kills  {found.whole_s:.1f}, {found.killed_s:.1f}")
    if found.paid_twice or not found.same_program:
        sys.exit(1)


if __name__ == "__main__":
    main()
