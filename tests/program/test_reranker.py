"""Scores from a server with a reranking model, over real HTTP."""

import asyncio

import pytest

import tuneful as tf
from tuneful.backends.budget import Meter
from tuneful.backends.metered import metered

KEY = "sk-do-not-show-me-0123456789"
TEXTS = ["a", "bbb", "cc"]


def results(name="relevance_score", key="results"):
    rows = [{"index": i, name: float(len(t))} for i, t in enumerate(TEXTS)]
    return {key: sorted(rows, key=lambda r: -r[name]), "usage": {"total_tokens": 40}}


@pytest.fixture
def made(server):
    made = []

    def make(reply, **options):
        server.script = reply if callable(reply) else lambda body: server.reply(body=reply)
        made.append(tf.Reranker("small", api_base=server.url, api_key=KEY, num_retries=0, **options))
        return made[-1]

    yield make
    for one in made:
        asyncio.run(one.aclose())


@pytest.mark.parametrize("body", [results(), results("score"), results(key="data"), results("score")["results"]])
def test_scores_come_in_the_order_of_the_passages_in_every_layout(made, server, body):
    assert made(body)("q", TEXTS) == [1.0, 3.0, 2.0]
    assert server.bodies == [{"model": "small", "query": "q", "documents": TEXTS}]
    assert server.paths == ["/v1/rerank"]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


async def test_rerank_asks_it(made):
    find = tf.Rerank(lambda query, k: TEXTS, made(results()))
    assert (await find.acall("q", k=2)).passages == ["bbb", "cc"]


def test_it_is_metered_priced_and_cached(made, server):
    ranker = made(results(), price_per_million=0.5)
    with tf.context(cache=tf.Cache(None)), tf.track_usage() as meter:
        assert ranker("q", TEXTS) == ranker("q", TEXTS)
        ranker("q", TEXTS[::-1])
    assert len(server.bodies) == 2
    assert (meter.usage.calls, meter.usage.hits, meter.usage.prompt_tokens) == (2, 1, 80)
    assert meter.usage.cost_usd == pytest.approx(80 * 0.5e-6)


def test_a_budget_in_dollars_lets_nothing_leave_while_the_price_is_not_known(made, server):
    find = tf.Rerank(lambda query, k: TEXTS, made(results()))
    with metered(Meter(tf.Budget(usd=1))), pytest.raises(tf.NotConfiguredError, match="price_per_million"):
        find("q")
    assert server.bodies == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"results": [{"index": 0, "relevance_score": 1.0}]},
        {"results": [{"index": i, "relevance_score": "high"} for i in range(3)]},
        {"results": [{"index": i, "relevance_score": None} for i in range(3)]},
        {"results": [{"index": i} for i in range(3)]},
        {"results": [{"index": i, "relevance_score": 1} for i in range(4)]},
        {"results": KEY},
    ],
)
def test_an_answer_that_is_none_is_a_server_error_without_the_key(made, body):
    with pytest.raises(tf.LMServerError, match="a score for each passage") as caught:
        made(body)("q", TEXTS)
    assert KEY not in str(caught.value)


def test_what_is_no_text_is_an_input_error_and_nothing_is_nothing(made, server):
    ranker = made(results())
    for query, passages in ((3, TEXTS), ("q", "text"), ("q", ["a", None])):
        with pytest.raises(tf.InputError, match="Nothing was asked"):
            ranker(query, passages)
    assert ranker("q", []) == []
    assert server.bodies == []
