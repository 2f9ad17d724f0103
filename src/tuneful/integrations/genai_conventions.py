"""Requests and responses in the words of OpenTelemetry's semantic conventions for generative AI. Pure data.

Source: https://github.com/open-telemetry/semantic-conventions-genai, status "development" (2026): names of `gen_ai.*`
attributes, JSON schemas of the input and output messages, bucket boundaries. What the conventions have no name for is
under `tuneful.*`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from tuneful.backends.http.providers import PROVIDERS
from tuneful.wire.messages import Media, Message, ToolCall
from tuneful.wire.request import Request
from tuneful.wire.response import Choice, Response

Attributes = dict[str, str | bool | int | float | Sequence[str]]

#: Environment variable by which the instrumentations of this field let prompts and answers be recorded, and the values
#: that let them onto spans.
CONTENT_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
CONTENT_VALUES = ("true", "span_only", "span_and_event")

TOKEN_BUCKETS = [4**power for power in range(14)]
SECOND_BUCKETS = [0.01 * 2**power for power in range(14)]

#: Providers that the conventions call otherwise than we do.
_PROVIDERS = {"azure": "azure.ai.openai", "gemini": "gcp.gemini", "mistral": "mistral_ai", "xai": "x_ai"}
_FINISH_REASONS = {"filter": "content_filter", "tools": "tool_call"}
_MODALITIES = {"file": "document"}


def target_attributes(model: str, endpoint: str) -> Attributes:
    """Return which model is asked, and where: what all spans and metrics of its calls carry.

    Args:
        model: the LM's name, such as "openai/gpt-4o-mini".
        endpoint: identity of its backend; an address where it is over HTTP, of which host and port are taken.
    """
    prefix, slash, name = model.partition("/")
    over_http = endpoint.startswith(("http://", "https://"))
    if over_http and not (slash and prefix in PROVIDERS):
        prefix, name = "openai", model  # a server that speaks OpenAI's protocol
    found: Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _PROVIDERS.get(prefix, prefix),
        "gen_ai.request.model": name or model,
    }
    if over_http:
        address = urlsplit(endpoint)
        found["server.address"] = address.hostname or ""
        found["server.port"] = address.port or (443 if address.scheme == "https" else 80)
    return found


def request_attributes(request: Request) -> Attributes:
    """Return how an answer is asked for. No content."""
    sampling = request.sampling
    given = {
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.seed": sampling.seed,
        "gen_ai.request.stop_sequences": sampling.stop or None,
        "gen_ai.request.choice.count": sampling.n if sampling.n != 1 else None,
        "gen_ai.output.type": "json" if request.json_schema is not None else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def response_attributes(response: Response) -> Attributes:
    """Return who answered, how it ended and what it costs now; an answer from the cache costs nothing."""
    usage = response.charged
    found: Attributes = {"gen_ai.response.finish_reasons": [_finish_reason(c) for c in response.choices]}
    if response.model:
        found["gen_ai.response.model"] = response.model
    if response.hit:
        return {**found, "tuneful.cache_hit": True}
    counts = {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        "tuneful.retries": usage.retries,
    }
    found |= {name: count for name, count in counts.items() if count}
    if usage.cost_usd:
        found["tuneful.cost_usd"] = usage.cost_usd
    return found


def input_messages(request: Request) -> str:
    """Return the chat as it was sent, in the JSON of the conventions. Content: of the user's own, perhaps private."""
    return _json([{"role": m.role, "parts": _parts_of(m)} for m in request.messages])


def output_messages(response: Response) -> str:
    """Return the answers, in the JSON of the conventions. Content, as `input_messages`."""
    return _json(
        [
            {"role": "assistant", "parts": _answered(choice), "finish_reason": _finish_reason(choice)}
            for choice in response.choices
        ]
    )


def fields(values: Any) -> str:
    """Return the inputs or the outputs of a module as JSON text. Content, as `input_messages`."""
    return _json(dict(values.items()) if hasattr(values, "items") else values)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):  # keys that are no texts, or a circle: a user's values may be anything
        return json.dumps(str(value), ensure_ascii=False)


def _finish_reason(choice: Choice) -> str:
    return _FINISH_REASONS.get(choice.finish_reason, choice.finish_reason)


def _parts_of(message: Message) -> list[Mapping[str, Any]]:
    content = (message.content,) if isinstance(message.content, str) else message.content
    if message.role == "tool":
        return [{"type": "tool_call_response", "id": message.call_id, "response": message.text}]
    parts = [_media(c) if isinstance(c, Media) else _text(c) for c in content if c]
    return [*parts, *map(_tool_call, message.tool_calls)]


def _answered(choice: Choice) -> list[Mapping[str, Any]]:
    thoughts = [{"type": "reasoning", "content": choice.reasoning}] if choice.reasoning else []
    return [*thoughts, *([_text(choice.text)] if choice.text else []), *map(_tool_call, choice.tool_calls)]


def _text(text: str) -> Mapping[str, Any]:
    return {"type": "text", "content": text}


def _media(media: Media) -> Mapping[str, Any]:
    part = {"modality": _MODALITIES.get(media.kind, media.kind)}
    if media.media_type:
        part["mime_type"] = media.media_type
    if media.url:
        return {"type": "uri", **part, "uri": media.url}
    return {"type": "blob", **part, "content": media.data}


def _tool_call(call: ToolCall) -> Mapping[str, Any]:
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        arguments = call.arguments  # a model wrote it
    return {"type": "tool_call", "id": call.id, "name": call.name, "arguments": arguments}
