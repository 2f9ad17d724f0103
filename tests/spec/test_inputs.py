"""Inputs are checked before any call, and all problems are told at once."""

import pytest

from tuneful.errors import InputError
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.inputs import check_inputs
from tuneful.spec.signature import Signature


class Step(Signature):
    question: str = InputField()
    k: int = InputField(ge=1)
    hint: str | None = InputField()
    style: str = InputField(default="plain")
    anything = InputField()
    answer: str = OutputField()


def test_values_are_validated_and_defaults_filled_in():
    given = {"question": "q", "k": "3", "anything": object}
    values = check_inputs(Step, given, "step")
    assert values == {"question": "q", "k": 3, "hint": None, "style": "plain", "anything": object}
    assert given["k"] == "3"


def test_all_problems_are_listed_at_once():
    with pytest.raises(InputError) as caught:
        check_inputs(Step, {"questoin": "q", "k": 0, "answer": "a", "style": 5}, "predictor `self`")
    message = str(caught.value)
    for part in (
        "predictor `self`:",
        "`questoin` is no input field. Did you mean `question`?",
        "`answer` is no input field. It is an output.",
        "no value for input field `question`",
        "no value for input field `anything`",
        "`k` must be int (at least 1), got 0",
        "`style` must be str, got 5",
        "No model was called",
    ):
        assert part in message
    assert caught.value.field == "questoin"
    assert "hint" not in message.split("Expected:")[0]


def test_long_values_are_cut_in_the_message():
    with pytest.raises(InputError) as caught:
        check_inputs(Signature("k: int -> b"), {"k": "x" * 9999}, "step")
    assert len(str(caught.value)) < 600
