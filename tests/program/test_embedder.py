"""Embedder: texts to vectors, cached, metered, in order."""

import asyncio
import copy
import importlib.util
import threading

import pytest

import tuneful as tf
from tuneful.backends.local import find as local
from tuneful.program.vectors import embedder as embedder_module
from tuneful.program.vectors.embedder import Embedder

np = pytest.importorskip("numpy")

KEY = "sk-do-not-show-me-0123456789"


def vector(text):
    return [float(len(text)), float(sum(map(ord, text)) % 97), 1.0]


@pytest.fixture
def embedding_server(server):
    """A server that embeds; `server.asked` lists the texts of each request."""
    server.asked = []

    def embed(body):
        server.asked.append(body["input"])
        data = [{"index": i, "embedding": vector(t)} for i, t in enumerate(body["input"])]
        usage = {"prompt_tokens": sum(map(len, body["input"]))}
        return server.reply(body={"data": data, "usage": usage, "model": "answering-model"})

    server.script = embed
    return server


@pytest.fixture
def served(embedding_server):
    made = []

    def make(model="openai/text-embedding-3-small", **options):
        made.append(Embedder(model, api_base=embedding_server.url, api_key=KEY, **options))
        return made[-1]

    yield make
    for one in made:
        asyncio.run(one.aclose())


@pytest.fixture
def cache():
    with tf.context(cache=tf.Cache(None)):
        yield tf.settings.cache


class Counting:
    """A function that embeds and notes what it was asked."""

    def __init__(self, answer=vector):
        self.answer = answer
        self.asked = []

    def __call__(self, texts):
        self.asked.append(texts)
        return [self.answer(t) for t in texts]


# --- shapes ---


def test_one_text_gives_a_vector_and_several_an_array():
    embed = Embedder(Counting())
    one, several = embed("abc"), embed(["abc", "d"])
    assert (one.shape, several.shape) == ((3,), (2, 3))
    assert one.dtype == several.dtype == np.float32
    assert several[0].tolist() == one.tolist() == vector("abc")
    several[0] = 0  # the array is the caller's own


@pytest.mark.parametrize("inputs", [("a", "b"), iter(["a", "b"]), np.array(["a", "b"]), {"a": 1, "b": 2}.keys()])
def test_any_iterable_of_texts_will_do(inputs):
    assert Embedder(Counting())(inputs).tolist() == [vector("a"), vector("b")]


def test_no_texts_give_no_rows_and_ask_nothing():
    function = Counting()
    embed = Embedder(function)
    assert embed([]).shape == (0, 0)
    embed("a")
    assert embed([]).shape == (0, 3)
    assert function.asked == [["a"]]
    assert Embedder("openai/text-embedding-3-small", dimensions=8)([]).shape == (0, 8)


async def test_it_is_asked_with_await_too_also_at_the_same_time():
    embed = Embedder(Counting())
    found = await asyncio.gather(embed.acall("abc"), embed.acall(["d", "ef"]))
    assert found[0].tolist() == vector("abc")
    assert found[1].tolist() == [vector("d"), vector("ef")]
    assert embed("in the blocking way, inside a running loop").shape == (3,)


@pytest.mark.parametrize("inputs", [None, 3, b"bytes", {"a": 1}, ["a", None], ["a", b"b"], [["a"]], [1.5]])
def test_what_is_no_text_is_an_input_error_before_anything_is_asked(inputs):
    function = Counting()
    with pytest.raises(tf.InputError, match=r"a text or a list of texts.*Nothing was asked"):
        Embedder(function)(inputs)
    assert function.asked == []


# --- functions ---


def test_a_plain_function_runs_outside_of_the_loop_one_batch_at_a_time():
    threads, busy = set(), []

    def function(texts):
        threads.add(threading.current_thread().name)
        busy.append(len(busy))
        assert len(busy) == 1, "two batches at once"
        busy.pop()
        return [vector(t) for t in texts]

    Embedder(function)([f"text {i}" for i in range(50)], batch_size=5)
    assert not any("loop" in name for name in threads)


def test_batches_of_an_async_function_run_side_by_side_within_bounds_and_come_in_order():
    running, most = 0, 0

    async def function(texts):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01 if "0" in texts[0] else 0)  # the first batches end last
        running -= 1
        return [vector(t) for t in texts]

    texts = [f"text {i}" for i in range(40)]
    assert Embedder(function, batch_size=4, max_concurrency=3)(texts).tolist() == [vector(t) for t in texts]
    assert most == 3


def test_batches_hold_no_more_than_was_said_by_the_embedder_or_the_call():
    function = Counting()
    embed = Embedder(function, batch_size=3)
    embed(list("abcdefg"))
    embed(list("abcdefg"), batch_size=5)
    assert list(map(len, function.asked)) == [3, 3, 1, 5, 2]


def test_long_texts_make_smaller_batches():
    function = Counting()
    Embedder(function)([c * 100_000 for c in "abcde"])
    assert list(map(len, function.asked)) == [2, 2, 1]


def test_further_options_go_to_the_function():
    assert Embedder(lambda texts, size: [[1.0] * size for _ in texts], size=5)("a").shape == (5,)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda texts: [[1.0]], r"returned one of shape \(1, 1\)"),
        (lambda texts: [1.0, 2.0], r"shape \(2,\)"),
        (lambda texts: [[1.0], [1.0, 2.0]], "no such array"),
        (lambda texts: [["x"], ["y"]], "no such array"),
        (lambda texts: None, "shape|no such array"),
        (lambda texts: [[], []], r"shape \(2, 0\)"),
        (lambda texts: [[1.0], [float("nan")]], "NaN"),
        (lambda texts: [[1.0], [float("inf")]], "infinity"),
    ],
)
def test_a_function_that_returns_something_else_is_a_usage_error(answer, said):
    with pytest.raises(tf.UsageError, match=said):
        Embedder(answer)(["a", "b"])


def test_vectors_whose_length_changes_from_batch_to_batch_are_an_error():
    with pytest.raises(tf.UsageError, match="different lengths: 1, 2"):
        Embedder(lambda texts: [[1.0] * len(texts[0])] * len(texts), batch_size=1)(["a", "bb"])


def test_what_a_function_raises_is_raised():
    def function(texts):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        Embedder(function)("a")


# --- settings ---


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "3"])
def test_a_batch_size_is_a_number_of_texts(size):
    with pytest.raises(tf.UsageError, match="batch_size"):
        Embedder(Counting(), batch_size=size)
    with pytest.raises(tf.UsageError, match="batch_size"):
        Embedder(Counting())("a", batch_size=size)


@pytest.mark.parametrize(
    "given", [{"api_base": "http://x"}, {"api_key": KEY}, {"dimensions": 3}, {"price_per_million": 1}]
)
def test_a_function_takes_no_settings_of_a_server(given):
    with pytest.raises(tf.UsageError, match=next(iter(given))):
        Embedder(Counting(), **given)


def test_a_model_is_a_name_or_a_function():
    with pytest.raises(tf.UsageError, match="a model's name"):
        Embedder(3)


def test_without_numpy_the_error_holds_the_command(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        embedder_module.importlib.util, "find_spec", lambda name, *r: None if name == "numpy" else find_spec(name, *r)
    )
    with pytest.raises(tf.MissingExtraError, match=r"pip install 'tuneful\[dense\]'"):
        Embedder(Counting())


def test_copies_of_a_program_share_it_and_its_repr_holds_no_key(served):
    embed = served(dimensions=3)
    assert copy.deepcopy(embed) is embed
    assert KEY not in repr(embed)
    assert "text-embedding-3-small" in repr(embed)


# --- caching ---


def test_a_text_is_asked_for_once_within_a_call_and_over_calls(served, embedding_server, cache):
    embed = served()
    first = embed(["a", "bb", "a", "a"])
    second = embed(["ccc", "bb", "a"])
    assert embedding_server.asked == [["a", "bb"], ["ccc"]]
    assert first.tolist() == [vector("a"), vector("bb"), vector("a"), vector("a")]
    assert second.tolist() == [vector("ccc"), vector("bb"), vector("a")]
    assert served()("bb").tolist() == vector("bb")  # another embedder of the same model
    assert len(embedding_server.asked) == 2


def test_a_file_keeps_vectors_for_the_next_process(served, embedding_server, tmp_path):
    file = tmp_path / "cache.sqlite"
    for _ in range(2):
        with tf.context(cache=tf.Cache(file)):
            assert served()(["a", "bb"]).tolist() == [vector("a"), vector("bb")]
            tf.settings.cache.close()
    assert embedding_server.asked == [["a", "bb"]]
    assert KEY.encode() not in file.read_bytes()


def test_models_servers_and_dimensions_share_nothing(served, embedding_server, cache):
    served()("a")
    served(dimensions=3)("a")
    served("openai/another")("a")
    served(extra_body={"input_type": "query"})("a")
    assert embedding_server.asked == [["a"]] * 4


def test_the_answer_of_a_language_model_is_no_vector(served, embedding_server, cache):
    lm = tf.LM("openai/text-embedding-3-small", api_base=embedding_server.url, api_key=KEY)
    served()("a")
    embedding_server.script = lambda body: embedding_server.completion("written")
    assert lm("a") == ["written"]


def test_caching_is_turned_off_by_the_embedder_the_call_or_the_settings(served, embedding_server, cache):
    embed = served()
    embed("a")
    embed("a", caching=False)
    served(caching=False)("a")
    with tf.context(cache=False):
        embed("a")
    with tf.context(cache=tf.Cache(None, mode="off")):
        embed("a")
    assert len(embedding_server.asked) == 5
    served(caching=False)("a", caching=True)
    assert len(embedding_server.asked) == 5


def test_the_modes_of_the_cache_hold(served, embedding_server, tmp_path):
    file, embed = tmp_path / "cache.sqlite", served()

    def call(mode, texts):
        with tf.context(cache=tf.Cache(file, mode=mode)):
            embed(texts)
        return len(embedding_server.asked)

    assert call("readwrite", ["a"]) == 1
    assert call("read", ["a", "b"]) == 2
    assert call("read", ["b"]) == 3  # it was not kept
    assert call("record", ["a"]) == 4  # asked anew
    assert call("replay", ["a"]) == 4
    with pytest.raises(tf.CacheMissError, match=r"no vector of .* for 'unseen'"):
        call("replay", ["a", "unseen"])
    assert len(embedding_server.asked) == 4


def test_what_was_paid_for_is_kept_when_a_later_batch_fails(served, embedding_server, cache):
    embed, answers = served(num_retries=0, max_concurrency=1), embedding_server.script
    embedding_server.script = lambda body: (
        answers(body) if body["input"] == ["a"] else embedding_server.refusal(400, "no")
    )
    with pytest.raises(tf.LMInvalidRequestError):
        embed(["a", "b"], batch_size=1)
    embedding_server.script = answers
    embed(["a", "b"])
    assert embedding_server.asked == [["a"], ["b"]]


def test_functions_that_look_the_same_share_nothing_and_leave_nothing_behind(cache):
    def made(factor):
        return lambda texts: [[factor * len(t)] for t in texts]

    one, other = Embedder(made(1.0)), Embedder(made(2.0))
    assert one("abc").tolist() == [3.0]
    assert other("abc").tolist() == [6.0]
    assert len(cache) == 0


def test_a_function_is_asked_for_a_text_once_too(cache):
    function = Counting()
    embed = Embedder(function)
    embed(["a", "b", "a"])
    embed(["b", "c"])
    embed("c", caching=False)
    assert function.asked == [["a", "b"], ["c"], ["c"]]


def test_a_kept_vector_of_another_length_is_an_error_that_says_what_to_do(served, embedding_server, cache):
    embed, answers = served(), embedding_server.script
    embed("a")
    embedding_server.script = lambda body: embedding_server.reply(body={"data": [{"embedding": [1.0]}]})
    with pytest.raises(tf.LMServerError, match=r"different lengths: 1, 3.*clear the cache"):
        embed(["a", "b"])
    embedding_server.script = answers


# --- money, budgets, failures ---


def test_requests_are_metered_and_priced_as_those_of_language_models_are(served, cache):
    embed = served(batch_size=2)
    with tf.track_usage() as used:
        embed(["aaaa", "bb", "cccc"])
        embed(["bb", "cccc"])
    by_model = used.by_model()["openai/text-embedding-3-small"]
    assert (by_model.calls, by_model.prompt_tokens, by_model.hits) == (2, 10, 2)
    assert by_model.cost_usd == pytest.approx(10 * 0.02 / 1e6)


@pytest.mark.parametrize("price", [5, (5.0, 0.0), tf.Price(5.0, 0.0)])
def test_a_price_may_be_given(served, price):
    with tf.track_usage() as used:
        served("own-model", price_per_million=price)("aaaa")
    assert used.usage.cost_usd == pytest.approx(4 * 5 / 1e6)


def test_configured_prices_go_over_the_table(served):
    with tf.context(prices={"openai/text-embedding-3-small": (7.0, 0.0)}), tf.track_usage() as used:
        served()("aaaa")
    assert used.usage.cost_usd == pytest.approx(4 * 7 / 1e6)


def test_a_budget_stops_requests_before_they_leave(served, embedding_server):
    from tuneful.backends.budget import Meter
    from tuneful.backends.metered import metered

    embed = served(batch_size=1, max_concurrency=1)
    with metered(Meter(tf.Budget(calls=2))), pytest.raises(tf.BudgetExceeded):
        embed(["a", "b", "c", "d"])
    assert embedding_server.asked == [["a"], ["b"]]
    with metered(Meter(tf.Budget(usd=1))), pytest.raises(tf.NotConfiguredError, match="price of `own-model`"):
        served("own-model")("a")


def test_a_passing_failure_is_retried(served, embedding_server, waits):
    embed, answers = served(), embedding_server.script
    replies = iter([embedding_server.refusal(503, "busy"), embedding_server.refusal(429, "slow down")])
    embedding_server.script = lambda body: next(replies, None) or answers(body)
    with tf.track_usage() as used:
        assert embed("a").tolist() == vector("a")
    assert len(waits) == 2
    assert (used.usage.calls, used.usage.retries) == (1, 2)


def test_an_answer_with_too_few_vectors_is_a_typed_error(served, embedding_server, waits):
    embed = served()
    embedding_server.script = lambda body: embedding_server.reply(body={"data": [{"embedding": [1.0]}]})
    with pytest.raises(tf.LMServerError, match="2 texts and answered with 1"):
        embed(["a", "b"])


# --- models in this process ---


@pytest.mark.model
@pytest.mark.skipif(not local.is_available(), reason="the embedded model is not installed")
def test_the_embedded_model_embeds_for_nothing(cache):
    embed = Embedder("local/smollm2")
    with tf.track_usage() as used:
        rice, recipe, budget = embed(
            ["How do I cook rice?", "A recipe for boiled rice.", "Parliament passed the budget."]
        )
    assert rice @ recipe > rice @ budget
    assert (used.usage.calls, used.usage.cost_usd) == (1, 0.0)
    assert embed("How do I cook rice?").tolist() == rice.tolist()


@pytest.mark.skipif(importlib.util.find_spec("wordllama") is None, reason="wordllama is not installed")
def test_the_static_model_has_as_many_dimensions_as_asked_for():
    assert Embedder("local/wordllama", dimensions=64)(["a", "b"]).shape == (2, 64)
