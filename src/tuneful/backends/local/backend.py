"""The embedded model as a backend. No key, no server to start, no cost.

Requests of many threads are decoded together (continuous batching), each slot keeps the prompt it last saw, so a
prompt that starts the same is not computed again, and answers can be constrained to a grammar or a JSON schema.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tuneful.backends.base import Backend
from tuneful.backends.http.chat_completions import REPETITION_STEP, ChatCompletionsReader, to_body
from tuneful.backends.local.engine import Engine, LocalSettings, announce, engine_of
from tuneful.backends.local.find import NAMED_MODELS, find_model
from tuneful.backends.local.lora import find_lora
from tuneful.errors import MissingExtraError, UsageError
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import Message
from tuneful.wire.request import Request
from tuneful.wire.response import Delta, Response

#: Below this size of a file (bytes) a model is served better by short prompts.
_SMALL_FILE = 4_000_000_000


class LocalBackend(Backend):
    """A GGUF model in this process. It is loaded at the first call (about a second for 100 MB).

    A text can spell the model's special tokens (`<|im_end|>`) and stays that text. Templates that mark turns with
    ordinary words cannot be kept from being imitated; those of chat models of today use special tokens.

    Args:
        name: "smollm2" or the path of a .gguf file.
        timeout_s: seconds for one answer, from when a slot begins with it.
        lora: a GGUF file with a LoRA that is laid over the model, for this LM alone: LMs with other LoRAs over the
            same file share one loaded model. Make them before the first call, or it is loaded again.
        lora_scale: how strongly the LoRA acts; 1 is as it was trained.
        options: settings of `LocalSettings` but the path.

    Raises:
        NotConfiguredError, MissingExtraError, UsageError: a file or the library is missing, the file is no GGUF
            file, or the LoRA is for another model. Raised here, before any call.
    """

    local = True
    several = False  # samples are requests of their own, so that none needs a slot beside another
    options = ("timeout_s", "lora", "lora_scale", *(f.name for f in fields(LocalSettings) if f.name != "path"))

    def __init__(
        self,
        name: str,
        *,
        timeout_s: float = 120.0,
        lora: str | Path | None = None,
        lora_scale: float = 1.0,
        **options: Any,
    ) -> None:
        path = find_model(name)
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtraError("xllamacpp", "local", "A local model")
        self._settings = LocalSettings(path=str(path), **options)
        self._timeout_s = timeout_s
        size = path.stat().st_size
        self.model = name if name in NAMED_MODELS else path.name
        self.endpoint = f"local#{path.name}:{size}"
        self._lora = None if lora is None else find_lora(lora, path)
        self._lora_scale = _checked_scale(lora_scale)
        if self._lora is not None:
            self.endpoint += f"+{self._lora.digest}*{self._lora_scale:g}"
            scale = {} if self._lora_scale == 1 else {"lora_scale": self._lora_scale}
            self.weights = {"lora": str(self._lora.path), **scale, "digest": self._lora.digest}
            announce(self._settings, self._lora)
        self.capabilities = Capabilities(
            grammar="lark",
            json_schema=True,
            small=size < _SMALL_FILE,
            context_tokens=self._settings.context_tokens,
            media=frozenset(),
        )

    async def complete(self, request: Request) -> Response:
        """Answer one request. A cancelled call stops at the next token. Raises a branch of LMError."""
        async for part in self.stream(request):
            if isinstance(part, Response):
                return part
        raise AssertionError("unreachable: a stream ends with its response")

    async def stream(self, request: Request) -> AsyncIterator[Delta | Response]:
        """Answer one request token by token."""
        engine = await self._engine()
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[Any] = asyncio.Queue()
        cancelled = threading.Event()

        def pass_on(chunk: Any) -> None:
            loop.call_soon_threadsafe(heard.put_nowait, chunk)

        body = self._body(request)
        begun: list[float] = []

        def complete() -> None:
            begun.append(time.perf_counter())  # a slot is free: what it waited for the others is not this call's
            engine.complete(body, pass_on, cancelled, self._timeout_s, self._lora, self._lora_scale)

        call = asyncio.wrap_future(
            engine.slots.submit_behind(
                (self._lora, self._lora_scale, request.messages[: request.stable]),
                complete,
            )
        )
        call.add_done_callback(lambda _: heard.put_nowait(None))
        reader = ChatCompletionsReader(self.model)
        try:
            while (chunk := await heard.get()) is not None:
                for delta in reader.feed(chunk):
                    yield delta
            await call
        finally:
            cancelled.set()
            call.cancel()  # where it still waits it is not begun
        # The model is named here: the engine would name the file, with its path.
        response = reader.finish()
        usage = replace(response.usage, seconds=time.perf_counter() - begun[0])
        yield replace(response, usage=usage, model=self.model)

    def _body(self, request: Request) -> dict[str, Any]:
        body = to_body(request, self.model)
        if request.grammar is not None:
            body["grammar"] = request.grammar  # "%llguidance" at its start says that it is in Lark
        body.setdefault("max_tokens", self._settings.context_tokens)
        # Reproducible, and another one for each repetition and sample.
        body.setdefault("seed", request.sampling.rollout_id * REPETITION_STEP + request.sampling.sample)
        return {**body, "stream": True, "stream_options": {"include_usage": True}}

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Return the exact length of a prompt in tokens; loads the model."""
        engine = await self._engine()
        body = to_body(Request(tuple(messages)), self.model)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, engine.count_tokens, body["messages"])

    async def _engine(self) -> Engine:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, engine_of, self._settings)


def _checked_scale(scale: Any) -> float:
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not math.isfinite(scale):
        raise UsageError(f"`lora_scale` is {scale!r}; expected a number such as 1.0. No call was made.")
    return float(scale)
