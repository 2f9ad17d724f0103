"""MCP: the tools of a Model Context Protocol server, as tools of a program."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from tuneful.errors import MissingExtraError, ToolError, UsageError
from tuneful.program.running.portal import portal
from tuneful.program.tools.tool import Tool

#: Characters that MCP allows in a name and model services do not.
_ODD = re.compile(r"[^A-Za-z0-9_-]")


class MCPTools:
    """The tools of an MCP server, while a `with` or `async with` block runs.

        with MCPTools(["python", "server.py"]) as tools:  # a command, spoken to over its input and output
            agent = tf.ReAct("question -> answer", tools=tools)
            agent(question="...")

        async with MCPTools("https://example.com/mcp", headers={"Authorization": "Bearer ..."}) as tools:
            await tf.ReAct("question -> answer", tools=tools).acall(question="...")

    The connection lives on the background loop, so that the tools work in blocking programs, in any event loop and in
    many threads at once. What a server reports as an error is an observation to an agent, and a `ToolError` where the
    tool is called directly. After the block its tools fail.

    For a session that you opened yourself, see `tool_of`.

    Args:
        server: a command as a list, an address (streamable HTTP), or whatever `mcp.Client` takes.
        env: environment of the command, on top of the few variables that it inherits (`PATH`, `HOME`, ...).
        cwd: folder in which the command runs.
        headers: headers of the requests to an address.
        prefix: put in front of each name, such as "files_", where two servers have tools of one name.
        connect_timeout_s: seconds until the tools must be there.
        timeout_s, max_result_chars: for each call, see `Tool`.

    Raises:
        MissingExtraError: the package `mcp` is not installed.
        ToolError: the server cannot be started or reached, or did not answer in time.

    Cost: no model call.
    """

    def __init__(
        self,
        server: Any,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        headers: Mapping[str, str] | None = None,
        prefix: str = "",
        connect_timeout_s: float = 30.0,
        timeout_s: float | None = 120.0,
        max_result_chars: int = 10_000,
    ) -> None:
        command = isinstance(server, Sequence) and not isinstance(server, str)
        if command and not (server and all(isinstance(part, str) for part in server)):
            raise UsageError(f"the command of an MCP server is a list of texts, got {server!r:.120}.")
        if isinstance(server, str) and not server.startswith(("http://", "https://")):
            raise UsageError(
                f"{server!r:.80} is no address of an MCP server. Give one that begins with https://, or a command as a "
                "list: ['python', 'server.py']."
            )
        if not connect_timeout_s > 0:
            raise UsageError(f"`connect_timeout_s` is {connect_timeout_s!r}; expected seconds above 0.")
        self._server = server
        self._settings: dict[str, Any] = {"env": dict(env) if env else None, "cwd": cwd}
        self._headers = dict(headers or {})
        self._prefix = prefix
        self._connect_timeout_s = connect_timeout_s
        self._limits: dict[str, Any] = {"timeout_s": timeout_s, "max_result_chars": max_result_chars}
        self._ending: asyncio.Event | None = None
        self._serving: asyncio.Task[None] | None = None

    # --- opening and closing ---

    def __enter__(self) -> list[Tool]:
        return portal.run(self._open())

    def __exit__(self, *error: object) -> None:
        portal.run(self._close())

    async def __aenter__(self) -> list[Tool]:
        return await portal.bring(self._open())

    async def __aexit__(self, *error: object) -> None:
        await portal.bring(self._close())

    async def _open(self) -> list[Tool]:
        if self._serving is not None:
            raise UsageError("these MCPTools are open already. Make another object for a second connection.")
        ready: asyncio.Future[list[Tool]] = asyncio.get_running_loop().create_future()
        self._ending = asyncio.Event()
        self._serving = asyncio.create_task(self._serve(ready, self._ending))  # what opens a session must close it
        either: set[asyncio.Future[Any]] = {ready, self._serving}
        try:
            await asyncio.wait(either, timeout=self._connect_timeout_s, return_when="FIRST_COMPLETED")
            if ready.done():
                return ready.result()
            if self._serving.done():
                await self._serving
        except Exception as error:
            self._serving = None
            if isinstance(error, UsageError):
                raise
            raise ToolError(f"the MCP server {self} cannot be used: {_reason(error)}.", tool=str(self)) from error
        except BaseException:
            await self._close()
            raise
        await self._close()
        raise ToolError(f"the MCP server {self} did not answer in {self._connect_timeout_s:g} s.", tool=str(self))

    async def _serve(self, ready: asyncio.Future[list[Tool]], ending: asyncio.Event) -> None:
        """Hold the session from its beginning to its end, in one task, as its library demands."""
        client_of = _client_type()
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(client_of(await self._transport(stack)))
            ready.set_result([tool_of(client, t, prefix=self._prefix, **self._limits) for t in await _listed(client)])
            await ending.wait()

    async def _transport(self, stack: AsyncExitStack) -> Any:
        """Return what the client speaks over."""
        if isinstance(self._server, str) and self._headers:
            from mcp.client.streamable_http import streamable_http_client
            from mcp.shared._httpx_utils import create_mcp_http_client

            http = await stack.enter_async_context(create_mcp_http_client(headers=self._headers))
            return streamable_http_client(self._server, http_client=http)
        if isinstance(self._server, Sequence) and not isinstance(self._server, str):
            from mcp import StdioServerParameters

            command, *args = self._server
            return StdioServerParameters(command=command, args=args, **self._settings)
        return self._server

    async def _close(self) -> None:
        serving, self._serving = self._serving, None
        if serving is None or self._ending is None:
            return
        if not self._ending.is_set():
            self._ending.set()
        done, _ = await asyncio.wait({serving}, timeout=self._connect_timeout_s)
        if not done:
            serving.cancel()
        elif not serving.cancelled():
            serving.exception()  # a server that has died ends its session with an error; its calls have told of it

    def __str__(self) -> str:
        command = isinstance(self._server, Sequence) and not isinstance(self._server, str)
        return f"`{' '.join(self._server) if command else self._server}`"


def tool_of(session: Any, described: Any, *, prefix: str = "", **limits: Any) -> Tool:
    """Return one tool of an MCP session that you hold yourself. It is called in the session's own event loop.

    Args:
        session: an `mcp.Client` or an `mcp.ClientSession`.
        described: one of what its `list_tools` returns.
        prefix: put in front of its name.
        limits: `timeout_s` and `max_result_chars`, see `Tool`.
    """
    loop = asyncio.get_running_loop()

    async def call(**args: Any) -> str:
        work = session.call_tool(described.name, args)
        if asyncio.get_running_loop() is loop:
            result = await work
        else:
            result = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
        text = _text_of(result)
        if result.is_error:
            raise ToolError(text or "the server reported an error without a message.", tool=described.name)
        return text

    name = _ODD.sub("_", f"{prefix}{described.name}")[:64]
    return Tool(call, name, described.description or described.title or "", parameters=described.input_schema, **limits)


async def _listed(client: Any) -> list[Any]:
    """Return all tools of a server, page by page."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if not cursor:
            return found


def _text_of(result: Any) -> str:
    """Return what a call gave as text; what is no text is named."""
    parts = [_part(content) for content in result.content]
    if parts:
        return "\n".join(parts)
    structured = result.structured_content
    if structured is None:
        return ""
    return json.dumps(structured, ensure_ascii=False)


def _part(content: Any) -> str:
    text = getattr(content, "text", None)
    if text is None:
        text = getattr(getattr(content, "resource", None), "text", None)
    return text if text is not None else f"[{content.type}: no text]"


def _client_type() -> Any:
    try:
        from mcp import Client
    except ImportError as error:
        raise MissingExtraError("mcp", "mcp", "A tool of an MCP server") from error
    return Client


def _reason(error: BaseException) -> str:
    """Return what went wrong, from inside the groups in which the library raises it."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
