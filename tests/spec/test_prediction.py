"""Prediction and Completions."""

import copy

import pytest

from tuneful.errors import DataError
from tuneful.spec.prediction import Completions, Prediction


@pytest.fixture
def several():
    return Completions([{"answer": "a", "n": 1}, {"answer": "b", "n": 2}, {"answer": "c", "n": 3}])


def test_completions_are_columns_and_rows(several):
    assert several.answer == several["answer"] == ["a", "b", "c"]
    assert (several[0].answer, several[-1].answer, several[-3].n) == ("a", "c", 1)
    assert [p.n for p in several] == [1, 2, 3]
    assert len(several) == 3
    assert "answer" in several
    assert several.items() == [("answer", ["a", "b", "c"]), ("n", [1, 2, 3])]
    assert Completions({"answer": ["a", "b"]})[1] == Prediction(answer="b")


@pytest.mark.parametrize("index", [3, -4])
def test_index_out_of_range_is_an_index_error(several, index):
    with pytest.raises(IndexError):
        several[index]


def test_unknown_column_is_an_attribute_error(several):
    with pytest.raises(AttributeError):
        _ = several.none
    assert copy.deepcopy(several).answer == several.answer


def test_empty_completions_have_no_length_and_make_no_prediction():
    for empty in ([], {}, {"answer": []}):
        assert len(Completions(empty)) == 0
        assert list(Completions(empty)) == []
        with pytest.raises(DataError, match="at least one"):
            Prediction.from_completions(empty)


@pytest.mark.parametrize("rows", [{"a": [1], "b": [1, 2]}, [{"a": 1}, {"b": 2}], [{"a": 1}, {"a": 1, "b": 2}]])
def test_ragged_completions_are_an_error(rows):
    with pytest.raises(DataError, match=r"as many values|same fields"):
        Completions(rows)


def test_prediction_has_the_fields_of_the_first_completion(several):
    prediction = Prediction.from_completions(several)
    assert prediction.answer == "a"
    assert prediction.completions.answer == ["a", "b", "c"]
    assert Prediction(answer="x").completions.answer == ["x"]
    assert copy.deepcopy(prediction).completions.answer == ["a", "b", "c"]


def test_prediction_outside_a_run_has_no_trace_and_no_usage():
    assert Prediction(answer="x").trace is None
    assert Prediction(answer="x").get_lm_usage() == {}


def test_predictions_compute_with_their_score():
    p, q = Prediction(score=3), Prediction(score=1.5)
    assert float(p) == 3
    assert (p + q, p + 1, 1 + p, sum([p, q])) == (4.5, 4, 4, 4.5)
    assert (p - q, p - 1, 10 - p) == (1.5, 2, 7)
    assert (p * q, 2 * p, p * 2) == (4.5, 6, 6)
    assert (p / q, p / 2, 6 / p) == (2, 1.5, 2)
    assert p > q
    assert p >= 3
    assert q < 2
    assert q <= p
    assert 2 > q  # noqa: SIM300 (the number on the left is the point)
    assert max(q, p) is p


def test_falsy_score_is_a_score():
    assert float(Prediction(score=0)) == 0
    assert float(Prediction(score=False)) == 0


def test_prediction_without_a_score_cannot_compute():
    with pytest.raises(DataError, match="no field `score`"):
        Prediction(answer=1) + 1
