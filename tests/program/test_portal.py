"""The bridge between blocking and asynchronous code."""

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import tuneful as tf
from tuneful.program.running.portal import Portal
from tuneful.testing import ScriptedLM

VARIABLE = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def portal():
    made = Portal()
    yield made
    made.close()


async def where():
    return threading.current_thread().name


def test_work_runs_on_the_background_loop(portal):
    assert portal.run(where()) == "tuneful-loop"
    assert not portal.inside()


async def test_bring_runs_on_the_background_loop_from_any_other(portal):
    assert await portal.bring(where()) == "tuneful-loop"


def test_bring_on_the_background_loop_stays_there(portal):
    async def twice():
        return await portal.bring(where()), portal.inside()

    assert portal.run(twice()) == ("tuneful-loop", True)


async def test_blocking_functions_run_in_worker_threads(portal):
    assert (await portal.in_thread(lambda: threading.current_thread().name)).startswith("tuneful-worker")


async def test_context_variables_travel_with_every_hand_over(portal):
    async def read():
        return VARIABLE.get(), await portal.in_thread(VARIABLE.get)

    VARIABLE.set("here")
    assert await portal.bring(read()) == ("here", "here")
    assert await portal.in_thread(lambda: portal.run(read())) == ("here", "here")


async def test_what_a_thread_sets_does_not_come_back(portal):
    await portal.in_thread(lambda: VARIABLE.set("there"))
    assert VARIABLE.get() == "unset"


def test_exceptions_come_out_as_they_are(portal):
    async def broken():
        raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        portal.run(broken())
    with pytest.raises(KeyError, match="own"):
        asyncio.run(portal.bring(broken()))


def test_waiting_for_oneself_is_a_usage_error(portal):
    async def outer():
        return portal.run(where())

    with pytest.raises(tf.UsageError, match="acall"):
        portal.run(outer())


async def test_cancelling_reaches_the_background_loop(portal):
    cleaned_up = threading.Event()

    async def slow():
        try:
            await asyncio.sleep(30)
        finally:
            cleaned_up.set()

    task = asyncio.create_task(portal.bring(slow()))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(cleaned_up.wait, 5)


def test_after_close_it_starts_again(portal):
    portal.run(where())
    portal.close()
    portal.close()
    assert portal.run(where()) == "tuneful-loop"


def test_close_closes_generators_that_are_open_on_the_loop(portal):
    ended = threading.Event()

    async def parts():
        try:
            yield 1
            yield 2
        finally:
            ended.set()

    generator = parts()

    async def first():
        return await anext(generator)

    assert portal.run(first()) == 1
    portal.close()
    assert ended.is_set()


def test_many_threads_may_start_it_at_once(portal):
    barrier = threading.Barrier(16)

    async def loop():
        return id(asyncio.get_running_loop())

    def start(_):
        barrier.wait(5)
        return portal.run(loop())

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(start, range(16)))) == 1


def test_deep_recursion_of_blocking_and_asynchronous_forwards_does_not_hang():
    class Down(tf.Module):
        def forward(self, n):
            return n if n == 0 else Across()(n=n - 1)

    class Across(tf.Module):
        async def forward(self, n):
            return n if n == 0 else await Down().acall(n=n - 1)

    assert Down()(n=40) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_starts_its_own_and_the_interpreter_exits_cleanly():
    code = """
import os, sys
import tuneful as tf
from tuneful.testing import ScriptedLM
program = tf.Predict("q -> a").using(lm=ScriptedLM(lambda r: "[[ ## a ## ]] x"))
assert program(q="1").a == "x"
pid = os.fork()
assert program(q="2").a == "x"
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]  # newer Pythons warn of every fork
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_stops_a_blocking_call_and_cancels_it():
    code = """
import asyncio, os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
import tuneful as tf
from tuneful.testing import ScriptedLM
seen = threading.Event()
async def slow(request):
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        seen.set()
        raise
try:
    tf.Predict("q -> a").using(lm=ScriptedLM(slow))(q="x")
except KeyboardInterrupt:
    print("stopped", seen.wait(5))
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]  # newer Pythons warn of every fork
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.stdout.strip(), done.stderr) == ("stopped True", "")


# --- many at once ---


def _two_lms():
    """Return two LMs that answer with their own name and the question."""
    return {
        name: ScriptedLM(
            lambda r, name=name: f"[[ ## answer ## ]]\n{name} {r.messages[-1].content.split()[-1]}", model=name
        )
        for name in ("one", "two")
    }


class SyncProgram(tf.Module):
    def __init__(self):
        self.steps = [tf.Predict("question -> answer") for _ in range(2)]

    def forward(self, question):
        first = self.steps[0](question=question).answer
        return self.steps[1](question=first)


class AsyncProgram(SyncProgram):
    async def forward(self, question):
        first = (await self.steps[0].acall(question=question)).answer
        return await self.steps[1].acall(question=first)


def _seen(prediction):
    """Return everything of a run that another run could have got into."""
    trace = [(s.path, s.model, s.inputs["question"], s.outputs["answer"]) for s in prediction.trace]
    return prediction.answer, trace


def _expected(name, number):
    steps = [("steps[0]", name, f"{number}", f"{name} {number}")]
    steps.append(("steps[1]", name, f"{name} {number}", f"{name} {number}"))
    return f"{name} {number}", steps


@pytest.mark.parametrize("program", [SyncProgram(), AsyncProgram()], ids=["sync", "async"])
def test_1000_blocking_calls_from_64_threads_do_not_mix(program):
    lms = _two_lms()

    def one(number):
        name = "one" if number % 2 else "two"
        with tf.context(lm=lms[name]):
            return _seen(program(question=str(number)))

    with ThreadPoolExecutor(64) as pool:
        found = list(pool.map(one, range(1000)))
    assert found == [_expected("one" if i % 2 else "two", i) for i in range(1000)]
    assert [one(i) for i in range(20)] == found[:20]
    assert len(lms["one"].requests) == 1000 + 20


@pytest.mark.parametrize("program", [SyncProgram(), AsyncProgram()], ids=["sync", "async"])
async def test_1000_calls_in_one_loop_do_not_mix(program):
    lms = _two_lms()

    async def one(number):
        name = "one" if number % 2 else "two"
        with tf.context(lm=lms[name]):
            return _seen(await program.acall(question=str(number)))

    found = await asyncio.gather(*map(one, range(1000)))
    assert found == [_expected("one" if i % 2 else "two", i) for i in range(1000)]
    assert [await one(i) for i in range(20)] == found[:20]
