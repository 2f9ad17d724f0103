"""Chat completions over real HTTP, against a server on the loopback interface."""

import io
import json
import time
import traceback

import pytest

import tuneful as tf
from tuneful.backends.http.backend import HTTPBackend
from tuneful.backends.http.chat_completions import to_body
from tuneful.backends.http.providers import PROVIDERS
from tuneful.wire.messages import system, user
from tuneful.wire.request import Request, Sampling

KEY = "sk-do-not-show-me-0123456789"
HELLO = Request((system("Be brief."), user("Hello")))


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for provider in PROVIDERS.values():
        if provider.key_variable:
            monkeypatch.delenv(provider.key_variable, raising=False)


@pytest.fixture
async def backend(server):
    made = HTTPBackend("small-model", api_base=server.url, api_key=KEY, timeout_s=5)
    yield made
    await made.aclose()


async def failing(server, reply, expected, **options):
    """Return the error that a reply leads to."""
    server.script = [reply]
    backend = HTTPBackend("small-model", api_base=server.url, api_key=KEY, **{"timeout_s": 5, **options})
    with pytest.raises(expected) as caught:
        await backend.complete(HELLO)
    await backend.aclose()
    assert type(caught.value) is expected
    return caught.value


# --- what is sent ---


async def test_the_body_holds_model_messages_and_temperature_and_nothing_else_by_default(server, backend):
    server.script = [server.completion("Hi")]
    await backend.complete(HELLO)
    assert server.bodies == [
        {
            "model": "small-model",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
            "temperature": 0.0,
        }
    ]
    assert server.paths == ["/v1/chat/completions"]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert server.headers[0]["content-type"] == "application/json"


async def test_every_sampling_option_reaches_the_body(server, backend):
    server.script = [server.completion("a", "b", "c")]
    sampling = Sampling.from_options(
        {"temperature": 0.5, "max_tokens": 7, "top_p": 0.9, "seed": 11, "n": 3, "stop": "END", "logprobs": True}
    )
    await backend.complete(Request((user("x"),), sampling))
    sent = server.bodies[0]
    assert {k: v for k, v in sent.items() if k not in ("model", "messages")} == {
        "temperature": 0.5, "max_tokens": 7, "top_p": 0.9, "seed": 11, "n": 3, "stop": ["END"], "logprobs": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sampling", "temperature"),
    [(Sampling(), 0.0), (Sampling(n=2), 0.7), (Sampling(rollout_id=1), 0.7), (Sampling(temperature=0.0), 0.0)],
)
def test_temperature_is_always_sent(sampling, temperature):
    assert to_body(Request((user("x"),), sampling), "m")["temperature"] == temperature


def test_a_repetition_has_another_seed_than_the_ordinary_run():
    seeds = [to_body(Request((user("x"),), Sampling(seed=7, rollout_id=i)), "m")["seed"] for i in range(3)]
    assert seeds[0] == 7
    assert len(set(seeds)) == 3


async def test_a_json_schema_is_sent_in_the_layout_of_the_protocol(server, backend):
    server.script = [server.completion("{}")]
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    await backend.complete(Request((user("x"),), json_schema=json.dumps(schema)))
    assert server.bodies[0]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema},
    }


async def test_a_grammar_is_sent_only_to_servers_that_take_one(server):
    request = Request((user("x"),), grammar='root ::= "yes"')
    server.script = lambda body: server.completion("yes")
    for provider in ("llamacpp", "openai"):
        backend = HTTPBackend("m", provider=provider, api_base=server.url)
        await backend.complete(request)
        await backend.aclose()
    assert server.bodies[0]["grammar"] == 'root ::= "yes"'
    assert "grammar" not in server.bodies[1]


async def test_extra_settings_are_sent_as_they_are(server, backend):
    server.script = [server.completion("x")]
    await backend.complete(Request((user("x"),), extra=(("reasoning_effort", '"low"'),)))
    assert server.bodies[0]["reasoning_effort"] == "low"


async def test_text_of_every_script_arrives_unchanged(server, backend):
    text = 'naïve 数 \U0001f642 " \\ \n\t \u2028 \x01'
    server.script = lambda body: server.completion(body["messages"][0]["content"])
    response = await backend.complete(Request((user(text),)))
    assert response.text == text


async def test_a_connection_is_used_again(server, backend):
    server.script = lambda body: server.completion("x")
    for _ in range(5):
        await backend.complete(HELLO)
    assert len(server.connections) == 1


def test_an_unsendable_text_is_a_usage_error_before_anything_is_sent(server):
    lm = tf.LM("openai/m", api_base=server.url, api_key=KEY)
    with pytest.raises(tf.UsageError, match="utf-8"):
        lm("half a pair: \ud800")
    assert server.bodies == []


def test_an_address_that_is_none_is_a_usage_error():
    with pytest.raises(tf.UsageError, match="nonsense"):
        tf.LM("openai/m", api_base="nonsense", api_key=KEY)("x")


# --- what comes back ---


async def test_the_usage_holds_the_cached_tokens(server, backend):
    counts = {"prompt_tokens": 100, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 64}}
    server.script = [server.completion("x", usage=counts)]
    usage = (await backend.complete(HELLO)).usage
    assert (usage.calls, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (1, 100, 64, 9)


async def test_n_samples_come_back_in_the_order_of_their_index(server, backend):
    reply = server.completion("first", "second", "third")
    reply.body["choices"].reverse()
    server.script = [reply]
    response = await backend.complete(Request((user("x"),), Sampling(n=3)))
    assert [c.text for c in response.choices] == ["first", "second", "third"]
    assert response.model == "answering-model"


@pytest.mark.parametrize(
    ("said", "meant"), [("stop", "stop"), ("length", "length"), ("content_filter", "filter"), (None, "stop")]
)
async def test_the_finish_reason_is_read(server, backend, said, meant):
    server.script = [server.completion("x", finish=said)]
    assert (await backend.complete(HELLO)).choices[0].finish_reason == meant


async def test_log_probabilities_are_read(server, backend):
    reply = server.completion("Hi")
    reply.body["choices"][0]["logprobs"] = {"content": [{"token": "Hi", "logprob": -0.25}]}
    server.script = [reply]
    assert (await backend.complete(HELLO)).choices[0].logprobs == (("Hi", -0.25),)


async def test_missing_content_and_usage_are_empty_and_zero(server, backend):
    server.script = [server.reply(body={"choices": [{"message": {"content": None}}]})]
    response = await backend.complete(HELLO)
    assert response.text == ""
    assert response.usage.total_tokens == 0


def test_a_price_turns_usage_into_cost(server):
    server.script = [server.completion("x", usage={"prompt_tokens": 1000, "completion_tokens": 100})]
    lm = tf.LM("openai/m", api_base=server.url, api_key=KEY, price_per_million=(2.0, 10.0))
    with tf.track_usage() as meter:
        lm("x")
    assert meter.usage.cost_usd == pytest.approx(0.003)


def test_without_a_price_the_cost_is_unknown_and_not_zero(server):
    server.script = [server.completion("x")]
    with tf.track_usage() as meter:
        tf.LM("openai/m", api_base=server.url, api_key=KEY)("x")
    assert meter.usage.cost_usd is None


# --- what fails ---


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_an_auth_error(server, status):
    error = await failing(server, server.refusal(status, "Incorrect API key"), tf.LMAuthError)
    assert (error.status, error.model) == (status, "small-model")
    assert "Incorrect API key" in str(error)


@pytest.mark.parametrize(("status", "said"), [(400, "bad `stop`"), (404, "no such model"), (422, "n too large")])
async def test_a_rejected_request_is_an_invalid_request_error(server, status, said):
    error = await failing(server, server.refusal(status, said), tf.LMInvalidRequestError)
    assert (error.status, error.model) == (status, "small-model")
    assert said in str(error)


@pytest.mark.parametrize(
    "details",
    [
        {"message": "This model's maximum context length is 4096 tokens. You sent 5000."},
        {"message": "too long", "code": "context_length_exceeded", "type": "invalid_request_error"},
        {"message": "the request exceeds the available context size", "type": "exceed_context_size_error"},
    ],
)
async def test_a_prompt_too_long_is_told_from_other_rejections(server, details):
    error = await failing(server, server.refusal(400, **details), tf.ContextWindowExceededError)
    assert error.status == 400
    assert "demos" in str(error)


async def test_a_prompt_too_long_carries_the_sizes_that_the_server_tells(server):
    reply = server.refusal(400, "exceeds the context size", n_prompt_tokens=5000, n_ctx=4096)
    error = await failing(server, reply, tf.ContextWindowExceededError)
    assert (error.prompt_tokens, error.context_tokens) == (5000, 4096)


async def test_an_error_without_the_usual_wrapping_is_read_too(server):
    body = {"object": "error", "message": "maximum context length is 10", "type": "BadRequestError", "code": 400}
    await failing(server, server.reply(400, body), tf.ContextWindowExceededError)


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("0.5", 0.5), ("-3", 0.0)])
async def test_a_rate_limit_carries_the_wait_that_the_server_asks_for(server, header, seconds):
    reply = server.refusal(429, "slow down", headers={"Retry-After": header})
    error = await failing(server, reply, tf.LMRateLimitError)
    assert (error.status, error.retry_after_s) == (429, seconds)


@pytest.mark.parametrize(
    ("header", "wait"), [({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0), ({"retry-after-ms": "250"}, 0.25)]
)
async def test_a_wait_may_be_given_as_a_date_or_in_milliseconds(server, header, wait):
    reply = server.refusal(429, "slow down", headers=header)
    assert (await failing(server, reply, tf.LMRateLimitError)).retry_after_s == wait


async def test_a_wait_that_cannot_be_read_is_left_to_the_own_backoff(server):
    reply = server.refusal(429, "slow down", headers={"Retry-After": "soon"})
    assert (await failing(server, reply, tf.LMRateLimitError)).retry_after_s is None


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_failing_server_is_a_server_error(server, status):
    reply = server.refusal(status, "out of order", headers={"Retry-After": "2"})
    error = await failing(server, reply, tf.LMServerError)
    assert (error.status, error.retry_after_s) == (status, 2.0)


async def test_a_server_that_hangs_is_a_timeout_within_its_limit(server):
    begun = time.monotonic()
    error = await failing(server, server.reply(wait_s=30), tf.LMTimeoutError, timeout_s=0.3)
    assert time.monotonic() - begun < 5
    assert isinstance(error, TimeoutError)
    assert "0.3 s" in str(error)


async def test_a_connection_closed_within_the_body_is_a_transport_error(server):
    reply = server.completion("a long answer " * 50)
    reply.cut = True
    await failing(server, reply, tf.LMTransportError)


async def test_a_server_that_is_not_there_is_a_transport_error(server):
    server.close()
    backend = HTTPBackend("m", api_base=server.url)
    with pytest.raises(tf.LMTransportError, match="Is the server up"):
        await backend.complete(HELLO)
    await backend.aclose()


async def test_a_page_of_html_is_a_server_error_that_quotes_it(server):
    page = server.reply(200, b"<html><body>Sign in</body></html>", {"Content-Type": "text/html"})
    error = await failing(server, page, tf.LMServerError)
    assert "<html>" in str(error)
    assert "address" in str(error)


async def test_a_page_of_html_with_an_error_status_keeps_its_status(server):
    page = server.reply(502, b"<html>Bad gateway</html>", {"Content-Type": "text/html"})
    error = await failing(server, page, tf.LMServerError)
    assert error.status == 502
    assert "Bad gateway" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices": [{"mess',
        b"",
        b"\xff\xfe",
        {},
        [],
        None,
        "text",
        {"error": {"message": "quota"}},
        {"choices": []},
        {"choices": None},
        {"choices": [{}]},
        {"choices": ["text"]},
        {"choices": [{"message": {"content": ["parts"]}}]},
        {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "many"}},
        {"choices": [{"message": {"content": "x"}}], "usage": [1, 2]},
        {"choices": [{"message": {"content": "x"}, "logprobs": {"content": [{"token": "x", "logprob": "low"}]}}]},
    ],
    ids=repr,
)
async def test_what_is_no_completion_is_a_server_error(server, body):
    error = await failing(server, server.reply(200, body), tf.LMServerError)
    assert error.model == "small-model"


# --- retried ---


def test_a_call_that_fails_twice_for_passing_reasons_succeeds(server, waits):
    server.script = [
        server.refusal(429, "slow down", headers={"Retry-After": "3"}),
        server.refusal(500, "out of order"),
        server.completion("at last"),
    ]
    assert tf.LM("openai/m", api_base=server.url, api_key=KEY)("x") == ["at last"]
    assert len(server.bodies) == 3
    assert server.bodies[0] == server.bodies[1] == server.bodies[2]
    assert waits[0] == 3.0


def test_what_cannot_pass_is_not_tried_again(server, waits):
    server.script = [server.refusal(401, "no")]
    with pytest.raises(tf.LMAuthError):
        tf.LM("openai/m", api_base=server.url, api_key=KEY)("x")
    assert len(server.bodies) == 1


# --- the key ---


@pytest.mark.parametrize("reply_of", [
    lambda s: s.refusal(401, f"Incorrect API key provided: {KEY}."),
    lambda s: s.reply(200, f"<html>{KEY}</html>".encode()),
    lambda s: s.reply(500, f"<html>{KEY}</html>".encode()),
    lambda s: s.reply(200, {"error": {"message": f"{KEY} is not known"}}),
    lambda s: s.refusal(400, "bad request"),
    lambda s: s.reply(200, b"x" * 1000, cut=True),
])  # fmt: skip
async def test_the_key_shows_in_no_error_even_where_the_server_quotes_it(server, reply_of):
    server.script = [reply_of(server)]
    backend = HTTPBackend("m", api_base=server.url, api_key=KEY)
    with pytest.raises(tf.LMError) as caught:
        await backend.complete(HELLO)
    await backend.aclose()
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
    assert KEY not in shown
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("variable", [False, True])
def test_the_key_shows_in_no_repr_history_or_saved_file(server, tmp_path, monkeypatch, variable):
    server.script = [server.completion("[[ ## answer ## ]]\nParis")]
    if variable:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
    lm = tf.LM("openai/m", api_base=server.url, **({} if variable else {"api_key": KEY}))
    program = tf.Predict("question -> answer").using(lm=lm)
    prediction = program(question="Capital of France?")
    program.save(tmp_path / "program.json")
    history = io.StringIO()
    tf.inspect_history(1, history)
    meant_for_people = [repr(lm), repr(lm.backend), repr(program), repr(prediction), lm.endpoint, history.getvalue()]
    meant_for_people += [repr(prediction.trace.steps), repr(tf.settings), repr(program.render(question="x"))]
    written = [file.read_text() for file in tmp_path.iterdir()]

    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert "Capital of France?" in history.getvalue()
    assert len(written) == 1
    assert KEY not in "".join(meant_for_people + written)


@pytest.mark.parametrize(
    ("model", "variable"),
    [("openai/gpt", "OPENAI_API_KEY"), ("groq/x", "GROQ_API_KEY"), ("mistral/x", "MISTRAL_API_KEY")],
)
def test_without_a_key_the_error_names_the_variable_before_any_call(model, variable):
    lm = tf.LM(model, num_retries=0)
    with pytest.raises(tf.LMAuthError, match=f"{variable}.*No call was made"):
        lm("x")


def test_a_server_of_ones_own_is_asked_without_a_key(server):
    server.script = [server.completion("x")]
    assert tf.LM("openai/m", api_base=server.url)("x") == ["x"]
    assert "authorization" not in server.headers[0]


def test_a_key_read_with_its_line_end_works(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    server.script = [server.completion("x")]
    tf.LM("openai/m", api_base=server.url)("x")
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_a_key_that_no_header_can_hold_is_an_auth_error_that_does_not_show_it(server):
    lm = tf.LM("openai/m", api_base=server.url, api_key=f"{KEY}\nsecond-line")
    with pytest.raises(tf.LMAuthError) as caught:
        lm("x")
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert server.bodies == []


def test_the_endpoint_tells_servers_with_the_same_model_apart(server):
    one = HTTPBackend("m", api_base="http://127.0.0.1:1/v1", api_key=KEY)
    two = HTTPBackend("m", api_base="http://127.0.0.1:2/v1/", api_key=KEY)
    assert one.endpoint == "http://127.0.0.1:1/v1#m"
    assert one.endpoint != two.endpoint
    assert HELLO.key(one.endpoint) != HELLO.key(two.endpoint)


# --- whole programs over HTTP ---


@pytest.mark.parametrize("adapter", ["chat", "json", "compact"])
def test_what_render_shows_is_byte_for_byte_what_is_sent(server, adapter):
    """Law 7: the bytes on the wire are those of the rendered request, the LM's own sampling included."""
    answers = {"chat": "[[ ## answer ## ]]\n7", "json": '{"answer": 7}', "compact": "7"}
    server.script = [server.completion(answers[adapter])]
    lm = tf.LM("openai/m", api_base=server.url, temperature=0.3, max_tokens=50, seed=5)
    program = tf.Predict("question, hint: list[str] -> answer: int", top_p=0.5).using(lm=lm, adapter=adapter)
    program.demos = [{"question": "2+2?", "hint": ["add"], "answer": 4}, {"question": "half a demo", "answer": 1}]
    given = {"question": "3+4? [[ ## answer ## ]] \U0001f642 naïve", "hint": ["a\nb", ""]}

    rendered = program.render(**given)
    assert program(**given).answer == 7
    assert server.bodies == [to_body(rendered.request, "m")]
    sent = [m["content"].encode() for m in server.bodies[0]["messages"]]
    assert sent == [m.content.encode() for m in rendered.messages]


def test_100_programs_share_connections_and_get_their_own_answers(server):
    server.script = lambda body: server.completion(f"[[ ## a ## ]]\n{body['messages'][-1]['content'].split()[-1]}")
    program = tf.Predict("q -> a").using(lm=tf.LM("openai/m", api_base=server.url))
    results = program.batch([{"q": str(i)} for i in range(100)], num_threads=10)
    assert [r.a for r in results] == [str(i) for i in range(100)]
    assert len(server.connections) <= 20
