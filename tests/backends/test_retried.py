"""Asking again when the reason may pass."""

import asyncio

import pytest

import tuneful as tf
from tuneful.backends.base import Backend
from tuneful.backends.retried import Retried
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import user
from tuneful.wire.request import Request
from tuneful.wire.response import Choice, Response

HELLO = Request((user("Hello"),))
ANSWER = Response((Choice("Hi"),))


class Failing(Backend):
    endpoint = "here#m"
    capabilities = Capabilities(grammar=True)
    local = True

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.calls = 0
        self.closed = False

    async def complete(self, request):
        self.calls += 1
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def count_tokens(self, messages):
        return 42

    async def aclose(self):
        self.closed = True


@pytest.mark.parametrize("kind", [tf.LMRateLimitError, tf.LMServerError, tf.LMTransportError, tf.LMTimeoutError])
async def test_a_passing_failure_is_tried_again(waits, kind):
    inner = Failing(kind("no"), kind("no"), ANSWER)
    assert (await Retried(inner).complete(HELLO)).choices is ANSWER.choices
    assert inner.calls == 3
    assert len(waits) == 2


@pytest.mark.parametrize(
    "error",
    [
        tf.LMAuthError("no"),
        tf.LMInvalidRequestError("no"),
        tf.ContextWindowExceededError("no"),
        tf.UsageError("no"),
        ZeroDivisionError(),
    ],
)
async def test_any_other_failure_is_raised_at_once(waits, error):
    inner = Failing(error, ANSWER)
    with pytest.raises(type(error)) as caught:
        await Retried(inner).complete(HELLO)
    assert caught.value is error
    assert inner.calls == 1
    assert waits == []


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_the_last_error_is_raised_when_every_attempt_failed(waits, retries):
    errors = [tf.LMServerError(str(i)) for i in range(retries + 1)]
    inner = Failing(*errors)
    with pytest.raises(tf.LMServerError) as caught:
        await Retried(inner, retries=retries).complete(HELLO)
    assert caught.value is errors[-1]
    assert inner.calls == retries + 1


async def test_the_wait_doubles_up_to_its_limit_with_jitter(waits):
    inner = Failing(*[tf.LMServerError("no")] * 7)
    with pytest.raises(tf.LMServerError):
        await Retried(inner, retries=6, first_wait_s=1, longest_wait_s=8).complete(HELLO)
    for wait, longest in zip(waits, [1, 2, 4, 8, 8, 8], strict=True):
        assert longest / 2 <= wait <= longest


async def test_the_wait_that_the_provider_asks_for_counts(waits):
    inner = Failing(tf.LMRateLimitError("no", retry_after_s=120.0), tf.LMServerError("no", retry_after_s=0.0), ANSWER)
    await Retried(inner, longest_wait_s=1).complete(HELLO)
    assert waits == [120.0, 0.0]


async def test_a_call_can_be_cancelled_while_it_waits():
    inner = Failing(tf.LMRateLimitError("no", retry_after_s=60.0), ANSWER)
    call = asyncio.create_task(Retried(inner).complete(HELLO))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert inner.calls == 1


async def test_it_passes_on_what_it_does_not_change():
    inner = Failing()
    outer = Retried(inner)
    assert (outer.endpoint, outer.capabilities, outer.local) == ("here#m", Capabilities(grammar=True), True)
    assert await outer.count_tokens(HELLO.messages) == 42
    await outer.aclose()
    assert inner.closed


async def test_retries_are_counted_in_the_usage():
    from tuneful.testing.scripted import ScriptedBackend

    backend = Retried(ScriptedBackend([tf.LMServerError("a"), tf.LMServerError("b"), "fine"]), first_wait_s=0.001)

    assert (await backend.complete(Request((user("hi"),)))).usage.retries == 2
