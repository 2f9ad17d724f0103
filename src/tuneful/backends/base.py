"""The backend protocol: one asynchronous method from Request to Response, and the facts that adapters plan with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any

from tuneful.backends.rebuilt import Rebuilt
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import Message
from tuneful.wire.request import Request
from tuneful.wire.response import Delta, Response


class Backend(Rebuilt):
    """Base of the backends.

    To add one, give `endpoint`, `capabilities` and `complete`; `stream` where the model can be heard while it writes.
    Where an executor is set, its workers make it anew from the arguments of its constructor: let it take no key, but
    read it from the environment.

    Attributes:
        endpoint: identity of what answers (provider, address, model); part of cache and journal keys. Never a secret.
        capabilities: what it can enforce.
        local: whether calls cost no money.
        several: whether one request may ask for several samples (`n`).
        batch_price: what a request costs in its batch API, as a share of the list price; None: it has none.
        weights: which weights answer, where these are files of the user's own: options of the constructor, as JSON,
            and `digest`, a hash of their content. A saved program keeps them with the model's name.
        immediate: whether `complete` never waits for anything, so that it may run on whichever thread asks.
        options: names of the settings that `tf.LM(...)` may pass on to its constructor.
    """

    endpoint: str = ""
    capabilities: Capabilities = Capabilities()
    local: bool = False
    several: bool = True
    batch_price: float | None = None
    weights: Mapping[str, Any] = MappingProxyType({})
    immediate: bool = False
    options: tuple[str, ...] = ()

    async def complete(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            LMError: a branch of it that says what failed. Nothing is retried here.
        """
        raise NotImplementedError(f"{type(self).__name__} must define complete()")

    async def stream(self, request: Request) -> AsyncIterator[Delta | Response]:
        """Answer one request piece by piece: deltas, and last of all the whole response.

        A backend that cannot be heard while it writes gives one delta a sample, at the end.
        """
        response = await self.complete(request)
        for index, choice in enumerate(response.choices):
            yield Delta(choice.text, choice.reasoning, index)
        yield response

    def check(self) -> None:
        """Raise LMAuthError where it is known without a call that no request can be answered: a key is missing."""

    async def probe(self) -> Capabilities:
        """Ask the server what it can do, take the answer over into `capabilities`, and return it.

        Cost: where the server describes itself, no model call; up to 4 tiny ones where it does not.
        """
        return self.capabilities

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Return the exact length of a prompt in tokens, or None where only the model knows it."""
        return None

    async def aclose(self) -> None:
        """Release connections, threads and memory. The backend may be used again and reopens then."""


class Hearing:
    """Closes a stream that is left early at once, and with it the connection: not when it is collected as garbage."""

    def __init__(self, parts: AsyncIterator[Delta | Response]) -> None:
        self._parts = parts

    async def __aenter__(self) -> AsyncIterator[Delta | Response]:
        return self._parts

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close = getattr(self._parts, "aclose", None)  # a generator has it; an iterator of another kind may not
        if close is not None:
            await close()


class Wrapper(Backend):
    """A backend around another one. Passes on whatever it does not change."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.endpoint = inner.endpoint
        self.local = inner.local
        self.several = inner.several
        self.immediate = inner.immediate

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        """Those of the inner backend, which a probe may have changed."""
        return self.inner.capabilities

    async def complete(self, request: Request) -> Response:
        """Answer one request by the inner backend."""
        return await self.inner.complete(request)

    async def stream(self, request: Request) -> AsyncIterator[Delta | Response]:
        """Answer one request piece by piece by the inner backend."""
        async with Hearing(self.inner.stream(request)) as parts:
            async for part in parts:
                yield part

    def check(self) -> None:
        """Check the inner backend."""
        self.inner.check()

    async def probe(self) -> Capabilities:
        """Probe the inner backend."""
        return await self.inner.probe()

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Return the inner backend's count."""
        return await self.inner.count_tokens(messages)

    async def aclose(self) -> None:
        """Close the inner backend."""
        await self.inner.aclose()
