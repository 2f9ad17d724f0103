"""TwoStepAdapter: a free answer, and a second model that extracts the outputs."""

import pytest

import tuneful as tf
from tuneful.adapters.two_step import TwoStepAdapter
from tuneful.backends.budget import Meter
from tuneful.backends.metered import metered
from tuneful.testing import ScriptedLM
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.response import Choice, Response

WORDS = "Let me think. Two spiders have eight legs each, so it is sixteen."
FOUND = "[[ ## answer ## ]]\n16\n[[ ## sure ## ]]\ntrue"


def program_of(main, extraction, *, extractor="auto", able=None, **options):
    first = ScriptedLM(main, model="thinker")
    second = ScriptedLM(extraction, model="reader", capabilities=able or Capabilities())
    adapter = TwoStepAdapter(second, extractor)
    program = tf.Predict("question -> answer: int, sure: bool", **options).using(lm=first, adapter=adapter)
    return program, first, second


def test_the_second_model_extracts_what_the_first_one_said():
    program, first, second = program_of([WORDS], [FOUND])
    prediction = program(question="How many legs do two spiders have?")
    assert (prediction.answer, prediction.sure) == (16, True)
    asked = first.requests[0]
    assert "How many legs" in asked.messages[-1].text
    assert "in your own words" in asked.messages[0].text
    assert (asked.grammar, asked.json_schema, "[[ ##" in asked.messages[0].text) == (None, None, False)
    assert WORDS in second.requests[0].messages[-1].text
    assert "How many legs" not in second.requests[0].messages[-1].text


def test_both_calls_are_in_the_trace_and_in_every_budget():
    program, *_ = program_of([WORDS], [FOUND])
    with tf.track_usage() as meter:
        prediction = program(question="x")
    (step,) = prediction.trace
    assert [r.text for r in step.responses] == [WORDS, FOUND]
    assert (step.reasons, step.models, step.repairs, step.noted) == (["", "extraction"], ["thinker", "reader"], 0, {})
    assert (step.model, step.usage.calls, meter.usage.calls) == ("thinker", 2, 2)
    assert {m: u["calls"] for m, u in prediction.trace.usage_by_model().items()} == {"thinker": 1, "reader": 1}
    with metered(Meter(tf.Budget(calls=1))), pytest.raises(tf.BudgetExceeded):
        program_of([WORDS], [FOUND])[0](question="x")


def test_the_extraction_is_held_to_what_its_backend_enforces():
    able = Capabilities(json_schema=True)
    program, _, second = program_of([WORDS], ['{"answer": 16, "sure": true}'], extractor="json", able=able)
    assert program(question="x").answer == 16
    assert second.requests[0].json_schema is not None


def test_an_extraction_that_cannot_be_read_gets_the_usual_repair_turn():
    program, first, second = program_of([WORDS], [FOUND.replace("16", "many"), FOUND])
    prediction = program(question="x")
    assert prediction.answer == 16
    assert (len(first.requests), len(second.requests)) == (1, 2)
    (step,) = prediction.trace
    assert step.reasons == ["", "extraction", "repair turn"]
    assert (step.repairs, step.noted) == (1, {"repair turn": 1})
    with pytest.raises(tf.AdapterParseError) as caught:
        program_of([WORDS], ["?", "?"])[0](question="x")
    assert caught.value.raw == "?"


def test_every_sample_has_an_extraction_of_its_own():
    answers = [FOUND, FOUND.replace("16", "17")]
    program, _, second = program_of([[WORDS, "It is seventeen."]], answers, n=2, temperature=0.7)
    assert program(question="x").completions.answer == [16, 17]
    assert [r.sampling.n for r in second.requests] == [1, 1]


def test_half_an_answer_is_not_extracted_from():
    cut = Response((Choice("Let me th", "length"),))
    program, first, second = program_of([cut, WORDS], [FOUND], max_tokens=10)
    assert program(question="x").answer == 16
    assert [r.sampling.max_tokens for r in first.requests] == [10, 20]
    assert len(second.requests) == 1
    with pytest.raises(tf.AdapterParseError) as caught:
        program_of([cut], [FOUND])[0](question="x")
    assert caught.value.truncated


def test_demos_are_plain_words_and_hold_no_marks():
    program, first, _ = program_of([WORDS], [FOUND])
    program.demos = [{"question": "1+1?", "answer": 2, "sure": True}]
    program(question="x")
    assert [m.text for m in first.requests[0].messages[1:3]] == ["Question: 1+1?", "Answer: 2\nSure: true"]


def test_an_output_may_be_called_text():
    second = ScriptedLM(["[[ ## text ## ]]\nshort"])
    program = tf.Predict("text_ -> text").using(lm=ScriptedLM(["It is short."]), adapter=TwoStepAdapter(second))
    assert program(text_="long").text == "short"


def test_a_listener_hears_the_thoughts_of_the_first_and_the_fields_of_the_second():
    thinking = Response((Choice(WORDS, reasoning="hm"), Choice("no")))
    program, *_ = program_of([thinking], [FOUND, FOUND], n=2, temperature=0.7)
    events = list(program.stream(question="x"))
    kinds = [type(e).__name__ for e in events]
    assert kinds[0] == "ReasoningPiece"
    assert "Retracted" not in kinds
    assert [(e.field, e.value) for e in events if isinstance(e, tf.FieldEnded)] == [("answer", 16), ("sure", True)]


def test_dspys_call_shape_and_what_is_no_lm():
    lm = ScriptedLM([])
    assert TwoStepAdapter(extraction_model=lm) == TwoStepAdapter(lm)
    assert TwoStepAdapter(lm) != TwoStepAdapter(ScriptedLM([]))
    for bad in ({}, {"extraction_lm": lm, "extraction_model": lm}, {"extraction_lm": "openai/gpt-4o-mini"}):
        with pytest.raises(tf.UsageError, match="TwoStepAdapter"):
            TwoStepAdapter(**bad)


def test_it_stays_when_parameters_are_set_and_saved(tmp_path):
    program, *_ = program_of([WORDS], [FOUND])
    assert program.parameters()["adapter"].value == "two_step"
    copy = program.with_parameters({"adapter": "two_step", "instructions": "Count."})
    assert copy.adapter == program.adapter
    program.lm = None  # a scripted one cannot be loaded
    program.save(tmp_path / "p.json")
    fresh, first, _ = program_of([WORDS], [FOUND])
    fresh.load(tmp_path / "p.json")
    assert fresh(question="x", lm=first).answer == 16
    bare = tf.Predict("question -> answer: int, sure: bool").load(tmp_path / "p.json")
    with pytest.raises(tf.UsageError, match="give the adapter itself"):
        bare(question="x", lm=ScriptedLM([]))
