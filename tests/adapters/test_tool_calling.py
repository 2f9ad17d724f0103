"""ToolCallingAdapter: the outputs as the arguments of a tool."""

import json

import pytest
from cases import plan

import tuneful as tf
from tuneful.adapters.json import JSONAdapter
from tuneful.adapters.tool_calling import ToolCallingAdapter
from tuneful.backends.http.anthropic import Anthropic
from tuneful.backends.http.chat_completions import ChatCompletions
from tuneful.backends.http.gemini import Gemini
from tuneful.backends.models import ModelFacts
from tuneful.spec.signature import Signature
from tuneful.testing import ScriptedLM
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import ToolCall
from tuneful.wire.response import Choice, Response

TOOLS = ToolCallingAdapter()
ABLE = Capabilities(tools=True)
QA = Signature("question -> answer, score: float")
DEMOS = [{"question": "q1", "answer": "x", "score": 1.0}, {"question": "q2", "answer": "y", "score": 0.5}]


def called(arguments, *, name="answer", text="", id_="t1"):
    return Response((Choice(text, "tools", tool_calls=(ToolCall(id_, name, arguments),)),))


def asked(*answers, **options):
    lm = ScriptedLM(list(answers), capabilities=ABLE)
    program = tf.Predict(QA, **options).using(lm=lm, adapter="tools")
    return program, lm


def test_the_outputs_are_the_arguments_of_one_forced_tool():
    program, lm = asked(called('{"answer": "Paris", "score": 1}'))
    prediction = program(question="Capital of France?")
    assert (prediction.answer, prediction.score) == ("Paris", 1.0)
    (request,) = lm.requests
    (tool,) = request.tools
    assert (tool.name, request.tool_choice, request.json_schema) == ("answer", "answer", None)
    assert json.loads(tool.parameters)["required"] == ["answer", "score"]
    assert prediction.trace.steps[0].noted == {}


@pytest.mark.parametrize(
    ("response", "noted"),
    [
        (called("```json\n{'answer': 'Paris', 'score': 0.5,}\n```"), "json mended"),
        (called('{"answer": "Paris", "score": 0.5}', name="final_answer"), "tool of another name"),
        (Response((Choice('{"answer": "Paris", "score": 0.5}'),)), "tool not called"),
        (Response((Choice('Sure: {"answer": "Paris", "score": 0.5}'),)), "tool not called"),
    ],
)
def test_malformed_and_unasked_for_forms_are_understood_and_noted(response, noted):
    program, _ = asked(response)
    prediction = program(question="x")
    assert (prediction.answer, prediction.score) == ("Paris", 0.5)
    assert f"{noted} (tolerated)" in prediction.trace.steps[0].noted


@pytest.mark.parametrize(
    ("bad", "sent"), [('{"answer": "Paris"}', '{"answer": "Paris"}'), ("[oops", '{"answer": "[oops"}')]
)
def test_the_repair_turn_is_the_result_of_the_call(bad, sent):
    program, lm = asked(called(bad, text="Let me see."), called('{"answer": "Paris", "score": 1}'))
    assert program(question="x").score == 1.0
    turn, result = lm.requests[1].messages[-2:]
    assert (turn.role, turn.text, turn.tool_calls) == ("assistant", "Let me see.", (ToolCall("t1", "answer", sent),))
    assert (result.role, result.call_id) == ("tool", "t1")
    assert "score" in result.text
    assert lm.requests[1].tools == lm.requests[0].tools


def test_an_error_shows_the_arguments_as_the_raw_answer():
    program, _ = asked(called("{}"), called('{"answer": 1}'))
    with pytest.raises(tf.AdapterParseError) as caught:
        program(question="x")
    assert caught.value.raw == 'answer({"answer": 1})'


def test_several_samples():
    choices = tuple(called(json.dumps({"answer": a, "score": 1})).choices[0] for a in "abc")
    program, _ = asked(Response(choices), n=3, temperature=1.0)
    assert program(question="x").completions.answer == ["a", "b", "c"]


def test_a_demo_is_a_call_and_its_result_as_every_layout_takes_them():
    request = TOOLS.render(plan(TOOLS, QA, ABLE), DEMOS, {"question": "live"})
    assert [m.role for m in request.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "user",
        "assistant",
        "tool",
        "user",
    ]
    assert request.stable == 7
    facts = ModelFacts()

    turns = ChatCompletions().to_body(request, "m", facts)["messages"]
    ids = [c["id"] for t in turns for c in t.get("tool_calls", ())]
    assert ids == [t["tool_call_id"] for t in turns if t["role"] == "tool"]
    assert len(set(ids)) == 2
    assert all(i.isalnum() and len(i) == 9 for i in ids)

    turns = Anthropic().to_body(request, "m", facts)["messages"]
    assert [[b["type"] for b in t["content"]] for t in turns] == [
        ["text"], ["tool_use"], ["tool_result", "text"], ["tool_use"], ["tool_result", "text"],
    ]  # fmt: skip
    turns = Gemini().to_body(request, "m", facts)["contents"]
    assert [[next(iter(p)) for p in t["parts"]] for t in turns] == [
        ["text"], ["functionCall"], ["functionResponse", "text"], ["functionCall"], ["functionResponse", "text"],
    ]  # fmt: skip


def test_without_tools_it_is_the_json_adapter():
    able = Capabilities(json_schema=True)
    mine = TOOLS.render(plan(TOOLS, QA, able), DEMOS, {"question": "x"})
    assert mine == JSONAdapter().render(plan(JSONAdapter(), QA, able), DEMOS, {"question": "x"})


def test_a_model_that_may_choose_is_not_forced():
    free = ToolCallingAdapter(forced=False)
    assert free.render(plan(free, QA, ABLE), [], {"question": "x"}).tool_choice == "auto"
    assert free != TOOLS


def test_streamed_the_fields_come_at_the_end():
    program, _ = asked(called('{"answer": "Paris", "score": 1}', text='{"answer": "not this"'))
    ends = {e.field: e.value for e in program.stream(question="x") if isinstance(e, tf.FieldEnded)}
    assert ends == {"answer": "Paris", "score": 1.0}
    pieces = [e.text for e in program.using(lm=asked(called('{"answer": "Rome", "score": 1}'))[1]).stream(question="x")
              if isinstance(e, tf.FieldPiece)]  # fmt: skip
    assert "".join(pieces) == "Rome"


def test_what_is_shown_holds_the_tool_and_the_calls():
    program, _ = asked()
    program.demos = [tf.Example(question="q", answer="Paris", score=1.0)]
    shown = str(program.render(question="x"))
    assert "[a tool: answer. Gives the answer.]" in shown
    assert '[calls answer]\n{"answer": "Paris", "score": 1.0}' in shown
