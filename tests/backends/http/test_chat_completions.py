"""The chat-completions layout: contents in parts, tools, thoughts, families with rules of their own."""

import json

import pytest

import tuneful as tf
from tuneful.backends.http.chat_completions import ChatCompletions
from tuneful.backends.models import ModelFacts
from tuneful.wire.messages import Media, Message, Tool, ToolCall, user
from tuneful.wire.request import Request, Sampling

KEY = "sk-do-not-show-me-0123456789"
WEATHER = Tool("weather", "Says the weather.", '{"type": "object", "properties": {"city": {"type": "string"}}}')


def lm_of(server, model="small-model", **options):
    return tf.LM(f"openai/{model}", api_base=server.url, api_key=KEY, **options)


async def sent(server, request, model="small-model", **options):
    server.script = lambda body: server.completion("x")
    await lm_of(server, model, **options).complete(request)
    return server.bodies[-1]


async def got(server, message, **choice):
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}
    server.script = [server.reply(body=body)]
    return (await lm_of(server).complete(Request((user("x"),)))).choices[0]


# --- contents ---


@pytest.mark.parametrize(
    ("media", "part"),
    [
        (
            Media("image", url="https://x.test/a.png"),
            {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
        ),
        (
            Media("image", "image/png", data="aWNvbg=="),
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aWNvbg=="}},
        ),
        (
            Media("audio", "audio/wav", data="c25k"),
            {"type": "input_audio", "input_audio": {"data": "c25k", "format": "wav"}},
        ),
        (
            Media("audio", "audio/x-wav", data="c25k"),
            {"type": "input_audio", "input_audio": {"data": "c25k", "format": "wav"}},
        ),
        (
            Media("audio", "audio/mpeg", data="c25k"),
            {"type": "input_audio", "input_audio": {"data": "c25k", "format": "mp3"}},
        ),
        (
            Media("file", "application/pdf", data="cGRm", name="a.pdf"),
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,cGRm"}},
        ),
    ],
)
async def test_a_content_with_media_is_sent_in_parts(server, media, part):
    body = await sent(server, Request((user(("Look:", media, "Well?")),)))
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "Look:"},
        part,
        {"type": "text", "text": "Well?"},
    ]


async def test_an_answer_in_parts_is_read_as_one_text(server):
    assert (await got(server, {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})).text == "ab"


# --- tools ---


async def test_tools_and_their_choice(server):
    choices = []
    for choice in ("auto", "none", "required", "weather"):
        body = await sent(server, Request((user("x"),), tools=(WEATHER,), tool_choice=choice))
        choices.append(body["tool_choice"])
    assert choices == ["auto", "none", "required", {"type": "function", "function": {"name": "weather"}}]
    assert body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Says the weather.",
                "parameters": json.loads(WEATHER.parameters),
            },
        }
    ]


async def test_calls_and_their_results_go_back(server):
    call = ToolCall("c1", "weather", '{"city": "Oslo"}')
    messages = (user("?"), Message("assistant", "", tool_calls=(call,)), Message("tool", "rain", call_id="c1"))
    body = await sent(server, Request(messages, tools=(WEATHER,)))
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
            ],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "c1"},
    ]


async def test_calls_in_an_answer(server):
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
        {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": ""}},
    ]
    choice = await got(server, {"content": None, "tool_calls": calls}, finish_reason="tool_calls")
    assert choice.tool_calls == (ToolCall("c1", "weather", '{"city": "Oslo"}'), ToolCall("c2", "weather", "{}"))
    assert (choice.text, choice.finish_reason) == ("", "tools")


def chunk(finish=None, **delta):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def piece(index, arguments, **rest):
    names = {"id": rest["id"]} if "id" in rest else {}
    function = {"arguments": arguments, **({"name": rest["name"]} if "name" in rest else {})}
    return {"index": index, "function": function, **names}


@pytest.mark.parametrize("every", [1, 7, 1000])
async def test_calls_and_thoughts_in_a_stream(server, every):
    server.script = [
        server.events(
            chunk(role="assistant", reasoning_content="Hm"),
            chunk(reasoning_content="…"),
            chunk(content="Grü"),
            chunk(content="ße"),
            chunk(tool_calls=[piece(0, '{"ci', id="c1", name="weather")]),
            chunk(tool_calls=[piece(1, "{}", id="c2", name="weather")]),
            chunk(tool_calls=[piece(0, 'ty": 1}')]),
            chunk("tool_calls"),
            {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}},
            "[DONE]",
            every=every,
        )
    ]
    parts = [part async for part in lm_of(server).stream(Request((user("x"),)))]
    assert [(p.text, p.reasoning) for p in parts[:-1]] == [("", "Hm"), ("", "…"), ("Grü", ""), ("ße", "")]
    choice = parts[-1].choices[0]
    assert (choice.text, choice.reasoning, choice.finish_reason) == ("Grüße", "Hm…", "tools")
    assert choice.tool_calls == (ToolCall("c1", "weather", '{"city": 1}'), ToolCall("c2", "weather", "{}"))
    assert parts[-1].usage.prompt_tokens == 5


# --- thoughts ---


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_thoughts_are_kept_apart_from_the_text(server, field):
    choice = await got(server, {"content": "4", field: "2 and 2"})
    assert (choice.text, choice.reasoning) == ("4", "2 and 2")


async def test_tokens_of_thoughts_are_counted(server):
    usage = {"prompt_tokens": 9, "completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 40}}
    server.script = [server.completion("4", usage=usage)]
    found = (await lm_of(server).complete(Request((user("x"),)))).usage
    assert (found.completion_tokens, found.reasoning_tokens) == (50, 40)


# --- families ---


async def test_a_model_that_thinks_gets_no_temperature_and_its_own_name_for_the_limit(server):
    sampling = Sampling(max_tokens=900, reasoning_effort="low", seed=3)
    body = await sent(server, Request((user("x"),), sampling), "gpt-5-mini")
    assert {k: v for k, v in body.items() if k not in ("model", "messages")} == {
        "max_completion_tokens": 900,
        "reasoning_effort": "low",
        "seed": 3,
    }


async def test_several_samples_of_a_model_that_thinks(server):
    server.script = [server.completion("a", "b")]
    assert await lm_of(server, "o4-mini").acall("x", n=2) == ["a", "b"]
    assert "temperature" not in server.bodies[0]


# --- grammars ---


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        (None, {}),
        ("grammar", {"grammar": "G"}),
        ("structured_outputs.grammar", {"structured_outputs": {"grammar": "G"}}),
    ],
)
def test_a_grammar_stands_where_the_server_wants_it(field, fields):
    body = ChatCompletions(field).to_body(Request((user("x"),), grammar="G"), "m", ModelFacts())
    assert {k: v for k, v in body.items() if k not in ("model", "messages", "temperature")} == fields
