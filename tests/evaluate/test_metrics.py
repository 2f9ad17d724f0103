"""The ready metrics."""

import pytest

import tuneful as tf
from tuneful.evaluate import metrics


def test_exact_match_ignores_case_articles_and_punctuation():
    assert metrics.EM("the Eiffel tower!", ["Paris", "Eiffel Tower"])
    assert not metrics.EM("tower", ["Eiffel Tower"])


def test_answer_exact_match_takes_one_answer_or_several():
    said = tf.Prediction(answer="Paris.")

    assert metrics.answer_exact_match(tf.Example(answer="paris"), said)
    assert metrics.answer_exact_match(tf.Example(answer=["Lyon", "Paris"]), said)
    assert not metrics.answer_exact_match(tf.Example(answer=["Lyon"]), said)


@pytest.mark.parametrize("metric", [metrics.EM, metrics.F1])
def test_one_accepted_answer_is_a_text_and_not_a_list_of_its_letters(metric):
    assert metric("the Eiffel tower", "Eiffel Tower") == 1
    assert metric("a", "Vienna") == 0


def test_frac_below_one_accepts_an_overlap():
    example, said = tf.Example(answer="Eiffel Tower in Paris"), tf.Prediction(answer="Eiffel Tower")

    assert metrics.answer_exact_match(example, said, frac=0.6)
    assert not metrics.answer_exact_match(example, said, frac=0.9)


def test_no_accepted_answer_is_an_error_and_not_a_miss():
    with pytest.raises(tf.MetricError, match="empty list"):
        metrics.answer_exact_match(tf.Example(answer=[]), tf.Prediction(answer="x"))
    with pytest.raises(tf.MetricError, match="empty list"):
        metrics.F1("x", [])


@pytest.mark.parametrize(
    ("said", "gold", "f1"), [("a b c", "b c d", 0.8), ("x", "y", 0.0), ("", "", 1.0), ("", "y", 0.0)]
)
def test_f1_of_words(said, gold, f1):
    assert metrics.f1_score(said, gold) == pytest.approx(f1)


def test_passage_match_wants_whole_words():
    example = tf.Example(answer="art")

    assert metrics.answer_passage_match(example, tf.Prediction(context=["Art, and more."]))
    assert not metrics.answer_passage_match(example, tf.Prediction(context=["A party."]))


def test_a_context_of_one_passage_may_be_a_text():
    example = tf.Example(answer=["art", "music"])

    assert metrics.answer_passage_match(example, tf.Prediction(context="Art, and more."))
    assert not metrics.answer_passage_match(example, tf.Prediction(context="A party."))
