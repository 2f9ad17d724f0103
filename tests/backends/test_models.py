"""What is known of model families."""

from dataclasses import replace
from fnmatch import fnmatchcase

import pytest

import tuneful as tf
from tuneful.backends.http.providers import PROVIDERS
from tuneful.backends.models import FAMILIES, ModelFacts, Price, facts_of


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("openai/gpt-4o-mini-2024-07-18", (0.15, 0.60, 0.075)),
        ("openai/gpt-4o", (2.50, 10.00, 1.25)),
        ("openai/ft:gpt-4o-mini-2024-07-18:us:search-audio-tts:Ab12", (0.30, 1.20, 0.15)),
        ("openai/GPT-4.1-nano", (0.10, 0.40, 0.025)),
        ("openai/gpt-5", (1.25, 10.00, 0.125)),
        ("openai/gpt-5-mini", (0.25, 2.00, 0.025)),
        ("azure/o4-mini", (1.10, 4.40, 0.275)),
        ("litellm/anthropic/claude-opus-4-5", (5.00, 25.00, 0.50)),
        ("anthropic/claude-sonnet-4-20250514", (3.00, 15.00, 0.30)),
        ("anthropic/claude-haiku-4-5-20251001", (1.00, 5.00, 0.10)),
        ("gemini/gemini-2.5-flash-lite", (0.10, 0.40, 0.01)),
        ("gemini/gemini-2.5-flash", (0.30, 2.50, 0.03)),
    ],
)
def test_the_more_special_family_counts(model, price):
    found = facts_of(model).price
    assert (found.input, found.output, found.cached) == price


@pytest.mark.parametrize(
    "model",
    ["openai/gpt-4o-audio-preview", "openai/gpt-5-pro", "openai/o3-pro", "openai/gpt-4o-mini-tts",
     "gemini/gemini-2.5-flash-image", "anthropic/claude-opus-9", "mistral/mistral-large-latest", "x/y"],
)  # fmt: skip
def test_a_price_that_is_not_sure_is_none(model):
    assert facts_of(model).price is None


def test_a_tuned_model_has_the_facts_of_its_base_and_a_price_of_its_own():
    tuned, base = facts_of("openai/ft:o4-mini-2025-04-16:us:mine:Ab12"), facts_of("openai/o4-mini-2025-04-16")
    assert tuned.price is None
    assert replace(tuned, price=base.price) == base
    mini, tuned_mini = facts_of("openai/gpt-4.1-mini"), facts_of("openai/ft:gpt-4.1-mini:us::Ab12")
    assert replace(tuned_mini, price=mini.price) == mini
    assert facts_of("vllm/ft:mine:a:b") == ModelFacts()


def test_nothing_is_known_of_a_name_that_fits_nothing():
    assert facts_of("vllm/my-model") == ModelFacts()


def test_a_long_prompt_may_have_a_price_of_its_own():
    price = Price(1.0, 2.0, 0.5, beyond=(1000, Price(10.0, 20.0, 5.0)))
    assert price.cost_usd(1000, 0, 1000) == pytest.approx(0.003)
    assert price.cost_usd(1001, 0, 1000) == pytest.approx((1001 * 10 + 1000 * 20) / 1e6)
    assert price.cost_usd(2000, 1000, 0) == pytest.approx((1000 * 10 + 1000 * 5) / 1e6)


def test_no_family_stands_behind_a_broader_one():
    for index, (pattern, _) in enumerate(FAMILIES):
        example = pattern.replace("*", "z").replace("[5-9]", "7").replace("[02]", "0").replace("[012]", "1")
        example = example.replace("[78]", "7")
        first = next(i for i, (p, _) in enumerate(FAMILIES) if fnmatchcase(example, p))
        assert first == index, pattern


def test_every_family_belongs_to_a_provider_and_prices_make_sense():
    for pattern, facts in FAMILIES:
        assert pattern.partition("/")[0] in PROVIDERS
        if facts.price is not None:
            assert 0 < (facts.price.cached or facts.price.input) <= facts.price.input, pattern
            assert facts.price.output == 0 or facts.price.input <= facts.price.output, pattern  # 0: no words come back


@pytest.mark.parametrize("model", ["openai/o3", "openai/gpt-5-nano", "openai/gpt-5.1", "openai/gpt-7-anything"])
@pytest.mark.parametrize("option", [{"temperature": 0.5}, {"top_p": 0.5}, {"logprobs": True}, {"stop": "x"}])
def test_a_model_that_thinks_refuses_what_it_would_refuse_later(model, option):
    with pytest.raises(tf.UsageError, match=next(iter(option))):
        tf.LM(model, **option)


def test_more_tokens_than_a_model_can_write_are_refused():
    with pytest.raises(tf.UsageError, match="16384"):
        tf.LM("openai/gpt-4o", max_tokens=20_000)


def test_the_facts_are_part_of_the_capabilities():
    found = tf.LM("anthropic/claude-haiku-4-5").capabilities
    assert (found.context_tokens, found.answer_tokens, found.reasoning) == (200_000, 64_000, True)
    assert found.reasons_if_asked
    assert facts_of("openai/gpt-5.1").reasons_if_asked
    assert not facts_of("openai/gpt-5-mini").reasons_if_asked
    assert found.media == {"image", "file"}
    assert {"logprobs", "seed"} <= found.refuses
    assert tf.LM("gemini/gemini-2.5-pro").capabilities.media == {"image", "file", "audio"}
