"""Requests for one loaded model: those in flight at the same moment are generated together."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from tuneful.backends.transformers.checkpoint import Checkpoint
from tuneful.backends.transformers.grammar import Grammars
from tuneful.backends.transformers.loaded import LoadedModel, use_threads
from tuneful.backends.transformers.settings import TransformersSettings
from tuneful.backends.transformers.writing import Writing
from tuneful.errors import ContextWindowExceededError, LMInvalidRequestError
from tuneful.wire.messages import Message
from tuneful.wire.request import Request

_log = logging.getLogger(__name__)

#: Seconds in which those that ask at the same moment as the first one join it.
_GATHERING_S = 0.005
#: Tokens after which those that wait may join: the prompts of all are then read again.
_TURN = 32


class Engine:
    """One loaded model, and the thread that generates.

    Generation goes in turns. A turn takes the answers that are not done and those that wait, all under one adapter,
    and ends when all are done; or where there is room for others that wait, after some tokens. An encoder-decoder's
    turn goes on to the end.
    """

    def __init__(self, checkpoint: Checkpoint, settings: TransformersSettings) -> None:
        self.model = LoadedModel(checkpoint, settings)
        self._name = checkpoint.name
        self._room = settings.batch_size
        self._tokenizing = threading.Lock()  # tokenizers are not made for several threads
        self._changed = threading.Lock()
        self._waiting: deque[Writing] = deque()
        self._open: list[Writing] = []
        self._thread = ThreadPoolExecutor(1, "tuneful-transformers", use_threads, (settings.threads,))

    # --- requests ---

    def begin(
        self,
        request: Request,
        adapter: Path | None,
        timeout_s: float,
        heard: Callable[[str], None] | None,
        cancelled: threading.Event,
    ) -> Writing:
        """Queue a request; the arguments are those of `Writing`.

        Raises:
            ContextWindowExceededError: its prompt is too long.
            LMInvalidRequestError: its grammar cannot be used.
            UsageError: the adapter does not fit, or the model's template cannot render the prompt.
        """
        prompt = self.tokens(request)
        room = self.model.context_tokens - (0 if self.model.encoder_decoder else len(prompt))
        if room < 1 or len(prompt) > self.model.context_tokens:
            raise ContextWindowExceededError(
                f"the prompt has {len(prompt):,} tokens, and `{self._name}` takes {self.model.context_tokens:,}, the "
                "answer included. Use fewer or shorter demos or inputs, or raise `context_tokens` where the model "
                "takes more.",
                model=self._name,
                prompt_tokens=len(prompt),
                context_tokens=self.model.context_tokens,
            )
        matcher = None
        if request.grammar is not None or request.json_schema is not None:
            matcher = self._grammars.matcher(request.grammar, request.json_schema)
        writing = Writing(
            prompt,
            request.sampling.resolved(),
            most=min(room, request.sampling.max_tokens or room),
            ends=self.model.ends,
            decode=self._decode,
            model=self._name,
            timeout_s=timeout_s,
            adapter=adapter,
            matcher=matcher,
            heard=heard,
            cancelled=cancelled,
        )
        with self._changed:
            self._waiting.append(writing)
        self._thread.submit(self._turn)
        return writing

    def tokens(self, request: Request) -> list[int]:
        """Return the tokens of a prompt."""
        with self._tokenizing:
            return self.model.chat.prompt(request.messages)

    def count(self, messages: tuple[Message, ...]) -> int:
        """Return the length of a prompt in tokens."""
        return len(self.tokens(Request(messages)))

    @cached_property
    def _grammars(self) -> Grammars:
        with self._tokenizing:
            tokenizer = self.model.chat.tokenizer
            return Grammars(tokenizer, self.model.vocabulary, self.model.ends, self._name)

    def _decode(self, tokens: Any) -> str:
        with self._tokenizing:
            return str(
                self.model.chat.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            )

    # --- turns ---

    def _turn(self) -> None:
        """Generate for a while. There is one turn for each request, and a further one while some are not done."""
        if not self._open:
            time.sleep(_GATHERING_S)
        self._admit()
        rows = self._open[: self._room]
        if not rows:
            return
        try:
            self._generate(rows)
        except Exception as error:  # noqa: BLE001 (whoever waits for an answer gets whatever was raised)
            self._fail(rows, error)
        self._settle()
        self._open = [w for w in self._open if not w.future.done()]
        if self._open:
            self._thread.submit(self._turn)

    def _admit(self) -> None:
        """Open the first of those that wait, all under one adapter: nobody overtakes those of another one."""
        with self._changed:
            while self._waiting and len(self._open) < self._room and self._fits(self._waiting[0]):
                writing = self._waiting.popleft()
                if writing.begin():
                    self._open.append(writing)

    def _fits(self, writing: Writing) -> bool:
        return not self._open or writing.adapter == self._open[0].adapter

    def _generate(self, rows: list[Writing]) -> None:
        self.model.use_adapter(rows[0].adapter)
        steps = 0

        def choose(scores: Any) -> list[int]:
            nonlocal steps
            steps += 1
            if all(w.plain for w in rows):
                best = scores.argmax(-1).tolist()
                for writing, token in zip(rows, best, strict=True):
                    if not writing.future.done():
                        writing.take(token)
                return list(best)
            here = scores.cpu()
            return [0 if w.future.done() else w.choose(row) for w, row in zip(rows, here, strict=True)]

        def is_over() -> list[bool]:
            self._settle()
            over = [w.future.done() for w in rows]
            room = any(over) or len(self._open) < self._room
            joins = steps >= _TURN and room and self._waiting and self._fits(self._waiting[0])
            return [True] * len(rows) if joins and not self.model.encoder_decoder else over

        most = max(w.most - len(w.tokens) for w in rows)
        self.model.generate([[*w.prompt, *w.tokens] for w in rows], choose, is_over, most)

    def _settle(self) -> None:
        """Hand over the answers that are done, or that nobody waits for any more."""
        for writing in self._open:
            if writing.over and not writing.future.done():
                writing.settle()

    def _fail(self, rows: list[Writing], error: Exception) -> None:
        """Deal with a turn that failed: with fewer rows where memory was short, else give them the error."""
        if _is_memory(error) and len(rows) > 1:
            self._room = len(rows) // 2
            _log.warning("out of memory with %s requests together: %s from now on", len(rows), self._room)
            return
        for writing in rows:
            writing.future.set_exception(self._explained(error, writing) if _is_memory(error) else error)

    def _explained(self, error: Exception, writing: Writing) -> Exception:
        found = LMInvalidRequestError(
            f"`{self._name}` is out of memory with a prompt of {len(writing.prompt):,} tokens. Lower `max_tokens`, use "
            "fewer or shorter demos, or dtype='bfloat16'.",
            model=self._name,
        )
        found.__cause__ = error
        return found

    def close(self) -> None:
        """End the thread at the next token. Whoever still waits gets an error."""
        with self._changed:
            for writing in self._waiting:
                writing.future.cancel()
            for writing in self._open:
                writing.cancelled.set()
        self._thread.shutdown(wait=True)


def _is_memory(error: Exception) -> bool:
    text = str(error).lower()
    return any(words in text for words in ("out of memory", "allocate memory", "not enough memory"))


#: Loaded models: as long as an LM holds them, and the latest ones.
_engines: WeakValueDictionary[tuple[Any, ...], Engine] = WeakValueDictionary()
_latest: deque[Engine] = deque(maxlen=2)
_loading = threading.Lock()


def engine_of(checkpoint: Checkpoint, settings: TransformersSettings) -> Engine:
    """Return the loaded model, loading it at the first call in this process. LMs over one base share it."""
    key = (os.getpid(), checkpoint.base_identity, checkpoint.tokenizer_source, settings)
    with _loading:
        found = _engines.get(key)
        if found is None:
            found = _engines[key] = Engine(checkpoint, settings)
            _latest.append(found)
        return found


@atexit.register
def close_all() -> None:
    """Free every loaded model. Runs at exit; a model that is used again is loaded again."""
    with _loading:
        for key, engine in list(_engines.items()):
            if key[0] == os.getpid():
                engine.close()
        _engines.clear()
        _latest.clear()
