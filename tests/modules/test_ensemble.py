"""Several programs and one result."""

import asyncio

import pytest

import tuneful as tf
from tuneful.testing import DummyLM, ScriptedLM


def member(answer):
    return tf.Predict("question -> answer").using(lm=ScriptedLM(lambda _: f"[[ ## answer ## ]] {answer}"))


def test_the_majority_decides_unless_a_function_is_given():
    members = [member(a) for a in ("4", "5", "4")]
    assert tf.EnsembledProgram(members)(question="x").answer == "4"
    joined = tf.EnsembledProgram(members, reduce_fn=lambda found: [p.answer for p in found])
    assert joined(question="x") == ["4", "5", "4"]


async def test_an_asynchronous_reduction():
    async def last(found):
        return found[-1]

    assert (await tf.EnsembledProgram([member("4"), member("5")], last).acall(question="x")).answer == "5"


def test_some_members_are_chosen_by_seed_and_inputs():
    ensemble = tf.EnsembledProgram([member(str(i)) for i in range(8)], lambda found: [p.answer for p in found], size=3)
    chosen = [ensemble(question=f"q{i}") for i in range(20)]
    assert chosen == [ensemble(question=f"q{i}") for i in range(20)]
    assert {len(c) for c in chosen} == {3}
    assert len({tuple(c) for c in chosen}) > 5
    other = tf.EnsembledProgram(ensemble.programs, ensemble.reduce_fn, size=3, seed=1)
    assert [other(question=f"q{i}") for i in range(20)] != chosen


def test_it_is_saved_and_loaded_with_its_members(tmp_path):
    ensemble = tf.EnsembledProgram([tf.Predict("question -> answer"), tf.ChainOfThought("question -> answer")])
    changed = ensemble.with_parameters({"programs[1].predict.instructions": "Take care."})
    changed.save(tmp_path / "e.json")
    assert ensemble.deepcopy().load(tmp_path / "e.json").parameters() == changed.parameters()
    with pytest.raises(tf.StateError):
        tf.EnsembledProgram([tf.Predict("question -> answer")]).load(tmp_path / "e.json")


def test_a_member_that_cannot_be_read_is_left_out_and_counted():
    wordy = tf.Predict("question -> answer: int").using(lm=ScriptedLM(lambda _: "no idea"))
    four = tf.Predict("question -> answer: int").using(lm=ScriptedLM(lambda _: "[[ ## answer ## ]] 4"))
    found = tf.EnsembledProgram([four, wordy, four])(question="x")
    assert (found.answer, found.trace.noted["member not read"]) == (4, 1)
    with pytest.raises(tf.AdapterParseError):
        tf.EnsembledProgram([wordy, wordy])(question="x")


def test_members_run_at_once_and_have_paths():
    arrived, all_there = [], asyncio.Event()

    async def answer(request):
        arrived.append(request)
        if len(arrived) == 3:
            all_there.set()
        await all_there.wait()
        return "[[ ## answer ## ]] 4"

    ensemble = tf.EnsembledProgram([tf.Predict("question -> answer") for _ in range(3)])
    found = ensemble.using(lm=ScriptedLM(answer))(question="x")
    assert sorted(s.path for s in found.trace) == ["programs[0]", "programs[1]", "programs[2]"]


def test_what_a_member_raises_is_raised():
    with pytest.raises(tf.InputError):
        tf.EnsembledProgram([member("4")]).using(lm=DummyLM([]))(query="x")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(([],), "list of programs"), ((["q -> a"],), "list of programs"), (([tf.Predict("q -> a")], 5), "reduce_fn"),
     (([tf.Predict("q -> a")], None, 2), "`size` is 2"), (([tf.Predict("q -> a")], None, 0), "`size` is 0")],
)  # fmt: skip
def test_wrong_arguments_are_usage_errors(arguments, said):
    with pytest.raises(tf.UsageError, match=said):
        tf.EnsembledProgram(*arguments)
