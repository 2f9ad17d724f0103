"""BootstrapFinetune and BetterTogether, with a trainer whose model has learned what it was shown, by heart."""

import asyncio
import importlib.util
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import tuneful as tf
from tuneful.finetune.trainer import Trainer
from tuneful.finetune.tuned_model import HistoryPoint, TunedModel
from tuneful.optimize.better_together import BetterTogether
from tuneful.optimize.recipes.bootstrap_finetune import BootstrapFinetune
from tuneful.program.lm import create
from tuneful.testing import ScriptedLM
from tuneful.testing.scripted import ScriptedBackend

QA = tf.Predict("question -> answer")
#: What the fake trainer has made: prompts and completions, by the model's name.
MADE = {}


class ByHeart(Trainer):
    """Makes a model that knows what it was shown: the number of the question is that of the answer."""

    def __init__(self, good=True, seconds=0.0):
        self.good, self.seconds, self.trained = good, seconds, []

    def settings(self):
        return {"good": self.good}

    def check(self, base_model):
        if "untrainable" in base_model:
            raise tf.UsageError(f"`{base_model}` cannot be trained.")

    def train(
        self, dataset, base_model, *, folder, held_out=None, seed=0, progress=None, display_progress=False, stop=None
    ):
        self.trained.append((base_model, dataset, held_out, folder))
        for step in (1, 2, 3):
            time.sleep(self.seconds)
            if stop():
                raise tf.TrainingStopped("stopped at a checkpoint", folder=str(folder))
            progress(HistoryPoint(step, loss=1 / step, seconds=float(step), tokens=100))
        name = f"openai/ft:{len(MADE)}"
        MADE[name] = self.good
        points = tuple(HistoryPoint(s, loss=1 / s, seconds=float(s), tokens=100) for s in (1, 2, 3))
        return TunedModel(name, base_model, folder=str(folder), digest=dataset.content_hash(), history=points)


@pytest.fixture(autouse=True)
def models(monkeypatch, tmp_path):
    """Let the fake models be asked, and keep what is made in a folder of the test's own."""
    MADE.clear()
    asked = []

    def made(model, **options):
        if model not in MADE:
            return create(model, **options)

        def answer(request):
            asked.append(request)
            number = request.messages[-1].content.rsplit("q", 1)[1].split()[0]
            return f"[[ ## answer ## ]] {'a' if MADE[model] else 'no'}{number}"

        return ScriptedBackend(answer)

    monkeypatch.setattr("tuneful.program.lm.create", made)
    monkeypatch.chdir(tmp_path)
    return asked


@pytest.fixture
def usual_ctrl_c():
    """A job in the background of a shell ignores Ctrl-C: here it is heard as in a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def weak(right_every):
    """A model that is right on every n-th question."""

    def answer(request):
        number = request.messages[-1].content.rsplit("q", 1)[1].split()[0]
        return f"[[ ## answer ## ]] {'a' if int(number) % right_every == 0 else 'no'}{number}"

    return ScriptedLM(answer)


def compiled(teleprompter, rows, lm=None, n=60, **options):
    with tf.context(lm=lm or weak(2), cache=False):
        return teleprompter.compile(options.pop("student", QA), trainset=rows(n), valset=rows(60, start=500), **options)


def test_the_successes_of_the_teacher_train_the_students_model(rows, metric, models):
    trainer = ByHeart()
    program = compiled(BootstrapFinetune(metric, trainer=trainer), rows)

    report = program.report
    assert report.verdict == "better"
    assert report.best.mean == 1.0
    ((base, learned, held_out, folder),) = trainer.trained
    assert base == "scripted"
    assert len(learned) + len(held_out) == 30  # every second row
    assert (folder / "data.jsonl").read_text().count("\n") == 30
    assert models[0].messages == program.render(question="q500").messages  # asked as it was trained
    assert any("30 runs kept of 60 tried (30 x score too low)" in line for line in report.found)
    assert any("trained for 3 steps in 3 s, loss 1.00 to 0.33" in line for line in report.found)
    assert report.evidence.phases["training"].prompt_tokens == 300


def test_prompts_of_the_tuned_program_have_no_demos_unless_they_stay(rows, metric):
    shown = QA.deepcopy()
    shown.demos = [tf.Example(question="q999", answer="a999")]
    without = compiled(BootstrapFinetune(metric, trainer=ByHeart()), rows, student=shown)
    kept, trainer = None, ByHeart()
    kept = compiled(BootstrapFinetune(metric, trainer=trainer, exclude_demos=False), rows, student=shown)

    assert without.demos == []
    assert len(kept.demos) == 1
    assert all("q999" in e.messages[1].content for e in trainer.trained[0][1])


def test_a_tuned_model_that_is_not_better_is_not_returned(rows, metric):
    program = compiled(BootstrapFinetune(metric, trainer=ByHeart(good=False)), rows)

    assert program.report.verdict == "no gain"
    assert program.lm is None


def test_the_settings_of_the_lm_stay_in_force(rows, metric, models):
    lm = weak(2)
    lm = lm.copy(max_tokens=77, temperature=0.3)
    program = compiled(BootstrapFinetune(metric, trainer=ByHeart()), rows, lm)

    assert models[0].sampling.max_tokens == 77
    assert program.sampling.temperature == 0.3


def test_nothing_to_learn_from_says_why_and_keeps_nothing_back(rows, metric):
    nothing = ScriptedLM(lambda _: "[[ ## answer ## ]] no")
    with pytest.raises(tf.DataError, match="metric below threshold 60"):
        compiled(BootstrapFinetune(metric, trainer=ByHeart()), rows, nothing)


def test_a_model_that_cannot_be_trained_is_told_before_any_call(rows, metric):
    lm = weak(2)
    with pytest.raises(tf.UsageError, match="cannot be trained"):
        compiled(BootstrapFinetune(metric, trainer=ByHeart(), base_model="untrainable/x"), rows, lm)
    assert lm.requests == []


def test_a_missing_extra_is_told_with_its_install_line_before_any_call(rows, metric, monkeypatch):
    known = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "torch" else known(name, *more))
    lm = weak(2)

    with pytest.raises(tf.MissingExtraError, match=r"pip install 'tuneful\[finetune\]'"):
        compiled(BootstrapFinetune(metric, trainer=tf.LocalTrainer(), base_model="local/smollm2"), rows, lm)
    assert lm.requests == []


@pytest.mark.parametrize("said", ["out of memory: lower `tokens_at_once`", "job ftjob-0 failed: line 3 is odd"])
def test_a_training_that_fails_is_a_typed_error_and_data_and_runs_are_kept(rows, metric, tmp_path, said):
    class Fails(ByHeart):
        def train(self, *given, folder, **options):
            if said:
                raise tf.TrainingError(said, folder=str(folder))
            return super().train(*given, folder=folder, **options)

    with tf.context(journal=tmp_path / "journal.sqlite"):
        with pytest.raises(tf.TrainingError, match=said[:10]) as caught:
            compiled(BootstrapFinetune(metric, trainer=Fails()), rows, run="a")
        data = tf.TrainingSet.load(Path(caught.value.folder) / "data.jsonl")
        said, lm = "", weak(2)
        program = compiled(BootstrapFinetune(metric, trainer=Fails()), rows, lm, run="a")

    assert len(data) == 30
    assert len(lm.requests) == 60  # of the comparison: the teacher's runs were kept
    assert program.report.verdict == "better"


def test_a_service_elsewhere_is_refused_before_any_call(rows, metric):
    lm = weak(2)
    trainer = tf.OpenAITrainer(api_base="http://127.0.0.1:1/v1")
    with pytest.raises(tf.UsageError, match="api_base"):
        compiled(BootstrapFinetune(metric, trainer=trainer, base_model="openai/gpt-4.1-nano"), rows, lm)
    assert lm.requests == []


@pytest.mark.parametrize(
    "wrong", [{"learn": "all"}, {"trainer": ByHeart(), "train_kwargs": {"epochs": 1}}, {"max_rounds": 0}]
)
def test_wrong_settings_are_told(metric, wrong):
    with pytest.raises(tf.UsageError):
        BootstrapFinetune(metric, **{"trainer": ByHeart(), **wrong} if "train_kwargs" not in wrong else wrong)


def test_the_same_script_again_trains_and_asks_nothing(rows, metric, tmp_path):
    first, again = ByHeart(), ByHeart()
    with tf.context(journal=tmp_path / "journal.sqlite"):
        one = compiled(BootstrapFinetune(metric, trainer=first), rows, run="a")
        lm = weak(2)
        two = compiled(BootstrapFinetune(metric, trainer=again), rows, lm, run="a")

    assert (len(first.trained), len(again.trained), lm.requests) == (1, 0, [])
    assert one.lm.model == two.lm.model


def test_a_model_whose_files_are_gone_is_trained_again(rows, metric, tmp_path):
    trainer = ByHeart()
    with tf.context(journal=tmp_path / "journal.sqlite"):
        compiled(BootstrapFinetune(metric, trainer=trainer), rows, run="a")
        folder = trainer.trained[0][3]
        (folder / "data.jsonl").unlink()
        folder.rmdir()
        compiled(BootstrapFinetune(metric, trainer=trainer), rows, run="a")

    assert len(trainer.trained) == 2


def test_with_an_executor_the_training_is_a_workers_and_the_journal_stays_here(rows, metric, tmp_path):
    class There(ByHeart):
        travels = True

    submitted = []

    class Counting(ThreadPoolExecutor):
        def submit(self, function, *args):
            submitted.append(function.__module__)
            return super().submit(function, *args)

    here = compiled(BootstrapFinetune(metric, trainer=ByHeart()), rows)
    with Counting(2) as executor, tf.context(executor=executor, journal=tmp_path / "journal.sqlite"):
        there = compiled(BootstrapFinetune(metric, trainer=There()), rows, run="a")
        trainings = submitted.count("tuneful.finetune.worker")
        again = compiled(BootstrapFinetune(metric, trainer=There()), rows, run="a")

    assert trainings == 2  # a look whether it can be done, and the training
    assert submitted.count("tuneful.finetune.worker") == 3  # the look again: what was trained is in the journal
    assert there.report.verdict == here.report.verdict == "better"
    assert there.report.evidence.phases["training"] == here.report.evidence.phases["training"]
    assert again.lm.model == there.lm.model


def test_a_budget_of_seconds_or_tokens_stops_the_training(rows, metric):
    slow = BootstrapFinetune(metric, trainer=ByHeart(seconds=0.4))
    late = compiled(slow, rows, budget=tf.Budget(seconds=0.6))
    dear = compiled(BootstrapFinetune(metric, trainer=ByHeart()), rows, budget=tf.Budget(tokens=60 * 60))

    assert "limit on seconds was reached" in late.report.stop_reason
    assert "limit on tokens" in dear.report.stop_reason
    assert late.lm is dear.lm is None


@pytest.mark.usefixtures("usual_ctrl_c")
def test_ctrl_c_stops_the_training_at_a_checkpoint(rows, metric):
    trainer = ByHeart(seconds=0.2)
    stopped = threading.Event()
    train = trainer.train

    def watched(*given, **options):
        try:
            return train(*given, **options)
        except tf.TrainingStopped:
            stopped.set()
            raise

    trainer.train = watched

    class Interrupted(BootstrapFinetune):
        async def work(self, brief, job):
            asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)
            return await super().work(brief, job)

    program = compiled(Interrupted(metric, trainer=trainer), rows)

    assert "interrupted" in program.report.stop_reason
    assert stopped.wait(5)


class TwoSteps(tf.Module):
    def __init__(self):
        self.think = tf.Predict("question -> thought")
        self.say = tf.Predict("question, thought -> answer")

    def forward(self, question):
        return self.say(question=question, thought=self.think(question=question).thought)


def two_step_model(request):
    number = request.messages[-1].content.rsplit("q", 1)[1].split()[0]
    if "of q" in request.messages[-1].content:
        return f"[[ ## answer ## ]] {'a' if int(number) % 2 == 0 else 'no'}{number}"
    return f"[[ ## thought ## ]] of q{number}"


def test_one_model_for_all_predictors_or_one_for_each(rows, metric):
    both, each = ByHeart(), ByHeart()
    lm = ScriptedLM(two_step_model)
    compiled(BootstrapFinetune(metric, trainer=both), rows, lm, student=TwoSteps())
    compiled(BootstrapFinetune(metric, multitask=False, trainer=each), rows, lm, student=TwoSteps())

    assert [{e.path for e in data} for _, data, _, _ in both.trained] == [{"think", "say"}]
    assert sorted(str({e.path for e in data}) for _, data, _, _ in each.trained) == ["{'say'}", "{'think'}"]


def test_a_frozen_predictor_keeps_its_model(rows, metric):
    student = TwoSteps()
    student.freeze("think.lm")
    trainer = ByHeart()
    program = compiled(
        BootstrapFinetune(metric, multitask=False, trainer=trainer), rows, ScriptedLM(two_step_model), student=student
    )

    assert [{e.path for e in data} for _, data, _, _ in trainer.trained] == [{"say"}]
    assert not any(name.startswith("think.") for name in program.report.candidate)


def test_answers_of_any_program_can_be_distilled_into_one_call(rows, metric):
    trainer = ByHeart()
    program = compiled(
        BootstrapFinetune(metric, learn="answers", trainer=trainer),
        rows,
        ScriptedLM(two_step_model),
        teacher=TwoSteps(),
    )
    with pytest.raises(tf.UsageError, match="distils into one call"):
        compiled(BootstrapFinetune(metric, learn="answers", trainer=ByHeart()), rows, student=TwoSteps())

    assert len(trainer.trained[0][1]) + len(trainer.trained[0][2]) == 30
    assert {e.path for e in trainer.trained[0][1]} == {""}
    assert program.report is not None


# --- BetterTogether ---


def together(metric, trainer, **options):
    demos = tf.LabeledFewShot(k=2)
    return BetterTogether(metric, demos, BootstrapFinetune(metric, trainer=trainer), **options)


def test_stages_build_on_one_another_and_each_is_compared(rows, metric):
    trainer = ByHeart()
    program = compiled(together(metric, trainer), rows)

    assert program.report.verdict == "better"
    assert len(trainer.trained) == 1
    assert program.lm is not None
    assert [line.split(":")[0] for line in program.report.found if line.startswith("stage")][-1].startswith("stage")


def test_the_weights_of_a_later_stage_are_trained_on_runs_of_the_earlier_stages_program(rows, metric):
    asked = []

    def answer(request):
        asked.append(request)
        number = request.messages[-1].content.rsplit("q", 1)[1].split()[0]
        shown = len(request.messages) > 2
        return f"[[ ## answer ## ]] {'a' if shown or int(number) % 3 == 0 else 'no'}{number}"

    trainer = ByHeart()
    compiled(together(metric, trainer, strategy="p -> w"), rows, ScriptedLM(answer))
    alone = ByHeart()
    compiled(BootstrapFinetune(metric, trainer=alone, max_labeled_demos=0), rows, ScriptedLM(answer))

    assert sum(map(len, trainer.trained[0][1:3])) == 60  # with demos the teacher is always right
    assert sum(map(len, alone.trained[0][1:3])) == 20


def test_weights_that_are_tuned_twice_are_tuned_from_their_base(rows, metric, tmp_path):
    class Saves(ByHeart):
        def train(self, dataset, base_model, *, folder, **options):
            tuned = super().train(dataset, base_model, folder=folder, **options)
            own = replace(tuned, model=f"transformers/{folder}/model")
            MADE[own.model] = MADE.pop(tuned.model)
            own.save(folder / "tuned_model.json")
            return own

    trainer = Saves()
    stages = BootstrapFinetune(metric, trainer=trainer, folder=tmp_path)
    program = compiled(BetterTogether(metric, tf.LabeledFewShot(k=2), stages, strategy="w -> p -> w"), rows)

    assert [base for base, *_ in trainer.trained] == ["scripted", "scripted"]
    assert [len(data) + len(out) for _, data, out, _ in trainer.trained] == [30, 60]  # the second: its own better runs
    assert program.report.verdict == "better"


def test_a_stage_that_does_harm_is_left_out(rows, metric):
    def answer(request):
        number = request.messages[-1].content.rsplit("q", 1)[1].split()[0]
        shown = len(request.messages) > 2
        return f"[[ ## answer ## ]] {'a' if shown or int(number) % 3 == 0 else 'no'}{number}"

    program = compiled(together(metric, ByHeart(good=False), strategy="p -> w"), rows, ScriptedLM(answer))

    assert program.report.verdict == "better"
    assert program.demos
    assert program.lm is None


def test_a_strategy_names_its_stages(metric):
    with pytest.raises(tf.UsageError, match="stage 'x'; there are p, w"):
        together(metric, ByHeart(), strategy="p -> x")
    with pytest.raises(tf.UsageError, match="different `teacher_settings`"):
        together(
            metric,
            ByHeart(),
            q=tf.BootstrapFewShot(metric, teacher_settings={"num_threads": 1}),
            strategy="q -> r",
            r=tf.BootstrapFewShot(metric, teacher_settings={"num_threads": 2}),
        )


def test_stages_go_on_where_they_were(rows, metric, tmp_path):
    with tf.context(journal=tmp_path / "journal.sqlite"):
        one = compiled(together(metric, ByHeart()), rows, run="a")
        lm, trainer = weak(2), ByHeart()
        two = compiled(together(metric, trainer), rows, lm, run="a")

    assert (trainer.trained, lm.requests) == ([], [])
    assert one.dump_state()["parameters"] == two.dump_state()["parameters"]
