"""The best of several attempts."""

import pytest

import tuneful as tf
from tuneful.testing import DummyLM, ScriptedLM


def titles(*texts):
    return DummyLM([{"title": t} for t in texts])


def shortness(args, prediction):
    return -len(prediction.title)


def best(lm, n=3, reward_fn=shortness, threshold=-3, **options):
    program = tf.BestOfN(tf.Predict("topic -> title"), n, reward_fn, threshold, **options)
    return program.using(lm=lm)


def test_it_ends_at_the_threshold():
    lm = titles("a long title", "tit", "never asked")
    assert best(lm)(topic="x").title == "tit"
    assert len(lm.requests) == 2


def test_below_the_threshold_the_best_wins_and_among_equals_the_earliest():
    assert best(titles("a long title", "shorter", "much longer title"))(topic="x").title == "shorter"
    assert best(titles("one", "two"), n=2, reward_fn=lambda a, p: 0.0, threshold=1)(topic="x").title == "one"


def test_attempts_are_other_samples_with_a_temperature():
    lm = titles(*["a long title"] * 3)
    best(lm)(topic="x")
    assert [r.sampling.rollout_id for r in lm.requests] == [1001, 1002, 1003]
    assert {r.sampling.temperature for r in lm.requests} == {1.0}


def test_a_temperature_that_is_set_stays_and_models_without_one_get_none():
    from tuneful.wire.capabilities import Capabilities

    lm = DummyLM([{"title": "abc"}], temperature=0.2)
    best(lm)(topic="x")
    assert lm.requests[0].sampling.temperature == 0.2
    lm = DummyLM([{"title": "abc"}], capabilities=Capabilities(refuses=frozenset({"temperature"})))
    best(lm)(topic="x")
    assert lm.requests[0].sampling.temperature is None


def test_a_second_run_is_the_same_as_the_first():
    lm = titles(*["a long title", "tit"] * 2)
    program = best(lm, fail_count=1)
    assert program(topic="x") == program(topic="x")
    assert [r.sampling.rollout_id for r in lm.requests] == [1001, 1002, 1001, 1002]


async def asynchronous(args, prediction):
    assert args == {"topic": "x"}
    return prediction.title == "tit"


class Judge(tf.Module):
    def forward(self, args, prediction):
        return tf.Score(float(prediction.title == "tit"))


@pytest.mark.parametrize("reward", [asynchronous, Judge(), lambda args, p: p.title == "tit"])
def test_a_reward_is_plain_or_asynchronous_or_a_program(reward):
    assert best(titles("no", "tit"), reward_fn=reward, threshold=1)(topic="x").title == "tit"


def test_the_trace_holds_every_attempt_under_the_right_path():
    class Outer(tf.Module):
        def __init__(self):
            self.best = tf.BestOfN(tf.ChainOfThought("q -> a"), N=2, reward_fn=lambda args, p: p.a == "y", threshold=1)

        def forward(self, q):
            return self.best(q=q)

    lm = DummyLM([{"reasoning": "r", "a": a} for a in "xy"])
    trace = Outer().using(lm=lm)(q="q").trace
    assert [s.path for s in trace] == ["best.module.predict"] * 2
    assert [s.superseded for s in trace] == [True, False]


def test_demos_come_from_the_attempt_that_was_used():
    lm = DummyLM([{"a": a} for a in ("bad", "good")] * 8)
    program = tf.BestOfN(tf.Predict("q -> a"), N=2, reward_fn=lambda args, p: p.a == "good", threshold=1)
    rows = [tf.Example(q="one").with_inputs("q"), tf.Example(q="two").with_inputs("q")]
    with tf.context(lm=lm, num_threads=1):
        compiled = tf.BootstrapFewShot(max_labeled_demos=2).compile(program, trainset=rows)
    assert [d.a for d in compiled.module.demos] == ["good", "good"]


UNREADABLE = ["", ""]  # with the repair turn


def test_attempts_that_fail_count_and_the_others_go_on():
    lm = ScriptedLM([*UNREADABLE, "[[ ## title ## ]] tit"])
    assert best(lm, fail_count=1)(topic="x").title == "tit"
    with pytest.raises(tf.AdapterParseError):
        best(ScriptedLM([*UNREADABLE, *UNREADABLE]), fail_count=1)(topic="x")
    with pytest.raises(tf.AdapterParseError):
        best(ScriptedLM(UNREADABLE), fail_count=0)(topic="x")


def test_where_every_attempt_fails_the_last_error_is_raised():
    with pytest.raises(tf.AdapterParseError):
        best(ScriptedLM([""] * 6))(topic="x")


def test_a_failure_after_a_success_gives_the_success():
    lm = ScriptedLM(["[[ ## title ## ]] a long title", *UNREADABLE, *UNREADABLE])
    assert best(lm)(topic="x").title == "a long title"


def test_what_no_attempt_can_mend_is_raised_at_once():
    lm = titles()
    with pytest.raises(tf.InputError, match="`topics`"):
        best(lm)(topics="x")
    assert lm.requests == []
    lm = ScriptedLM([tf.LMAuthError("no key")])
    with pytest.raises(tf.LMAuthError):
        best(lm)(topic="x")


@pytest.mark.parametrize(
    ("reward", "said"),
    [(lambda a, p: 1 / 0, "raised ZeroDivisionError"), (lambda a, p: "good", "must return a number"),
     (lambda a, p: None, "must return a number"), (lambda a, p: float("nan"), "NaN"), (lambda a: 1, "raised TypeError")],
)  # fmt: skip
def test_a_reward_that_gives_no_number_is_a_metric_error_after_one_attempt(reward, said):
    lm = titles("one", "two")
    with pytest.raises(tf.MetricError, match=said):
        best(lm, reward_fn=reward)(topic="x")
    assert len(lm.requests) == 1


def test_the_module_is_not_changed():
    inner = tf.Predict("topic -> title")
    tf.BestOfN(inner, 2, shortness, 0).using(lm=titles("a", "b"))(topic="x")
    assert (inner.lm, inner.sampling.temperature, inner.demos) == (None, None, [])


def test_greedy_attempts_would_all_be_the_same():
    lm = titles()
    with pytest.raises(tf.UsageError, match="temperature=0"):
        tf.BestOfN(tf.Predict("topic -> title", temperature=0), 2, shortness, 0).using(lm=lm)(topic="x")
    assert lm.requests == []


@pytest.mark.parametrize(
    "wrong",
    [{"N": 0}, {"N": "3"}, {"fail_count": -1}, {"threshold": "high"}, {"threshold": float("nan")}, {"reward_fn": 5}, {"module": "q -> a"}],
)  # fmt: skip
def test_wrong_arguments_are_usage_errors(wrong):
    right = {"module": tf.Predict("q -> a"), "N": 2, "reward_fn": shortness, "threshold": 1.0}
    with pytest.raises(tf.UsageError, match=next(iter(wrong))):
        tf.BestOfN(**{**right, **wrong})


def test_the_number_of_attempts_may_be_a_parameter():
    program = tf.BestOfN(tf.Predict("topic -> title"), tf.Integer(1, 4, default=2), shortness, 0)
    lm = titles(*["long"] * 4)
    program.with_parameters({"N": 4}).using(lm=lm)(topic="x")
    assert len(lm.requests) == 4
