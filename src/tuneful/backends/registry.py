"""Which backend serves a model's name: the prefix decides."""

from __future__ import annotations

from typing import Any

from tuneful.backends.base import Backend
from tuneful.backends.local import LocalBackend
from tuneful.errors import UsageError, nearest

_LOCAL = "local"


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
    try:
        if prefix == _LOCAL and slash:
            return LocalBackend(name, **options)
        # Loads the HTTP client, which a program on the embedded model never needs.
        from tuneful.backends.openai import PROVIDERS, OpenAIBackend

        if prefix in PROVIDERS and slash:
            return OpenAIBackend(name, provider=prefix, api_base=api_base, api_key=api_key, **options)
        if api_base is not None:
            return OpenAIBackend(model, api_base=api_base, api_key=api_key, **options)
    except TypeError as error:
        raise UsageError(f"tf.LM({model!r}): {error}.") from error
    known = [_LOCAL, *PROVIDERS]
    raise UsageError(
        f"`{model}` names no known provider.{nearest(prefix, known)} A model is named `provider/model`; providers: "
        f"{', '.join(known)}. For any other server that speaks OpenAI's protocol pass api_base=..."
    )
