"""The chat-completions layout (OpenAI's, and everybody's): Request -> body, body -> Response, error body -> LMError."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tuneful.errors import (
    ContextWindowExceededError,
    LMAuthError,
    LMError,
    LMInvalidRequestError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
)
from tuneful.wire.request import Request
from tuneful.wire.response import Choice, FinishReason, Response, Usage

#: Distance between the seeds of one repetition and the next: room for the samples of one.
REPETITION_STEP = 1000

_FINISH: dict[str, FinishReason] = {"length": "length", "content_filter": "filter"}


def to_body(request: Request, model: str) -> dict[str, Any]:
    """Return the JSON body of a request. Temperature is always sent, so that no server default decides."""
    sampling = request.sampling.resolved()
    body: dict[str, Any] = {
        "model": model,
        "messages": [m.to_json() for m in request.messages],
        "temperature": sampling.temperature,
    }
    if sampling.max_tokens is not None:
        body["max_tokens"] = sampling.max_tokens
    if sampling.top_p is not None:
        body["top_p"] = sampling.top_p
    if sampling.n > 1:
        body["n"] = sampling.n
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logprobs:
        body["logprobs"] = True
    if sampling.seed is not None:
        body["seed"] = sampling.seed + REPETITION_STEP * sampling.rollout_id
    if request.json_schema is not None:
        schema = {"name": "answer", "schema": json.loads(request.json_schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    body.update({k: json.loads(v) for k, v in request.extra})
    return body


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
    return Usage(
        calls=1,
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        cached_tokens=int(details.get("cached_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
    )


def _choice(choice: Mapping[str, Any]) -> Choice:
    content = choice["message"].get("content") or ""
    if not isinstance(content, str):
        raise TypeError("`content` is no text")
    logprobs = (choice.get("logprobs") or {}).get("content")
    pairs = tuple((t["token"], float(t["logprob"])) for t in logprobs) if logprobs else None
    return Choice(content, _FINISH.get(choice.get("finish_reason") or "stop", "stop"), pairs)


def error_of(status: int, body: Any, model: str, retry_after_s: float | None = None) -> LMError:
    """Return the typed error for a refused request. The body is quoted, the request never: it may hold secrets."""
    found = body.get("error", body) if isinstance(body, Mapping) else body
    detail = found.get("message", "") if isinstance(found, Mapping) else str(found)
    kind = f"{found.get('type')} {found.get('code')}" if isinstance(found, Mapping) else ""
    text = f"`{model}` answered with status {status}: {str(detail)[:500] or 'no message'}"
    lowered = f"{kind} {detail}".lower()
    if "context" in lowered and ("exceed" in lowered or "length" in lowered or "maximum" in lowered):
        sizes = found if isinstance(found, Mapping) else {}
        return ContextWindowExceededError(
            f"{text}. Use fewer or shorter demos or inputs, or a model with a longer context.",
            model=model,
            status=status,
            prompt_tokens=sizes.get("n_prompt_tokens"),
            context_tokens=sizes.get("n_ctx"),
        )
    if status in (401, 403):
        return LMAuthError(f"{text}. Check the API key and what it may use.", model=model, status=status)
    if status == 429:
        return LMRateLimitError(text, model=model, status=status, retry_after_s=retry_after_s)
    if status == 408:
        return LMTimeoutError(text, model=model, status=status)
    if status >= 500:
        return LMServerError(text, model=model, status=status, retry_after_s=retry_after_s)
    return LMInvalidRequestError(text, model=model, status=status)
