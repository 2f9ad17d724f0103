"""One loaded model: llama.cpp through xllamacpp, the only file that knows it (beside the embeddings')."""

from __future__ import annotations

import atexit
import json
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakSet

from tuneful.backends.cores import usable_cores
from tuneful.backends.local.gate import Gate
from tuneful.backends.local.lora import Lora
from tuneful.backends.local.slots import Slots
from tuneful.backends.local.special_tokens import SpecialTokens, new_mark
from tuneful.errors import LMTimeoutError, TunefulError, UsageError

#: What a chat body has that a body with a prompt in tokens has not.
_CHAT_ONLY = ("messages", "response_format", "logprobs", "reasoning_effort")


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """How a model is loaded. Two LMs with the same settings share one loaded model.

    Args:
        path: the .gguf file.
        context_tokens: longest prompts and answers of all slots together.
        slots: requests decoded at once. None: half of the cores, from 1 to 8. On a CPU more do not answer sooner,
            and each keeps a copy of the prompt that all must read. With one, a greedy answer is the same each time.
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


#: Prompts that are known again.
_REMEMBERED = 1000


class Engine:
    """One loaded model. Calls block; each runs in one of as many threads as there are slots.

    It is loaded with every LoRA of which there is an LM, and a call says which of them it wants: llama.cpp takes no
    further one later. An LM that is made after the first call has the model loaded again.
    """

    def __init__(self, settings: LocalSettings) -> None:
        self._settings = settings
        self._key = secrets.token_urlsafe(24)
        self._gate = Gate()
        self._loras: tuple[Lora, ...] = ()
        self._refused: WeakSet[Lora] = WeakSet()
        self._count = settings.slots or min(8, max(1, usable_cores() // 2))
        self._exact = self._count == 1 and not settings.gpu_layers
        self._asked: OrderedDict[int, None] = OrderedDict()
        self._load()
        self.slots = Slots(self._count, settings.overtaking)

    def _load(self, needed: Lora | None = None) -> None:
        """Load the model with all LoRAs, or with as many as can be had where one of them is broken."""
        if needed is not None:
            needed.check_unchanged()
        usable = [lora for lora in _loras_of(self._settings) if lora not in self._refused and _is_there(lora)]
        others = [lora for lora in usable if lora is not needed]
        self._server: Any = None  # first of all its memory: there may not be room for two
        for loras in (usable, others, [needed] if needed else [], []):
            try:
                self._server = self._started(loras)
            except RuntimeError as error:
                failure = error
            else:
                self._loras = tuple(loras)
                break
        if self._server is None:
            raise UsageError(
                f"llama.cpp cannot load {self._settings.path!r}: {failure} "
                "Is the file whole, its architecture supported, and is there memory for it?"
            ) from failure
        if needed is not None and needed not in self._loras:
            self._refused.add(needed)

    def _started(self, loras: Sequence[Lora]) -> Any:
        import xllamacpp  # an extra: looked for when the backend is made, loaded with the model

        settings, cores = self._settings, usable_cores()
        threads = settings.threads or max(1, cores - 1)
        params = xllamacpp.CommonParams()
        params.model.path = settings.path
        params.n_ctx = settings.context_tokens
        params.n_parallel = self._count
        if self._exact:
            # An answer then depends on its prompt alone, not on how much of it a cache served: flash attention on a CPU
            # sums a block of tokens otherwise than one by one (log probabilities differ by 0.1).
            params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.kv_unified = True  # one pool for all slots: a long prompt may use what the others leave
        params.n_gpu_layers = settings.gpu_layers
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = settings.threads or (cores if self._count == 1 else threads)
        # Prompts that a slot had to give up are copied back, not computed again. Not beside LoRAs: llama.cpp would
        # also copy back what another one has computed (ggml-org/llama.cpp#26207). What a slot itself holds it drops
        # in time.
        params.cache_ram_mib = 0 if loras else 512
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(lora.path), 0.0) for lora in loras]
        params.verbosity = -1
        params.ui = False
        params.api_keys = [self._key]  # it opens a loopback port by itself; nobody else shall use it
        settings.prepare(params)
        return xllamacpp.Server(params)

    @contextmanager
    def _loaded(self, lora: Lora | None) -> Iterator[None]:
        """Keep the model as it is meanwhile, with a LoRA among those that it was loaded with."""
        while True:
            with self._gate.among_others():
                if lora is None or lora in self._loras:
                    yield
                    return
            with self._gate.alone():
                if lora not in self._refused and lora not in self._loras:
                    self._load(lora)
            if lora in self._refused:
                raise UsageError(
                    f"llama.cpp cannot load the LoRA {str(lora.path)!r} over {self._settings.path!r}. Is the file "
                    "whole, and was it made for this model?"
                )

    @cached_property
    def special_tokens(self) -> SpecialTokens:
        """The texts that would become special tokens. Read from the file at the first prompt."""
        return SpecialTokens.of_file(Path(self._settings.path))

    def complete(
        self,
        body: dict[str, Any],
        pass_on: Callable[[Any], None],
        cancelled: threading.Event,
        timeout_s: float,
        lora: Lora | None = None,
        lora_scale: float = 1.0,
    ) -> None:
        """Answer one body, handing on each chunk; a cancelled or late call stops at the next token.

        Nothing in the messages becomes a special token, whatever it spells.
        """
        if cancelled.is_set():
            return
        with self._loaded(lora):
            if self._loras:  # always said: llama.cpp would go on with what the slot had before
                scales = [{"id": i, "scale": lora_scale if x is lora else 0.0} for i, x in enumerate(self._loras)]
                body = {**body, "lora": scales}
            self._complete(body, pass_on, cancelled, timeout_s)

    def _complete(
        self, body: dict[str, Any], pass_on: Callable[[Any], None], cancelled: threading.Event, timeout_s: float
    ) -> None:
        deadline = time.monotonic() + timeout_s  # the wait for a free slot is not the model's fault

        def receive(chunk: dict[str, Any]) -> bool:
            pass_on(chunk)
            return cancelled.is_set() or time.monotonic() > deadline

        if self._exact and not body.get("temperature") and self._was_asked(body):
            body = {**body, "cache_prompt": False}
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

    def _was_asked(self, body: Mapping[str, Any]) -> bool:
        """Say whether a prompt was asked not long ago, and note it.

        Of a prompt that is cached whole llama.cpp computes the last token by itself, and one token is summed otherwise
        than several. So where an answer is to be the same each time, the same prompt is computed as it was.
        """
        key = hash(json.dumps([body["messages"], body.get("tools"), body.get("lora")]))
        known = key in self._asked
        self._asked[key] = None
        self._asked.move_to_end(key)
        if len(self._asked) > _REMEMBERED:
            self._asked.popitem(last=False)
        return known

    def embeddings(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one body of texts to embed."""
        answer: dict[str, Any] = self._server.handle_embeddings(body)
        return answer

    def count_tokens(self, messages: list[dict[str, Any]]) -> int:
        """Return the length of a prompt in tokens, the model's own chat template included."""
        mark = new_mark()
        with self._loaded(None):
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


def _is_there(lora: Lora) -> bool:
    try:
        lora.check_unchanged()
    except TunefulError:  # whoever asks for it is told
        return False
    return True


_loras: dict[LocalSettings, WeakSet[Lora]] = {}
_engines: dict[tuple[int, LocalSettings], Engine] = {}
_loading = threading.Lock()


def announce(settings: LocalSettings, lora: Lora) -> None:
    """Have a LoRA loaded with the model, for as long as somebody holds it."""
    with _loading:
        _loras.setdefault(settings, WeakSet()).add(lora)


def _loras_of(settings: LocalSettings) -> list[Lora]:
    return sorted(_loras.get(settings, ()), key=lambda lora: (lora.path, lora.digest))


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
