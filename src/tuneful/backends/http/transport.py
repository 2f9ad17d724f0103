"""HTTP: the one file that knows the client library, so that it can be changed. It is loaded at the first request.

The library is aiohttp, because a call that is cancelled must end at the server too: the connection is closed at once,
and the model stops. pyreqwest, a Rust client in one wheel, is 5 % faster bare (3,893 against 3,742 calls a second, with
0.089 against 0.144 ms of processor time each). But it lets go of a cancelled request only when its time limit ends,
can abort the interpreter that exits right after an answer, and cannot be used after a fork.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import ssl
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, ClassVar, Final, NamedTuple, TypeVar, cast
from weakref import finalize

import aiohttp
from yarl import URL

from tuneful.backends.http.exchange import EventStream, Reply, Timeouts
from tuneful.backends.http.proxies import proxy_for
from tuneful.errors import LMError, LMTimeoutError, LMTransportError, UsageError

T = TypeVar("T")

#: Seconds for which an idle connection is kept: less than the 60 after which load balancers drop one without a word.
_KEPT_S = 55
#: Bytes of one line of a head. Gateways write long ones.
_LONGEST_LINE = 2**16
#: Bytes above which the library wants a body as a file, which it sends piece by piece.
_LARGE: Final = 2**20
#: What the library raises for an exchange that fails. ValueError: for what it cannot send.
_FAILURES = (aiohttp.ClientError, OSError, ValueError)

_as_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Transport:
    """Pools of keep-alive connections, one for each event loop that uses it; a pool is closed when its loop ends.

    Cancelling a call, or leaving a stream before its end, closes its connection.

    Args:
        timeouts: time limits.
        ca_bundle: a PEM file of certificates to trust besides those of the system.
    """

    def __init__(self, timeouts: Timeouts | None = None, ca_bundle: str | None = None) -> None:
        limits = timeouts or Timeouts()
        self._whole = aiohttp.ClientTimeout(limits.total, connect=limits.connect, sock_read=limits.read)
        self._streamed = aiohttp.ClientTimeout(connect=limits.connect, sock_read=limits.read or limits.total)
        self._ca_bundle = ca_bundle
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}

    def _pool(self) -> _Pool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None or pool.session.closed:
            for other, idle in list(self._pools.items()):
                if idle.session.closed:
                    self._pools.pop(other, None)
            pool = self._pools[loop] = _Pool(_trusted(self._ca_bundle))
        return pool

    async def post_json(self, url: str, body: Any, headers: Mapping[str, str]) -> Reply:
        """Send a JSON body and return the answer, whatever its status.

        Raises:
            LMTimeoutError: no answer within the limit.
            LMTransportError: the connection failed or broke. Headers are never part of the message.
            UsageError: the address is none, or the body cannot be written as JSON in UTF-8. Nothing was sent.
        """
        return await self._exchange("POST", url, headers, self._whole, _json_payload(url, body))

    async def post_file(
        self, url: str, file: tuple[str, bytes], form: Mapping[str, str], headers: Mapping[str, str]
    ) -> Reply:
        """Upload a file (name, content) with form fields as multipart; otherwise as `post_json`."""
        parts = aiohttp.FormData(dict(form))
        parts.add_field("file", io.BytesIO(file[1]), filename=file[0], content_type="application/octet-stream")
        return await self._exchange("POST", url, headers, self._whole, parts)

    async def get(self, url: str, headers: Mapping[str, str], timeout_s: float | None = None) -> Reply:
        """Fetch an address; otherwise as `post_json`."""
        limits = self._whole
        if timeout_s is not None:
            limits = aiohttp.ClientTimeout(timeout_s, connect=limits.connect)
        return await self._exchange("GET", url, headers, limits)

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], limits: aiohttp.ClientTimeout, data: Any = None
    ) -> Reply:
        request = self._pool().request(method, url, headers, limits, data)
        try:
            response = await request
            return Reply(response.status, response.headers, await response.read())
        except _FAILURES as error:
            failure = _typed(error, url, limits)
        raise failure  # out here, so that the library's error, which may hold the headers, is not its context

    @asynccontextmanager
    async def stream_json(self, url: str, body: Any, headers: Mapping[str, str]) -> AsyncIterator[EventStream]:
        """Send a JSON body and hear the answer while it comes; raises as `post_json`, also while it is read.

        Leaving the block closes the connection, unless the answer was read to its end.
        """
        request = self._pool().request("POST", url, headers, self._streamed, _json_payload(url, body))

        async def typed(read: Awaitable[T]) -> T:
            try:
                return await read
            except _FAILURES as error:
                failure = _typed(error, url, self._streamed)
            raise failure

        response = await typed(request)
        try:
            async with aclosing(_events(lambda: typed(response.content.readany()))) as events:
                yield EventStream(response.status, response.headers, events, lambda: typed(response.read()))
        finally:
            response.close()  # of an answer that was read to its end the connection is no longer its own

    async def aclose(self) -> None:
        """Close the connections."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        self._pools.clear()  # those of other loops close there
        if pool is not None:
            await pool.ending.aclose()


# --- connections ---


class _Route(NamedTuple):
    """How an address is reached."""

    url: URL
    proxy: URL | None = None
    headers: dict[str, str] | None = None  # for a proxy that sees the request
    proxy_headers: dict[str, str] | None = None  # for one that only sees that there is a tunnel to be made


class _Pool:
    """The connections of one event loop."""

    def __init__(self, trusted: ssl.SSLContext | bool) -> None:
        self.session = aiohttp.ClientSession(
            connector=_Connector(limit=0, keepalive_timeout=_KEPT_S, ssl=trusted),
            headers={"User-Agent": "tuneful"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # it would mix the logins of ~/.netrc with our keys
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
        )
        self.ending = _Ending(self.session)
        finalize(self, self.ending.soon).atexit = False
        self._routes: dict[str, _Route] = {}

    def request(
        self, method: str, url: str, headers: Mapping[str, str], limits: aiohttp.ClientTimeout, data: Any
    ) -> Awaitable[aiohttp.ClientResponse]:
        """Return a request that waits to be sent. Redirects are not followed: one could carry the key elsewhere."""
        route = self._routes.get(url) or self._routed(url)
        return self.session.request(
            method,
            route.url,
            data=data,
            headers={**headers, **route.headers} if route.headers else headers,
            timeout=limits,
            proxy=route.proxy,
            proxy_headers=route.proxy_headers,
            allow_redirects=False,
        )

    def _routed(self, url: str) -> _Route:
        if len(self._routes) >= 1000:
            self._routes.clear()
        try:
            target = URL(url)
        except ValueError as error:
            raise _unsendable(url, str(error)) from error
        proxy = proxy_for(target.scheme, target.host or "", target.port)
        if proxy is None:
            route = _Route(target)
        else:
            login = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else None
            tunnel = target.scheme == "https"
            route = _Route(target, URL(proxy.url), None if tunnel else login, login if tunnel else None)
        self._routes[url] = route
        return route


class _Connector(aiohttp.TCPConnector):
    """Connections that count as closed where they cannot be used: their loop was closed, or this process is a fork.

    A fork shares them with its parent, so they are left alone there. And nothing is said of them at the end.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._home = (os.getpid(), asyncio.get_running_loop())

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent."""
        process, loop = self._home
        return super().closed or process != os.getpid() or loop.is_closed()

    def __del__(self, _warnings: Any = None) -> None:
        """Say nothing of what nobody can close any more."""


class _Ending:
    """Closes a session, once: when its event loop ends, or when nobody has its pool any more."""

    _awaited: ClassVar[set[_Ending]] = set()  # a session must not be collected before it is closed

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session, self._loop = session, asyncio.get_running_loop()
        self._closing: asyncio.Task[None] | None = None
        for other in [e for e in tuple(self._awaited) if e._session.closed]:
            self._awaited.discard(other)
        self._awaited.add(self)
        if (hook := sys.get_asyncgen_hooks().firstiter) is not None:
            hook(cast("Any", self))  # loops close the generators that are open at their end; this takes the same way

    def soon(self) -> None:
        """Close it, from whichever thread, when its loop comes to it."""
        if not self._session.closed:
            with suppress(RuntimeError):  # the loop was closed just now
                self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._closing is None and not self._session.closed:
            self._closing = self._loop.create_task(self._session.close())
            self._closing.add_done_callback(self._ended)

    def _ended(self, _: asyncio.Task[None]) -> None:
        if self._session.closed:
            self._awaited.discard(self)
        else:
            self._closing = None  # cancelled before it began: the loop ends, and comes to `aclose` next

    async def aclose(self) -> None:
        """Close it and wait for the end."""
        self._begin()
        if self._closing is not None:
            await asyncio.wait([self._closing])


def _trusted(ca_bundle: str | None) -> ssl.SSLContext | bool:
    """Return what certificates are trusted. True: those of the system."""
    if ca_bundle is None:
        return True
    trusted = ssl.create_default_context()
    trusted.set_alpn_protocols(["http/1.1"])
    try:
        trusted.load_verify_locations(ca_bundle)
    except ssl.SSLError as error:
        raise UsageError(f"`ca_bundle` {ca_bundle!r} holds no certificate. It is a PEM file.") from error
    except OSError as error:
        raise UsageError(f"`ca_bundle` {ca_bundle!r} cannot be read: {error.strerror}. It is a PEM file.") from error
    return trusted


# --- what is sent and read ---


def _json_payload(url: str, body: Any) -> aiohttp.Payload:
    try:
        content = _as_json(body).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise _unsendable(url, f"its body is no JSON ({error})") from error
    if len(content) > _LARGE:
        return aiohttp.BytesIOPayload(io.BytesIO(content), content_type="application/json")
    return aiohttp.BytesPayload(content, content_type="application/json")


async def _events(read: Callable[[], Awaitable[bytes]]) -> AsyncGenerator[str, None]:
    """Cut a body into server-sent events and yield the data of each; one that is cut off is not yielded."""
    buffer, searched = bytearray(), 0
    while piece := await read():
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


# --- what fails ---


def _unsendable(url: str, reason: str) -> UsageError:
    return UsageError(f"the request to {url!r} cannot be made: {reason}. Nothing was sent.")


def _typed(error: Exception, url: str, limits: aiohttp.ClientTimeout) -> LMError | UsageError:
    """Return the error to raise. Of the library's own, only what the system said is quoted: the rest has headers."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return LMTimeoutError(f"no connection to {url} within {limits.connect:g} s. Is the server up?")
    if isinstance(error, TimeoutError):
        limit_s = limits.total or limits.sock_read
        return LMTimeoutError(f"{url} did not answer within {limit_s:g} s. Raise `timeout_s`, or lower `max_tokens`.")
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = _cause(error)
        failure = LMTransportError(f"the connection to {url} failed: {_refused(error, cause)}")
        failure.__cause__ = cause
        return failure
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return _unsendable(url, "it is no address of a web server, such as https://models.example/v1")
    if isinstance(error, ValueError):
        return _unsendable(url, "one of its headers has a character that no header can have")
    return LMTransportError(f"the connection to {url} failed: {_broken(error)}. Is the server up?")


def _cause(error: aiohttp.ClientConnectorError) -> Exception:
    """Return what the system said."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return error.certificate_error
    return error.os_error


def _refused(error: aiohttp.ClientConnectorError, cause: Exception) -> str:
    """Return why there is no connection."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({cause.verify_message}). Name the file of the authority that signed it: "
            "ca_bundle=..., or the environment variable SSL_CERT_FILE."
        )
    if isinstance(cause, ssl.SSLError):
        return f"no TLS with it ({str(cause.reason or 'unknown').replace('_', ' ').lower()}). Is it https:// there?"
    said = str(cause.strerror) if isinstance(cause, socket.gaierror) else _named(cause)
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"the proxy {error.host}:{error.port} that the environment sets cannot be reached ({said})."
    return f"{said}. Is the server up?"


def _broken(error: Exception) -> str:
    """Return how an exchange ended."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy that the environment sets answered with status {error.status}"
    if isinstance(error, aiohttp.ClientResponseError):
        return "what came back is not HTTP"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "it broke off within the answer, or the answer cannot be unpacked"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed it without an answer"
    return _named(error)


def _named(error: BaseException) -> str:
    """Return the system's name of an error, without the addresses that a message of the library goes on with."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) else type(error).__name__
