"""Connections: kept, closed when a call is cancelled, through proxies, over TLS, after a fork, at the end."""

import asyncio
import base64
import gc
import gzip
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import tuneful as tf
from tuneful.backends.http.backend import HTTPBackend
from tuneful.backends.http.exchange import Timeouts
from tuneful.backends.http.transport import Transport
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
        self.bodies = []
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

    def _read(self, connection):
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
        self.bodies.append(body)
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


def begin_an_answer(connection, head):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{")
    say_nothing(connection, head)


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


# --- a cancelled call closes its connection at once, long before its time limit of two minutes ends ---


@pytest.mark.parametrize("raw", [say_nothing, begin_an_answer], indirect=True)
async def test_cancelling_a_call_closes_its_connection(raw):
    call = asyncio.create_task(lm_of(raw).complete(HELLO))
    await until_asked(raw)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.to_thread(raw.closed.acquire, timeout=10)


@pytest.mark.parametrize("raw", [say_nothing], indirect=True)
async def test_cancelling_a_stream_that_has_not_begun_closes_its_connection(raw):
    call = asyncio.create_task(_whole(lm_of(raw).stream(HELLO)))
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
    with tf.context(lm=lm_of(raw)):
        result = tf.Evaluate(devset=devset, metric=lambda e, p: True, timeout_s=0.3, num_threads=4)(program)
    assert result.statuses == {"timeout": 4}
    for _ in range(4):
        assert raw.closed.acquire(timeout=10)


@pytest.mark.parametrize("raw", [say_nothing], indirect=True)
async def test_cancelling_a_plain_forward_in_a_thread_closes_its_connection(raw):
    with tf.context(lm=lm_of(raw)):
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


@pytest.mark.parametrize("raw", [say_nothing], indirect=True)
@pytest.mark.parametrize("streaming", [False, True])
async def test_a_connection_that_does_not_come_about_has_a_limit_of_its_own(raw, streaming):
    backend = HTTPBackend("m", api_base=raw.url.replace("http:", "https:"), connect_timeout_s=0.2)
    with pytest.raises(tf.LMTimeoutError, match=r"no connection to https://.* within 0\.2 s"):
        await (_whole(backend.stream(HELLO)) if streaming else backend.complete(HELLO))


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


# --- event loops ---


@pytest.mark.parametrize("raw", [answer_json], indirect=True)
def test_two_loops_at_once_share_a_backend(raw):
    backend, both = HTTPBackend("m", api_base=raw.url), threading.Barrier(2)

    async def ask_often():
        texts = [(await backend.complete(HELLO)).text]
        await asyncio.to_thread(both.wait, 10)  # both loops have connections now
        return texts + [(await backend.complete(HELLO)).text for _ in range(5)]

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: asyncio.run(ask_often()), range(2)))
    assert [len(texts) for texts in found] == [6, 6]
    assert raw.connections == 2
    assert raw.closed.acquire(timeout=10)
    assert raw.closed.acquire(timeout=10)


@pytest.mark.parametrize("raw", [answer_json], indirect=True)
@pytest.mark.parametrize("cyclic", [False, True])
def test_an_lm_that_nobody_has_any_more_closes_its_connections(raw, cyclic):
    lm = lm_of(raw)
    if cyclic:
        lm.itself = [lm]
    lm("x")
    del lm
    gc.collect()
    assert raw.closed.acquire(timeout=10)


async def _ask(backend):
    return (await backend.complete(HELLO)).text


@pytest.mark.parametrize("raw", [answer_json], indirect=True)
async def test_a_closed_backend_can_be_used_again(raw):
    backend = HTTPBackend("m", api_base=raw.url)
    await backend.aclose()
    for _ in range(2):
        assert await _ask(backend)
        await backend.aclose()
        assert await asyncio.to_thread(raw.closed.acquire, timeout=10)


ENDINGS = {
    "blocking": 'lm("x")',
    "several": """
import concurrent.futures
with concurrent.futures.ThreadPoolExecutor(8) as threads:
    list(threads.map(lm, "xxxxxxxx"))
""",
    "a loop of its own": "asyncio.run(HTTPBackend('m', api_base=sys.argv[1]).complete(HELLO))",
    "a loop that nobody ends": """
loop, backend = asyncio.new_event_loop(), HTTPBackend('m', api_base=sys.argv[1])
loop.run_until_complete(backend.complete(HELLO))
loop.close()
asyncio.run(backend.complete(HELLO))
""",
    "a stream that is left": """
async def leave():
    async for part in HTTPBackend('m', api_base=sys.argv[1]).stream(HELLO):
        return part
print(asyncio.run(leave()).text)
""",
    "a call that is not over": """
import threading
def wait():
    try:
        lm("wait")
    except asyncio.CancelledError:
        pass
threading.Thread(target=wait, daemon=True).start()
lm("x")
""",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_ends_without_a_word_about_connections(server, ending):
    # Where a loop is left as no loop should be, asyncio has a warning of its own.
    options = [] if ending == "a loop that nobody ends" else ["-W", "always::ResourceWarning"]

    def script(body):
        return server.reply(wait_s=20) if body["messages"][0]["content"] == "wait" else server.completion("fine")

    server.script = script
    code = f"""
import asyncio, sys
import tuneful as tf
from tuneful.backends.http.backend import HTTPBackend
from tuneful.wire.messages import user
from tuneful.wire.request import Request
HELLO = Request((user("Hello"),))
tf.configure(cache=False)
lm = tf.LM("openai/m", api_base=sys.argv[1], api_key="x")
{ENDINGS[ending]}
"""
    command = [sys.executable, *options, "-c", code, server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# --- what is sent and what comes back ---


async def test_a_large_body_is_sent_whole(server):
    server.script = lambda body: server.completion(str(len(body["messages"][0]["content"])))
    backend = HTTPBackend("m", api_base=server.url)
    for size in (2**20 - 100, 2**20 + 100, 8_000_000):
        response = await backend.complete(Request((user("数" * size),)))
        assert response.text == str(size)
    await backend.aclose()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1, 2}])
async def test_what_json_cannot_say_is_a_usage_error_before_anything_is_sent(server, value):
    transport = Transport()
    with pytest.raises(tf.UsageError, match=r"JSON.*Nothing was sent"):
        await transport.post_json(server.url, {"x": value}, {})
    assert server.bodies == []


@pytest.mark.parametrize("name", ["X-Long", "Content-Security-Policy"])
async def test_packed_answers_and_long_headers_are_read(server, name):
    packed = gzip.compress(json.dumps(BODY).encode())
    server.script = lambda body: server.reply(200, packed, {"Content-Encoding": "gzip", name: "x" * 30_000})
    backend = HTTPBackend("m", api_base=server.url)
    assert (await backend.complete(HELLO)).text.endswith("x")
    assert "gzip" in server.headers[0]["accept-encoding"]
    assert server.headers[0]["user-agent"] == "tuneful"
    await backend.aclose()


def speak_nonsense(connection, head):
    connection.sendall(b"220 mail.example ESMTP " + head.encode().replace(b"\r\n", b" ") + b"\r\n\r\n")
    raise ConnectionError


def break_off(connection, head):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{")
    raise ConnectionError


def break_a_chunk(connection, head):
    connection.sendall(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{"a"\r\nno number\r\n')
    say_nothing(connection, head)


def hang_up(connection, head):
    raise ConnectionError


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (speak_nonsense, "not HTTP"),
        (hang_up, "without an answer"),
        (break_off, "within the answer"),
        (break_a_chunk, "within the answer|not HTTP"),
    ],
    indirect=["raw"],
)
@pytest.mark.parametrize("streaming", [False, True])
async def test_a_server_that_does_not_answer_properly_is_a_transport_error_without_the_key(raw, said, streaming):
    backend = HTTPBackend("m", api_base=raw.url, api_key=KEY)
    with pytest.raises(tf.LMTransportError, match=said) as caught:
        await (_whole(backend.stream(HELLO)) if streaming else backend.complete(HELLO))
    error = caught.value
    assert KEY not in "".join(repr((e, e.args, vars(e))) for e in (error, error.__cause__, error.__context__) if e)


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


async def test_a_server_without_tls_is_a_transport_error_that_says_so(server):
    with pytest.raises(tf.LMTransportError, match="no TLS"):
        await Transport().get(server.url.replace("http:", "https:"), {})


# --- proxies ---

ASK = """
import os, sys
import tuneful as tf
tf.configure(cache=False)
print(tf.LM("openai/m", api_base=sys.argv[1], api_key=os.environ["KEY"] or None, num_retries=0)("x"))
"""


def ask_in_a_process(base, **environment):
    kept = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and k != "OPENAI_API_KEY"} | {"KEY": KEY}
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


@pytest.mark.parametrize("raw", [answer_json], indirect=True)
def test_a_login_for_the_proxy_goes_to_the_proxy(raw):
    proxy = f"http://some%40one:pass%20word@127.0.0.1:{raw.port}"
    done = ask_in_a_process("http://models.example/v1", HTTP_PROXY=proxy)
    assert "x" in done.stdout, done.stderr
    login = base64.b64encode(b"some@one:pass word").decode()
    assert f"Proxy-Authorization: Basic {login}\r\n" in raw.heads[0]
    assert f"Authorization: Bearer {KEY}\r\n" in raw.heads[0]


def refuse_a_tunnel(connection, head):
    connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("raw", [refuse_a_tunnel], indirect=True)
def test_a_proxy_sees_no_key_of_what_is_sent_through_a_tunnel(raw):
    proxy = f"http://someone:secret-of-the-proxy@127.0.0.1:{raw.port}"
    done = ask_in_a_process("https://models.example/v1", HTTPS_PROXY=proxy)
    assert raw.heads[0].startswith("CONNECT models.example:443 ")
    assert "Proxy-Authorization: Basic " in raw.heads[0]
    assert KEY not in raw.heads[0]
    assert "the proxy that the environment sets answered with status 407" in done.stderr
    assert "secret-of-the-proxy" not in done.stderr


@pytest.mark.parametrize("raw", [answer_json], indirect=True)
@pytest.mark.parametrize("key", [KEY, ""])
def test_the_logins_of_netrc_are_sent_nowhere(raw, tmp_path, key):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password secret-of-netrc\ndefault login a password b\n")
    done = ask_in_a_process(raw.url, NETRC=str(netrc), HOME=str(tmp_path), KEY=key)
    assert "x" in done.stdout, done.stderr
    sent = [line for line in raw.heads[0].split("\r\n") if line.lower().startswith("authorization")]
    assert sent == ([f"Authorization: Bearer {KEY}"] if key else [])


# --- forks ---


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_every_process_of_a_family_can_ask(server):
    server.script = lambda body: server.completion("fine")
    code = """
import os, sys
import tuneful as tf
tf.configure(cache=False)
lm = tf.LM("openai/m", api_base=sys.argv[1], timeout_s=10)
def ask(name):
    print(name, *lm("x"), flush=True)
def forked(work):
    pid = os.fork()
    if pid == 0:
        work()
        sys.exit()
    print(os.waitpid(pid, 0)[1], flush=True)
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
        "grandchild fine",
        "0",
        "0",
        "grandchild of a child that never asked fine",
        "0",
        "0",
        "parent fine",
    ]
    assert done.stderr == ""
    assert len(server.connections) == 4  # the parent's outlives its children


# --- events ---


def reader(body, every):
    pieces = [body[i : i + every] for i in range(0, len(body), every)]

    async def read():
        return pieces.pop(0) if pieces else b""

    return read


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
    assert [event async for event in _events(reader(body, every))] == ["one\nmore", "two 数", "[DONE]"]


async def test_the_events_of_a_huge_stream_take_time_in_proportion():
    from tuneful.backends.http.transport import _events

    body = b"data: " + b"x" * 30_000_000 + b"\n\n"
    (event,) = [event async for event in _events(reader(body, 10_000))]
    assert len(event) == 30_000_000


def test_a_transport_opens_nothing_until_it_is_used():
    assert Transport(Timeouts())._pools == {}


async def test_a_server_that_does_not_stream_is_heard_all_the_same(server):
    server.script = lambda body: server.completion("a", "b")
    backend = HTTPBackend("m", api_base=server.url)
    parts = [part async for part in backend.stream(HELLO)]
    assert [p.text for p in parts[:-1]] == ["a", "b"]
    assert isinstance(parts[-1], Response)
    assert [c.text for c in parts[-1].choices] == ["a", "b"]
    await backend.aclose()
