"""Quotes must stand in the documents that the model was given."""

import pytest

import tuneful as tf
from tuneful.testing import DummyLM

SOURCES = [tf.Document(text="The Rhône flows\nthrough Lyon."), tf.Document(text="“Paris” lies on the Seine.", id="p")]
ASK = tf.Predict("sources: list[Document], question -> answer, citations: Citations")


def asked(*answers):
    lm = DummyLM([{"answer": "x", "citations": [tf.Citation(**c) for c in quotes]} for quotes in answers])
    return ASK(sources=SOURCES, question="q", lm=lm), lm


@pytest.mark.parametrize(
    ("document", "quote"),
    [("1", "flows through Lyon"), ("p", '"paris" lies'), ("p", "“Paris” lies on the Seine."), (1, "THE RHÔNE")],
)
def test_a_quote_that_stands_in_its_document_is_kept_as_written(document, quote):
    found, lm = asked([{"document": document, "quote": quote}])
    assert found.citations == [tf.Citation(document=str(document), quote=quote)]
    assert len(lm.requests) == 1


def test_a_quote_that_stands_nowhere_is_told_in_the_repair_turn():
    found, lm = asked(
        [{"document": "1", "quote": "The Loire flows"}, {"document": "p", "quote": "the Seine"}],
        [{"document": "1", "quote": "The Rhône flows"}],
    )
    assert [c.quote for c in found.citations] == ["The Rhône flows"]
    told = lm.requests[1].messages[-1].content
    assert "'The Loire flows' stands in none of the documents (1, p)" in told
    assert "the Seine" not in told


def test_a_quote_that_never_stands_there_is_a_parse_error():
    with pytest.raises(tf.AdapterParseError, match="`citations`: the quote 'made up'"):
        asked(*[[{"document": "1", "quote": "made up"}]] * 2)


@pytest.mark.parametrize("wrong", ["7", "1"])
def test_a_quote_under_the_wrong_document_is_put_right_and_noted(wrong):
    found, lm = asked([{"document": wrong, "quote": "the Seine"}])
    assert found.citations[0].document == "p"
    assert found.trace.steps[0].salvages == ("citation moved",)
    assert len(lm.requests) == 1


def test_an_empty_quote_stands_nowhere():
    with pytest.raises(tf.AdapterParseError, match="the quote ' '"):
        asked(*[[{"document": "1", "quote": " "}]] * 2)


def test_without_documents_nothing_is_checked():
    program = tf.Predict("question -> answer, citations: Citations")
    lm = DummyLM([{"answer": "x", "citations": [tf.Citation(document="1", quote="made up")]}])
    assert program(question="q", lm=lm).citations[0].quote == "made up"


def test_a_single_citation_and_a_single_document_are_checked_too():
    program = tf.Predict("source: Document, question -> support: Citation")
    lm = DummyLM([{"support": tf.Citation(document="Lyon", quote="through Lyon")}])
    assert program(source=SOURCES[0], question="q", lm=lm).support.document == "1"
