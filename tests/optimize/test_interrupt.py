"""Ctrl-C during a compile: the first ends it in good order, the second at once."""

import asyncio
import os
import signal

import pytest

import tuneful as tf
from tuneful.backends.budget import Meter
from tuneful.optimize.interrupt import interruptible
from tuneful.optimize.teleprompter import Teleprompter
from tuneful.optimize.trial import Trial
from tuneful.store.runs import Runs
from tuneful.testing import ScriptedLM

QA = tf.Predict("question -> answer")


@pytest.fixture(autouse=True)
def usual_ctrl_c():
    """A job in the background of a shell ignores Ctrl-C: here it is heard as in a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class InterruptedLM(ScriptedLM):
    """Answers rightly once demos are shown; the process gets Ctrl-C when it is asked for the n-th time."""

    def __init__(self, at):
        self.cancelled = 0

        async def script(request):
            number = request.messages[-1].content.rsplit("q", 1)[1].split()[0]
            if len(self.requests) == at:
                os.kill(os.getpid(), signal.SIGINT)
            try:
                await asyncio.sleep(0.002 if len(self.requests) < at else 30)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            right = len(request.messages) > 2 or int(number) % 3 == 0
            return f"[[ ## answer ## ]] {'a' if right else 'no'}{number}"

        super().__init__(script)


def compiled_with(lm, rows, metric, **given):
    with tf.context(lm=lm, num_threads=4):
        return tf.BootstrapFewShot(metric=metric, max_labeled_demos=0).compile(
            QA, trainset=rows(30), valset=rows(80, start=100), **given
        )


def test_during_the_search_what_is_in_flight_is_cancelled_and_the_original_comes_back(rows, metric, capsys):
    before = signal.getsignal(signal.SIGINT)
    lm = InterruptedLM(at=6)
    compiled = compiled_with(lm, rows, metric)

    assert lm.cancelled
    assert compiled.report.verdict == "not compared"
    assert compiled.report.stop_reason == "interrupted (Ctrl-C) during the search"
    assert compiled.demos == []
    said = capsys.readouterr().err
    assert "best so far" not in said  # the original comes back: nothing was compared
    assert "Press Ctrl-C again to stop at once" in said
    assert signal.getsignal(signal.SIGINT) is before


def test_during_the_comparison_the_verdict_is_on_the_rows_that_there_are(rows, metric):
    lm = InterruptedLM(at=110)  # the search takes some 20 calls, a block of both programs 32
    compiled = compiled_with(lm, rows, metric)

    assert compiled.report.stop_reason == "interrupted (Ctrl-C) during the comparison, after 48 of 80 rows"
    assert compiled.report.comparison.n == 48
    assert compiled.report.verdict == "better"
    assert compiled.demos


def test_an_interrupted_run_goes_on_when_it_is_started_again(rows, metric, tmp_path):
    with tf.context(journal=str(tmp_path / "j.sqlite")):
        compiled_with(InterruptedLM(at=110), rows, metric, run="mine")
        lm = InterruptedLM(at=10_000)
        compiled = compiled_with(lm, rows, metric, run="mine")

    assert compiled.report.stop_reason == "finished"
    assert compiled.report.comparison.n == 80
    assert len(lm.requests) < 110


def test_the_second_interrupt_of_a_compile_ends_it_at_once_and_the_run_goes_on_when_it_is_started_again(
    rows, metric, tmp_path
):
    class TwiceLM(InterruptedLM):
        """Gets the second Ctrl-C while what the first has cancelled is on its way out."""

        def __init__(self, at):
            super().__init__(at)
            patient = self._scripted._script

            async def script(request):
                try:
                    return await patient(request)
                except asyncio.CancelledError:
                    if self.cancelled == 1:  # of all that are in flight, the first
                        os.kill(os.getpid(), signal.SIGINT)
                    await asyncio.sleep(0.5)
                    raise

            self._scripted._script = script

    path = tmp_path / "j.sqlite"
    with tf.context(journal=str(path)):
        with pytest.raises(KeyboardInterrupt):
            compiled_with(TwiceLM(at=60), rows, metric, run="mine")
        lm = InterruptedLM(at=10_000)
        compiled = compiled_with(lm, rows, metric, run="mine")
    with Runs(path) as runs:
        assert runs.named("mine").starts == 2

    assert compiled.report.stop_reason == "finished"
    assert compiled.report.replayed > 40


def test_what_ended_a_run_at_once_stands_in_its_row(rows, metric, tmp_path):
    async def cancelled():
        task = asyncio.ensure_future(tf.BootstrapFewShot(metric=metric).acompile(QA, trainset=rows(40), run="mine"))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.wait([task])

    path = tmp_path / "j.sqlite"
    with tf.context(journal=str(path), lm=InterruptedLM(at=-1)):
        asyncio.run(cancelled())
    with Runs(path) as runs:
        assert (runs.named("mine").status, runs.named("mine").progress) == ("stopped", "cancelled")


def test_the_second_interrupt_is_a_keyboard_interrupt():
    with interruptible() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


async def test_a_compile_that_is_cancelled_is_cancelled(rows, metric, landscape):
    with tf.context(lm=landscape(0.3, 0.9, seconds=0.05)):
        task = asyncio.ensure_future(tf.BootstrapFewShot(metric=metric).acompile(QA, trainset=rows(40)))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


class Two(Teleprompter):
    """Runs two candidates in one wave, and takes those that it is told of."""

    def __init__(self, metric):
        self.metric = metric

    def ask(self, brief, state):
        rows = tuple(range(10))
        return [] if state else [Trial({"instructions": text}, rows) for text in ("First.", "Second.")]

    def tell(self, brief, state, results):
        return {"told": [trial.candidate for trial, _ in results]}

    def finalists(self, brief, state):
        return state.get("told", [])


@pytest.mark.parametrize(("limit", "told"), [("ctrl-c", True), ("seconds", True), ("calls", False)])
def test_of_a_wave_that_a_clock_breaks_off_the_trials_that_are_done_count(limit, told, rows, metric, monkeypatch):
    monkeypatch.setattr(Meter, "seconds", property(lambda meter: 100.0 * (len(lm.requests) >= 13)))

    async def script(request):
        if limit == "ctrl-c" and len(lm.requests) == 13:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(30)
        return "[[ ## answer ## ]]\na1"

    budget = {"seconds": tf.Budget(seconds=50), "calls": tf.Budget(calls=13)}.get(limit)
    lm = ScriptedLM(script)
    with tf.context(lm=lm, num_threads=1):
        report = Two(metric).compile(QA, trainset=rows(10), valset=rows(20, start=100), budget=budget).report

    assert len(lm.requests) == 13
    assert report.verdict == ("not compared" if told else "nothing learned")
    assert report.candidate == ({"instructions": "First."} if told else {})
