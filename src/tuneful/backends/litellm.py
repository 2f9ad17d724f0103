"""LiteLLM: the providers that tuneful has no layout for (Bedrock, Vertex, Cohere, ...), through the package `litellm`.

The package is large, slow to import and has had bad releases: it is an extra, loaded at the first call, in a thread,
and it is told to fetch nothing, to repeat nothing and to print nothing.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from tuneful.backends.base import Backend
from tuneful.backends.http.chat_completions import ChatCompletionsReader, from_body, to_body
from tuneful.backends.http.refusal import error_of
from tuneful.backends.models import facts_of
from tuneful.errors import ContextWindowExceededError, LMError, LMTransportError, MissingExtraError
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.request import Request
from tuneful.wire.response import Delta, Response


class LiteLLMBackend(Backend):
    """A model through LiteLLM: `tf.LM("litellm/bedrock/...")`.

    Args:
        model: the name as LiteLLM knows it, with its own prefix: "bedrock/anthropic.claude-...".
        api_base: address that replaces the provider's.
        api_key: key; without it LiteLLM reads the environment variables that it documents.
        timeout_s: seconds for one exchange.

    Raises:
        MissingExtraError: the package is not installed.
    """

    options = ("timeout_s",)
    several = False  # not every provider takes `n`

    def __init__(
        self, model: str, *, api_base: str | None = None, api_key: str | None = None, timeout_s: float = 120.0
    ) -> None:
        if importlib.util.find_spec("litellm") is None:
            raise MissingExtraError("litellm", "litellm", f"tf.LM('litellm/{model}')")
        self.model = model
        self.endpoint = f"litellm:{api_base or ''}#{model}"
        self._api_base = api_base
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._facts = facts_of(model)
        self.capabilities = Capabilities(
            tools=True,
            reasoning=self._facts.reasoning,
            reasons_if_asked=self._facts.reasons_if_asked,
            context_tokens=self._facts.context_tokens,
            answer_tokens=self._facts.answer_tokens,
            media=self._facts.media,
            refuses=self._facts.refuses,
        )

    def __repr__(self) -> str:  # the key must not show
        return f"LiteLLMBackend({self.model!r}, api_base={self._api_base!r})"

    async def complete(self, request: Request) -> Response:
        """Send one request. Raises a branch of LMError that says what failed."""
        library = await asyncio.to_thread(_library)
        try:
            answer = await library.acompletion(**self._arguments(request))
        except library.exceptions.openai.OpenAIError as error:
            raise self._error(library, error) from None  # its own message may hold the key
        return from_body(answer.model_dump(), self.model)

    async def stream(self, request: Request) -> AsyncIterator[Delta | Response]:
        """Send one request and yield its answer while it is written; raises as `complete`, at any time."""
        library = await asyncio.to_thread(_library)
        reader = ChatCompletionsReader(self.model)
        options = {"stream": True, "stream_options": {"include_usage": True}}
        try:
            chunks = await library.acompletion(**self._arguments(request), **options)
            try:
                async for chunk in chunks:
                    for delta in reader.feed(chunk.model_dump()):
                        yield delta
            finally:
                await chunks.aclose()
        except library.exceptions.openai.OpenAIError as error:
            raise self._error(library, error) from None
        yield reader.finish()

    def _arguments(self, request: Request) -> dict[str, Any]:
        given = {"api_base": self._api_base, "api_key": self._api_key}
        return {
            **to_body(request, self.model, self._facts),
            **{k: v for k, v in given.items() if v is not None},
            "timeout": self._timeout_s,
            "num_retries": 0,  # repeating is this package's business: it counts what it repeats
            "max_retries": 0,
        }

    async def probe(self) -> Capabilities:
        """Look the model up in LiteLLM's own table. Cost: no call."""
        library = await asyncio.to_thread(_library)
        self.capabilities = replace(
            self.capabilities,
            json_schema=library.supports_response_schema(self.model),
            tools=library.supports_function_calling(self.model),
        )
        return self.capabilities

    def _error(self, library: Any, error: Any) -> LMError:
        text = self._safe(str(getattr(error, "message", error)))
        status = getattr(error, "status_code", None)
        known = library.exceptions
        if isinstance(error, known.APIConnectionError):
            return LMTransportError(f"the connection for `{self.model}` failed: {text[:500]}", model=self.model)
        wait = _seconds(getattr(getattr(error, "response", None), "headers", None))
        found = error_of(int(status or 500), {"error": {"message": text}}, self.model, wait)
        if isinstance(error, known.ContextWindowExceededError) and not isinstance(found, ContextWindowExceededError):
            return ContextWindowExceededError(str(found), model=self.model, status=found.status)
        return found

    def _safe(self, text: str) -> str:
        """Return a text without the keys that it may quote: the one given, and those of the environment."""
        keys = [v for k, v in os.environ.items() if k.endswith(("_KEY", "_TOKEN", "_SECRET"))]
        for secret in (self._api_key or "", *keys):
            if len(secret) >= 6:
                text = text.replace(secret, "[API key]")
        return text


def _seconds(headers: Any) -> float | None:
    try:
        return max(0.0, float(headers["retry-after"]))
    except (KeyError, TypeError, ValueError):
        return None


@lru_cache(maxsize=1)
def _library() -> Any:
    """Return the package: it takes seconds to import."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it fetches a price list at import
    import litellm

    litellm.suppress_debug_info = True
    return litellm
