"""CompactAdapter: what only it does."""

import pytest
from cases import ABLE, parse, plan

from tuneful.adapters.compact import CompactAdapter, labels
from tuneful.spec.code import Code
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.signature import Signature

COMPACT = CompactAdapter()
QA = Signature("question -> answer, sure: bool")
GOOD = {"answer": "Paris", "sure": True}


@pytest.mark.parametrize(
    ("text", "salvages"),
    [
        ("Answer: Paris\nSure: true", ()),
        ("\nSure: true\nAnswer: Paris\n", ()),
        ("answer: Paris\nSURE: true", ()),
        ("**Answer:** Paris\n**Sure**: true", ()),
        ("# Answer: Paris\n# Sure: true", ()),
        ("Answer：Paris\nSure：true", ()),
        ("Well.\nAnswer: Paris\nSure: true\nAnswer: Rome", ()),
        ("Answer: Paris\nSure: Yes", ("boolean in other words",)),
        ("<think>Answer: Rome</think>Answer: Paris\nSure: true", ("thinking removed",)),
        ("Answer: Paris\nSure: correct", ("boolean in other words",)),
    ],
)
def test_answers_are_read_tolerantly_and_the_salvage_recorded(text, salvages):
    parsed = parse(COMPACT, QA, text)
    assert parsed.fields == GOOD
    assert parsed.salvages == salvages


@pytest.mark.parametrize("text", ["Answer: Paris", "**Answer:** Paris", "answer : Paris"])
def test_label_in_front_of_a_lone_output_is_taken_off(text):
    parsed = parse(COMPACT, Signature("q -> answer"), text)
    assert parsed.fields == {"answer": "Paris"}
    assert parsed.salvages == ("label removed",)


def test_further_lines_belong_to_the_field_above_indented_or_not():
    for text in ("Answer: a\n  b\n\n  c\nSure: true", "Answer: a\nb\n\nc\nSure: true"):
        parsed = parse(COMPACT, QA, text)
        assert parsed.fields["sure"] is True
        assert parsed.fields["answer"].split() == ["a", "b", "c"]
    assert COMPACT.output_text(QA, {"answer": "a\nSure: false", "sure": True}) == "Answer: a\n  Sure: false\nSure: true"


def test_letters_that_only_look_like_a_label_are_text():
    parsed = parse(COMPACT, Signature("q -> title, sure: bool"), "Title: x\nT\u0131tle: y\nSure: no")
    assert parsed.fields == {"title": "x\nT\u0131tle: y", "sure": False}


def test_two_fields_with_one_label_show_their_names():
    class Same(Signature):
        a: str = InputField(prefix="Text:")
        b: str = OutputField(prefix="text")
        c: str = OutputField()

    assert labels(Same) == {"a": "a", "b": "b", "c": "C"}
    assert COMPACT.output_text(Same, {"b": "x", "c": "y"}) == "b: x\nC: y"


def test_lone_code_has_no_grammar_and_everything_else_has():
    assert plan(COMPACT, Signature("a -> b").with_updated_fields("b", Code), ABLE).grammar is None
    assert plan(COMPACT, Signature("a -> b"), ABLE).grammar is not None
    assert plan(COMPACT, Signature("a -> b: int"), ABLE).grammar is not None
    assert plan(COMPACT, Signature("a -> b, c"), ABLE).grammar is not None


@pytest.mark.parametrize("type_", ["str", "str | None"])
def test_a_lone_text_is_in_quotes_whatever_it_holds(type_):
    lone = Signature(f"q -> answer: {type_}")
    for text in ("Paris", '"Paris"', "Answer: Paris", "a\nAnswer: b", '{"answer": "x"}', "null", "<think>x</think>"):
        written = COMPACT.output_text(lone, {"answer": text})
        assert written.startswith('"')
        assert "\n" not in written
        assert (parse(COMPACT, lone, written).fields, parse(COMPACT, lone, written).salvages) == ({"answer": text}, ())
    assert COMPACT.output_text(Signature("q -> answer: str | None"), {"answer": None}) == "null"
    assert COMPACT.output_text(Signature("q -> answer: Literal['yes', 'no']"), {"answer": "yes"}) == "yes"


@pytest.mark.parametrize(
    ("text", "value", "salvage"),
    [
        ('"Paris" is the capital.', "Paris", "text after the quotes"),
        ('"Paris is the cap', "Paris is the cap", "quote not closed"),
        ('"a \\d and a\nline', "a \\d and a\nline", "quote not closed"),
        ('Answer: "Paris', "Paris", "quote not closed"),
    ],
)
def test_of_a_lone_text_what_is_in_the_quotes_counts(text, value, salvage):
    parsed = parse(COMPACT, Signature("q -> answer"), text)
    assert parsed.fields == {"answer": value}
    assert salvage in parsed.salvages


@pytest.mark.parametrize("text", ["Paris", "It is Paris.", "Two\nlines"])
def test_a_lone_text_without_its_quotes_is_read_as_it_stands(text):
    assert parse(COMPACT, Signature("q -> answer"), text).fields == {"answer": text}


def test_a_lone_text_that_breaks_off_is_given_without_the_quote_that_opened_it():
    (section,) = COMPACT.partial(plan(COMPACT, Signature("q -> answer")), '"Paris is the cap')
    assert (section.text, section.closed) == ("Paris is the cap", False)


def test_prompt_is_shorter_than_that_of_any_other_adapter():
    from cases import ADAPTERS

    lengths = {a.name: len(a.system_text(plan(a, QA)) + a.input_text(QA, {"question": "q"})) for a in ADAPTERS}
    assert min(lengths, key=lengths.__getitem__) == "compact"
