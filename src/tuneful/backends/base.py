"""The backend protocol: one asynchronous method from Request to Response, and the facts that adapters plan with."""

from __future__ import annotations

from collections.abc import Sequence

from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import Message
from tuneful.wire.request import Request
from tuneful.wire.response import Response


class Backend:
    """Base of the backends.

    To add one, give `endpoint`, `capabilities` and `complete`. A wrapper holds another backend and passes on what it
    does not change.

    Attributes:
        endpoint: identity of what answers (provider, address, model); part of cache and journal keys. Never a secret.
        capabilities: what it can enforce.
        local: whether calls cost no money.
        options: names of the settings that `tf.LM(...)` may pass on to its constructor.
    """

    endpoint: str = ""
    capabilities: Capabilities = Capabilities()
    local: bool = False
    options: tuple[str, ...] = ()

    async def complete(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            LMError: a branch of it that says what failed. Nothing is retried here.
        """
        raise NotImplementedError(f"{type(self).__name__} must define complete()")

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Return the exact length of a prompt in tokens, or None where only the model knows it."""
        return None

    async def aclose(self) -> None:
        """Release connections, threads and memory. The backend may be used again and reopens then."""
