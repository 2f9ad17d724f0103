"""Gemini's generateContent over real HTTP, against a server on the loopback interface."""

import json
import traceback

import pytest

import tuneful as tf
from tuneful.backends.http.gemini import Gemini
from tuneful.backends.models import ModelFacts
from tuneful.wire.messages import Media, Message, Tool, ToolCall, assistant, system, user
from tuneful.wire.request import Request, Sampling

KEY = "AIza-do-not-show-me-0123456789"
HELLO = Request((system("Be brief."), user("Hello")))
PNG = Media("image", "image/png", data="aWNvbg==")
WEATHER = Tool("weather", "Says the weather.", '{"type": "object", "properties": {"city": {"type": "string"}}}')


def lm_of(server, model="gemini-2.5-flash", **options):
    return tf.LM(f"gemini/{model}", api_base=server.url, api_key=KEY, **options)


def answer(*parts, reason="STOP", usage=None, **candidate):
    counts = usage or {"promptTokenCount": 12, "candidatesTokenCount": 3}
    content = {"role": "model", "parts": list(parts)}
    return {
        "candidates": [{"content": content, "finishReason": reason, **candidate}],
        "usageMetadata": counts,
        "modelVersion": "gemini-x",
    }


def text(words):
    return {"text": words}


async def sent(server, request, model="gemini-2.5-flash", **options):
    server.script = lambda body: server.reply(body=answer(text("x")))
    await lm_of(server, model, **options).complete(request)
    return server.bodies[-1]


async def got(server, body, **options):
    server.script = lambda _: server.reply(body=body)
    return await lm_of(server, **options).complete(HELLO)


# --- what is sent ---


async def test_the_body_of_a_plain_request(server):
    assert await sent(server, HELLO) == {
        "contents": [{"role": "user", "parts": [text("Hello")]}],
        "systemInstruction": {"parts": [text("Be brief.")]},
        "generationConfig": {"temperature": 0.0},
    }
    assert server.paths == ["/v1/models/gemini-2.5-flash:generateContent"]
    assert server.headers[0]["x-goog-api-key"] == KEY
    assert "authorization" not in server.headers[0]


def test_a_tuned_model_has_a_path_of_its_own():
    assert Gemini().path("tunedModels/a b", streaming=False) == "/tunedModels/a%20b:generateContent"


async def test_every_sampling_option_reaches_the_body(server):
    sampling = Sampling(temperature=0.5, max_tokens=7, top_p=0.9, seed=11, stop=("END",), logprobs=True)
    assert (await sent(server, Request((user("x"),), sampling)))["generationConfig"] == {
        "temperature": 0.5, "maxOutputTokens": 7, "topP": 0.9, "seed": 11, "stopSequences": ["END"],
        "responseLogprobs": True,
    }  # fmt: skip


async def test_each_sample_has_a_call_and_a_seed_of_its_own(server):
    server.script = lambda body: server.reply(body=answer(text(str(body["generationConfig"]["seed"]))))
    assert sorted(await lm_of(server).acall("x", n=3, seed=5)) == ["5", "6", "7"]


async def test_turns_of_one_role_in_a_row_are_one_turn(server):
    body = await sent(server, Request((user("a"), user("b"), assistant("c"), user("d"))))
    assert body["contents"] == [
        {"role": "user", "parts": [text("a"), text("b")]},
        {"role": "model", "parts": [text("c")]},
        {"role": "user", "parts": [text("d")]},
    ]


async def test_media_are_parts(server):
    media = (
        PNG,
        Media("audio", "audio/wav", data="c25k"),
        Media("file", "application/pdf", data="cGRm"),
        Media("image", "image/jpeg", url="https://x.test/a.jpg"),
        Media("file", url="https://x.test/a"),
    )
    body = await sent(server, Request((user(("Look:", *media)),)))
    assert body["contents"][0]["parts"] == [
        text("Look:"),
        {"inlineData": {"mimeType": "image/png", "data": "aWNvbg=="}},
        {"inlineData": {"mimeType": "audio/wav", "data": "c25k"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "cGRm"}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://x.test/a.jpg"}},
        {"fileData": {"fileUri": "https://x.test/a"}},
    ]


async def test_a_schema_is_sent_as_it_is(server):
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}
    config = (await sent(server, Request((user("x"),), json_schema=json.dumps(schema))))["generationConfig"]
    assert (config["responseMimeType"], config["responseJsonSchema"]) == ("application/json", schema)


async def test_tools_and_their_choice(server):
    configs = []
    for choice in ("auto", "none", "required", "weather"):
        body = await sent(server, Request((user("x"),), tools=(WEATHER,), tool_choice=choice))
        configs.append(body["toolConfig"]["functionCallingConfig"])
    assert configs == [
        {"mode": "AUTO"},
        {"mode": "NONE"},
        {"mode": "ANY"},
        {"mode": "ANY", "allowedFunctionNames": ["weather"]},
    ]
    declared = {
        "name": "weather",
        "description": "Says the weather.",
        "parametersJsonSchema": json.loads(WEATHER.parameters),
    }
    assert body["tools"] == [{"functionDeclarations": [declared]}]


CALLS = (
    user("?"),
    Message(
        "assistant", "", tool_calls=(ToolCall("c1", "weather", '{"city": "Oslo"}'), ToolCall("c2", "weather", "{"))
    ),
    Message("tool", "rain", call_id="c1"),
    Message("tool", '{"sky": "blue"}', call_id="c2"),
)


async def test_calls_and_their_results_go_back(server):
    turns = (await sent(server, Request(CALLS, tools=(WEATHER,))))["contents"]
    assert turns[1] == {
        "role": "model",
        "parts": [
            {"functionCall": {"id": "c1", "name": "weather", "args": {"city": "Oslo"}}},
            {"functionCall": {"id": "c2", "name": "weather", "args": {"arguments": "{"}}},
        ],
    }
    assert turns[2] == {
        "role": "user",
        "parts": [
            {"functionResponse": {"id": "c1", "name": "weather", "response": {"output": "rain"}}},
            {"functionResponse": {"id": "c2", "name": "weather", "response": {"sky": "blue"}}},
        ],
    }


async def test_later_models_are_told_that_a_call_has_no_signature(server):
    turns = (await sent(server, Request(CALLS, tools=(WEATHER,)), "gemini-3.5-flash"))["contents"]
    assert ["thoughtSignature" in part for part in turns[1]["parts"]] == [True, False]


async def test_a_signature_goes_back_with_the_call_that_it_came_with(server):
    parts = [
        {"functionCall": {"id": "c1", "name": "weather", "args": {"city": "Oslo"}}, "thoughtSignature": "c2ln"},
        {"functionCall": {"id": "c2", "name": "weather", "args": {}}},
    ]
    calls = (await got(server, answer(*parts))).choices[0].tool_calls
    assert [c.signature for c in calls] == ["c2ln", ""]
    results = [Message("tool", "rain", call_id=c.id) for c in calls]
    request = Request((user("?"), Message("assistant", "", calls), *results), tools=(WEATHER,))
    for model in ("gemini-2.5-flash", "gemini-3.5-flash"):
        assert (await sent(server, request, model))["contents"][1]["parts"] == parts


async def test_a_signature_of_another_provider_is_none(server):
    call = ToolCall("c1", "weather", "{}", '[{"type": "thinking", "thinking": "Hm.", "signature": "s"}]')
    request = Request((user("?"), Message("assistant", "", (call,)), Message("tool", "rain", call_id="c1")))
    part = (await sent(server, request))["contents"][1]["parts"][0]
    assert "thoughtSignature" not in part


async def test_a_result_without_its_call_is_refused_before_the_call(server):
    with pytest.raises(tf.LMInvalidRequestError, match="c9"):
        await lm_of(server).complete(Request((user("x"), Message("tool", "rain", call_id="c9"))))
    assert server.bodies == []


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        (Request((user("x"),), Sampling(temperature=2.5)), "from 0 to 2"),
        (Request((user("x"),), grammar='root ::= "a"'), "grammar"),
        (Request((system((PNG,)), user("x"))), "text only"),
    ],
)
async def test_what_the_service_cannot_do_is_refused_before_the_call(server, request_, match):
    with pytest.raises(tf.LMInvalidRequestError, match=match):
        await lm_of(server).complete(request_)
    assert server.bodies == []


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        ("gemini-2.5-flash", "minimal", {"thinkingBudget": 0, "includeThoughts": False}),
        ("gemini-2.5-pro", "minimal", {"thinkingBudget": 512, "includeThoughts": True}),
        ("gemini-2.5-pro", "high", {"thinkingBudget": 24_576, "includeThoughts": True}),
        ("gemini-3.5-flash", "minimal", {"thinkingLevel": "minimal", "includeThoughts": True}),
        ("gemini-3.1-pro-preview", "minimal", {"thinkingLevel": "low", "includeThoughts": True}),
        ("gemini-9-pro", "high", {"thinkingLevel": "high", "includeThoughts": True}),
    ],
)
async def test_effort_is_a_budget_for_older_models_and_a_level_for_later_ones(server, model, effort, config):
    body = await sent(server, Request((user("x"),), Sampling(reasoning_effort=effort)), model)
    assert body["generationConfig"]["thinkingConfig"] == config


async def test_extra_settings_are_merged_into_the_body(server):
    extra = {"generationConfig": {"topK": 5}, "safetySettings": []}
    body = await sent(server, HELLO, extra_body=extra)
    assert body["generationConfig"] == {"temperature": 0.0, "topK": 5}
    assert body["safetySettings"] == []


# --- what comes back ---


async def test_an_answer_with_thoughts_text_and_calls(server):
    body = answer(
        {"text": "Hm.", "thought": True},
        {"text": "Let me see.", "thoughtSignature": "s"},
        {"functionCall": {"name": "weather", "args": {"city": "Malmö"}}},
        {"functionCall": {"id": "own", "name": "weather"}},
    )
    response = await got(server, body)
    choice = response.choices[0]
    assert (choice.text, choice.reasoning, choice.finish_reason) == ("Let me see.", "Hm.", "tools")
    assert choice.tool_calls == (ToolCall("call-2", "weather", '{"city": "Malmö"}'), ToolCall("own", "weather", "{}"))
    assert response.model == "gemini-x"


async def test_thoughts_are_part_of_what_was_generated_and_paid_for(server):
    usage = {"promptTokenCount": 1000, "cachedContentTokenCount": 600, "candidatesTokenCount": 10,
             "thoughtsTokenCount": 90}  # fmt: skip
    found = (await got(server, answer(text("x"), usage=usage))).usage
    assert (found.prompt_tokens, found.cached_tokens, found.completion_tokens) == (1000, 600, 100)
    assert found.reasoning_tokens == 90
    assert found.cost_usd == pytest.approx((400 * 0.30 + 600 * 0.03 + 100 * 2.50) / 1e6)


async def test_logprobs(server):
    chosen = {"chosenCandidates": [{"token": "Hi", "logProbability": -0.5}]}
    response = await got(server, answer(text("Hi"), logprobsResult=chosen))
    assert response.choices[0].logprobs == (("Hi", -0.5),)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "filter"), ("RECITATION", "filter"), ("NEW", "filter")],
)
async def test_why_an_answer_ended(server, reason, finish):
    assert (await got(server, answer(text("x"), reason=reason))).choices[0].finish_reason == finish


async def test_an_answer_cut_while_it_thought_is_empty_and_cut(server):
    body = {"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]}
    choice = (await got(server, body)).choices[0]
    assert (choice.text, choice.truncated) == ("", True)


async def test_a_blocked_prompt_says_so(server):
    with pytest.raises(tf.LMInvalidRequestError, match="PROHIBITED_CONTENT"):
        await got(server, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})
    assert len(server.bodies) == 1


async def test_a_call_that_the_service_made_a_mess_of_is_asked_for_again(server, waits):
    broken = answer(reason="MALFORMED_FUNCTION_CALL", finishMessage="print(")
    server.script = [server.reply(body=broken), server.reply(body=answer(text("Hi")))]
    assert (await lm_of(server).complete(HELLO)).text == "Hi"
    assert len(waits) == 1


@pytest.mark.parametrize("body", [{}, [], {"candidates": []}, {"candidates": [{"content": {"parts": "x"}}]}])
async def test_a_body_without_a_candidate_is_a_server_error(server, body):
    with pytest.raises(tf.LMServerError, match="candidate"):
        await got(server, body, num_retries=0)


# --- streams ---

STREAM = [
    {"candidates": [{"content": {"parts": [{"text": "Hm…", "thought": True}]}}], "modelVersion": "gemini-x"},
    {"candidates": [{"content": {"parts": [{"text": "Grü"}]}}], "usageMetadata": {"promptTokenCount": 9}},
    {"candidates": [{"content": {"parts": [{"text": "ße"}]}}]},
    {
        "candidates": [
            {
                "content": {
                    "parts": [
                        {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}, "thoughtSignature": "c2ln"},
                        {"text": ""},
                    ]
                },
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 5, "thoughtsTokenCount": 2},
    },
]


@pytest.mark.parametrize("every", [1, 7, 1000])
async def test_a_stream_gives_pieces_and_then_what_a_whole_answer_gives(server, every):
    server.script = [server.events(*STREAM, every=every)]
    parts = [part async for part in lm_of(server).stream(HELLO)]
    assert [(p.text, p.reasoning) for p in parts[:-1]] == [("", "Hm…"), ("Grü", ""), ("ße", "")]
    choice = parts[-1].choices[0]
    assert (choice.text, choice.reasoning, choice.finish_reason) == ("Grüße", "Hm…", "tools")
    assert choice.tool_calls == (ToolCall("call-3", "weather", '{"city": "Oslo"}', "c2ln"),)
    assert (parts[-1].usage.prompt_tokens, parts[-1].usage.completion_tokens) == (9, 7)
    assert server.paths == ["/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse"]
    assert "stream" not in server.bodies[0]


async def test_a_stream_that_breaks_off_is_a_transport_error(server):
    server.script = [server.events(*STREAM[:-1])]
    with pytest.raises(tf.LMTransportError, match="ended before"):
        [part async for part in lm_of(server).stream(HELLO)]


async def test_a_blocked_prompt_says_so_in_a_stream_too(server):
    server.script = [server.events({"promptFeedback": {"blockReason": "SAFETY"}})]
    with pytest.raises(tf.LMInvalidRequestError, match="SAFETY"):
        [part async for part in lm_of(server).stream(HELLO)]


async def test_an_error_in_a_stream_is_typed_and_holds_no_key(server):
    error = {"error": {"code": 503, "message": f"overloaded {KEY}", "status": "UNAVAILABLE"}}
    server.script = [server.events(*STREAM[:2], error)]
    with pytest.raises(tf.LMServerError, match="overloaded") as caught:
        [part async for part in lm_of(server).stream(HELLO)]
    assert KEY not in "".join(traceback.format_exception(caught.value))


# --- failures ---


async def failing(server, status, message, expected, *details):
    body = {"error": {"code": status, "message": message, "details": list(details)}}
    server.script = lambda _: server.reply(status, body)
    with pytest.raises(expected) as caught:
        await lm_of(server, num_retries=0).complete(HELLO)
    assert type(caught.value) is expected
    assert KEY not in "".join(traceback.format_exception(caught.value))
    return caught.value


async def test_a_wrong_key_which_comes_as_status_400_is_an_auth_error(server):
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    await failing(server, 400, f"API key not valid: {KEY}.", tf.LMAuthError, detail)
    await failing(server, 400, "Invalid value.", tf.LMInvalidRequestError)


async def test_a_rate_limit_says_in_its_body_how_long_to_wait(server):
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
    error = await failing(server, 429, "You exceeded your current quota.", tf.LMRateLimitError, "odd", detail)
    assert error.retry_after_s == 34.5
    assert (await failing(server, 429, "Too fast.", tf.LMRateLimitError)).retry_after_s is None


async def test_a_prompt_that_is_too_long_says_how_long(server):
    words = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
    error = await failing(server, 400, words, tf.ContextWindowExceededError)
    assert (error.prompt_tokens, error.context_tokens) == (1_200_000, 1_048_576)


def test_without_a_key_no_call_is_made_and_the_variable_is_named(monkeypatch):
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    with pytest.raises(tf.LMAuthError, match="GEMINI_API_KEY"):
        tf.LM("gemini/gemini-2.5-flash")("x")


def test_a_model_of_which_nothing_is_known_gets_the_same_word_for_its_effort():
    request = Request((user("x"),), Sampling(reasoning_effort="low"))
    body = Gemini().to_body(request, "m", ModelFacts())
    assert body["generationConfig"]["thinkingConfig"]["thinkingLevel"] == "low"
