"""The layout protocol: how one family of HTTP services writes requests and answers. Pure both ways."""

from __future__ import annotations

import json
from typing import Any, Protocol

from tuneful.backends.models import ModelFacts
from tuneful.wire.messages import ToolCall
from tuneful.wire.request import Request
from tuneful.wire.response import Delta, Response


class StreamReader(Protocol):
    """Folds the events of a streamed answer: deltas while they come, the response at the end."""

    def feed(self, event: dict[str, Any]) -> list[Delta]:
        """Take one event (the JSON of one `data:` line) and return what it adds. Raises LMError for an error event."""

    def finish(self) -> Response:
        """Return the whole response. Raises LMTransportError if the stream ended before the answer did."""


class Layout(Protocol):
    """One service's way of writing things."""

    def path(self, model: str, *, streaming: bool) -> str:
        """Return the path of the request below the base address, with a query where the service wants one."""

    def to_body(self, request: Request, model: str, facts: ModelFacts) -> dict[str, Any]:
        """Return the JSON body of a request.

        Raises LMInvalidRequestError for what the service cannot express (a medium, a constraint). Nothing was sent.
        """

    def left_out(self, request: Request, body: dict[str, Any]) -> tuple[str, ...]:
        """Return what the body of a request does not ask for though the request does: not allowed at this point."""

    def streamed(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body that asks for the same answer as a stream of events."""

    def from_body(self, body: Any, model: str) -> Response:
        """Return the response in a body. Raises LMServerError if there is none in it."""

    def reader(self, model: str) -> StreamReader:
        """Return a new reader of one streamed answer."""


def add_extra(body: dict[str, Any], request: Request) -> None:
    """Put a request's further settings into a body; an object is merged into the one that is there."""
    for name, text in request.extra:
        value, present = json.loads(text), body.get(name)
        merge = isinstance(value, dict) and isinstance(present, dict)
        body[name] = {**present, **value} if merge else value  # type: ignore[dict-item]  # both are objects here


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """Return the arguments of a call as an object, for services that take nothing else.

    A model wrote them: what is no JSON object stands as text under "arguments".
    """
    try:
        value = json.loads(call.arguments)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"arguments": call.arguments}
