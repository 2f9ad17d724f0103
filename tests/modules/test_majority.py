"""The most frequent answer among several."""

import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM


def rows(*answers):
    return [{"answer": a} for a in answers]


def test_the_most_frequent_answer_wins():
    assert tf.majority(rows("a", "b", "b")).answer == "b"


def test_among_equals_the_earliest_wins():
    assert tf.majority(rows("b", "a", "a", "b", "c")).answer == "b"


def test_answers_are_compared_without_case_articles_and_punctuation_but_returned_as_written():
    assert tf.majority(rows("Lyon", "The Paris!", "paris")).answer == "The Paris!"


def test_the_completions_of_a_prediction_vote():
    lm = ScriptedLM([[f"[[ ## n ## ]]\n{n}" for n in (1, 7, 7)]])
    prediction = tf.Predict("q -> n: int", n=3, temperature=0.7).using(lm=lm)(q="x")
    assert prediction.n == 1
    assert tf.majority(prediction).n == 7
    assert tf.majority(prediction.completions).n == 7


def test_a_list_of_predictions_votes_and_the_winner_keeps_its_fields():
    several = [tf.Prediction(answer=a, note=i) for i, a in enumerate("xyy")]
    assert tf.majority(several, field="answer") is several[1]


def test_the_last_field_votes_unless_another_is_named():
    several = [{"reasoning": r, "answer": a} for r, a in (("p", "1"), ("q", "2"), ("p", "2"))]
    assert tf.majority(several).answer == "2"
    assert tf.majority(several, field="reasoning").answer == "1"


def test_an_answer_that_becomes_none_does_not_vote():
    found = tf.majority(rows("?", "?", "4"), normalize=lambda text: text if text.isdigit() else None)
    assert found.answer == "4"
    assert tf.majority(rows("?", "!"), normalize=lambda text: None).answer == "?"


@pytest.mark.parametrize("nothing", [[], (), tf.Completions([])])
def test_nothing_to_vote_on_is_a_data_error(nothing):
    with pytest.raises(tf.DataError, match="at least one"):
        tf.majority(nothing)


def test_numbers_vote_as_numbers():
    assert tf.majority([{"answer": 1.25}, {"answer": 12.5}, {"answer": "12.50"}]).answer == 12.5
    assert tf.majority([{"answer": "5"}, {"answer": "-5"}, {"answer": "-5.0"}]).answer == "-5"
    assert tf.majority([{"answer": "1,000"}, {"answer": "1"}, {"answer": 1000}]).answer == "1,000"
