"""A model server for benchmarks: chat completions on the loopback interface, each after a set wait.

    python bench/server.py            # prints how many requests a second it can answer at most
    python bench/server.py --serve 50 # serves with a wait of 50 ms and prints its port; ends with its standard input

One process, one thread, no dependency: a protocol on asyncio that reads just enough of HTTP/1.1 (keep-alive, bodies
with a length). Every answer is the same text, in the layout that both frameworks read. GET /count tells how many
completions were asked for, GET /last the body of the last one.
"""

import asyncio
import json
import re
import sys
import threading
import time
from collections import deque

from measure import Server, dispatch, emit, run_case

_REASONING = (
    "The question names one parcel and asks where it is now. The record shows that it left the depot in the morning, "
    "was scanned twice on the road, and was handed to the courier of the last stage a little after noon. Nothing was "
    "scanned since, which is usual: couriers scan at the door. A parcel at this stage arrives on the same day in "
    "nineteen cases of twenty, and no delay is announced for the district in question. So the honest answer is that it "
    "is on the van, and when it is due, with the one thing that the customer can do if nobody is at home."
)
_ANSWER = (
    "Your parcel is on the courier's van since 12:40 and is due today before 18:00. If nobody is at home, it goes to "
    "the shop at the corner, where it is kept for seven days; a card in your letter box will say so. You can change "
    "the place until the van is two stops away, under the link in our last message."
)
#: What the model says: about 900 bytes.
CONTENT = f"[[ ## reasoning ## ]]\n{_REASONING}\n\n[[ ## answer ## ]]\n{_ANSWER}\n\n[[ ## completed ## ]]"

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)


def completion():
    """Return the body of a chat completion."""
    return json.dumps(
        {
            "id": "chatcmpl-0123456789abcdef",
            "object": "chat.completion",
            "created": 1760000000,
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": CONTENT, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 184, "completion_tokens": 203, "total_tokens": 387},
        }
    ).encode()


def http(body, status="200 OK"):
    """Return an HTTP answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Model:
    """What the connections share. One timer serves all waits: they are equal, so answers leave in order."""

    def __init__(self, wait_s):
        self.wait_s = wait_s
        self.count = 0
        self.last = b"null"
        self._answer = http(completion())
        self._due = deque()

    def complete(self, transport, body):
        self.count += 1
        self.last = body
        if not self.wait_s:
            transport.write(self._answer)
            return
        loop = asyncio.get_running_loop()
        if not self._due:
            loop.call_later(self.wait_s, self._drain)
        self._due.append((loop.time() + self.wait_s, transport))

    def _drain(self):
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._due and self._due[0][0] <= now:
            self._due.popleft()[1].write(self._answer)
        if self._due:
            loop.call_at(self._due[0][0], self._drain)


class Connection(asyncio.Protocol):
    def __init__(self, model):
        self._model = model
        self._buffer = b""

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._buffer, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            method, path, _ = self._buffer.split(b" ", 2)
            self._answer(method, path, self._buffer[end + 4 : whole])
            self._buffer = self._buffer[whole:]

    def _answer(self, method, path, body):
        match method, path:
            case b"POST", _ if path.endswith(b"/chat/completions"):
                self._model.complete(self._transport, body)
            case b"GET", b"/count":
                self._transport.write(http(b"%d" % self._model.count))
            case b"GET", b"/last":
                self._transport.write(http(self._model.last))
            case _:
                self._transport.write(http(b'{"error": {"message": "no such address"}}', "404 Not Found"))


async def serve(wait_s):
    model = Model(wait_s)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(model), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    closed = asyncio.Event()

    def wait_for_the_end():
        sys.stdin.read()  # whoever started the server holds the other end, and is gone when this returns
        loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    await closed.wait()


class Hammer(asyncio.Protocol):
    """A connection that asks again as soon as it has its answer, and looks at nothing but the length."""

    def __init__(self, request, answer_bytes, left, done):
        self._request, self._answer_bytes, self._left, self._done = request, answer_bytes, left, done
        self._got = 0

    def connection_made(self, transport):
        self._transport = transport
        self._ask()

    def _ask(self):
        if self._left[0] > 0:
            self._left[0] -= 1
            self._transport.write(self._request)
        else:
            self._transport.close()
            self._done.release()

    def data_received(self, data):
        self._got += len(data)
        if self._got >= self._answer_bytes:
            self._got -= self._answer_bytes
            self._ask()


async def hammer(port, calls, connections):
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 900}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    left, done = [calls], asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(
            lambda: Hammer(head + body, len(http(completion())), left, done), "127.0.0.1", port
        )
    for _ in range(connections):
        await done.acquire()
    return calls / (time.perf_counter() - begun)


def ceiling(port, calls=20_000, connections=256):
    """Measure from a client that does next to nothing; the loop it runs on is the slower half."""
    emit({"calls_per_s": asyncio.run(hammer(port, calls, connections))})


def main():
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(float(sys.argv[2]) / 1000))
        return
    print("requests a second that the server answers, 256 connections, client of raw sockets in another process")
    for wait_ms in (0, 50):
        with Server(wait_ms) as server:
            found = run_case(__file__, "ceiling", {"port": server.port})
            count = server.count()
        note = "" if not wait_ms else f"   (256 in flight cannot give more than {256 / wait_ms * 1000:,.0f})"
        print(f"wait {wait_ms:3} ms: {found['calls_per_s']:8,.0f} a second, {count:,} counted{note}")


if __name__ == "__main__":
    dispatch({"ceiling": ceiling}, main)
