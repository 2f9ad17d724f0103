"""The typed error for a refused request: a status and a body, whichever service sent them."""

from __future__ import annotations

import re
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

#: How services say that a prompt is too long.
_TOO_LONG = re.compile(
    r"context[ _](length|window|size)|context_length_exceeded|maximum context|prompt is too long|"
    r"input (token count|is too long)|exceeds? (the (available )?context|context limit)|"
    r"too many (input )?tokens|reduce the length|too large to process"
)
#: Characters of a message that are looked at.
_MOST_CHARS = 4000
#: Two numbers in such a message, in the order in which services give them.
_SIZES = (
    re.compile(
        r"maximum[^\d]*?(?P<limit>\d[\d,]{0,15}) tokens.*?"
        r"(?:resulted in|requested|has|contains?)[^\d]*?(?P<used>\d[\d,]{0,15})"
    ),
    re.compile(r"(?P<used>\d[\d,]{0,15}) tokens? ?> ?(?P<limit>\d[\d,]{0,15})"),
    re.compile(r"\((?P<used>\d[\d,]{0,15})[^)]*\)[^\d]*exceeds[^\d]*(?P<limit>\d[\d,]{0,15})"),
)


def error_of(status: int, body: Any, model: str, retry_after_s: float | None = None) -> LMError:
    """Return the typed error for a refused request. The body is quoted, the request never: it may hold secrets."""
    if isinstance(body, list) and body:  # one service puts its error into a list
        body = body[0]
    found = body.get("error", body) if isinstance(body, Mapping) else body
    sizes = found if isinstance(found, Mapping) else {}
    detail = str(sizes.get("message", "") if isinstance(found, Mapping) else found)
    detail = detail[:_MOST_CHARS]
    kind = f"{sizes.get('type')} {sizes.get('code')} {sizes.get('status')}".lower()
    text = f"`{model}` answered with status {status}: {detail[:500] or 'no message'}"
    if status in (400, 413, 422, 500) and _TOO_LONG.search(f"{kind} {detail}".lower()):
        used, limit = _sizes(detail)
        return ContextWindowExceededError(
            f"{text}. Use fewer or shorter demos or inputs, or a model with a longer context.",
            model=model,
            status=status,
            prompt_tokens=sizes.get("n_prompt_tokens", used),
            context_tokens=sizes.get("n_ctx", limit),
        )
    if status in (401, 403) or (status == 400 and "API_KEY_INVALID" in str(sizes.get("details"))):
        return LMAuthError(f"{text}. Check the API key and what it may use.", model=model, status=status)
    if status == 429 and "insufficient_quota" not in kind:
        wait_s = retry_after_s if retry_after_s is not None else _delay(sizes.get("details"))
        return LMRateLimitError(text, model=model, status=status, retry_after_s=wait_s)
    if status in (402, 429):
        return LMAuthError(
            f"{text}. The account has no credit left; waiting does not help.", model=model, status=status
        )
    if status in (408, 504):
        return LMTimeoutError(text, model=model, status=status)
    if status >= 500:
        return LMServerError(text, model=model, status=status, retry_after_s=retry_after_s)
    return LMInvalidRequestError(text, model=model, status=status)


def _delay(details: Any) -> float | None:
    """Return the wait that one service asks for in its body: an item such as `{"retryDelay": "34s"}`."""
    for item in details if isinstance(details, list) else ():
        mark = re.fullmatch(r"(\d{1,9}(?:\.\d*)?)s", str(item.get("retryDelay") if isinstance(item, Mapping) else ""))
        if mark:
            return float(mark[1])
    return None


def _sizes(detail: str) -> tuple[int | None, int | None]:
    for pattern in _SIZES:
        if mark := pattern.search(detail):
            return tuple(int(mark[g].replace(",", "")) for g in ("used", "limit"))  # type: ignore[return-value]
    return None, None
