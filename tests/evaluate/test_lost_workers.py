"""Rollouts in other processes: budgets, workers that are lost, and ends before the end."""

import asyncio
import multiprocessing
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from asked import QA, echo, exact, make_rows

import tuneful as tf
from tuneful.backends.budget import Meter
from tuneful.backends.metered import metered
from tuneful.evaluate import remote, sending, worker
from tuneful.program.running.executor import Engine
from tuneful.testing import Landscape, ScriptedLM, SimulatedLM

# --- budgets ---


@pytest.mark.parametrize("limit", [tf.Budget(calls=10), tf.Budget(tokens=600)])
def test_a_budget_is_exceeded_by_no_more_than_the_rollouts_in_flight(limit, travelling):
    rows = make_rows(40)

    def spent(executor):
        lm = SimulatedLM(rows, Landscape(base=0.5))
        teleprompter = tf.BootstrapFewShotWithRandomSearch(
            metric=exact, num_candidate_programs=2, max_bootstrapped_demos=1, max_labeled_demos=1, num_threads=4
        )
        with tf.context(lm=lm, executor=executor, cache=False):
            return teleprompter.compile(QA, trainset=rows, budget=limit).report

    report = spent(travelling)

    assert "budget" in report.stop_reason
    if limit.calls:
        assert report.usage.calls <= 10 + 4
    else:
        assert report.usage.total_tokens <= 600 + 4 * 150  # of a call with a demo
    assert report.usage.calls >= 5


def test_what_is_left_of_a_budget_holds_within_a_rollout(travelling):
    class Many(tf.Module):
        def __init__(self):
            self.answer = tf.Predict("question -> answer")

        def forward(self, question):
            for _ in range(100):
                self.answer(question=question)

    meter = Meter(tf.Budget(calls=5))
    with (
        tf.context(lm=ScriptedLM(echo), executor=travelling),
        metered(meter),
        pytest.raises(tf.BudgetExceeded, match=r"Budget\(calls=5\) is used up"),
    ):
        tf.Evaluate(devset=make_rows(1), metric=exact)(Many())

    assert meter.usage.calls == 5


def test_a_budget_in_dollars_wants_a_price_there_too(travelling):
    lm = ScriptedLM(echo, local=False)

    with (
        tf.context(lm=lm, executor=travelling),
        metered(Meter(tf.Budget(usd=1))),
        pytest.raises(tf.NotConfiguredError, match="price of `scripted`"),
    ):
        tf.Evaluate(devset=make_rows(1), metric=exact)(QA)


# --- workers that are lost ---


class Losing(Engine):
    """Loses the worker of the first rollouts that ask about one row."""

    lost = (ConnectionResetError,)

    def __init__(self, executor, times):
        super().__init__(executor)
        self.times = times

    def submit(self, token, function, *args):
        if self.times and args[0].example.question == "q3":
            self.times -= 1
            future = Future()
            future.set_exception(ConnectionResetError("worker 7 is gone"))
            return future
        return super().submit(token, function, *args)


def test_a_rollout_whose_worker_was_lost_is_run_again_and_that_is_counted(travelling):
    with tf.context(lm=ScriptedLM(echo), executor=Losing(travelling, sending.MOST_LOST)):
        result = tf.Evaluate(devset=make_rows(8), metric=exact)(QA)

    assert result.score == 100
    assert result.noted == {remote.LOST: sending.MOST_LOST}
    assert result.rows[3].trace.events == {remote.LOST: sending.MOST_LOST}
    assert "run again" in repr(result)


def test_a_compile_says_how_many_rollouts_were_run_again(travelling):
    rows = make_rows(30)
    lm = SimulatedLM(make_rows(60), Landscape(base=0.3, any_demo=0.6))

    with tf.context(lm=lm, executor=Losing(travelling, 2)):
        report = tf.BootstrapFewShot(metric=exact).compile(QA, trainset=rows, valset=make_rows(60)[30:]).report

    assert report.warnings[remote.LOST] == 2


def test_a_rollout_that_loses_every_worker_is_a_typed_error_with_what_is_known(travelling):
    with (
        tf.context(lm=ScriptedLM(echo), executor=Losing(travelling, 99)),
        pytest.raises(tf.WorkerLostError, match="worker 7") as caught,
    ):
        tf.Evaluate(devset=make_rows(8), metric=exact)(QA)

    assert caught.value.attempts == sending.MOST_LOST + 1
    assert caught.value.example.question == "q3"
    assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_a_pool_that_broke_is_a_typed_error(tmp_path, monkeypatch):
    (tmp_path / "dying.py").write_text("import os\ndef metric(example, prediction, trace=None):\n    os._exit(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    from dying import metric

    rows = make_rows(4)
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with pool, tf.context(lm=SimulatedLM(rows), executor=pool):
        for _ in range(2):
            with pytest.raises(tf.WorkerLostError, match="takes no more rollouts"):
                tf.Evaluate(devset=rows, metric=metric)(QA)


def test_an_executor_that_was_shut_down_is_a_typed_error():
    pool = ThreadPoolExecutor(1)
    pool.shutdown()

    with tf.context(lm=ScriptedLM(echo), executor=pool), pytest.raises(tf.WorkerLostError, match="shut down"):
        tf.Evaluate(devset=make_rows(1), metric=exact)(QA)


def test_rollouts_that_an_executor_drops_are_a_typed_error():
    class Dropping(Executor):
        def submit(self, function, *args):
            future = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    with tf.context(lm=ScriptedLM(echo), executor=Dropping()), pytest.raises(tf.WorkerLostError, match="dropped"):
        tf.Evaluate(devset=make_rows(1), metric=exact)(QA)


def test_a_rollout_that_somebody_interrupts_at_a_worker_is_run_again(travelling):
    stopped = []

    async def late(request):
        if not stopped:
            stopped.append(worker.stop(next(iter(worker._running))))
            await asyncio.sleep(60)
        return echo(request)

    lm = ScriptedLM(late)
    with ThreadPoolExecutor(1) as executor, tf.context(lm=lm, executor=executor):
        result = tf.Evaluate(devset=make_rows(2), metric=exact)(QA)

    assert stopped == [True]
    assert result.score == 100
    assert result.noted == {remote.LOST: 1}


def test_a_worker_of_another_version_is_refused(travelling, monkeypatch):
    monkeypatch.setattr(worker, "VERSION", "0.0.1")

    with (
        tf.context(lm=ScriptedLM(echo), executor=travelling),
        pytest.raises(tf.UsageError, match=r"has tuneful 0\.0\.1"),
    ):
        tf.Evaluate(devset=make_rows(1), metric=exact)(QA)


# --- ends before the end ---


def test_a_deadline_is_kept_there():
    lm = ScriptedLM(echo, seconds=60)

    with ThreadPoolExecutor(2) as executor, tf.context(lm=lm, executor=executor):
        result = tf.Evaluate(devset=make_rows(2), metric=exact, timeout_s=0.05)(QA)

    assert result.statuses == {"timeout": 2}


class Stopping(Engine):
    """Stops calls, as engines do that can reach their workers."""

    def stop(self, token):
        return worker.stop(token)


async def cancelled_after_one_call_each(engine):
    """Cancel an evaluation of two rows whose programs have made one call, and wait for a second one."""
    waiting = threading.Semaphore(0)

    class Two(tf.Module):
        def __init__(self):
            self.first = tf.Predict("question -> answer")
            self.second = tf.Predict("question, answer -> result")

        async def forward(self, question):
            answer = (await self.first.acall(question=question)).answer
            waiting.release()
            return await self.second.acall(question=question, answer=answer)

    async def script(request):
        if "result" in request.messages[0].text:
            await asyncio.sleep(60)
        return echo(request)

    with tf.context(lm=ScriptedLM(script), executor=engine):
        task = asyncio.ensure_future(tf.Evaluate(devset=make_rows(2), metric=exact).acall(Two()))
        for _ in range(2):
            await asyncio.to_thread(waiting.acquire)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_cancelled_evaluation_stops_its_rollouts_and_is_charged_for_what_they_used():
    with ThreadPoolExecutor(2) as executor, tf.track_usage() as meter:
        await cancelled_after_one_call_each(Stopping(executor))
        assert not worker._running
        assert meter.usage.calls == 2


async def test_rollouts_that_nobody_can_stop_are_charged_when_they_end():
    release = threading.Event()

    class Waits(tf.Module):
        def __init__(self):
            self.answer = tf.Predict("question -> answer")

        def forward(self, question):
            found = self.answer(question=question)
            started.release()
            release.wait(30)
            return found

    started = threading.Semaphore(0)
    with ThreadPoolExecutor(1) as executor, tf.track_usage() as meter:
        with tf.context(lm=ScriptedLM(echo), executor=executor):
            task = asyncio.ensure_future(tf.Evaluate(devset=make_rows(5), metric=exact).acall(Waits()))
            await asyncio.to_thread(started.acquire)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        release.set()

    assert meter.usage.calls == 1  # the other rollouts were never begun
