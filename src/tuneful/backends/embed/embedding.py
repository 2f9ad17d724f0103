"""Embeddings: backends whose requests are texts and whose answers are vectors.

They are backends like those of language models, so `Retried`, `Limited` and `Metered` wrap them unchanged and the
response cache keeps what they give: each message of a request is a text to embed, each choice of its response is that
text's vector, as base64 of little-endian 32-bit floats.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneful.backends.base import Backend
from tuneful.backends.http.chat_completions import ChatCompletions, usage_of
from tuneful.errors import LMServerError, UsageError, nearest
from tuneful.wire.messages import user
from tuneful.wire.request import Request
from tuneful.wire.response import Choice, Response, Usage

if TYPE_CHECKING:
    from tuneful.backends.http.backend import HTTPBackend


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of some texts.

    Args:
        rows: one for each text, in order: little-endian 32-bit floats, all of one length.
        usage: what making them took.
        model: the model, as the provider names it.
    """

    rows: tuple[bytes, ...]
    usage: Usage
    model: str = ""


class EmbeddingBackend(Backend):
    """Base of what turns texts into vectors. To add one, give `endpoint` and `embed`."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of some texts (at least one).

        Raises:
            LMError: the model failed, or gave something that is not one vector for each text.
        """
        raise NotImplementedError(f"{type(self).__name__} must define embed()")

    async def complete(self, request: Request) -> Response:
        """Embed the messages of a request; the choices of the response are the vectors."""
        vectors = await self.embed([m.text for m in request.messages])
        choices = tuple(Choice(base64.b64encode(row).decode("ascii")) for row in vectors.rows)
        return Response(choices, vectors.usage, vectors.model)


def request_for(texts: Sequence[str]) -> Request:
    """Return the request that asks for the vectors of some texts. That of one text is its identity in a cache."""
    return Request(tuple(map(user, texts)))


def rows_of(response: Response) -> list[bytes]:
    """Return the vectors in a response."""
    return [base64.b64decode(choice.text) for choice in response.choices]


# --- the body that everybody writes ---


def vectors_of(body: Any, count: int, model: str) -> Vectors:
    """Return the vectors in the body of an answer, in the layout of OpenAI's `/embeddings`.

    Raises:
        LMServerError: the body holds no list of `count` vectors of finite numbers, all of one length.
    """
    try:
        data = sorted(body["data"], key=lambda d: d.get("index", 0))
        rows = tuple(_row(d["embedding"]) for d in data)
        usage = usage_of(body.get("usage") or {})
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, struct.error) as error:
        raise LMServerError(
            f"`{model}` answered with something that is no list of vectors ({error!r:.100}): {str(body)[:300]!r}.",
            model=model,
        ) from error
    if len(rows) != count:
        raise LMServerError(f"`{model}` was given {count} texts and answered with {len(rows)} vectors.", model=model)
    lengths = sorted({len(row) // 4 for row in rows})
    if len(lengths) != 1 or lengths[0] == 0:
        raise LMServerError(
            f"`{model}` answered with vectors of different lengths: {', '.join(map(str, lengths))}."
            if len(lengths) > 1
            else f"`{model}` answered with empty vectors. Is it an embedding model?",
            model=model,
        )
    return Vectors(rows, usage, str(body.get("model") or model))


def _row(embedding: Any) -> bytes:
    """Return one vector. Servers write a list of numbers or, where asked for it, base64."""
    if isinstance(embedding, str):
        row = base64.b64decode(embedding, validate=True)
        embedding = struct.unpack(f"<{len(row) // 4}f", row)
    if not math.isfinite(sum(embedding)):
        raise ValueError("a vector with a value that is no number")
    return struct.pack(f"<{len(embedding)}f", *embedding)


# --- over HTTP ---


class HTTPEmbeddings(EmbeddingBackend):
    """An embedding model over HTTP, under OpenAI's protocol: POST {address}/embeddings.

    Args:
        http: the backend whose address, key, connections and errors are used.
        fields: further fields of the body, such as `dimensions`.
    """

    def __init__(self, http: HTTPBackend, fields: Mapping[str, Any]) -> None:
        self._http = http
        self._fields = dict(fields)
        self.endpoint = _endpoint(http.endpoint, self._fields)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Send one request. Raises a branch of LMError that says what failed."""
        http = self._http
        body = {"model": http.model, "input": list(texts), **self._fields}
        reply = await http.transport.post_json(f"{http.base_url}/embeddings", body, http.request_headers())
        try:
            return vectors_of(http.json_of(reply), len(texts), http.model)
        except LMServerError as error:  # its message quotes the body, and a body may quote the key
            raise LMServerError(
                http.safe(str(error)), model=error.model, status=error.status, retry_after_s=error.retry_after_s
            ) from error.__cause__

    def check(self) -> None:
        """Raise LMAuthError where a key is needed and missing."""
        self._http.check()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _endpoint(source: str, fields: Mapping[str, Any]) -> str:
    return f"embedding {source} {json.dumps(fields, sort_keys=True)}" if fields else f"embedding {source}"


# --- by name ---


def create(
    model: str,
    *,
    api_base: str | None,
    api_key: str | None,
    dimensions: int | None,
    extra_body: Mapping[str, Any],
    options: dict[str, Any],
) -> EmbeddingBackend:
    """Return the embedding backend of a name such as "openai/text-embedding-3-small" or "local/wordllama".

    Args:
        model: prefix and name; with `api_base` any name will do.
        api_base, api_key: address and key that replace the provider's.
        dimensions: length of the vectors, where the model can give several.
        extra_body: further fields of a server's request.
        options: settings of the backend.

    Raises:
        UsageError: an unknown provider or option, or one that the model does not take.
        NotConfiguredError, MissingExtraError: something of a local model is not installed.
    """
    prefix, slash, name = model.partition("/")
    if prefix == "local" and slash:
        if api_base or api_key or extra_body:
            raise UsageError(f"`{model}` is in this process: it takes no `api_base`, `api_key` or `extra_body`.")
        return _local(name, dimensions, options)
    return _over_http(model, api_base, api_key, {**_given(dimensions=dimensions), **extra_body}, options)


def _local(name: str, dimensions: int | None, options: dict[str, Any]) -> EmbeddingBackend:
    # Either loads libraries that only local models need.
    if name == "wordllama":
        from tuneful.backends.embed.static import StaticEmbeddings

        return StaticEmbeddings(dimensions, **_checked(options, StaticEmbeddings.options))
    from tuneful.backends.embed.local import LocalEmbeddings

    if dimensions is not None:
        raise UsageError(
            f"`local/{name}` has vectors of one length only. Leave `dimensions` unset, or cut the vectors yourself "
            "if the model was trained for it."
        )
    return LocalEmbeddings(name, **_checked(options, LocalEmbeddings.options))


def _over_http(
    model: str, api_base: str | None, api_key: str | None, fields: Mapping[str, Any], options: dict[str, Any]
) -> EmbeddingBackend:
    # Loads the HTTP client, which a program on local models never needs.
    from tuneful.backends import registry
    from tuneful.backends.http.backend import HTTPBackend

    if model.startswith("litellm/"):
        raise UsageError(
            f"`{model}`: embeddings do not go through LiteLLM. Name the provider itself, or pass a function: "
            "tf.Embedder(lambda texts: ...)."
        )
    source = registry.create(model, api_base=api_base, api_key=api_key, options=_checked(options, HTTPBackend.options))
    if not isinstance(source, HTTPBackend) or not isinstance(source.layout, ChatCompletions):
        raise UsageError(
            f"`{model}`: this provider gives no embeddings under OpenAI's protocol at its usual address. Pass "
            "api_base=... of one that does (many offer it beside their own protocol), or a function: "
            "tf.Embedder(lambda texts: ...)."
        )
    return HTTPEmbeddings(source, fields)


def _given(**fields: Any) -> dict[str, Any]:
    return {k: v for k, v in fields.items() if v is not None}


def _checked(options: dict[str, Any], known: Sequence[str]) -> dict[str, Any]:
    for name in options:
        if name not in known:
            listed = f" It has: {', '.join(known)}." if known else ""
            raise UsageError(f"this embedder has no option `{name}`.{nearest(name, known)}{listed}")
    return options
