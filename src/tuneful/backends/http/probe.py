"""Probing: asks a server of the user's own what it can do.

Most servers describe themselves (that is free); what they do not say is tried out with up to four requests of a few
tokens, each asking for something that no model gives of its own accord.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tuneful.backends.http.chat_completions import ChatCompletions
from tuneful.errors import LMInvalidRequestError, LMServerError, LMTimeoutError, LMTransportError
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import MediaKind, Tool, user
from tuneful.wire.request import Request, Sampling
from tuneful.wire.response import Choice

if TYPE_CHECKING:
    from tuneful.backends.http.backend import HTTPBackend
    from tuneful.backends.http.exchange import Reply

#: Seconds for one question about the server.
_PATIENCE_S = 5.0
#: Up to so many parameters, short prompts serve a model better.
_SMALL = 4e9

#: Names of fields of `Capabilities`, and what was found; `grammar_field` is the layout's.
Findings = dict[str, Any]


async def probe(backend: HTTPBackend) -> Capabilities:
    """Return what a server can do, and set its layout's grammar field.

    Providers with a layout of their own (Anthropic, Gemini) are known already and are not asked.

    Cost: up to 6 free questions; up to 4 calls of a few tokens for what they leave open.

    Raises:
        LMTransportError, LMTimeoutError: the server cannot be reached.
        LMAuthError: it refuses the key.
        LMInvalidRequestError: it does not know the model.
    """
    layout = backend.layout
    if not isinstance(layout, ChatCompletions):
        return backend.capabilities
    found = await _described(backend)
    for name, attempt in _ATTEMPTS.items():
        if name not in found:
            found.update(await attempt(backend))
    found.pop("logprobs", None)
    if "grammar" in found:
        layout.grammar_field = found.pop("grammar_field", None)
    refuses = found.pop("refuses", frozenset[str]())
    return replace(backend.capabilities, **found, refuses=backend.capabilities.refuses | refuses)


# --- what a server says of itself ---


async def _described(backend: HTTPBackend) -> Findings:
    headers = backend.request_headers()
    reply = await backend.transport.get(f"{backend.base_url}/models", headers, _PATIENCE_S)
    if reply.status in (401, 403):
        backend.json_of(reply)  # raises
    found = _read(reply, _of_models, backend.model)
    if "tools" in found:  # a service that says all of it
        return found
    root = re.sub(r"/v\d+$", "", backend.base_url)
    for path, reader in _SERVERS.items():
        described = _read(await _asked(backend, root + path, headers), reader, backend.model)
        if described:
            return {**found, **described}
    return found


async def _asked(backend: HTTPBackend, url: str, headers: Mapping[str, str]) -> Reply | None:
    """Ask an address that a server may not have; None where nothing comes."""
    try:
        if url.endswith("/api/show"):
            async with asyncio.timeout(_PATIENCE_S):
                return await backend.transport.post_json(url, {"model": backend.model}, headers)
        return await backend.transport.get(url, headers, _PATIENCE_S)
    except (LMTransportError, LMTimeoutError, TimeoutError):
        return None


def _read(reply: Reply | None, reader: Callable[[Any, str], Findings], model: str) -> Findings:
    """Return what a description says; nothing where it is none, or another one than is known."""
    if reply is None or reply.status >= 400:
        return {}
    try:
        found = reader(json.loads(reply.body), model)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return {}
    return {k: v for k, v in found.items() if v is not None}


def _entry(body: Any, model: str) -> dict[str, Any]:
    """Return the model's entry in a list of models; a server with a single one may call it differently."""
    entries = body["data"]
    named = [e for e in entries if e.get("id") == model]
    return dict(named[0] if named else entries[0] if len(entries) == 1 else {})


def _of_models(body: Any, model: str) -> Findings:
    """Read `/models`: plain OpenAI says nothing, vLLM a length, OpenRouter all of it."""
    entry = _entry(body, model)
    found: Findings = {"context_tokens": _count(entry.get("max_model_len") or entry.get("context_length"))}
    parameters_of_it = (entry.get("meta") or {}).get("n_params")  # llama.cpp
    found["small"] = parameters_of_it <= _SMALL if parameters_of_it else None
    parameters = entry.get("supported_parameters")
    if isinstance(parameters, list):
        found["json_schema"] = "structured_outputs" in parameters
        found["tools"] = "tools" in parameters
        found["grammar"] = ""
        found["reasoning"] = "reasoning" in parameters
        found["logprobs"] = "logprobs" in parameters
        found["refuses"] = frozenset({"temperature", "top_p", "seed", "stop", "logprobs"}) - set(parameters)
        found["answer_tokens"] = _count((entry.get("top_provider") or {}).get("max_completion_tokens"))
        found["media"] = _media(entry["architecture"]["input_modalities"])
    return found


def _of_llamacpp(body: Any, _model: str) -> Findings:
    """Read llama.cpp's `/props`. It always takes grammars and schemas; tools depend on the model's template."""
    settings = body["default_generation_settings"]
    modalities = body.get("modalities") or {}
    abilities = body.get("chat_template_caps") or {}
    return {
        "context_tokens": _count(settings.get("n_ctx")),
        "media": _media(k for k, able in modalities.items() if able) if modalities else None,
        "grammar": "gbnf",
        "grammar_field": "grammar",
        "json_schema": True,
        "logprobs": True,
        "tools": abilities.get("supports_tools"),
    }


def _of_lmstudio(body: Any, model: str) -> Findings:
    """Read LM Studio's `/api/v0/models`."""
    entry = _entry(body, model)
    return {
        "context_tokens": _count(entry.get("loaded_context_length") or entry["max_context_length"]),
        "media": _media(["vision"] if entry.get("type") == "vlm" else []),
        "tools": "tool_use" in entry["capabilities"] if "capabilities" in entry else None,
        "grammar": "",
    }


def _of_ollama(body: Any, _model: str) -> Findings:
    """Read Ollama's `/api/show`."""
    abilities = body["capabilities"]
    lengths = [v for k, v in (body.get("model_info") or {}).items() if k.endswith(".context_length")]
    size = (body.get("details") or {}).get("parameter_size") or ""
    return {
        "context_tokens": _count(lengths[0] if lengths else None),
        "media": _media(a for a in abilities if a in ("vision", "audio")),
        "tools": "tools" in abilities,
        "reasoning": "thinking" in abilities,
        "small": _parameters(size) <= _SMALL if _parameters(size) else None,
        "grammar": "",
    }


def _of_sglang(body: Any, _model: str) -> Findings:
    """Read SGLang's `/get_server_info`."""
    return {"context_tokens": _count(body.get("context_length") or body["max_req_input_len"])}


#: Where a server describes itself beside `/models`, below the address without its version. The first answer counts;
#: llama.cpp stands first, since it also answers for Ollama.
_SERVERS: dict[str, Callable[[Any, str], Findings]] = {
    "/props": _of_llamacpp,
    "/api/v0/models": _of_lmstudio,
    "/api/show": _of_ollama,
    "/get_server_info": _of_sglang,
    "/server_info": _of_sglang,
}

_KINDS: dict[str, MediaKind] = {"image": "image", "vision": "image", "audio": "audio", "file": "file"}


def _media(names: Any) -> frozenset[MediaKind]:
    return frozenset(_KINDS[n] for n in names if n in _KINDS)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _parameters(size: str) -> float:
    """Return the number in a size such as "3.2B" or "137M", or 0."""
    mark = re.fullmatch(r"([\d.]+)([BM])", size)
    return float(mark[1]) * {"B": 1e9, "M": 1e6}[mark[2]] if mark else 0.0


# --- what is tried out ---

_WORD = "zq7-maple"
_SCHEMA = {
    "type": "object",
    "properties": {"mark": {"type": "string", "enum": [_WORD]}},
    "required": ["mark"],
    "additionalProperties": False,
}
#: Fields that take a grammar, and the letter that each of them asks for, so that one answer tells which one counts.
_GRAMMAR_FIELDS = {"grammar": "a", "structured_outputs.grammar": "b", "guided_grammar": "c", "ebnf": "d"}
#: In the notation of GBNF as adapters use it: classes, counts, escapes, rules over several lines.
_GRAMMAR = 'root ::= "zq-LETTER-" tail\ntail ::= [^a-jn-z \\n] [k-m]{1,2} ("x" | "\\x79")?\n'
_TOOL = Tool("note", "Notes a word.", json.dumps({"type": "object", "properties": {"word": {"type": "string"}}}))


async def _try_schema(backend: HTTPBackend) -> Findings:
    request = Request((user("Say hello."),), _sampling(backend), json_schema=json.dumps(_SCHEMA))
    choice = await _answer(backend, request)
    try:
        obeyed = choice is not None and json.loads(choice.text) == {"mark": _WORD}
    except ValueError:
        obeyed = False
    return _judged("json_schema", choice, obeyed=obeyed)


async def _try_grammar(backend: HTTPBackend) -> Findings:
    fields: dict[str, Any] = {}
    for name, letter in _GRAMMAR_FIELDS.items():
        outer, _, inner = name.partition(".")
        grammar = _GRAMMAR.replace("LETTER", letter)
        fields[outer] = {inner: grammar} if inner else grammar
    extra = tuple(sorted((k, json.dumps(v)) for k, v in fields.items()))
    choice = await _answer(backend, Request((user("Say hello."),), _sampling(backend), extra=extra))
    mark = re.fullmatch(r"zq-([a-d])-[^a-jn-z \n][k-m]{1,2}[xy]?", choice.text.strip()) if choice else None
    found = _judged("grammar", choice, obeyed=mark is not None)
    if "grammar" in found:
        found["grammar"] = "gbnf" if found["grammar"] else ""
    if mark:
        found["grammar_field"] = next(name for name, letter in _GRAMMAR_FIELDS.items() if letter == mark[1])
    return found


async def _try_tools(backend: HTTPBackend) -> Findings:
    request = Request((user("Note the word maple."),), _sampling(backend), tools=(_TOOL,), tool_choice="required")
    choice = await _answer(backend, request)
    obeyed = choice is not None and any(c.name == _TOOL.name for c in choice.tool_calls)
    return _judged("tools", choice, obeyed=obeyed)


async def _try_logprobs(backend: HTTPBackend) -> Findings:
    choice = await _answer(backend, Request((user("Say hello."),), Sampling(max_tokens=2, logprobs=True)))
    return {} if choice is not None and choice.logprobs else {"refuses": frozenset({"logprobs"})}


_ATTEMPTS = {"json_schema": _try_schema, "grammar": _try_grammar, "tools": _try_tools, "logprobs": _try_logprobs}


def _sampling(backend: HTTPBackend) -> Sampling:
    return Sampling(max_tokens=1024 if backend.capabilities.reasoning else 64)


async def _answer(backend: HTTPBackend, request: Request) -> Choice | None:
    """Return the answer to a request, or None where the server does not take such a request."""
    try:
        return (await backend.complete(request)).choices[0]
    except LMServerError:
        return None
    except LMInvalidRequestError as error:
        if error.status == 404:  # it does not know the model
            raise
        return None


def _judged(name: str, choice: Choice | None, *, obeyed: bool) -> Findings:
    """Return a verdict, or none where the model was cut off while it still thought."""
    silent = choice is not None and choice.truncated and not choice.text and not choice.tool_calls
    return {} if silent else {name: obeyed}
