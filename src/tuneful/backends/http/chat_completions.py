"""The chat-completions layout (OpenAI's, and everybody's): Request -> body, body -> Response, events -> pieces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tuneful.backends.http.refusal import error_of
from tuneful.backends.models import ModelFacts
from tuneful.errors import LMServerError, LMTransportError
from tuneful.wire.messages import Media, Message, Tool, ToolCall
from tuneful.wire.request import Request, Sampling
from tuneful.wire.response import Choice, Delta, FinishReason, Response, Usage

#: Distance between the seeds of one repetition and the next: room for the samples of one.
REPETITION_STEP = 1000

#: Tool calls of one answer: a number beyond comes from a server that is out of order.
_MOST_CALLS = 1000

_FINISH: dict[str, FinishReason] = {
    "length": "length",
    "content_filter": "filter",
    "tool_calls": "tools",
    "function_call": "tools",
}


class ChatCompletions:
    """The layout.

    Args:
        grammar_field: name of the field that takes a GBNF grammar, where the server has one; "outer.inner" for a
            member of an object. A probe may set it.
    """

    def __init__(self, grammar_field: str | None = None) -> None:
        self.grammar_field = grammar_field

    def path(self, model: str, *, streaming: bool) -> str:
        """Return the path of the request."""
        return "/chat/completions"

    def to_body(self, request: Request, model: str, facts: ModelFacts) -> dict[str, Any]:
        """Return the JSON body of a request."""
        body = to_body(request, model, facts)
        if request.grammar is not None and self.grammar_field:
            outer, _, inner = self.grammar_field.partition(".")
            body[outer] = {**body.get(outer, {}), inner: request.grammar} if inner else request.grammar
        return body

    def left_out(self, request: Request, body: dict[str, Any]) -> tuple[str, ...]:
        """Return nothing: all is asked for, or refused."""
        return ()

    def streamed(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body that asks for a stream, with the usage in its last event."""
        return {**body, "stream": True, "stream_options": {"include_usage": True}}

    def from_body(self, body: Any, model: str) -> Response:
        """Return the response in a body."""
        return from_body(body, model)

    def reader(self, model: str) -> ChatCompletionsReader:
        """Return a reader of one streamed answer."""
        return ChatCompletionsReader(model)


def to_body(request: Request, model: str, facts: ModelFacts | None = None) -> dict[str, Any]:
    """Return the JSON body of a request."""
    facts = facts or ModelFacts()
    body: dict[str, Any] = {"model": model, "messages": [message_body(m) for m in request.messages]}
    body.update(_sampling(request.sampling.resolved(), facts))
    if request.json_schema is not None:
        schema = {"name": "answer", "schema": json.loads(request.json_schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if request.tools:
        body["tools"] = [tool_body(t) for t in request.tools]
    if request.tool_choice is not None:
        plain = request.tool_choice in ("auto", "none", "required")
        named = {"type": "function", "function": {"name": request.tool_choice}}
        body["tool_choice"] = request.tool_choice if plain else named
    body.update({k: json.loads(v) for k, v in request.extra})
    return body


def _sampling(sampling: Sampling, facts: ModelFacts) -> dict[str, Any]:
    seed = sampling.seed
    given = {
        "temperature": None if "temperature" in facts.refuses else sampling.temperature,
        "max_tokens": sampling.max_tokens,
        "top_p": sampling.top_p,
        "n": sampling.n if sampling.n > 1 else None,
        "stop": list(sampling.stop) or None,
        "logprobs": sampling.logprobs or None,
        "seed": None if seed is None else seed + REPETITION_STEP * sampling.rollout_id + sampling.sample,
        "reasoning_effort": sampling.reasoning_effort,
    }
    names = dict(facts.renames)
    return {names.get(k, k): v for k, v in given.items() if v is not None}


def message_body(message: Message) -> dict[str, Any]:
    """Return the JSON of a message."""
    body: dict[str, Any] = {"role": message.role, "content": message.content}
    if not isinstance(message.content, str):
        body["content"] = [{"type": "text", "text": c} if isinstance(c, str) else _media(c) for c in message.content]
    if message.tool_calls:
        calls = message.tool_calls
        body["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in calls
        ]
    if message.call_id:
        body["tool_call_id"] = message.call_id
    return body


def _media(media: Media) -> dict[str, Any]:
    address = media.url or f"data:{media.media_type};base64,{media.data}"
    if media.kind == "image":
        return {"type": "image_url", "image_url": {"url": address}}
    if media.kind == "audio":
        form = media.media_type.rpartition("/")[2]
        return {
            "type": "input_audio",
            "input_audio": {
                "data": media.data,
                "format": {"mpeg": "mp3", "x-wav": "wav", "wave": "wav"}.get(form, form),
            },
        }
    return {"type": "file", "file": {"filename": media.name or "file", "file_data": address}}


def tool_body(tool: Tool) -> dict[str, Any]:
    """Return the JSON of a tool."""
    function = {"name": tool.name, "description": tool.description, "parameters": json.loads(tool.parameters)}
    return {"type": "function", "function": function}


def from_body(body: Any, model: str) -> Response:
    """Return the response in a body.

    Raises:
        LMServerError: the body is no chat completion.
    """
    try:
        choices = tuple(_choice(c) for c in sorted(body["choices"], key=lambda c: c.get("index", 0)))
        if not choices:
            raise KeyError("choices")
        usage = usage_of(body.get("usage") or {})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LMServerError(
            f"`{model}` answered with something that is no chat completion: {str(body)[:300]!r}.", model=model
        ) from error
    return Response(choices, usage, str(body.get("model") or model))


def usage_of(usage: Mapping[str, Any]) -> Usage:
    """Return the counts of a `usage` object; the price is not in it."""
    details = usage.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens") or usage.get("prompt_cache_hit_tokens")
    thoughts = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    return Usage(
        calls=1,
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        cached_tokens=int(cached or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
        reasoning_tokens=int(thoughts or 0),
    )


def _choice(choice: Mapping[str, Any]) -> Choice:
    message = choice["message"]
    content = message.get("content") or ""
    if isinstance(content, list):  # some servers answer in parts as well
        content = "".join(part.get("text") or "" for part in content)
    if not isinstance(content, str):
        raise TypeError("`content` is no text")
    logprobs = (choice.get("logprobs") or {}).get("content")
    pairs = tuple((t["token"], float(t["logprob"])) for t in logprobs) if logprobs else None
    calls = tuple(
        ToolCall(str(c.get("id") or ""), c["function"]["name"], c["function"].get("arguments") or "{}")
        for c in message.get("tool_calls") or ()
    )
    finish = _FINISH.get(choice.get("finish_reason") or "stop", "stop")
    return Choice(content, finish, pairs, calls, _thoughts(message))


def _thoughts(message: Mapping[str, Any]) -> str:
    found = message.get("reasoning_content") or message.get("reasoning") or ""
    return found if isinstance(found, str) else ""


class ChatCompletionsReader:
    """Folds streamed chunks into the body that an unstreamed call returns."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._body: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def feed(self, event: dict[str, Any]) -> list[Delta]:
        """Take one chunk."""
        if event.get("error") or "choices" not in event:
            code = (event.get("error") or {}).get("code") if isinstance(event.get("error"), dict) else None
            raise error_of(code if isinstance(code, int) else 500, event, self._model)
        self._body.update({k: event[k] for k in ("usage", "model") if event.get(k)})
        return [delta for piece in event["choices"] if (delta := self._piece(piece))]

    def _piece(self, piece: Mapping[str, Any]) -> Delta | None:
        index = piece.get("index") or 0
        empty: dict[str, Any] = {
            "message": {"content": "", "reasoning": "", "tool_calls": []},
            "index": index,
            "logprobs": {"content": []},
        }
        choice = self._choices.setdefault(index, empty)
        delta = piece.get("delta") or piece.get("message") or {}
        text, thoughts = delta.get("content") or "", _thoughts(delta)
        choice["message"]["content"] += text
        choice["message"]["reasoning"] += thoughts
        for call in delta.get("tool_calls") or ():
            _fold_call(choice["message"]["tool_calls"], call)
        choice["logprobs"]["content"] += (piece.get("logprobs") or {}).get("content") or []
        choice["finish_reason"] = piece.get("finish_reason") or choice.get("finish_reason")
        return Delta(text, thoughts, index) if text or thoughts else None

    def finish(self) -> Response:
        """Return the response that the chunks make. Raises LMTransportError where a choice was left unfinished."""
        if not self._choices or not all(c.get("finish_reason") for c in self._choices.values()):
            raise LMTransportError(
                f"the stream of `{self._model}` ended before its answer did; what came of it is not used.",
                model=self._model,
            )
        return from_body({**self._body, "choices": list(self._choices.values())}, self._model)


def _fold_call(calls: list[dict[str, Any]], piece: Mapping[str, Any]) -> None:
    index = piece.get("index", len(calls))
    if not 0 <= index < _MOST_CALLS:
        raise ValueError(f"a tool call numbered {index}")
    while len(calls) <= index:
        calls.append({"id": "", "function": {"name": "", "arguments": ""}})
    function = piece.get("function") or {}
    calls[index]["id"] = calls[index]["id"] or piece.get("id") or ""
    calls[index]["function"]["name"] += function.get("name") or ""
    calls[index]["function"]["arguments"] += function.get("arguments") or ""
