"""The report: what is kept of a compile, and that it comes back from JSON as it was."""

import json

import pytest

import tuneful as tf
from tuneful.optimize.evidence import MOST_CHARS
from tuneful.optimize.report import CompileReport
from tuneful.testing import ScriptedLM

QA = tf.Predict("question -> answer")


@pytest.fixture
def compiled(rows, metric, landscape):
    with tf.context(lm=landscape(0.3, 0.8)):
        return tf.BootstrapFewShot(metric=metric).compile(QA, trainset=rows(40), valset=rows(60, start=500))


def test_a_report_comes_back_from_json(compiled):
    saved = json.loads(json.dumps(compiled.report.to_json()))
    loaded = CompileReport.from_json(saved)

    assert str(loaded) == str(compiled.report)
    assert loaded.evidence == compiled.report.evidence
    assert loaded.top() == []


def test_one_of_another_version_is_refused_with_a_typed_error(compiled):
    saved = compiled.report.to_json()
    del saved["verdict"]
    with pytest.raises(tf.DataError, match="no report of this version"):
        CompileReport.from_json(saved)


def test_every_compared_row_is_kept_with_both_answers(compiled):
    report = compiled.report
    pairs = report.evidence.pairs

    assert len(pairs) == 60
    assert sum(p.change == "win" for p in pairs) == report.comparison.wins
    assert sum(p.change == "loss" for p in pairs) == report.comparison.losses
    assert all(p.labels["answer"] == p.inputs["question"].replace("q", "a") for p in pairs)
    assert all((p.best.outputs["answer"] == p.labels["answer"]) == (p.best.score == 1) for p in pairs)


def test_prompts_before_and_after_are_those_that_are_sent(rows, compiled):
    before, after = compiled.report.evidence.prompts[""]

    with tf.context(lm=ScriptedLM(lambda r: "")):
        sent = compiled.render(question="q500")
    assert "q500" in before
    assert all(m.text in after for m in sent.messages)
    assert len(before) < len(after)


def test_long_values_are_kept_in_part(rows, metric):
    with tf.context(lm=ScriptedLM(lambda r: "[[ ## answer ## ]] " + "long " * 5000)):
        compiled = tf.LabeledFewShot(k=1).compile(QA, trainset=rows(5), valset=rows(5, start=500))

    assert compiled.report.evidence.pairs == []  # there is no metric, so nothing was compared

    with tf.context(lm=ScriptedLM(lambda r: "[[ ## answer ## ]] " + "long " * 5000)):
        compiled = tf.BootstrapFewShot(metric=lambda e, p, t=None: len(p.answer)).compile(
            QA, trainset=rows(5), valset=rows(5, start=500)
        )
    kept = compiled.report.evidence.pairs[0].best.outputs["answer"]
    assert len(kept) < MOST_CHARS + 100
    assert "characters more" in kept
