"""HTTP: the one file that knows the client library, so that it can be changed.

The library is pyreqwest: a Rust client in one wheel without dependencies, with connection pools, proxies from the
environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), custom certificates and a time limit for each phase.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError, RequestTimeoutError
from pyreqwest.multipart import FormBuilder, PartBuilder
from pyreqwest.request import RequestBuilder

from tuneful.errors import LMTimeoutError, LMTransportError, UsageError


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one exchange, in seconds.

    Args:
        total: from sending to the last byte. A streamed answer has no such limit.
        connect: opening a connection.
        read: between one piece of an answer and the next. None: as `total`.
    """

    total: float = 120.0
    connect: float = 10.0
    read: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class EventStream:
    """An HTTP answer that is still coming. `events` gives the data of each server-sent event."""

    status: int
    headers: Mapping[str, str]
    events: AsyncIterator[str]


class Transport:
    """A pool of keep-alive connections. Belongs to the event loop that first uses it.

    Args:
        timeouts: time limits.
        ca_bundle: a PEM file of certificates to trust besides those of the system.
    """

    def __init__(self, timeouts: Timeouts | None = None, ca_bundle: str | None = None) -> None:
        self._timeouts = timeouts or Timeouts()
        self._ca_bundle = ca_bundle
        self._client: Client | None = None

    def _opened(self) -> Client:
        if self._client is None:
            limits = self._timeouts
            builder = (
                ClientBuilder()
                .connect_timeout(timedelta(seconds=limits.connect))
                .read_timeout(timedelta(seconds=limits.read or limits.total))
                .pool_max_idle_per_host(1024)
                .tcp_nodelay(enabled=True)
                .user_agent("tuneful")
            )
            if self._ca_bundle is not None:
                builder = builder.add_root_certificate_pem(_certificates(self._ca_bundle))
            self._client = builder.build()
        return self._client

    async def post_json(self, url: str, body: Any, headers: Mapping[str, str]) -> Reply:
        """Send a JSON body and return the answer, whatever its status.

        Raises:
            LMTimeoutError: no answer within the limit.
            LMTransportError: the connection failed or broke. Headers are never part of the message.
            UsageError: the address is none, or a text cannot be written in UTF-8. Nothing was sent.
        """
        with _unsendable(url):
            request = self._opened().post(url).body_json(body)
        return await self._exchange(request, url, headers)

    async def post_file(
        self, url: str, file: tuple[str, bytes], form: Mapping[str, str], headers: Mapping[str, str]
    ) -> Reply:
        """Upload a file (name, content) with form fields as multipart; otherwise as `post_json`."""
        parts = FormBuilder()
        for name, value in form.items():
            parts = parts.text(name, value)
        parts = parts.part("file", PartBuilder.from_bytes(file[1]).file_name(file[0]))
        return await self._exchange(self._opened().post(url).multipart(parts), url, headers)

    async def get(self, url: str, headers: Mapping[str, str], timeout_s: float | None = None) -> Reply:
        """Fetch an address; otherwise as `post_json`."""
        with _unsendable(url):
            request = self._opened().get(url)
        return await self._exchange(request, url, headers, timeout_s)

    async def _exchange(
        self, request: RequestBuilder, url: str, headers: Mapping[str, str], timeout_s: float | None = None
    ) -> Reply:
        limit = timeout_s or self._timeouts.total
        with _unsendable(url):
            ready = request.headers(dict(headers)).timeout(timedelta(seconds=limit)).build()
        with _translated(url, limit):
            response = await ready.send()
            content = bytes(await response.bytes())
        return Reply(response.status, _names(response.headers), content)

    @asynccontextmanager
    async def stream_json(self, url: str, body: Any, headers: Mapping[str, str]) -> AsyncIterator[EventStream]:
        """Send a JSON body and hear the answer while it comes; raises as `post_json`, also while it is read.

        Leaving the block closes the connection, unless the answer was read to its end.
        """
        with _unsendable(url):
            request = self._opened().post(url).body_json(body).headers(dict(headers)).build_streamed()
        limit = self._timeouts.read or self._timeouts.total
        with _translated(url, limit):
            async with request as response:
                yield EventStream(response.status, _names(response.headers), _events(response.body_reader))

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()


async def _events(reader: Any) -> AsyncIterator[str]:
    """Cut a body into server-sent events and yield the data of each; one that is cut off is not yielded."""
    buffer = b""
    while (chunk := await reader.read_chunk()) is not None:
        buffer = (buffer + bytes(chunk)).replace(b"\r\n", b"\n")
        *whole, buffer = buffer.split(b"\n\n")
        for event in whole:
            lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines:
                yield b"\n".join(lines).decode("utf-8", "replace")
    if buffer.strip() and not buffer.startswith(b"data:"):  # no event: a body in one piece, such as an error's
        yield buffer.decode("utf-8", "replace")


def _names(headers: Any) -> dict[str, str]:
    return {str(k).lower(): str(v) for k, v in headers.items()}


def _certificates(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"`ca_bundle` {path!r} cannot be read: {error.strerror}. It is a PEM file.") from error


@contextmanager
def _unsendable(url: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UsageError(f"the request to {url!r} cannot be made: {error}. Nothing was sent.") from error


@contextmanager
def _translated(url: str, limit_s: float) -> Iterator[None]:
    try:
        yield
    except RequestTimeoutError as error:
        raise LMTimeoutError(
            f"{url} did not answer within {limit_s:g} s. Raise `timeout_s`, or lower `max_tokens`."
        ) from error
    except PyreqwestError as error:
        raise LMTransportError(f"the connection to {url} failed: {error.message}. Is the server up?") from error
