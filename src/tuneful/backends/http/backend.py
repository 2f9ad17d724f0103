"""A model over HTTP: a provider's address and key, a layout, a transport."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tuneful.backends.base import Backend
from tuneful.backends.http.chat_completions import ChatCompletions
from tuneful.backends.http.exchange import Reply, Timeouts
from tuneful.backends.http.layout import Layout
from tuneful.backends.http.providers import PROVIDERS, Provider
from tuneful.backends.http.refusal import error_of
from tuneful.backends.models import facts_of
from tuneful.errors import LMAuthError, LMError, LMServerError, LMTransportError, NotConfiguredError, UsageError
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.request import Request
from tuneful.wire.response import Delta, Response

if TYPE_CHECKING:
    from tuneful.backends.http.transport import Transport

#: What reading JSON raises: also for an array of a hundred thousand arrays.
_NO_JSON = (ValueError, RecursionError)
#: What a layout raises where a server sent something that it did not think of.
_ODD = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


def _layout(provider: Provider) -> Layout:
    if provider.layout == "anthropic":
        from tuneful.backends.http.anthropic import Anthropic

        return Anthropic()
    if provider.layout == "gemini":
        from tuneful.backends.http.gemini import Gemini

        return Gemini()
    return ChatCompletions(provider.grammar_field)


class HTTPBackend(Backend):
    """A model over HTTP.

    Args:
        model: the name that the server knows.
        provider: a key of `PROVIDERS`.
        api_base: address that replaces the provider's.
        api_key: key that replaces the one in the provider's environment variable, which is read at the first call.
        timeout_s: seconds for one exchange; for a streamed one, between one piece and the next.
        connect_timeout_s: seconds to open a connection.
        ca_bundle: PEM file of certificates to trust besides those of the system.
        headers: further headers of each request. Never part of a key, a log or a message.
    """

    options = ("timeout_s", "connect_timeout_s", "ca_bundle", "headers")

    def __init__(
        self,
        model: str,
        *,
        provider: str = "openai",
        api_base: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        connect_timeout_s: float = 10.0,
        ca_bundle: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._provider = PROVIDERS[provider]
        self.layout = _layout(self._provider)
        self.model = model
        self.base_url = _base_url(self._provider, model, api_base)
        self._own_base = api_base is not None
        self._api_key = api_key
        self._headers = _checked_headers(headers or {})
        self._secrets = _secrets(self._headers)
        self._timeouts, self._ca_bundle = Timeouts(timeout_s, connect_timeout_s), ca_bundle
        self.endpoint = f"{self.base_url}#{model}"
        self.facts = facts_of(f"{provider}/{model}")
        self.several = self._provider.several
        self.batch_price = self._provider.batch_price
        self.capabilities = _capabilities(self._provider.capabilities, self.facts)

    def __repr__(self) -> str:  # the key must not show
        return f"HTTPBackend({self.model!r}, api_base={self.base_url!r})"

    @cached_property
    def transport(self) -> Transport:
        """The connections. The library is loaded here: a run whose answers are all cached does without it."""
        from tuneful.backends.http.transport import Transport

        return Transport(self._timeouts, self._ca_bundle)

    # --- asking ---

    async def complete(self, request: Request) -> Response:
        """Send one request. Raises a branch of LMError that says what failed."""
        body = self.layout.to_body(request, self.model, self.facts)
        reply = await self.transport.post_json(self._url(streaming=False), body, self.request_headers())
        return _marked(self._read(reply), self.layout.left_out(request, body))

    def _read(self, reply: Reply) -> Response:
        body = self.json_of(reply)
        with self._reading(body):
            return self.layout.from_body(body, self.model)

    async def stream(self, request: Request) -> AsyncIterator[Delta | Response]:
        """Send one request and yield its answer while it is written; raises as `complete`, at any time."""
        body = self.layout.to_body(request, self.model, self.facts)
        left_out, body = self.layout.left_out(request, body), self.layout.streamed(body)
        reader = self.layout.reader(self.model)
        async with self.transport.stream_json(self._url(streaming=True), body, self.request_headers()) as stream:
            if stream.status >= 300 or "application/json" in stream.headers.get("content-type", ""):
                response = self._read(Reply(stream.status, stream.headers, await stream.whole()))
                for index, choice in enumerate(response.choices):  # the server does not stream
                    yield Delta(choice.text, choice.reasoning, index)
                yield _marked(response, left_out)
                return
            async for data in stream.events:
                if data.strip() == "[DONE]":
                    break
                event = self._event(data)
                with self._reading(event):
                    deltas = reader.feed(event)
                for delta in deltas:
                    yield delta
        with self._reading("a stream"):
            response = reader.finish()
        yield _marked(response, left_out)

    def _event(self, data: str) -> dict[str, Any]:
        try:
            event = json.loads(self.safe(data) if '"error"' in data else data)  # an error may quote the key
        except _NO_JSON as error:
            event, reason = None, str(error)
        else:
            reason = "it is no object"
        if not isinstance(event, dict):
            raise LMTransportError(
                f"`{self.model}` sent an event that is no JSON object: {self.safe(data)[:200]!r} ({reason}).",
                model=self.model,
            )
        return event

    def _url(self, *, streaming: bool) -> str:
        return self.base_url + self.layout.path(self.model, streaming=streaming)

    # --- keys ---

    def check(self) -> None:
        """Raise LMAuthError where a key is needed and missing, or is none."""
        self._key()

    def request_headers(self) -> dict[str, str]:
        """Return the headers of a request, the key among them. Raises LMAuthError where one is needed and missing."""
        key = self._key()
        name, prefix = self._provider.key_header
        return {**dict(self._provider.headers), **self._headers, **({name: prefix + key} if key else {})}

    def _key(self) -> str:
        """Return the key, or "" where a server of the user's own, or a local one, is asked without."""
        variable = self._provider.key_variable
        key = (self._api_key or (os.environ.get(variable, "") if variable else "")).strip()
        if not key and variable is not None and not self._own_base:
            raise LMAuthError(
                f"no API key for `{self.model}`: set the environment variable {variable}, or pass "
                "tf.LM(..., api_key=...). No call was made.",
                model=self.model,
            )
        if not key.isprintable():
            raise LMAuthError(
                f"the API key for `{self.model}` has a line break or another control character in it, which no key "
                "has. Copy it again. No call was made.",
                model=self.model,
            )
        return key

    def safe(self, text: str) -> str:
        """Return a text that a server sent without the secrets that it may quote."""
        for secret in (self._key(), *self._secrets):
            if len(secret) >= 6:
                text = text.replace(secret, "[API key]")
        return text

    @contextmanager
    def _reading(self, body: Any) -> Iterator[None]:
        """Turn whatever reading an odd answer raises into a typed error, without the key that the answer may quote."""
        failed: LMError
        try:
            yield
            return
        except LMError as error:
            failed = error
        except _ODD as error:
            failed = LMServerError(
                f"`{self.model}` answered with something that cannot be read ({error!r}): {str(body)[:300]!r}.",
                model=self.model,
            )
        failed.args = (self.safe(str(failed)),)
        cause = repr(failed.__cause__)
        if self.safe(cause) != cause:
            failed.__cause__ = failed.__context__ = None
        raise failed

    # --- reading ---

    def json_of(self, reply: Reply) -> Any:
        """Return the JSON of a reply.

        Raises:
            LMError: the status says that the request was refused, or the body is no JSON.
        """
        if 300 <= reply.status < 400:
            aim = self.safe(reply.headers.get("location", "nowhere")).encode("ascii", "backslashreplace").decode()
            refusal = (
                f"a redirect to {aim}, which is not followed: it could carry the key elsewhere. Set `api_base` to it"
            )
            raise error_of(reply.status, refusal, self.model)
        if reply.status >= 400:
            text = self.safe(reply.body.decode("utf-8", "replace"))
            try:
                body = json.loads(text)
            except _NO_JSON:
                body = text[:300]
            refused = error_of(reply.status, body, self.model, _seconds(reply.headers))
            refused.args = (self.safe(str(refused)),)  # JSON has more than one way to write a key
            raise refused
        try:
            return json.loads(reply.body)
        except _NO_JSON as error:
            reason = str(error)  # and not the error itself: it holds the whole body, which may quote the key
        text = self.safe(reply.body.decode("utf-8", "replace"))
        raise LMServerError(
            f"`{self.model}` answered with status {reply.status} and no JSON: {text[:300]!r} ({reason}). "
            "Is the address that of a model server?",
            model=self.model,
            status=reply.status,
        )

    # --- the rest ---

    async def probe(self) -> Capabilities:
        """Ask the server what it can do; see `tuneful.backends.http.probe`."""
        from tuneful.backends.http.probe import probe

        self.capabilities = await probe(self)
        return self.capabilities

    async def aclose(self) -> None:
        """Close the connections."""
        if "transport" in self.__dict__:
            await self.transport.aclose()


def _marked(response: Response, left_out: tuple[str, ...]) -> Response:
    """Return a response whose choices say what was not asked for."""
    return (
        replace(response, choices=tuple(replace(c, left_out=left_out) for c in response.choices))
        if left_out
        else response
    )


def _base_url(provider: Provider, model: str, api_base: str | None) -> str:
    base = api_base or provider.base_url
    if not base and provider.base_variable:
        base = os.environ.get(provider.base_variable, "")
        if not base:
            raise NotConfiguredError(
                f"`{model}` needs the address of your own resource: pass api_base=..., or set {provider.base_variable}."
            )
        if "/openai" not in base:
            base = f"{base.rstrip('/')}/openai/v1"
    if "@" in base.partition("://")[2].partition("/")[0]:  # the address is shown, logged and part of keys
        raise UsageError(
            f"`api_base` for `{model}` has a user name or password in it. Take it out, and pass api_key=... or "
            "headers={'Authorization': ...} instead."
        )
    return base.rstrip("/")


def _capabilities(given: Capabilities, facts: Any) -> Capabilities:
    """Return what the provider says, with what is known of the model."""
    return replace(
        given,
        json_schema=given.json_schema if facts.json_schema is None else facts.json_schema,
        reasoning=facts.reasoning,
        reasons_if_asked=facts.reasons_if_asked,
        context_tokens=facts.context_tokens or given.context_tokens,
        answer_tokens=facts.answer_tokens or given.answer_tokens,
        media=facts.media if facts.media is not None else given.media,
        refuses=given.refuses | facts.refuses,
    )


def _seconds(headers: Any) -> float | None:
    """Return how long the server asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if name not in headers or not headers[name].isascii():
            continue
        try:
            wait_s = unit_s * float(headers[name])
        except ValueError:
            continue
        if math.isfinite(wait_s):
            return max(0.0, wait_s)
    return _until(headers.get("retry-after", ""))


def _until(date: str) -> float | None:
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers. Raises UsageError for one that cannot be sent, without its value, which may be a secret."""
    for name, value in headers.items():
        if (
            not isinstance(value, str)
            or not value.isprintable()
            or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)
        ):
            raise UsageError(
                f"the header {name!r} cannot be sent: a name has letters, digits and hyphens, and a value is a text "
                "without line breaks and other control characters."
            )
    return dict(headers)


def _secrets(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return what must not be shown of headers: values, also without the scheme before them ("Bearer ...")."""
    return tuple(dict.fromkeys(s for value in headers.values() for s in (value, value.rpartition(" ")[2])))
