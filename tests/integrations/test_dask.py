"""Rollouts on a Dask cluster of several worker processes, some of which are killed."""

import asyncio
import os
import signal
import sys
import types

import pytest

import tuneful as tf
from tuneful.evaluate import remote
from tuneful.testing import Landscape, ScriptedLM, SimulatedLM

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning:distributed", "ignore::ResourceWarning:tornado")


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0", silence_logs=60
    ) as cluster:
        yield cluster


@pytest.fixture
def address(cluster):
    with distributed.Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2)
    return "dask://" + cluster.scheduler_address.removeprefix("tcp://")


def make_rows(n):
    return [tf.Example(question=f"q{i}", answer=f"a{i}").with_inputs("question") for i in range(n)]


def exact():
    """Return a metric: one that a worker cannot import, as those of a script or a notebook."""
    return lambda example, prediction, trace=None: example.answer == prediction.answer


def echo():
    return lambda request: f"[[ ## answer ## ]] a{request.messages[-1].text.rsplit('q', 1)[1].split()[0]}"


def killing(marker, times=1):
    """Return a script that kills its own process at row 5, so many times."""

    def script(request):
        number = request.messages[-1].text.rsplit("q", 1)[1].split()[0]
        if number == "5":
            for time in range(times):
                try:
                    os.close(os.open(f"{marker}{time}", os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
        return f"[[ ## answer ## ]] a{number}"

    return script


QA = tf.Predict("question -> answer")


def shown(row):
    return row.example, row.prediction, row.score, row.status, row.usage.calls, row.usage.prompt_tokens


def test_an_evaluation_gives_what_it_gives_in_one_process(address):
    rows = make_rows(24)
    lm = SimulatedLM(rows, Landscape(base=0.6))
    evaluate = tf.Evaluate(devset=rows, metric=exact())

    with tf.context(lm=lm):
        here = evaluate(QA)
    with tf.context(lm=lm, executor=address):
        there = evaluate(QA)

    assert [shown(r) for r in there.rows] == [shown(r) for r in here.rows]
    assert 0 < there.score < 100


def test_a_metric_that_exits_ends_no_worker(cluster, address):
    def metric(example, prediction, trace=None):
        return sys.exit(1) if example.question == "q3" else True

    before = {worker.pid for worker in cluster.workers.values()}
    with tf.context(lm=ScriptedLM(echo()), executor=address):
        result = tf.Evaluate(devset=make_rows(12), metric=metric)(QA)

    assert result.statuses == {"ok": 11, "metric_error": 1}
    assert "the metric called sys.exit(1)" in result.rows[3].error
    assert {worker.pid for worker in cluster.workers.values()} == before


def test_a_compile_gives_what_it_gives_in_one_process_although_a_worker_is_killed(address, tmp_path):
    rows = make_rows(40)
    metric = exact()

    class Answer(tf.Module):
        def __init__(self):
            self.answer = tf.Predict("question -> answer")

        def forward(self, question):
            if marker and question == "q7" and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return self.answer(question=question)

    def compiled(executor, run):
        teleprompter = tf.BootstrapFewShotWithRandomSearch(metric=metric, num_candidate_programs=2)
        lm = SimulatedLM(rows, Landscape(base=0.3, any_demo=0.5))
        with tf.context(lm=lm, executor=executor, journal=str(tmp_path / "journal.sqlite")):
            return teleprompter.compile(Answer(), trainset=rows, run=run).report

    marker = None
    here = compiled(None, None)
    marker = tmp_path / "killed"
    there = compiled(address, "x")
    again = compiled(address, "x")

    assert marker.exists()
    assert there.warnings[remote.LOST] >= 1
    assert there.candidate == here.candidate
    assert there.best == here.best
    assert again.candidate == here.candidate
    assert again.replayed > 0


def test_a_worker_that_is_killed_loses_nothing(address, tmp_path):
    lm = ScriptedLM(killing(tmp_path / "killed"))

    with tf.context(lm=lm, executor=address):
        result = tf.Evaluate(devset=make_rows(20), metric=exact())(QA)

    assert result.score == 100
    assert result.rows[5].trace.events[remote.LOST] == 1
    assert result.usage.calls == 20


def test_a_rollout_that_kills_every_worker_is_a_typed_error_with_what_is_known(address, tmp_path):
    lm = ScriptedLM(killing(tmp_path / "killed", times=9))

    with tf.context(lm=lm, executor=address), pytest.raises(tf.WorkerLostError, match="4 workers") as caught:
        tf.Evaluate(devset=make_rows(6)[5:], metric=exact())(QA)

    assert caught.value.attempts == 4
    assert caught.value.worker.startswith("tcp://")
    assert caught.value.example.question == "q5"


async def test_a_cancelled_evaluation_leaves_the_workers_free_and_is_charged(address, tmp_path):
    begun = tmp_path / "begun"

    class Two(tf.Module):
        def __init__(self):
            self.first, self.second = tf.Predict("question -> answer"), tf.Predict("question, answer -> result")

        def forward(self, question):
            answer = self.first(question=question).answer
            begun.with_name(f"begun {question}").touch()
            return self.second(question=question, answer=answer, lm=slow)

    slow = ScriptedLM(echo(), seconds=300)
    evaluate = tf.Evaluate(devset=make_rows(12), metric=exact())
    with tf.context(lm=ScriptedLM(echo()), executor=address), tf.track_usage() as meter:
        task = asyncio.ensure_future(evaluate.acall(Two()))
        while len(list(tmp_path.glob("begun *"))) < 4:  # noqa: ASYNC110 (it happens in other processes)
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 4 <= meter.usage.calls <= 6  # two more may have begun where the first ones were stopped
        assert (await evaluate.acall(QA)).score == 100


def test_a_deadline_is_kept_there(address):
    with tf.context(lm=ScriptedLM(echo(), seconds=300), executor=address):
        result = tf.Evaluate(devset=make_rows(2), metric=exact(), timeout_s=0.2)(QA)

    assert result.statuses == {"timeout": 2}


def test_a_key_does_not_travel_and_the_workers_own_is_read(address, monkeypatch):
    class Asks(tf.Module):
        def __init__(self):
            self.answer = tf.Predict("question -> answer")

        def forward(self, question):
            return tf.Prediction(answer=str(self.answer.lm._source._api_key))

    lm = tf.LM("openai/gpt-4o-mini", api_key="sk-secret-of-the-driver")
    with tf.context(executor=address):
        row = tf.Evaluate(devset=make_rows(1), metric=exact())(Asks().using(lm=lm)).rows[0]

    assert row.prediction.answer == "None"


def test_code_that_the_workers_lack_is_named(address, monkeypatch):
    module = types.ModuleType("only_at_the_driver")
    exec("def metric(example, prediction, trace=None):\n    return 1", vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)

    with tf.context(lm=ScriptedLM(echo()), executor=address), pytest.raises(tf.UsageError, match="only_at_the_driver"):
        tf.Evaluate(devset=make_rows(1), metric=module.metric)(QA)


@pytest.mark.parametrize("kind", ["client", "executor"])
def test_a_client_and_its_executor_are_executors(cluster, address, kind):
    with distributed.Client(cluster, set_as_default=False) as client:
        executor = client if kind == "client" else client.get_executor()
        with tf.context(lm=ScriptedLM(echo()), executor=executor):
            result = tf.Evaluate(devset=make_rows(4), metric=exact())(QA)

    assert result.score == 100


def test_an_address_at_which_nobody_answers_is_a_typed_error(monkeypatch):
    monkeypatch.setattr("tuneful.integrations.dask._CONNECT_S", 0.3)

    with (
        tf.context(lm=ScriptedLM(echo()), executor="dask://127.0.0.1:9"),
        pytest.raises(tf.NotConfiguredError, match="no Dask scheduler"),
    ):
        tf.Evaluate(devset=make_rows(1), metric=exact())(QA)


def test_an_address_is_needed():
    with tf.context(lm=ScriptedLM(echo()), executor="dask"), pytest.raises(tf.UsageError, match="dask://HOST:PORT"):
        tf.Evaluate(devset=make_rows(1), metric=exact())(QA)


def dying(marker):
    """Return a trainer of three steps, which kills its own process before the second, once."""
    from pathlib import Path

    from tuneful.finetune.trainer import Trainer
    from tuneful.finetune.tuned_model import HistoryPoint, TunedModel

    class Dying(Trainer):
        travels = True

        def settings(self):
            return {}

        def check(self, base_model):
            pass

        def train(self, dataset, base_model, *, folder, progress, **_):
            steps = folder / "steps"
            for step in range(len(steps.read_text()) if steps.exists() else 0, 3):
                if step == 1 and not Path(marker).exists():
                    Path(marker).touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                with steps.open("a") as file:
                    file.write(f"{os.getpid() % 10}")
                progress(HistoryPoint(step + 1, loss=1.0, tokens=100))
            tuned = TunedModel(f"transformers/{folder}", base_model, folder=str(folder), digest=f"{len(dataset)}")
            tuned.save(folder / "tuned_model.json")
            return tuned

    return Dying()


def test_a_training_whose_worker_is_killed_goes_on_from_its_checkpoint(address, tmp_path, caplog):
    from tuneful.finetune import TrainingExample, TrainingSet, remote
    from tuneful.program.running.portal import portal
    from tuneful.wire.messages import user

    data = TrainingSet(tuple(TrainingExample("", (user(f"q{i}"),), "a") for i in range(4)))
    trainer = dying(str(tmp_path / "died"))
    with tf.context(executor=address), tf.track_usage() as meter:
        remote.check(trainer, ["local/base"])
        tuned = portal.run(remote.train(trainer, data, "local/base", folder=tmp_path / "a", held_out=None, seed=0))

    assert tuned.digest == "4"
    assert len((tmp_path / "a" / "steps").read_text()) == 3  # no step was taken twice
    assert meter.usage.prompt_tokens == 200
    assert "begun again (1 x)" in caplog.text
