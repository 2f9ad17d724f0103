"""What a search must leave of a budget: rollouts to come cost what those before did, and what their prompts are longer."""

import pytest

import tuneful as tf
from tuneful.backends.budget import Budget, Meter
from tuneful.optimize.prompts import size
from tuneful.optimize.reserve import Reserve

QA = tf.Predict("question -> answer")
LONG, SHORT = {"instructions": "long"}, {"instructions": "short"}
SIZES = {"long": 500, "short": 40, None: 60}


def record(tokens, calls=1, usd=None):
    usage = {"prompt_tokens": tokens - 10, "completion_tokens": 10, "calls": calls, "cost_usd": usd}
    return {"usage": usage}


def reserve(**limits):
    return Reserve(Meter(Budget(**limits)), lambda candidate, who: SIZES[candidate.get("instructions")])


@pytest.mark.parametrize(("candidate", "room"), [({}, 10), (LONG, 1), (SHORT, 12)])
def test_what_was_not_run_yet_costs_more_where_its_prompts_are_longer(candidate, room):
    known = reserve(tokens=1_000)
    known.note({}, [record(100), record(100)])

    assert known.short_of([(candidate, room)]) is None
    assert known.short_of([(candidate, room + 1)]) == "tokens"


def test_a_program_that_asks_twice_sends_what_is_longer_twice():
    known = reserve(tokens=2 * 540 * 3)
    known.note({}, [record(200, calls=2)])

    assert known.affordable([LONG], 100) == 3


def test_what_was_run_costs_what_it_did_and_what_nobody_knows_yet_the_dearest():
    known = reserve(tokens=1_000)
    known.note({}, [record(100)])
    known.note(LONG, [record(200)])

    assert known.affordable([LONG], 100) == 5
    assert known.affordable([None], 100) == 5


def test_the_size_of_a_program_is_that_of_all_its_prompts_however_long(landscape):
    with tf.context(lm=landscape(0.3, 0.9)):
        short, long = (size(QA.with_parameters({"instructions": "Look again. " * n})) for n in (10, 10_000))

    assert long - short == pytest.approx(9_990 * 3, rel=0.01)


def test_dollars_grow_as_tokens_do():
    known = reserve(usd=1.0)
    known.note({}, [record(100, usd=0.01)])

    assert known.affordable([{}], 1000) == 100
    assert known.affordable([LONG], 1000) == 18


def test_prompts_that_are_long_before_any_is_run_leave_the_comparison_its_share(rows, metric, landscape, writer):
    rules = writer(*(f"Look {i} times at all of it. " * 60 for i in range(10)))
    with tf.context(lm=landscape(0.3, 0.9), num_threads=8):
        report = (
            tf.InferRules(metric, prompt_model=rules, max_labeled_demos=2)
            .compile(QA, trainset=rows(60), valset=rows(40, start=500), budget=tf.Budget(tokens=50_000))
            .report
        )

    assert report.verdict == "better"
    assert report.best.n >= 38  # nearly all: what a run will take is an estimate
    assert "leaves the comparison" in report.stop_reason
