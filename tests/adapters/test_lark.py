"""Grammars in Lark: llguidance takes them for every type, and they admit what the adapter itself writes, and no more."""

import json
import math
import re
from datetime import date
from typing import Any, Literal

import llguidance
import pydantic
import pytest
from cases import ADAPTERS, TYPES, City, signatures_with_outputs
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tuneful.adapters import lark
from tuneful.adapters.compact import CompactAdapter
from tuneful.spec.fields import OutputField
from tuneful.spec.signature import Signature
from tuneful.wire.capabilities import Capabilities

LARK = Capabilities(grammar="lark", json_schema=True)
SMALL = Capabilities(grammar="lark", json_schema=True, small=True)
ENFORCED = [a for a in ADAPTERS if a.name in ("compact", "chat", "json", "xml")]
BYTES = llguidance.LLTokenizer("byte")


def compiled(grammar):
    head, body = grammar.split("\n", 1)
    assert head == "%llguidance {}"
    assert body.startswith("start: answer\nanswer: ")  # where a backend adds the token that ends its answers
    whole = llguidance.grammar_from("lark", body)
    assert llguidance.LLMatcher.validate_grammar(whole, BYTES) == ""
    return whole


def accepts(grammar, text):
    matcher = llguidance.LLMatcher(BYTES, compiled(grammar))
    tokens = list(text.encode())
    return matcher.validate_tokens(tokens) == len(tokens) and matcher.consume_tokens(tokens) and matcher.is_accepting()


def in_quotes(text):
    return json.dumps(text, ensure_ascii=False)


def of(type_, able=LARK, adapter=None, **constraints):
    signature = Signature({"q": OutputField(), "b": (type_, OutputField(**constraints))}).delete("q")
    return (adapter or CompactAdapter()).plan(signature, able).grammar


@pytest.mark.parametrize("able", [LARK, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("adapter", ENFORCED, ids=repr)
@pytest.mark.parametrize("type_", [t for t, _ in TYPES] + [Any, list, dict, tuple, bytes, Literal['a"\\\b\n'], date])
def test_llguidance_takes_the_grammar_of_every_type(type_, adapter, able):
    signature = Signature("q -> a, b, c").with_updated_fields("b", type_)
    compiled(adapter.plan(signature, able).grammar)
    assert of(type_, able, adapter) is None or compiled(of(type_, able, adapter))


def finite(value):
    match value:
        case float():
            return math.isfinite(value)
        case list() | tuple() | set():
            return all(map(finite, value))
        case City():
            return finite(value.area)
    return True


@settings(max_examples=300, deadline=None)
@given(case=signatures_with_outputs(), adapter=st.sampled_from(ENFORCED))
def test_what_an_adapter_writes_its_grammar_admits_and_both_are_read_alike(case, adapter):
    signature, values = case
    assume(all(map(finite, values.values())))  # JSON has no infinity
    plan = adapter.plan(signature, LARK)
    text = adapter.output_text(signature, values)
    assume("\x7f" not in text)  # llguidance admits it in JSON as an escape only
    own_lines = re.search(r"<\w+>\n", text)  # values of several lines, which the grammar has without them
    assume(adapter.name != "xml" or not (own_lines or "<\\" in text))
    assume(text != '""')  # what is asked for is a text, though an empty one is read
    assume("[[\\" not in text)  # the escape of the chat adapter, which JSON has not: a grammar needs none
    assert plan.grammar is None or accepts(plan.grammar, text)
    assert adapter.parse(plan, text).fields == values


class Inner(pydantic.BaseModel):
    size: int = pydantic.Field(ge=1, le=9)
    code: str = pydantic.Field(pattern=r"^[A-Z]{2}-\d+$")


class Outer(pydantic.BaseModel):
    inner: Inner
    more: list[Inner] = []
    parent: "Outer | None" = None


@pytest.mark.parametrize(
    ("type_", "constraints", "good", "bad"),
    [
        (int, {"ge": 1, "le": 5}, ["1", "5"], ["0", "6", "10", "-1", "1.5"]),
        (int, {"ge": -1000, "lt": 1000}, ["-1000", "999"], ["1000", "-1001"]),
        (int, {"ge": -9, "multiple_of": 3}, ["-9", "0", "33"], ["-10", "-12", "2"]),
        (float, {"ge": 0, "le": 1}, ["0", "0.25", "1", "1.0"], ["-0.1", "1.01"]),
        (str, {"min_length": 2, "max_length": 3}, ["ab", "abc", "a\nb"], ["a", "abcd"]),
        (str, {"pattern": r"^\w+@\w+\.com$"}, ["a@b.com"], ["a@b.org", "x a@b.com", "a@b.com."]),
        (str, {"pattern": r"[/]\d"}, ["x /1 y", "/2"], ["x / y"]),
        (str, {"pattern": "^(?:a|b)$"}, ["a", "b"], ["ab"]),
        (str, {"pattern": "^a|b$"}, ["a", "xb"], ["c"]),
        (str, {"pattern": r"a\b"}, ["a", "b"], [""]),  # no grammar has it: it is checked when the answer is read
        (bool, {}, ["true", "false"], ["yes"]),
        (Literal["a", "ab"] | None, {}, ["a", "ab", "null"], ["b", "abb"]),
        (list[Literal["x", "y"]], {"min_length": 1, "max_length": 2}, ['["x"]', '["y","x"]'], ["[]", '["z"]']),
        (
            Outer,
            {},
            ['{"inner":{"size":3,"code":"AB-1"}}', '{"inner":{"size":3,"code":"AB-1"},"more":[],"parent":null}'],
            [
                '{"inner":{"size":10,"code":"AB-1"}}',
                '{"inner":{"size":3,"code":"A"}}',
                '{"inner":{"size":3,"code":"AB-1"},"x":1}',
            ],
        ),
    ],
)
def test_a_grammar_admits_the_type_and_its_bounds_only(type_, constraints, good, bad):
    grammar = of(type_, **constraints)
    written = in_quotes if type_ is str else str
    assert [t for t in good if not accepts(grammar, written(t))] == []
    assert [t for t in bad if accepts(grammar, written(t))] == []


@pytest.mark.parametrize("adapter", [a for a in ENFORCED if a.name in ("compact", "chat")], ids=repr)
def test_reasoning_is_free_and_ends_at_the_next_label_only(adapter):
    signature = Signature("question -> reasoning, answer: int")
    plan = adapter.plan(signature, LARK)
    reasoning = (
        "Let us see.\n\n**answer**: is 3?\n[[ ## note ## ]] No: $\\frac{6}{2}$\n\n- so 4"
        if adapter.name == "compact"
        else "Let us see.\n\n- Answer: 3"
    )
    text = (
        adapter.output_text(signature, {"reasoning": "R", "answer": 4}).replace("R", reasoning, 1)
        if adapter.name == "chat"
        else f"Reasoning: {reasoning}\nAnswer: 4"
    )
    assert accepts(plan.grammar, text)
    assert adapter.parse(plan, text).fields == {"reasoning": reasoning, "answer": 4}


def test_a_small_model_cannot_write_for_ever():
    text, numbers = "x" * (lark.TEXT_LIMIT + 1), "[" + ",".join("1" * (lark.LIST_LIMIT + 1)) + "]"
    assert accepts(of(list[int]), numbers)
    assert not accepts(of(list[int], SMALL), numbers)
    assert not accepts(of(list[int], SMALL), f"[{'1' * 20}]")
    assert not accepts(of(float, SMALL), "0." + "3" * 16)
    assert accepts(of(list[str]), f'["{text}"]')
    assert not accepts(of(list[str], SMALL), f'["{text}"]')
    assert accepts(of(list[str], SMALL), '["x"]')


@pytest.mark.parametrize("adapter", ENFORCED, ids=repr)
@pytest.mark.parametrize(
    ("constraints", "good", "bad"),
    [
        ({}, ["0", "-3", "12.5", "0." + "3" * 15], ["0." + "3" * 16, "1" * 16, "1e5"]),
        ({"ge": 0, "le": 1}, ["0", "1", "0.25", "1.0"], ["1.5", "2", "-0.1", "0." + "0" * 16, "1." + "0" * 16]),
        ({"ge": 0, "lt": 5}, ["0.5", "4.999"], ["5", "5.0", "10"]),
        ({"ge": -2.5, "le": 2}, ["-2.5", "2"], ["3", "-2.6"]),
    ],
)
def test_a_number_of_a_small_model_comes_to_an_end(adapter, constraints, good, bad):
    signature = Signature({"q": OutputField(), "b": (float, OutputField(**constraints))}).delete("q")
    grammar = adapter.plan(signature, SMALL).grammar
    written = adapter.output_text(signature, {"b": 0.0})
    for accepted, texts in ((True, good), (False, bad)):
        for text in texts:
            assert accepts(grammar, written.replace("0.0", text, 1)) is accepted, text


def test_a_text_of_a_small_model_in_compact_lines_is_one_line():
    signature = Signature("q -> a, b: int")
    large, small = (CompactAdapter().plan(signature, able).grammar for able in (LARK, SMALL))
    assert accepts(large, "A: two\nlines\nB: 3")
    assert not accepts(small, "A: two\nlines\nB: 3")
    assert accepts(small, "A: one line\nB: 3")


def test_a_lone_text_is_not_empty_and_may_be_none_where_its_type_says_so():
    assert not accepts(of(str), '""')
    assert accepts(of(str | None), '"null"')
    assert accepts(of(str | None), "null")
    assert not accepts(of(str), "null")


def test_texts_leave_a_small_model_the_tokens_for_what_follows():
    signature = Signature("question -> reasoning, answer: int")
    few = Capabilities(grammar="lark", small=True, answer_tokens=100)
    grammar = CompactAdapter().plan(signature, few).grammar
    assert accepts(grammar, f"Reasoning: {'x' * 100}\nAnswer: 4")
    assert not accepts(grammar, f"Reasoning: {'x' * 101}\nAnswer: 4")
