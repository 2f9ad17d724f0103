"""Trainings on the workers of an executor: what they make is as if it were made here."""

import asyncio
import multiprocessing
import pickle
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import pytest

import tuneful as tf
from tuneful.backends.budget import Meter
from tuneful.backends.metered import metered, phase
from tuneful.evaluate import worker as of_rollouts
from tuneful.finetune import remote, worker
from tuneful.finetune.trainer import Trainer
from tuneful.finetune.training_set import TrainingExample, TrainingSet
from tuneful.finetune.tuned_model import HistoryPoint, TunedModel
from tuneful.program.running.executor import Engine
from tuneful.program.running.portal import portal
from tuneful.wire.messages import user

DATA = TrainingSet(tuple(TrainingExample("", (user(f"q{i}"),), f"a{i}") for i in range(8)))


class Small(Trainer):
    """Three steps, which a file counts. One that waits does so before its second step, until it is stopped."""

    travels = True

    def __init__(self, *, waits=False):
        self.waits = waits

    def settings(self):
        return {}

    def check(self, base_model):
        if base_model != "local/base":
            raise tf.UsageError(f"`{base_model}` cannot be trained.")

    def train(
        self, dataset, base_model, *, folder, held_out=None, seed=0, progress=None, display_progress=False, stop=None
    ):
        folder.mkdir(parents=True, exist_ok=True)
        done = folder / "steps"
        for step in range(len(done.read_text()) if done.exists() else 0, 3):
            while step and self.waits and not stop():
                time.sleep(0.01)
            if stop():
                raise tf.TrainingStopped("at a checkpoint", folder=str(folder))
            with done.open("a") as file:
                file.write("x")
            progress(HistoryPoint(step + 1, loss=1.0, tokens=100))
        (folder / "model").mkdir(exist_ok=True)
        (folder / "model" / "weights").write_bytes(f"{len(dataset)} {seed} weights".encode())
        (folder / "lora.gguf").write_bytes(b"lora")
        tuned = TunedModel(
            f"transformers/{folder}/model", base_model, lora=str(folder / "lora.gguf"), folder=str(folder), digest="d"
        )
        tuned.save(folder / "tuned_model.json")
        return tuned


class Travelling(ThreadPoolExecutor):
    """Threads, to which everything travels as to another process."""

    def submit(self, function, *args):
        return super().submit(_called, cloudpickle.dumps((function, args)))


def _called(data):
    function, args = pickle.loads(data)
    return pickle.loads(cloudpickle.dumps(function(*args)))


class Cluster(Engine):
    """Loses the worker of the first trainings, after a step, and stops calls as engines do that reach their workers."""

    lost = (ConnectionResetError,)

    def __init__(self, executor, losses=0):
        super().__init__(executor)
        self.losses = losses

    def submit(self, token, function, *args):
        if not self.losses:
            return super().submit(token, function, *args)
        self.losses -= 1
        Path(args[0].folder, "steps").write_text("x")
        future = Future()
        future.set_exception(ConnectionResetError("worker 7 is gone"))
        return future

    def stop(self, token):
        return of_rollouts.stop(token)


@pytest.fixture
def executor():
    with Travelling(2) as found:
        yield found


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Let the worker see nothing of the driver's folder, and have a folder of its own."""
    monkeypatch.setattr(worker, "_folder_of", lambda errand: (tmp_path / "there" / Path(errand.folder).name, False))
    return tmp_path / "there"


def train(trainer, folder, executor=None, base="local/base", budget=None):
    with tf.context(executor=executor), metered(Meter(budget)) as meter, phase("training"):
        tuned = portal.run(remote.train(trainer, DATA, base, folder=folder, held_out=None, seed=3))
    return tuned, meter


def until(true):
    while not true():
        time.sleep(0.01)


def steps(folder):
    return (folder / "steps").read_text()


def test_a_worker_trains_in_a_folder_that_it_shares_and_what_it_used_is_charged_here(executor, tmp_path):
    tuned, meter = train(Small(), tmp_path / "a", executor)
    _, here = train(Small(), tmp_path / "b")

    assert tuned.model == f"transformers/{tmp_path}/a/model"
    assert (tmp_path / "a" / "model" / "weights").read_bytes().startswith(b"8 3 ")
    assert meter.by_phase() == here.by_phase()
    assert meter.usage.prompt_tokens == 300


def test_what_is_made_elsewhere_comes_back_and_is_not_made_again(executor, elsewhere, tmp_path):
    tuned, _ = train(Small(), tmp_path / "a", executor)
    again, meter = train(Small(), tmp_path / "a", executor)

    assert tuned == again == TunedModel.load(tmp_path / "a" / "tuned_model.json")
    assert (tuned.model, tuned.lora) == (f"transformers/{tmp_path}/a/model", f"{tmp_path}/a/lora.gguf")
    assert Path(tuned.lora).read_bytes() == b"lora"
    assert (tmp_path / "a/model/weights").read_bytes() == (elsewhere / "a/model/weights").read_bytes()
    assert meter.usage.prompt_tokens == 0


@pytest.mark.usefixtures("elsewhere")
def test_what_is_too_large_to_come_back_says_where_it_lies(executor, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "MOST_BYTES", 10)

    with pytest.raises(tf.TrainingError, match="path that driver and workers share") as caught:
        train(Small(), tmp_path / "a", executor)
    assert Path(caught.value.folder, "lora.gguf").exists()


@pytest.mark.parametrize("losses", [1, 3])
def test_a_training_whose_worker_was_lost_goes_on_elsewhere_from_its_checkpoint(executor, tmp_path, losses, caplog):
    _, meter = train(Small(), tmp_path / "a", Cluster(executor, losses))

    assert steps(tmp_path / "a") == "xxx"
    assert meter.usage.prompt_tokens == 200  # of the steps that were not lost
    assert "its training is run again" in caplog.text


def test_a_training_that_loses_every_worker_is_a_typed_error(executor, tmp_path):
    with pytest.raises(tf.WorkerLostError, match="same training: worker 7"):
        train(Small(), tmp_path / "a", Cluster(executor, 99))


def test_a_budget_stops_it_at_a_checkpoint_in_its_own_words(executor, tmp_path):
    with pytest.raises(tf.BudgetExceeded, match=r"tokens=150") as caught:
        train(Small(), tmp_path / "a", executor, budget=tf.Budget(tokens=150))

    assert caught.value.limit == "tokens"
    assert steps(tmp_path / "a") == "xx"
    _, meter = train(Small(), tmp_path / "a", executor)
    assert meter.usage.prompt_tokens == 100


def test_one_that_nobody_wants_any_more_stops_at_a_checkpoint(tmp_path):
    with ThreadPoolExecutor(1) as executor:

        async def cancelled():
            with tf.context(executor=Cluster(executor)):
                task = asyncio.ensure_future(
                    remote.train(Small(waits=True), DATA, "local/base", folder=tmp_path, held_out=None, seed=0)
                )
                await asyncio.to_thread(until, (tmp_path / "steps").exists)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        portal.run(cancelled())
    assert steps(tmp_path) == "x"
    assert not (tmp_path / "tuned_model.json").exists()


def test_what_cannot_be_trained_there_is_told_before_anything_is_spent(executor, tmp_path):
    with tf.context(executor=executor), pytest.raises(tf.UsageError, match="`local/other` cannot be trained"):
        remote.check(Small(), ["local/base", "local/other"])
    with pytest.raises(tf.UsageError, match="`local/other` cannot be trained"):
        remote.check(Small(), ["local/other"])


def test_a_failure_there_is_raised_here_and_the_data_stay(executor, tmp_path):
    class Fails(Small):
        def train(self, dataset, base_model, *, folder, **_):
            raise tf.TrainingError("out of memory: lower `tokens_at_once`", folder=str(folder))

    with pytest.raises(tf.TrainingError, match="out of memory") as caught:
        train(Fails(), tmp_path / "a", executor)
    assert caught.value.folder == str(tmp_path / "a")


def test_a_trainer_that_holds_a_key_stays_here(executor, tmp_path):
    class Stays(Small):
        travels = False

    submitted = []
    executor.submit = lambda *args: submitted.append(args)
    train(Stays(), tmp_path / "a", executor)
    assert submitted == []
    assert not tf.OpenAITrainer(api_key="secret").travels


@pytest.mark.model
def test_a_process_makes_the_weights_that_would_be_made_here(tiny_llama, counting, tmp_path):
    pytest.importorskip("peft")
    trainer = tf.LocalTrainer(False, epochs=0.3, learning_rate=3e-3, device="cpu", threads=1)
    learned, held_out = counting.split(0.1)

    def made(name, executor):
        with tf.context(executor=executor), metered(Meter()) as meter:
            remote_train = remote.train(
                trainer, learned, f"random/{tiny_llama}", folder=tmp_path / name, held_out=held_out, seed=1
            )
            return portal.run(remote_train), meter.usage.prompt_tokens

    here, tokens = made("here", None)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with tf.context(executor=pool):
            remote.check(trainer, [f"random/{tiny_llama}"])
        there, charged = made("there", pool)

    assert there.digest == here.digest
    assert [p.loss for p in there.history] == [p.loss for p in here.history]
    assert charged == tokens > 0
    assert there.model == f"transformers/{tmp_path}/there/model"
