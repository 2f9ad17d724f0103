"""Providers as data: where each is, where its key lies, how it writes requests, what its models can enforce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tuneful.wire.capabilities import Capabilities

_NOTHING_KNOWN = Capabilities()


@dataclass(frozen=True, slots=True)
class Provider:
    """Facts about one provider.

    Args:
        base_url: address up to and including the version, such as `/v1`.
        key_variable: environment variable of the key, or None where no key is needed.
        capabilities: what its models can enforce, as far as the provider alone says.
        layout: name of the layout that it speaks.
        grammar_field: name of the request field that takes a GBNF grammar, where there is one.
        key_header: header that carries the key, and what stands before the key in it.
        base_variable: environment variable of the address, where every customer has one of his own.
        several: whether one request may ask for several samples.
        headers: further headers of every request, as (name, value) pairs.
        batch_price: what a request costs in its batch API, as a share of the list price; None: it has none that we
            speak (OpenAI's: files and batches).
    """

    base_url: str
    key_variable: str | None
    capabilities: Capabilities = _NOTHING_KNOWN
    layout: Literal["chat_completions", "anthropic", "gemini"] = "chat_completions"
    grammar_field: str | None = None
    key_header: tuple[str, str] = ("Authorization", "Bearer ")
    base_variable: str | None = None
    several: bool = True
    headers: tuple[tuple[str, str], ...] = ()
    batch_price: float | None = None


_TOOLS = Capabilities(tools=True)
_SCHEMA = Capabilities(json_schema=True, tools=True)
_LOCAL_SCHEMA = Capabilities(json_schema=True)

#: Providers by the prefix of a model's name.
PROVIDERS: dict[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY", _SCHEMA, batch_price=0.5),
    "azure": Provider(
        "", "AZURE_OPENAI_API_KEY", _SCHEMA, key_header=("api-key", ""), base_variable="AZURE_OPENAI_ENDPOINT"
    ),
    "anthropic": Provider(
        "https://api.anthropic.com",
        "ANTHROPIC_API_KEY",
        Capabilities(
            json_schema=True,
            tools=True,
            refuses=frozenset({"logprobs", "seed"}),
            untempered=frozenset({"reasoning_effort", "top_p"}),
            unforced=frozenset({"reasoning_effort"}),
        ),
        layout="anthropic",
        key_header=("x-api-key", ""),
        several=False,
        headers=(("anthropic-version", "2023-06-01"),),  # the next one takes no temperature from any model
    ),
    "gemini": Provider(
        "https://generativelanguage.googleapis.com/v1beta",
        "GEMINI_API_KEY",
        _SCHEMA,
        layout="gemini",
        key_header=("x-goog-api-key", ""),
        several=False,
    ),
    "together": Provider("https://api.together.xyz/v1", "TOGETHER_API_KEY", _TOOLS),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY", _TOOLS, several=False),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", _TOOLS, several=False),
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY", _SCHEMA),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", _TOOLS, several=False),
    "fireworks": Provider("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", _SCHEMA),
    "xai": Provider("https://api.x.ai/v1", "XAI_API_KEY", _SCHEMA),
    "ollama": Provider("http://localhost:11434/v1", None, _LOCAL_SCHEMA, several=False),
    "ollama_chat": Provider("http://localhost:11434/v1", None, _LOCAL_SCHEMA, several=False),
    "vllm": Provider("http://localhost:8000/v1", None, _LOCAL_SCHEMA),
    "sglang": Provider("http://localhost:30000/v1", None, _LOCAL_SCHEMA),
    "lmstudio": Provider("http://localhost:1234/v1", None, _LOCAL_SCHEMA, several=False),
    "llamacpp": Provider(
        "http://localhost:8080/v1", None, Capabilities(json_schema=True, grammar="gbnf"), grammar_field="grammar"
    ),
}
