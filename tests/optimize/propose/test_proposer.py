"""Proposers: asked for variety, and from less where the model has no room for all."""

import pytest

import tuneful as tf
from tuneful.optimize.propose.data_summary import SummariseData, summary_job
from tuneful.optimize.propose.instructions import WriteInstructions, bare, fresh
from tuneful.optimize.propose.rules import InduceRules, with_rules
from tuneful.optimize.propose.wording import WriteWording, new_words
from tuneful.optimize.trial import Brief
from tuneful.testing import DummyLM, ScriptedLM
from tuneful.wire.capabilities import Capabilities

ANSWER = "[[ ## instructions ## ]]\nBe brief."


def test_what_is_not_known_is_shown_as_such():
    lm = ScriptedLM([ANSWER])
    with tf.context(lm=lm):
        assert WriteInstructions()(task="q -> a").instructions == "Be brief."

    assert "[[ ## tried ## ]]\n(none)" in lm.requests[0].messages[-1].text


def test_the_temperature_holds_also_where_the_lm_has_one_of_its_own():
    lm = ScriptedLM([ANSWER], temperature=0)
    with tf.context(lm=lm):
        WriteInstructions(1.2)(task="q -> a")

    assert lm.requests[0].sampling.temperature == 1.2


def test_a_model_that_takes_no_temperature_is_given_none():
    lm = ScriptedLM([ANSWER], capabilities=Capabilities(refuses=frozenset({"temperature"})))
    with tf.context(lm=lm):
        WriteInstructions(1.2)(task="q -> a")

    assert lm.requests[0].sampling.temperature is None


def test_a_temperature_that_is_none_is_refused_at_once():
    with pytest.raises(tf.UsageError, match="temperature"):
        WriteInstructions(-1)


def test_inputs_are_shortened_until_a_small_context_holds_them():
    lm = ScriptedLM([ANSWER], capabilities=Capabilities(context_tokens=600))
    examples = "\n".join(f"case {i}: the answer is {i}" for i in range(400))
    tried = "\n".join(f"attempt {i} of many" for i in range(400))
    with tf.context(lm=lm):
        found = WriteInstructions()(task="q -> a", examples=examples, tried=tried)

    shown = lm.requests[0].messages[-1].text
    assert found.instructions == "Be brief."
    assert len(shown.split()) < 600
    assert "case 0:" in shown
    assert "attempt 399 " in shown  # of attempts the last are the best
    assert "attempt 0 " not in shown


def test_proposers_can_be_compiled():
    rows = [tf.Example(task=f"t{i}", instructions="x").with_inputs("task") for i in range(4)]
    with tf.context(lm=ScriptedLM([])):
        learned = tf.LabeledFewShot(k=2).compile(WriteInstructions(), trainset=rows)

    assert len(learned.predict.demos) == 2


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ('"Be brief."', "Be brief."),
        (" 'Be.' ", "Be."),
        ('Say "yes" or "no"', 'Say "yes" or "no"'),
        ('"a" or "b"', None),
    ],
)
def test_quotes_are_taken_off_only_where_they_stand_around_all(said, meant):
    assert bare(said) == (said if meant is None else meant)


def test_proposals_that_are_empty_known_or_repeated_are_not_new():
    results = [{"instructions": t} for t in ("a", "", "b", "a", "c")]
    assert fresh([None, *results], ["b"]) == ["a", "c"]


@pytest.mark.parametrize(
    "text", ["- Add.\n- Carry.", "1. Add.\n2) Carry.", "Rule 1: Add.\nRule 2: Carry.", "* Add.\n\n* Carry.\n* Add."]
)
def test_rules_are_read_from_lists_of_any_form(text):
    lm = DummyLM([{"rules": text}])
    assert InduceRules().using(lm=lm)(task="q -> a", examples="...").rules == ["Add.", "Carry."]


def test_no_more_rules_than_asked_for_and_numbers_in_them_stay():
    lm = DummyLM([{"rules": "3 is odd.\n10 is even.\nLast."}])
    assert InduceRules().using(lm=lm)(task="q -> a", examples="...", number=2).rules == ["3 is odd.", "10 is even."]


def test_rules_follow_the_instructions():
    assert with_rules("Add.", ["Carry.", "Check."]) == "Add.\n\nFollow these rules:\n- Carry.\n- Check."
    assert with_rules("Add.", []) == "Add."


def test_words_of_a_field_are_one_line_each_and_what_is_no_label_is_left_out():
    lm = DummyLM([{"label": "A label\nin two lines:", "description": "x" * 400}])
    found = WriteWording().using(lm=lm)(task="q -> a", field="a")

    assert (found.label, found.description) == ("A label in two lines", "")


def test_words_that_change_nothing_are_not_new():
    now = {"label": "Answer", "desc": "a word"}
    results = [
        {"label": "", "description": ""},
        {"label": "City", "description": ""},
        None,
        {"label": "City", "description": "a word"},
    ]
    assert new_words(results, now, []) == [{"label": "City", "desc": "a word"}]


def test_a_summary_reads_rows_batch_by_batch(rows):
    brief = Brief({}, {}, rows(25), seed=1)
    jobs = [summary_job(brief, i, "so far", size=10, most=5) for i in range(4)]

    seen = [line for job in jobs[:3] for line in job.inputs["examples"].splitlines() if line.startswith("question")]
    assert sorted(seen) == sorted(f"question: q{i}" for i in range(25))
    assert jobs[3] is None
    assert summary_job(brief, 1, "", most=1) is None
    lm = DummyLM([{"summary": "Numbers."}])
    told = SummariseData().using(lm=lm)(**jobs[0].inputs)
    assert told.summary == "Numbers."
    assert "so far" in lm.requests[0].messages[-1].text
