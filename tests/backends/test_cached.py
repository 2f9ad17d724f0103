"""Asking only what the cache cannot answer, and the same thing only once at a time."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM
from tuneful.wire.messages import user
from tuneful.wire.request import Request, Sampling
from tuneful.wire.response import Choice, Response, Usage

HELLO = Request((user("hello"),))


@pytest.fixture
def cache():
    made = tf.Cache(None)
    with tf.context(cache=made):
        yield made


class Model:
    """A model whose answers wait for `gate`; it notes calls and cancellations."""

    def __init__(self, answer="x", **options):
        self.gate = threading.Event()
        self.began = threading.Event()
        self.calls = 0
        self.cancelled = 0
        self._answer = answer
        self.lm = ScriptedLM(self._ask, cache=True, **options)

    async def _ask(self, request):
        self.calls += 1
        number = self.calls
        self.began.set()
        try:
            while not self.gate.is_set():  # noqa: ASYNC110 (it is opened from other threads)
                await asyncio.sleep(0.002)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self._answer(number) if callable(self._answer) else self._answer


async def until(condition):
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came about")


# --- the same thing once at a time ---


async def test_100_identical_concurrent_requests_make_one_call_and_charge_one(cache):
    model = Model()
    with tf.track_usage() as meter:
        calls = [asyncio.create_task(model.lm.complete(HELLO)) for _ in range(100)]
        await until(lambda: model.calls)
        model.gate.set()
        answers = await asyncio.gather(*calls)
    assert {a.text for a in answers} == {"x"}
    assert [a.hit for a in answers].count(False) == 1
    assert (model.calls, meter.usage.calls, meter.usage.hits) == (1, 1, 99)
    assert (cache.misses, cache.hits) == (1, 99)


@pytest.mark.parametrize("waits", [True, False])
def test_identical_blocking_calls_of_many_threads_make_one_call(cache, waits):
    model = Model("[[ ## a ## ]]\nx")
    if not waits:
        model.gate.set()
    program = tf.Predict("q -> a").using(lm=model.lm)
    barrier = threading.Barrier(32)

    def ask(_):
        with tf.context(cache=cache), tf.track_usage() as meter:
            barrier.wait()
            return program(q="same").a, meter.usage.calls

    with ThreadPoolExecutor(32) as pool:
        found = pool.map(ask, range(32))
        threading.Timer(0.1, model.gate.set).start()
        found = list(found)
    assert {a for a, _ in found} == {"x"}
    assert (model.calls, sum(calls for _, calls in found)) == (1, 1)


def test_a_model_that_answers_at_once_is_asked_once_by_many_threads_too(cache):
    lm = ScriptedLM(lambda r: "[[ ## a ## ]]\nx", cache=True)
    program = tf.Predict("q -> a").using(lm=lm)
    barrier = threading.Barrier(32)

    def ask(_):
        with tf.context(cache=cache):
            barrier.wait()
            return program(q="same").a

    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(ask, range(32))) == {"x"}
    assert len(lm.requests) == 1


@pytest.mark.parametrize("first_too", [True, False])
async def test_cancelling_some_does_not_cancel_the_call_for_the_others(cache, first_too):
    model = Model()
    calls = [asyncio.create_task(model.lm.complete(HELLO)) for _ in range(10)]
    await until(lambda: model.calls)
    await asyncio.sleep(0.02)
    gone = calls[0:5] if first_too else calls[5:]
    for call in gone:
        call.cancel()
    await asyncio.sleep(0.02)
    model.gate.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(f, asyncio.CancelledError) for f in found) == 5
    assert {f.text for f in found if isinstance(f, Response)} == {"x"}
    assert (model.calls, model.cancelled) == (1, 0)
    assert model.lm._cached._flights == {}
    assert (await model.lm.complete(HELLO)).hit


async def test_cancelling_all_cancels_the_call_and_a_later_one_asks_anew(cache):
    model = Model()
    for times in (1, 2):
        calls = [asyncio.create_task(model.lm.complete(HELLO)) for _ in range(10)]
        await until(lambda times=times: model.calls == times)
        await asyncio.sleep(0.02)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert all(call.cancelled() for call in calls)
        await until(lambda times=times: model.cancelled == times)
    model.gate.set()
    answer = await model.lm.complete(HELLO)
    assert (answer.text, answer.hit, model.calls) == ("x", False, 3)


async def test_who_joins_just_when_all_others_are_cancelled_gets_an_answer(cache):
    model = Model()
    for _ in range(20):
        first = asyncio.create_task(model.lm.complete(HELLO))
        await until(model.began.is_set)
        model.began.clear()
        first.cancel()
        second = asyncio.create_task(model.lm.complete(HELLO))
        await until(model.began.is_set)
        model.gate.set()
        assert (await second).text == "x"
        with pytest.raises(asyncio.CancelledError):
            await first
        model.gate.clear()
        model.began.clear()
        cache.clear()


async def test_a_failure_fails_all_who_wait_and_is_not_kept(cache):
    error = tf.LMServerError("out of order")
    model = Model(lambda number: error if number == 1 else "x")
    calls = [asyncio.create_task(model.lm.complete(HELLO)) for _ in range(20)]
    await until(lambda: model.calls)
    await asyncio.sleep(0.02)
    model.gate.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert all(f is error for f in found)
    assert len(cache) == 0
    assert (await model.lm.complete(HELLO)).text == "x"
    assert model.calls == 2


async def test_the_budget_of_the_one_who_asked_first_stops_nobody_else(cache):
    from tuneful.backends.budget import Meter
    from tuneful.backends.metered import metered

    model = Model(max_concurrency=1)
    model.gate.set()

    async def poor():
        with metered(Meter(tf.Budget(calls=0))):
            return await model.lm.complete(HELLO)

    async def crowd():  # in the loop of the model, so that all join before the budget is asked
        return await asyncio.gather(poor(), *[model.lm.complete(HELLO) for _ in range(5)], return_exceptions=True)

    from tuneful.program.running.portal import portal

    found = await portal.bring(crowd())
    assert isinstance(found[0], tf.BudgetExceeded)
    assert [f.text for f in found[1:]] == ["x"] * 5
    assert model.calls == 1


async def test_requests_that_join_keep_to_their_own_cache(cache):
    other = tf.Cache(None)
    model = Model()
    one = asyncio.create_task(model.lm.complete(HELLO))
    await until(lambda: model.calls)
    with tf.context(cache=other):
        two = asyncio.create_task(model.lm.complete(HELLO))
    await asyncio.sleep(0.02)
    model.gate.set()
    await asyncio.gather(one, two)
    assert (len(cache), len(other)) == (1, 1)


# --- modes ---


def _numbered(**options):
    count = iter(range(1, 100))
    return ScriptedLM(lambda r: [f"answer {next(count)}" for _ in range(r.sampling.n)], **{"cache": True, **options})


@pytest.mark.parametrize(
    ("mode", "first", "second", "kept"),
    [
        ("readwrite", "answer 1", "answer 1", 1),
        ("read", "answer 1", "answer 2", 0),
        ("record", "answer 1", "answer 2", 1),
        ("off", "answer 1", "answer 2", 0),
    ],
)
def test_each_mode_does_what_it_says(mode, first, second, kept):
    lm = _numbered()
    cache = tf.Cache(None, mode=mode)
    with tf.context(cache=cache):
        assert (lm("x"), lm("x")) == ([first], [second])
    assert len(cache) == kept
    if mode == "record":
        cache.mode = "replay"
        with tf.context(cache=cache):
            assert lm("x") == ["answer 2"]


def test_reading_answers_from_what_was_kept_before(cache):
    lm = _numbered()
    assert lm("x") == ["answer 1"]
    cache.mode = "read"
    assert (lm("x"), lm("y"), lm("y")) == (["answer 1"], ["answer 2"], ["answer 3"])


def test_replay_answers_what_it_has_and_raises_for_the_rest(cache):
    lm = _numbered()
    lm("x")
    cache.mode = "replay"
    assert lm("x") == ["answer 1"]
    with pytest.raises(tf.CacheMissError, match="tell me another"):
        lm("tell me another")
    assert len(lm.requests) == 1


def test_an_evaluation_raises_a_replay_miss_at_once_and_scores_nothing(cache):
    cache.mode = "replay"
    lm = ScriptedLM(lambda r: "[[ ## a ## ]]\nx", cache=True)
    devset = [tf.Example(q=str(i), a="x").with_inputs("q") for i in range(5)]
    with pytest.raises(tf.CacheMissError):
        tf.Evaluate(devset=devset, metric=lambda e, p: True)(tf.Predict("q -> a").using(lm=lm))
    assert lm.requests == []


# --- passing it by ---


@pytest.mark.parametrize("way", ["config", "lm", "context", "module"])
def test_it_can_be_passed_by(cache, way):
    lm = ScriptedLM(lambda r: "[[ ## a ## ]]\nx", cache=way != "lm")
    program = tf.Predict("q -> a", **({"cache": False} if way == "module" else {})).using(lm=lm)
    for _ in range(2):
        if way == "context":
            with tf.context(cache=None):
                program(q="x")
        else:
            program(q="x", **({"config": {"cache": False}} if way == "config" else {}))
    assert (len(lm.requests), len(cache), cache.hits, cache.misses) == (2, 0, 0, 0)


# --- what a hit is ---


def test_hits_cost_nothing_are_counted_and_do_not_use_up_a_budget(cache):
    from tuneful.backends.budget import Meter
    from tuneful.backends.metered import metered

    lm = _numbered(price_per_million=(1e6, 1e6))
    with metered(Meter(tf.Budget(calls=1))) as meter:
        for _ in range(5):
            assert lm("one two") == ["answer 1"]
        with pytest.raises(tf.BudgetExceeded):
            lm("another")
    assert (meter.usage.calls, meter.usage.hits, meter.usage.cost_usd) == (1, 4, 4.0)
    with tf.track_usage() as later:
        lm("one two")
    assert (later.usage.calls, later.usage.hits, later.usage.cost_usd, later.usage.total_tokens) == (0, 1, 0.0, 0)
    assert later.by_model()["scripted"].hits == 1


# --- several samples ---


def test_a_later_request_for_more_samples_asks_only_for_the_missing_ones(cache):
    lm = _numbered(temperature=1.0)
    assert lm("x", n=2) == ["answer 1", "answer 2"]
    assert (cache.hits, cache.misses) == (0, 2)
    assert lm("x", n=5) == [f"answer {i}" for i in range(1, 6)]
    assert [(r.sampling.n, r.sampling.sample) for r in lm.requests] == [(2, 0), (3, 2)]
    assert (cache.hits, cache.misses) == (2, 5)
    assert lm("x") == ["answer 1"]
    assert lm("x", n=5) == [f"answer {i}" for i in range(1, 6)]
    assert len(lm.requests) == 2


async def test_a_replay_of_samples_is_the_same_to_the_bit(cache):
    choices = tuple(Choice(f"{i} 数", logprobs=(("a", -0.1 * i),), reasoning="r" * i) for i in range(4))
    lm = ScriptedLM(lambda r: Response(choices, Usage(1, 10, 0, 8)), cache=True, temperature=0.9)
    request = Request((user("x"),), Sampling(n=4))
    first = await lm.complete(request)
    again = await lm.complete(request)
    assert (again.choices, again.usage, again.model) == (first.choices, first.usage, first.model)
    assert (first.hit, again.hit) == (False, True)


async def test_identical_requests_for_samples_make_one_call(cache):
    model = Model(["a", "b", "c"], temperature=1.0)
    request = Request((user("x"),), Sampling(n=3))
    calls = [asyncio.create_task(model.lm.complete(request)) for _ in range(20)]
    await until(lambda: model.calls)
    await asyncio.sleep(0.02)
    model.gate.set()
    assert {tuple(c.text for c in a.choices) for a in await asyncio.gather(*calls)} == {("a", "b", "c")}
    assert model.calls == 1
    assert (cache.hits, cache.misses) == (57, 3)


@pytest.mark.parametrize("finish", ["length", "filter"])
def test_truncated_and_filtered_answers_are_not_kept(cache, finish):
    lm = ScriptedLM(lambda r: Response((Choice("half", finish),)), cache=True)
    lm("x")
    lm("x")
    assert (len(lm.requests), len(cache)) == (2, 0)


def test_samples_before_a_truncated_one_are_kept(cache):
    ends = iter(["stop", "stop", "length", "stop", "stop", "stop"])
    lm = ScriptedLM(
        lambda r: Response(tuple(Choice(f"{r.sampling.sample + i}", next(ends)) for i in range(r.sampling.n))),
        cache=True,
        temperature=1.0,
    )
    assert lm("x", n=4) == ["0", "1", "2", "3"]
    assert lm("x", n=4) == ["0", "1", "2", "3"]
    assert [(r.sampling.n, r.sampling.sample) for r in lm.requests] == [(4, 0), (2, 2)]
    lm("x", n=4)
    assert len(lm.requests) == 2


# --- keys ---


def test_repetitions_are_requests_of_their_own(cache):
    lm = _numbered()
    assert [lm("x", rollout_id=i)[0] for i in (0, 1, 2, 1, 0)] == [f"answer {i}" for i in (1, 2, 3, 2, 1)]


@pytest.mark.parametrize(
    "options", [{"temperature": 0.5}, {"max_tokens": 5}, {"seed": 1}, {"stop": "END"}, {"top_p": 0.5}]
)
def test_every_sampling_option_is_part_of_the_key(cache, options):
    lm = _numbered()
    assert lm("x") != lm("x", **options)


def test_two_endpoints_do_not_share(cache, server):
    server.script = lambda body: server.completion(body["model"])
    base = server.url
    for name in ("one", "two"):
        for _ in range(2):
            assert tf.LM(f"openai/{name}", api_base=base)("x") == [name]
    assert len(server.bodies) == 2
    tf.LM("openai/one", api_base=f"{base}/other")("x")
    assert len(server.bodies) == 3


# --- streams ---


async def test_a_stream_is_kept_and_given_again(cache):
    lm = _numbered()
    first = [p async for p in lm.stream(HELLO)]
    again = [p async for p in lm.stream(HELLO)]
    assert ["".join(p.text for p in parts[:-1]) for parts in (first, again)] == ["answer 1", "answer 1"]
    assert (first[-1].text, again[-1].text) == ("answer 1", "answer 1")
    assert (first[-1].hit, again[-1].hit) == (False, True)
    assert (await lm.complete(HELLO)).text == "answer 1"
    assert len(lm.requests) == 1


# --- a whole evaluation without the server ---


def test_an_exported_cache_replays_an_evaluation_with_the_server_gone(server, tmp_path):
    server.script = lambda body: server.completion(
        f"[[ ## reasoning ## ]]\nsince\n\n[[ ## answer ## ]]\n{sum(map(ord, body['messages'][-1]['content'])) % 7}"
    )
    lm = tf.LM("openai/m", api_base=server.url, num_retries=0)
    program = tf.ChainOfThought("question -> answer: int").using(lm=lm)
    devset = [tf.Example(question=f"q{i}", answer=3).with_inputs("question") for i in range(40)]
    evaluate = tf.Evaluate(devset=devset, metric=lambda e, p: e.answer == p.answer, num_threads=8)
    with tf.context(cache=tmp_path / "one.sqlite"):
        first = evaluate(program)
        assert tf.settings.cache.export(tmp_path / "answers.jsonl") == 40
    server.close()

    replaying = tf.Cache(tmp_path / "two.sqlite", mode="replay")
    assert replaying.load(tmp_path / "answers.jsonl") == 40
    with tf.context(cache=replaying):
        again = evaluate(program)
    assert 0 < first.score < 100
    assert [(r.score, r.status, r.prediction.toDict()) for r in again.rows] == [
        (r.score, r.status, r.prediction.toDict()) for r in first.rows
    ]
    assert (first.usage.calls, again.usage.calls, again.usage.hits) == (40, 0, 40)
