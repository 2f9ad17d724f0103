"""Keys show nowhere: in no log, exception, repr, file or print, whatever a server does with them."""

import asyncio
import csv
import io
import json
import logging
import traceback
from types import SimpleNamespace

import pytest

import tuneful as tf
from tuneful.backends.http.backend import HTTPBackend
from tuneful.wire.messages import user
from tuneful.wire.request import Request

KEY = "sk-Secret/of+mine-0123456789"
HEADER = "a-secret-of-the-gateway"
PASSWORD = "pa55-of-the-gateway"
SECRETS = (KEY, HEADER, PASSWORD)
HELLO = Request((user("Hello"),))


def shown_by(error, seen=None):
    """Return everything that anybody may print of an exception and of what led to it."""
    seen = set() if seen is None else seen
    if error is None or id(error) in seen:
        return ""
    seen.add(id(error))
    parts = [str(error), repr(error), repr(error.args), repr(vars(error)), repr(getattr(error, "__notes__", ""))]
    parts += traceback.format_exception(error)
    parts += [shown_by(error.__cause__, seen), shown_by(error.__context__, seen)]
    return "\n".join(parts)


def assert_secret(*texts):
    for text in texts:
        for secret in SECRETS:
            assert secret not in text
            assert json.dumps(secret)[1:-1] not in text


def echoes(server):
    """Return replies in which a server quotes all that it was sent to authorise the request."""
    everything = f"Bearer {KEY} and {HEADER}"
    escaped = everything.replace("/", "\\/")
    return {
        "401": server.refusal(401, everything),
        "401 escaped": server.reply(401, f'{{"error": {{"message": "{escaped}"}}}}'.encode()),
        "400": server.refusal(400, everything, type=everything, code=everything),
        "400 too long": server.refusal(400, f"maximum context length is 4 tokens {everything}"),
        "403 html": server.reply(403, f"<html>{everything}</html>".encode(), {"Content-Type": "text/html"}),
        "404 list": server.reply(404, [{"error": {"message": everything}}]),
        "422": server.reply(422, {"detail": everything}),
        "402": server.refusal(402, everything),
        "429": server.refusal(429, everything),
        "429 header": server.refusal(429, everything, headers={"Retry-After": everything}),
        "500": server.refusal(500, everything),
        "500 text": server.reply(500, everything.encode()),
        "500 bytes": server.reply(500, b"\xff" + everything.encode()),
        "504": server.refusal(504, everything),
        "redirect": server.reply(302, everything.encode(), {"Location": f"http://elsewhere.example/?{everything}"}),
        "html": server.reply(200, f"<html>{everything}</html>".encode(), {"Content-Type": "text/html"}),
        "bytes": server.reply(200, b"\xff\xfe" + everything.encode()),
        "cut JSON": server.reply(200, f'{{"error": "{everything}'.encode()),
        "error": server.reply(200, {"error": {"message": everything}}),
        "no choices": server.reply(200, {"choices": [], "note": everything}),
        "odd usage": server.reply(200, {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": KEY}}),
        "odd choices": server.reply(200, {"choices": {KEY: 1}}),
        "cut": server.reply(200, everything.encode() * 100, cut=True),
        "hangs": server.reply(wait_s=0.6),
    }


def broken_events(server):
    """Return streams that do so; a call that is not streamed cannot read them either."""
    everything = f"Bearer {KEY} and {HEADER}"
    escaped = everything.replace("/", "\\/")
    return {
        "event: no JSON": server.events(f"nonsense {everything}"),
        "event: error": server.events({"error": {"message": everything, "code": 401}}),
        "event: bare error": server.events({"message": everything}),
        "event: escaped": server.reply(
            200, f'data: {{"message": "{escaped}"}}\n\n'.encode(), {"Content-Type": "text/event-stream"}
        ),
        "event: odd": server.events({"choices": [{"delta": {"content": "x"}, "index": {KEY: 1}}]}),
        "event: odd usage": server.events(
            {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": KEY}}
        ),
    }


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr("tuneful.backends.retried.random", SimpleNamespace(uniform=lambda low, high: 0.001))


@pytest.fixture(params=["argument", "environment"])
def lm(request, server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    given = {"api_key": KEY} if request.param == "argument" else {}
    if not given:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return tf.LM(
        "openai/m", api_base=server.url, headers={"X-Gateway": f"Token {HEADER}"}, num_retries=1, timeout_s=0.3, **given
    )


async def _heard(parts):
    return [part async for part in parts]


def test_no_way_of_failing_shows_a_secret(server, lm, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    for reply in {**echoes(server), **broken_events(server)}.values():
        server.script = lambda body, reply=reply: reply
        for ask in (lambda: lm("Hello"), lambda: asyncio.run(_heard(lm.stream(HELLO)))):
            with pytest.raises(tf.LMError) as caught:
                ask()
            assert_secret(shown_by(caught.value))
    assert {h["authorization"] for h in server.headers} == {f"Bearer {KEY}"}
    assert {h["x-gateway"] for h in server.headers} == {f"Token {HEADER}"}
    printed = capsys.readouterr()
    assert len(caplog.records) > 10
    records = [r.getMessage() + repr(vars(r)) for r in caplog.records]
    assert_secret(caplog.text, *records, printed.out, printed.err)


def test_a_login_in_an_address_is_refused_without_showing_it(server, monkeypatch):
    base = server.url.replace("http://", f"http://someone:{PASSWORD}@")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", base)
    for model, options in (("openai/m", {"api_base": base}), ("azure/m", {})):
        with pytest.raises(tf.UsageError, match="user name or password") as caught:
            tf.LM(model, api_key=KEY, **options)
        assert_secret(shown_by(caught.value))


@pytest.mark.parametrize("key", [f"{KEY}\nx", f"{KEY}\x00", f"{KEY}\u2028x"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(server, key):
    with pytest.raises(tf.LMAuthError) as caught:
        tf.LM("openai/m", api_base=server.url, api_key=key)("x")
    assert_secret(shown_by(caught.value))
    assert server.bodies == []


@pytest.mark.parametrize(
    "headers", [{"X-Gateway": f"{HEADER}\nx"}, {f"bad name {HEADER}": "x"}, {"X-Gateway": f"{HEADER}\x00"}]
)
def test_a_header_that_cannot_be_sent_is_a_usage_error_without_showing_it(server, headers):
    with pytest.raises(tf.UsageError) as caught:
        tf.LM("openai/m", api_base=server.url, headers=headers)("x")
    assert "X-Gateway" not in headers or HEADER not in shown_by(caught.value)
    assert server.bodies == []


def _files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_nothing_that_is_written_holds_a_secret(server, lm, tmp_path, caplog, capsys, monkeypatch):
    """Cache, export, saved program, journal, result files, history, renderings: of calls that succeed and that fail."""
    caplog.set_level(logging.DEBUG)
    refusals = [reply for reply in echoes(server).values() if reply.status in (400, 422, 500)]

    def script(body):
        text = body["messages"][-1]["content"]
        number = int(text.split("number<")[1].split(">")[0])
        if number % 4 == 3:
            return refusals[number % len(refusals)]
        return server.completion(f"[[ ## answer ## ]]\n{number % 2}")

    server.script = script
    rows = [tf.Example(question=f"number<{i}>", answer=i % 2).with_inputs("question") for i in range(24)]
    program = tf.Predict("question -> answer: int").using(lm=lm)

    def metric(example, prediction, trace=None):
        return example.answer == prediction.answer

    cache = tf.Cache(tmp_path / "cache.sqlite")
    shown = [repr(cache)]
    with tf.context(cache=cache, journal=str(tmp_path / "journal.sqlite")):
        server.script = lambda body: server.refusal(401, f"{KEY} {HEADER}")
        with pytest.raises(tf.LMAuthError) as caught:
            tf.Evaluate(devset=rows, metric=metric)(program)
        shown.append(shown_by(caught.value))
        server.script = script
        evaluate = tf.Evaluate(
            devset=rows,
            metric=metric,
            display_table=True,
            save_as_json=str(tmp_path / "rows.json"),
            save_as_csv=str(tmp_path / "rows.csv"),
        )
        result = evaluate(program)
        assert result.statuses["infra_error"] == 6
        shown += [repr(result), repr(result.rows), *(shown_by(row.cause) for row in result.rows)]
        compiled = tf.BootstrapFewShot(metric=metric).compile(
            program, trainset=rows[:12], valset=rows[12:], run="secret"
        )
        shown += [repr(compiled), str(compiled.report), repr(compiled.report)]
    compiled.save(tmp_path / "program.json")
    cache.export(tmp_path / "answers.jsonl")
    history = io.StringIO()
    tf.inspect_history(10, history)
    shown += [history.getvalue(), repr(lm), repr(lm.backend), repr(lm.copy(temperature=0.3)), lm.endpoint]
    shown += [
        repr(tf.settings),
        repr(compiled.render(question="x")),
        str(compiled.dump_state()),
        repr(compiled.parameters()),
    ]
    layer = lm.backend
    while hasattr(layer, "inner"):
        shown.append(repr(layer))
        layer = layer.inner
    shown += [repr(layer), repr(layer.transport), repr(layer.capabilities)]
    printed = capsys.readouterr()
    shown += [printed.out, printed.err, caplog.text]

    assert "number<" in history.getvalue()
    assert len(cache) > 10
    assert_secret(*shown)
    files = _files(tmp_path)
    assert {"cache.sqlite", "journal.sqlite", "program.json", "answers.jsonl", "rows.json", "rows.csv"} <= {
        f.name for f in files
    }
    for file in files:
        assert_secret(file.read_bytes().decode("utf-8", "replace"))
    cache.close()
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as lines:
        assert len(list(csv.DictReader(lines))) == 24


def test_a_backend_shows_no_key(server):
    for provider in ("openai", "anthropic", "gemini"):
        backend = HTTPBackend("m", provider=provider, api_base=server.url, api_key=KEY, headers={"X": HEADER})
        assert_secret(repr(backend), backend.endpoint, repr(backend.layout), repr(backend.facts))
