"""Metrics in every form that a user may write them in."""

import pytest

import tuneful as tf
from tuneful.evaluate.metric import Metric
from tuneful.program.trace import Trace

ROW = tf.Example(question="q", answer="a").with_inputs("question")
SAME = tf.Prediction(answer="a")


class Judge(tf.Module):
    def __init__(self):
        self.judge = tf.Predict("answer, gold -> good: bool")

    def forward(self, example, prediction, trace=None):
        verdict = self.judge(answer=prediction.answer, gold=example.answer)
        return tf.Prediction(score=float(verdict.good), feedback="judged")


async def test_a_bool_a_number_and_a_score_are_all_scores():
    assert (await Metric(lambda e, p: True)(ROW, SAME)).value == 1.0
    assert (await Metric(lambda e, p: 0.25)(ROW, SAME)).value == 0.25
    assert (await Metric(lambda e, p: tf.Score(0.5, feedback="half"))(ROW, SAME)).feedback == "half"


async def test_an_async_metric_is_awaited():
    async def metric(example, prediction):
        return example.answer == prediction.answer

    assert (await Metric(metric)(ROW, SAME)).value == 1.0


async def test_another_program_is_a_metric():
    judge = Judge().using(lm=tf.testing.DummyLM([{"good": True}]))

    assert await Metric(judge)(ROW, SAME) == tf.Score(1.0, "judged")


async def test_the_trace_is_passed_only_where_the_metric_takes_it_and_the_demos_are_bootstrapped():
    seen = []

    def metric(example, prediction, trace=None):
        seen.append(trace)
        return True

    trace = Trace()
    await Metric(metric)(ROW, SAME)
    await Metric(metric)(ROW, SAME, trace)
    await Metric(lambda e, p: True)(ROW, SAME, trace)

    assert seen == [None, trace]


@pytest.mark.parametrize("wrong", [lambda: True, lambda e: True, lambda a, b, c, d: True, "not a function"])
def test_a_metric_of_the_wrong_shape_is_refused_before_any_call(wrong):
    with pytest.raises(tf.MetricError, match="def metric"):
        Metric(wrong)


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    "returned",
    [
        None,
        "good",
        NAN,
        -INFINITE,
        10**400,
        1e300,
        tf.Score(None),
        tf.Score(NAN),
        tf.Score("good"),
        tf.Prediction(score=INFINITE),
        tf.Prediction(score=None),
    ],
)
async def test_something_that_is_no_finite_score_is_refused(returned):
    with pytest.raises(tf.MetricError, match="expected a bool, a finite number"):
        await Metric(lambda e, p: returned)(ROW, SAME)
