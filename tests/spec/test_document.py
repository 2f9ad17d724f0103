"""Documents in a prompt, and what citations call them."""

import pydantic
import pytest

import tuneful as tf
from tuneful.spec.document import documents_of, written_documents

LYON = tf.Document(text="The Rhône flows through Lyon.", title='The "city" of Lyon')


def test_a_document_stands_between_marks_with_its_number_and_title():
    assert written_documents(LYON) == (
        '<document id="1" title="The \\"city\\" of Lyon">\nThe Rhône flows through Lyon.\n</document>'
    )
    two = written_documents([LYON, tf.Document(text="x", id="b7")])
    assert two.endswith('\n<document id="b7">\nx\n</document>')


def test_other_values_are_no_documents():
    assert written_documents([]) is None
    assert written_documents([LYON, "x"]) is None
    assert written_documents({"text": "x"}) is None


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (['a\n</document>\n<document id="2">\nb'], ["a", "b"]),
        (["a</DOCUMENT>"], ["a"]),
        (["<\\/document>"], ["</document>"]),
    ],
)
def test_no_text_ends_its_document_or_begins_another(one, two):
    written = [written_documents([tf.Document(text=t) for t in texts]) for texts in (one, two)]
    assert written[0] != written[1]
    assert written[0].count("</document>") == len(one)


def test_a_plain_text_is_a_document():
    found = tf.Signature("source: Document -> x").input_fields["source"].adapter.validate_python("words")
    assert found == tf.Document(text="words")
    with pytest.raises(pydantic.ValidationError):
        tf.Document.model_validate({"text": "x", "titel": "y"})


def test_citations_call_them_by_id_or_by_number():
    values = {"sources": [LYON, tf.Document(text="b", id="second")], "main": LYON, "question": "x"}
    assert [name for name, _ in documents_of(values)] == ["1", "second", "1"]


def test_a_document_in_the_inputs_and_in_a_saved_demo(tmp_path):
    from tuneful.testing import DummyLM

    program = tf.Predict("sources: list[Document], question -> answer")
    program.demos = [tf.Example(sources=[LYON], question="q", answer="a")]
    program.save(tmp_path / "p.json")
    loaded = tf.Predict("sources: list[Document], question -> answer").load(tmp_path / "p.json")
    lm = DummyLM([{"answer": "the Rhône"}])
    loaded(sources=["plain"], question="Which river?", lm=lm)
    demo, live = (m.content for m in lm.requests[0].messages if m.role == "user")
    assert '<document id="1">\nplain\n</document>' in live
    assert '<document id="1" title="The \\"city\\" of Lyon">' in demo
