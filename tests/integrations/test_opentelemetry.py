"""OpenTelemetry: the spans and metrics that a program makes, as an exporter of the SDK sees them."""

import asyncio
import json
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

import tuneful as tf
from tuneful.adapters.json import JSONAdapter
from tuneful.backends.base import Backend
from tuneful.integrations.genai_conventions import CONTENT_VARIABLE
from tuneful.testing import ScriptedLM
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import Media, Message, ToolCall, user
from tuneful.wire.request import Request, Sampling
from tuneful.wire.response import Choice, Response, Usage

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tuneful.integrations.opentelemetry import OpenTelemetry

ANSWER = "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"
SECRET = "sk-very-secret-key"


class Sync(tf.Module):
    def __init__(self):
        self.ask = tf.Predict("question -> answer")

    def forward(self, question):
        return self.ask(question=question)


class Async(Sync):
    async def forward(self, question):
        first, _ = await asyncio.gather(self.ask.acall(question=question), self.ask.acall(question=question))
        return first


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch):
    from tuneful.program.running import runtime

    monkeypatch.setattr(runtime, "_configured", {"cache": None})
    monkeypatch.delenv(CONTENT_VARIABLE, raising=False)


@pytest.fixture
def seen():
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider(metric_readers=[reader])

    def watch(**options):
        tf.configure(callbacks=[OpenTelemetry(tracers, meters, **options)])

    def spans(start=""):
        return [s for s in exporter.get_finished_spans() if s.name.startswith(start)]

    def points(name):
        data = reader.get_metrics_data()
        metrics = [
            m for r in (data.resource_metrics if data else ()) for scope in r.scope_metrics for m in scope.metrics
        ]
        return [p for m in metrics if m.name == name for p in m.data.data_points]

    yield SimpleNamespace(watch=watch, spans=spans, points=points, tracers=tracers)
    meters.shutdown()
    tracers.shutdown()


class Remote(Backend):
    """A model that claims to be somewhere."""

    immediate = True

    def __init__(self, response, endpoint="https://user:pass@api.example.com/v1?key=sk-very-secret-key#some-model"):
        self.endpoint = endpoint
        self.capabilities = Capabilities(json_schema=True)
        self._response = response

    async def complete(self, request):
        if isinstance(self._response, Exception):
            raise self._response
        return self._response


def response(*texts, **usage):
    return Response(tuple(map(Choice, texts)), Usage(calls=1, **usage), "some-model-0613")


# --- model calls ---


def test_a_model_call_is_a_client_span_by_the_conventions(seen):
    seen.watch()
    answer = response("hi", "ho", prompt_tokens=12, completion_tokens=3, cached_tokens=4, reasoning_tokens=2)
    lm = tf.LM("openai/some-model", backend=Remote(answer), api_key=None, price_per_million=(1.0, 2.0))
    lm("hello", temperature=0.5, max_tokens=9, top_p=0.9, seed=4, stop=["END"], n=2)

    (span,) = seen.spans()
    assert (span.name, span.kind) == ("chat some-model", SpanKind.CLIENT)
    assert span.status.status_code is StatusCode.UNSET
    found = dict(span.attributes)
    assert found.pop("tuneful.cost_usd") == pytest.approx((12 * 1.0 + 3 * 2.0) / 1e6)
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "some-model",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.seed": 4,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.choice.count": 2,
        "server.address": "api.example.com",
        "server.port": 443,
        "gen_ai.response.model": "some-model-0613",
        "gen_ai.response.finish_reasons": ("stop", "stop"),
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 2,
    }


@pytest.mark.parametrize(
    ("model", "endpoint", "provider", "name", "address"),
    [
        ("azure/gpt", "https://mine.openai.azure.com/openai", "azure.ai.openai", "gpt", ("mine.openai.azure.com", 443)),
        ("gemini/flash", "https://generativelanguage.googleapis.com/v1beta#flash", "gcp.gemini", "flash", None),
        ("mistral/large", "https://api.mistral.ai/v1#large", "mistral_ai", "large", None),
        ("xai/grok", "https://api.x.ai/v1#grok", "x_ai", "grok", None),
        ("ollama/llama3.2", "http://localhost:11434/v1#llama3.2", "ollama", "llama3.2", ("localhost", 11434)),
        ("org/model", "http://10.0.0.1/v1#org/model", "openai", "org/model", ("10.0.0.1", 80)),
        ("local/smollm2", "local#smollm2.gguf:1", "local", "smollm2", None),
        ("scripted", "scripted", "scripted", "scripted", None),
    ],
)
def test_the_provider_and_the_address_are_those_of_the_lm(seen, model, endpoint, provider, name, address):
    seen.watch()
    tf.LM(model, backend=Remote(response("hi"), endpoint))("hello")

    (span,) = seen.spans(f"chat {name}")
    assert span.attributes["gen_ai.provider.name"] == provider
    assert span.attributes["gen_ai.request.model"] == name
    if address:
        assert (span.attributes["server.address"], span.attributes["server.port"]) == address
    if not endpoint.startswith("http"):
        assert "server.address" not in span.attributes


def test_an_answer_in_json_is_asked_for_as_such(seen):
    seen.watch()
    lm = tf.LM("openai/some-model", backend=Remote(response('{"answer": "yes"}')))
    tf.Predict("question -> answer")(question="x?", lm=lm, adapter=JSONAdapter())
    assert seen.spans("chat")[0].attributes["gen_ai.output.type"] == "json"


def test_metrics_count_tokens_and_time_by_model(seen):
    seen.watch()
    lm = tf.LM("openai/some-model", backend=Remote(response("hi", prompt_tokens=12, completion_tokens=3)))
    lm("hello")
    lm("hello again")

    tokens = {p.attributes["gen_ai.token.type"]: p for p in seen.points("gen_ai.client.token.usage")}
    assert {kind: (p.count, p.sum) for kind, p in tokens.items()} == {"input": (2, 24), "output": (2, 6)}
    assert list(tokens["input"].explicit_bounds)[:4] == [1, 4, 16, 64]
    (duration,) = seen.points("gen_ai.client.operation.duration")
    assert duration.count == 2
    assert list(duration.explicit_bounds)[::13] == [0.01, 81.92]
    assert dict(duration.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "some-model",
        "gen_ai.response.model": "some-model-0613",
        "server.address": "api.example.com",
        "server.port": 443,
    }


def test_an_answer_from_the_cache_is_marked_and_costs_nothing(seen, tmp_path):
    seen.watch()
    tf.configure(cache=str(tmp_path / "cache.sqlite"))
    lm = ScriptedLM(lambda r: ANSWER, cache=True)
    lm("hello")
    lm("hello")

    asked, found = seen.spans("chat")
    assert "tuneful.cache_hit" not in asked.attributes
    assert found.attributes["tuneful.cache_hit"] is True
    assert "gen_ai.usage.input_tokens" not in found.attributes
    assert [p.count for p in seen.points("gen_ai.client.token.usage")] == [1, 1]
    assert [p.count for p in seen.points("gen_ai.client.operation.duration")] == [1]


def test_an_error_is_on_every_span_that_it_goes_through(seen):
    seen.watch()
    error = tf.LMRateLimitError(f"slow down; you said: my diagnosis, with {SECRET}", status=429)
    tf.configure(lm=tf.LM("openai/some-model", backend=Remote(error)))
    with pytest.raises(tf.LMRateLimitError):
        Sync()(question="x?")

    assert [s.name for s in seen.spans()] == ["chat some-model", "Predict", "invoke_workflow Sync"]
    for span in seen.spans():
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == "LMRateLimitError"
        assert span.attributes["http.response.status_code"] == 429
    assert "diagnosis" not in "".join(s.to_json() for s in seen.spans())
    (duration,) = seen.points("gen_ai.client.operation.duration")
    assert duration.attributes["error.type"] == "LMRateLimitError"
    assert seen.points("gen_ai.client.token.usage") == []


async def test_a_stream_is_one_span_and_leaving_it_early_no_error(seen):
    seen.watch()
    lm = ScriptedLM(lambda r: ANSWER)
    request = Request((user("hello"),), Sampling())
    async for _ in lm.stream(request):
        pass
    stream = lm.stream(request)
    await anext(stream)
    await stream.aclose()

    whole, left = seen.spans("chat")
    assert whole.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert left.status.status_code is StatusCode.UNSET


# --- nesting ---


@pytest.mark.parametrize("program", [Sync, Async])
def test_spans_nest_as_the_calls_do_with_many_in_flight(seen, program):
    seen.watch(capture_content=True)
    tf.configure(lm=ScriptedLM(lambda r: ANSWER, seconds=0.002))
    devset = [tf.Example(question=f"q{i}.", answer="yes").with_inputs("question") for i in range(64)]
    result = tf.Evaluate(devset=devset, metric=tf.metrics.answer_exact_match, num_threads=32)(program())

    by_id = {s.context.span_id: s for s in seen.spans()}
    calls = seen.spans("chat")
    assert len(calls) == 64 * (2 if program is Async else 1)
    for call in calls:
        predictor = by_id[call.parent.span_id]
        run = by_id[predictor.parent.span_id]
        evaluation = by_id[run.parent.span_id]
        assert [predictor.name, run.name, evaluation.name] == [
            "Predict",
            f"invoke_workflow {program.__name__}",
            f"evaluate {program.__name__}",
        ]
        question = json.loads(run.attributes["tuneful.inputs"])["question"]
        assert json.loads(predictor.attributes["tuneful.inputs"])["question"] == question
        assert f"\\n{question}" in call.attributes["gen_ai.input.messages"]
        assert call.start_time >= predictor.start_time >= run.start_time >= evaluation.start_time
        assert call.end_time <= predictor.end_time <= run.end_time <= evaluation.end_time
    (evaluation,) = seen.spans("evaluate")
    assert evaluation.parent is None
    assert len({s.context.trace_id for s in seen.spans()}) == 1
    assert evaluation.attributes["gen_ai.evaluation.name"] == "answer_exact_match"
    assert evaluation.attributes["gen_ai.evaluation.score.value"] == result.score
    assert evaluation.attributes["tuneful.examples"] == 64


def test_only_the_program_is_a_workflow(seen):
    seen.watch()
    tf.configure(lm=ScriptedLM(lambda r: ANSWER))
    Sync()(question="x?")

    _, predictor, run = seen.spans()
    assert (run.name, run.kind) == ("invoke_workflow Sync", SpanKind.INTERNAL)
    assert run.attributes["gen_ai.operation.name"] == "invoke_workflow"
    assert run.attributes["gen_ai.workflow.name"] == "Sync"
    assert (predictor.name, dict(predictor.attributes)) == ("Predict", {"tuneful.module": "Predict"})


def test_a_tool_is_a_span_by_the_conventions(seen):
    def double(x: int) -> int:
        """Doubles."""
        return 2 * x

    seen.watch()
    tf.Tool(double)(x=2)

    (span,) = seen.spans()
    assert (span.name, span.kind) == ("execute_tool double", SpanKind.INTERNAL)
    assert span.attributes["gen_ai.tool.name"] == "double"
    assert "tuneful.inputs" not in span.attributes


@pytest.mark.parametrize("asynchronous", [False, True])
def test_spans_of_the_user_nest_on_both_sides(seen, asynchronous):
    tracer = seen.tracers.get_tracer("mine")

    class Own(Sync):
        def forward(self, question):
            with tracer.start_as_current_span("inner"):
                return self.ask(question=question)

    seen.watch()
    tf.configure(lm=ScriptedLM(lambda r: ANSWER))
    with tracer.start_as_current_span("outer"):
        asyncio.run(Own().acall(question="x?")) if asynchronous else Own()(question="x?")

    by_id = {s.context.span_id: s for s in seen.spans()}
    path = [seen.spans("chat")[0]]
    while path[-1].parent:
        path.append(by_id[path[-1].parent.span_id])
    assert [s.name for s in path] == ["chat scripted", "Predict", "inner", "invoke_workflow Own", "outer"]


def test_a_cancelled_run_leaves_no_span_open(seen):
    seen.watch()
    tf.configure(lm=ScriptedLM(lambda r: ANSWER, seconds=30))
    example = tf.Example(question="x?", answer="yes").with_inputs("question")
    tf.Evaluate(devset=[example], metric=lambda e, p: True, timeout_s=0.1)(Async())

    assert {s.attributes["error.type"] for s in seen.spans("chat")} == {"CancelledError"}
    assert len(seen.spans()) == 6
    (watcher,) = tf.settings.callbacks
    assert not watcher._open


def test_a_compile_is_a_span_with_its_verdict(seen):
    seen.watch()
    tf.configure(lm=ScriptedLM(lambda r: ANSWER))
    devset = [tf.Example(question=str(i), answer="yes").with_inputs("question") for i in range(6)]
    teleprompter = tf.BootstrapFewShot(metric=tf.metrics.answer_exact_match)
    compiled = teleprompter.compile(tf.Predict("question -> answer"), trainset=devset)

    (span,) = seen.spans("compile BootstrapFewShot")
    assert span.attributes["tuneful.module"] == "Predict"
    assert span.attributes["tuneful.examples"] == 6
    assert span.attributes["tuneful.verdict"] == compiled.report.verdict
    assert {s.parent.span_id for s in seen.spans("invoke_workflow")} == {span.context.span_id}


# --- content ---


PICTURE = Media("image", "image/png", data="aGk=")
CHAT = (
    Message("system", "Be brief."),
    Message("user", ("What is this?", PICTURE, Media("file", url="https://example.com/a.pdf"))),
    Message("assistant", "", (ToolCall("1", "look", '{"at": "it"}'), ToolCall("2", "look", "{broken"))),
    Message("tool", "a cat", call_id="1"),
)
ANSWERED = Response(
    (Choice("A cat.", reasoning="whiskers"), Choice("", "tools", tool_calls=(ToolCall("3", "stop", "{}"),))),
    Usage(calls=1),
    "some-model",
)


def test_content_is_left_out_unless_asked_for(seen):
    seen.watch()
    tf.configure(lm=ScriptedLM(lambda r: ANSWER.replace("yes", "my answer")))
    Sync()(question="my question")
    with pytest.raises(tf.AdapterParseError):
        tf.Predict("question -> answer: int")(question="my question")

    everything = "".join(s.to_json() for s in seen.spans())
    assert "my question" not in everything
    assert "my answer" not in everything


def ask(lm):
    asyncio.run(lm.complete(Request(CHAT, Sampling(n=2))))


def test_content_is_written_by_the_schemas_of_the_conventions(seen):
    seen.watch(capture_content=True)
    ask(tf.LM("openai/some-model", backend=Remote(ANSWERED)))

    (span,) = seen.spans()
    assert json.loads(span.attributes["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "What is this?"},
                {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "aGk="},
                {"type": "uri", "modality": "document", "uri": "https://example.com/a.pdf"},
            ],
        },
        {
            "role": "assistant",
            "parts": [
                {"type": "tool_call", "id": "1", "name": "look", "arguments": {"at": "it"}},
                {"type": "tool_call", "id": "2", "name": "look", "arguments": "{broken"},
            ],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": "a cat"}]},
    ]
    assert json.loads(span.attributes["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [{"type": "reasoning", "content": "whiskers"}, {"type": "text", "content": "A cat."}],
            "finish_reason": "stop",
        },
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "3", "name": "stop", "arguments": {}}],
            "finish_reason": "tool_call",
        },
    ]
    assert span.attributes["gen_ai.response.finish_reasons"] == ("stop", "tool_call")


def test_what_goes_in_and_out_of_modules_may_be_anything(seen):
    class Odd(tf.Module):
        def forward(self, thing):
            circle = {}
            circle["self"] = circle
            return circle

    seen.watch(capture_content=True)
    Odd()({("a", 1): {1, 2}})
    (span,) = seen.spans()
    assert "('a', 1)" in span.attributes["tuneful.inputs"]
    assert "..." in span.attributes["tuneful.outputs"]


@pytest.mark.parametrize(
    ("variable", "argument", "captured"),
    [
        ("true", None, True),
        ("SPAN_ONLY", None, True),
        ("span_and_event", None, True),
        ("event_only", None, False),
        ("false", None, False),
        ("", None, False),
        ("false", True, True),
        ("true", False, False),
    ],
)
def test_the_environment_decides_where_the_argument_does_not(seen, monkeypatch, variable, argument, captured):
    monkeypatch.setenv(CONTENT_VARIABLE, variable)
    seen.watch(capture_content=argument)
    ScriptedLM(lambda r: ANSWER)("hello")
    assert ("gen_ai.input.messages" in seen.spans()[0].attributes) is captured


def test_no_key_is_in_any_attribute(seen, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    seen.watch(capture_content=True)
    ask(tf.LM("openai/some-model", backend=Remote(ANSWERED)))
    lm = tf.LM(
        "openai/gpt-4o-mini",
        api_key=SECRET,
        api_base="http://127.0.0.1:9/v1",
        num_retries=0,
        connect_timeout_s=1,
    )
    with pytest.raises(tf.LMError):
        lm("hello")

    everything = "".join(s.to_json() for s in seen.spans())
    assert len(seen.spans("chat")) == 2
    assert SECRET not in everything


# --- without it ---


def test_with_no_provider_set_it_does_no_harm():
    tf.configure(callbacks=[OpenTelemetry()], lm=ScriptedLM(lambda r: ANSWER))
    assert Sync()(question="x?").answer == "yes"


def test_a_missing_package_is_named_with_the_command_to_install_it():
    code = """
    import sys
    sys.modules["opentelemetry"] = None
    import tuneful as tf
    from tuneful.integrations.opentelemetry import OpenTelemetry
    try:
        OpenTelemetry()
    except tf.MissingExtraError as error:
        assert "pip install 'tuneful[otel]'" in str(error)
        print("missing")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("missing", "")
