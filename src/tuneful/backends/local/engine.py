"""One loaded model: llama.cpp through xllamacpp, the only file that knows it (beside the embeddings')."""

from __future__ import annotations

import atexit
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tuneful.backends.local.slots import Slots
from tuneful.backends.local.special_tokens import SpecialTokens, new_mark
from tuneful.errors import LMTimeoutError, UsageError

#: What a chat body has that a body with a prompt in tokens has not.
_CHAT_ONLY = ("messages", "response_format", "logprobs", "reasoning_effort")


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
        overtaking: how many requests may overtake one that waits, because their prompts start like the one just
            answered. 0: first come, first served.
    """

    path: str
    context_tokens: int = 8192
    slots: int | None = None
    threads: int | None = None
    gpu_layers: int = 0
    overtaking: int = 32

    def prepare(self, params: Any) -> None:
        """Set what a model needs that does more than write. Here nothing."""


class Engine:
    """One loaded model. Calls block; each runs in one of as many threads as there are slots."""

    def __init__(self, settings: LocalSettings) -> None:
        import xllamacpp  # an extra: looked for when the backend is made, loaded with the model

        cores = os.cpu_count() or 2
        threads = settings.threads or max(1, cores - 1)
        slots = settings.slots or min(8, max(1, cores // 2))
        self._key = secrets.token_urlsafe(24)
        self._path = settings.path
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
        self.slots = Slots(slots, settings.overtaking)

    @cached_property
    def special_tokens(self) -> SpecialTokens:
        """The texts that would become special tokens. Read from the file at the first prompt."""
        return SpecialTokens.of_file(Path(self._path))

    def complete(
        self, body: dict[str, Any], pass_on: Callable[[Any], None], cancelled: threading.Event, timeout_s: float
    ) -> None:
        """Answer one body, handing on each chunk; a cancelled or late call stops at the next token.

        Nothing in the messages becomes a special token, whatever it spells.
        """
        if cancelled.is_set():
            return
        deadline = time.monotonic() + timeout_s  # the wait for a free slot is not the model's fault

        def receive(chunk: dict[str, Any]) -> bool:
            pass_on(chunk)
            return cancelled.is_set() or time.monotonic() > deadline

        if "grammar" in body:
            body = {**body, "grammar": self.special_tokens.ended(body["grammar"])}
        mark = new_mark()
        spoken = {"messages": body["messages"], "tools": body.get("tools")}
        marked = self.special_tokens.cut(spoken, mark)
        if marked is spoken:
            self._server.handle_chat_completions(body, receive)
        elif spoken["tools"]:  # only the chat endpoint reads calls, and it takes no tokens: there a blank is the cut
            self._server.handle_chat_completions({**body, **self.special_tokens.cut(spoken, " ")}, receive)
        else:
            prompt = _with_prompt(body, self._tokens(marked["messages"], mark))
            self._server.handle_completions(prompt, lambda chunk: receive(_as_chat(chunk)))
        if time.monotonic() > deadline:
            raise LMTimeoutError(
                f"`{body['model']}` did not finish within {timeout_s:g} s. Lower `max_tokens` or raise `timeout_s`.",
                model=body["model"],
            )

    def embeddings(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one body of texts to embed."""
        answer: dict[str, Any] = self._server.handle_embeddings(body)
        return answer

    def count_tokens(self, messages: list[dict[str, Any]]) -> int:
        """Return the length of a prompt in tokens, the model's own chat template included."""
        mark = new_mark()
        return len(self._tokens(self.special_tokens.cut(messages, mark), mark))

    def _tokens(self, messages: list[dict[str, Any]], mark: str) -> list[int]:
        """Return a prompt in tokens, cut at each mark."""
        prompt = self._post("/apply-template", {"messages": messages})["prompt"]
        found: list[int] = []
        for index, text in enumerate(prompt.split(mark)):
            body = {"content": text, "add_special": index == 0, "parse_special": True}
            found += self._post("/tokenize", body)["tokens"]
        return found

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        import urllib.request  # slow to import, and only tokens need it

        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        url = self._server.listening_address + path
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 (loopback, our port)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as reply:
            return json.load(reply)

    def close(self) -> None:
        """Wait for running calls and free the model."""
        self.slots.shutdown(wait=True, cancel_futures=True)
        self._server = None


def _with_prompt(body: dict[str, Any], prompt: list[int]) -> dict[str, Any]:
    """Return a chat body as one whose prompt is given in tokens."""
    plain = {k: v for k, v in body.items() if k not in _CHAT_ONLY}
    if schema := body.get("response_format", {}).get("json_schema"):
        plain["json_schema"] = schema["schema"]
    if body.get("logprobs"):
        plain["n_probs"] = 1
    return {**plain, "prompt": prompt}


def _as_chat(chunk: dict[str, Any]) -> dict[str, Any]:
    """Return a chunk of a plain completion as one of a chat."""
    if "choices" not in chunk:
        return chunk
    return {**chunk, "choices": [{**c, "delta": {"content": c.get("text")}} for c in chunk["choices"]]}


_engines: dict[tuple[int, LocalSettings], Engine] = {}
_loading = threading.Lock()


def engine_of(settings: LocalSettings) -> Engine:
    """Return the loaded model, loading it at the first call in this process (a fork cannot share one)."""
    key = (os.getpid(), settings)
    with _loading:
        if key not in _engines:
            _engines[key] = Engine(settings)
        return _engines[key]


@atexit.register
def close_all() -> None:
    """Free every loaded model. Runs at exit; a model that is used again is loaded again."""
    with _loading:
        for (pid, _), engine in list(_engines.items()):
            if pid == os.getpid():
                engine.close()
        _engines.clear()
