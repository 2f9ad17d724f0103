"""The answer that most samples give."""

import asyncio

import pytest

import tuneful as tf
from tuneful.testing import DummyLM, ScriptedLM


def said(*answers):
    return [{"reasoning": f"r{i}", "answer": a} for i, a in enumerate(answers)]


def test_the_most_frequent_answer_wins_and_all_votes_are_kept():
    vote = tf.SelfConsistency("question -> answer", n=5)
    found = vote.using(lm=DummyLM(said("22", "4", "four", "4.", "5")))(question="2+2?")
    assert (found.answer, found.reasoning) == ("4", "r1")
    assert sorted(found.completions.answer) == ["22", "4", "4.", "5", "four"]
    assert found.completions.answer[0] == "4"


def test_each_sample_is_another_request_with_the_temperature():
    lm = DummyLM(said("a", "b", "c"))
    tf.SelfConsistency("question -> answer", n=3).using(lm=lm)(question="x")
    assert sorted(r.sampling.rollout_id for r in lm.requests) == [1001, 1002, 1003]
    assert {r.sampling.temperature for r in lm.requests} == {0.7}


def test_temperatures_of_ones_own_stay():
    lm = DummyLM(said("a", "b"), temperature=0.3)
    tf.SelfConsistency("question -> answer", n=2).using(lm=lm)(question="x")
    assert {r.sampling.temperature for r in lm.requests} == {0.3}
    lm = DummyLM(said("a", "b"))
    tf.SelfConsistency(tf.ChainOfThought("question -> answer", temperature=1.1), n=2).using(lm=lm)(question="x")
    assert {r.sampling.temperature for r in lm.requests} == {1.1}


def test_a_program_votes_by_the_field_that_is_named():
    lm = DummyLM([{"label": a, "note": b} for a, b in (("x", "1"), ("y", "2"), ("y", "1"))])
    vote = tf.SelfConsistency(tf.Predict("text -> label, note"), n=3, field="label")
    assert vote.using(lm=lm)(text="t").label == "y"


def test_a_sample_that_cannot_be_read_does_not_vote():
    lm = ScriptedLM(["", "", "[[ ## n ## ]] 4", "", ""])
    found = tf.SelfConsistency(tf.Predict("q -> n: int"), n=3, temperature=0.5).using(lm=lm)(q="x")
    assert found.n == 4
    assert len(found.completions) == 1
    assert sum(s.error is not None for s in found.trace) == 2
    assert found.trace.noted["attempt failed"] == 2


def test_where_all_fail_the_error_is_raised():
    with pytest.raises(tf.AdapterParseError):
        tf.SelfConsistency(tf.Predict("q -> n: int"), n=2).using(lm=ScriptedLM([""] * 4))(q="x")


def test_samples_run_at_once():
    arrived, all_there = [], asyncio.Event()

    async def answer(request):
        arrived.append(request)
        if len(arrived) == 3:
            all_there.set()
        await all_there.wait()
        return "[[ ## answer ## ]] 4"

    found = tf.SelfConsistency(tf.Predict("question -> answer"), n=3).using(lm=ScriptedLM(answer))(question="x")
    assert found.answer == "4"


def test_greedy_samples_would_all_be_the_same():
    lm = DummyLM([])
    with pytest.raises(tf.UsageError, match="temperature=0"):
        tf.SelfConsistency(tf.Predict("q -> a", temperature=0)).using(lm=lm)(q="x")
    assert lm.requests == []


@pytest.mark.parametrize(
    "options", [{"n": 0}, {"n": 1.5}, {"temperature": 0}, {"temperature": "hot"}, {"temperature": 9}]
)
def test_wrong_numbers_are_usage_errors(options):
    with pytest.raises(tf.UsageError, match="expected"):
        tf.SelfConsistency("question -> answer", **options)


def test_an_unknown_field_and_other_results_are_said():
    class Words(tf.Module):
        async def forward(self, q):
            return "words"

    with pytest.raises(tf.DataError, match="no field `label`"):
        tf.SelfConsistency("q -> a", n=1, field="label").using(lm=DummyLM([{"reasoning": "r", "a": "x"}]))(q="x")
    with pytest.raises(tf.UsageError, match="votes over predictions"):
        tf.SelfConsistency(Words(), n=1)(q="x")


def test_a_repetition_of_it_has_samples_of_its_own():
    from tuneful.program.running.runtime import rollout

    lm = DummyLM(said("a", "b", "a", "b"))
    vote = tf.SelfConsistency("question -> answer", n=2).using(lm=lm)
    vote(question="x")
    with rollout(1):
        vote(question="x")
    assert len({r.sampling.rollout_id for r in lm.requests}) == 4
