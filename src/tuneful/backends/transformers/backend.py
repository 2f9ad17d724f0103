"""A checkpoint of transformers as a backend, in this process: what was trained is served where it was trained."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

from tuneful.backends.base import Backend
from tuneful.backends.transformers.checkpoint import find_checkpoint
from tuneful.backends.transformers.engine import Engine, engine_of
from tuneful.backends.transformers.settings import TransformersSettings
from tuneful.backends.transformers.writing import Writing
from tuneful.errors import UsageError
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import Message
from tuneful.wire.request import Request
from tuneful.wire.response import Delta, Response


class TransformersBackend(Backend):
    """A decoder-only or encoder-decoder model in this process, on a GPU where there is one.

    Use it for what was trained here, and for models that come in no other form; for much traffic a server (vLLM,
    SGLang) is faster, and over a .gguf file llama.cpp needs less memory. It is loaded at the first call. Requests in
    flight at the same moment are generated together, which changes the last digits of a model's numbers: a greedy
    answer may differ where two tokens are equally likely.

    A text can spell the model's special tokens (`<|im_end|>`) and stays that text.

    Args:
        name: a folder with a checkpoint, or with an adapter of PEFT over one; or a name on the hub, fetched at the
            first call. LMs with several adapters over one base share it.
        timeout_s: seconds for one answer, from when it is begun.
        options: settings of `TransformersSettings`.

    Raises:
        MissingExtraError, NotConfiguredError, UsageError: a library or the checkpoint is missing, or is none that can
            be served. Raised here, before any call, as far as the files at hand tell.
    """

    local = True
    several = False  # samples are requests of their own, and are generated together all the same
    options = ("timeout_s", *(f.name for f in fields(TransformersSettings)))

    def __init__(self, name: str, *, timeout_s: float = 600.0, **options: Any) -> None:
        self._checkpoint = find_checkpoint(name)
        self._settings = TransformersSettings(**options)
        self._timeout_s = timeout_s
        self._held: Engine | None = None  # so that it stays loaded
        self.model = name
        self.endpoint = f"transformers#{self._checkpoint.identity}"
        if digest := self._checkpoint.digest:
            self.weights = {"digest": digest}
        lengths = filter(None, (self._settings.context_tokens, self._checkpoint.context_tokens))
        self.capabilities = Capabilities(
            grammar="lark" if self._checkpoint.constrains else "",
            json_schema=self._checkpoint.constrains,
            small=self._checkpoint.small,
            context_tokens=min(lengths),
            media=frozenset(),
            refuses=frozenset({"reasoning_effort"}),
            in_flight=self._settings.batch_size,
        )

    async def complete(self, request: Request) -> Response:
        """Answer one request. A cancelled call stops at the next token. Raises a branch of LMError."""
        cancelled = threading.Event()
        try:
            return await asyncio.wrap_future((await self._begin(request, cancelled)).future)
        finally:
            cancelled.set()

    async def stream(self, request: Request) -> AsyncIterator[Delta | Response]:
        """Answer one request token by token."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        cancelled = threading.Event()

        def pass_on(piece: str) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        call: asyncio.Future[Response] | None = None
        try:
            call = asyncio.wrap_future((await self._begin(request, cancelled, pass_on)).future)
            call.add_done_callback(lambda _: pieces.put_nowait(None))
            while (piece := await pieces.get()) is not None:
                yield Delta(piece)
            yield await call
        finally:
            cancelled.set()
            if call is not None:
                call.cancel()  # nobody asks what became of it

    async def probe(self) -> Capabilities:
        """Load the model, and return what it can do: of one that was just fetched, more is known then."""
        await self._engine()
        self._checkpoint = find_checkpoint(self.model)
        able = self._checkpoint.constrains
        self.capabilities = replace(self.capabilities, grammar="lark" if able else "", json_schema=able)
        return self.capabilities

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Return the exact length of a prompt in tokens; loads the model."""
        engine = await self._engine()
        return await asyncio.get_running_loop().run_in_executor(None, engine.count, tuple(messages))

    async def _begin(
        self, request: Request, cancelled: threading.Event, heard: Callable[[str], None] | None = None
    ) -> Writing:
        if request.tools or request.extra:
            what = "tools" if request.tools else "extra fields in the body"
            raise UsageError(f"`{self.model}` in this process takes no {what}. No call was made.")
        engine = await self._engine()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            None, engine.begin, request, self._checkpoint.adapter, self._timeout_s, heard, cancelled
        )

    async def _engine(self) -> Engine:
        loop = asyncio.get_running_loop()
        self._held = await loop.run_in_executor(None, engine_of, self._checkpoint, self._settings)
        return self._held
