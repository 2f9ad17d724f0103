"""Anthropic's Messages API over real HTTP, against a server on the loopback interface."""

import base64
import json
import traceback

import pytest

import tuneful as tf
from tuneful.program.trace import Step
from tuneful.wire.messages import Media, Message, Tool, ToolCall, assistant, system, user
from tuneful.wire.request import Request, Sampling

KEY = "sk-ant-do-not-show-me-0123456789"
HELLO = Request((system("Be brief."), user("Hello")))
PNG = Media("image", "image/png", data="aWNvbg==")
WEATHER = Tool("weather", "Says the weather.", '{"type": "object", "properties": {"city": {"type": "string"}}}')


def lm_of(server, model="claude-sonnet-4-5", **options):
    base = server.url.removesuffix("/v1")
    return tf.LM(f"anthropic/{model}", api_base=base, api_key=KEY, **options)


def message(*blocks, stop="end_turn", usage=None, server=None):
    counts = usage or {"input_tokens": 12, "output_tokens": 3}
    return {"type": "message", "role": "assistant", "model": "claude-x", "content": list(blocks), "stop_reason": stop,
            "usage": counts}  # fmt: skip


def text(words):
    return {"type": "text", "text": words}


async def sent(server, request, model="claude-sonnet-4-5", **options):
    """Return the body that a request leads to."""
    server.script = lambda body: server.reply(body=message(text("x")))
    await lm_of(server, model, **options).complete(request)
    return server.bodies[-1]


async def got(server, *blocks, request=HELLO, **details):
    server.script = [server.reply(body=message(*blocks, **details))]
    return await lm_of(server).complete(request)


async def refused(server, request, match, model="claude-sonnet-4-5", error=tf.LMInvalidRequestError, **options):
    """Assert that a request is refused before anything is sent."""
    with pytest.raises(error, match=match):
        await lm_of(server, model, **options).complete(request)
    assert server.bodies == []


# --- what is sent ---


async def test_the_body_of_a_plain_request(server):
    assert await sent(server, HELLO) == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 64_000,
        "system": [text("Be brief.")],
        "messages": [{"role": "user", "content": [text("Hello")]}],
        "temperature": 0.0,
    }
    assert server.paths == ["/v1/messages"]
    headers = server.headers[0]
    assert (headers["x-api-key"], headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert "authorization" not in headers


async def test_the_limit_of_an_answer_is_the_users_or_the_models_or_a_default(server):
    limits = [
        (await sent(server, Request((user("x"),), Sampling(max_tokens=9))))["max_tokens"],
        (await sent(server, HELLO, "claude-opus-4-1"))["max_tokens"],
        (await sent(server, HELLO, "some-copy-of-it"))["max_tokens"],
    ]
    assert limits == [9, 32_000, 4096]


async def test_turns_of_one_role_in_a_row_are_one_turn_and_every_system_message_is_lifted(server):
    messages = (user("a"), user("b"), assistant("c"), system("late"), assistant("d"), user("e"))
    body = await sent(server, Request(messages))
    assert body["system"] == [text("late")]
    assert body["messages"] == [
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": [text("c"), text("d")]},
        {"role": "user", "content": [text("e")]},
    ]


@pytest.mark.parametrize(
    ("stable", "marked"), [(0, []), (1, ["rules"]), (3, ["answer"]), (4, ["last"]), (2, ["question"])]
)
async def test_the_last_block_that_stays_the_same_is_marked_for_the_prompt_cache(server, stable, marked):
    messages = (system("rules"), user("question"), assistant("answer"), user(("first", "last")))
    body = await sent(server, Request(messages, stable=stable))
    blocks = [*body["system"], *(b for turn in body["messages"] for b in turn["content"])]
    assert [b["text"] for b in blocks if b.get("cache_control") == {"type": "ephemeral"}] == marked


async def test_an_empty_text_which_the_service_refuses_is_left_out(server):
    body = await sent(server, Request((user(("", PNG)),)))
    assert [b["type"] for b in body["messages"][0]["content"]] == ["image"]


async def test_media_are_blocks_with_a_source(server):
    pdf = Media("file", "application/pdf", data="cGRm", name="a.pdf")
    plain = Media("file", "text/plain", data=base64.b64encode("naïve".encode()).decode())
    linked = [Media("image", url="https://x.test/a.png"), Media("file", url="https://x.test/a.pdf")]
    body = await sent(server, Request((user(("Look:", PNG, pdf, plain, *linked)),)))
    assert body["messages"][0]["content"][1:] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aWNvbg=="}},
        {"type": "document", "title": "a.pdf",
         "source": {"type": "base64", "media_type": "application/pdf", "data": "cGRm"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "naïve"}},
        {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
        {"type": "document", "source": {"type": "url", "url": "https://x.test/a.pdf"}},
    ]  # fmt: skip


async def test_sounds_and_unknown_files_are_refused_before_the_call(server):
    sound = Request((user((Media("audio", "audio/wav", data="eA=="),)),))
    await refused(server, sound, "no sounds", "some-copy-of-it")
    await refused(server, sound, "audio", error=tf.UsageError)
    await refused(server, Request((user((Media("file", "application/zip", data="eA=="),)),)), "application/zip")
    await refused(server, Request((system((PNG,)), user("x"))), "text only")
    await refused(server, Request((user("x"),), grammar='root ::= "a"'), "grammar")


async def test_tools_and_their_choice(server):
    choices = []
    for choice in ("auto", "none", "required", "weather"):
        body = await sent(server, Request((user("x"),), tools=(WEATHER,), tool_choice=choice))
        choices.append(body["tool_choice"])
    assert choices == [{"type": "auto"}, {"type": "none"}, {"type": "any"}, {"type": "tool", "name": "weather"}]
    assert body["tools"] == [
        {"name": "weather", "description": "Says the weather.", "input_schema": json.loads(WEATHER.parameters)}
    ]


async def test_calls_and_their_results_go_back_in_one_turn(server):
    calls = (ToolCall("t1", "weather", '{"city": "Oslo"}'), ToolCall("t2", "weather", "{broken"))
    messages = (
        user("?"),
        Message("assistant", "Let me see.", tool_calls=calls),
        Message("tool", "rain", call_id="t1"),
        Message("tool", ("sun", PNG), call_id="t2"),
        user("And now?"),
    )
    turns = (await sent(server, Request(messages, tools=(WEATHER,))))["messages"]
    assert turns[1]["content"] == [
        text("Let me see."),
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
        {"type": "tool_use", "id": "t2", "name": "weather", "input": {"arguments": "{broken"}},
    ]
    assert turns[2]["role"] == "user"
    assert [b["type"] for b in turns[2]["content"]] == ["tool_result", "tool_result", "text"]
    assert turns[2]["content"][0] == {"type": "tool_result", "tool_use_id": "t1", "content": [text("rain")]}
    assert [b["type"] for b in turns[2]["content"][1]["content"]] == ["text", "image"]


async def test_sampling(server):
    body = await sent(server, Request((user("x"),), Sampling(temperature=0.5, stop=("END",))))
    assert (body["temperature"], body["stop_sequences"]) == (0.5, ["END"])
    body = await sent(server, Request((user("x"),), Sampling(top_p=0.9)))
    assert body["top_p"] == 0.9
    assert "temperature" not in body  # these models take one of the two
    before = len(server.bodies)
    with pytest.raises(tf.LMInvalidRequestError, match="from 0 to 1"):
        await lm_of(server).complete(Request((user("x"),), Sampling(temperature=1.5)))
    assert len(server.bodies) == before


@pytest.mark.parametrize("options", [{"seed": 1}, {"logprobs": True}])
def test_what_the_service_does_not_have_is_a_usage_error(server, options):
    with pytest.raises(tf.UsageError, match="takes no"):
        lm_of(server, **options)


def test_later_models_take_no_temperature(server):
    server.script = [server.reply(body=message(text("x")))]
    lm_of(server, "claude-opus-5-5")("x")
    assert "temperature" not in server.bodies[0]
    with pytest.raises(tf.UsageError, match="temperature"):
        lm_of(server, "claude-opus-5-5", temperature=0.3)


async def test_several_samples_are_several_calls(server):
    server.script = lambda body: server.reply(body=message(text(f"{body['temperature']}")))
    assert await lm_of(server).acall("x", n=3) == ["0.7"] * 3
    assert len(server.bodies) == 3


async def test_extra_fields_are_merged_into_the_body(server):
    body = await sent(server, HELLO, extra_body={"metadata": {"user_id": "u"}, "top_k": 5})
    assert (body["metadata"], body["top_k"]) == ({"user_id": "u"}, 5)


# --- thinking ---


async def test_older_models_think_with_a_budget(server):
    body = await sent(server, Request((user("x"),), Sampling(reasoning_effort="low", max_tokens=5000)))
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert body["max_tokens"] == 5000
    assert "temperature" not in body


async def test_a_limit_that_the_budget_would_eat_is_refused_before_the_call(server):
    await refused(server, Request((user("x"),), Sampling(reasoning_effort="high", max_tokens=500)), "24576 tokens")


async def test_the_default_limit_leaves_room_for_thoughts(server):
    body = await sent(server, Request((user("x"),), Sampling(reasoning_effort="high")), "claude-opus-4-1")
    assert body["max_tokens"] > body["thinking"]["budget_tokens"] == 24_576


async def test_later_models_think_with_a_level_next_to_a_schema(server):
    schema = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
    request = Request((user("x"),), Sampling(reasoning_effort="minimal"), json_schema=schema)
    body = await sent(server, request, "claude-opus-4-6")
    assert body["thinking"] == {"type": "adaptive"}
    assert body["output_config"]["effort"] == "low"
    assert body["output_config"]["format"]["type"] == "json_schema"


async def test_thinking_does_not_go_with_a_temperature_or_a_forced_tool(server):
    for temperature in (0.0, 0.2):
        low = Sampling(reasoning_effort="low", temperature=temperature)
        await refused(server, Request((user("x"),), low), "beside `reasoning_effort`", error=tf.UsageError)
    low = Sampling(reasoning_effort="low")
    await refused(server, Request((user("x"),), low, tools=(WEATHER,), tool_choice="weather"), "forced")
    body = await sent(server, Request((user("x"),), low, tools=(WEATHER,), tool_choice="required"))
    assert body["tool_choice"] == {"type": "auto"}  # what any tool would satisfy is left to it
    server.script = lambda body: server.reply(body=message(text("x")))
    assert len(await lm_of(server, reasoning_effort="low").acall("x", n=2)) == 2  # its default gives way


async def test_thoughts_go_back_with_the_calls_that_they_led_to_and_it_thinks_on(server):
    thoughts = [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "redacted_thinking", "data": "xx"}]
    more = {"type": "thinking", "thinking": "And Oslo?", "signature": "t"}
    calls = [{"type": "tool_use", "id": f"t{i}", "name": "weather", "input": {}} for i in (1, 2)]
    blocks = [*thoughts, text("Let me see."), calls[0], more, calls[1]]
    choice = (await got(server, *blocks, stop="tool_use")).choices[0]
    results = [Message("tool", "rain", call_id=c.id) for c in choice.tool_calls]
    messages = (user("?"), Message("assistant", choice.text, choice.tool_calls), *results)
    body = await sent(server, Request(messages, Sampling(reasoning_effort="low"), tools=(WEATHER,)))
    assert body["messages"][1]["content"] == blocks
    assert body["thinking"]["budget_tokens"] == 2048


@pytest.mark.parametrize("signature", ["", "base64-of-another-provider", "[broken", '["x"]'])
async def test_after_a_call_without_its_thoughts_an_older_model_does_not_think(server, signature):
    call = Message("assistant", "", tool_calls=(ToolCall("t1", "weather", "{}", signature),))
    messages = (user("?"), call, Message("tool", "rain", call_id="t1"))
    request = Request(messages, Sampling(reasoning_effort="low"), tools=(WEATHER,))
    body = await sent(server, request)
    assert "thinking" not in body
    assert [b["type"] for b in body["messages"][1]["content"]] == ["tool_use"]
    assert "thinking" in await sent(server, request, "claude-opus-4-6")


async def test_that_it_does_not_think_is_counted_also_where_the_cache_answers(server):
    call = Message("assistant", "", tool_calls=(ToolCall("t1", "weather", "{}"),))
    messages = (user("?"), call, Message("tool", "rain", call_id="t1"))
    request = Request(messages, Sampling(reasoning_effort="low"), tools=(WEATHER,))
    server.script = lambda body: server.reply(body=message(text("x")))
    with tf.context(cache=tf.Cache()):
        lm, step = lm_of(server), Step("answer", {})
        for _ in range(2):
            step.note(await lm.complete(request), lm.model, "")
    assert [r.hit for r in step.responses] == [False, True]
    assert step.noted == {"thinking left out": 2}
    plain = await lm_of(server).complete(Request((user("?"),), Sampling(reasoning_effort="low")))
    assert plain.choices[0].left_out == ()


def test_a_model_that_does_not_think_refuses_an_effort(server):
    with pytest.raises(tf.UsageError, match="reasoning_effort"):
        lm_of(server, "claude-3-5-haiku-20241022", reasoning_effort="low")


# --- schemas ---


async def test_a_schema_is_sent_closed_and_without_bounds(server):
    schema = {
        "type": "object",
        "properties": {
            "minimum": {"type": "integer", "minimum": 1, "maximum": 9},
            "row": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2},
            "inner": {"$ref": "#/$defs/Inner"},
            "one": {"oneOf": [{"type": "string", "format": "path"}, {"type": "null"}]},
        },
        "$defs": {"Inner": {"type": "object", "properties": {"when": {"type": "string", "format": "date"}}}},
        "required": ["minimum"],
    }
    body = await sent(server, Request((user("x"),), json_schema=json.dumps(schema)))
    assert body["output_config"]["format"]["schema"] == {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "minimum": {"type": "integer"},
            "row": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]}},
            "inner": {"$ref": "#/$defs/Inner"},
            "one": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "$defs": {
            "Inner": {
                "type": "object",
                "properties": {"when": {"type": "string", "format": "date"}},
                "additionalProperties": False,
            }
        },
        "required": ["minimum"],
    }


async def test_a_dictionary_cannot_be_enforced_and_says_so(server):
    schema = {"type": "object", "properties": {"d": {"type": "object", "additionalProperties": {"type": "integer"}}}}
    await refused(server, Request((user("x"),), json_schema=json.dumps(schema)), "ChatAdapter")


def test_models_before_schemas_are_not_asked_for_one(server):
    assert lm_of(server, "claude-haiku-4-5").capabilities.json_schema
    assert not lm_of(server, "claude-opus-4-1").capabilities.json_schema


def test_a_program_with_nested_outputs_runs_on_a_schema(server):
    server.script = [server.reply(body=message(text('{"label": "spam", "score": 0.5}')))]
    program = tf.Predict("mail -> label, score: float")
    with tf.context(lm=lm_of(server), adapter=tf.JSONAdapter()):
        prediction = program(mail="Buy now!")
    assert (prediction.label, prediction.score) == ("spam", 0.5)
    assert server.bodies[0]["output_config"]["format"]["schema"]["required"] == ["label", "score"]


# --- what comes back ---


async def test_an_answer_with_thoughts_text_and_calls(server):
    response = await got(
        server,
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "redacted_thinking", "data": "xx"},
        text("Let me "),
        text("see."),
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Malmö"}},
        stop="tool_use",
    )
    choice = response.choices[0]
    assert (choice.text, choice.reasoning, choice.finish_reason) == ("Let me see.", "Hm.", "tools")
    (call,) = choice.tool_calls
    assert (call.id, call.name, call.arguments) == ("t1", "weather", '{"city": "Malmö"}')
    assert json.loads(call.signature) == [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "redacted_thinking", "data": "xx"},
    ]
    assert response.model == "claude-x"


async def test_cached_tokens_are_part_of_the_prompt_and_priced_as_such(server):
    usage = {"input_tokens": 100, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 10,
             "output_tokens": 20, "output_tokens_details": {"thinking_tokens": 7}}  # fmt: skip
    found = (await got(server, text("x"), usage=usage)).usage
    assert (found.prompt_tokens, found.cached_tokens, found.completion_tokens) == (1110, 1000, 20)
    assert found.reasoning_tokens == 7
    assert found.cost_usd == pytest.approx((110 * 3.0 + 1000 * 0.3 + 20 * 15.0) / 1e6)


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "filter"),
    ],
)
async def test_why_an_answer_ended(server, stop, finish):
    assert (await got(server, text("x"), stop=stop)).choices[0].finish_reason == finish


@pytest.mark.parametrize("body", [{}, [], {"content": "x"}, {"content": [{"type": "text"}]}])
async def test_a_body_that_is_no_message_is_a_server_error(server, body):
    server.script = lambda _: server.reply(body=body)
    with pytest.raises(tf.LMServerError, match="no message"):
        await lm_of(server, num_retries=0).complete(HELLO)


# --- streams ---

STREAM = [
    {"type": "message_start", "message": message(usage={"input_tokens": 9, "cache_read_input_tokens": 4}, stop=None)},
    {"type": "ping"},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm…"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "abc"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Grü"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "ße"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2,
     "content_block": {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"city": "Os'}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": 'lo"}'}},
    {"type": "content_block_stop", "index": 2},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
     "usage": {"output_tokens": 15}},
    {"type": "message_stop"},
]  # fmt: skip


@pytest.mark.parametrize("every", [1, 7, 1000])
async def test_a_stream_gives_pieces_and_then_what_a_whole_answer_gives(server, every):
    server.script = [server.events(*STREAM, every=every)]
    parts = [part async for part in lm_of(server).stream(HELLO)]
    assert [(p.text, p.reasoning) for p in parts[:-1]] == [("", "Hm…"), ("Grü", ""), ("ße", "")]
    choice = parts[-1].choices[0]
    assert (choice.text, choice.reasoning, choice.finish_reason) == ("Grüße", "Hm…", "tools")
    signature = '[{"type": "thinking", "thinking": "Hm…", "signature": "abc"}]'
    assert choice.tool_calls == (ToolCall("t1", "weather", '{"city": "Oslo"}', signature),)
    usage = parts[-1].usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (13, 4, 15)
    assert server.bodies[0]["stream"] is True


async def test_a_stream_that_breaks_off_is_a_transport_error(server):
    server.script = [server.events(*STREAM[:-1])]
    with pytest.raises(tf.LMTransportError, match="ended before"):
        [part async for part in lm_of(server).stream(HELLO)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", tf.LMServerError),
        ("rate_limit_error", tf.LMRateLimitError),
        ("api_error", tf.LMServerError),
        ("invalid_request_error", tf.LMInvalidRequestError),
    ],
)
async def test_an_error_in_a_stream_is_typed_and_holds_no_key(server, kind, expected):
    event = {"type": "error", "error": {"type": kind, "message": f"sorry, {KEY}"}}
    server.script = [server.events(*STREAM[:9], event)]
    with pytest.raises(expected, match="sorry") as caught:
        [part async for part in lm_of(server).stream(HELLO)]
    assert type(caught.value) is expected
    assert KEY not in "".join(traceback.format_exception(caught.value))


async def test_an_event_that_makes_no_sense_is_a_server_error(server):
    server.script = [server.events(STREAM[0], {"type": "content_block_delta", "index": 9, "delta": {}})]
    with pytest.raises(tf.LMServerError):
        [part async for part in lm_of(server, num_retries=0).stream(HELLO)]


# --- failures ---


def refusal(server, status, kind, words, headers=None):
    body = {"type": "error", "error": {"type": kind, "message": words}}
    return server.reply(status, body, headers or {})


async def failing(server, reply, expected):
    server.script = lambda body: reply
    with pytest.raises(expected) as caught:
        await lm_of(server, num_retries=0).complete(HELLO)
    assert type(caught.value) is expected
    assert KEY not in "".join(traceback.format_exception(caught.value))
    return caught.value


async def test_each_status_has_its_error(server):
    await failing(server, refusal(server, 401, "authentication_error", f"invalid x-api-key {KEY}"), tf.LMAuthError)
    await failing(server, refusal(server, 529, "overloaded_error", "Overloaded"), tf.LMServerError)
    await failing(server, refusal(server, 404, "not_found_error", "model: x"), tf.LMInvalidRequestError)
    slow = refusal(server, 429, "rate_limit_error", "slow", {"retry-after": "17"})
    assert (await failing(server, slow, tf.LMRateLimitError)).retry_after_s == 17.0


@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        ("prompt is too long: 205000 tokens > 200000 maximum", (205_000, 200_000)),
        ("input length and `max_tokens` exceed context limit: 190000 + 64000 > 200000, decrease it", (None, None)),
    ],
)
async def test_a_prompt_that_is_too_long_says_how_long(server, words, sizes):
    reply = refusal(server, 400, "invalid_request_error", words)
    error = await failing(server, reply, tf.ContextWindowExceededError)
    assert (error.prompt_tokens, error.context_tokens) == sizes


def test_an_overloaded_service_is_asked_again(server, waits):
    replies = [refusal(server, 529, "overloaded_error", "Overloaded"), server.reply(body=message(text("Hi")))]
    server.script = replies
    assert lm_of(server)("x") == ["Hi"]
    assert len(waits) == 1


def test_without_a_key_no_call_is_made_and_the_variable_is_named(monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(tf.LMAuthError, match="ANTHROPIC_API_KEY"):
        tf.LM("anthropic/claude-haiku-4-5")("x")


def test_the_key_shows_nowhere(server):
    lm = lm_of(server)
    assert KEY not in repr(lm) + lm.endpoint + repr(lm.backend.__dict__)
