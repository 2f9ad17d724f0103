"""Connections: kept, closed when a call is cancelled, through proxies, over TLS, after a fork."""

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest

import tuneful as tf
from tuneful.backends.http.backend import HTTPBackend
from tuneful.backends.http.transport import Timeouts, Transport
from tuneful.wire.messages import user
from tuneful.wire.request import Request
from tuneful.wire.response import Response

HELLO = Request((user("Hello"),))
KEY = "sk-do-not-show-me-0123456789"
BODY = {"model": "m", "choices": [{"message": {"content": "[[ ## a ## ]]\nx"}, "finish_reason": "stop"}]}


class Raw:
    """A server of bare sockets: `answer(connection, head)` does what it likes with each request."""

    def __init__(self, answer, context=None):
        self.heads = []
        self.closed = threading.Semaphore(0)  # one for each connection that the client closed
        self.connections = 0
        self._answer = answer
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection):
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            while (head := self._read(connection)) is not None:
                self.heads.append(head)
                self._answer(connection, head)
        except (OSError, ValueError):
            pass
        finally:
            connection.close()
            self.closed.release()

    @staticmethod
    def _read(connection):
        received = b""
        while b"\r\n\r\n" not in received:
            piece = connection.recv(65536)
            if not piece:
                return None
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        length = [
            int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        ]
        while length and len(body) < length[0]:
            body += connection.recv(65536)
        return head.decode()

    def close(self):
        self._listener.close()


def answer_json(connection, head):
    body = json.dumps(BODY).encode()
    connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )


def say_nothing(connection, head):
    connection.settimeout(20)
    if connection.recv(1) == b"":
        raise ConnectionError


def begin_a_stream(connection, head):
    event = json.dumps({"choices": [{"index": 0, "delta": {"content": "piece"}}]})
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {event}\n\n".encode())
    say_nothing(connection, head)


@pytest.fixture
def raw(request):
    running = Raw(request.param)
    yield running
    running.close()


def lm_of(server, **options):
    return tf.LM("openai/m", **{"api_base": server.url, "api_key": KEY, "num_retries": 0, **options})


async def until_asked(server):
    for _ in range(5000):
        if server.heads:
            return
        await asyncio.sleep(0.002)
    raise AssertionError("no request came")


# --- a cancelled call closes its connection: at once where its answer has begun, else when its time limit ends ---

LIMIT_S = 1.0


@pytest.mark.parametrize("raw", [say_nothing], indirect=True)
async def test_cancelling_a_call_closes_its_connection(raw):
    call = asyncio.create_task(lm_of(raw, timeout_s=LIMIT_S).complete(HELLO))
    await until_asked(raw)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.to_thread(raw.closed.acquire, timeout=10)


@pytest.mark.parametrize("raw", [begin_a_stream], indirect=True)
@pytest.mark.parametrize("way", ["left", "cancelled"])
async def test_leaving_or_cancelling_a_stream_closes_its_connection(raw, way):
    heard = []

    async def hear():
        stream = lm_of(raw).stream(HELLO)
        async for part in stream:
            heard.append(part.text)
            if way == "left":
                await stream.aclose()

    call = asyncio.create_task(hear())
    while not heard:  # noqa: ASYNC110 (a list has no event)
        await asyncio.sleep(0.002)
    if way == "cancelled":
        await asyncio.sleep(0.02)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    else:
        await call
    assert heard == ["piece"]
    assert await asyncio.to_thread(raw.closed.acquire, timeout=10)


class Plain(tf.Module):
    def __init__(self):
        self.step = tf.Predict("q -> a")

    def forward(self, q):
        return self.step(q=q)


@pytest.mark.parametrize("raw", [say_nothing], indirect=True)
@pytest.mark.parametrize("program", [Plain(), tf.Predict("q -> a")], ids=["plain", "predict"])
def test_an_example_that_takes_too_long_closes_its_connections(raw, program):
    devset = [tf.Example(q=str(i)).with_inputs("q") for i in range(4)]
    with tf.context(lm=lm_of(raw, timeout_s=LIMIT_S)):
        result = tf.Evaluate(devset=devset, metric=lambda e, p: True, timeout_s=0.3, num_threads=4)(program)
    assert result.statuses == {"timeout": 4}
    for _ in range(4):
        assert raw.closed.acquire(timeout=10)


@pytest.mark.parametrize("raw", [say_nothing], indirect=True)
async def test_cancelling_a_plain_forward_in_a_thread_closes_its_connection(raw):
    with tf.context(lm=lm_of(raw, timeout_s=LIMIT_S)):
        call = asyncio.create_task(Plain().acall(q="x"))
        await until_asked(raw)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert await asyncio.to_thread(raw.closed.acquire, timeout=10)


@pytest.mark.parametrize("raw", [say_nothing], indirect=True)
def test_a_timeout_closes_the_connection(raw):
    with pytest.raises(tf.LMTimeoutError, match=r"0\.2 s"):
        lm_of(raw, timeout_s=0.2)("x")
    assert raw.closed.acquire(timeout=10)


@pytest.mark.parametrize("raw", [begin_a_stream], indirect=True)
async def test_a_stream_that_goes_silent_is_a_timeout(raw):
    with pytest.raises(tf.LMTimeoutError):
        [part async for part in lm_of(raw, timeout_s=0.2).stream(HELLO)]


# --- connections are kept ---


@pytest.mark.parametrize("raw", [answer_json], indirect=True)
def test_connections_are_used_again_by_blocking_and_asynchronous_calls_alike(raw):
    program = tf.Predict("q -> a").using(lm=lm_of(raw))
    for _ in range(5):
        program(q="x")
        asyncio.run(program.acall(q="x"))
    assert (len(raw.heads), raw.connections) == (10, 1)


def test_a_connection_that_the_server_closed_meanwhile_is_made_anew(request):
    def once(connection, head):
        answer_json(connection, head)
        raise ConnectionError  # and close

    server = Raw(once)
    request.addfinalizer(server.close)
    lm = tf.LM("openai/m", api_base=server.url)
    for _ in range(5):
        assert lm("x")
        assert server.closed.acquire(timeout=10)
        time.sleep(0.01)
    assert len(server.heads) == 5


# --- redirects ---


async def _whole(parts):
    return [part async for part in parts]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("streaming", [False, True])
async def test_a_redirect_is_not_followed_with_the_key(server, status, streaming):
    server.script = lambda body: server.reply(status, b"", {"Location": "http://elsewhere.example/v1"})
    backend = HTTPBackend("m", provider="anthropic", api_base=server.url, api_key=KEY)
    ask = _whole(backend.stream(HELLO)) if streaming else backend.complete(HELLO)
    with pytest.raises(tf.LMInvalidRequestError, match=r"redirect to http://elsewhere\.example/v1.*api_base"):
        await ask
    assert len(server.bodies) == 1
    await backend.aclose()


# --- limits and certificates that make no sense ---


@pytest.mark.parametrize(
    ("name", "value"),
    [("timeout_s", v) for v in (None, 0, -1, float("inf"), float("nan"), "5", True, 1e30)] + [("connect_timeout_s", 0)],
)
def test_a_time_limit_that_makes_no_sense_is_a_usage_error(name, value):
    with pytest.raises(tf.UsageError, match=name):
        tf.LM("openai/m", api_key=KEY, **{name: value})


@pytest.mark.parametrize(
    "content", [None, b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_ca_bundle_that_cannot_be_used_is_a_usage_error_before_anything_is_sent(server, tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(tf.UsageError):
        tf.LM("openai/m", api_base=server.url, ca_bundle=str(path))("x")
    assert server.bodies == []


# --- TLS ---


@pytest.fixture
def certificate(tmp_path):
    """A certificate that signs itself, for 127.0.0.1."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command is not installed")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        "key.pem",
        "-out",
        "ca.pem",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=30)
    if done.returncode:
        pytest.skip("the openssl command cannot make such a certificate")
    return tmp_path


def test_a_custom_certificate_is_trusted_and_no_other(certificate, request):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "ca.pem", certificate / "key.pem")
    server = Raw(answer_json, context)
    request.addfinalizer(server.close)
    base = f"https://127.0.0.1:{server.port}/v1"
    assert tf.LM("openai/m", api_base=base, ca_bundle=str(certificate / "ca.pem"))("x")
    with pytest.raises(tf.LMTransportError, match="certificate"):
        tf.LM("openai/m", api_base=base, num_retries=0)("x")
    assert len(server.heads) == 1


# --- proxies ---

ASK = """
import sys, json
import tuneful as tf
tf.configure(cache=False)
print(tf.LM("openai/m", api_base=sys.argv[1], api_key="sk-do-not-show-me-0123456789", num_retries=0)("x"))
"""


def ask_in_a_process(base, **environment):
    kept = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    command = [sys.executable, "-c", ASK, base]
    return subprocess.run(command, env={**kept, **environment}, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("raw", [answer_json], indirect=True)
def test_a_proxy_of_the_environment_is_used(raw):
    proxy = f"http://127.0.0.1:{raw.port}"
    done = ask_in_a_process("http://models.example/v1", HTTP_PROXY=proxy)
    assert "x" in done.stdout, done.stderr
    assert raw.heads[0].startswith("POST http://models.example/v1/chat/completions HTTP/1.1")


@pytest.mark.parametrize("raw", [answer_json], indirect=True)
def test_no_proxy_goes_past_it(raw):
    nowhere = "http://127.0.0.1:1"
    assert "x" in ask_in_a_process(raw.url, HTTP_PROXY=nowhere, NO_PROXY="127.0.0.1").stdout
    failed = ask_in_a_process(raw.url, HTTP_PROXY="http://someone:secret-of-the-proxy@127.0.0.1:1")
    assert "LMTransportError" in failed.stderr
    assert "secret-of-the-proxy" not in failed.stderr
    assert len(raw.heads) == 1


# --- forks ---


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_can_ask_after_a_fork_and_a_grandchild_is_told_why_it_cannot(server):
    server.script = lambda body: server.completion("fine")
    code = """
import os, sys
import tuneful as tf
tf.configure(cache=False)
lm = tf.LM("openai/m", api_base=sys.argv[1], timeout_s=10)
def ask(name):
    try:
        print(name, *lm("x"), flush=True)
    except tf.UsageError as error:
        print(name, "UsageError", "spawn" in str(error), flush=True)
def forked(work):
    pid = os.fork()
    if pid == 0:
        work()
        sys.exit()
    os.waitpid(pid, 0)
def child():
    ask("child")
    ask("child")
    forked(lambda: ask("grandchild"))
ask("parent")
forked(child)
forked(lambda: forked(lambda: ask("grandchild of a child that never asked")))
ask("parent")
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.stdout.splitlines() == [
        "parent fine",
        "child fine",
        "child fine",
        "grandchild UsageError True",
        "grandchild of a child that never asked fine",
        "parent fine",
    ]
    assert done.stderr == ""


# --- events ---


class Reader:
    def __init__(self, body, every):
        self._pieces = [body[i : i + every] for i in range(0, len(body), every)]

    async def read_chunk(self):
        return self._pieces.pop(0) if self._pieces else None


@pytest.mark.parametrize("every", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
async def test_events_are_cut_wherever_the_chunks_end(every, end):
    from tuneful.backends.http.transport import _events

    lines = [
        ": a comment",
        "",
        "event: x",
        "data: one",
        "data: more",
        "",
        "data:two 数",
        "",
        "id: 7",
        "",
        "data: [DONE]",
        "",
    ]
    body = end.join([*lines, "data: cut off"]).encode()
    assert [event async for event in _events(Reader(body, every))] == ["one\nmore", "two 数", "[DONE]"]


async def test_the_events_of_a_huge_stream_take_time_in_proportion():
    from tuneful.backends.http.transport import _events

    body = b"data: " + b"x" * 30_000_000 + b"\n\n"
    (event,) = [event async for event in _events(Reader(body, 10_000))]
    assert len(event) == 30_000_000


def test_a_transport_opens_nothing_until_it_is_used():
    assert Transport(Timeouts())._client is None


async def test_a_server_that_does_not_stream_is_heard_all_the_same(server):
    server.script = lambda body: server.completion("a", "b")
    backend = HTTPBackend("m", api_base=server.url)
    parts = [part async for part in backend.stream(HELLO)]
    assert [p.text for p in parts[:-1]] == ["a", "b"]
    assert isinstance(parts[-1], Response)
    assert [c.text for c in parts[-1].choices] == ["a", "b"]
    await backend.aclose()
