"""Embeddings by a GGUF model. Tests marked `model` load the embedded one."""

import struct

import pytest

import tuneful as tf
from tuneful.backends.embed.local import LocalEmbeddings
from tuneful.backends.local import find as local

loads = [
    pytest.mark.model,
    pytest.mark.skipif(not local.is_available(), reason="the embedded model is not installed"),
]


def needs_model(test):
    for mark in loads:
        test = mark(test)
    return test


def floats(row):
    return struct.unpack(f"<{len(row) // 4}f", row)


def product(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("metadata", "pooled"), [(b"bert.pooling_type", True), (b"llama.context_length", False)])
@pytest.mark.skipif(not local.is_available(), reason="xllamacpp is not installed")
def test_the_file_decides_how_tokens_are_pooled_where_it_says_so(tmp_path, metadata, pooled):
    file = tmp_path / "some.gguf"
    file.write_bytes(b"GGUF" + b"\0" * 20 + metadata + b"\0" * 20)
    assert LocalEmbeddings(str(file))._settings.pooled is pooled


def test_a_missing_file_is_found_before_any_call(tmp_path):
    with pytest.raises(tf.NotConfiguredError, match=r"nothing\.gguf"):
        LocalEmbeddings(f"{tmp_path}/nothing.gguf")


@needs_model
async def test_the_embedded_model_gives_vectors_of_length_one_that_know_what_is_alike():
    texts = ["How do I cook rice?", "A recipe for boiled rice.", "The parliament passed the budget."]
    vectors = await LocalEmbeddings("smollm2").embed(texts)
    rice, recipe, parliament = map(floats, vectors.rows)
    assert len(rice) == 576
    assert product(rice, rice) == pytest.approx(1, abs=1e-4)
    assert product(rice, recipe) > product(rice, parliament)
    assert vectors.usage.calls == 1
    assert vectors.usage.prompt_tokens > 10
    assert vectors.model == "smollm2"


@needs_model
async def test_a_text_has_the_same_vector_alone_and_in_company():
    backend = LocalEmbeddings("smollm2")
    alone = floats((await backend.embed(["cat"])).rows[0])
    beside = floats((await backend.embed(["a long text about ships", "cat"])).rows[1])
    assert beside == pytest.approx(alone, abs=1e-3)


@needs_model
async def test_a_text_that_is_too_long_is_a_typed_error_that_says_what_to_do():
    with pytest.raises(tf.ContextWindowExceededError) as caught:
        await LocalEmbeddings("smollm2").embed(["word " * 5000])
    assert "context_tokens" in caught.value.__notes__[0]


@needs_model
async def test_an_empty_text_is_a_typed_error():
    with pytest.raises(tf.LMInvalidRequestError, match="empty"):
        await LocalEmbeddings("smollm2").embed([""])
