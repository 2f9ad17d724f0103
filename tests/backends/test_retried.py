"""Asking again when the reason may pass."""

import asyncio
from types import SimpleNamespace

import pytest

import tuneful as tf
from tuneful.backends.base import Backend
from tuneful.backends.budget import Meter
from tuneful.backends.metered import metered
from tuneful.backends.retried import Retried
from tuneful.testing import ScriptedLM
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import user
from tuneful.wire.request import Request
from tuneful.wire.response import Choice, Delta, Response

HELLO = Request((user("Hello"),))
ANSWER = Response((Choice("Hi"),))


class Failing(Backend):
    endpoint = "here#m"
    capabilities = Capabilities(grammar="gbnf")
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
    assert (outer.endpoint, outer.capabilities, outer.local) == ("here#m", Capabilities(grammar="gbnf"), True)
    assert await outer.count_tokens(HELLO.messages) == 42
    await outer.aclose()
    assert inner.closed


async def test_retries_are_counted_in_the_usage():
    from tuneful.testing.scripted import ScriptedBackend

    backend = Retried(ScriptedBackend([tf.LMServerError("a"), tf.LMServerError("b"), "fine"]), first_wait_s=0.001)

    assert (await backend.complete(Request((user("hi"),)))).usage.retries == 2


# --- deadlines, streams, budgets ---


class Ticking:
    """A clock that only waits move."""

    def __init__(self):
        self.now = 50.0

    def monotonic(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    made = Ticking()
    monkeypatch.setattr("tuneful.backends.retried.time", SimpleNamespace(monotonic=made.monotonic))
    monkeypatch.setattr("tuneful.backends.retried.asyncio", SimpleNamespace(sleep=made.sleep))
    return made


async def test_no_wait_is_begun_that_would_end_after_the_deadline(clock):
    inner = Failing(*[tf.LMServerError("no", retry_after_s=4.0) for _ in range(10)])
    with pytest.raises(tf.LMServerError) as caught:
        await Retried(inner, retries=9, deadline_s=10).complete(HELLO)
    assert (inner.calls, clock.now) == (3, 58.0)
    assert "the deadline 10 s" in caught.value.__notes__[0]


@pytest.mark.parametrize("wait", [601.0, 86_400.0, float("inf")])
async def test_a_wait_beyond_the_deadline_ends_it_at_once_and_says_so(clock, wait):
    inner = Failing(tf.LMRateLimitError("daily limit", retry_after_s=wait), ANSWER)
    with pytest.raises(tf.LMRateLimitError) as caught:
        await Retried(inner).complete(HELLO)
    assert (inner.calls, clock.now) == (1, 50.0)
    assert "the deadline 600 s" in caught.value.__notes__[0]


class Streaming(Backend):
    """Each attempt is a list of pieces, the last of which may be an exception."""

    def __init__(self, *attempts):
        self.attempts = list(attempts)
        self.begun = 0

    async def stream(self, request):
        self.begun += 1
        for piece in self.attempts.pop(0):
            if isinstance(piece, Exception):
                raise piece
            yield piece


async def test_a_stream_is_repeated_until_its_first_piece(waits):
    inner = Streaming([tf.LMServerError("no")], [tf.LMTransportError("no")], [Delta("a"), Delta("b"), ANSWER])
    with tf.track_usage() as meter:
        parts = [part async for part in Retried(inner).stream(HELLO)]
    assert [p.text for p in parts] == ["a", "b", "Hi"]
    assert (parts[-1].usage.retries, meter.usage.retries) == (2, 2)
    assert len(waits) == 2


async def test_a_stream_is_never_repeated_after_its_first_piece(waits):
    error = tf.LMTransportError("broken")
    inner = Streaming([tf.LMServerError("no")], [Delta("a"), error], [Delta("a"), ANSWER])
    heard = []

    async def hear():
        async for part in Retried(inner).stream(HELLO):
            heard.append(part.text)  # noqa: PERF401 (it breaks in the middle)

    with pytest.raises(tf.LMTransportError) as caught:
        await hear()
    assert caught.value is error
    assert (heard, inner.begun, len(waits)) == (["a"], 2, 1)


async def test_a_stream_that_fails_for_good_raises_the_last_error(waits):
    inner = Streaming(*[[tf.LMServerError(str(i))] for i in range(3)])
    with pytest.raises(tf.LMServerError, match="2"):
        [part async for part in Retried(inner, retries=2).stream(HELLO)]


async def test_a_budget_that_is_used_up_is_not_asked_again(waits):
    lm = ScriptedLM(lambda r: tf.LMServerError("no"), num_retries=5)
    with metered(Meter(tf.Budget(calls=2))) as meter, pytest.raises(tf.BudgetExceeded):
        await lm.acall("x")
    assert (len(lm.requests), meter.usage.retries, len(waits)) == (2, 2, 2)


async def test_retries_are_counted_in_every_meter_in_force(waits):
    lm = ScriptedLM([tf.LMServerError("a"), tf.LMTimeoutError("b"), "fine"], num_retries=3)
    outer, inner = Meter(), Meter()
    with metered(outer), metered(inner):
        await lm.acall("x")
    assert (outer.usage.retries, inner.usage.retries, outer.usage.calls) == (2, 2, 1)


def test_a_blocking_call_without_a_loop_is_repeated_too(waits):
    lm = ScriptedLM([tf.LMServerError("a"), "[[ ## a ## ]]\nfine"], num_retries=1)
    assert tf.Predict("q -> a").using(lm=lm)(q="x").a == "fine"
