"""Reasoning before the answer."""

import pytest

import tuneful as tf
from tuneful.testing import DummyLM


def test_the_reasoning_comes_first_and_is_part_of_the_prediction():
    lm = DummyLM([{"reasoning": "2 and 2 is 4.", "answer": 4}])
    program = tf.ChainOfThought("question -> answer: int")
    prediction = program.using(lm=lm)(question="2+2?")
    assert list(program.predict.signature.output_fields) == ["reasoning", "answer"]
    assert (prediction.reasoning, prediction.answer) == ("2 and 2 is 4.", 4)
    prompt = lm.requests[0].messages[0].content
    assert prompt.index("[[ ## reasoning ## ]]") < prompt.index("[[ ## answer ## ]]")


async def test_it_runs_with_await():
    lm = DummyLM([{"reasoning": "r", "answer": "a"}])
    assert (await tf.ChainOfThought("question -> answer").using(lm=lm).acall(question="x")).answer == "a"


def test_it_keeps_the_instructions_and_takes_sampling_options():
    program = tf.ChainOfThought(tf.Signature("question -> answer", "Answer in Latin."), temperature=0.6, n=2)
    assert program.predict.signature.instructions == "Answer in Latin."
    assert (program.predict.sampling.temperature, program.predict.sampling.n) == (0.6, 2)


def test_its_predictor_has_a_path():
    assert [path for path, _ in tf.ChainOfThought("a -> b").named_predictors()] == ["predict"]


def test_the_reasoning_can_be_declared_otherwise():
    field = tf.OutputField(desc="the steps, numbered", max_length=200)
    program = tf.ChainOfThought("question -> answer", rationale_field=field)
    assert program.predict.signature.output_fields["reasoning"].desc == "the steps, numbered"


def test_a_signature_with_a_reasoning_of_its_own_is_an_error():
    with pytest.raises(tf.SignatureError, match="`reasoning` already"):
        tf.ChainOfThought("question -> reasoning, answer")


def test_the_users_signature_is_not_changed():
    signature = tf.Signature("question -> answer")
    tf.ChainOfThought(signature)
    assert str(signature) == "question -> answer"


def test_wrong_inputs_are_an_input_error_before_any_call():
    lm = DummyLM([])
    with pytest.raises(tf.InputError, match="Did you mean `question`"):
        tf.ChainOfThought("question -> answer").using(lm=lm)(questions="x")
    assert lm.requests == []
