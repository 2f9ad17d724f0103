"""Models that answer by script."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from tuneful.adapters.base import Adapter
from tuneful.adapters.chat import ChatAdapter
from tuneful.backends.base import Backend
from tuneful.errors import UsageError
from tuneful.program.lm import LM
from tuneful.spec.fields import OutputField
from tuneful.spec.signature import Signature
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import Message, ToolCall
from tuneful.wire.request import Request
from tuneful.wire.response import Choice, Delta, Response, Usage


def calls(*wanted: tuple[str, Mapping[str, Any] | str], thought: str = "") -> Response:
    """Return the answer of a model that calls tools by itself.

    >>> calls(("search", {"query": "fjord"})).choices[0].tool_calls[0].name
    'search'

    Args:
        wanted: names of tools, each with its arguments (as text, where they are to be malformed).
        thought: what the model says beside them.
    """
    made = tuple(
        ToolCall(f"id{i}", name, args if isinstance(args, str) else json.dumps(args))
        for i, (name, args) in enumerate(wanted)
    )
    return Response((Choice(thought, "tools", tool_calls=made),), Usage(calls=1), "scripted")


Script = Callable[[Request], Any] | Sequence[Any]


class ScriptedBackend(Backend):
    """Answers by a function of the request, or from a list in order. Keeps what it was sent in `requests`.

    Args:
        script: a function (plain or async) or a list. An answer is a text, a list of texts (one for each sample), a
            `Response`, an exception to raise, or `calls(...)` for tool calls.
        seconds: time that each answer takes; the pieces of a streamed one are spread over it.
        piece: characters of a piece of a streamed answer; None cuts it into words.
        capabilities: what it claims to enforce.
        local: whether it counts as a local model, whose calls cost nothing.
    """

    def __init__(
        self,
        script: Script,
        *,
        seconds: float = 0.0,
        piece: int | None = None,
        capabilities: Capabilities | None = None,
        local: bool = True,
    ) -> None:
        self.local = local
        self._script = script
        self._seconds = seconds
        self._piece = piece
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        self.capabilities = capabilities or Capabilities()
        self.endpoint = "scripted"
        self.immediate = not seconds and not inspect.iscoroutinefunction(script)

    def _beside(self) -> dict[str, Any]:
        if not callable(self._script):
            raise UsageError(
                "a script that is a list of answers has one order, and cannot be sent to other processes, where each "
                "would begin it anew. Give a function of the request."
            )
        return {}

    async def complete(self, request: Request) -> Response:
        """Answer by the script."""
        return await self._answer(request, self._seconds)

    async def stream(self, request: Request) -> AsyncIterator[Delta | Response]:
        """Answer by the script, piece by piece: the thoughts of a sample in one, then its text."""
        response = await self._answer(request, 0)
        for index, choice in enumerate(response.choices):
            if choice.reasoning:
                yield Delta("", choice.reasoning, index)
            pieces = self._pieces(choice.text)
            for piece in pieces:
                if self._seconds:
                    await asyncio.sleep(self._seconds / len(pieces))
                yield Delta(piece, index=index)
        yield response

    def _pieces(self, text: str) -> list[str]:
        if self._piece is None:
            return re.findall(r"\s*\S+|\s+\Z", text)
        return [text[i : i + self._piece] for i in range(0, len(text), self._piece)]

    async def _answer(self, request: Request, seconds: float) -> Response:
        with self._lock:
            index = len(self.requests)
            self.requests.append(request)
        if seconds:
            await asyncio.sleep(seconds)
        answer = self._script(request) if callable(self._script) else self._listed(index)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Response):
            return answer
        texts = [answer] * request.sampling.n if isinstance(answer, str) else list(answer)
        prompt = sum(_words(m.text) for m in request.messages)
        usage = Usage(calls=1, prompt_tokens=prompt, completion_tokens=sum(map(_words, texts)))
        return Response(tuple(Choice(t) for t in texts), usage, "scripted")

    def _listed(self, index: int) -> Any:
        assert not callable(self._script)
        if index >= len(self._script):
            raise UsageError(f"the script has {len(self._script)} answers, and this is call {index + 1}.")
        return self._script[index]

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Return the number of words: the tokens of a scripted model."""
        return sum(_words(m.text) for m in messages)


def _words(text: str) -> int:
    return len(text.split())


class ScriptedLM(LM):
    """An LM that answers by script; see `ScriptedBackend`. `lm.requests` holds what it was sent.

    Its answers are not cached, unless it is made with `cache=True`. Compiles and caches tell scripted models apart by
    `model`: give two that answer differently two names.

    >>> lm = ScriptedLM(lambda request: request.messages[-1].text.upper())
    >>> lm("hello")
    ['HELLO']
    """

    def __init__(
        self,
        script: Script,
        *,
        seconds: float = 0.0,
        piece: int | None = None,
        capabilities: Capabilities | None = None,
        local: bool = True,
        model: str = "scripted",
        **options: Any,
    ) -> None:
        self._scripted = ScriptedBackend(script, seconds=seconds, piece=piece, capabilities=capabilities, local=local)
        self._scripted.endpoint = f"scripted#{model}"  # a journal and a cache tell models of two names apart
        super().__init__(model, backend=self._scripted, **{"cache": False, **options})

    def _beside(self) -> dict[str, Any]:
        return {**super()._beside(), **self._scripted._beside()}

    @property
    def requests(self) -> list[Request]:
        """The requests so far."""
        return self._scripted.requests


class DummyLM(ScriptedLM):
    """An LM that answers with given field values, written in an adapter's form.

    Args:
        answers: a list of mappings, given in order, each call taking the next; or a mapping from a text to such a
            mapping, where a call gets the entry whose text occurs in its last message.
        adapter: the adapter whose form is written; `ChatAdapter` by default.
    """

    def __init__(
        self,
        answers: Sequence[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]],
        *,
        adapter: Adapter | None = None,
        **options: Any,
    ) -> None:
        writer = adapter or ChatAdapter()

        def write(fields: Mapping[str, Any]) -> str:
            declared = {name: (type(value), OutputField()) for name, value in fields.items()}
            return writer.output_text(Signature(declared), fields)

        if isinstance(answers, Mapping):
            by_text = {text: write(fields) for text, fields in answers.items()}
            super().__init__(lambda request: _matching(by_text, request), **options)
        else:
            super().__init__([write(fields) for fields in answers], **options)


def _matching(by_text: Mapping[str, str], request: Request) -> str:
    last = request.messages[-1].text
    for text, answer in by_text.items():
        if text in last:
            return answer
    raise UsageError(f"DummyLM has no answer for: {last[:200]!r}. It knows: {', '.join(map(repr, by_text))}.")
