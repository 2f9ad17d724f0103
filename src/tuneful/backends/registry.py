"""Which backend serves a model's name: the prefix decides."""

from __future__ import annotations

from typing import Any

from tuneful.backends.base import Backend
from tuneful.backends.http.providers import PROVIDERS
from tuneful.backends.local.backend import LocalBackend
from tuneful.errors import UsageError, nearest
from tuneful.wire.request import SAMPLING_OPTIONS

_LOCAL = "local"
_TRANSFORMERS = "transformers"
_LITELLM = "litellm"


def create(model: str, *, api_base: str | None, api_key: str | None, options: dict[str, Any]) -> Backend:
    """Return the backend of a model name such as "local/smollm2" or "openai/gpt-4o-mini".

    Args:
        model: prefix and name. With `api_base` any prefix will do: the server is taken to speak OpenAI's protocol.
        api_base, api_key: address and key that replace the provider's.
        options: settings of the backend.

    Raises:
        UsageError: an unknown prefix (the nearest is named), or an option that the backend does not have.
        NotConfiguredError: a local model that is not there.
    """
    prefix, slash, name = model.partition("/")
    if prefix == _LOCAL and slash:
        return LocalBackend(name, **_checked(options, LocalBackend))
    if prefix == _TRANSFORMERS and slash:
        from tuneful.backends.transformers.backend import TransformersBackend

        return TransformersBackend(name, **_checked(options, TransformersBackend))
    if prefix == _LITELLM and slash:
        from tuneful.backends.litellm import LiteLLMBackend

        return LiteLLMBackend(name, api_base=api_base, api_key=api_key, **_checked(options, LiteLLMBackend))
    known = [_LOCAL, *PROVIDERS, _TRANSFORMERS, _LITELLM]
    if not (prefix in PROVIDERS and slash):
        if api_base is None:
            raise UsageError(
                f"`{model}` names no known provider.{nearest(prefix, known)} A model is named `provider/model`; "
                f"providers: {', '.join(known)}. For any other server that speaks OpenAI's protocol pass api_base=..."
            )
        prefix, name = "openai", model
    # Loads the HTTP client, which a program on the embedded model never needs.
    from tuneful.backends.http.backend import HTTPBackend

    options = _checked(options, HTTPBackend)
    return HTTPBackend(name, provider=prefix, api_base=api_base, api_key=api_key, **options)


def _checked(options: dict[str, Any], backend: type[Backend]) -> dict[str, Any]:
    known = (*SAMPLING_OPTIONS, *backend.options)
    for name in options:
        if name not in known:
            raise UsageError(f"this LM has no option `{name}`.{nearest(name, known)} It has: {', '.join(known)}.")
    return options
