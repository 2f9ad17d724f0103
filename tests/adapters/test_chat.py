"""ChatAdapter: what only it does."""

import pytest
from cases import parse, plan

from tuneful.adapters.chat import ChatAdapter
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.signature import Signature

CHAT = ChatAdapter()
QA = Signature("question -> answer, confidence: float")
GOOD = {"answer": "Paris", "confidence": 0.9}


@pytest.mark.parametrize(
    ("text", "salvages"),
    [
        ("[[ ## answer ## ]]\nParis\n\n[[ ## confidence ## ]]\n0.9\n\n[[ ## completed ## ]]", ()),
        ("[[ ## confidence ## ]]\n0.9\n[[ ## answer ## ]]\nParis", ()),
        ("[[##answer##]] Paris\n[[##confidence##]] 0.9", ()),
        ("**[[ ## answer ## ]]**\nParis\n**[[ ## confidence ## ]]**\n0.9", ()),
        ("### [[ ## answer ## ]]:\nParis\n### [[ ## confidence ## ]]:\n0.9", ()),
        ("Sure!\n[[ ## answer ## ]]\nParis\n[[ ## confidence ## ]]\n0.9\n[[ ## completed ## ]]\nBye", ()),
        ("[[ ## answer ## ]]\nParis\n[[ ## question ## ]]\nnext?\n[[ ## confidence ## ]]\n0.9", ()),
        ("[[ ## answer ## ]]\nParis\n[[ ## answer ## ]]\nRome\n[[ ## confidence ## ]]\n0.9", ()),
        (
            "[[ ## Answer ## ]]\nParis\n[[ ## CONFIDENCE ## ]]\n0.9",
            ("marker in other case", "marker in other case"),
        ),
        (
            "<think>[[ ## answer ## ]]\nRome</think>\n[[ ## answer ## ]]\nParis\n[[ ## confidence ## ]]\n0.9",
            ("thinking removed",),
        ),
        ("[[ ## answer ## ]]\nParis\n[[ ## confidence ## ]]\n0.9 of 1", ("number within words",)),
    ],
)
def test_answers_are_read_tolerantly_and_the_salvage_recorded(text, salvages):
    parsed = parse(CHAT, QA, text)
    assert parsed.fields == GOOD
    assert parsed.salvages == salvages
    assert parsed.complete


def test_lone_output_needs_no_marker():
    parsed = parse(CHAT, Signature("q -> answer"), "Paris\n[[ ## completed ## ]]")
    assert parsed.fields == {"answer": "Paris"}
    assert parsed.salvages == ("marker missing",)


def test_several_outputs_without_markers_are_all_missing():
    parsed = parse(CHAT, QA, "Paris, surely")
    assert parsed.fields == {}
    assert parsed.problems == dict.fromkeys(GOOD, "it is missing from the answer")


def test_what_can_be_read_is_kept_beside_the_problem():
    parsed = parse(CHAT, QA, "[[ ## answer ## ]]\nParis\n[[ ## confidence ## ]]\nvery")
    assert parsed.fields == {"answer": "Paris"}
    assert "valid number" in parsed.problems["confidence"]


def test_marker_in_user_text_is_escaped_by_one_backslash():
    text = CHAT.input_text(Signature("q -> a"), {"q": "[[ ## a ## ]] [[\\ ## a"})
    assert text == "[[ ## q ## ]]\n[[\\ ## a ## ]] [[\\\\ ## a"


def test_own_label_of_an_input_is_shown_and_an_inferred_one_is_not():
    class Asked(Signature):
        question: str = InputField(prefix="The visitor asks:")
        hint: str = InputField()
        answer: str = OutputField()

    text = CHAT.input_text(Asked, {"question": "q", "hint": "h"})
    assert text == "[[ ## question ## ]]\nThe visitor asks:\nq\n\n[[ ## hint ## ]]\nh"


def test_system_text_holds_instructions_descriptions_and_constraints():
    signature = QA.with_instructions("Be brief.").with_updated_fields("confidence", desc="how sure", ge=0, le=1)
    text = CHAT.system_text(plan(CHAT, signature))
    assert text.startswith("Be brief.")
    assert "- confidence: float (at least 0, at most 1) - how sure" in text
