"""Passages from a server with a ColBERTv2 index, over real HTTP."""

import asyncio
import copy
import json

import pytest

import tuneful as tf

FOUND = [
    {"text": "Nile | A river in Africa.", "pid": 7, "rank": 1, "score": 21.5, "prob": 0.9},
    {"text": "no title", "pid": 2, "rank": 2, "score": 3, "prob": 0.1},
    {"text": "a third", "pid": 3, "rank": 3, "score": 1.0, "prob": 0.0},
]


class Pages(dict):
    """Pages by path, whatever the query."""

    def __init__(self, replies):
        super().__init__()
        self.replies = replies

    def __contains__(self, path):
        return True

    def __getitem__(self, path):
        return self.get(path)

    def get(self, path, default=None):
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@pytest.fixture
def made(server):
    made = []

    def make(*replies, **options):
        server.pages = Pages([r if isinstance(r, server.reply) else server.reply(body=r) for r in replies])
        made.append(tf.ColBERTv2(f"{server.url}/search", **options))
        return made[-1]

    yield make
    for one in made:
        asyncio.run(one.aclose())


def test_the_query_is_in_the_address_and_the_passages_have_their_parts(made, server):
    found = made({"topk": FOUND})("where is the Nile & what?", k=2)
    assert found == ["Nile | A river in Africa.", "no title"]
    assert [(p.title, p.text, p.id, p.score) for p in found] == [
        ("Nile", "A river in Africa.", 7, 21.5),
        ("", "no title", 2, 3.0),
    ]
    assert server.asked == ["/v1/search?query=where+is+the+Nile+%26+what?&k=2"] or server.asked == [
        "/v1/search?query=where+is+the+Nile+%26+what%3F&k=2"
    ]


def test_a_port_stands_behind_the_host_as_in_dspy():
    assert tf.ColBERTv2("http://colbert.example", port=8893).url == "http://colbert.example:8893"


async def test_it_is_asked_with_await_and_by_retrieve(made):
    colbert = made({"topk": FOUND})
    assert await colbert.acall("Nile", k=1) == ["Nile | A river in Africa."]
    assert (await tf.Retrieve(k=3, rm=colbert).acall("Nile")).passages[0].id == 7


def test_a_query_may_be_posted(made, server):
    server.script = lambda body: server.reply(body={"topk": FOUND})
    colbert = made({"topk": FOUND}, post_requests=True)
    server.pages = {}
    assert colbert("long " * 5000, k=1)[0].id == 7
    assert server.bodies == [{"query": "long " * 5000, "k": 1}]


def test_no_key_of_another_service_is_sent(made, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-this-server")
    server.script = lambda body: server.reply(body={"topk": FOUND})
    colbert = made({"topk": FOUND}, post_requests=True)
    server.pages = {}
    colbert("a")
    assert "authorization" not in server.headers[0]


def test_passing_failures_are_tried_again(made, server, waits):
    colbert = made(server.reply(status=503, body={}), server.reply(status=429, body={}), {"topk": FOUND})
    assert len(colbert("a")) == 3
    assert len(waits) == 2


def test_a_server_that_goes_on_failing_is_a_typed_error(made, server, waits):
    with pytest.raises(tf.LMServerError, match="status 500"):
        made(server.reply(status=500, body={"error": "out of memory"}), num_retries=2)("a")
    assert len(server.asked) == 3


def test_a_server_that_hangs_is_a_timeout(made, server):
    with pytest.raises(tf.LMTimeoutError, match=r"did not answer within 0\.2 s"):
        made(server.reply(wait_s=30), num_retries=0, timeout_s=0.2)("a")


def test_a_server_that_is_not_there_is_a_transport_error():
    with pytest.raises(tf.LMTransportError, match="connection to http://127"):
        tf.ColBERTv2("http://127.0.0.1:1/search", num_retries=0)("a")


@pytest.mark.parametrize(
    "body", [b"<html>", [], {}, {"topk": None}, {"topk": [3]}, {"topk": [{"pid": 1}]}, {"topk": [{"text": 5}]}]
)
def test_an_answer_that_is_none_is_a_server_error(made, body):
    with pytest.raises(tf.LMServerError):
        made(body, num_retries=0)("a")


@pytest.mark.parametrize(("query", "k"), [(3, 1), ("a", 0), ("a", True), ("a", 2.5)])
def test_bad_input_is_a_usage_error_before_anything_is_asked(made, server, query, k):
    with pytest.raises(tf.UsageError, match="a query is a text"):
        made({"topk": FOUND})(query, k=k)
    assert server.asked == []


@pytest.mark.parametrize(
    "options", [{"url": "colbert.example"}, {"url": None}, {"num_retries": -1}, {"timeout_s": 0}, {"other": 1}]
)
def test_settings_are_checked(options):
    with pytest.raises((tf.UsageError, TypeError)):
        tf.ColBERTv2(**{"url": "http://colbert.example", **options})


def test_copies_share_the_connections():
    colbert = tf.ColBERTv2("http://colbert.example/search")
    assert copy.deepcopy(colbert) is colbert
    assert json.dumps(repr(colbert)) == "\"ColBERTv2('http://colbert.example/search')\""
