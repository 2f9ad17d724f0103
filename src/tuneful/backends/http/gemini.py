"""Gemini's layout (generateContent): Request -> body, body -> Response, events -> pieces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from tuneful.backends.http.chat_completions import REPETITION_STEP
from tuneful.backends.http.layout import add_extra, arguments_of
from tuneful.backends.http.refusal import error_of
from tuneful.backends.models import ModelFacts
from tuneful.errors import LMError, LMInvalidRequestError, LMServerError, LMTransportError
from tuneful.wire.messages import Media, Message, Tool, ToolCall
from tuneful.wire.request import Request, Sampling
from tuneful.wire.response import Choice, Delta, FinishReason, Response, Usage

#: Anything else that ends an answer is a filter of some kind (SAFETY, RECITATION, BLOCKLIST, ...).
_FINISH: dict[str, FinishReason] = {
    "": "stop",
    "FINISH_REASON_UNSPECIFIED": "stop",
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
}
#: Ends that are failures of the service: nothing of the answer can be used, another try may do better.
_BROKEN = frozenset(("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE", "TOO_MANY_TOOL_CALLS"))

_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}

#: Later models want their calls back with the signature that came with them. A call that never had one (another model
#: made it, or it is part of a demo) is marked with this word, as the service's manual says.
_UNSIGNED = "skip_thought_signature_validator"


class Gemini:
    """The layout."""

    def path(self, model: str, *, streaming: bool) -> str:
        """Return the path of the request; the model is part of it."""
        name = model if "/" in model else f"models/{model}"
        return f"/{quote(name)}:" + ("streamGenerateContent?alt=sse" if streaming else "generateContent")

    def to_body(self, request: Request, model: str, facts: ModelFacts) -> dict[str, Any]:
        """Return the JSON body of a request. Raises LMInvalidRequestError for what the service cannot express."""
        if request.grammar is not None:
            raise _refused(model, "it cannot be held to a grammar. Use a JSON schema, or an adapter without grammars")
        system, turns = _turns(request, model, facts)
        body: dict[str, Any] = {"contents": turns, "generationConfig": _config(request, model, facts)}
        if system:
            body["systemInstruction"] = {"parts": system}
        if request.tools:
            body["tools"] = [{"functionDeclarations": [_tool(t) for t in request.tools]}]
        if request.tool_choice is not None:
            choice = request.tool_choice
            config: dict[str, Any] = {"mode": _MODES.get(choice, "ANY")}
            if choice not in _MODES:
                config["allowedFunctionNames"] = [choice]
            body["toolConfig"] = {"functionCallingConfig": config}
        add_extra(body, request)
        return body

    def left_out(self, request: Request, body: dict[str, Any]) -> tuple[str, ...]:
        """Return nothing: all is asked for, or refused."""
        return ()

    def streamed(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body as it is: the path asks for a stream."""
        return body

    def from_body(self, body: Any, model: str) -> Response:
        """Return the response in a body. Raises LMInvalidRequestError where the prompt was blocked."""
        try:
            blocked = (body.get("promptFeedback") or {}).get("blockReason")
            if blocked and not body.get("candidates"):
                raise LMInvalidRequestError(
                    f"`{model}` does not answer this prompt: its filter says {blocked}. Change the prompt, or the "
                    "filter: extra_body={'safetySettings': [...]}.",
                    model=model,
                )
            choice = _choice(body["candidates"][0], model)
            return Response(
                (choice,), usage_of(body.get("usageMetadata") or {}), str(body.get("modelVersion") or model)
            )
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, LMError):
                raise
            raise LMServerError(
                f"`{model}` answered with something that holds no candidate: {str(body)[:300]!r}.", model=model
            ) from error

    def reader(self, model: str) -> GeminiReader:
        """Return a reader of one streamed answer."""
        return GeminiReader(model)


def _refused(model: str, why: str) -> LMInvalidRequestError:
    return LMInvalidRequestError(f"`{model}` cannot be asked this way: {why}. No call was made.", model=model)


# --- what is sent ---


def _turns(request: Request, model: str, facts: ModelFacts) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the system parts and the turns, with turns of one role in a row put together."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    signed = any(isinstance(measure, str) for _, measure in facts.efforts)
    for message in request.messages:
        names.update({c.id: c.name for c in message.tool_calls})
        parts = _parts(message, names, model, signed=signed)
        role = "model" if message.role == "assistant" else "user"
        if message.role == "system":
            system += parts
        elif turns and turns[-1]["role"] == role:
            turns[-1]["parts"] += parts
        else:
            turns.append({"role": role, "parts": list(parts)})
    return system, turns


def _parts(message: Message, names: Mapping[str, str], model: str, *, signed: bool) -> list[dict[str, Any]]:
    content = (message.content,) if isinstance(message.content, str) else message.content
    if message.role == "system" and message.media:
        raise _refused(model, "a system message is text only. Put media into a user message")
    if message.role == "tool":
        return [_result(message, names, model), *map(_media, message.media)]
    parts = [{"text": c} if isinstance(c, str) else _media(c) for c in content if c]
    for index, call in enumerate(message.tool_calls):
        part: dict[str, Any] = {"functionCall": {"id": call.id, "name": call.name, "args": arguments_of(call)}}
        if call.signature and not call.signature.startswith("["):  # JSON is another provider's
            part["thoughtSignature"] = call.signature
        elif signed and index == 0:  # of calls made at once, the first carries the signature
            part["thoughtSignature"] = _UNSIGNED
        parts.append(part)
    return parts or [{"text": ""}]


def _result(message: Message, names: Mapping[str, str], model: str) -> dict[str, Any]:
    """Return the result of a call. It names its function, which stands in the call."""
    if message.call_id not in names:
        raise _refused(model, f"there is no call {message.call_id!r} before its result")
    content = message.content
    text = content if isinstance(content, str) else "\n".join(c for c in content if isinstance(c, str))
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    response = value if isinstance(value, dict) else {"output": text}
    return {"functionResponse": {"id": message.call_id, "name": names[message.call_id], "response": response}}


def _media(media: Media) -> dict[str, Any]:
    if media.url:
        kind = {"mimeType": media.media_type} if media.media_type else {}
        return {"fileData": {**kind, "fileUri": media.url}}
    return {"inlineData": {"mimeType": media.media_type, "data": media.data}}


def _tool(tool: Tool) -> dict[str, Any]:
    schema = json.loads(tool.parameters)
    return {"name": tool.name, "description": tool.description, "parametersJsonSchema": schema}


def _config(request: Request, model: str, facts: ModelFacts) -> dict[str, Any]:
    sampling = request.sampling
    found = _sampling(sampling, model, facts)
    if request.json_schema is not None:
        found["responseMimeType"] = "application/json"
        found["responseJsonSchema"] = json.loads(request.json_schema)
    if sampling.reasoning_effort is not None:
        measure = dict(facts.efforts).get(sampling.reasoning_effort, sampling.reasoning_effort)
        if isinstance(measure, str):
            found["thinkingConfig"] = {"thinkingLevel": measure, "includeThoughts": True}
        else:
            found["thinkingConfig"] = {"thinkingBudget": measure, "includeThoughts": measure > 0}
    return found


def _sampling(sampling: Sampling, model: str, facts: ModelFacts) -> dict[str, Any]:
    found: dict[str, Any] = {}
    temperature = sampling.resolved().temperature or 0.0
    if temperature > 2:
        raise _refused(model, f"its temperature goes from 0 to 2, got {temperature}")
    if "temperature" not in facts.refuses:
        found["temperature"] = temperature
    if sampling.max_tokens is not None:
        found["maxOutputTokens"] = sampling.max_tokens
    if sampling.top_p is not None:
        found["topP"] = sampling.top_p
    if sampling.stop:
        found["stopSequences"] = list(sampling.stop)
    if sampling.seed is not None:
        found["seed"] = sampling.seed + REPETITION_STEP * sampling.rollout_id + sampling.sample
    if sampling.logprobs:
        found["responseLogprobs"] = True
    return found


# --- what comes back ---


def usage_of(usage: Mapping[str, Any]) -> Usage:
    """Return the counts of a `usageMetadata` object."""

    def count(name: str) -> int:
        return int(usage.get(name) or 0)

    return Usage(
        calls=1,
        prompt_tokens=count("promptTokenCount") + count("toolUsePromptTokenCount"),
        cached_tokens=count("cachedContentTokenCount"),
        completion_tokens=count("candidatesTokenCount") + count("thoughtsTokenCount"),
        reasoning_tokens=count("thoughtsTokenCount"),
    )


def _choice(candidate: Mapping[str, Any], model: str) -> Choice:
    reason = candidate.get("finishReason") or ""
    if reason in _BROKEN:
        said = candidate.get("finishMessage") or "no message"
        raise LMServerError(f"`{model}` broke off its answer: {reason} ({said}).", model=model)
    parts = (candidate.get("content") or {}).get("parts") or []
    calls = tuple(
        ToolCall(
            str(p["functionCall"].get("id") or f"call-{i}"),
            p["functionCall"]["name"],
            json.dumps(p["functionCall"].get("args") or {}, ensure_ascii=False),
            str(p.get("thoughtSignature") or ""),
        )
        for i, p in enumerate(parts)
        if "functionCall" in p
    )
    finish = _FINISH.get(reason, "filter")
    if calls and finish == "stop":
        finish = "tools"
    chosen = (candidate.get("logprobsResult") or {}).get("chosenCandidates")
    logprobs = tuple((c["token"], float(c["logProbability"])) for c in chosen) if chosen else None
    return Choice(_joined(parts, thoughts=False), finish, logprobs, calls, _joined(parts, thoughts=True))


def _joined(parts: Any, *, thoughts: bool) -> str:
    return "".join(p.get("text") or "" for p in parts if bool(p.get("thought")) is thoughts)


class GeminiReader:
    """Folds streamed responses, each of which holds further parts, into one."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._body: dict[str, Any] = {}
        self._parts: list[dict[str, Any]] = []
        self._logprobs: list[Any] = []
        self._candidate: dict[str, Any] = {}

    def feed(self, event: dict[str, Any]) -> list[Delta]:
        """Take one event."""
        if event.get("error"):
            code = event["error"].get("code") if isinstance(event["error"], dict) else None
            raise error_of(code if isinstance(code, int) else 500, event, self._model)
        try:
            return self._taken(event)
        except (KeyError, TypeError, AttributeError) as error:
            raise LMServerError(
                f"`{self._model}` sent an event that holds no candidate: {str(event)[:300]!r}.", model=self._model
            ) from error

    def _taken(self, event: Mapping[str, Any]) -> list[Delta]:
        names = ("usageMetadata", "modelVersion", "promptFeedback")
        self._body.update({k: event[k] for k in names if event.get(k)})
        deltas = []
        for candidate in (event.get("candidates") or [])[:1]:
            parts = (candidate.get("content") or {}).get("parts") or []
            self._parts += parts
            self._logprobs += (candidate.get("logprobsResult") or {}).get("chosenCandidates") or []
            self._candidate.update({k: candidate[k] for k in ("finishReason", "finishMessage") if candidate.get(k)})
            for part in parts:
                if part.get("text"):
                    thought = bool(part.get("thought"))
                    deltas.append(Delta("", part["text"]) if thought else Delta(part["text"]))
        return deltas

    def finish(self) -> Response:
        """Return the response that the events make. Raises LMTransportError where none of them ended it."""
        blocked = "promptFeedback" in self._body and not self._candidate and not self._parts
        if not self._candidate.get("finishReason") and not blocked:
            raise LMTransportError(
                f"the stream of `{self._model}` ended before its answer did; what came of it is not used.",
                model=self._model,
            )
        folded = {"content": {"parts": self._parts}, "logprobsResult": {"chosenCandidates": self._logprobs}}
        candidates = [] if blocked else [{**self._candidate, **folded}]
        return Gemini().from_body({**self._body, "candidates": candidates}, self._model)
