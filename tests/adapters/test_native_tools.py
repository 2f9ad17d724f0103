"""A signature with tools and tool calls, by the backend's own tool calling."""

import json

import pytest

import tuneful as tf
from tuneful.backends.http.anthropic import Anthropic
from tuneful.backends.http.chat_completions import ChatCompletions
from tuneful.backends.http.gemini import Gemini
from tuneful.backends.models import ModelFacts
from tuneful.spec.trajectory import Trajectory, TrajectoryStep
from tuneful.testing import ScriptedLM, calls
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import ToolCall
from tuneful.wire.response import Choice, Response

NATIVE = Capabilities(tools=True)


def search(query: str) -> str:
    """Search the library."""
    return query


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


TOOLS = [search, add]
ASK = tf.Predict("question, tools: list[tf.Tool] -> calls: tf.ToolCalls")
STEPS = tf.Predict("question, tools: list[tf.Tool], steps: tf.Trajectory -> calls: tf.ToolCalls")
PAST = Trajectory(
    (
        TrajectoryStep(
            "look", (tf.ToolCall("search", {"query": "a"}, "x1", "sig"), tf.ToolCall("add", {})), ("r1", "r2")
        ),
        TrajectoryStep("hm", (), ("call a tool",)),
    )
)


def sent(program, *answers, **inputs):
    lm = ScriptedLM(list(answers), capabilities=NATIVE)
    program(**inputs, tools=TOOLS, lm=lm)
    return lm.requests


def test_tools_go_beside_the_messages_and_calls_come_back_beside_the_answer():
    (request,) = sent(ASK, calls(("add", {"a": 1, "b": 2})), question="q")
    assert [t.name for t in request.tools] == ["search", "add"]
    assert json.loads(request.tools[1].parameters)["required"] == ["a", "b"]
    assert request.tool_choice == "auto"
    assert "Tool" not in "".join(m.text for m in request.messages)
    assert "Search the library" not in "".join(m.text for m in request.messages)


def test_several_calls_and_what_was_said_beside_them():
    lm = ScriptedLM(
        [calls(("add", {"a": 1, "b": 2}), ("search", {"query": "x"}), thought="Both.")], capabilities=NATIVE
    )
    found = ASK(question="q", tools=TOOLS, lm=lm).calls
    assert [c.name for c in found] == ["add", "search"]
    assert found.thought == "Both."


def test_an_answer_without_calls_is_no_call():
    lm = ScriptedLM(["I know it: 4."], capabilities=NATIVE)
    found = ASK(question="q", tools=TOOLS, lm=lm).calls
    assert (len(found), found.thought) == (0, "I know it: 4.")


def test_where_a_call_is_demanded_the_model_is_told_and_asked_again():
    class Must(tf.Signature):
        question: str = tf.InputField()
        tools: list[tf.Tool] = tf.InputField()
        calls: tf.ToolCalls = tf.OutputField(min_length=1)

    first, second = sent(tf.Predict(Must), "no", calls(("add", {"a": 1, "b": 2})), question="q")
    assert first.tool_choice == "required"
    assert "call one" in second.messages[-1].text


def test_a_model_that_thinks_and_cannot_be_forced_is_left_to_choose():
    class Must(tf.Signature):
        question: str = tf.InputField()
        tools: list[tf.Tool] = tf.InputField()
        calls: tf.ToolCalls = tf.OutputField(min_length=1)

    able = Capabilities(tools=True, unforced=frozenset({"reasoning_effort"}))
    lm = ScriptedLM([calls(("add", {}))], capabilities=able, reasoning_effort="low")
    tf.Predict(Must)(question="q", tools=TOOLS, lm=lm)
    assert lm.requests[0].tool_choice == "auto"


@pytest.mark.parametrize(
    ("arguments", "args", "noted"),
    [("{'a': 1, 'b': 2,}", {"a": 1, "b": 2}, "json mended (tolerated)"), ("", {}, None)],
)
def test_malformed_arguments_are_mended(arguments, args, noted):
    lm = ScriptedLM([calls(("add", arguments))], capabilities=NATIVE)
    found = ASK(question="q", tools=TOOLS, lm=lm)
    assert found.calls[0].args == args
    assert (noted in found.trace.noted) if noted else not found.trace.noted


def test_arguments_that_are_none_are_told_as_the_result_of_the_call():
    _, second = sent(ASK, calls(("add", "[1, 2]")), calls(("add", {"a": 1, "b": 2})), question="q")
    turn, result = second.messages[-2:]
    assert (turn.role, turn.tool_calls[0].id) == ("assistant", "id0")
    assert (result.role, result.call_id) == ("tool", "id0")
    assert "no JSON object" in result.text


def test_other_outputs_are_read_from_the_text():
    ask = tf.Predict("question, tools: list[tf.Tool] -> mood, calls: tf.ToolCalls")
    lm = ScriptedLM([calls(("add", {"a": 1, "b": 2}), thought="[[ ## mood ## ]]\ngood")], capabilities=NATIVE)
    found = ask(question="q", tools=TOOLS, lm=lm)
    assert (found.mood, found.calls[0].name) == ("good", "add")


def test_a_trajectory_becomes_the_turns_that_it_tells_of():
    (request,) = sent(STEPS, calls(("add", {})), question="q", steps=PAST)
    roles = [m.role for m in request.messages]
    assert roles == ["system", "user", "assistant", "tool", "tool", "assistant", "user"]
    first = request.messages[2].tool_calls
    assert first[0] == ToolCall("x1", "search", '{"query": "a"}', "sig")
    assert [m.call_id for m in request.messages[3:5]] == [c.id for c in first]
    assert [m.text for m in request.messages[3:5]] == ["r1", "r2"]


def test_steps_that_are_left_out_are_named():
    (request,) = sent(STEPS, calls(("add", {})), question="q", steps=PAST.within(2, 1))
    assert "the first 1 steps are left out" in request.messages[1].text


DEMO = {"question": "d", "steps": PAST.to_json(), "calls": [{"name": "add", "args": {"a": 1, "b": 2}}]}


def test_a_demo_from_a_file_is_the_turns_of_its_run_as_every_layout_takes_them():
    program = STEPS.deepcopy()
    program.demos = [tf.Example(DEMO), tf.Example(DEMO)]
    (request,) = sent(program, calls(("add", {})), question="q", steps=[])
    ids = [c.id for m in request.messages for c in m.tool_calls]
    assert ids == [m.call_id for m in request.messages if m.role == "tool"]
    assert len(set(ids)) == len(ids) == 6
    facts = ModelFacts()
    ChatCompletions().to_body(request, "m", facts)
    turns = Anthropic().to_body(request, "m", facts)["messages"]
    assert [t["role"] for t in turns] == ["user", "assistant"] * (len(turns) // 2) + ["user"]
    Gemini().to_body(request, "m", facts)


def test_the_prompt_of_a_later_step_begins_with_that_of_the_earlier():
    (early,) = sent(STEPS, calls(("add", {})), question="q", steps=Trajectory(PAST.steps[:1]))
    (late,) = sent(STEPS, calls(("add", {})), question="q", steps=PAST)
    assert late.messages[: len(early.messages)] == early.messages
    assert late.stable == len(late.messages) - 1


@pytest.mark.parametrize("adapter", ["chat", "json", "xml", "compact", "tools", "json>chat"])
def test_every_adapter_takes_part(adapter):
    lm = ScriptedLM([calls(("add", {"a": 1, "b": 2}))], capabilities=NATIVE)
    assert ASK(question="q", tools=TOOLS, lm=lm, adapter=adapter).calls[0].args == {"a": 1, "b": 2}
    assert lm.requests[0].tools


@pytest.mark.parametrize("adapter", ["chat", "json", "xml", "compact"])
def test_without_native_tools_the_same_signature_is_text(adapter):
    from tuneful.adapters.select import ADAPTERS
    from tuneful.spec.signature import Signature

    signature = Signature("question, tools: list[tf.Tool] -> calls: tf.ToolCalls")
    wanted = tf.ToolCalls([tf.ToolCall("add", {"a": 1, "b": 2})])
    lm = ScriptedLM([ADAPTERS[adapter].output_text(signature, {"calls": wanted})])
    assert ASK(question="q", tools=TOOLS, lm=lm, adapter=adapter).calls == wanted
    assert "Search the library" in lm.requests[0].messages[-1].text


def test_streamed_the_calls_come_at_the_end():
    lm = ScriptedLM([calls(("add", {"a": 1, "b": 2}))], capabilities=NATIVE)
    (end,) = [e for e in ASK.using(lm=lm).stream(question="q", tools=TOOLS) if isinstance(e, tf.FieldEnded)]
    assert end.value[0].name == "add"


def test_several_samples():
    choices = tuple(calls(("add", {"a": i, "b": 0})).choices[0] for i in range(2))
    lm = ScriptedLM([Response(choices)], capabilities=NATIVE)
    found = ASK(question="q", tools=TOOLS, lm=lm, config={"n": 2, "temperature": 1.0})
    assert [c[0].args["a"] for c in found.completions.calls] == [0, 1]


def test_talk_that_looks_like_json_is_no_call():
    lm = ScriptedLM([Response((Choice('The set {1, 2} is {"finite": true}.'),))], capabilities=NATIVE)
    assert len(ASK(question="q", tools=TOOLS, lm=lm).calls) == 0
