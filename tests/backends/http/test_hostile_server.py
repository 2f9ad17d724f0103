"""Servers that do everything wrong: nothing is counted as 0, nothing is paid twice, everything is a typed error."""

import json
import threading
from collections import Counter
from types import SimpleNamespace

import pytest

import tuneful as tf
from tuneful.backends.http.backend import HTTPBackend
from tuneful.wire.messages import user
from tuneful.wire.request import Request
from tuneful.wire.response import Response

HELLO = Request((user("Hello"),))


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr("tuneful.backends.retried.random", SimpleNamespace(uniform=lambda low, high: 0.02))


def ill_behaved(server):
    """Return everything that a server may do in place of an answer, by name. Each may pass."""
    return {
        "429": server.refusal(429, "slow down"),
        "429 with a wait": server.refusal(429, "slow down", headers={"retry-after-ms": "20"}),
        "429 with a wait in seconds": server.refusal(429, "slow down", headers={"Retry-After": "0"}),
        "429 with nonsense": server.refusal(429, "slow down", headers={"retry-after-ms": "soon"}),
        "500": server.refusal(500, "out of order"),
        "503 page": server.reply(503, b"<html>\n\nBad gateway</html>", {"Content-Type": "text/html"}),
        "hangs": server.reply(wait_s=1.0),
        "cut": server.reply(200, b'{"choices": [' + b" " * 5000, cut=True),
        "malformed": server.reply(200, b'{"choices": [{"message": {"content": "[[ ## ans'),
        "page": server.reply(200, b"<html>Sign in</html>", {"Content-Type": "text/html"}),
        "empty": server.reply(200, b""),
        "deep": server.reply(200, b"[" * 100_000),
        "huge": server.reply(200, b'{"choices": "' + b"x" * 3_000_000 + b'"}'),
        "wrong type": server.reply(200, b"\x89PNG\r\n\x1a\n\x00", {"Content-Type": "image/png"}),
        "no choices": server.reply(200, {"choices": []}),
        "null choices": server.reply(200, {"choices": None}),
        "odd choices": server.reply(200, {"choices": [7, None]}),
        "infinite usage": server.reply(
            200, b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 1e999}}'
        ),
        "an error as an answer": server.reply(200, {"error": {"message": "overloaded"}}),
        "a wrong encoding": server.reply(200, b'{"choices": "\xff"}', {"Content-Encoding": "gzip"}),
    }


class Moody:
    """Misbehaves for every third question: once or twice, or for ever; counts the proper answers to each."""

    def __init__(self, server):
        self._server = server
        self._moods = list(ill_behaved(server).items())
        self._asked = Counter()
        self.answered = Counter()
        self.hopeless = set()
        self._lock = threading.Lock()

    def __call__(self, body):
        text = "\n".join(m["content"] for m in body["messages"])
        number = int(text.split("number<")[1].split(">")[0])
        with self._lock:
            self._asked[number] += 1
            asked = self._asked[number]
        if number % 3 == 0:
            name, reply = self._moods[number // 3 % len(self._moods)]
            forever = number % 30 == 0 and name != "hangs"
            if forever:
                self.hopeless.add(number)
            if forever or asked <= 1 + (number // 3) % 2:
                return reply
        if number % 20 == 1 and asked == 1:
            return self._server.reply(200, {"choices": [{"message": {"content": None}}]})
        with self._lock:
            self.answered[number] += 1
        return self._server.completion(f"[[ ## reasoning ## ]]\nsince\n\n[[ ## answer ## ]]\n{number}")


def test_an_evaluation_scores_every_example_or_says_that_it_could_not(server):
    server.script = moody = Moody(server)
    lm = tf.LM("openai/m", api_base=server.url, timeout_s=2.0, num_retries=3)
    program = tf.ChainOfThought("question -> answer: int").using(lm=lm)
    devset = [tf.Example(question=f"number<{i}>", answer=i).with_inputs("question") for i in range(300)]

    with tf.track_usage() as meter:
        result = tf.Evaluate(devset=devset, metric=lambda e, p: e.answer == p.answer, num_threads=40)(program)

    failed = {i for i, row in enumerate(result.rows) if row.status == "infra_error"}
    assert failed == moody.hopeless
    assert len(failed) == 10
    assert all(row.score is None and row.error for row in result.rows if row.status == "infra_error")
    assert [row.status for i, row in enumerate(result.rows) if i not in failed] == ["ok"] * 290
    assert (result.score, result.n) == (100, 290)
    assert set(moody.answered.values()) == {1}
    assert len(moody.answered) == 290
    assert meter.usage.retries >= 90
    shown = repr(result)
    assert "10 infra_error" in shown
    assert "10 left out" in shown
    assert "retr" in shown


@pytest.mark.parametrize("streaming", [False, True])
async def test_whatever_a_server_sends_is_a_typed_error(server, streaming):
    backend = HTTPBackend("m", api_base=server.url, timeout_s=0.3)
    for name, reply in ill_behaved(server).items():
        server.script = lambda body, reply=reply: reply
        call = _whole(backend.stream(HELLO)) if streaming else backend.complete(HELLO)
        with pytest.raises(tf.LMError) as caught:
            await call
        assert "m" in (caught.value.model or str(caught.value)), name
    await backend.aclose()


async def _whole(parts):
    return [part async for part in parts]


PIECE = {"choices": [{"index": 0, "delta": {"content": "Hel"}}]}
END = {"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices": [{"index": 0, "del',
        b"data: nonsense\n\n",
        b"data: []\n\n",
        b"data: 7\n\n",
        b'data: {"choices": null}\n\n',
        b'data: {"choices": 7}\n\n',
        b'data: {"choices": ["x"]}\n\n',
        b'data: {"choices": [{"index": {}, "delta": {"content": "x"}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": ["x"]}}]}\n\n',
        b'data: {"choices": [{"delta": 5}]}\n\n',
        b'data: {"choices": [{"delta": {"tool_calls": [{"index": 1000000000}]}}]}\n\n',
        b'data: {"choices": [{"delta": {"tool_calls": [{"index": -1}]}}]}\n\n',
        b'data: {"choices": [], "usage": {"prompt_tokens": 1e999}}\n\n' + f"data: {json.dumps(END)}\n\n".encode(),
        b'data: {"error": {"message": "overloaded", "code": 503}}\n\n',
        b'data: {"detail": "what?"}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"",
    ],
    ids=lambda event: repr(event[:60]),
)
@pytest.mark.parametrize("begun", [False, True])
async def test_a_stream_that_goes_wrong_is_a_typed_error(server, event, begun):
    body = (f"data: {json.dumps(PIECE)}\n\n".encode() if begun else b"") + event
    server.script = lambda _: server.reply(200, body, {"Content-Type": "text/event-stream"})
    backend = HTTPBackend("m", api_base=server.url)
    heard = []

    async def hear():
        async for part in backend.stream(HELLO):
            heard.append(part.text)  # noqa: PERF401 (it breaks in the middle)

    with pytest.raises(tf.LMError):
        await hear()
    assert "".join(heard).startswith("Hel" if begun else "")
    await backend.aclose()


@pytest.mark.parametrize("content_type", ["text/event-stream", "text/plain", "", "application/octet-stream"])
async def test_a_stream_is_read_whatever_it_is_called(server, content_type):
    body = "".join(f"data: {json.dumps(e)}\r\n\r\n" for e in (PIECE, END)) + "data: [DONE]\r\n\r\n"
    server.script = lambda _: server.reply(200, body.encode(), {"Content-Type": content_type})
    backend = HTTPBackend("m", api_base=server.url)
    parts = await _whole(backend.stream(HELLO))
    assert [p.text for p in parts] == ["Hel", "lo", "Hello"]
    await backend.aclose()


async def test_headers_in_any_alphabet_cost_no_answer(server):
    reply = server.completion("fine")
    reply.headers = {"X-Reason": "Überlastet", "X-Other": "数".encode().decode("latin-1")}
    server.script = lambda _: reply
    backend = HTTPBackend("m", api_base=server.url)
    assert (await backend.complete(HELLO)).text == "fine"
    assert (await _whole(backend.stream(HELLO)))[-1].text == "fine"
    await backend.aclose()


async def test_a_huge_answer_is_an_answer(server):
    server.script = lambda _: server.completion("x" * 20_000_000)
    backend = HTTPBackend("m", api_base=server.url)
    assert len((await backend.complete(HELLO)).text) == 20_000_000
    parts = await _whole(backend.stream(HELLO))
    assert isinstance(parts[-1], Response)
    await backend.aclose()


@pytest.mark.parametrize("header", ["soon", "", "nan", "inf", "-inf", "1e400", "1e99 GMT", "Wed, 99 Oct", "９"])
@pytest.mark.parametrize("name", ["Retry-After", "retry-after-ms"])
async def test_a_wait_that_is_no_number_is_left_to_the_own_backoff(server, name, header):
    headers = {name: header.encode().decode("latin-1")}
    server.script = lambda _: server.refusal(429, "slow down", headers=headers)
    backend = HTTPBackend("m", api_base=server.url)
    with pytest.raises(tf.LMRateLimitError) as caught:
        await backend.complete(HELLO)
    assert caught.value.retry_after_s in (None, 0.0)
    await backend.aclose()


@pytest.mark.parametrize(
    "details", [None, 7, "x", [7], [{}], [{"retryDelay": "1.2.3s"}], [{"retryDelay": "." * 99 + "s"}]]
)
@pytest.mark.parametrize(
    "message", [None, 7, {}, "maximum " * 20_000, f"maximum {'9' * 9000} tokens, requested {'9' * 9000}"]
)
async def test_a_refusal_of_any_shape_is_a_typed_error(server, details, message):
    backend = HTTPBackend("m", api_base=server.url)
    for status in (400, 429, 500):
        server.script = lambda _, status=status: server.reply(
            status, {"error": {"message": message, "details": details, "code": "context_length_exceeded"}}
        )
        with pytest.raises(tf.LMError) as caught:
            await backend.complete(HELLO)
        assert caught.value.status == status
        assert len(str(caught.value)) < 2000
    await backend.aclose()
