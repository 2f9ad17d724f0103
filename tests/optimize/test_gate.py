"""Keys and prices are looked at before the first request leaves, of every model that a compile may ask."""

import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM

QA = tf.Predict("question -> answer")


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def task_model(**options):
    return ScriptedLM(lambda request: "[[ ## answer ## ]]\na1", **options)


def keyless():
    return tf.LM("openai/gpt-4o-mini")


def with_own_proposer(metric):
    teleprompter = tf.COPRO(metric=metric, prompt_model=task_model())
    teleprompter.proposers["instructions"] = teleprompter.proposers["instructions"].using(lm=keyless())
    return teleprompter


def plainly(metric, **given):
    return tf.Tune(metric, **{"embedder": None, "adapters": (), **given})


class Judge(tf.Module):
    def __init__(self):
        self.judge = tf.Predict("question, answer -> score: float").using(lm=keyless())

    def forward(self, example, prediction):
        return self.judge(question=example.question, answer=prediction.answer)


LATE = {
    "models to choose from": lambda m: plainly(m, propose=False, models=["openai/gpt-4o-mini"]),
    "models of MIPROv2": lambda m: tf.MIPROv2(metric=m, prompt_model=task_model(), models=["openai/gpt-4o-mini"]),
    "a prompt model": lambda m: plainly(m, prompt_model=keyless()),
    "a reflecting model": lambda m: tf.GEPA(metric=m, reflection_lm=keyless(), max_metric_calls=100),
    "a proposer's own": with_own_proposer,
    "a teacher's": lambda m: plainly(m, propose=False, teacher_settings={"lm": keyless()}),
    "of a later stage": lambda m: tf.BetterTogether(m, q=plainly(m, prompt_model=keyless()), strategy="q"),
    "an embedder's": lambda m: plainly(m, propose=False, embedder="openai/text-embedding-3-small"),
    "what picks demos": lambda m: tf.KNNFewShot(k=2, vectorizer="openai/text-embedding-3-small", metric=m),
    "a metric's": lambda m: tf.BootstrapFewShot(Judge()),
}


@pytest.mark.parametrize("made", LATE.values(), ids=LATE)
def test_a_missing_key_is_found_before_anything_is_spent(made, rows, metric):
    lm = task_model()

    with tf.context(lm=lm), pytest.raises(tf.LMAuthError, match="OPENAI_API_KEY"):
        made(metric).compile(QA, trainset=rows(30))
    assert lm.requests == []


def test_so_is_a_missing_key_of_the_teacher(rows, metric):
    lm = task_model()

    with tf.context(lm=lm), pytest.raises(tf.LMAuthError, match="OPENAI_API_KEY"):
        tf.BootstrapFewShot(metric).compile(QA, trainset=rows(30), teacher=QA.using(lm=keyless()))
    assert lm.requests == []


def test_so_is_a_price_that_a_budget_in_dollars_needs(rows, metric):
    lm = task_model()
    teleprompter = plainly(metric, prompt_model=tf.LM("vllm/mine", api_base="http://127.0.0.1:9/v1"))

    with tf.context(lm=lm), pytest.raises(tf.NotConfiguredError, match="price of `vllm/mine`"):
        teleprompter.compile(QA, trainset=rows(30), budget=tf.Budget(usd=1))
    assert lm.requests == []


def test_models_that_will_not_be_asked_need_no_key(rows, metric):
    with tf.context(lm=task_model()):
        compiled = plainly(metric, prompt_model=keyless(), propose=False).compile(QA, trainset=rows(30))

    assert compiled.report.verdict == "nothing learned"


def test_what_journal_and_cache_answer_needs_no_key(rows, metric, tmp_path):
    def refuse():
        raise tf.LMAuthError("no key")

    def run(lm, name):
        with tf.context(lm=lm, journal=tmp_path / "j.sqlite", cache=tmp_path / "c.sqlite"):
            tf.BootstrapFewShot(metric).compile(QA, trainset=rows(30), run=name)

    run(task_model(cache=True), "mine")
    without = task_model(cache=True)
    without._scripted.check = refuse
    run(without, "mine")
    run(without, None)

    assert without.requests == []


def test_a_key_that_a_proposers_provider_refuses_ends_the_compile(rows, metric):
    prompt_model = ScriptedLM(lambda request: tf.LMAuthError("revoked"))

    with tf.context(lm=task_model()), pytest.raises(tf.LMAuthError, match="revoked"):
        tf.COPRO(metric=metric, prompt_model=prompt_model).compile(QA, trainset=rows(30))
    assert len(prompt_model.requests) <= 10
