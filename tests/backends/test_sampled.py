"""As many samples as were asked for, whatever the service thinks of `n`."""

import asyncio

import pytest

import tuneful as tf
from tuneful.backends.sampled import Sampled
from tuneful.testing import ScriptedLM
from tuneful.testing.scripted import ScriptedBackend
from tuneful.wire.messages import user
from tuneful.wire.request import Request, Sampling
from tuneful.wire.response import Response


def request(n):
    return Request((user("x"),), Sampling(n=n, temperature=0.5))


def sampled(script, *, several=True, **options):
    inner = ScriptedBackend(script, **options)
    inner.several = several
    return Sampled(inner), inner


def one(text):
    async def answer(request):
        await asyncio.sleep(0)
        return [f"{text}{request.sampling.sample}"]

    return answer


@pytest.mark.parametrize("waits", [True, False])
async def test_a_service_that_takes_one_at_a_time_is_asked_for_each(waits):
    script = one("s") if waits else lambda r: [f"s{r.sampling.sample}"]
    backend, inner = sampled(script, several=False)
    response = await backend.complete(request(4))
    assert [c.text for c in response.choices] == ["s0", "s1", "s2", "s3"]
    assert sorted((r.sampling.n, r.sampling.sample) for r in inner.requests) == [(1, i) for i in range(4)]
    assert response.usage.calls == 4


async def test_a_service_that_gives_fewer_is_asked_for_the_rest():
    backend, inner = sampled(lambda r: ["a", "b"] if r.sampling.n > 1 else [f"s{r.sampling.sample}"])
    response = await backend.complete(request(4))
    assert [c.text for c in response.choices] == ["a", "b", "s2", "s3"]
    assert len(inner.requests) == 3


@pytest.mark.parametrize("n", [1, 2])
async def test_what_nobody_asked_for_is_left_out(n):
    backend, _ = sampled(lambda r: ["a", "b", "c", "d"])
    assert [c.text for c in (await backend.complete(request(n))).choices] == ["a", "b", "c", "d"][:n]


async def test_one_failure_fails_the_request_and_cancels_the_others():
    cancelled = []

    async def script(request):
        if request.sampling.sample == 2:
            await asyncio.sleep(0.01)
            return tf.LMServerError("no")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(request.sampling.sample)
            raise

    backend, _ = sampled(script, several=False)
    with pytest.raises(tf.LMServerError, match="no"):
        await backend.complete(request(4))
    await asyncio.sleep(0)
    assert sorted(cancelled) == [0, 1, 3]


async def test_cancelling_cancels_every_sample():
    cancelled = []

    async def script(request):
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(request.sampling.sample)
            raise

    backend, _ = sampled(script, several=False)
    call = asyncio.create_task(backend.complete(request(3)))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert sorted(cancelled) == [0, 1, 2]


def test_a_blocking_call_without_a_loop_gets_its_samples_too():
    answers = iter("123")
    lm = ScriptedLM(lambda r: [f"[[ ## a ## ]]\n{next(answers)}"])
    prediction = tf.Predict("q -> a", n=3, temperature=1.0).using(lm=lm)(q="x")
    assert prediction.completions.a == ["1", "2", "3"]


async def test_samples_are_streamed_whole_at_the_end():
    backend, _ = sampled(one("s"), several=False)
    parts = [part async for part in backend.stream(request(3))]
    assert [(p.text, p.index) for p in parts[:-1]] == [("s0", 0), ("s1", 1), ("s2", 2)]
    assert isinstance(parts[-1], Response)
