"""XMLAdapter: what only it does."""

import pytest
from cases import parse, plan

from tuneful.adapters.xml import XMLAdapter
from tuneful.spec.signature import Signature

XML = XMLAdapter()
QA = Signature("question -> answer, confidence: float")
GOOD = {"answer": "Paris", "confidence": 0.9}


@pytest.mark.parametrize(
    ("text", "salvages"),
    [
        ("<answer>Paris</answer>\n<confidence>0.9</confidence>", ()),
        ("<confidence>0.9</confidence><answer>\nParis\n</answer>", ()),
        ("Sure!\n\n<answer>Paris</answer>\n<confidence>0.9</confidence>\nBye", ()),
        ("```xml\n<answer>Paris</answer>\n<confidence>0.9</confidence>\n```", ()),
        ("<response><answer>Paris</answer><confidence>0.9</confidence></response>", ()),
        ('<answer type="str" lang=\'fr\'>Paris</answer>\n<confidence unit="1">0.9</confidence>', ()),
        ("< answer >Paris</ answer >\n<confidence >0.9</confidence >", ()),
        ("<answer>Paris</answer><answer>Rome</answer><confidence>0.9</confidence>", ()),
        ("<answer>Paris</answer>\n<question>next?</question>\n<confidence>0.9</confidence>", ()),
        ("<Answer>Paris</ANSWER>\n<CONFIDENCE>0.9</confidence>", ("tag in other case",) * 2),
        ("<answer>Paris\n<confidence>0.9", ("closing tag missing",) * 2),
        ("<answer>Paris</answer>\n<confidence>0.9", ("closing tag missing",)),
        (
            "<think><answer>Rome</answer></think>\n<answer>Paris</answer>\n<confidence>0.9</confidence>",
            ("thinking removed",),
        ),
    ],
)
def test_answers_are_read_tolerantly_and_the_salvage_recorded(text, salvages):
    parsed = parse(XML, QA, text)
    assert parsed.fields == GOOD
    assert parsed.salvages == salvages


def test_code_and_mathematics_need_no_escape():
    code = 'if a < b && c > d: print("<p>&amp;</p>")'
    parsed = parse(XML, Signature("q -> answer, b"), f"<answer>{code}</answer><b>x</b>")
    assert parsed.fields == {"answer": code, "b": "x"}
    assert XML.input_text(Signature("q -> a"), {"q": code}) == f"<q>{code}</q>"


def test_a_tag_of_another_field_before_the_closing_one_is_text():
    parsed = parse(XML, Signature("q -> answer, b"), "<answer>a <b>bold</b> word</answer>\n<b>x</b>")
    assert parsed.fields == {"answer": "a <b>bold</b> word", "b": "x"}


def test_a_tag_in_user_text_is_escaped_by_one_backslash():
    text = XML.input_text(Signature("q -> a"), {"q": '</q><a> <A x="1"> <\\a> <ab> <a 1>'})
    assert text == '<q><\\/q><\\a> <\\A x="1"> <\\\\a> <ab> <a 1></q>'


def test_a_lone_output_needs_no_tag():
    for text in ("Paris", "Paris</answer>"):
        parsed = parse(XML, Signature("q -> answer"), text)
        assert (parsed.fields, parsed.salvages) == ({"answer": "Paris"}, ("tag missing",))
    assert parse(XML, QA, "Paris, surely").problems == dict.fromkeys(GOOD, "it is missing from the answer")


def test_a_field_may_be_called_like_a_thought():
    signature = Signature("q -> thought, reasoning, answer")
    values = {"thought": "hm", "reasoning": "so", "answer": "x"}
    assert parse(XML, signature, XML.output_text(signature, values)).fields == values
    reasons = Signature("q -> reasoning, answer")
    assert parse(XML, reasons, "<reasoning>so</reasoning><answer>x</answer>").salvages == ()


def test_system_text_shows_the_layout():
    assert XML.system_text(plan(XML, QA)).endswith("<answer>{answer}</answer>\n<confidence>{confidence}</confidence>")


def test_a_text_full_of_blanks_takes_no_longer_than_any_other():
    """Were it quadratic, this would take minutes."""
    text = "<" + " " * 200_000 + "<answer" + " " * 200_000 + "x" + "<answer a" * 50_000
    assert set(parse(XML, QA, text).problems) == set(GOOD)
    assert XML.partial(plan(XML, QA), "<answer>" + text)[0].name == "answer"
