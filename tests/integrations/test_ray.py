"""Rollouts on Ray, on a cluster of this machine, one of whose workers is killed. It takes half a minute."""

import asyncio
import os
import signal
import sys
import types

import pytest

import tuneful as tf
from tuneful.evaluate import remote
from tuneful.testing import Landscape, ScriptedLM, SimulatedLM

ray = pytest.importorskip("ray", reason="pip install 'tuneful[ray]'")

pytestmark = [
    pytest.mark.model,  # as slow as those
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray's own processes
]


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
        yield
        ray.shutdown()


def make_rows(n):
    return [tf.Example(question=f"q{i}", answer=f"a{i}").with_inputs("question") for i in range(n)]


def exact():
    return lambda example, prediction, trace=None: example.answer == prediction.answer


def deadly(folder, times):
    """Return a program that kills its own process at row 5, so many times; of a class that no worker can import."""

    class Deadly(tf.Module):
        def __init__(self):
            self.answer = tf.Predict("question -> answer")

        def forward(self, question):
            for time in range(times if question == "q5" else 0):
                try:
                    (folder / str(time)).touch(exist_ok=False)
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
            return self.answer(question=question)

    return Deadly()


def test_an_evaluation_gives_what_it_gives_in_one_process_although_a_worker_is_killed(cluster, tmp_path):
    rows = make_rows(12)
    lm = SimulatedLM(rows, Landscape(base=0.6))
    evaluate = tf.Evaluate(devset=rows, metric=exact())

    with tf.context(lm=lm):
        here = evaluate(tf.Predict("question -> answer"))
    with tf.context(lm=lm, executor="ray"):
        there = evaluate(deadly(tmp_path, 1))

    assert [r.score for r in there.rows] == [r.score for r in here.rows]
    assert 0 < there.score < 100
    assert there.usage.calls == 12
    assert there.rows[5].trace.events[remote.LOST] == 1


def test_a_rollout_that_kills_every_worker_is_a_typed_error(cluster, tmp_path):
    rows = make_rows(6)

    with tf.context(lm=SimulatedLM(rows), executor="ray"), pytest.raises(tf.WorkerLostError, match="4 workers of Ray"):
        tf.Evaluate(devset=rows[5:], metric=exact())(deadly(tmp_path, 9))


async def test_a_cancelled_evaluation_leaves_the_workers_free_and_is_charged(cluster, tmp_path):
    rows = make_rows(2)
    lm = SimulatedLM(rows, Landscape(base=1.0))
    slow = SimulatedLM(rows, seconds=300)

    class Two(tf.Module):
        def __init__(self):
            self.answer = tf.Predict("question -> answer")

        def forward(self, question):
            self.answer(question=question)
            (tmp_path / question).touch()
            return self.answer(question=question, lm=slow)

    evaluate = tf.Evaluate(devset=rows, metric=exact())
    with tf.context(lm=lm, executor="ray"), tf.track_usage() as meter:
        task = asyncio.ensure_future(evaluate.acall(Two()))
        while len(list(tmp_path.iterdir())) < 2:  # noqa: ASYNC110 (it happens in other processes)
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert meter.usage.calls == 2
        assert (await evaluate.acall(tf.Predict("question -> answer"))).score == 100


def test_code_that_the_workers_lack_is_named(cluster, monkeypatch):
    module = types.ModuleType("only_at_the_driver")
    exec("def metric(example, prediction, trace=None):\n    return 1", vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)

    with (
        tf.context(lm=ScriptedLM(lambda r: ""), executor="ray"),
        pytest.raises(tf.UsageError, match="only_at_the_driver"),
    ):
        tf.Evaluate(devset=make_rows(1), metric=module.metric)(tf.Predict("question -> answer"))
