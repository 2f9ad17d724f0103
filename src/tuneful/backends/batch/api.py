"""The batch API of a provider: a file of requests up, a batch over it, files of answers down.

Source: OpenAI's API reference, "Batch" and "Files".
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneful.backends.http.refusal import error_of
from tuneful.errors import (
    LMError,
    LMInvalidRequestError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    UsageError,
)
from tuneful.wire.request import Request
from tuneful.wire.response import Response

if TYPE_CHECKING:
    from tuneful.backends.http.backend import HTTPBackend
    from tuneful.backends.http.exchange import Reply

_log = logging.getLogger(__name__)

#: Name under which a batch carries our own name of it.
_METADATA = "tuneful"
_OVER = ("completed", "failed", "expired", "cancelled")
#: A provider's clock may differ from ours by so many seconds.
_CLOCKS_S = 3600.0

Outcome = Response | LMError


@dataclass(frozen=True, slots=True)
class BatchState:
    """What a provider says of a batch.

    Args:
        remote: the provider's name of it.
        status: "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled".
        total, completed, failed: requests.
        files: names of the files that hold answers and errors.
        problems: why the batch as a whole was refused.
    """

    remote: str
    status: str
    total: int = 0
    completed: int = 0
    failed: int = 0
    files: tuple[str, ...] = ()
    problems: tuple[Mapping[str, Any], ...] = ()

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in _OVER


class BatchAPI:
    """The calls of the API, through a backend's address, keys and layout.

    Args:
        backend: the backend whose requests are batched.
        completion_window: time the provider may take, as it writes it.
        wait_s: seconds to wait after the provider said that too much is queued.
    """

    def __init__(self, backend: HTTPBackend, completion_window: str, wait_s: float) -> None:
        self._backend = backend
        self._window = completion_window
        self._wait_s = wait_s
        self._path = "/v1" + backend.layout.path(backend.model, streaming=False)

    # --- up ---

    def line(self, key: str, request: Request) -> bytes:
        """Return the line of a request. Raises UsageError for text that cannot be sent; it would spoil the batch."""
        backend = self._backend
        body = backend.layout.to_body(request, backend.model, backend.facts)
        line = {"custom_id": key, "method": "POST", "url": self._path, "body": body}
        try:
            return json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        except ValueError as error:
            raise UsageError(
                f"the request cannot be written as a line of a batch: {error}. Nothing was sent."
            ) from error

    async def upload(self, name: str, lines: bytes) -> str:
        """Upload a file of lines and return the provider's name of it."""
        backend = self._backend
        headers = backend.request_headers()
        url = f"{backend.base_url}/files"
        reply = await backend.transport.post_file(url, (f"{name}.jsonl", lines), {"purpose": "batch"}, headers)
        return str(self._object(reply)["id"])

    async def create(self, name: str, file: str) -> BatchState:
        """Begin a batch over an uploaded file. It costs from here on."""
        backend = self._backend
        body = {
            "input_file_id": file,
            "endpoint": self._path,
            "completion_window": self._window,
            "metadata": {_METADATA: name},
        }
        return self._state(
            await backend.transport.post_json(f"{backend.base_url}/batches", body, backend.request_headers())
        )

    # --- looking ---

    async def state(self, remote: str) -> BatchState:
        """Return how a batch stands."""
        return self._state(await self._get(f"/batches/{remote}"))

    async def find(self, name: str, since: float) -> BatchState | None:
        """Return the batch that carries our name, created after `since` (seconds since 1970), or None."""
        after = ""
        while True:
            page = self._object(await self._get(f"/batches?limit=100{after}"), "data")
            for body in page["data"]:
                if (body.get("metadata") or {}).get(_METADATA) == name:
                    return _state_of(body)
            last = page["data"][-1] if page["data"] else None
            if not page.get("has_more") or last is None or (last.get("created_at") or since) < since - _CLOCKS_S:
                return None
            after = f"&after={last['id']}"

    # --- down ---

    async def outcomes(self, state: BatchState) -> dict[str, Outcome]:
        """Return the outcome of every request that the files of a batch tell of, by its key."""
        found: dict[str, Outcome] = {}
        for file in state.files:
            reply = await self._get(f"/files/{file}/content")
            if reply.status >= 400:
                self._backend.json_of(reply)
            await asyncio.to_thread(self._take_all, reply.body, found)  # it may be 100 MB
        return found

    def _take_all(self, lines: bytes, found: dict[str, Outcome]) -> None:
        for line in lines.split(b"\n"):
            if line.strip():
                self._take(line, found)

    def _take(self, line: bytes, found: dict[str, Outcome]) -> None:
        try:
            body = json.loads(line)
            key = body["custom_id"]
        except (ValueError, KeyError, TypeError):
            told = self._backend.safe(line[:100].decode("utf-8", "replace"))
            _log.warning("an answer file of %s has a line that is no answer: %r", self._backend.endpoint, told)
        else:
            found[key] = self._outcome(body)

    def _outcome(self, line: Mapping[str, Any]) -> Outcome:
        backend, answer = self._backend, line.get("response")
        if isinstance(answer, Mapping):
            status = int(answer.get("status_code") or 200)
            if status >= 400:
                return error_of(status, json.loads(backend.safe(json.dumps(answer.get("body")))), backend.model)
            try:
                return backend.layout.from_body(answer.get("body"), backend.model)
            except LMServerError as error:
                return LMServerError(backend.safe(str(error)), model=backend.model, status=status)
        refusal = line.get("error") or {}
        told = backend.safe(f"{refusal.get('code') or 'no code'}: {refusal.get('message') or 'no message'}")
        if refusal.get("code") == "batch_expired":
            return self._expired(told)
        if refusal.get("code") == "batch_cancelled":
            return self._cancelled(told)
        return LMServerError(f"`{backend.model}` did not answer a request of a batch: {told}", model=backend.model)

    def unanswered(self, state: BatchState, number: int) -> LMError:
        """Return the error of a request that the files of a finished batch do not tell of, by its line number."""
        model = self._backend.model
        if state.status == "failed":
            return self._refused(state, number)
        if state.status == "expired":
            return self._expired(f"batch {state.remote}")
        if state.status == "cancelled":
            return self._cancelled(f"batch {state.remote}")
        return LMServerError(
            f"batch {state.remote} of `{model}` is {state.status}, but has no answer for this request.", model=model
        )

    def _expired(self, told: str) -> LMTimeoutError:
        return LMTimeoutError(
            f"`{self._backend.model}` did not come to this request within its batch's window, {self._window} ({told}).",
            model=self._backend.model,
        )

    def _cancelled(self, told: str) -> LMError:
        return LMError(
            f"the batch of this request to `{self._backend.model}` was cancelled at the provider ({told}). "
            "Run again to submit it anew.",
            model=self._backend.model,
        )

    def _refused(self, state: BatchState, number: int) -> LMError:
        """Return the error of one line of a batch that was refused as a whole."""
        model = self._backend.model
        own = [p for p in state.problems if p.get("line") == number]
        shown = own or state.problems
        told = self._backend.safe("; ".join(f"{p.get('code')}: {p.get('message')}" for p in shown[:3])) or "no reason"
        text = f"batch {state.remote} of `{model}` was refused: {told}"
        if any(p.get("code") == "token_limit_exceeded" for p in state.problems):
            return LMRateLimitError(text, model=model, status=429, retry_after_s=self._wait_s)
        if not own and state.problems and all(p.get("line") for p in state.problems):
            return LMServerError(f"{text}. The fault is in other requests; this one is asked again.", model=model)
        return LMInvalidRequestError(text, model=model, status=400)

    # --- reading ---

    async def _get(self, path: str) -> Reply:
        backend = self._backend
        return await backend.transport.get(backend.base_url + path, backend.request_headers())

    def _state(self, reply: Reply) -> BatchState:
        return _state_of(self._object(reply))

    def _object(self, reply: Reply, name: str = "id") -> dict[str, Any]:
        """Return the object in a reply, which has something under `name`. Raises the typed error of a refusal."""
        body = self._backend.json_of(reply)
        if not isinstance(body, dict) or not isinstance(body.get(name), (str, list)):
            text = self._backend.safe(str(body)[:300])
            raise LMServerError(
                f"the batch API of `{self._backend.model}` answered with something that has no `{name}`: {text!r}. "
                "Does the server have a batch API?",
                model=self._backend.model,
                status=reply.status,
            )
        return body


def _state_of(body: Mapping[str, Any]) -> BatchState:
    counts = body.get("request_counts") or {}
    total, completed, failed = (int(counts.get(name) or 0) for name in ("total", "completed", "failed"))
    files = tuple(str(body[name]) for name in ("output_file_id", "error_file_id") if body.get(name))
    problems = tuple((body.get("errors") or {}).get("data") or ())
    return BatchState(str(body["id"]), str(body.get("status")), total, completed, failed, files, problems)
