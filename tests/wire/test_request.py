"""Requests: equal requests have equal keys, different ones different keys."""

import dataclasses

import pytest

from tuneful.errors import UsageError
from tuneful.program.running.runtime import usage_line
from tuneful.wire.messages import Media, Message, Tool, assistant, system, user
from tuneful.wire.request import SAMPLING_OPTIONS, Request, Sampling
from tuneful.wire.response import Choice, Response, Usage

BASE = Request((system("s"), user("u")))
OTHER = {
    "temperature": 0.0,
    "max_tokens": 7,
    "top_p": 0.5,
    "seed": 0,
    "n": 2,
    "stop": ("\n",),
    "logprobs": True,
    "rollout_id": 1,
    "reasoning_effort": "low",
}


def test_every_setting_and_part_and_the_endpoint_are_in_the_key():
    assert {*OTHER, "cache"} == set(SAMPLING_OPTIONS)
    requests = [
        BASE,
        *(dataclasses.replace(BASE, sampling=Sampling(**{k: v})) for k, v in OTHER.items()),
        dataclasses.replace(BASE, messages=(system("s"), user("v"))),
        dataclasses.replace(BASE, messages=(system("s"), assistant("u"))),
        dataclasses.replace(BASE, messages=(user("u"), system("s"))),
        dataclasses.replace(BASE, messages=(user("su"),)),
        dataclasses.replace(BASE, grammar="root ::= [a-z]"),
        dataclasses.replace(BASE, grammar=""),
        dataclasses.replace(BASE, json_schema='{"type": "object"}'),
        dataclasses.replace(BASE, extra=(("top_k", "3"),)),
        dataclasses.replace(BASE, sampling=Sampling(sample=1)),
        dataclasses.replace(BASE, tools=(Tool("t", "", "{}"),)),
        dataclasses.replace(BASE, tool_choice="t"),
        dataclasses.replace(BASE, messages=(system("s"), user(("u", Media("image", url="a"))))),
        dataclasses.replace(BASE, messages=(system("s"), Message("user", "u", call_id="1"))),
    ]
    keys = [r.key(e) for r in requests for e in ("", "http://one/v1", "http://two/v1")]
    assert len(set(keys)) == len(keys)


def test_equal_requests_have_equal_keys():
    one = dataclasses.replace(BASE, sampling=Sampling(temperature=1, top_p=1))
    other = dataclasses.replace(BASE, sampling=Sampling(temperature=1.0, top_p=1.0))
    assert one == other
    assert one.key("e") == other.key("e")


def test_key_takes_any_text():
    assert Request((user("\ud800"),)).key() != Request((user("?"),)).key()


def test_zero_is_a_setting_and_not_unset():
    assert Sampling(temperature=0.0, seed=0).to_json() == {"temperature": 0.0, "seed": 0}
    assert Sampling(temperature=0.0, rollout_id=3).resolved().temperature == 0.0
    assert Sampling.from_options({"seed": 0}).seed == 0


def test_unset_temperature_is_greedy_for_one_sample_only():
    assert Sampling().resolved().temperature == 0
    assert Sampling(n=2).resolved().temperature == 0.7
    assert Sampling(rollout_id=1).resolved().temperature == 0.7


def test_several_samples_at_temperature_zero_are_an_error():
    for options in ({"temperature": 0, "n": 3}, {"temperature": 0.0, "n": 2}):
        with pytest.raises(UsageError, match="identical answers"):
            Sampling.from_options(options)


@pytest.mark.parametrize(
    "options",
    [
        {"n": 0},
        {"n": "3"},
        {"n": 1.5},
        {"n": None},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"temperature": True},
        {"max_tokens": 0},
        {"max_tokens": 2.5},
        {"top_p": 0},
        {"top_p": 1.1},
        {"seed": "x"},
    ],
)
def test_settings_that_make_no_sense_are_errors_that_name_the_setting(options):
    with pytest.raises(UsageError, match=f"`{next(iter(options))}` is "):
        Sampling.from_options(options)


def test_unknown_setting_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"Did you mean `temperature`\?"):
        Sampling.from_options({"temprature": 1})


def test_stop_may_be_one_text():
    assert Sampling.from_options({"stop": "END"}).stop == ("END",)
    assert Sampling.from_options({"stop": ["a", "b"]}).stop == ("a", "b")
    assert Sampling.from_options({"stop": None}).stop == ()


def test_request_as_json_leaves_out_what_is_not_set():
    assert Request((user("u"),)).to_json() == {"messages": [{"role": "user", "content": "u"}], "sampling": {}}


def test_usage_adds_up_and_an_unknown_price_stays_unknown():
    one, two = Usage(1, 10, 4, 3, 0.5), Usage(1, 20, 0, 7, 0.25)
    assert one + two == Usage(2, 30, 4, 10, 0.75)
    assert (one + two).total_tokens == 40
    assert (one + Usage(cost_usd=None)).cost_usd is None
    assert one.to_json()["cached_tokens"] == 4


def test_usage_says_what_a_model_had_to_read_again_and_shows_it():
    used = Usage(calls=2, prompt_tokens=100, cached_tokens=92)
    assert used.recomputed_tokens == 8
    assert (used + used).recomputed_tokens == 16
    assert "100 prompt tokens (92 from the prefix cache, 8 recomputed)" in usage_line(used)


def test_response_text_is_that_of_the_first_choice():
    response = Response((Choice("a", "length"), Choice("b")))
    assert response.text == "a"
    assert response.choices[0].truncated
    assert not response.choices[1].truncated
