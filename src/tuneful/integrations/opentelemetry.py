"""OpenTelemetry: spans and metrics of a program, by the semantic conventions for generative AI."""

from __future__ import annotations

import os
import re
import time
from contextvars import Token
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from tuneful.errors import LMError, MissingExtraError
from tuneful.integrations import genai_conventions as genai
from tuneful.integrations.genai_conventions import Attributes
from tuneful.program.lm import LM
from tuneful.program.watching.callback import Callback, current_call_id
from tuneful.wire.request import Request
from tuneful.wire.response import Response

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, SpanKind, TracerProvider


@dataclass(slots=True)
class _Open:
    """A call that has a span, until it ends."""

    kind: str
    span: Span
    token: Token[Context]
    begun: float
    target: Attributes


class OpenTelemetry(Callback):
    """Makes a span of every module, model, tool, evaluation and compile, and the conventions' metrics of model calls.

        tf.configure(callbacks=[OpenTelemetry()])

    A program is a span `invoke_workflow NAME`; its modules are spans by their names; a model call is a span
    `chat MODEL` of kind client, with `gen_ai.*` attributes; they nest as the calls do, under whatever span the program
    was called in. While a call runs its span is the current one, so spans of your own nest as well. Metrics are
    `gen_ai.client.operation.duration` and `gen_ai.client.token.usage`; answers from the cache are in neither, and carry
    `tuneful.cache_hit` on their span.

    Prompts, answers and messages of exceptions, which may quote them, are left out unless asked for. Addresses are
    recorded as host and port, and keys nowhere.

    Args:
        tracer_provider, meter_provider: where spans and metrics go; by default the process-wide ones of OpenTelemetry.
        capture_content: record prompts, answers, inputs and outputs too. By default the environment variable
            `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` decides ("true", "span_only" or "span_and_event").

    Raises:
        MissingExtraError: OpenTelemetry is not installed.

    Source: OpenTelemetry semantic conventions for generative AI, see `tuneful.integrations.genai_conventions`.
    Left out, since callbacks are not told of them: the response's id, and times of the pieces of a stream.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        capture_content: bool | None = None,
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise MissingExtraError("opentelemetry-sdk", "otel", "OpenTelemetry") from error
        self._tracer = trace.get_tracer("tuneful", version("tuneful"), tracer_provider)
        meter = metrics.get_meter("tuneful", version("tuneful"), meter_provider)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=genai.SECOND_BUCKETS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=genai.TOKEN_BUCKETS,
        )
        asked_for = os.environ.get(genai.CONTENT_VARIABLE, "").strip().lower() in genai.CONTENT_VALUES
        self._content = asked_for if capture_content is None else capture_content
        self._open: dict[str, _Open] = {}

    # --- models ---

    def on_lm_start(self, call_id: str, instance: LM, inputs: Request) -> None:
        """Begin the span of a model call."""
        from opentelemetry.trace import SpanKind

        target = genai.target_attributes(instance.model, instance.endpoint)
        given = {**target, **genai.request_attributes(inputs)}
        if self._content:
            given["gen_ai.input.messages"] = genai.input_messages(inputs)
        self._begin(call_id, "lm", f"chat {target['gen_ai.request.model']}", given, SpanKind.CLIENT, target)

    def on_lm_end(self, call_id: str, outputs: Response | None, exception: BaseException | None = None) -> None:
        """End the span of a model call, and count it unless the cache has answered."""
        call = self._open.get(call_id)
        found: Attributes = {}
        if outputs is not None:
            found = genai.response_attributes(outputs)
            if self._content:
                found["gen_ai.output.messages"] = genai.output_messages(outputs)
        self._end(call_id, found, exception)
        if call is not None and not (outputs is not None and outputs.hit):
            self._count(call, outputs, exception)

    def _count(self, call: _Open, outputs: Response | None, exception: BaseException | None) -> None:
        about = dict(call.target)
        if outputs is not None and outputs.model:
            about["gen_ai.response.model"] = outputs.model
        failed = {"error.type": _error_type(exception)} if _failed(exception) else {}
        self._duration.record(time.perf_counter() - call.begun, {**about, **failed})
        if outputs is None:
            return
        tokens = {"input": outputs.usage.prompt_tokens, "output": outputs.usage.completion_tokens}
        for kind, count in tokens.items():
            if count:  # 0 is what a server gives that does not count
                self._tokens.record(count, {**about, "gen_ai.token.type": kind})

    # --- modules ---

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Begin the span of a module; the outermost one is a workflow."""
        name = type(instance).__name__
        parent = self._open.get(current_call_id() or "")
        given: Attributes = {"tuneful.module": name}
        if parent is None or parent.kind != "module":
            given |= {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": name}
            name = f"invoke_workflow {name}"
        if self._content:
            given["tuneful.inputs"] = genai.fields(inputs)
        self._begin(call_id, "module", name, given)

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """End the span of a module."""
        self._end(call_id, {"tuneful.outputs": genai.fields(outputs)} if self._content else {}, exception)

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Begin the span of a tool."""
        given: Attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": instance.name,
            "gen_ai.tool.type": "function",
        }
        if self._content:
            given |= {"gen_ai.tool.description": instance.description, "tuneful.inputs": genai.fields(inputs)}
        self._begin(call_id, "tool", f"execute_tool {instance.name}", given)

    def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """End the span of a tool."""
        self._end(call_id, {"tuneful.outputs": genai.fields({"result": outputs})} if self._content else {}, exception)

    # --- evaluations and compiles ---

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Begin the span of an evaluation."""
        program, metric = type(inputs["program"]).__name__, inputs["metric"]
        given: Attributes = {
            "gen_ai.evaluation.name": getattr(metric, "__name__", type(metric).__name__),
            "tuneful.module": program,
            "tuneful.examples": len(inputs["devset"]),
        }
        self._begin(call_id, "evaluate", f"evaluate {program}", given)

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """End the span of an evaluation, with its score."""
        score = None if outputs is None else outputs.score
        self._end(call_id, {} if score is None else {"gen_ai.evaluation.score.value": float(score)}, exception)

    def on_compile_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Begin the span of a compile."""
        program = type(inputs["student"]).__name__
        given: Attributes = {"tuneful.module": program, "tuneful.examples": len(inputs["trainset"])}
        self._begin(call_id, "compile", f"compile {type(instance).__name__}", given)

    def on_compile_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """End the span of a compile, with its verdict."""
        report = None if outputs is None else outputs.report
        self._end(call_id, {} if report is None else {"tuneful.verdict": str(report.verdict)}, exception)

    # --- spans ---

    def _begin(
        self,
        call_id: str,
        kind: str,
        name: str,
        given: Attributes,
        span_kind: SpanKind | None = None,
        target: Attributes | None = None,
    ) -> None:
        from opentelemetry import context, trace

        span = self._tracer.start_span(name, kind=span_kind or trace.SpanKind.INTERNAL, attributes=given)
        token = context.attach(trace.set_span_in_context(span))
        self._open[call_id] = _Open(kind, span, token, time.perf_counter(), target or {})

    def _end(self, call_id: str, found: Attributes, exception: BaseException | None) -> None:
        from opentelemetry import context
        from opentelemetry.trace import StatusCode

        call = self._open.pop(call_id, None)
        if call is None:  # it began before these callbacks were in force
            return
        context.detach(call.token)
        call.span.set_attributes(found)
        if _failed(exception):
            call.span.set_attribute("error.type", _error_type(exception))
            if isinstance(exception, LMError) and exception.status is not None:
                call.span.set_attribute("http.response.status_code", exception.status)
            call.span.set_status(StatusCode.ERROR, _message(exception) if self._content else None)
        call.span.end()


def _failed(exception: BaseException | None) -> bool:
    """Whether a call failed; a stream that was left early did not."""
    return exception is not None and not isinstance(exception, GeneratorExit)


def _message(exception: BaseException | None) -> str:
    """Return what an exception says, without the passwords of addresses that it may quote."""
    return re.sub(r"//[^/\s@]+@", "//", str(exception))


def _error_type(exception: BaseException | None) -> str:
    return type(exception).__name__
