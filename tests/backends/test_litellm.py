"""Models through LiteLLM, against a server on the loopback interface. Needs the extra `litellm`."""

import importlib.util
import traceback

import pytest

import tuneful as tf
from tuneful.wire.messages import user
from tuneful.wire.request import Request

KEY = "sk-do-not-show-me-0123456789"


def test_without_the_package_the_constructor_says_what_to_install(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "litellm" else real(name, *a))
    with pytest.raises(tf.MissingExtraError, match=r"tuneful\[litellm\]"):
        tf.LM("litellm/openai/gpt-4o-mini", api_key=KEY)


@pytest.fixture
def lm(server):
    pytest.importorskip("litellm")
    return tf.LM("litellm/openai/gpt-4o-mini", api_base=server.url, api_key=KEY, timeout_s=10)


async def test_a_call_goes_through_the_package_with_our_body(server, lm):
    server.script = [server.completion("Hi", usage={"prompt_tokens": 100, "completion_tokens": 10})]
    with tf.track_usage() as meter:
        assert await lm.acall("Hello", max_tokens=9) == ["Hi"]
    body = server.bodies[0]
    assert body["messages"] == [{"role": "user", "content": "Hello"}]
    assert (body["model"], body["temperature"]) == ("gpt-4o-mini", 0.0)
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert (meter.usage.prompt_tokens, meter.usage.completion_tokens) == (100, 10)
    assert meter.usage.cost_usd == pytest.approx((100 * 0.15 + 10 * 0.60) / 1e6)


async def test_several_samples_are_several_calls(server, lm):
    server.script = lambda body: server.completion("x")
    assert await lm.acall("Hello", n=3) == ["x", "x", "x"]
    assert len(server.bodies) == 3


async def test_a_stream_gives_pieces_and_then_the_whole(server, lm):
    pieces = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "He"}}]},
        {"choices": [{"index": 0, "delta": {"content": "llo"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}},
    ]
    common = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
    server.script = [server.events(*[{**common, **p} for p in pieces], "[DONE]")]
    parts = [part async for part in lm.stream(Request((user("Hi"),)))]
    assert "".join(p.text for p in parts[:-1]) == "Hello"
    assert parts[-1].text == "Hello"
    assert parts[-1].usage.prompt_tokens == 5


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (401, f"Incorrect API key provided: {KEY}", tf.LMAuthError),
        (429, "slow down", tf.LMRateLimitError),
        (500, "oops", tf.LMServerError),
        (400, "what is this", tf.LMInvalidRequestError),
        (
            400,
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.",
            tf.ContextWindowExceededError,
        ),
    ],
)
async def test_failures_are_typed_and_hold_no_key(server, lm, waits, status, message, expected):
    server.script = lambda body: server.refusal(status, message)
    with pytest.raises(expected) as caught:
        await lm.acall("Hello")
    assert type(caught.value) is expected
    assert caught.value.status == status
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY not in shown
    assert len(server.bodies) == (4 if status in (429, 500) else 1)  # repeated by this package alone


async def test_a_server_that_is_not_there_is_a_typed_error():
    pytest.importorskip("litellm")
    lm = tf.LM("litellm/openai/m", api_base="http://127.0.0.1:9/v1", api_key=KEY, num_retries=0)
    with pytest.raises((tf.LMTransportError, tf.LMServerError)):  # the package tells them apart poorly
        await lm.acall("x")


async def test_what_the_package_knows_of_a_model_is_taken_over(lm):
    assert not lm.capabilities.json_schema
    found = await lm.backend.probe()
    assert found.json_schema
    assert lm.capabilities.json_schema
