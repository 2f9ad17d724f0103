"""Probing servers of the user's own: each kind as it describes itself, and what is tried out where it does not."""

import json
import re

import pytest

import tuneful as tf
from tuneful.wire.messages import user
from tuneful.wire.request import Request

KEY = "sk-do-not-show-me-0123456789"
FIELDS = ("grammar", "structured_outputs", "guided_grammar", "ebnf")


def lm_of(server, model="m", **options):
    return tf.LM(f"openai/{model}", api_base=server.url, api_key=KEY, num_retries=0, **options)


class Model:
    """A server that obeys only what it is told to obey."""

    def __init__(self, server, *obeys, refuses=()):
        self.obeys, self.refuses, self.server = obeys, refuses, server
        self.tried = []

    def __call__(self, body):
        if "messages" not in body:  # a question about the server that it does not know
            return self.server.refusal(404, "no such page")
        kind = next((k for k in (*FIELDS, "response_format", "tools", "logprobs") if k in body), "plain")
        kind = "grammar" if kind in FIELDS else kind
        self.tried.append(kind)
        if kind in self.refuses:
            return self.server.refusal(400, f"unknown field {kind}")
        if kind == "response_format" and kind in self.obeys:
            schema = body["response_format"]["json_schema"]["schema"]
            return self.server.completion(json.dumps({n: p["enum"][0] for n, p in schema["properties"].items()}))
        for field in FIELDS if kind == "grammar" else ():
            if field in self.obeys:
                text = body[field]["grammar"] if field == "structured_outputs" else body[field]
                start = re.search(r'root ::= "([^"]*)"', text)[1]
                return self.server.completion(start + "Kl")
        if kind == "tools" and kind in self.obeys:
            call = {"id": "c", "type": "function", "function": {"name": body["tools"][0]["function"]["name"]}}
            message = {"content": None, "tool_calls": [call]}
            return self.server.reply(body={"choices": [{"message": message, "finish_reason": "tool_calls"}]})
        reply = self.server.completion("Hello! How can I help you?")
        if kind == "logprobs" and kind in self.obeys:
            reply.body["choices"][0]["logprobs"] = {"content": [{"token": "Hello", "logprob": -0.1}]}
        return reply


def listed(server, **entry):
    server.pages["/v1/models"] = server.reply(body={"object": "list", "data": [{"id": "m", **entry}]})


def test_a_server_that_says_nothing_is_tried_out(server):
    server.script = Model(server, "response_format", "grammar", "tools", "logprobs")
    lm = lm_of(server)
    found = lm.probe()
    assert (found.json_schema, found.grammar, found.tools) == (True, "gbnf", True)
    assert found.refuses == frozenset()
    assert found == lm.capabilities
    assert sorted(server.script.tried) == ["grammar", "logprobs", "response_format", "tools"]
    assert all(b.get("max_tokens", 0) <= 64 for b in server.bodies)


def test_what_is_not_obeyed_is_not_claimed(server):
    server.script = Model(server)
    lm = lm_of(server)
    assert lm.capabilities.json_schema  # what its name promised
    found = lm.probe()
    assert (found.json_schema, found.grammar, found.tools) == (False, "", False)
    assert found.refuses == {"logprobs"}
    with pytest.raises(tf.UsageError, match="logprobs"):
        lm("x", logprobs=True)


def test_what_the_server_rejects_is_not_claimed(server):
    server.script = Model(server, refuses=("response_format", "grammar", "tools", "logprobs"))
    found = lm_of(server).probe()
    assert (found.json_schema, found.grammar, found.tools) == (False, "", False)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("grammar", {"grammar": "G"}),
        ("structured_outputs", {"structured_outputs": {"grammar": "G"}}),
        ("guided_grammar", {"guided_grammar": "G"}),
        ("ebnf", {"ebnf": "G"}),
    ],
)
async def test_a_grammar_is_then_sent_in_the_field_that_was_obeyed(server, field, expected):
    server.script = Model(server, field)
    lm = lm_of(server)
    assert (await lm.backend.probe()).grammar == "gbnf"
    server.script = lambda body: server.completion("x")
    await lm.complete(Request((user("x"),), grammar="G"))
    assert {k: v for k, v in server.bodies[-1].items() if k in FIELDS} == expected


def test_a_program_uses_what_the_probe_found(server):
    server.script = Model(server, "response_format")
    lm = lm_of(server)
    lm.probe()
    server.script = lambda body: server.completion('{"answer": "4"}')
    with tf.context(lm=lm, adapter=tf.JSONAdapter()):
        assert tf.Predict("question -> answer")(question="2+2?").answer == "4"
    assert server.bodies[-1]["response_format"]["type"] == "json_schema"


def test_a_model_that_is_cut_while_it_thinks_leaves_the_question_open(server):
    server.script = lambda body: server.completion("", finish="length")
    lm = lm_of(server)
    before = lm.capabilities
    found = lm.probe()
    assert (found.json_schema, found.tools, found.grammar) == (before.json_schema, before.tools, before.grammar)


# --- servers that describe themselves ---


def test_vllm_says_its_length(server):
    listed(server, owned_by="vllm", max_model_len=32_768)
    server.script = Model(server, "response_format", "structured_outputs")
    found = lm_of(server).probe()
    assert (found.context_tokens, found.grammar) == (32_768, "gbnf")


def test_openrouter_says_everything_and_is_not_tried_out(server):
    listed(
        server,
        context_length=128_000,
        supported_parameters=["temperature", "top_p", "stop", "tools", "structured_outputs", "reasoning"],
        architecture={"input_modalities": ["text", "image", "file"]},
        top_provider={"max_completion_tokens": 16_000},
    )
    found = lm_of(server).probe()
    assert (found.json_schema, found.tools, found.grammar, found.reasoning) == (True, True, "", True)
    assert (found.context_tokens, found.answer_tokens, found.media) == (128_000, 16_000, {"image", "file"})
    assert found.refuses == {"seed", "logprobs"}
    assert server.bodies == []


def test_llamacpp_says_everything_and_is_not_tried_out(server):
    listed(server, meta={"n_params": 135_000_000, "n_ctx_train": 8192})
    server.pages["/props"] = server.reply(
        body={
            "default_generation_settings": {"n_ctx": 4096},
            "modalities": {"vision": True, "audio": False},
            "chat_template_caps": {"supports_tools": True},
        }
    )
    server.pages["/api/show"] = server.reply(body={"capabilities": ["completion"]})  # it plays Ollama too
    lm = lm_of(server)
    found = lm.probe()
    assert (found.json_schema, found.tools, found.grammar, found.small) == (True, True, "gbnf", True)
    assert (found.context_tokens, found.media) == (4096, {"image"})
    assert server.bodies == []


def test_ollama_says_what_its_model_can_do(server):
    listed(server, owned_by="library")
    server.pages["/api/show"] = server.reply(
        body={
            "capabilities": ["completion", "tools", "thinking", "vision"],
            "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40_960},
            "details": {"parameter_size": "1.7B"},
        }
    )
    server.script = Model(server, "response_format")
    found = lm_of(server).probe()
    assert (found.tools, found.reasoning, found.small, found.grammar) == (True, True, True, "")
    assert (found.context_tokens, found.media, found.json_schema) == (40_960, {"image"}, True)
    assert sorted(server.script.tried) == ["logprobs", "response_format"]


def test_lm_studio_says_its_length(server):
    entry = {"id": "m", "type": "llm", "max_context_length": 131_072, "loaded_context_length": 8192,
             "capabilities": ["tool_use"]}  # fmt: skip
    server.pages["/api/v0/models"] = server.reply(body={"data": [{"id": "other"}, entry]})
    server.script = Model(server, "response_format")
    found = lm_of(server).probe()
    assert (found.context_tokens, found.tools, found.media) == (8192, True, frozenset())


def test_sglang_says_its_length(server):
    server.pages["/get_server_info"] = server.reply(body={"context_length": None, "max_req_input_len": 8000})
    server.script = Model(server, "response_format", "ebnf")
    found = lm_of(server).probe()
    assert (found.context_tokens, found.grammar) == (8000, "gbnf")


@pytest.mark.parametrize("odd", [{}, [], {"data": []}, {"data": [{"id": "a"}, {"id": "b"}]}, "text", None, 3])
def test_a_description_that_makes_no_sense_says_nothing(server, odd):
    for path in ("/v1/models", "/props", "/api/v0/models", "/api/show", "/get_server_info"):
        server.pages[path] = server.reply(body=odd)
    server.script = Model(server)
    found = lm_of(server).probe()
    assert found.context_tokens is None
    assert found.media is None


# --- failures ---


def test_a_server_that_is_not_there_is_a_transport_error():
    with pytest.raises(tf.LMTransportError):
        tf.LM("openai/m", api_base="http://127.0.0.1:9/v1", num_retries=0).probe()


def test_a_refused_key_is_an_auth_error_that_does_not_show_it(server):
    server.pages["/v1/models"] = server.refusal(401, f"bad key {KEY}")
    with pytest.raises(tf.LMAuthError, match="bad key") as caught:
        lm_of(server).probe()
    assert KEY not in str(caught.value)


def test_a_model_that_the_server_does_not_know_is_an_error(server):
    server.script = lambda body: server.refusal(404, "model `m` not found")
    with pytest.raises(tf.LMInvalidRequestError, match="not found"):
        lm_of(server).probe()


def test_a_provider_that_is_known_is_not_asked(server):
    lm = tf.LM("anthropic/claude-haiku-4-5", api_base=server.url, api_key=KEY)
    assert lm.probe() == lm.capabilities
    assert server.asked == server.bodies == []
