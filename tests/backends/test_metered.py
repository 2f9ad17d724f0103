"""What calls are charged, by whom and when."""

import asyncio

import pytest

import tuneful as tf
from tuneful.backends.base import Backend
from tuneful.backends.budget import Meter
from tuneful.backends.metered import Metered, metered, phase
from tuneful.backends.models import Price, facts_of
from tuneful.testing import ScriptedLM
from tuneful.wire.messages import user
from tuneful.wire.request import Request
from tuneful.wire.response import Choice, Delta, Response, Usage

HELLO = Request((user("x" * 40),))
USED = Usage(1, prompt_tokens=100, cached_tokens=60, completion_tokens=10)


class Talking(Backend):
    """Writes eight characters at a time; ends with an answer or an error."""

    endpoint = "here#m"

    def __init__(self, pieces=4, ending=None):
        self.pieces = pieces
        self.ending = ending
        self.closed = 0

    async def stream(self, request):
        try:
            for _ in range(self.pieces):
                yield Delta("12345678")
            if isinstance(self.ending, Exception):
                raise self.ending
            yield Response((Choice("12345678" * self.pieces),), USED)
        finally:
            self.closed += 1


def talking(price=None, **options):
    inner = Talking(**options)
    return Metered(inner, "m", lambda: price), inner


# --- prices ---


def test_the_price_comes_from_the_table_and_what_is_configured_goes_over_it(server):
    server.script = lambda body: server.completion(
        "x",
        usage={"prompt_tokens": 1_000_000, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 500_000}},
    )
    lm = tf.LM("openai/gpt-4o-mini", api_base=server.url)
    listed = facts_of("openai/gpt-4o-mini").price
    assert listed.cached < listed.input
    with tf.track_usage() as meter:
        lm("x")
    assert meter.usage.cost_usd == pytest.approx(0.5 * listed.input + 0.5 * listed.cached)
    with tf.context(prices={"openai/gpt-4o-mini": (8.0, 16.0, 2.0)}), tf.track_usage() as meter:
        lm("x")
    assert meter.usage.cost_usd == pytest.approx(0.5 * 8 + 0.5 * 2)
    with tf.context(prices={"openai/gpt-4o-mini": (8.0, 16.0)}), tf.track_usage() as meter:
        lm("x")
    assert meter.usage.cost_usd == pytest.approx(8.0)


@pytest.mark.parametrize(
    "prices", [None, 5, {"m": "12"}, {"m": 1}, {"m": (1,)}, {"m": (-1, 2)}, {"m": (1, float("nan"))}]
)
def test_prices_that_make_no_sense_are_a_usage_error(prices):
    with pytest.raises(tf.UsageError, match="price"), tf.context(prices=prices):
        pass


def test_an_unknown_price_makes_the_cost_unknown_and_a_budget_in_dollars_refuses_before_any_call(server):
    server.script = lambda body: server.completion("x")
    lm = tf.LM("openai/nobody-knows-it", api_base=server.url)
    with tf.track_usage() as meter:
        lm("x")
    assert meter.usage.cost_usd is None
    with metered(Meter(tf.Budget(usd=1))), pytest.raises(tf.NotConfiguredError, match="price_per_million"):
        lm("x")
    assert len(server.bodies) == 1


# --- phases, models, latency ---


def test_phases_models_and_latencies_are_kept_apart():
    one, two = (ScriptedLM(lambda r: "a b", model=name, seconds=0.002) for name in ("one", "two"))
    with tf.track_usage() as meter:
        with phase("search"):
            one("x")
            two("x")
        with phase("held-out"):
            two("x")
        one("x")
    assert {k: u.calls for k, u in meter.by_phase().items()} == {"search": 2, "held-out": 1, "": 1}
    assert {k: u.calls for k, u in meter.by_model().items()} == {"one": 2, "two": 2}
    assert set(meter.latency()) == {"median", "p95", "longest"}
    assert 0 < meter.latency()["median"] <= meter.latency()["longest"]
    assert meter.usage.seconds >= 4 * 0.002
    assert Meter().latency() == {}


def test_a_repetition_of_what_failed_is_counted_also_after_a_restart(monkeypatch):
    monkeypatch.setattr("tuneful.backends.retried.random.uniform", lambda a, b: 0.001)
    lm = ScriptedLM([tf.LMServerError("no"), tf.LMServerError("no"), "fine"], num_retries=3)
    meter = Meter()
    meter.restore(Usage(calls=2, retries=1))
    with metered(meter):
        lm("x")
    assert (meter.usage.calls, meter.usage.retries) == (3, 3)


# --- budgets shared by concurrent work ---


@pytest.mark.parametrize("limit", [{"calls": 30}, {"tokens": 300}, {"usd": 30 * 14e-6 - 1e-9}])
async def test_a_budget_is_exceeded_by_no_more_than_the_calls_in_flight(limit):
    async def script(request):
        await asyncio.sleep(0.001)
        return Response((Choice("x"),), Usage(1, prompt_tokens=6, completion_tokens=4))

    lms = [ScriptedLM(script, price_per_million=(1.0, 2.0), max_concurrency=4) for _ in range(2)]
    meter = Meter(tf.Budget(**limit))
    with metered(meter):
        calls = [lms[i % 2].acall("x") for i in range(100)]
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(f) for f in found if isinstance(f, Exception)} == {tf.BudgetExceeded}
    assert 30 <= meter.usage.calls <= (30 if "calls" in limit else 30 + 7)
    assert meter.usage.calls == sum(len(lm.requests) for lm in lms)


@pytest.mark.parametrize("error", [tf.LMRateLimitError("no"), tf.UsageError("the request cannot be made")])
def test_what_was_turned_away_or_never_sent_is_no_call(error):
    lm = ScriptedLM([error, error, "fine"])
    with metered(Meter(tf.Budget(calls=1))) as meter:
        for _ in range(2):
            with pytest.raises(type(error)):
                lm("x")
        assert lm("x") == ["fine"]
    assert meter.usage.calls == 1


# --- streams ---


async def test_a_stream_is_charged_when_it_ends():
    backend, inner = talking(Price(1.0, 1.0))
    with metered(Meter(tf.Budget(calls=1))) as meter:
        parts = [part async for part in backend.stream(HELLO)]
        with pytest.raises(tf.BudgetExceeded):
            [part async for part in backend.stream(HELLO)]
    assert (meter.usage.calls, meter.usage.prompt_tokens, meter.usage.cost_usd) == (1, 100, pytest.approx(110e-6))
    assert parts[-1].usage.cost_usd == meter.usage.cost_usd
    assert inner.closed == 1


async def test_a_stream_that_is_left_early_is_closed_and_charged_for_what_was_heard():
    backend, inner = talking(Price(1.0, 1.0))
    meter = Meter(tf.Budget(usd=20e-6))
    with metered(meter):
        for times in (1, 2):
            stream = backend.stream(HELLO)
            await anext(stream)
            await anext(stream)
            await stream.aclose()
            assert (meter.usage.calls, inner.closed) == (times, times)
        with pytest.raises(tf.BudgetExceeded):
            await anext(backend.stream(HELLO))
    assert (meter.usage.prompt_tokens, meter.usage.completion_tokens) == (2 * 10, 2 * 4)
    assert meter.usage.cost_usd == pytest.approx(28e-6)


async def test_a_stream_of_an_lm_that_is_left_early_is_charged_by_the_time_it_is_left():
    inner = Talking(pieces=1000)
    lm = tf.LM("m", backend=inner, price_per_million=(1.0, 1.0))
    with tf.track_usage() as meter:
        stream = lm.stream(HELLO)
        await anext(stream)
        await stream.aclose()
        assert (meter.usage.calls, inner.closed) == (1, 1)
    assert meter.usage.cost_usd > 0


@pytest.mark.parametrize(("pieces", "calls"), [(0, 0), (3, 1)])
async def test_a_stream_that_breaks_is_charged_if_anything_of_it_came(pieces, calls):
    backend, _ = talking(pieces=pieces, ending=tf.LMTransportError("broken"))
    with tf.track_usage() as meter, pytest.raises(tf.LMTransportError):
        [part async for part in backend.stream(HELLO)]
    assert meter.usage.calls == calls


async def test_a_stream_that_is_turned_away_is_no_call():
    backend, inner = talking(pieces=0, ending=tf.LMRateLimitError("no"))
    with metered(Meter(tf.Budget(calls=1))) as meter:
        for _ in range(3):
            with pytest.raises(tf.LMRateLimitError):
                await anext(backend.stream(HELLO))
        inner.ending = None
        assert [part async for part in backend.stream(HELLO)]
    assert meter.usage.calls == 1
