"""HTTP: the one file that knows the client library, so that it can be changed.

The library is pyreqwest: a Rust client in one wheel without dependencies, with connection pools, proxies from the
environment and per-phase time limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError, RequestTimeoutError

from tuneful.errors import LMTimeoutError, LMTransportError, UsageError


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """A pool of keep-alive connections. Belongs to the event loop that first uses it.

    Args:
        timeout_s: seconds for the whole exchange.
        connect_timeout_s: seconds to open a connection.
    """

    def __init__(self, *, timeout_s: float, connect_timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._client: Client | None = None

    def _opened(self) -> Client:
        if self._client is None:
            self._client = (
                ClientBuilder()
                .timeout(timedelta(seconds=self._timeout_s))
                .connect_timeout(timedelta(seconds=self._connect_timeout_s))
                .user_agent("tuneful")
                .build()
            )
        return self._client

    async def post_json(self, url: str, body: Any, headers: Mapping[str, str]) -> Reply:
        """Send a JSON body and return the answer, whatever its status.

        Raises:
            LMTimeoutError: no answer within the limit.
            LMTransportError: the connection failed or broke. Headers are never part of the message.
            UsageError: the address is none, or a text cannot be written in UTF-8. Nothing was sent.
        """
        try:
            request = self._opened().post(url).headers(dict(headers)).body_json(body).build()
        except ValueError as error:
            raise UsageError(f"the request to {url!r} cannot be made: {error}. Nothing was sent.") from error
        try:
            response = await request.send()
            content = bytes(await response.bytes())
        except RequestTimeoutError as error:
            raise LMTimeoutError(
                f"{url} did not answer within {self._timeout_s:g} s. Raise `timeout_s`, or lower `max_tokens`."
            ) from error
        except PyreqwestError as error:
            raise LMTransportError(f"the connection to {url} failed: {error.message}. Is the server up?") from error
        names = {str(k).lower(): str(v) for k, v in response.headers.items()}
        return Reply(response.status, names, content)

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
