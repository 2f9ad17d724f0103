"""Training examples in tokens."""

import pytest

import tuneful as tf
from tuneful.finetune.encoding import encode
from tuneful.finetune.training_set import TrainingExample, TrainingSet
from tuneful.wire.messages import ToolCall, user


class Letters:
    """A token for each letter."""

    def prompt(self, messages, tools=()):
        return list("".join(m.text for m in messages))

    def answer(self, text):
        return [*text, "end"]

    def calls(self, messages, tools, text, calls):
        return [c.name for c in calls]


def examples(*prompts, **more):
    return TrainingSet(tuple(TrainingExample("step", (user(p),), "yes", **more) for p in prompts))


def test_an_example_that_is_too_long_is_left_out_whole_and_counted():
    found = encode(examples("abc", "abcdef", "abcd"), Letters(), max_tokens=8, name="held-out examples")

    assert [e.prompt for e in found.examples] == [list("abc"), list("abcd")]
    assert found.lengths == [7, 8]
    assert found.dropped == {"held-out examples that are too long": 1}


def test_nothing_that_fits_is_an_error_that_says_how_long_they_are():
    with pytest.raises(tf.DataError, match=r"every one of the 2 examples.*max_tokens=6.*shortest has 7 tokens"):
        encode(examples("abc", "abcdef"), Letters(), max_tokens=6)


def test_no_examples_are_no_error():
    assert encode(TrainingSet(), Letters(), max_tokens=6).examples == []


def test_an_answer_that_calls_tools_is_written_as_the_model_writes_calls():
    (found,) = encode(examples("abc", calls=(ToolCall("1", "search", "{}"),)), Letters(), max_tokens=9).examples

    assert found.answer == ["search"]
    assert found.group == "step"
