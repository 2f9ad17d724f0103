"""Any server that speaks OpenAI's chat completions over HTTP: OpenAI, vLLM, SGLang, Ollama, llama.cpp, Together..."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from typing import Any

from tuneful.backends.base import Backend
from tuneful.backends.chat_completions import error_of, from_body, to_body
from tuneful.backends.transport import Reply, Transport
from tuneful.errors import LMAuthError, LMServerError
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.request import Request
from tuneful.wire.response import Response


@dataclass(frozen=True, slots=True)
class Provider:
    """Where a provider is, where its key lies and what its models can do: facts as data.

    Args:
        base_url: address up to and including `/v1`.
        key_variable: environment variable of the key, or None where no key is needed.
        capabilities: what its models can enforce.
        grammar_field: name of the request field that takes a GBNF grammar, where there is one.
    """

    base_url: str
    key_variable: str | None
    capabilities: Capabilities = field(default_factory=Capabilities)
    grammar_field: str | None = None


_SCHEMA = Capabilities(json_schema=True)

#: Providers by the prefix of a model's name.
PROVIDERS: dict[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY", _SCHEMA),
    "together": Provider("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "ollama": Provider("http://localhost:11434/v1", None, _SCHEMA),
    "ollama_chat": Provider("http://localhost:11434/v1", None, _SCHEMA),
    "vllm": Provider("http://localhost:8000/v1", None, _SCHEMA),
    "sglang": Provider("http://localhost:30000/v1", None, _SCHEMA),
    "lmstudio": Provider("http://localhost:1234/v1", None, _SCHEMA),
    "llamacpp": Provider(
        "http://localhost:8080/v1", None, Capabilities(json_schema=True, grammar=True), grammar_field="grammar"
    ),
}


class OpenAIBackend(Backend):
    """Chat completions over HTTP.

    Args:
        model: the name that the server knows.
        provider: a key of `PROVIDERS`.
        api_base: address that replaces the provider's.
        api_key: key that replaces the one in the provider's environment variable, which is read at the first call.
        timeout_s: seconds for one exchange.
    """

    options = ("timeout_s",)

    def __init__(
        self,
        model: str,
        *,
        provider: str = "openai",
        api_base: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        self._provider = PROVIDERS[provider]
        self._model = model
        self._base_url = (api_base or self._provider.base_url).rstrip("/")
        self._own_base = api_base is not None
        self._api_key = api_key
        self._transport = Transport(timeout_s=timeout_s)
        self.endpoint = f"{self._base_url}#{model}"
        self.capabilities = self._provider.capabilities

    def __repr__(self) -> str:  # the key must not show
        return f"OpenAIBackend({self._model!r}, api_base={self._base_url!r})"

    def _key(self) -> str:
        """Return the key, or "" where a server of the user's own, or a local one, is asked without."""
        variable = self._provider.key_variable
        key = (self._api_key or (os.environ.get(variable, "") if variable else "")).strip()
        if not key and variable is not None and not self._own_base:
            raise LMAuthError(
                f"no API key for `{self._model}`: set the environment variable {variable}, or pass "
                "tf.LM(..., api_key=...). No call was made.",
                model=self._model,
            )
        if not key.isprintable():
            raise LMAuthError(
                f"the API key for `{self._model}` has a line break or another control character in it, which no key "
                "has. Copy it again. No call was made.",
                model=self._model,
            )
        return key

    async def complete(self, request: Request) -> Response:
        """POST /chat/completions. Raises a branch of LMError that says what failed."""
        body = to_body(request, self._model)
        if request.grammar is not None and self._provider.grammar_field:
            body[self._provider.grammar_field] = request.grammar
        key = self._key()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        reply = await self._transport.post_json(f"{self._base_url}/chat/completions", body, headers)
        if key and (reply.status >= 400 or b'"choices"' not in reply.body):  # it will be quoted, and may quote the key
            reply = replace(reply, body=reply.body.replace(key.encode(), b"[API key]"))
        return from_body(self._json(reply), self._model)

    def _json(self, reply: Reply) -> Any:
        try:
            body = json.loads(reply.body)
        except ValueError as error:
            body = reply.body[:300].decode("utf-8", "replace")
            if reply.status < 400:
                raise LMServerError(
                    f"`{self._model}` answered with status {reply.status} and no JSON: {body!r}. "
                    "Is the address that of a chat-completions server?",
                    model=self._model,
                    status=reply.status,
                ) from error
        if reply.status >= 400:
            raise error_of(reply.status, body, self._model, _seconds(reply.headers.get("retry-after")))
        return body

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None
