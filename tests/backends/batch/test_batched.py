"""Batches over real HTTP, against a server on the loopback interface that plays the provider's batch API."""

import asyncio
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

import tuneful as tf
from tuneful.backends.base import Backend
from tuneful.backends.batch import submission as batch_submission
from tuneful.backends.batch.batched import Batched
from tuneful.backends.batch.settings import Batch
from tuneful.backends.budget import Meter
from tuneful.backends.http.backend import HTTPBackend
from tuneful.backends.http.chat_completions import to_body
from tuneful.backends.metered import metered
from tuneful.backends.models import Price
from tuneful.program.running.concurrency import in_flight
from tuneful.program.running.portal import portal
from tuneful.testing import ScriptedLM
from tuneful.wire.messages import user
from tuneful.wire.request import Request, Sampling

KEY = "sk-do-not-show-me-0123456789"
STAGES = ("validating", "in_progress", "finalizing")
DIES = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")


class BatchServer:
    """A provider with files and batches. A batch goes on by one stage each time it is looked at.

    `answer(body)` gives (status, body) for a line, or None to leave the line out; `end` is the status in which batches
    end, `before(method, path)` may give (status, body), or "cut", in place of what would be said.
    """

    def __init__(self):
        self.answer = lambda body: (200, completion(body["messages"][-1]["content"].upper()))
        self.end = "completed"
        self.errors = None
        self.before = self.after = lambda method, path: None
        self.held = threading.Event()  # batches stay in progress while it is not set
        self.held.set()
        self.files, self.batches, self.uploads = {}, {}, []
        self.calls, self.headers = [], []
        self.lock = threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join(5)

    @property
    def lines(self):
        """The lines of each batch that was begun."""
        return [
            [json.loads(line) for line in self.files[b["input_file_id"]].splitlines()] for b in self.batches.values()
        ]

    def asked(self):
        """The last message of each line, batch by batch."""
        return [[line["body"]["messages"][-1]["content"] for line in lines] for lines in self.lines]

    # --- the API ---

    def respond(self, method, path, headers, raw):
        parts, query = urlsplit(path).path.removeprefix("/v1/").split("/"), parse_qs(urlsplit(path).query)
        match method, parts:
            case "POST", ["files"]:
                return 200, self.upload(headers["content-type"], raw)
            case "POST", ["batches"]:
                return 200, self.create(json.loads(raw))
            case "GET", ["batches"]:
                return 200, self.page(int(query["limit"][0]), query.get("after", [None])[0])
            case "GET", ["batches", name] if name in self.batches:
                return 200, self.looked_at(self.batches[name])
            case "GET", ["files", name, "content"] if name in self.files:
                return 200, self.files[name]
        return 404, {"error": {"message": f"nothing at {path}", "type": "invalid_request_error"}}

    def upload(self, content_type, raw):
        form = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + raw)
        fields = {p.get_param("name", header="content-disposition"): p for p in form.iter_parts()}
        assert fields["purpose"].get_content().strip() == "batch"
        assert fields["file"].get_filename().endswith(".jsonl")
        self.uploads.append(fields["file"].get_payload(decode=True))
        return {"id": self.file(self.uploads[-1]), "object": "file", "purpose": "batch"}

    def file(self, content):
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    def create(self, body):
        assert (body["endpoint"], body["completion_window"]) == ("/v1/chat/completions", "24h")
        name = f"batch_{len(self.batches)}"
        total = len(self.files[body["input_file_id"]].splitlines())
        counts = {"total": total, "completed": 0, "failed": 0}
        made = {**body, "id": name, "object": "batch", "created_at": int(time.time()), "request_counts": counts}
        self.batches[name] = {**made, "status": STAGES[0], "output_file_id": None, "error_file_id": "", "errors": None}
        return self.batches[name]

    def begin(self, name, requests, endpoint):
        """Begin a batch of somebody else's under a name of his."""
        url = "/v1/chat/completions"
        lines = [
            {"custom_id": r.key(endpoint), "method": "POST", "url": url, "body": to_body(r, "gpt-4o-mini")}
            for r in requests
        ]
        file = self.file("\n".join(map(json.dumps, lines)).encode())
        body = {"input_file_id": file, "endpoint": url, "completion_window": "24h", "metadata": {"tuneful": name}}
        return self.create(body)["id"]

    def page(self, limit, after):
        newest = list(reversed(self.batches.values()))
        start = 0 if after is None else [b["id"] for b in newest].index(after) + 1
        return {"object": "list", "data": newest[start : start + limit], "has_more": start + limit < len(newest)}

    def looked_at(self, batch):
        before = dict(batch)
        if batch["status"] in STAGES[:-1] and (batch["status"] == STAGES[0] or self.held.is_set()):
            batch["status"] = STAGES[STAGES.index(batch["status"]) + 1]
        elif batch["status"] == STAGES[-1]:
            self.finish(batch)
        return before

    def finish(self, batch):
        batch.update(status=self.end, errors=self.errors)
        if self.end == "failed":
            return
        good, bad = [], []
        for number, text in enumerate(self.files[batch["input_file_id"]].splitlines()):
            line = json.loads(text)
            assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
            found = self.answer(line["body"])
            told = {"id": f"batch_req_{number}", "custom_id": line["custom_id"], "response": None, "error": None}
            if isinstance(found, dict):
                bad.append({**told, "error": found})
            elif found is not None:
                told["response"] = {"status_code": found[0], "request_id": "r", "body": found[1]}
                (good if found[0] == 200 else bad).append(told)
        good.reverse()  # the order of the answers is not that of the requests
        batch["request_counts"] = {"total": number + 1, "completed": len(good), "failed": len(bad)}
        for field, told in (("output_file_id", good), ("error_file_id", bad)):
            if told:
                batch[field] = self.file(b"".join(json.dumps(t).encode() + b"\n" for t in told))

    # --- HTTP ---

    def handler(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10
            disable_nagle_algorithm = True

            def do_GET(self):
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {k.lower(): v for k, v in self.headers.items()}
                with server.lock:
                    server.calls.append(f"{self.command} {self.path}")
                    server.headers.append(headers)
                    found = server.before(self.command, self.path)
                    if found is None:
                        found = server.respond(self.command, self.path, headers, raw)
                        found = server.after(self.command, self.path) or found
                self.close_connection = found == "cut"
                if found != "cut":
                    content = found[1] if isinstance(found[1], bytes) else json.dumps(found[1]).encode()
                    self.send_response(found[0])
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def do_POST(self):
                self.do_GET()

            def log_message(self, format, *args):
                pass

        return Handler


def completion(text):
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return {
        "model": "gpt-4o-mini-1",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }


def hello(text, **sampling):
    return Request((user(text),), Sampling(**sampling))


@pytest.fixture
def server():
    running = BatchServer()
    yield running
    running.close()


@pytest.fixture
def quick(tmp_path):
    """Settings that are quick, with changes."""

    def made(**changes):
        usual = {"gather_s": 0.05, "poll_s": 0.01, "longest_poll_s": 0.02, "path": tmp_path / "batches.sqlite"}
        return Batch(**{**usual, **changes})

    return made


@pytest.fixture
async def backend(server, quick):
    made = Batched(HTTPBackend("gpt-4o-mini", api_base=server.url, api_key=KEY, timeout_s=5), quick())
    yield made
    await made.aclose()


@pytest.fixture
def new_backend(server, quick):
    """Another one over the same file, as another process has it."""
    return lambda **changes: Batched(
        HTTPBackend("gpt-4o-mini", api_base=server.url, api_key=KEY, timeout_s=5), quick(**changes)
    )


@pytest.fixture
def lm(server, quick):
    made = []

    def new(batch=None, **options):
        batch = batch or quick(gather_s=0.4)
        made.append(tf.LM("openai/gpt-4o-mini", api_base=server.url, api_key=KEY, batch=batch, **options))
        return made[-1]

    yield new
    for one in made:
        portal.run(one.backend.aclose())


async def ask(backend, *texts):
    """The outcome of each request: a text, or an error."""
    found = await asyncio.gather(*(backend.complete(hello(t)) for t in texts), return_exceptions=True)
    return [f if isinstance(f, BaseException) else f.text for f in found]


def contents(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


# --- programs ---


ROWS = [tf.Example(question=f"{i}+0?", answer=str(i)).with_inputs("question") for i in range(200)]


def exact(example, prediction, trace=None):
    return prediction.answer == example.answer


def think(body):
    number = body["messages"][-1]["content"].split("+0?")[0].split()[-1]
    return 200, completion(f"[[ ## reasoning ## ]]\nAdding 0.\n\n[[ ## answer ## ]]\n{number}")


def test_an_evaluation_is_one_batch_and_each_example_gets_its_own_answer(server, lm):
    server.answer = think
    with tf.context(lm=lm(), adapter="chat"):
        result = tf.Evaluate(devset=ROWS, metric=exact)(tf.ChainOfThought("question -> answer"))

    assert [len(lines) for lines in server.lines] == [200]
    assert (result.score, result.n) == (100.0, 200)
    assert {row.status for row in result.rows} == {"ok"}


def test_a_batch_costs_half_and_the_wait_is_counted(server, lm):
    server.answer = think
    with tf.context(lm=lm(), adapter="chat"), tf.track_usage() as meter:
        tf.Evaluate(devset=ROWS[:10], metric=exact)(tf.ChainOfThought("question -> answer"))

    assert meter.usage.calls == 10
    assert meter.usage.cost_usd == pytest.approx(10 * (100 * 0.15 + 10 * 0.60) / 1e6 / 2)
    assert meter.latency()["median"] >= 0.4  # at least the time of gathering


def test_batch_over_a_program_is_one_batch(server, lm):
    server.answer = think
    with tf.context(lm=lm(), adapter="chat"):
        found = tf.ChainOfThought("question -> answer").batch(ROWS[:50])

    assert [f.answer for f in found] == [str(i) for i in range(50)]
    assert [len(lines) for lines in server.lines] == [50]


class Twice(tf.Module):
    def __init__(self):
        self.first = tf.Predict("question -> answer")
        self.second = tf.Predict("question, draft -> answer")

    def forward(self, question):  # a plain function: each example has a thread
        draft = self.first(question=question).answer
        return self.second(question=question, draft=draft)


def test_the_second_step_of_a_program_is_a_second_batch(server, lm):
    server.answer = think
    with tf.context(lm=lm(), adapter="chat"):
        result = tf.Evaluate(devset=ROWS[:30], metric=exact)(Twice())

    assert result.score == 100.0
    assert [len(lines) for lines in server.lines] == [30, 30]


def test_an_explicit_number_of_threads_is_kept(server, lm):
    server.answer = think
    with tf.context(lm=lm(), adapter="chat"):
        tf.Evaluate(devset=ROWS[:6], metric=exact, num_threads=3)(tf.Predict("question -> answer"))

    assert [len(lines) for lines in server.lines] == [3, 3]


def test_how_many_are_in_flight_is_what_the_lms_in_force_want(lm, quick):
    program, wide = Twice(), lm()

    assert in_flight(7, program) == 7
    assert in_flight(None, program) == tf.settings.num_threads
    with tf.context(lm=wide):
        assert in_flight(None, program) == 50_000
        assert in_flight(7, program) == 7
    program.second.lm = wide
    with tf.context(lm=ScriptedLM(["unused"])):
        assert in_flight(None, program) == 50_000


def test_a_compile_keeps_its_rows_in_flight(server, lm):
    server.answer = think
    with tf.context(lm=lm(), adapter="chat", journal=None):
        teleprompter = tf.BootstrapFewShot(metric=exact, max_labeled_demos=0, max_rounds=1)
        teleprompter.compile(tf.Predict("question -> answer"), trainset=ROWS[:10], valset=ROWS[10:70])

    assert 120 in [len(lines) for lines in server.lines]  # original and candidate, on all held-out rows, are one batch


# --- constructing ---


def test_a_provider_without_a_batch_api_is_refused_with_those_that_have_one():
    for model in ("groq/llama-3.3-70b-versatile", "ollama/llama3.2", "anthropic/claude-haiku-4-5"):
        with pytest.raises(tf.UsageError, match=f"`{model}` has no batch API.*providers have one: openai"):
            tf.LM(model, batch=True)
    with pytest.raises(tf.UsageError, match="providers have one: openai"):
        tf.LM("mine", backend=Backend(), batch=True)


@pytest.mark.parametrize(
    "wrong", [{"gather_s": -1}, {"poll_s": 0}, {"most_requests": 50_001}, {"most_requests": 0}, {"most_bytes": 0}]
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(tf.UsageError):
        Batch(**wrong)


def test_batch_takes_true_or_settings(tmp_path):
    with pytest.raises(tf.UsageError, match=r"True or a tf\.Batch"):
        tf.LM("openai/gpt-4o-mini", batch="24h")


def test_prices_are_halved_but_not_one_that_was_given_to_the_lm_itself():
    assert tf.LM("openai/gpt-4o-mini", batch=True).price == Price(0.075, 0.30, 0.0375)
    assert tf.LM("openai/gpt-4o-mini", batch=True, price_per_million=(1, 2)).price == Price(1.0, 2.0)
    assert tf.LM("openai/gpt-4o-mini").price == Price(0.15, 0.60, 0.075)
    before = tf.settings.prices
    tf.configure(prices={"openai/gpt-4o-mini": (1, 4)})
    try:
        assert tf.LM("openai/gpt-4o-mini", batch=True).price == Price(0.5, 2.0)
    finally:
        tf.configure(prices=before)


def test_nothing_is_written_or_sent_before_the_first_call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tf.LM("openai/gpt-4o-mini", batch=True)
    assert list(tmp_path.iterdir()) == []


# --- gathering ---


async def test_answers_come_back_to_who_asked(server, backend):
    assert await ask(backend, "a", "b", "c") == ["A", "B", "C"]
    assert server.asked() == [["a", "b", "c"]]


async def test_a_line_is_the_request_under_its_key(server, backend):
    await backend.complete(hello("a", max_tokens=7))

    [[line]] = server.lines
    assert line["custom_id"] == hello("a", max_tokens=7).key(backend.endpoint)
    assert len(line["custom_id"]) <= 64  # the most that the API takes
    assert line["body"] == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "a"}],
        "temperature": 0.0,
        "max_completion_tokens": 7,
    }


async def test_identical_requests_are_one_line_and_are_paid_once(server, backend):
    found = await asyncio.gather(*(backend.complete(hello(t)) for t in ("a", "a", "b", "a")))

    assert [f.text for f in found] == ["A", "A", "B", "A"]
    assert server.asked() == [["a", "b"]]
    assert sum(f.usage.calls for f in found) == 2
    assert sum(f.usage.prompt_tokens for f in found) == 200


async def test_a_full_batch_is_submitted_at_once_and_the_next_begun(server, quick, new_backend):
    backend = new_backend(most_requests=3, gather_s=0.2)
    assert await ask(backend, *"abcdefg") == list("ABCDEFG")
    assert sorted(len(lines) for lines in server.lines) == [1, 3, 3]
    await backend.aclose()


async def test_a_batch_is_bounded_in_bytes(server, new_backend):
    backend = new_backend(most_bytes=700, gather_s=0.2)
    await ask(backend, *(letter * 100 for letter in "abcdef"))
    assert len(server.lines) > 1
    assert all(len(upload) <= 700 for upload in server.uploads)
    await backend.aclose()


async def test_an_answer_that_was_handed_over_is_not_handed_over_again(server, backend):
    await ask(backend, "a")
    server.answer = lambda body: (200, completion("another"))
    assert await ask(backend, "a") == ["another"]
    assert server.asked() == [["a"], ["a"]]


async def test_text_that_cannot_be_sent_is_refused_alone(server, backend):
    bad, good = await ask(backend, "\ud800", "fine")
    assert isinstance(bad, tf.UsageError)
    assert good == "FINE"
    assert server.asked() == [["fine"]]


async def test_a_stream_is_the_answer_in_one_piece_from_a_batch(server, backend):
    parts = [part async for part in backend.stream(hello("a"))]
    assert [parts[0].text, parts[-1].text] == ["A", "A"]
    assert server.asked() == [["a"]]


# --- what fails ---


async def test_each_line_has_an_error_of_its_own(server, backend):
    refusals = {
        "bad": (400, {"error": {"message": "no such option", "type": "invalid_request_error"}}),
        "long": (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}),
        "busy": (429, {"error": {"message": "slow down"}}),
        "broken": (500, {"error": {"message": "internal"}}),
        "strange": (200, {"no": "completion"}),
    }
    server.answer = lambda body: refusals.get(body["messages"][0]["content"]) or (200, completion("good"))
    found = await ask(backend, "fine", *refusals)

    assert found[0] == "good"
    expected = [tf.LMInvalidRequestError, tf.ContextWindowExceededError, tf.LMRateLimitError, *[tf.LMServerError] * 2]
    assert [type(f) for f in found[1:]] == expected
    assert "no such option" in str(found[1])


async def test_those_who_wait_for_the_same_failed_line_get_an_error_each(server, backend):
    server.answer = lambda body: (400, {"error": {"message": "no"}})
    first, second = await ask(backend, "a", "a")
    assert str(first) == str(second)
    assert first is not second


def test_lines_that_failed_for_a_passing_reason_or_are_missing_make_another_batch(server, lm):
    seen = []

    def answer(body):
        text = body["messages"][-1]["content"]
        seen.append(text)
        if seen.count(text) == 1 and text in ("b", "c"):
            return None if text == "b" else (500, {"error": {"message": "internal"}})
        return 200, completion(text.upper())

    server.answer = answer

    async def all_three(model):
        return await asyncio.gather(*(model.acall(t) for t in "abc"))

    with tf.track_usage() as meter:
        assert portal.run(all_three(lm(retry_deadline_s=None))) == [["A"], ["B"], ["C"]]
    assert [sorted(texts) for texts in server.asked()] == [["a", "b", "c"], ["b", "c"]]
    assert meter.usage.retries == 2


@pytest.mark.parametrize("told", [True, False], ids=["in the error file", "nowhere"])
async def test_what_an_expired_batch_answered_is_used_and_the_rest_times_out(server, backend, told):
    expired = {"code": "batch_expired", "message": "This request could not be executed in time."} if told else None
    server.end = "expired"
    server.answer = lambda body: (200, completion("good")) if body["messages"][0]["content"] in "ab" else expired
    found = await ask(backend, *"abcd")

    assert found[:2] == ["good", "good"]
    assert [type(f) for f in found[2:]] == [tf.LMTimeoutError] * 2
    assert "24h" in str(found[2])

    server.end, server.answer = "completed", lambda body: (200, completion("late"))
    assert await ask(backend, "c") == ["late"]  # it is asked anew


async def test_a_cancelled_batch_says_so_and_is_not_retried_by_itself(server, backend):
    server.end = "cancelled"
    server.answer = lambda body: None
    [error] = await ask(backend, "a")
    assert type(error) is tf.LMError
    assert "cancelled" in str(error)


async def test_a_refused_batch_is_the_fault_of_the_lines_that_are_named(server, backend):
    server.end = "failed"
    server.errors = {
        "object": "list",
        "data": [{"code": "invalid_body", "line": 2, "message": "no model", "param": None}],
    }
    innocent, guilty = await ask(backend, "a", "b")

    assert type(guilty) is tf.LMInvalidRequestError
    assert "no model" in str(guilty)
    assert type(innocent) is tf.LMServerError  # may be asked again


async def test_a_batch_that_is_refused_as_a_whole_is_the_fault_of_all(server, backend):
    server.end = "failed"
    server.errors = {"data": [{"code": "model_not_found", "line": None, "message": "no such model"}]}
    assert [type(e) for e in await ask(backend, "a", "b")] == [tf.LMInvalidRequestError] * 2


async def test_too_many_tokens_in_the_provider_s_queue_is_a_rate_limit(server, backend):
    server.end = "failed"
    message = "Enqueued token limit reached. Please try again once some in_progress batches have been completed."
    server.errors = {"data": [{"code": "token_limit_exceeded", "line": None, "message": message}]}
    [error] = await ask(backend, "a")
    assert type(error) is tf.LMRateLimitError
    assert error.retry_after_s == backend.settings.longest_poll_s


async def test_a_refused_key_is_an_auth_error_and_leaves_nothing_open(server, backend):
    server.before = lambda method, path: (401, {"error": {"message": f"Incorrect API key provided: {KEY}"}})
    [error] = await ask(backend, "a")
    assert type(error) is tf.LMAuthError
    assert KEY not in str(error)

    server.before = lambda method, path: None
    assert await ask(backend, "a") == ["A"]


@pytest.mark.parametrize("what", ["GET /v1/batches/", "GET /v1/files/", "POST /v1/files", "POST /v1/batches"])
async def test_failures_that_pass_are_waited_out_and_nothing_is_submitted_twice(server, backend, what):
    failures = [(503, {"error": {"message": "overloaded"}}), "cut", (429, {"error": {"message": "slow down"}})]

    def before(method, path):
        return failures.pop(0) if f"{method} {path}".startswith(what) and failures else None

    server.before = before
    assert await ask(backend, "a", "b") == ["A", "B"]
    assert not failures
    assert server.asked() == [["a", "b"]]


async def test_a_batch_that_was_begun_although_the_connection_broke_is_found(server, backend):
    cuts = ["cut"]
    server.after = lambda method, path: cuts.pop() if (method, path) == ("POST", "/v1/batches") and cuts else None
    assert await ask(backend, "a") == ["A"]
    assert len(server.batches) == 1


async def test_what_the_provider_no_longer_has_is_asked_anew(server, backend, new_backend):
    waiting = asyncio.ensure_future(ask(backend, "a"))
    await until(lambda: server.batches and backend._open and all(b.remote for b in backend._open.values()))
    waiting.cancel()
    server.batches.clear()
    other = new_backend()

    [error] = await ask(other, "a")
    assert type(error) is tf.LMServerError
    assert "no longer has" in str(error)
    assert await ask(other, "a") == ["A"]
    await other.aclose()


async def test_a_file_that_cannot_be_used_is_an_error_before_anything_is_sent(server, tmp_path, new_backend):
    (tmp_path / "file").write_text("in the way")
    backend = new_backend(path=tmp_path / "file" / "batches.sqlite")
    [error] = await ask(backend, "a")
    assert type(error) is tf.UsageError
    assert "batch=tf.Batch(path=" in str(error)
    assert server.calls == []
    await backend.aclose()


# --- cancelling ---


async def test_requests_that_nobody_waits_for_any_more_are_not_submitted(server, new_backend):
    backend = new_backend(gather_s=0.2)
    tasks = [asyncio.ensure_future(backend.complete(hello(t))) for t in "abc"]
    await asyncio.sleep(0.01)
    tasks[1].cancel()
    assert [(await t).text for t in (tasks[0], tasks[2])] == ["A", "C"]
    assert server.asked() == [["a", "c"]]

    alone = asyncio.ensure_future(backend.complete(hello("d")))
    await asyncio.sleep(0.01)
    alone.cancel()
    await asyncio.sleep(0.3)
    assert len(server.uploads) == 1
    await backend.aclose()


async def test_one_of_two_who_wait_for_the_same_may_leave(server, backend):
    leaving, staying = (asyncio.ensure_future(backend.complete(hello("a"))) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).text == "A"
    assert (await staying).usage.calls == 1


async def test_a_submitted_batch_goes_on_and_its_answers_are_kept_for_the_next(server, backend, new_backend):
    server.held.clear()
    tasks = [asyncio.ensure_future(backend.complete(hello(t))) for t in "ab"]
    await until(lambda: server.batches and all(b.remote for b in backend._open.values()))
    for task in tasks:
        task.cancel()
    await until(lambda: not backend._tasks)
    looks = len(server.calls)
    await asyncio.sleep(0.1)
    assert len(server.calls) == looks  # nobody waits, so nobody looks

    server.held.set()
    other = new_backend()
    assert await ask(other, "a", "c") == ["A", "C"]
    assert await ask(backend, "b") == ["B"]
    assert server.asked() == [["a", "b"], ["c"]]
    await other.aclose()


async def test_the_answer_of_one_who_left_while_others_stayed_is_kept_too(server, backend):
    server.held.clear()
    leaving, staying = (asyncio.ensure_future(backend.complete(hello(t))) for t in "ab")
    await until(lambda: server.batches and all(b.remote for b in backend._open.values()))
    leaving.cancel()
    server.held.set()
    assert (await staying).text == "B"

    assert await ask(backend, "a") == ["A"]
    assert server.asked() == [["a", "b"]]


def test_the_deadline_of_an_example_cancels_it_and_the_next_run_gets_the_answer(server, lm):
    server.answer = think
    server.held.clear()
    with tf.context(lm=lm(), adapter="chat"):
        program = tf.Predict("question -> answer")
        late = tf.Evaluate(devset=ROWS[:2], metric=exact, timeout_s=1.0)(program)
        server.held.set()
        result = tf.Evaluate(devset=ROWS[:2], metric=exact)(program)

    assert {row.status for row in late.rows} == {"timeout"}
    assert result.score == 100.0
    assert len(server.batches) == 1


async def test_a_budget_in_seconds_ends_the_wait(server, backend):
    server.held.clear()
    with metered(Meter(tf.Budget(seconds=0.3))), pytest.raises(tf.BudgetExceeded) as caught:
        await backend.complete(hello("a"))
    assert caught.value.limit == "seconds"
    server.held.set()
    assert await ask(backend, "a") == ["A"]
    assert len(server.batches) == 1


# --- several at once, and again ---


async def test_of_two_that_share_a_file_one_submits_and_both_get_the_answer(server, backend, new_backend):
    other = new_backend()
    found = await asyncio.gather(ask(backend, *"abc"), ask(other, *"abc"))
    assert found == [["A", "B", "C"]] * 2
    assert server.asked() == [["a", "b", "c"]]
    await other.aclose()


def claimed_by(backend, pid, *texts):
    """Leave a batch as a process leaves it that has not submitted it yet."""
    backend._table.claim("theirs", [hello(t).key(backend.endpoint) for t in texts])
    backend._table.close()
    with closing(sqlite3.connect(backend.settings.path, isolation_level=None)) as database:
        database.execute("UPDATE batch SET pid=?", (pid,))


def test_a_batch_that_another_process_is_submitting_is_waited_for(server, lm, quick):
    model = lm()
    backend = model._source
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        claimed_by(backend, other.pid, "a")

        async def scenario():
            waiting = asyncio.ensure_future(ask(backend, "a"))
            await asyncio.sleep(0.8)
            assert server.calls == []
            name = server.begin("theirs", [hello("a")], backend.endpoint)
            backend._table.submitted("theirs", name)
            return await waiting

        assert portal.run(scenario()) == ["A"]
        other.communicate(b"\n")
    assert len(server.batches) == 1


@pytest.mark.parametrize("why", ["it is gone", "it had its time"])
async def test_a_batch_that_nobody_submits_any_more_is_taken_over(server, backend, monkeypatch, why):
    if why == "it had its time":
        monkeypatch.setattr(batch_submission, "_LEASE_S", 0.0)
        claimed_by(backend, os.getppid(), "a")
    else:
        claimed_by(backend, 2**22 + 1, "a")  # beyond the numbers of processes

    assert await ask(backend, "a") == ["A"]
    assert len(server.batches) == 1
    assert server.calls[0].startswith("GET /v1/batches?")  # it was looked for first


async def test_a_batch_is_looked_for_on_every_page(server, backend):
    claimed_by(backend, os.getpid(), "a")  # by an exchange of our own whose outcome nobody knows
    for name in ("theirs", *(f"other {i}" for i in range(150))):
        server.begin(name, [hello("a")], backend.endpoint)

    assert await ask(backend, "a") == ["A"]
    assert server.uploads == []
    assert len([call for call in server.calls if call.startswith("GET /v1/batches?")]) == 2


SCRIPT = """
import sys, tuneful as tf
from tuneful.backends.batch.settings import Batch
url, path, key = sys.argv[1:]
batch = Batch(gather_s=0.3, poll_s=0.02, longest_poll_s=0.05, path=path)
tf.configure(lm=tf.LM("openai/gpt-4o-mini", api_base=url, api_key=key, batch=batch), adapter="chat", cache=False)
rows = [tf.Example(question=f"{i}+0?", answer=str(i)).with_inputs("question") for i in range(20)]
result = tf.Evaluate(devset=rows, metric=lambda e, p, t=None: p.answer == e.answer)(tf.Predict("question -> answer"))
print(result.score, [r.status for r in result.rows].count("ok"))
"""


@pytest.fixture
def run(server, tmp_path):
    server.answer = think
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    started = []

    def start(key=KEY):
        arguments = [sys.executable, str(script), server.url, str(tmp_path / "shared.sqlite"), key]
        started.append(
            subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def finished(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()


@DIES
def test_a_run_that_was_killed_after_submission_submits_nothing_new(server, run):
    server.held.clear()
    killed = run()
    for _ in range(1000):
        if any(call.startswith("GET /v1/batches/") for call in server.calls):
            break
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    server.held.set()

    assert finished(run()) == "100.0 20"
    assert [len(lines) for lines in server.lines] == [20]
    assert len(server.uploads) == 1

    assert finished(run()) == "100.0 20"  # that one ended well, so this one is a run of its own
    assert len(server.batches) == 2


def test_of_two_processes_one_submits_and_both_get_the_answers(server, run):
    server.held.clear()
    first, second = run(), run("sk-the-key-of-the-other-one")
    for _ in range(1000):
        looking = {
            h["authorization"]
            for call, h in zip(list(server.calls), list(server.headers), strict=False)
            if call.startswith("GET /v1/batches/")
        }
        if len(looking) == 2:
            break
        time.sleep(0.02)
    server.held.set()

    assert finished(first) == finished(second) == "100.0 20"
    assert [len(lines) for lines in server.lines] == [20]


@DIES
@pytest.mark.parametrize("begun", [False, True], ids=["before the batch began", "before the reply came"])
def test_a_run_that_was_killed_between_upload_and_reply_pays_once(server, run, begun):
    processes = []

    def kill(method, path):
        if (method, path) == ("POST", "/v1/batches") and len(processes) == 1 and processes[0].poll() is None:
            processes[0].kill()
            processes[0].wait()
            return "cut"
        return None

    if begun:
        server.after = kill
    else:
        server.before = kill
    processes.append(run())
    processes[0].communicate(timeout=60)
    assert processes[0].returncode == -signal.SIGKILL
    assert len(server.batches) == begun

    assert finished(run()) == "100.0 20"
    assert [len(lines) for lines in server.lines] == [20]
    assert any(call.startswith("GET /v1/batches?") for call in server.calls)


# --- what is told ---


async def test_progress_is_told(server, backend, caplog):
    with caplog.at_level(logging.INFO, logger="tuneful.backends.batch.batched"):
        await ask(backend, "a", "b")

    told = [r.getMessage() for r in caplog.records if r.name == "tuneful.backends.batch.batched"]
    assert told[0].startswith("batch batch_0 submitted: 2 requests")
    assert "batch batch_0 is in_progress: 0 of 2 requests done, 0 of them failed" in told
    assert told[-1].startswith("batch batch_0 is completed: 2 answered, 0 failed")


async def test_the_key_is_in_no_file_and_no_log(server, backend, tmp_path, caplog):
    failures = [(503, {"error": {"message": f"overloaded for {KEY}"}})]
    server.before = lambda method, path: failures.pop() if failures else None
    server.answer = lambda body: (400, {"error": {"message": f"not with {KEY}"}})
    with caplog.at_level(logging.DEBUG):
        [error] = await ask(backend, "a")
    await backend.aclose()

    assert all(h["authorization"] == f"Bearer {KEY}" for h in server.headers)
    assert caplog.records
    assert KEY not in caplog.text
    assert KEY not in str(error)
    assert KEY not in repr(backend)
    assert contents(tmp_path)
    assert KEY.encode() not in contents(tmp_path)
