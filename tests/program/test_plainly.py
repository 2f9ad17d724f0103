"""Plain functions that are called very often, on the loop where they are quick; and blocking calls without a loop."""

import asyncio
import contextvars
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import tuneful as tf
from tuneful.program.running.portal import Plainly, portal
from tuneful.testing import ScriptedLM

LOOP = "tuneful-loop"


async def _answer(request):
    await asyncio.sleep(0.001)
    return f"[[ ## a ## ]]\n{request.messages[-1].text.split()[-1]}"


class PlainJudge(tf.Module):
    def __init__(self):
        self.step = tf.Predict("q -> a")

    def forward(self, q):
        return self.step(q=q)


class AsyncJudge(PlainJudge):
    async def forward(self, q):
        return await self.step.acall(q=q)


def evaluated(metric, count=200, **options):
    devset = [tf.Example(q=str(i), a=str(i)).with_inputs("q") for i in range(count)]
    lm = ScriptedLM(_answer)
    with tf.context(lm=lm):
        return tf.Evaluate(devset=devset, metric=metric, num_threads=16, **options)(tf.Predict("q -> a"))


# --- where a metric runs ---


def test_a_quick_metric_ends_up_on_the_loop():
    threads = []

    def metric(example, prediction):
        threads.append(threading.current_thread().name)
        return example.a == prediction.a

    assert evaluated(metric).score == 100
    assert threads[0] != LOOP
    assert threads[-50:] == [LOOP] * 50


def test_a_metric_that_blocks_long_goes_back_to_threads():
    threads = []

    def metric(example, prediction):
        threads.append(threading.current_thread().name)
        if threads.count(LOOP) == 20:
            time.sleep(0.05)
        return True

    assert evaluated(metric).score == 100
    assert threads.count(LOOP) == 20
    assert LOOP not in threads[-50:]


def test_a_metric_that_is_never_quick_stays_in_threads():
    threads = []

    def metric(example, prediction):
        threads.append(threading.current_thread().name)
        time.sleep(0.003)
        return True

    assert evaluated(metric, 60).score == 100
    assert LOOP not in threads


# --- a metric that asks a model, or waits in another way, only for some examples ---


def _ask_predictor(judge, q):
    return tf.Predict("q -> a")(q=q).a


def _ask_lm(judge, q):
    return tf.settings.lm(q)[0].split()[-1]


def _ask_module(judge, q):
    return judge(q=q).a


def _ask_batch(judge, q):
    return judge.batch([{"q": q}, {"q": q}])[1].a


def _ask_by_asyncio_run(judge, q):
    async def ask():
        return (await judge.acall(q=q)).a

    return asyncio.run(ask())


def _ask_by_threads(judge, q):
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda lm: _with(lm, judge, q), [tf.settings.lm] * 2))[1]


def _ask_by_threads_with_context(judge, q):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, lambda: judge(q=q).a).result()


def _with(lm, judge, q):
    with tf.context(lm=lm):
        return judge(q=q).a


def _sleep_in_a_loop(judge, q):
    asyncio.run(asyncio.sleep(0.001))
    return q


@pytest.mark.parametrize("swallows", [True, False])
@pytest.mark.parametrize("judge", [PlainJudge(), AsyncJudge()], ids=["plain", "async"])
@pytest.mark.parametrize(
    "ask",
    [
        _ask_predictor,
        _ask_lm,
        _ask_module,
        _ask_batch,
        _ask_by_asyncio_run,
        _ask_by_threads,
        _ask_by_threads_with_context,
        _sleep_in_a_loop,
    ],
)
def test_a_metric_that_waits_only_for_some_examples_is_right_for_all(ask, judge, swallows, monkeypatch):
    monkeypatch.setattr(type(portal), "PATIENCE_S", 0.05)
    threads = []

    def metric(example, prediction):
        threads.append(threading.current_thread().name)
        number = int(example.q)
        if number < 60 or number % 10:
            return number / 1000
        try:
            return int(ask(judge, example.q)) / 1000
        except Exception:
            if swallows:
                return 0
            raise

    result = evaluated(metric, 120)
    assert LOOP in threads
    assert [row.score for row in result.rows] == [i / 1000 for i in range(120)]


def test_the_rows_of_a_metric_that_asks_are_charged_for_it():
    def metric(example, prediction):
        return int(example.q) < 50 or tf.Predict("q -> a")(q=example.q).a == example.a

    result = evaluated(metric, 80)
    assert [row.usage.calls for row in result.rows] == [1] * 50 + [2] * 30


# --- what the function finds and what comes out of it ---


def test_context_variables_are_those_of_the_call_and_changes_do_not_leak():
    variable = contextvars.ContextVar("variable", default="outside")
    found = []

    def function(number):
        found.append((number, variable.get(), tf.settings.max_repairs))
        variable.set("leaked")
        return number

    async def many():
        plainly = Plainly(function)
        for number in range(40):
            variable.set(str(number))
            with tf.context(max_repairs=number % 2):
                assert await plainly(number) == number
            assert variable.get() == str(number)
        return plainly._quick

    portal.run(many())
    assert found == [(i, str(i), i % 2) for i in range(40)]


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, KeyError, tf.UsageError, tf.LMServerError])
def test_exceptions_come_through_unchanged_from_threads_and_from_the_loop(kind):
    errors = [kind(str(i)) for i in range(40)]
    calls = []

    def function(number):
        calls.append(threading.current_thread().name)
        if number % 10 == 9:
            raise errors[number]
        return number

    async def many():
        plainly, found = Plainly(function), []
        for number in range(40):
            try:
                found.append(await plainly(number))
            except kind as error:
                found.append(error)
        return found

    found = portal.run(many())
    assert [f for i, f in enumerate(found) if i % 10 != 9] == [i for i in range(40) if i % 10 != 9]
    assert all(found[i] is errors[i] for i in (9, 19, 29, 39))
    assert len(calls) == 40
    assert LOOP in calls


def test_no_event_loop_runs_for_the_function_as_in_a_thread():
    def function(number):
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return number

    async def many():
        plainly = Plainly(function)
        found = [await plainly(i) for i in range(30)]
        assert asyncio.get_running_loop() is portal._loop
        return found

    assert portal.run(many()) == list(range(30))


def test_a_lock_of_the_users_own_around_a_call_does_not_hang():
    """A memo around a judge: what waits for the lock must not stop the loop that the holder waits for."""
    lock, memo = threading.Lock(), {}
    judge = tf.Predict("q -> a")

    def metric(example, prediction):
        key = str(int(example.q) % 40)
        with lock:
            if key not in memo:
                memo[key] = judge(q=key).a
        return memo[key] == key

    assert evaluated(metric, 200).score == 100


def test_a_metric_in_the_callers_own_loop_is_right_too():
    def metric(example, prediction):
        return int(example.q) < 100 or tf.Predict("q -> a")(q=example.q).a == example.a

    devset = [tf.Example(q=str(i), a=str(i)).with_inputs("q") for i in range(150)]

    async def main():
        with tf.context(lm=ScriptedLM(_answer)):
            return await tf.Evaluate(devset=devset, metric=metric).acall(tf.Predict("q -> a"))

    assert asyncio.run(main()).score == 100


# --- blocking calls without a loop ---


async def test_a_blocking_call_inside_a_running_loop_works_as_in_a_notebook():
    program = tf.Predict("q -> a").using(lm=ScriptedLM(_answer))
    assert program(q="7").a == "7"
    assert AsyncJudge().using(lm=ScriptedLM(_answer))(q="8").a == "8"
    assert PlainJudge().using(lm=ScriptedLM(_answer))(q="9").a == "9"


@pytest.mark.parametrize("answers_at_once", [True, False])
def test_64_threads_at_once_get_their_own_answers(answers_at_once):
    def at_once(request):
        return f"[[ ## a ## ]]\n{request.messages[-1].text.split()[-1]}"

    program = tf.Predict("q -> a").using(lm=ScriptedLM(at_once if answers_at_once else _answer))
    nested = PlainJudge().using(lm=ScriptedLM(at_once if answers_at_once else _answer))
    barrier = threading.Barrier(64)

    def one(number):
        barrier.wait()
        return [p(q=f"{number}-{i}").a for i in range(5) for p in (program, nested)]

    with ThreadPoolExecutor(64) as pool:
        found = list(pool.map(one, range(64)))
    assert found == [[f"{n}-{i}" for i in range(5) for _ in range(2)] for n in range(64)]


class Sleepy(tf.Predict):
    async def forward(self, **inputs):
        await asyncio.sleep(0.001)
        return await super().forward(**inputs)


class Thoughtful(tf.ChainOfThought):
    async def forward(self, **inputs):
        first, second = await asyncio.gather(super().forward(**inputs), super().forward(**inputs))
        assert first.a == second.a
        return first


def test_a_predictor_of_the_users_own_may_wait_for_anything():
    assert Sleepy("q -> a").using(lm=ScriptedLM(_answer))(q="3").a == "3"
    lm = ScriptedLM(lambda r: "[[ ## reasoning ## ]]\nsince\n\n[[ ## a ## ]]\n4")
    assert Thoughtful("q -> a").using(lm=lm)(q="4").a == "4"


def test_a_predictor_nested_in_plain_forwards_of_plain_forwards():
    class Outer(tf.Module):
        def __init__(self):
            self.inner = PlainJudge()
            self.own = tf.Predict("q -> a")

        def forward(self, q):
            return self.own(q=self.inner(q=q).a)

    program = Outer().using(lm=ScriptedLM(_answer))
    prediction = program(q="5")
    assert (prediction.a, [s.path for s in prediction.trace]) == ("5", ["inner.step", "own"])
    assert [p.a for p in program.batch([{"q": str(i)} for i in range(30)])] == [str(i) for i in range(30)]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("shape", ["Predict", "Plain"])
def test_ctrl_c_leaves_a_blocking_call_and_the_next_one_works(shape):
    code = f"""
import asyncio, os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
import tuneful as tf
from tuneful.testing import ScriptedLM
tf.configure(cache=False)
cancelled = threading.Event()
async def script(request):
    if "slow" not in request.messages[-1].text:
        return "[[ ## a ## ]] fine"
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        cancelled.set()
        raise
class Plain(tf.Module):
    def __init__(self):
        self.step = tf.Predict("q -> a")
    def forward(self, q):
        return self.step(q=q)
program = (Plain() if {shape!r} == "Plain" else tf.Predict("q -> a")).using(lm=ScriptedLM(script))
try:
    program(q="slow")
except KeyboardInterrupt:
    print("stopped", cancelled.wait(5), program(q="quick").a)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert (done.stdout.strip(), done.stderr) == ("stopped True fine", "")


# --- streams across loops ---


async def test_cancelling_who_hears_a_stream_ends_it_and_raises_nothing_else():
    from tuneful.backends.base import Backend
    from tuneful.wire.messages import user
    from tuneful.wire.request import Request
    from tuneful.wire.response import Delta

    closed = threading.Event()

    class Endless(Backend):
        async def stream(self, request):
            try:
                yield Delta("first")
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.01)  # closing a connection takes turns of the loop
                closed.set()

    lm = tf.LM("endless", backend=Endless(), num_retries=0)
    for _ in range(10):
        heard = asyncio.Event()
        closed.clear()

        async def hear(heard=heard):
            async for _ in lm.stream(Request((user("x"),))):
                heard.set()

        task = asyncio.create_task(hear())
        await heard.wait()
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert closed.is_set()
