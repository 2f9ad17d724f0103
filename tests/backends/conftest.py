"""A chat-completions server on the loopback interface, answering by script."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest


@dataclass
class Reply:
    """What the server does with one request."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    cut: bool = False  # announce the whole body, send half of it and close
    every: int = 0  # send it in chunks of so many bytes

    def content(self) -> bytes:
        """Return the body as bytes; anything but bytes is JSON."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Server:
    """The server: `script` decides on the replies, `bodies` and `headers` hold what came."""

    def __init__(self) -> None:
        self.script: list[Reply] | Callable[[dict[str, Any]], Reply] = []
        self.pages: dict[str, Reply] = {}  # replies by path, also to GET; they do not count as requests
        self.asked: list[str] = []  # paths that were asked for by GET, or are pages
        self.bodies: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.connections: set[int] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    reply = Reply

    @staticmethod
    def completion(*texts: str, usage: Any = None, finish: str = "stop") -> Reply:
        """Return the reply of a model that wrote `texts`."""
        choices = [
            {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
            for i, text in enumerate(texts)
        ]
        counts = usage or {"prompt_tokens": 12, "completion_tokens": 3}
        return Reply(body={"model": "answering-model", "choices": choices, "usage": counts})

    @staticmethod
    def events(*events: Any, every: int = 7) -> Reply:
        """Return a stream of server-sent events, cut into chunks that end anywhere."""
        lines = []
        for event in events:
            kind = event.get("type") if isinstance(event, dict) else None
            name = f"event: {kind}\n" if kind else ""
            lines.append(f"{name}data: {event if isinstance(event, str) else json.dumps(event)}\n\n")
        return Reply(body="".join(lines).encode(), headers={"Content-Type": "text/event-stream"}, every=every)

    @staticmethod
    def refusal(status: int, message: str, *, headers: dict[str, str] | None = None, **details: Any) -> Reply:
        """Return the reply of a server that refuses a request."""
        return Reply(status, {"error": {"message": message, **details}}, headers or {})

    def reply_to(self, raw: bytes, headers: dict[str, str], path: str, port: int) -> Reply:
        body = json.loads(raw)
        with self._lock:
            index = len(self.bodies)
            self.bodies.append(body)
            self.raw.append(raw)
            self.headers.append(headers)
            self.paths.append(path)
            self.connections.add(port)
        return self.script(body) if callable(self.script) else self.script[index]

    def wait(self, seconds: float) -> None:
        self._closing.wait(seconds)

    def close(self) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                server.asked.append(self.path)
                self.answer(server.pages.get(self.path, Reply(404, {"error": "no such page"})))

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path in server.pages:
                    server.asked.append(self.path)
                    self.answer(server.pages[self.path])
                    return
                headers = {k.lower(): v for k, v in self.headers.items()}
                self.answer(server.reply_to(raw, headers, self.path, self.client_address[1]))

            def answer(self, reply: Reply) -> None:
                if reply.wait_s:
                    server.wait(reply.wait_s)
                    self.close_connection = True
                    return
                content = reply.content()
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                if reply.every:
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    for start in range(0, len(content), reply.every):
                        piece = content[start : start + reply.every]
                        self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                    self.wfile.write(b"0\r\n\r\n")
                    return
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if reply.cut else content)
                self.close_connection = self.close_connection or reply.cut

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, in seconds; they take no time."""
    waited: list[float] = []

    async def note(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("tuneful.backends.retried.asyncio", SimpleNamespace(sleep=note))
    return waited
