"""Models that answer by script."""

import asyncio
import time

import pytest

import tuneful as tf
from tuneful.testing import DummyLM, ScriptedLM
from tuneful.testing.scripted import ScriptedBackend
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import user
from tuneful.wire.request import Request
from tuneful.wire.response import Choice, Response


def test_a_list_is_given_in_order_and_requests_are_kept():
    lm = ScriptedLM(["a", "b"])
    assert [lm("x"), lm("y")] == [["a"], ["b"]]
    assert [r.messages for r in lm.requests] == [(user("x"),), (user("y"),)]


def test_a_list_that_is_used_up_says_so():
    lm = ScriptedLM(["a"])
    lm("x")
    with pytest.raises(tf.UsageError, match="1 answers, and this is call 2"):
        lm("y")


async def _later(request):
    await asyncio.sleep(0)
    return "later"


@pytest.mark.parametrize(
    ("script", "texts"),
    [
        (lambda r: r.messages[-1].content.upper(), ["HELLO"]),
        (_later, ["later"]),
        ([["a", "b"]], ["a", "b"]),
        ([Response((Choice("whole", "length"),))], ["whole"]),
    ],
)
def test_an_answer_is_a_text_some_texts_or_a_response(script, texts):
    assert ScriptedLM(script)("hello", n=len(texts)) == texts


def test_a_text_answers_every_sample():
    assert ScriptedLM(["x"])("hello", n=3, temperature=0.5) == ["x", "x", "x"]


def test_an_exception_is_raised():
    error = tf.LMAuthError("no")
    with pytest.raises(tf.LMAuthError) as caught:
        ScriptedLM([error])("x")
    assert caught.value is error


def test_tokens_are_words():
    with tf.track_usage() as meter:
        ScriptedLM(["four words of answer"])("three words here")
    assert (meter.usage.prompt_tokens, meter.usage.completion_tokens) == (3, 4)
    assert meter.usage.cost_usd == 0


def test_an_answer_can_take_time():
    begun = time.monotonic()
    ScriptedLM(["x"], seconds=0.05)("y")
    assert time.monotonic() - begun >= 0.05


def test_capabilities_and_model_can_be_given():
    lm = ScriptedLM([], capabilities=Capabilities(small=True), model="tiny")
    assert lm.capabilities.small
    assert lm.model == "tiny"


def test_the_script_sees_the_sampling_that_is_sent():
    seen = []
    ScriptedLM(lambda r: seen.append(r.sampling.temperature) or "x", temperature=0.3)("y")
    assert seen == [0.3]


# --- DummyLM ---


@pytest.mark.parametrize("adapter", [None, tf.ChatAdapter(), tf.JSONAdapter(), tf.CompactAdapter()], ids=repr)
def test_field_values_are_written_in_the_form_of_an_adapter(adapter):
    fields = {"names": ["a", 'b "c"'], "count": 3, "ok": True, "note": "two\nlines"}
    program = tf.Predict("q -> names: list[str], count: int, ok: bool, note").using(
        lm=DummyLM([fields], adapter=adapter), adapter=adapter or "chat"
    )
    assert program(q="x").to_dict() == fields


def test_answers_are_found_by_a_text_of_the_last_message():
    lm = DummyLM({"France": {"capital": "Paris"}, "Italy": {"capital": "Rome"}})
    program = tf.Predict("country -> capital").using(lm=lm)
    program.demos = [{"country": "France", "capital": "not this one"}]
    assert program(country="Italy").capital == "Rome"
    assert program(country="France").capital == "Paris"


def test_a_text_without_an_answer_says_what_it_knows():
    lm = DummyLM({"France": {"capital": "Paris"}})
    with pytest.raises(tf.UsageError, match=r"no answer for.*It knows: 'France'"):
        lm("Spain")


async def test_a_backend_answers_requests_of_several_loops():
    lm = ScriptedLM(lambda r: "x", seconds=0.001)
    request = Request((user("x"),))
    await asyncio.gather(*(lm.complete(request) for _ in range(50)))
    await asyncio.to_thread(lambda: asyncio.run(lm.complete(request)))
    assert len(lm.requests) == 51


@pytest.mark.parametrize(
    ("piece", "pieces"), [(None, ["in", " some", "\n words", " "]), (4, ["in s", "ome\n", " wor", "ds "])]
)
async def test_an_answer_is_streamed_in_words_or_in_pieces_of_a_length(piece, pieces):
    whole = Response((Choice("in some\n words ", reasoning="hm"), Choice("b")))
    backend = ScriptedBackend([whole], piece=piece)
    *deltas, response = [part async for part in backend.stream(Request((user("x"),)))]
    assert [d.text for d in deltas if d.index == 0 and d.text] == pieces
    assert [d.text for d in deltas if d.index == 1] == ["b"]
    assert [d.reasoning for d in deltas if d.reasoning] == ["hm"]
    assert response is whole
