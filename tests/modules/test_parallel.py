"""Several programs at once."""

import threading

import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM

UPPER = tf.Predict("word -> upper").using(
    lm=ScriptedLM(lambda request: f"[[ ## upper ## ]] {request.messages[-1].text.split()[-1].upper()}")
)
WORDS = ["a", "b", "c"]


class Positional(tf.Module):
    def forward(self, first, second=""):
        return first + second


class Breaks(tf.Module):
    def forward(self, word):
        raise ValueError(word)


def test_pairs_of_programs_and_inputs_of_every_kind_come_back_in_order():
    example = tf.Example(word="a", label="x").with_inputs("word")
    pairs = [(UPPER, example), (UPPER, {"word": "b"}), (Positional(), ("c", "d")), [Positional(), {"first": "e"}]]
    upper_a, upper_b, *others = tf.Parallel()(pairs)
    assert [upper_a.upper, upper_b.upper, *others] == ["A", "B", "cd", "e"]
    assert tf.Parallel()([]) == []


def test_an_example_may_be_the_argument_itself():
    class Reads(tf.Module):
        def forward(self, example):
            return example.label

    example = tf.Example(word="a", label="x").with_inputs("word")
    assert tf.Parallel(access_examples=False)([(Reads(), example)]) == ["x"]


def test_the_first_failure_is_raised_unless_failures_are_asked_for():
    pairs = [(UPPER, {"word": "a"}), (Breaks(), {"word": "b"}), (UPPER, {"word": "c"})]
    with pytest.raises(ValueError, match="b"):
        tf.Parallel()(pairs)
    parallel = tf.Parallel(return_failed_examples=True)
    for _ in range(2):  # nothing adds up from call to call
        results, failed, errors = parallel(pairs)
        assert [r and r.upper for r in results] == ["A", None, "C"]
        assert failed == [{"word": "b"}]
        assert [type(e) for e in errors] == [ValueError]


@pytest.mark.parametrize("threads", [1, 3])
def test_at_most_so_many_run_at_once(threads):
    running, most, lock = 0, 0, threading.Lock()
    full = threading.Barrier(threads)

    class Waits(tf.Module):
        def forward(self, word):
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            full.wait(timeout=10)
            with lock:
                running -= 1
            return word

    assert tf.Parallel(num_threads=threads)([(Waits(), {"word": w}) for w in "abcdef"]) == list("abcdef")
    assert most == threads


async def test_in_a_program_the_runs_are_part_of_its_trace():
    class Many(tf.Module):
        def __init__(self):
            self.upper = UPPER.deepcopy()
            self.parallel = tf.Parallel()

        async def forward(self, words):
            found = await self.parallel.acall([(self.upper, {"word": w}) for w in words])
            return tf.Prediction(words=[f.upper for f in found])

    found = await Many().acall(words=WORDS)
    assert found.words == ["A", "B", "C"]
    assert [s.path for s in found.trace] == ["upper"] * 3


def test_a_plain_forward_calls_it_in_the_blocking_way():
    class Many(tf.Module):
        def __init__(self):
            self.upper = UPPER.deepcopy()

        def forward(self, words):
            found = tf.Parallel()([(self.upper, {"word": w}) for w in words])
            return tf.Prediction(words=[f.upper for f in found])

    found = Many().batch([{"words": WORDS}] * 4)
    assert [f.words for f in found] == [["A", "B", "C"]] * 4
    assert [s.path for s in found[0].trace] == ["upper"] * 3


@pytest.mark.parametrize("wrong", [UPPER, (UPPER,), ("x", {}), (UPPER, "a"), (UPPER, 5)])
def test_what_is_no_pair_is_an_input_error_before_any_run(wrong):
    with pytest.raises(tf.InputError, match="No model was called"):
        tf.Parallel()([(Breaks(), {"word": "never run"}), wrong])


@pytest.mark.parametrize("number", [0, 1.5])
def test_a_wrong_number_is_a_usage_error(number):
    with pytest.raises(tf.UsageError, match="num_threads"):
        tf.Parallel(num_threads=number)
