"""A history among the inputs becomes earlier turns of the chat, in every adapter."""

import pytest
from cases import ABLE, ADAPTERS, TRAPS, parse, plan, texts
from hypothesis import given, settings
from hypothesis import strategies as st

import tuneful as tf
from tuneful.adapters.two_step import TwoStepAdapter
from tuneful.testing import DummyLM, ScriptedLM
from tuneful.wire.capabilities import Capabilities

EVERY = [*ADAPTERS, TwoStepAdapter(ScriptedLM([]))]
each_adapter = pytest.mark.parametrize("adapter", EVERY, ids=lambda a: a.name)

CHAT = tf.Signature("history: History, question -> answer, sure: bool")
PLAIN = tf.Signature("question -> answer, sure: bool")
TURNS = [{"question": "first", "answer": "one", "sure": True}, {"question": "second", "answer": "two", "sure": False}]
DEMOS = [{"question": "shown", "answer": "x", "sure": True}]
TOOLS = Capabilities(tools=True)


def rendered(adapter, turns, demos=(), signature=CHAT, able=ABLE):
    inputs = {"history": tf.History(messages=turns), "question": "now"}
    return adapter.render(plan(adapter, signature, able), demos, inputs)


@each_adapter
@pytest.mark.parametrize("able", [Capabilities(), ABLE, TOOLS], ids=["plain", "able", "tools"])
def test_turns_look_as_demos_do_and_stand_after_them(adapter, able):
    with_turns = rendered(adapter, TURNS, DEMOS, able=able)
    as_demos = adapter.render(plan(adapter, PLAIN, able), [*DEMOS, *TURNS], {"question": "now"})
    assert [m.role for m in with_turns.messages] == [m.role for m in as_demos.messages]
    assert [m.content for m in with_turns.messages] == [m.content for m in as_demos.messages]
    assert with_turns.grammar == as_demos.grammar
    assert with_turns.json_schema == as_demos.json_schema


@each_adapter
def test_the_prompt_before_the_turns_is_what_stays_the_same(adapter):
    first, second = rendered(adapter, TURNS, DEMOS), rendered(adapter, [], DEMOS)
    assert first.messages[: first.stable] == second.messages[: second.stable]
    assert first.stable == second.stable == len(second.messages) - 1


@each_adapter
def test_calls_of_tools_in_turns_have_identities_of_their_own(adapter):
    request = rendered(adapter, TURNS, DEMOS, able=TOOLS)
    ids = [c.id for m in request.messages for c in m.tool_calls]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: a.name)
@settings(max_examples=80, deadline=None, database=None)
@given(text=st.one_of(texts, st.sampled_from(TRAPS)))
def test_no_text_of_a_turn_passes_for_structure(adapter, text):
    request = rendered(adapter, [{"question": text, "answer": text, "sure": True}], DEMOS, able=Capabilities())
    assert [m.role for m in request.messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert parse(adapter, PLAIN, request.messages[-2].content).fields == {"answer": text, "sure": True}


@each_adapter
def test_a_turn_without_an_input_or_an_output_is_an_error_before_any_call(adapter):
    with pytest.raises(tf.UsageError, match="turn 2 of `history` has no output"):
        rendered(adapter, [TURNS[0], {"question": "unanswered"}])
    with pytest.raises(tf.UsageError, match="turn 1 of `history` has no input"):
        rendered(adapter, [{"answer": "unasked", "topic": "x"}])


@each_adapter
def test_fields_of_others_in_a_turn_are_not_shown(adapter):
    request = rendered(adapter, [{**TURNS[0], "reasoning": "SECRET"}])
    assert not any("SECRET" in m.text for m in request.messages)


@each_adapter
def test_a_demo_brings_its_own_turns(adapter):
    demo = {**DEMOS[0], "history": {"messages": TURNS}}  # as it comes from a file
    request = rendered(adapter, [], [demo])
    as_demos = rendered(adapter, [], [*TURNS, DEMOS[0]])
    assert [m.content for m in request.messages] == [m.content for m in as_demos.messages]


def test_an_adapter_of_functions_is_given_the_turns_as_further_demos():
    seen = []

    def render(signature, demos, inputs):
        seen.append((list(signature.input_fields), demos, inputs))
        return [{"role": "user", "content": "x"}]

    adapter = tf.Adapter.from_functions(name="mine", render=render, parse=lambda s, t: {})
    request = rendered(adapter, TURNS, DEMOS)
    assert seen == [(["question"], [*DEMOS, *TURNS], {"question": "now"})]
    assert request.stable == 0


def test_a_dialogue_is_held_and_the_field_may_be_absent():
    chat = tf.Predict("history: History | None, question -> answer")
    lm = DummyLM([{"answer": "In France."}, {"answer": "Half a million."}])
    with tf.context(lm=lm):
        history = tf.History()
        for question in ("Where is Lyon?", "How many live there?"):
            found = chat(history=history, question=question)
            history.messages.append({"question": question, **found})
        assert [m.role for m in lm.requests[1].messages] == ["system", "user", "assistant", "user"]
        assert "Where is Lyon?" in lm.requests[1].messages[1].content
        assert "history" not in lm.requests[1].messages[0].content
        assert [m["answer"] for m in history.messages] == ["In France.", "Half a million."]
        assert len(chat.render(question="x").messages) == 2


def test_two_histories_are_a_signature_error():
    with pytest.raises(tf.SignatureError, match="one order of turns"):
        tf.Predict("a: History, b: History -> c").render()


def test_pictures_of_a_turn_stand_in_its_message():
    signature = tf.Signature("history: History, image: Image -> caption")
    cat = tf.Image("https://example.com/cat.png")
    inputs = {"history": tf.History(messages=[{"image": cat, "caption": "A cat."}]), "image": cat}
    request = ADAPTERS[0].render(plan(ADAPTERS[0], signature), [], inputs)
    assert [len(m.media) for m in request.messages] == [0, 1, 0, 1]
