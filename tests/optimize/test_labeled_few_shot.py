"""LabeledFewShot: labelled rows as demos, without a call."""

import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM


def no_calls(request):
    raise AssertionError("no model call is needed")


def test_every_predictor_gets_k_rows_of_its_own_fields_without_a_call(rows):
    class Two(tf.Module):
        def __init__(self):
            self.first = tf.Predict("question -> topic")
            self.second = tf.Predict("question -> answer")

    with tf.context(lm=ScriptedLM(no_calls)):
        compiled = tf.LabeledFewShot(k=3).compile(Two(), trainset=rows(10))

    assert compiled.first.demos == []  # the rows have no topic
    assert len(compiled.second.demos) == 3
    assert compiled.report.verdict == "not validated"
    assert "3 labelled demos for `second`" in str(compiled.report)


def test_sample_false_takes_the_first_rows(rows):
    with tf.context(lm=ScriptedLM(no_calls)):
        compiled = tf.LabeledFewShot(k=2, sample=False).compile(tf.Predict("question -> answer"), trainset=rows(10))

    assert [d.question for d in compiled.demos] == ["q0", "q1"]


def test_a_program_that_is_one_predictor_is_called_the_program(rows):
    with tf.context(lm=ScriptedLM(no_calls)):
        compiled = tf.LabeledFewShot(k=3).compile(tf.Predict("question -> answer"), trainset=rows(5))

    assert "3 labelled demos for the program" in str(compiled.report)


def test_every_predictor_draws_from_all_rows(rows):
    """DSPy 3.3.1 let a predictor draw only from what an earlier one had drawn."""

    class Two(tf.Module):
        def __init__(self):
            self.first = tf.Predict("question -> answer")
            self.second = tf.Predict("question -> answer")

    with tf.context(lm=ScriptedLM(no_calls)):
        compiled = tf.LabeledFewShot(k=4).compile(Two(), trainset=rows(200))

    assert {d.question for d in compiled.first.demos} != {d.question for d in compiled.second.demos}


def test_the_seed_decides_the_sample(rows):
    def demos(seed):
        return [d.question for d in tf.LabeledFewShot(k=4).compile(qa, trainset=rows(50), seed=seed).demos]

    qa = tf.Predict("question -> answer")
    with tf.context(lm=ScriptedLM(no_calls)):
        assert demos(0) == demos(0) != demos(1)


def test_a_row_with_a_part_of_the_outputs_becomes_a_partial_demo_in_the_system_message(rows):
    program = tf.ChainOfThought("question -> answer")
    with tf.context(lm=ScriptedLM(no_calls)):
        compiled = tf.LabeledFewShot(k=1).compile(program, trainset=rows(5))
        rendered = compiled.predict.render(question="new")

    assert len(rendered.messages) == 2
    assert "only a part of the answer shown" in rendered.messages[0].content
    assert "reasoning ## ]]\n(" not in rendered.messages[0].content


def test_an_empty_trainset_is_refused():
    with tf.context(lm=ScriptedLM(no_calls)), pytest.raises(tf.DataError, match="empty"):
        tf.LabeledFewShot().compile(tf.Predict("question -> answer"), trainset=[])
