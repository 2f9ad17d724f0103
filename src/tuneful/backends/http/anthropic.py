"""Anthropic's layout (the Messages API): Request -> body, body -> Response, events -> pieces.

Prompt caching: the last block of the last message that stays the same from call to call is marked, so that everything
up to it is read from the cache. The blocks of thoughts before a tool call are the call's signature, as JSON, and go
back with it: a model that thinks within a budget demands them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tuneful.backends.http.layout import add_extra, arguments_of
from tuneful.backends.http.refusal import error_of
from tuneful.backends.models import ModelFacts
from tuneful.errors import LMInvalidRequestError, LMServerError, LMTransportError
from tuneful.wire.messages import Media, Message, Tool, ToolCall
from tuneful.wire.request import Request, Sampling
from tuneful.wire.response import Choice, Delta, FinishReason, Response, Usage

#: Tokens of an answer, where neither the request nor what is known of the model says how many. The service demands one.
DEFAULT_ANSWER_TOKENS = 4096

_FINISH: dict[str, FinishReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",
    "refusal": "filter",
    "tool_use": "tools",
}
#: Statuses that errors have outside a stream.
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_THOUGHTS = ("thinking", "redacted_thinking")
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


class Anthropic:
    """The layout."""

    def path(self, model: str, *, streaming: bool) -> str:
        """Return the path of the request."""
        return "/v1/messages"

    def to_body(self, request: Request, model: str, facts: ModelFacts) -> dict[str, Any]:
        """Return the JSON body of a request. Raises LMInvalidRequestError for what the service cannot express."""
        if request.grammar is not None:
            raise _refused(model, "it cannot be held to a grammar. Use a JSON schema, or an adapter without grammars")
        system, turns = _turns(request, model)
        body: dict[str, Any] = {"model": model, "messages": turns}
        if system:
            body["system"] = system
        body.update(_thinking(request, model, facts))
        body.update(_sampling(request.sampling, model, facts, body.get("thinking")))
        if request.json_schema is not None:
            form = {"type": "json_schema", "schema": _strict(json.loads(request.json_schema), model)}
            body["output_config"] = {**body.get("output_config", {}), "format": form}
        if request.tools:
            body["tools"] = [_tool(t) for t in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice, model, body.get("thinking"))
        add_extra(body, request)
        return body

    def left_out(self, request: Request, body: dict[str, Any]) -> tuple[str, ...]:
        """Return "thinking" where it may not begin now; see `_forgotten`."""
        wanted = request.sampling.reasoning_effort is not None
        return ("thinking",) if wanted and "thinking" not in body else ()

    def streamed(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body that asks for a stream."""
        return {**body, "stream": True}

    def from_body(self, body: Any, model: str) -> Response:
        """Return the response in a body."""
        try:
            choice = _choice(body["content"], body.get("stop_reason"))
            return Response((choice,), usage_of(body.get("usage") or {}), str(body.get("model") or model))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LMServerError(
                f"`{model}` answered with something that is no message: {str(body)[:300]!r}.", model=model
            ) from error

    def reader(self, model: str) -> AnthropicReader:
        """Return a reader of one streamed answer."""
        return AnthropicReader(model)


def _refused(model: str, why: str) -> LMInvalidRequestError:
    return LMInvalidRequestError(f"`{model}` cannot be asked this way: {why}. No call was made.", model=model)


# --- what is sent ---


def _turns(request: Request, model: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the system blocks and the turns, with turns of one role in a row put together."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    last: dict[str, Any] | None = None
    for number, message in enumerate(request.messages, 1):
        blocks = _blocks(message, model)
        role = "assistant" if message.role == "assistant" else "user"
        if message.role == "system":
            system += blocks
        elif turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": list(blocks)})
        if number <= request.stable and blocks:
            last = blocks[-1]
    if last is not None:
        last["cache_control"] = {"type": "ephemeral"}
    return system, turns


def _blocks(message: Message, model: str) -> list[dict[str, Any]]:
    parts = (message.content,) if isinstance(message.content, str) else message.content
    if message.role == "system" and message.media:
        raise _refused(model, "a system message is text only. Put media into a user message")
    blocks = [_text(p) if isinstance(p, str) else _media(p, model) for p in parts if p]  # an empty text is an error
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": message.call_id, "content": blocks}]
    for index, call in enumerate(message.tool_calls):
        thoughts = _thoughts_of(call)
        blocks = [*thoughts, *blocks] if index == 0 else [*blocks, *thoughts]  # the first stand before the text
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_of(call)})
    return blocks


def _thoughts_of(call: ToolCall) -> list[dict[str, Any]]:
    """Return the blocks that a call's signature holds; another provider's signature holds none."""
    if not call.signature.startswith("["):
        return []
    try:
        blocks = json.loads(call.signature)
    except ValueError:
        return []
    return [b for b in blocks if isinstance(b, dict) and b.get("type") in _THOUGHTS]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _media(media: Media, model: str) -> dict[str, Any]:
    if media.kind == "audio":
        raise _refused(model, "it hears no sounds. Send text, an image or a PDF")
    source: dict[str, Any] = {"type": "base64", "media_type": media.media_type, "data": media.data}
    if media.url:
        source = {"type": "url", "url": media.url}
    if media.kind == "image":
        return {"type": "image", "source": source}
    if media.data and media.media_type.startswith("text/"):
        text = base64.b64decode(media.data).decode("utf-8", "replace")
        source = {"type": "text", "media_type": "text/plain", "data": text}
    elif media.media_type not in ("application/pdf", ""):
        raise _refused(model, f"it reads PDF and text files, not {media.media_type!r}")
    return {"type": "document", "source": source, **({"title": media.name} if media.name else {})}


def _tool(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": json.loads(tool.parameters)}


def _tool_choice(choice: str, model: str, thinking: Mapping[str, Any] | None) -> dict[str, Any]:
    if thinking and choice not in ("auto", "none"):
        raise _refused(
            model, "while it thinks, no tool can be forced on it. Leave `reasoning_effort` unset, or let it choose"
        )
    return {"type": _CHOICES[choice]} if choice in _CHOICES else {"type": "tool", "name": choice}


def _thinking(request: Request, model: str, facts: ModelFacts) -> dict[str, Any]:
    """Return the fields that say how long it may think: a budget in tokens for older models, a level for newer ones."""
    effort = request.sampling.reasoning_effort
    if effort is None:
        return {}
    measure = dict(facts.efforts).get(effort, effort)
    if isinstance(measure, str):
        return {"thinking": {"type": "adaptive"}, "output_config": {"effort": measure}}
    if _forgotten(request.messages):  # another model called, or nobody thought: it is not allowed to begin now
        return {}
    limit = request.sampling.max_tokens
    if limit is not None and limit <= measure:
        raise _refused(
            model,
            f"with reasoning_effort={effort!r} it thinks for up to {measure} tokens, which count against "
            f"`max_tokens={limit}`. Set `max_tokens` well above {measure}, or a lower effort",
        )
    return {"thinking": {"type": "enabled", "budget_tokens": measure}}


def _forgotten(messages: Sequence[Message]) -> bool:
    """Whether the last assistant's turn calls tools, and the thoughts before the call are not there."""
    last = next((m for m in reversed(messages) if m.role == "assistant"), None)
    return last is not None and bool(last.tool_calls) and not _thoughts_of(last.tool_calls[0])


def _sampling(sampling: Sampling, model: str, facts: ModelFacts, thinking: Mapping[str, Any] | None) -> dict[str, Any]:
    limit = sampling.max_tokens or facts.answer_tokens or DEFAULT_ANSWER_TOKENS
    budget = (thinking or {}).get("budget_tokens", 0)
    found: dict[str, Any] = {"max_tokens": limit if limit > budget else budget + DEFAULT_ANSWER_TOKENS}
    if (sampling.temperature or 0.0) > 1:
        raise _refused(model, f"its temperature goes from 0 to 1, got {sampling.temperature}")
    alone = thinking or (sampling.top_p is not None and sampling.temperature is None)
    if not alone and "temperature" not in facts.refuses:
        found["temperature"] = sampling.resolved().temperature
    if sampling.top_p is not None:
        found["top_p"] = sampling.top_p
    if sampling.stop:
        found["stop_sequences"] = list(sampling.stop)
    return found


# --- schemas ---

#: Keywords that the service does not take. Adapters check the values themselves.
_UNKNOWN = frozenset(
    (
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"),
        *("pattern", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "discriminator"),
    )
)
_FORMATS = frozenset(("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"))


def _strict(schema: Any, model: str) -> Any:
    """Return a schema as the service takes it: closed objects, no bounds."""
    if isinstance(schema, list):
        return [_strict(s, model) for s in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for name, value in schema.items():
        if name in ("properties", "$defs", "definitions"):
            found[name] = {n: _strict(s, model) for n, s in value.items()}
        elif name in ("items", "anyOf", "allOf", "oneOf"):
            found["anyOf" if name == "oneOf" else name] = _strict(value, model)
        elif name == "prefixItems":
            found["items"] = {"anyOf": _strict(value, model)}
        elif name not in _UNKNOWN and not (name == "format" and value not in _FORMATS):
            found[name] = value
    if schema.get("type") == "object":
        if not schema.get("properties") or schema.get("additionalProperties"):
            raise _refused(
                model,
                "it cannot be held to a schema with an object whose members have no fixed names (a dict). Use a class "
                "with fields, or an adapter that asks for no schema, such as ChatAdapter",
            )
        found["additionalProperties"] = False
    return found


# --- what comes back ---


def usage_of(usage: Mapping[str, Any]) -> Usage:
    """Return the counts of a `usage` object: tokens written to and read from the cache are part of the prompt."""
    read = int(usage.get("cache_read_input_tokens") or 0)
    written = int(usage.get("cache_creation_input_tokens") or 0)
    return Usage(
        calls=1,
        prompt_tokens=int(usage.get("input_tokens") or 0) + read + written,
        cached_tokens=read,
        completion_tokens=int(usage.get("output_tokens") or 0),
        reasoning_tokens=int((usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0),
    )


def _choice(blocks: Any, stop_reason: str | None) -> Choice:
    text = "".join(b["text"] for b in blocks if b["type"] == "text")
    thoughts = "\n".join(b["thinking"] for b in blocks if b["type"] == "thinking" and b["thinking"])
    return Choice(text, _FINISH.get(stop_reason or "", "stop"), None, tuple(_calls(blocks)), thoughts)


def _calls(blocks: Sequence[dict[str, Any]]) -> Iterator[ToolCall]:
    """Yield the calls, each signed with the thoughts since the one before."""
    thoughts: list[dict[str, Any]] = []
    for block in blocks:
        if block["type"] in _THOUGHTS:
            thoughts.append(block)
        elif block["type"] == "tool_use":
            signature = json.dumps(thoughts, ensure_ascii=False) if thoughts else ""
            yield ToolCall(block["id"], block["name"], _arguments(block["input"]), signature)
            thoughts = []


def _arguments(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class AnthropicReader:
    """Folds streamed events into the body that an unstreamed call returns."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._body: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._ended = False

    def feed(self, event: dict[str, Any]) -> list[Delta]:
        """Take one event."""
        if event.get("type") == "error":
            name = str((event.get("error") or {}).get("type"))
            raise error_of(_STATUS.get(name, 500), event, self._model)
        try:
            return self._taken(event)
        except (KeyError, TypeError, AttributeError) as error:
            raise LMServerError(
                f"`{self._model}` sent an event that is none of a message: {str(event)[:300]!r}.", model=self._model
            ) from error

    def _taken(self, event: Mapping[str, Any]) -> list[Delta]:
        kind = event.get("type")
        if kind == "message_start":
            self._body.update(event["message"])
            self._count(event["message"])
        elif kind == "content_block_start":
            block = self._blocks[event["index"]] = dict(event["content_block"])
            if block["type"] == "tool_use":  # its input comes as pieces of text
                block["input"] = "" if not block.get("input") else json.dumps(block["input"])
        elif kind == "content_block_delta":
            return self._piece(self._blocks[event["index"]], event["delta"])
        elif kind == "message_delta":
            self._body.update(event.get("delta") or {})
            self._count(event)
        elif kind == "message_stop":
            self._ended = True
        return []

    def _piece(self, block: dict[str, Any], delta: Mapping[str, Any]) -> list[Delta]:
        if delta["type"] == "text_delta":
            block["text"] += delta["text"]
            return [Delta(delta["text"])]
        if delta["type"] == "thinking_delta":
            block["thinking"] += delta["thinking"]
            return [Delta("", delta["thinking"])]
        if delta["type"] == "signature_delta":
            block["signature"] = (block.get("signature") or "") + delta["signature"]
        if delta["type"] == "input_json_delta" and "input" in block:
            block["input"] += delta["partial_json"]
        return []

    def _count(self, found: Mapping[str, Any]) -> None:
        self._usage.update({k: v for k, v in (found.get("usage") or {}).items() if v is not None})

    def finish(self) -> Response:
        """Return the response that the events make. Raises LMTransportError where the last one is missing."""
        if not self._ended:
            raise LMTransportError(
                f"the stream of `{self._model}` ended before its answer did; what came of it is not used.",
                model=self._model,
            )
        blocks = [self._blocks[i] for i in sorted(self._blocks)]
        for block in blocks:
            if block["type"] == "tool_use":
                block["input"] = block["input"] or "{}"
        return Anthropic().from_body({**self._body, "content": blocks, "usage": self._usage}, self._model)
