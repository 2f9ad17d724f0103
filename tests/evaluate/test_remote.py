"""Rollouts in other processes: the results of one process."""

import pickle
import threading

import cloudpickle
import pydantic
import pytest
from asked import QA, echo, exact, make_rows

import tuneful as tf
from tuneful.evaluate import worker
from tuneful.program.running.runtime import rollout
from tuneful.testing import DummyLM, Landscape, ScriptedLM, SimulatedLM

#: For workers that are processes of plain Python, which find functions by their names only.
METRIC = tf.metrics.answer_exact_match


def shown(row):
    return row.example, row.prediction, row.score, row.status, row.feedback, row.usage.calls, row.usage.prompt_tokens


# --- the same results ---


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_an_evaluation_gives_what_it_gives_in_one_process(kind, travelling, processes):
    rows = make_rows(30)
    lm = SimulatedLM(rows, Landscape(base=0.6))
    evaluate = tf.Evaluate(devset=rows, metric=METRIC)

    with tf.context(lm=lm):
        here = evaluate(QA)
    with tf.context(lm=lm, executor=processes if kind == "processes" else travelling), tf.track_usage() as meter:
        there = evaluate(QA)

    assert [shown(r) for r in there.rows] == [shown(r) for r in here.rows]
    assert (there.score, there.interval) == (here.score, here.interval)
    assert 0 < there.score < 100
    assert [s.path for s in there.rows[0].trace] == [s.path for s in here.rows[0].trace]
    assert there.rows[0].prediction.trace is there.rows[0].trace
    assert there.rows[0].trace.steps[0].request == here.rows[0].trace.steps[0].request
    assert meter.usage.calls == 30
    assert set(meter.by_model()) == {"simulated"}
    assert meter.latency()


def test_a_compile_gives_what_it_gives_in_one_process_and_pays_for_nothing_twice(processes, tmp_path):
    rows = make_rows(60)

    def compiled(executor, journal, run=None):
        lm = SimulatedLM(rows, Landscape(base=0.3, any_demo=0.5))
        teleprompter = tf.BootstrapFewShotWithRandomSearch(
            metric=METRIC, num_candidate_programs=2, max_bootstrapped_demos=2, max_labeled_demos=2
        )
        with tf.context(lm=lm, executor=executor, journal=str(tmp_path / journal), cache=tf.Cache(None)):
            return teleprompter.compile(QA, trainset=rows, run=run)

    here = compiled(None, "here.sqlite")
    there = compiled(processes, "there.sqlite", "x")
    again = compiled(processes, "there.sqlite", "x")

    assert there.report.improved
    assert there.report.candidate == here.report.candidate
    assert there.report.best == here.report.best
    assert there.dump_state()["parameters"] == here.dump_state()["parameters"]
    assert there.report.usage.calls == there.report.usage.calls > 0
    assert set(there.report.evidence.phases) == set(here.report.evidence.phases)
    assert again.report.candidate == there.report.candidate
    assert again.report.replayed > 0
    assert again.report.usage.calls == there.report.usage.calls  # all of it from before the restart


def test_every_kind_of_failure_keeps_its_status(travelling):
    class Odd(Exception):
        def __init__(self, first, second):
            super().__init__(f"{first} {second}")

    class Program(tf.Module):
        def __init__(self):
            self.answer = tf.Predict("question -> answer: int", max_tokens=5)

        def forward(self, question):
            if question == "q1":
                raise Odd("of", "its own")
            if question == "q2":
                raise ValueError("plain")
            return self.answer(question=question)

    def script(request):
        text = "".join(m.text for m in request.messages)  # of a repair turn too
        if "q3" in text:
            return tf.LMServerError("down", status=503)
        return "no number" if "q4" in text else "[[ ## answer ## ]] 7"

    def metric(example, prediction, trace=None):
        if example.question == "q5":
            raise RuntimeError("the metric")
        return tf.Score(0.5, feedback="so so")

    with tf.context(lm=ScriptedLM(script), executor=travelling):
        rows = tf.Evaluate(devset=make_rows(6), metric=metric)(Program()).rows

    assert [r.status for r in rows] == [
        "ok",
        "program_error",
        "program_error",
        "infra_error",
        "parse_error",
        "metric_error",
    ]
    assert rows[0].feedback == "so so"
    assert "Odd: of its own" in str(rows[1].cause)
    assert "raise Odd" in rows[1].error
    assert isinstance(rows[2].cause, ValueError)
    assert isinstance(rows[3].cause, tf.LMServerError)
    assert rows[3].cause.status == 503
    assert isinstance(rows[4].cause, tf.AdapterParseError)
    assert "no number" in rows[4].cause.raw


def test_a_program_that_fails_on_every_row_is_stopped_with_its_words(travelling):
    class Broken(tf.Module):
        def forward(self, question):
            raise LookupError("nothing there")

    with tf.context(executor=travelling), pytest.raises(tf.EvaluationError, match="nothing there"):
        tf.Evaluate(devset=make_rows(20), metric=lambda e, p: 1)(Broken())


def test_what_the_caller_must_act_on_is_raised_here(travelling, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    with (
        tf.context(lm=tf.LM("openai/gpt-4o-mini"), executor=travelling),
        pytest.raises(tf.LMAuthError, match="OPENAI_API_KEY"),
    ):
        tf.Evaluate(devset=make_rows(3), metric=exact)(QA)


def city_class():
    class City(pydantic.BaseModel):
        name: str

    return City


def test_types_of_the_users_own_come_back_as_what_they_are(travelling):
    city = city_class()
    signature = tf.Signature("question -> city: City", custom_types={"City": city})
    lm = DummyLM({"q": {"city": city(name="Rome")}})

    with tf.context(lm=lm, executor=travelling):
        row = tf.Evaluate(devset=make_rows(1), metric=lambda e, p: p.city.name == "Rome")(tf.Predict(signature)).rows[0]

    assert row.score == 1.0
    assert type(row.prediction.city) is city


def test_repetitions_are_other_samples_there_too(travelling):
    lm = ScriptedLM(lambda r: f"[[ ## answer ## ]] {r.sampling.rollout_id}")

    with tf.context(lm=lm, executor=travelling), rollout(7):
        result = tf.Evaluate(devset=make_rows(1), metric=lambda e, p: 1)(QA)

    assert result.rows[0].prediction.answer == "7"


def test_a_worker_uses_no_executor_itself(travelling):
    class Looks(tf.Module):
        def forward(self, question):
            return tf.Prediction(answer=repr(tf.settings.executor), adapter=tf.settings.adapter)

    with tf.context(adapter="json", executor=travelling):
        row = tf.Evaluate(devset=make_rows(1), metric=lambda e, p: 1)(Looks()).rows[0]

    assert (row.prediction.answer, row.prediction.adapter) == ("None", "json")


# --- what is sent ---


def test_program_and_surroundings_are_sent_until_they_have_arrived_and_then_named(travelling):
    lm = ScriptedLM(echo)

    with tf.context(lm=lm, executor=travelling):
        tf.Evaluate(devset=make_rows(40), metric=exact, num_threads=4)(QA)

    whole = [bool(errand.program.value) for errand in travelling.sent]
    assert whole[:4] == [True] * 4
    assert not any(whole[8:])
    assert [bool(errand.surroundings.value) for errand in travelling.sent] == whole
    assert len(cloudpickle.dumps(travelling.sent[-1])) < 1000


def test_a_worker_that_lacks_the_program_gets_it(travelling):
    def metric(example, prediction, trace=None):
        if example.question == "q20":
            worker._kept.clear()  # as if the next one went to another worker
        return exact(example, prediction)

    with tf.context(lm=ScriptedLM(echo), executor=travelling):
        result = tf.Evaluate(devset=make_rows(40), metric=metric, num_threads=2)(QA)

    assert result.score == 100
    assert len(travelling.sent) > 40
    assert result.usage.calls == 40


def test_a_program_that_was_changed_between_two_evaluations_is_another_one(processes):
    rows = make_rows(4)
    lm = SimulatedLM(rows, Landscape(base=0.0, any_demo=1.0))
    program = tf.Predict("question -> answer")

    with tf.context(lm=lm, executor=processes):
        before = tf.Evaluate(devset=rows, metric=METRIC)(program)
        program.demos = rows[:1]
        after = tf.Evaluate(devset=rows, metric=METRIC)(program)

    assert (before.score, after.score) == (0, 100)


def test_the_report_of_a_compiled_program_stays_here_and_its_provenance_goes(travelling):
    rows = make_rows(30)
    with tf.context(lm=SimulatedLM(rows, Landscape(base=0.3, any_demo=0.6)), journal=None):
        compiled = tf.LabeledFewShot(k=2).compile(QA, trainset=rows)

    arrived = pickle.loads(pickle.dumps(compiled))

    assert arrived.report is None
    assert arrived.dump_state() == compiled.dump_state()


# --- what cannot travel ---


def test_what_cannot_travel_is_named(processes):
    class Holds(tf.Module):
        def __init__(self):
            self.answer = tf.Predict("question -> answer")
            self.guard = threading.Lock()

        def forward(self, question):
            return self.answer(question=question)

    with tf.context(lm=SimulatedLM(make_rows(3)), executor=processes), pytest.raises(tf.UsageError, match="`guard`"):
        tf.Evaluate(devset=make_rows(3), metric=METRIC)(Holds())


def test_a_result_that_cannot_travel_is_an_error(travelling):
    class Gives(tf.Module):
        def forward(self, question):
            return threading.Lock()

    with tf.context(executor=travelling), pytest.raises(tf.UsageError, match="or its result back"):
        tf.Evaluate(devset=make_rows(3), metric=lambda e, p: 1)(Gives())


@pytest.mark.parametrize("value", ["dsk://127.0.0.1:8786", "127.0.0.1:8786", 3, object()])
def test_what_is_no_executor_is_refused_when_it_is_set(value):
    with pytest.raises(tf.UsageError, match="executor"), tf.context(executor=value):
        pass


def test_the_nearest_engine_is_named():
    with pytest.raises(tf.UsageError, match="Did you mean `dask`"), tf.context(executor="dsk://127.0.0.1:8786"):
        pass
