"""A text that knows where it comes from."""

import copy
import json
import pickle
from types import SimpleNamespace

import pytest

import tuneful as tf

NILE = tf.Passage("A river.", id="n", title="Nile", score=1.5)


def test_it_is_a_text_that_a_model_reads_with_its_title():
    assert isinstance(NILE, str)
    assert NILE == str(NILE) == "Nile | A river."
    assert (NILE.text, NILE.id, NILE.title, NILE.score) == ("A river.", "n", "Nile", 1.5)
    assert type(str(NILE)) is str
    assert tf.Passage("alone") == "alone"


def test_it_goes_into_a_field_of_texts_and_into_json():
    lm = tf.testing.DummyLM([{"answer": "yes"}])
    prediction = tf.Predict("context: list[str], question -> answer")(context=[NILE], question="?", lm=lm)
    assert "Nile | A river." in lm.requests[0].messages[-1].text
    assert prediction.trace.steps[0].inputs["context"] == ["Nile | A river."]
    assert json.dumps([NILE]) == '["Nile | A river."]'


def test_it_never_changes_and_copies_are_itself():
    with pytest.raises(AttributeError, match="never changes"):
        NILE.score = 2
    assert copy.copy(NILE) is copy.deepcopy(NILE) is NILE
    assert (NILE.scored(7).score, NILE.scored(7).id, NILE.score) == (7, "n", 1.5)


@pytest.mark.parametrize(
    "item",
    [
        NILE,
        {"text": "A river.", "title": "Nile", "id": "n", "score": "1.5", "more": 0},
        {"long_text": "A river.", "pid": "n", "title": "Nile", "score": 1.5},
        SimpleNamespace(page_content="A river.", id="n", title="Nile", score=1.5),
    ],
)
def test_texts_mappings_and_objects_are_passages(item):
    assert repr(tf.Passage.of(item)) == "Passage('A river.', id='n', title='Nile', score=1.5)"


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (None, "no passage"),
        (7, "no passage"),
        ({"title": "Nile"}, "no passage"),
        ({"text": 7}, "no passage"),
        ({"text": "a", "id": 1.5}, "id of the passage"),
        ({"text": "a", "id": True}, "id of the passage"),
        ({"text": "a", "title": 3}, "title of the passage"),
        ({"text": "a", "score": "high"}, "score of the passage"),
    ],
)
def test_what_is_no_passage_is_a_data_error(item, said):
    with pytest.raises(tf.DataError, match=said):
        tf.Passage.of(item)


def test_it_travels_with_all_its_parts():
    passage = tf.Passage("A river.", id="n", title="Nile", score=1.5)

    assert repr(pickle.loads(pickle.dumps([passage]))[0]) == repr(passage)
