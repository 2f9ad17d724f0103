"""The simulated model: what it is told to be good at is what it is good at."""

import random

import pytest

import tuneful as tf
from tuneful.testing import Landscape, SimulatedLM

COLOURS = ("red", "green", "blue")


def rows(n, start=0):
    return [tf.Example(question=f"q{i}", answer=f"a{i}").with_inputs("question") for i in range(start, start + n)]


def exact(example, prediction, trace=None):
    return example.answer == prediction.answer


def score(lm, program, data):
    with tf.context(lm=lm):
        return tf.Evaluate(devset=data, metric=exact)(program).mean


def test_scores_are_what_the_landscape_says():
    data = rows(400)
    program = tf.Predict("question -> answer")
    lm = SimulatedLM(data, Landscape(base=0.4, any_demo=0.3))

    assert score(lm, program, data) == pytest.approx(0.4, abs=0.07)
    assert lm.quality(program) == pytest.approx(0.4)
    program.demos = rows(2, start=500)
    assert lm.quality(program) == pytest.approx(0.4)  # demos of rows that it does not know teach nothing
    program.demos = data[:1]
    assert lm.quality(program) == pytest.approx(0.7)
    assert score(lm, program, data) == pytest.approx(0.7, abs=0.07)


def test_named_demos_and_instructions_add_up_and_there_is_a_most():
    data = rows(10)
    gains = {data[0].content_hash(): 0.2, data[1].content_hash(): -0.1}
    lm = SimulatedLM(data, Landscape(base=0.5, demos=gains, instructions={"step by step": 0.3}, most=0.9))
    program = tf.Predict("question -> answer")

    program.demos = data[:1]
    assert lm.quality(program) == pytest.approx(0.7)
    program.demos = data[:2]
    assert lm.quality(program) == pytest.approx(0.6)
    program.demos = []
    program.signature = program.signature.with_instructions("Think step by step.")
    assert lm.quality(program) == pytest.approx(0.8)
    program.demos = data[:1]
    assert lm.quality(program) == pytest.approx(0.9)


def test_a_demo_with_a_wrong_answer_teaches_nothing():
    data = rows(10)
    lm = SimulatedLM(data, Landscape(base=0.5, any_demo=0.4))
    program = tf.Predict("question -> answer")
    program.demos = [tf.Example(question="q1", answer="a2")]

    assert lm.quality(program) == pytest.approx(0.5)


def test_gains_that_are_drawn_depend_on_the_seed_alone():
    data = rows(40)
    program = tf.Predict("question -> answer")

    def qualities(seed):
        lm = SimulatedLM(data, Landscape(demo_spread=0.1, seed=seed))
        return [lm.quality(program.with_parameters({"demos": [row.to_dict()]})) for row in data]

    assert qualities(1) == qualities(1) != qualities(2)
    assert 0.05 < max(qualities(1)) - 0.5 < 0.5


def test_an_answer_depends_on_the_request_alone():
    data = rows(60)
    program = tf.Predict("question -> answer")
    shuffled = random.Random(0).sample(data, len(data))

    def answers(asked):
        with tf.context(lm=SimulatedLM(data, Landscape(base=0.5), seconds=0.001, jitter=1.0)):
            rows = tf.Evaluate(devset=asked, metric=exact, num_threads=8)(program).rows
        return {row.example.question: row.prediction.answer for row in rows}

    assert answers(data) == answers(shuffled)


def test_repetitions_are_sampled_anew():
    data = rows(40)
    program = tf.Predict("question -> answer")
    with tf.context(lm=SimulatedLM(data, Landscape(base=0.5, difficulty=0.0))):
        said = {program(question="q1", config={"rollout_id": i}).answer == "a1" for i in range(20)}

    assert said == {True, False}


def test_with_full_difficulty_a_better_prompt_loses_no_row():
    data = rows(100)
    lm = SimulatedLM(data, Landscape(base=0.4, any_demo=0.3, difficulty=1.0))
    program = tf.Predict("question -> answer")
    better = program.with_parameters({"demos": [data[0].to_dict()]})
    with tf.context(lm=lm):
        found = tf.Evaluate(devset=data, metric=exact)(program).compare(tf.Evaluate(devset=data, metric=exact)(better))

    assert found.losses == 0
    assert found.wins > 15


def test_wrong_answers_are_of_the_type_that_is_asked_for():
    data = [tf.Example(thing=f"thing {i}", colour=COLOURS[i % 3], weight=i).with_inputs("thing") for i in range(60)]
    program = tf.ChainOfThought(f"thing -> colour: Literal{list(COLOURS)}, weight: int")
    with tf.context(lm=SimulatedLM(data, Landscape(base=0.0))):
        result = tf.Evaluate(devset=data, metric=lambda e, p: e.colour == p.colour or e.weight == p.weight)(program)

    assert result.statuses == {"ok": 60}
    assert result.mean == 0


def test_what_an_early_step_gets_wrong_misleads_a_later_one():
    class TwoSteps(tf.Module):
        def __init__(self):
            self.think = tf.Predict("question -> hint")
            self.answer = tf.Predict("question, hint -> answer")

        def forward(self, question):
            return self.answer(question=question, hint=self.think(question=question).hint)

    data = rows(300)

    assert score(SimulatedLM(data, Landscape(base=0.5, misled=0.0)), TwoSteps(), data) == pytest.approx(0.5, abs=0.08)
    assert score(SimulatedLM(data, Landscape(base=0.5, misled=0.5)), TwoSteps(), data) == pytest.approx(0.25, abs=0.08)


def test_it_says_what_it_cannot_read():
    program = tf.Predict("question -> answer")
    with tf.context(lm=SimulatedLM(rows(3))):
        with pytest.raises(tf.UsageError, match="no row that it knows"):
            program(question="something else")
        with tf.context(adapter="json"), pytest.raises(tf.UsageError, match="ChatAdapter"):
            program(question="q1")
