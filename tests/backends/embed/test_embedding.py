"""Embeddings over real HTTP, against a server on the loopback interface."""

import base64
import struct

import pytest

import tuneful as tf
from tuneful.backends.embed.embedding import HTTPEmbeddings, create, request_for, rows_of
from tuneful.backends.http.backend import HTTPBackend

KEY = "sk-do-not-show-me-0123456789"


def answer(server, *vectors, **more):
    """Return the reply of a server that embeds."""
    data = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)]
    body = {
        "object": "list",
        "data": data,
        "model": "answering-model",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    return server.reply(body={**body, **more})


def floats(row):
    return list(struct.unpack(f"<{len(row) // 4}f", row))


def made(server, **fields):
    return HTTPEmbeddings(HTTPBackend("small-model", api_base=server.url, api_key=KEY, timeout_s=5), fields)


async def test_the_texts_of_a_batch_are_one_request_with_the_key_in_its_header(server):
    server.script = [answer(server, [1.0, 0.5], [0.0, -2.0])]
    backend = made(server, dimensions=2)
    vectors = await backend.embed(["one", "two"])
    await backend.aclose()
    assert server.bodies == [{"model": "small-model", "input": ["one", "two"], "dimensions": 2}]
    assert server.paths == ["/v1/embeddings"]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert [floats(row) for row in vectors.rows] == [[1.0, 0.5], [0.0, -2.0]]
    assert (vectors.usage.calls, vectors.usage.prompt_tokens, vectors.model) == (1, 7, "answering-model")


async def test_vectors_come_in_the_order_of_the_texts_whatever_the_order_of_the_answer(server):
    body = answer(server, [1.0], [2.0], [3.0]).body
    server.script = [server.reply(body={**body, "data": body["data"][::-1]})]
    backend = made(server)
    assert [floats(row) for row in (await backend.embed(["a", "b", "c"])).rows] == [[1.0], [2.0], [3.0]]
    await backend.aclose()


async def test_vectors_in_base64_are_read_too(server):
    server.script = [answer(server, base64.b64encode(struct.pack("<2f", 0.25, -1)).decode())]
    backend = made(server, encoding_format="base64")
    assert floats((await backend.embed(["a"])).rows[0]) == [0.25, -1.0]
    await backend.aclose()


async def test_as_a_backend_its_messages_are_texts_and_its_choices_vectors(server):
    server.script = [answer(server, [1.0], [2.0])]
    backend = made(server)
    response = await backend.complete(request_for(["a", "b"]))
    await backend.aclose()
    assert [floats(row) for row in rows_of(response)] == [[1.0], [2.0]]


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        ([[1.0]], "given 2 texts and answered with 1 vectors"),
        ([[1.0], [1.0], [1.0]], "2 texts .* 3 vectors"),
        ([[1.0], [1.0, 2.0]], "different lengths: 1, 2"),
        ([[], []], "empty vectors"),
        ([[1.0], [float("nan")]], "no number"),
        ([[1.0], [1e39]], "no list of vectors"),
        ([[1.0], [None]], "no list of vectors"),
        ([[1.0], "???"], "no list of vectors"),
        ([[1.0], {"a": 1}], "no list of vectors"),
    ],
)
async def test_an_answer_that_is_not_one_vector_a_text_is_an_error_of_the_server(server, vectors, said):
    server.script = [answer(server, *vectors)]
    backend = made(server)
    with pytest.raises(tf.LMServerError, match=said):
        await backend.embed(["a", "b"])
    await backend.aclose()


async def test_a_server_that_answers_with_something_else_is_quoted_without_the_key(server):
    server.script = [server.reply(body={"choices": [], "key": KEY})]
    backend = made(server)
    with pytest.raises(tf.LMServerError, match="no list of vectors") as caught:
        await backend.embed(["a"])
    await backend.aclose()
    assert KEY not in str(caught.value)


async def test_a_refusal_is_the_typed_error_of_the_http_backend(server):
    server.script = [server.refusal(401, f"bad key {KEY}")]
    backend = made(server)
    with pytest.raises(tf.LMAuthError) as caught:
        await backend.embed(["a"])
    await backend.aclose()
    assert KEY not in str(caught.value)


# --- by name ---


def by_name(model, **given):
    given = {"api_base": None, "api_key": None, "dimensions": None, "extra_body": {}, "options": {}, **given}
    return create(model, **given)


def test_the_endpoint_tells_servers_models_and_dimensions_apart_and_holds_no_key():
    endpoints = {
        by_name("openai/a").endpoint,
        by_name("openai/b").endpoint,
        by_name("openai/a", dimensions=8).endpoint,
        by_name("openai/a", api_base="http://localhost:1/v1").endpoint,
        by_name("openai/a", api_base="http://localhost:2/v1", api_key=KEY).endpoint,
        by_name("openai/a", extra_body={"input_type": "query"}).endpoint,
    }
    assert len(endpoints) == 6
    assert KEY not in "".join(endpoints)


def test_any_name_will_do_with_an_address():
    assert by_name("BAAI/bge-m3", api_base="http://localhost:1/v1").endpoint == (
        "embedding http://localhost:1/v1#BAAI/bge-m3"
    )


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        ("opnai/x", {}, "Did you mean `openai`"),
        ("openai/x", {"options": {"timeout": 3}}, "no option `timeout`.*Did you mean `timeout_s`"),
        ("openai/x", {"options": {"temperature": 0.5}}, "no option `temperature`"),
        ("anthropic/x", {}, "no embeddings under OpenAI's protocol"),
        ("litellm/x", {}, "pass a function"),
        ("local/smollm2", {"dimensions": 8}, "one length only"),
        ("local/smollm2", {"api_key": KEY}, "takes no `api_base`, `api_key`"),
    ],
)
def test_a_name_or_option_that_cannot_be_is_an_error_before_any_call(model, given, said):
    with pytest.raises(tf.UsageError, match=said) as caught:
        by_name(model, **given)
    assert KEY not in str(caught.value)
