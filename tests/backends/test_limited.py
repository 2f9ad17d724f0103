"""Keeping within what a provider allows, on a clock of the test's own."""

import asyncio
import heapq
import itertools
import threading
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

import tuneful as tf
from tuneful.backends.base import Backend
from tuneful.backends.limited import Limited
from tuneful.testing import ScriptedLM
from tuneful.wire.messages import user
from tuneful.wire.request import Request
from tuneful.wire.response import Choice, Delta, Response, Usage

HELLO = Request((user("x" * 400),))  # 100 tokens, as far as one can tell


class Clock:
    """Time that passes only where everyone waits for it."""

    def __init__(self):
        self.now = 1000.0
        self._sleepers = []
        self._count = itertools.count()

    def monotonic(self):
        return self.now

    async def sleep(self, seconds):
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._count), woken))
        await woken

    async def run(self, *work):
        """Run coroutines to their ends, moving time on whenever nothing else happens."""
        tasks = [asyncio.ensure_future(w) for w in work]
        while not all(t.done() for t in tasks):
            for _ in range(20):
                await asyncio.sleep(0)
            if self._sleepers and not all(t.done() for t in tasks):
                at, _, woken = heapq.heappop(self._sleepers)
                self.now = max(self.now, at)
                if not woken.done():
                    woken.set_result(None)
        return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr("tuneful.backends.limited.time", SimpleNamespace(monotonic=made.monotonic))
    patched = SimpleNamespace(**{**vars(asyncio), "sleep": made.sleep})
    monkeypatch.setattr("tuneful.backends.limited.asyncio", patched)
    return made


class Model(Backend):
    """Answers after `seconds` of the clock; notes when requests arrive and how many are there at once."""

    endpoint = "here#m"

    def __init__(self, clock, seconds=1.0, tokens=200, outcomes=()):
        self._clock = clock
        self._seconds = seconds
        self._tokens = tokens
        self._outcomes = list(outcomes)
        self.arrivals = []
        self.order = []
        self.at_once = 0
        self.most = 0

    async def complete(self, request):
        self.arrivals.append(self._clock.now)
        self.order.append(request.messages[-1].text[:8].strip("x"))
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self._clock.sleep(self._seconds)
        finally:
            self.at_once -= 1
        outcome = self._outcomes.pop(0) if self._outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        return Response((Choice("y"),), Usage(1, self._tokens // 2, 0, self._tokens - self._tokens // 2))


def refusal(wait=None):
    return tf.LMRateLimitError("slow down", retry_after_s=wait)


def most_in_a_minute(arrivals, weight=1):
    return max((bisect_left(arrivals, at + 60) - i) * weight for i, at in enumerate(arrivals))


# --- concurrency ---


async def test_concurrency_is_never_exceeded_and_is_used(clock):
    model = Model(clock)
    limited = Limited(model, max_concurrency=7)
    await clock.run(*[limited.complete(HELLO) for _ in range(100)])
    assert (model.most, len(model.arrivals)) == (7, 100)
    assert (limited._in_flight, len(limited._queue)) == (0, 0)


async def test_first_come_first_served(clock):
    model = Model(clock)
    limited = Limited(model, max_concurrency=3)
    await clock.run(*[limited.complete(Request((user(f"{i}"),))) for i in range(30)])
    assert model.order == [str(i) for i in range(30)]


async def test_those_who_wait_and_are_cancelled_leave_nothing_behind(clock):
    model = Model(clock, seconds=5)
    limited = Limited(model, max_concurrency=2, requests_per_minute=10)
    calls = [asyncio.ensure_future(limited.complete(HELLO)) for _ in range(40)]
    await asyncio.sleep(0)

    async def cancelling():
        for call in calls[::2]:
            await clock.sleep(0.5)
            call.cancel()

    found = await clock.run(cancelling(), *calls)
    assert sum(isinstance(f, Response) for f in found) == 20
    assert (limited._in_flight, len(limited._queue), model.at_once) == (0, 0, 0)
    assert model.most == 2
    found = await clock.run(limited.complete(HELLO), limited.complete(HELLO))
    assert all(isinstance(f, Response) for f in found)


async def test_who_is_let_in_and_cancelled_in_the_same_moment_lets_the_next_one_in(clock):
    model = Model(clock)
    limited = Limited(model, max_concurrency=1)
    first, second, third = (asyncio.ensure_future(limited.complete(HELLO)) for _ in range(3))
    await asyncio.sleep(0)
    await clock.run(first)
    second.cancel()  # it was let in when the first one left
    await clock.run(second, third)
    assert third.result().text == "y"
    assert limited._in_flight == 0


async def test_a_failing_request_gives_its_place_back(clock):
    model = Model(clock, outcomes=[tf.LMServerError("no")] * 10)
    limited = Limited(model, max_concurrency=1)
    found = await clock.run(*[limited.complete(HELLO) for _ in range(11)])
    assert [type(f).__name__ for f in found] == ["LMServerError"] * 10 + ["Response"]
    assert limited._in_flight == 0


# --- rates ---


@pytest.mark.parametrize("rate", [1, 10, 60])
async def test_requests_per_minute_hold_in_any_60_seconds(clock, rate):
    model = Model(clock, seconds=0.1)
    limited = Limited(model, requests_per_minute=rate)
    await clock.run(*[limited.complete(HELLO) for _ in range(3 * rate + 1)])
    assert most_in_a_minute(model.arrivals) == rate
    assert clock.now - 1000 < 200  # and no slower than it must be


async def test_tokens_per_minute_hold_in_any_60_seconds(clock):
    model = Model(clock, seconds=0.1, tokens=200)
    limited = Limited(model, tokens_per_minute=2000)
    await clock.run(*[limited.complete(HELLO) for _ in range(45)])
    assert most_in_a_minute(model.arrivals, 200) == 2000
    assert clock.now - 1000 < 310


async def test_estimates_are_put_right_by_the_answers(clock):
    """400 tokens an answer where 200 were expected: after the first ones, half as many leave."""
    model = Model(clock, seconds=0.1, tokens=400)
    limited = Limited(model, tokens_per_minute=2000)

    async def one_after_another():
        for _ in range(20):
            await limited.complete(HELLO)

    await clock.run(one_after_another())
    assert most_in_a_minute(model.arrivals, 400) <= 2400


async def test_a_request_beyond_the_rate_leaves_alone(clock):
    model = Model(clock)
    limited = Limited(model, tokens_per_minute=50)
    await clock.run(limited.complete(HELLO), limited.complete(HELLO))
    assert model.arrivals == [1000.0, 1060.0]


async def test_both_rates_and_a_pause_hold_together(clock):
    """What waits for one bound must not have used up its place under the other."""
    model = Model(clock, seconds=0.1, tokens=200, outcomes=[refusal(45.0)])
    limited = Limited(model, requests_per_minute=20, tokens_per_minute=2000, max_concurrency=64)
    await clock.run(*[limited.complete(HELLO) for _ in range(70)])
    assert most_in_a_minute(model.arrivals) <= 20
    assert most_in_a_minute(model.arrivals, 200) <= 2000


# --- refusals ---


async def test_a_refusal_halves_what_is_in_flight_once_for_all_that_left_before_it(clock):
    model = Model(clock, outcomes=[refusal() for _ in range(16)])
    limited = Limited(model, max_concurrency=16)
    await clock.run(*[limited.complete(HELLO) for _ in range(16)])
    assert limited.limit == 8
    model.most = 0
    await clock.run(*[limited.complete(HELLO) for _ in range(8)], *[limited.complete(HELLO) for _ in range(4)])
    assert model.most == 8


async def test_it_never_goes_below_one_and_recovers_to_the_ceiling(clock):
    model = Model(clock, outcomes=[refusal() for _ in range(40)])
    limited = Limited(model, max_concurrency=12)
    for _ in range(10):
        await clock.run(*[limited.complete(HELLO) for _ in range(4)])
    assert limited.limit == 1
    await clock.run(*[limited.complete(HELLO) for _ in range(200)])
    assert limited.limit == 12
    assert model.most <= 12


async def test_without_a_ceiling_it_recovers_to_none(clock):
    model = Model(clock, outcomes=[refusal()])
    limited = Limited(model)
    await clock.run(*[limited.complete(HELLO) for _ in range(12)])
    assert 6 <= limited.limit <= 9  # also when the burst is over
    for _ in range(40):
        await clock.run(*[limited.complete(HELLO) for _ in range(12)])
    assert limited.limit == float("inf")


async def test_a_wait_that_is_asked_for_stops_all_departures(clock):
    model = Model(clock, seconds=1.0, outcomes=[refusal(30.0)])
    limited = Limited(model, max_concurrency=2)
    await clock.run(*[limited.complete(HELLO) for _ in range(10)])
    assert model.arrivals[:2] == [1000.0, 1000.0]
    assert min(model.arrivals[2:]) == 1031.0


async def test_a_wait_beyond_measure_fails_at_once_and_sends_nothing(clock):
    model = Model(clock, outcomes=[refusal(86_400.0)])
    limited = Limited(model, longest_pause_s=600)
    found = await clock.run(limited.complete(HELLO))
    found += await clock.run(*[limited.complete(HELLO) for _ in range(3)])
    assert [type(f) for f in found] == [tf.LMRateLimitError] * 4
    assert found[1].retry_after_s > 80_000
    assert "Nothing was sent" in str(found[1])
    assert (len(model.arrivals), limited._in_flight) == (1, 0)
    clock.now += 86_400
    assert isinstance((await clock.run(limited.complete(HELLO)))[0], Response)


# --- streams, threads ---


class Streaming(Model):
    async def stream(self, request):
        yield Delta("a")
        yield Delta("b")
        yield await self.complete(request)


async def test_a_stream_has_a_place_until_it_ends_or_is_left(clock):
    model = Streaming(clock)
    limited = Limited(model, max_concurrency=1)
    left = limited.stream(HELLO)
    assert (await anext(left)).text == "a"
    waiting = asyncio.ensure_future(limited.complete(HELLO))
    await asyncio.sleep(0)
    assert (limited._in_flight, len(limited._queue)) == (1, 1)
    await left.aclose()
    await clock.run(waiting)
    whole = await clock.run(_all(limited.stream(HELLO)))
    assert [p.text for p in whole[0]] == ["a", "b", "y"]
    assert limited._in_flight == 0


async def _all(parts):
    return [part async for part in parts]


def test_threads_and_loops_share_the_limit_of_one_lm():
    lock, at_once = threading.Lock(), []

    async def script(request):
        with lock:
            at_once.append((len(at_once) and at_once[-1] + 1) or 1)
        await asyncio.sleep(0.002)
        with lock:
            at_once.append(at_once[-1] - 1)
        return "[[ ## a ## ]]\nx"

    lm = ScriptedLM(script, max_concurrency=4)
    program = tf.Predict("q -> a").using(lm=lm)

    async def in_a_loop():
        await asyncio.gather(*[program.acall(q="x") for _ in range(10)])

    def in_a_thread(number):
        if number % 2:
            asyncio.run(in_a_loop())
        else:
            for _ in range(10):
                program(q="x")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(in_a_thread, range(16)))
    assert len(lm.requests) == 160
    assert max(at_once) == 4
    assert at_once[-1] == 0
