"""HTTP: the one file that knows the client library, so that it can be changed.

The library is pyreqwest: a Rust client in one wheel without dependencies, with connection pools, proxies from the
environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), custom certificates and a time limit for each phase.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError, RequestTimeoutError
from pyreqwest.multipart import FormBuilder, PartBuilder
from pyreqwest.request import RequestBuilder

from tuneful.errors import LMTimeoutError, LMTransportError, UsageError

#: Bound of a time limit, in seconds.
_LONGEST_S = 366 * 24 * 3600


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

    def __post_init__(self) -> None:
        for name, value in (("timeout_s", self.total), ("connect_timeout_s", self.connect), ("read", self.read)):
            if name == "read" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _LONGEST_S:
                raise UsageError(f"`{name}` is {value!r}; expected seconds: a number above 0, and no more than a year.")


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class EventStream:
    """An HTTP answer that is still coming: read either as `events`, the data of each server-sent event, or whole."""

    status: int
    headers: Mapping[str, str]
    events: AsyncIterator[str]
    whole: Callable[[], Awaitable[bytes]]


class Transport:
    """A pool of keep-alive connections. Belongs to the event loop that first uses it.

    Cancelling a call closes its connection once the answer has begun. Before that the library does not let go of a
    request that it has sent, and the connection is closed when the time limit ends.

    Args:
        timeouts: time limits.
        ca_bundle: a PEM file of certificates to trust besides those of the system.
    """

    def __init__(self, timeouts: Timeouts | None = None, ca_bundle: str | None = None) -> None:
        self._timeouts = timeouts or Timeouts()
        self._ca_bundle = ca_bundle
        self._client: Client | None = None
        self._lost = 0

    def _opened(self) -> Client:
        if self._client is None or self._lost != _Process.lost:
            limits = self._timeouts
            builder = (
                ClientBuilder()
                .connect_timeout(timedelta(seconds=limits.connect))
                .read_timeout(timedelta(seconds=limits.read or limits.total))
                .follow_redirects(enable=False)  # a redirect could carry the key to another server
                .pool_max_idle_per_host(1024)
                .tcp_nodelay(enabled=True)
                .user_agent("tuneful")
            )
            if self._ca_bundle is not None:
                builder = builder.add_root_certificate_pem(_certificates(self._ca_bundle))
            if self._client is not None:
                _Process.left_behind.append(self._client)
            self._client, self._lost = _Process.built(builder), _Process.lost
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
            # Without the limit the client fills a buffer of 64 KiB before it hands out the first byte.
            unsent = self._opened().post(url).body_json(body).headers(dict(headers)).streamed_read_buffer_limit(0)
            request = unsent.build_streamed()
        limit = self._timeouts.read or self._timeouts.total
        with _translated(url, limit):
            async with request as response:
                reader = response.body_reader
                yield EventStream(response.status, _names(response.headers), _events(reader), lambda: _whole(reader))

    async def aclose(self) -> None:
        """Close the connections."""
        if self._lost != _Process.lost and self._client is not None:
            _Process.left_behind.append(self._client)
            self._client = None
        client, self._client = self._client, None
        if client is not None:
            await client.close()


async def _events(reader: Any) -> AsyncIterator[str]:
    """Cut a body into server-sent events and yield the data of each; one that is cut off is not yielded."""
    buffer, searched = bytearray(), 0
    while (chunk := await reader.read_chunk()) is not None:
        piece = bytes(chunk)
        halved = buffer.endswith(b"\r")
        buffer += piece
        if halved or b"\r" in piece:
            buffer = buffer.replace(b"\r\n", b"\n")
        if buffer.find(b"\n\n", max(0, searched - 3)) < 0:  # a long event is searched once, not with every chunk
            searched = len(buffer)
            continue
        *complete, buffer = buffer.split(b"\n\n")
        searched = 0
        for event in complete:
            lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines:
                yield b"\n".join(lines).decode("utf-8", "replace")
    if buffer.strip() and not buffer.startswith((b"data:", b"event:", b":")):  # no event: a body in one piece
        yield buffer.decode("utf-8", "replace")


async def _whole(reader: Any) -> bytes:
    return bytes(await reader.bytes())


def _names(headers: Any) -> dict[str, str]:
    try:
        return {str(k).lower(): str(v) for k, v in headers.items()}
    except ValueError:  # one that is not ASCII, which the library does not hand out
        return {str(k).lower(): value for k in headers if (value := _ascii(headers, k)) is not None}


def _ascii(headers: Any, name: str) -> str | None:
    try:
        return str(headers[name])
    except ValueError:
        return None


def _certificates(path: str) -> bytes:
    try:
        found = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"`ca_bundle` {path!r} cannot be read: {error.strerror}. It is a PEM file.") from error
    if b"-----BEGIN CERTIFICATE-----" not in found:  # the client would ignore it without a word
        raise UsageError(f"`ca_bundle` {path!r} holds no certificate. It is a PEM file.")
    return found


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
        raise LMTransportError(f"the connection to {url} failed: {_reason(error)}. Is the server up?") from error


def _reason(error: PyreqwestError) -> str:
    """Return what the library says, with the cause at the bottom, which alone tells what to mend."""
    causes = (getattr(error, "details", None) or {}).get("causes") or [{}]
    deepest = causes[-1].get("message") or error.message
    return error.message if deepest == error.message else f"{error.message} ({deepest})"


class _Process:
    """What the client library keeps for the whole process: threads, which a fork leaves behind.

    It can run on one thread or on several, each a runtime of its own. So the child of a process that has used the one
    can use the other. A grandchild has none left.
    """

    used = False
    lost = 0  # forks on the way to this process after which a runtime stood still
    left_behind: ClassVar[list[Client]] = []  # of the parent: to close them would wait for its threads

    @classmethod
    def built(cls, builder: ClientBuilder) -> Client:
        """Build a client on a runtime that lives."""
        if cls.lost > 1:
            raise UsageError(
                "this process is a fork of a fork, and each of them has asked models over HTTP: nothing is left to ask "
                "with. Start it by 'spawn' or 'forkserver', or ask no model before the fork. Nothing was sent."
            )
        cls.used = True
        return builder.runtime_multithreaded(enable=True).build() if cls.lost else builder.build()

    @classmethod
    def after_fork(cls) -> None:
        """Note in the child what it cannot use any more."""
        cls.lost += cls.used
        cls.used = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Process.after_fork)
