"""Code without fences, and thoughts as a field."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tuneful as tf
from tuneful.spec.code import Code, fenced, first_block

pieces = st.lists(
    st.sampled_from(["```", "````", "python", "\n", "x = 1", "  ", "~~~", "\r\n", "```\n", '"', "é"]), max_size=9
)


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("x = 1", "x = 1"),
        ("```python\nx = 1\n```", "x = 1"),
        ("  ```\n    indented\n```\n", "    indented"),
        ("````\n```\ninner\n```\nx\n````", "```\ninner\n```\nx"),
        ("~~~sql\nSELECT 1\n~~~", "SELECT 1"),
        ("```\n```", ""),
        ("\n\nx\n\n", "x"),
        ("```\na\n```\nand\n```\nb\n```", "```\na\n```\nand\n```\nb\n```"),
    ],
)
def test_fences_around_all_of_it_are_no_part_of_code(written, code):
    assert Code(written) == code
    assert Code["python"](written).code == code


@settings(max_examples=300, deadline=None, database=None)
@given(text=st.one_of(st.text(max_size=30), pieces.map("".join)))
def test_code_is_code_already_and_survives_its_fence(text):
    code = Code["python"](text)
    assert Code(code) == code
    assert Code(fenced(code)) == code
    assert first_block(fenced(code)) == code


def test_a_language_is_one_type():
    assert Code["python"] is Code["python"]
    assert Code["python"] is not Code["sql"]
    assert (Code["c++"].language, Code.language) == ("c++", "")
    assert isinstance(Code["python"]("x"), Code)
    twin = copy.deepcopy(Code["python"]("x"))
    assert (twin, type(twin)) == ("x", Code["python"])


@pytest.mark.parametrize("wrong", ["", "two words", 5, "py\n"])
def test_what_is_no_language_is_a_signature_error(wrong):
    with pytest.raises(tf.SignatureError, match=r"Code\['python'\]"):
        Code[wrong]


def test_a_signature_names_the_language_and_reads_its_own_form():
    signature = tf.Signature("task -> program: Code['python'], answer: Code")
    assert signature.output_fields["program"].type is Code["python"]
    assert str(signature) == "task -> program: Code['python'], answer: Code"
    assert tf.Signature(str(signature)) == signature


def test_the_words_around_a_fence_are_left_out_and_noted():
    from tuneful.testing import ScriptedLM

    said = "[[ ## program ## ]]\nHere it is:\n\n```python\nprint('[[ ## program ## ]]')\n```\n\nIt prints a mark."
    found = tf.Predict("task -> program: Code['python']")(task="x", lm=ScriptedLM([said]))
    assert found.program == "print('[[ ## program ## ]]')"
    assert found.trace.steps[0].salvages == ("fence removed",)


def test_reasoning_is_a_text_with_a_mark():
    field = tf.Signature("question -> reasoning: Reasoning, answer").output_fields["reasoning"]
    assert (field.type, field.thoughts, field.typed) == (str, True, False)
    given = tf.Signature("thoughts: Reasoning -> answer").input_fields["thoughts"]
    assert (given.type, given.thoughts, given.typed) == (str, False, True)
    assert tf.Signature("q -> rs: list[Reasoning]").output_fields["rs"].adapter.validate_python(["a"]) == ["a"]


def test_a_model_that_reasons_is_asked_for_all_but_its_thoughts():
    signature = tf.Signature("question -> reasoning: Reasoning, answer")
    assert str(signature.without_thoughts) == "question -> answer"
    assert signature.without_thoughts.instructions == "Given the fields `question`, produce the fields `answer`."
    plain = tf.Signature("question -> answer")
    assert plain.without_thoughts is plain
    alone = tf.Signature("question -> reasoning: Reasoning")
    assert alone.without_thoughts is alone
