"""FallbackAdapter: what one adapter cannot read, the next one asks for."""

import pytest

import tuneful as tf
from tuneful.adapters.chat import ChatAdapter
from tuneful.adapters.fallback import FallbackAdapter
from tuneful.adapters.json import JSONAdapter
from tuneful.adapters.select import name_of, resolve
from tuneful.adapters.two_step import TwoStepAdapter
from tuneful.testing import ScriptedLM
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.response import Choice, Response

GOOD = "[[ ## answer ## ]]\n7"


def asked(*answers, adapter="json>chat", **options):
    lm = ScriptedLM(list(answers))
    return tf.Predict("question -> answer: int", **options).using(lm=lm, adapter=adapter), lm


@pytest.mark.parametrize(
    "adapter",
    ["json>chat", " json > chat ", ["json", "chat"], ("json", ChatAdapter()), FallbackAdapter([JSONAdapter(), "chat"])],
)
def test_the_next_adapter_asks_in_place_of_a_repair_turn(adapter):
    program, lm = asked("no idea", GOOD, adapter=adapter)
    prediction = program(question="x")
    assert prediction.answer == 7
    first, second = lm.requests
    assert "JSON object" in first.messages[0].text
    assert "[[ ## answer ## ]]" in second.messages[0].text
    assert [m.role for m in second.messages] == ["system", "user"]  # asked anew, not shown its answer
    (step,) = prediction.trace
    assert (step.repairs, step.noted) == (1, {"fallback to chat": 1})


def test_an_answer_that_can_be_read_costs_one_call():
    program, lm = asked('Sure: {"answer": 7}')
    assert program(question="x").answer == 7
    assert len(lm.requests) == 1


def test_the_last_one_gets_its_repair_turn_and_then_the_error():
    program, lm = asked("?", "?", "?", "<answer>7</answer>", adapter="json>chat>xml")
    prediction = program(question="x")
    assert prediction.answer == 7
    assert prediction.trace.steps[0].reasons == ["", "fallback to chat", "fallback to xml", "repair turn"]
    assert lm.requests[-1].messages[-2].text == "?"
    assert "<answer>" in lm.requests[-1].messages[0].text
    with pytest.raises(tf.AdapterParseError):
        asked("?", "?", "?")[0](question="x")
    program, lm = asked("?", "?", "?")
    with tf.context(max_repairs=0), pytest.raises(tf.AdapterParseError):
        program(question="x")
    assert len(lm.requests) == 2


def test_each_broken_sample_falls_back_alone_by_a_request_of_its_own():
    program, lm = asked(['{"answer": 1}', "b", "c"], GOOD, GOOD.replace("7", "8"), n=3, temperature=0.7)
    assert program(question="x").completions.answer == [1, 7, 8]
    assert [(r.sampling.n, r.sampling.temperature) for r in lm.requests] == [(3, 0.7), (1, 0.7), (1, 0.7)]
    assert lm.requests[1] != lm.requests[2]  # or a cache would answer both with one sample


def test_an_answer_that_was_cut_off_gets_more_room():
    cut = Response((Choice('{"ans', "length"),))
    program, lm = asked(cut, GOOD, max_tokens=10)
    assert program(question="x").answer == 7
    assert [r.sampling.max_tokens for r in lm.requests] == [10, 20]


def test_demos_are_shown_by_every_adapter():
    program, lm = asked("?", GOOD)
    program.demos = [{"question": "1+1", "answer": 2}]
    program(question="x")
    assert [r.messages[2].text for r in lm.requests] == [
        '{"answer": 2}',
        "[[ ## answer ## ]]\n2\n\n[[ ## completed ## ]]",
    ]


def test_what_was_streamed_is_retracted_before_the_next_one_is_heard():
    program, _ = asked('{"answer": "se', GOOD)
    events = list(program.stream(question="x"))
    kinds = [type(e).__name__ for e in events]
    assert kinds == ["FieldStarted", "Retracted", "FieldStarted", "FieldEnded", "Finished"]
    assert events[3].value == 7


def test_a_sample_that_falls_back_is_not_heard_beside_the_first():
    program, _ = asked(['{"answer": 1}', "b"], GOOD, n=2, temperature=0.7)
    ends = [e.value for e in program.stream(question="x") if isinstance(e, tf.FieldEnded)]
    assert ends == [1]


def test_a_two_step_adapter_may_be_followed_by_another():
    two = TwoStepAdapter(ScriptedLM(["?", "?"]))
    program, lm = asked("seven", GOOD, adapter=[two, "chat"])
    prediction = program(question="x")
    assert prediction.answer == 7
    assert len(lm.requests) == 2
    assert prediction.trace.steps[0].reasons == ["", "extraction", "repair turn", "fallback to chat"]


def test_its_name_is_its_value_as_a_parameter(tmp_path):
    program = tf.Predict("question -> answer: int")
    program.adapter = ["json", ChatAdapter()]
    assert program.parameters()["adapter"].value == "json>chat"
    program.save(tmp_path / "p.json")
    loaded = tf.Predict("question -> answer: int").load(tmp_path / "p.json")
    lm = ScriptedLM(["?", GOOD])
    assert loaded(question="x", lm=lm).answer == 7
    assert program.with_parameters({"adapter": "xml>json"}).adapter == "xml>json"
    assert program.with_parameters({"adapter": None}).adapter is None
    assert program.using(lm=lm).render(question="x").adapter == "json>chat"


def test_auto_within_it_looks_at_the_backend():
    small = resolve("json>auto", Capabilities(small=True))
    assert [a.name for a in small.chain] == ["json", "compact"]
    assert [a.name for a in resolve("json>auto", Capabilities()).chain] == ["json", "chat"]


@pytest.mark.parametrize(
    "bad", ["json>caht", ["json", "caht"], [], ["json"], ["json", 3], [FallbackAdapter(["json", "chat"]), "xml"]]
)
def test_what_makes_no_fallback_is_a_usage_error_before_any_call(bad):
    program, lm = asked("x", adapter=bad)
    with pytest.raises(tf.UsageError, match=r"Did you mean `chat`|FallbackAdapter takes"):
        program(question="x")
    assert lm.requests == []


def test_equal_ones_are_equal():
    assert FallbackAdapter(["json", "chat"]) == FallbackAdapter(("json", "chat"))
    assert FallbackAdapter(["json", "chat"]) != FallbackAdapter(["chat", "json"])
    assert name_of(["json", "chat"]) == "json>chat"
