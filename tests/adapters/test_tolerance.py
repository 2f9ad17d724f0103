"""Answers as models write them, small ones above all: what a person would understand is read, and nothing is invented."""

import datetime as dt
import enum
import json
from decimal import Decimal
from typing import Any, Literal

import pydantic
import pytest
from cases import City, parse
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tuneful.adapters.select import ADAPTERS
from tuneful.spec.fields import Field, InputField, OutputField
from tuneful.spec.signature import Signature

quick = settings(max_examples=60, deadline=None, database=None)

Mood = Literal["positive", "negative", "neutral"]
Topic = Literal["billing_question", "bug_report", "feature-request"]
Letter = Literal["A", "B", "C", "D"]


class Priority(enum.Enum):
    LOW = 1
    HIGH = 2


def lone(type_: Any = str, **constraints: Any) -> Signature:
    return Signature({"question": InputField(), "answer": (type_, OutputField(**constraints))})


def signature_of(**outputs: Any) -> Signature:
    return Signature({"question": InputField(), **{n: (t, OutputField()) for n, t in outputs.items()}})


COT = signature_of(reasoning=str, answer=int)
SURE = signature_of(answer=str, confidence=float)
NAMED = signature_of(search_query=str, is_final=bool)


# --- whole answers, as small models write them ---


@pytest.mark.parametrize(
    ("name", "signature", "text", "fields", "salvage"),
    [
        # markers, almost right
        ("chat", SURE, "[[ # answer # ]]\nParis\n[[ # confidence # ]]\n0.9", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("chat", SURE, "[[answer]]\nParis\n[[confidence]]\n0.9", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("chat", SURE, "[answer] Paris\n[confidence] 0.9", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("chat", SURE, "【answer】Paris\n【confidence】0.9", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("chat", SURE, "## answer ##\nParis\n## confidence ##\n0.9", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("chat", SURE, "<answer>Paris</answer>\n<confidence>0.9</confidence>", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("chat", SURE, "**Answer:** Paris\n**Confidence:** 0.9", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("chat", SURE, "**Answer**: Paris\n\n**Confidence**: 90%", {"answer": "Paris", "confidence": 90.0}, "marker in other form"),
        ("chat", SURE, "### Answer\nParis\n### Confidence\n0.9", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("chat", SURE, "__answer__: Paris\n__confidence__: 0.9", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("chat", SURE, "answer: Paris\nconfidence: 0.9", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("chat", SURE, "Answer - Paris\nConfidence - 0.9", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("chat", SURE, "Answer：Paris\nConfidence：0.9", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("chat", SURE, "- Answer: Paris\n- Confidence: 0.9", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("chat", SURE, "1. Answer: Paris\n2. Confidence: 0.9", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("chat", SURE, "Confidence: 0.9\nAnswer: Paris", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("chat", SURE, "Sure! Here you go:\n\n```\nAnswer: Paris\nConfidence: 0.9\n```", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("chat", NAMED, "Search Query: cats\nIs Final: yes", {"search_query": "cats", "is_final": True}, "boolean in other words"),
        ("chat", NAMED, "search-query: cats\nis final: no", {"search_query": "cats", "is_final": False}, "marker in other form"),
        # markers missing
        ("chat", COT, "We add 2 and 2.\n\n[[ ## answer ## ]]\n4", {"reasoning": "We add 2 and 2.", "answer": 4}, "marker missing"),
        ("chat", COT, "We add 2 and 2.\nAnswer: 4", {"reasoning": "We add 2 and 2.", "answer": 4}, "marker missing"),
        ("chat", COT, "We add 2 and 2.\n\nFinal answer: 4", {"reasoning": "We add 2 and 2.", "answer": 4}, "marker missing"),
        ("chat", COT, "First we add.\nThen we check.\n4", {"reasoning": "First we add.\nThen we check.", "answer": 4}, "marker missing"),
        ("chat", SURE, "Paris\n0.9", {"answer": "Paris", "confidence": 0.9}, "marker missing"),
        ("chat", lone(int), "The answer is 42.", {"answer": 42}, "label removed"),
        ("chat", lone(), "**Answer:** Paris", {"answer": "Paris"}, "marker in other form"),
        ("chat", lone(), "France has one capital.\nFinal answer: Paris", {"answer": "Paris"}, "marker in other form"),
        ("compact", COT, "We add 2 and 2.\nAnswer: 4", {"reasoning": "We add 2 and 2.", "answer": 4}, "marker missing"),
        ("compact", SURE, "[[ ## answer ## ]]\nParis\n[[ ## confidence ## ]]\n0.9", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("compact", lone(int), "Let me see.\nSo there are 3 + 4 of them.\nAnswer: 7", {"answer": 7}, "number within words"),
        ("compact", lone(Mood), "Sentiment: **Positive**", {"answer": "positive"}, "choice within a sentence"),
        # fences and thoughts
        ("chat", SURE, "```\n[[ ## answer ## ]]\nParis\n[[ ## confidence ## ]]\n0.9\n```", {"answer": "Paris", "confidence": 0.9}, "fence removed"),
        ("chat", signature_of(confidence=float, answer=str), "```text\n[[ ## confidence ## ]]\n0.9\n[[ ## answer ## ]]\nParis\n```", {"confidence": 0.9, "answer": "Paris"}, "fence removed"),
        ("compact", signature_of(confidence=float, answer=str), "```\nConfidence: 0.9\nAnswer: Paris\n```", {"confidence": 0.9, "answer": "Paris"}, "fence removed"),
        ("compact", lone(), "```\nParis\n```", {"answer": "Paris"}, "fence removed"),
        ("chat", SURE, "<reasoning>hm</reasoning>\n[[ ## answer ## ]]\nParis\n[[ ## confidence ## ]]\n0.9", {"answer": "Paris", "confidence": 0.9}, "thinking removed"),
        ("chat", SURE, "<THINK>hm</THINK>[[ ## answer ## ]]\nParis\n[[ ## confidence ## ]]\n0.9", {"answer": "Paris", "confidence": 0.9}, "thinking removed"),
        ("chat", SURE, "[THINK]hm[/THINK]\n[[ ## answer ## ]]\nParis\n[[ ## confidence ## ]]\n0.9", {"answer": "Paris", "confidence": 0.9}, "thinking removed"),
        ("chat", SURE, "<think>\nIt is Paris.\n\n[[ ## answer ## ]]\nParis\n[[ ## confidence ## ]]\n0.9", {"answer": "Paris", "confidence": 0.9}, "thinking without end"),
        ("compact", SURE, "<think>It is Paris.\nAnswer: Paris\nConfidence: 0.9", {"answer": "Paris", "confidence": 0.9}, "thinking without end"),
        ("json", SURE, '<think>It is Paris. {"answer": "Paris", "confidence": 0.9}', {"answer": "Paris", "confidence": 0.9}, "thinking without end"),
        ("chat", lone(), "It must be Paris, I think.\n</think>\n\nParis", {"answer": "Paris"}, "marker missing"),
        ("json", SURE, 'So {x}... </think>\n{"answer": "Paris", "confidence": 0.9}', {"answer": "Paris", "confidence": 0.9}, "json mended"),
        ("chat", signature_of(reasoning=str, answer=int), "<reasoning>2+2</reasoning>\n<answer>4</answer>", {"reasoning": "2+2", "answer": 4}, "marker in other form"),
        # JSON where fields were asked for, and the reverse
        ("chat", SURE, '{"answer": "Paris", "confidence": 0.9}', {"answer": "Paris", "confidence": 0.9}, "object instead of marks"),
        ("chat", SURE, '```json\n{"answer": "Paris", "confidence": "0.9"}\n```', {"answer": "Paris", "confidence": 0.9}, "object instead of marks"),
        ("compact", SURE, "{'answer': 'Paris', 'confidence': 0.9,}", {"answer": "Paris", "confidence": 0.9}, "object instead of marks"),
        ("compact", lone(), '{"answer": "Paris"}', {"answer": "Paris"}, "object instead of marks"),
        ("compact", lone(int), '{"answer": 4}', {"answer": 4}, "object instead of marks"),
        ("json", SURE, "Answer: Paris\nConfidence: 0.9", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("json", SURE, "[[ ## answer ## ]]\nParis\n[[ ## confidence ## ]]\n0.9", {"answer": "Paris", "confidence": 0.9}, "marker in other form"),
        ("json", lone(int), "42", {"answer": 42}, "value without an object"),
        ("json", lone(), "Paris", {"answer": "Paris"}, "value without an object"),
        ("json", lone(list[int]), "[1, 2]", {"answer": [1, 2]}, "value without an object"),
        ("json", lone(City), '{"name": "Rome"}', {"answer": City(name="Rome")}, "value without an object"),
        ("json", lone(int), '{"answer": {"answer": 3}}', {"answer": 3}, "value under its name"),
        ("json", lone(), '{"answer": {"answer": "x"}}', {"answer": "x"}, "value under its name"),
        ("json", SURE, '{"outputs": {"answer": "Paris", "confidence": 0.9}}', {"answer": "Paris", "confidence": 0.9}, "object in an object"),
        ("json", SURE, '[{"answer": "Paris", "confidence": 0.9}]', {"answer": "Paris", "confidence": 0.9}, "json mended"),
        ("json", NAMED, '{"Search Query": "cats", "isFinal": true}', {"search_query": "cats", "is_final": True}, None),
        ("json", signature_of(a=bool, b=int | None), "{'a': True, 'b': None}", {"a": True, "b": None}, "json mended"),
        ("json", SURE, '{"answer": "He said "Paris" twice", "confidence": 0.9}', {"answer": 'He said "Paris" twice', "confidence": 0.9}, "json mended"),
    ],
)  # fmt: skip
def test_an_answer_that_a_person_would_understand_is_read(name, signature, text, fields, salvage):
    parsed = parse(ADAPTERS[name], signature, text)
    assert parsed.problems == {}
    assert parsed.fields == fields
    assert {n: type(v) for n, v in parsed.fields.items()} == {n: type(v) for n, v in fields.items()}
    assert salvage in parsed.salvages if salvage else parsed.salvages == ()


# --- single values ---


@pytest.mark.parametrize("name", ["chat", "compact"])
@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (int, "1,234", 1234),
        (int, "1_000", 1000),
        (float, "1,234.5", 1234.5),
        (float, "1 234,5", 1234.5),
        (float, "1.234,5", 1234.5),
        (int, "1.234.567", 1234567),
        (float, "2,5", 2.5),
        (int, "$5", 5),
        (int, "5€", 5),
        (float, "5.50 EUR", 5.5),
        (float, "1/2", 0.5),
        (float, "\\frac{1}{2}", 0.5),
        (int, "seven", 7),
        (int, "Twenty.", 20),
        (int, "five apples", 5),
        (int, "approximately 5", 5),
        (int, "\u22125", -5),
        (int, "minus 3", -3),
        (int, "= 42", 42),
        (int, "17 + 25 = 42", 42),
        (int, "2 million", 2000000),
        (int, "5k", 5000),
        (float, "3 × 10^8", 3e8),
        (int, "8 out of 10", 8),
        (int, "8/10", 8),
        (Decimal, "$1,234.10", Decimal("1234.1")),
        (int, "\\boxed{42}", 42),
        (int, "So we get $\\boxed{\\text{42}}$.", 42),
        (float, "\\[ \\boxed{\\frac{1}{4}} \\]", 0.25),
        (int, "The total is 3 + 4 = **7**", 7),
        (int, "There are 3 cats and 4 dogs, so the answer is 7.", 7),
        (int, "`7`.", 7),
        (bool, "Yes.", True),
        (bool, "not true", False),
        (bool, "This is false.", False),
        (bool, "The statement is correct.", True),
        (bool, "No, it is not.", False),
        (bool, "**True**", True),
        (Mood, "Positive.", "positive"),
        (Mood, "pos", "positive"),
        (Mood, "postive", "positive"),
        (Mood, "The mood is negative, not positive.", "negative"),
        (Mood, "The final label is: Neutral", "neutral"),
        (Topic, "Billing question", "billing_question"),
        (Topic, "It is a feature request.", "feature-request"),
        (Letter, "B) Paris", "B"),
        (Letter, "(c)", "C"),
        (Letter, "The answer is D.", "D"),
        (Literal["not_spam", "spam"], "This is not spam.", "not_spam"),
        (Priority, "high", Priority.HIGH),
        (list[str], "- a\n- b", ["a", "b"]),
        (list[str], "Here are the items:\n1. a\n2. b", ["a", "b"]),
        (list[str], "a, b and c", ["a", "b", "c"]),
        (list[str], "a; b; c", ["a", "b", "c"]),
        (list[str], "Paris and London", ["Paris", "London"]),
        (list[int], "1, 2 and 3", [1, 2, 3]),
        (list[Mood], "- Positive\n- neg", ["positive", "negative"]),
        (list[str], "None", []),
        (list[str], "['a', 'b']", ["a", "b"]),
        (tuple[str, int], "Paris, 3", ("Paris", 3)),
        (dict[str, int], "a: 1\nb: 2", {"a": 1, "b": 2}),
        (City, "name: Rome\npeople: 5", City(name="Rome", people=5)),
        (City, '{"city": {"name": "Rome"}}', City(name="Rome")),
        (dt.date, "March 5, 2024", dt.date(2024, 3, 5)),
        (dt.date, "It was on the 5th of March 2024.", dt.date(2024, 3, 5)),
        (dt.date, "25/12/2024", dt.date(2024, 12, 25)),
        (dt.date, "5.3.2024", dt.date(2024, 3, 5)),
        (dt.date, "20240305", dt.date(2024, 3, 5)),
        (dt.datetime, "March 5, 2024 at 2:30 pm", dt.datetime(2024, 3, 5, 14, 30)),  # noqa: DTZ001 (the text names no zone)
        (dt.time, "2:30 PM", dt.time(14, 30)),
        (int | None, "None.", None),
    ],
)  # fmt: skip
def test_a_value_that_a_person_would_understand_is_read(name, type_, text, value):
    parsed = parse(ADAPTERS[name], lone(type_), f"[[ ## answer ## ]]\n{text}" if name == "chat" else text)
    assert parsed.problems == {}
    assert parsed.fields == {"answer": value}
    assert type(parsed.fields["answer"]) is type(value)
    assert parsed.salvages


@pytest.mark.parametrize(
    ("constraints", "text", "value"),
    [({}, "45%", 45.0), ({"le": 1}, "45%", 0.45), ({}, "8/10", 0.8), ({"ge": 1}, "8/10", 8.0), ({"le": 1}, "8 of 10", 0.8)],
)  # fmt: skip
def test_the_constraints_decide_between_two_meanings(constraints, text, value):
    assert parse(ADAPTERS["compact"], lone(float, **constraints), text).fields == {"answer": value}


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (int, "In 2019, 45 people came"),
        (int, "1, 2, 3"),
        (int, "between 5 and 10"),
        (int, "5-10"),
        (int, "2024-05-01"),
        (int, "10:30"),
        (int, "COVID-19"),
        (int, "one of them"),
        (int, "one hundred"),
        (int, "twenty-one"),
        (int, "no one"),
        (int, "5M"),
        (int, "The answer is not 5"),
        (int, "x = 5 + 3"),
        (int, "1/2"),
        (int, "true"),
        (int, "version 1.2.3"),
        (bool, "No one knows"),
        (bool, "It would be true if it rained"),
        (bool, "true or false"),
        (bool, "perhaps"),
        (bool, "Right now I cannot say"),
        (bool, "2"),
        (Mood, "positive or negative"),
        (Mood, "not positive"),
        (Mood, "ne"),
        (Mood, "2) the second one"),
        (Letter, "It is a cat"),
        (Literal["yes", "no"], "There is no evidence"),
        (Literal["certain", "unknown"], "uncertain"),
        (Literal["relevant", "irrelevant"], "irelevant"),
        (Literal[1, 2, 3], "1.5"),
        (Literal[1, 2, 3], "-1"),
        (dt.date, "03/05/2024"),
        (dt.date, "2024"),
        (dt.datetime, "2024"),
        (dt.date, "February 31, 2024"),
        (City, "A fine city: Rome"),
    ],
)
def test_nothing_is_invented(type_, text):
    for name, written in (("chat", f"[[ ## answer ## ]]\n{text}"), ("compact", text), ("chat", text), ("json", text)):
        parsed = parse(ADAPTERS[name], lone(type_), written)
        assert parsed.fields == {}
        assert parsed.problems.keys() == {"answer"}


def test_several_numbers_are_a_problem_that_names_them():
    parsed = parse(ADAPTERS["compact"], lone(int), "In 2019, 45 people came")
    assert "2019, 45" in parsed.problems["answer"]


# --- text fields keep their text ---


@pytest.mark.parametrize("name", ["chat", "compact", "xml"])
@pytest.mark.parametrize(
    "text",
    [
        "The answer is Paris.", "'Paris'", "**Paris**", "$5", "\\boxed{4}", "- a\n- b", "```python\nprint(1)\n```",
        "See ```x``` there", "Yes, because [[x]]", "[1] a source", "Paris.", "<b>Paris</b>",
    ],
)  # fmt: skip
def test_a_text_is_not_changed(name, text):
    adapter = ADAPTERS[name]
    written = adapter.output_text(lone(), {"answer": text})
    assert (json.dumps(text)[1:-1] if name == "compact" else text) in written
    parsed = parse(adapter, lone(), written)
    assert (parsed.fields, parsed.salvages) == ({"answer": text}, ())


@pytest.mark.parametrize(
    ("text", "value", "salvage"),
    [("Answer: Paris", "Paris", "label removed"), ("```\nParis\n```", "Paris", "fence removed"),
     ("**Answer:**\n```text\nParis\n```", "Paris", "fence removed")],
)  # fmt: skip
def test_what_certainly_wraps_a_text_is_taken_off_under_its_marker_too(text, value, salvage):
    parsed = parse(ADAPTERS["chat"], lone(), f"[[ ## answer ## ]]\n{text}\n[[ ## completed ## ]]")
    assert parsed.fields == {"answer": value}
    assert salvage in parsed.salvages


def test_a_mark_in_another_form_opens_no_field_beside_marks_in_form():
    parsed = parse(ADAPTERS["chat"], COT, "[[ ## reasoning ## ]]\nThe user writes:\nAnswer: 5\n<answer>6</answer>")
    assert parsed.fields == {"reasoning": "The user writes:\nAnswer: 5\n<answer>6</answer>"}
    assert parsed.problems.keys() == {"answer"}


@pytest.mark.parametrize("text", ["Sure!\n[[ ## answer ## ]]\n4", "Here is the answer:\n[[ ## answer ## ]]\n4"])
def test_words_that_introduce_an_answer_are_no_field(text):
    assert parse(ADAPTERS["chat"], COT, text).fields == {"answer": 4}


# --- answers that break off ---


@pytest.mark.parametrize(
    ("name", "text", "fields"),
    [
        (
            "json",
            '{"answer": "Paris", "confidence": 0.9, "why": "because the ca',
            {"answer": "Paris", "confidence": 0.9},
        ),
        ("json", '{"answer": "Paris", "confidence": 0.9, "why"', {"answer": "Paris", "confidence": 0.9}),
        ("json", '{"answer": "Paris", "confidence": 0.', {"answer": "Paris"}),
        ("json", '```json\n{"answer": "Paris", "confidence": 0.9', {"answer": "Paris"}),
        ("json", '{"outputs": {"answer": "Paris", "why": "be', {"answer": "Paris"}),
        ("chat", '{"answer": "Paris", "why": "because', {"answer": "Paris"}),
        (
            "chat",
            "[[ ## answer ## ]]\nParis\n[[ ## confidence ## ]]\n0.9\n\n[[ ## wh",
            {"answer": "Paris", "confidence": 0.9},
        ),
        (
            "chat",
            "[[ ## confidence ## ]]\n0.9\n[[ ## answer ## ]]\nParis\n\n[[ ## why #",
            {"answer": "Paris", "confidence": 0.9},
        ),
        ("compact", "Answer: Paris\nConfidence: 0.9\nWh", {"answer": "Paris", "confidence": 0.9}),
    ],
)
def test_what_is_complete_in_a_cut_answer_is_kept(name, text, fields):
    parsed = parse(ADAPTERS[name], signature_of(answer=str, confidence=float, why=str), text)
    assert parsed.fields == fields
    assert parsed.problems.keys() == {"answer", "confidence", "why"} - fields.keys()


def test_every_beginning_of_a_json_answer_gives_only_what_was_written():
    text = '{"answer": "Paris, the city", "confidence": 0.95, "names": ["a", "bc"], "why": "it is"}'
    signature = signature_of(answer=str, confidence=float, names=list[str], why=str)
    whole = parse(ADAPTERS["json"], signature, text).fields
    assert len(whole) == 4
    for end in range(len(text)):
        for name, value in parse(ADAPTERS["json"], signature, text[:end]).fields.items():
            assert value == whole[name]


# --- noise around right answers ---

#: Values that are read from their plain text, and what they are of.
VALUES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, st.sampled_from(["Paris", "a city in France", "x = y", "Ärger 🙂"])),
    (int, st.integers(-(10**9), 10**9)),
    (float, st.floats(-1e6, 1e6).map(lambda x: round(x, 3))),
    (bool, st.booleans()),
    (Mood, st.sampled_from(["positive", "negative", "neutral"])),
    (list[str], st.lists(st.sampled_from(["a", "b c", "d"]), min_size=1, max_size=3)),
    (City, st.builds(City, name=st.sampled_from(["Rome", "Bonn"]), people=st.none() | st.integers(0, 99))),
]


@st.composite
def answers(draw, most=3):
    names = draw(st.lists(st.sampled_from(["answer", "long_name", "topic"]), min_size=1, max_size=most, unique=True))
    chosen = {n: draw(st.sampled_from(VALUES)) for n in names}
    signature = signature_of(**{n: type_ for n, (type_, _) in chosen.items()})
    return signature, {n: draw(strategy) for n, (_, strategy) in chosen.items()}


LEADS = ["Sure! Here is the answer:\n", "Okay.\n\n", "Here you go:\n\n"]
MARKERS = [
    "[[ # {0} # ]]\n{2}", "[{0}] {2}", "[[{0}]]\n{2}", "<{0}>{2}</{0}>", "**{1}:** {2}", "**{1}**: {2}", "### {0}\n{2}",
    "### {1}\n{2}", "__{0}__: {2}", "{0}: {2}", "{1}: {2}", "{1} - {2}", "{1}：{2}", "【{0}】{2}", "- {1}: {2}",
]  # fmt: skip


def texts_of(adapter, signature, values):
    from tuneful.adapters.values import write_value

    return {n: write_value(f, values[n]) for n, f in signature.output_fields.items()}


@pytest.mark.parametrize("name", ["chat", "compact", "json"])
@quick
@given(case=answers(), marker=st.sampled_from(MARKERS), lead=st.sampled_from(["", *LEADS]), turned=st.booleans())
def test_fields_under_marks_in_another_form_are_read(name, case, marker, lead, turned):
    signature, values = case
    assume(name != "compact" or len(values) > 1)  # a lone answer is bare there
    outputs = signature.output_fields
    shown = [marker.format(n, outputs[n].label, text) for n, text in texts_of(name, signature, values).items()]
    parsed = parse(ADAPTERS[name], signature, lead + "\n".join(reversed(shown) if turned else shown))
    assert (parsed.fields, parsed.problems) == (values, {})
    if name != "compact":  # whose own form some of these are
        assert "marker in other form" in parsed.salvages


@pytest.mark.parametrize("name", ["chat", "compact", "json", "xml"])
@quick
@given(case=answers(), lead=st.sampled_from(["", *LEADS]), tag=st.sampled_from(["think", "thinking", "thought"]))
def test_a_fence_and_thoughts_around_an_answer_are_taken_off(name, case, lead, tag):
    signature, values = case
    assume(name != "compact" or len(values) > 1)
    written = ADAPTERS[name].output_text(signature, values)
    thought = f"<{tag}>Let me see.\nIt may be this or that.</{tag}>\n"
    parsed = parse(ADAPTERS[name], signature, f"{thought}{lead}```\n{written}\n```")
    assert (parsed.fields, parsed.problems) == (values, {})
    assert "thinking removed" in parsed.salvages


@pytest.mark.parametrize("name", ["chat", "compact", "json"])
@quick
@given(
    case=answers(),
    form=st.sampled_from(["{}", "```json\n{}\n```", "Here it is: {} Hope it helps!", '{{"outputs": {}}}']),
)
def test_an_object_is_read_by_every_adapter(name, case, form):
    signature, values = case
    written = ADAPTERS["json"].output_text(signature, values)
    parsed = parse(ADAPTERS[name], signature, form.format(written))
    assume(not (name == "compact" and len(values) == 1 and form.startswith("Here")))
    assert (parsed.fields, parsed.problems) == (values, {})


@pytest.mark.parametrize("name", list(ADAPTERS))
@quick
@given(case=answers(most=2), noise=st.text(max_size=40))
def test_no_text_raises_and_every_field_is_accounted_for(name, case, noise):
    signature, values = case
    written = ADAPTERS[name].output_text(signature, values)
    for text in (noise, noise + written, written + noise, "<think>" + noise, '{"answer": ' + noise, "```\n" + noise):
        parsed = parse(ADAPTERS[name], signature, text)
        assert set(parsed.fields) | set(parsed.problems) == set(signature.output_fields)


WORDS = st.sampled_from(
    [
        "apple",
        "river",
        "quickly",
        "under",
        "table",
        "however",
        "paper",
        "seven-sided",
        "cloud",
        "and",
        "the",
        "of",
        "moon",
    ]
)


@pytest.mark.parametrize("name", ["chat", "compact", "json"])
@pytest.mark.parametrize("type_", [int, float, bool, Mood, Topic, Letter, dt.date, City])
@quick
@given(words=st.lists(WORDS, min_size=1, max_size=8))
def test_random_words_are_no_value(name, type_, words):
    text = " ".join(words)
    parsed = parse(ADAPTERS[name], lone(type_), text)
    assert parsed.problems.keys() == {"answer"}
    marked = parse(ADAPTERS["chat"], lone(type_), f"[[ ## answer ## ]]\n{text}")
    assert marked.problems.keys() == {"answer"}


@quick
@given(
    number=st.integers(-(10**12), 10**12),
    noise=st.sampled_from(
        [
            "{} apples",
            "${}",
            "about {}",
            "= {}",
            "**{}**",
            "Answer: {}",
            "The answer is {}.",
            "\\boxed{{{}}}",
            "`{}`",
            "It is {:,}",
            "2 + 2 = {}",
        ]
    ),
)
def test_a_number_in_noise_is_that_number(number, noise):
    parsed = parse(ADAPTERS["compact"], lone(int), noise.format(number))
    assert parsed.fields == {"answer": number}
    assert parsed.salvages


def test_a_literal_reading_is_never_counted():
    for type_, text in (
        (int, "42"),
        (bool, "true"),
        (Mood, "positive"),
        (list[int], "[1, 2]"),
        (dt.date, "2024-03-05"),
    ):
        assert parse(ADAPTERS["compact"], lone(type_), text).salvages == ()


def test_a_field_of_a_pydantic_type_reads_its_own_text():
    assert parse(ADAPTERS["compact"], lone(pydantic.HttpUrl), "https://a.org").complete
    assert isinstance(lone().output_fields["answer"], Field)
