"""Earlier turns as a value."""

import pydantic
import pytest

import tuneful as tf
from tuneful.spec.history import is_history


def test_its_messages_are_field_values_and_it_is_equal_by_them():
    history = tf.History(messages=[{"question": "q", "answer": "a"}])
    assert history == tf.History.model_validate({"messages": [{"question": "q", "answer": "a"}]})
    assert tf.History().messages == []


@pytest.mark.parametrize("wrong", [{"messages": "text"}, {"messages": ["text"]}, {"turns": []}])
def test_what_is_no_list_of_mappings_is_refused(wrong):
    with pytest.raises(pydantic.ValidationError):
        tf.History.model_validate(wrong)


def test_only_fields_of_its_type_hold_turns():
    assert is_history(tf.History)
    assert is_history(tf.History | None)
    assert not is_history(str)
    assert not is_history(list[tf.History])


def test_a_run_keeps_the_turns_as_they_were():
    from tuneful.testing import DummyLM

    history = tf.History(messages=[{"question": "q", "answer": "a"}])
    found = tf.Predict("history: History, question -> answer")(
        history=history, question="x", lm=DummyLM([{"answer": "b"}])
    )
    history.messages.append({"question": "x", **found})
    assert len(found.trace.steps[0].inputs["history"].messages) == 1
