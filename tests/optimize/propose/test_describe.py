"""What a proposer is shown: complete where it matters, short where it does not."""

import tuneful as tf
from tuneful.optimize.propose.describe import (
    attempts_text,
    examples_text,
    halved,
    program_text,
    rows_of,
    signature_text,
)

QA = tf.Signature("question, context: list[str] -> answer", "Answer from the context.")


class Hops(tf.Module):
    def __init__(self):
        self.query = tf.Predict("question -> query")
        self.answer = tf.ChainOfThought(QA)

    def forward(self, question):
        return self.answer(question=question, context=[self.query(question=question).query])


def test_a_step_is_told_with_types_constraints_and_descriptions():
    class Grade(tf.Signature):
        """Grade the essay."""

        essay: str = tf.InputField(desc="as it was handed in")
        points: int = tf.OutputField(ge=0, le=10)

    told = signature_text(Grade)
    assert "Instructions: Grade the essay." in told
    assert "- essay: str - as it was handed in" in told
    assert "- points: int (at least 0, at most 10)" in told


def test_rows_show_the_fields_of_the_step_and_all_of_them_where_they_say_nothing_of_it():
    row = tf.Example(question="Why?", answer="So.", id=7).with_inputs("question")

    assert rows_of(QA, [row]) == [{"question": "Why?", "answer": "So."}]
    assert rows_of(tf.Signature("question -> query"), [row]) == [row.to_dict()]


def test_long_values_are_cut_and_say_how_long_they_are():
    text = examples_text([{"context": ["x" * 5000], "answer": "a"}], value_chars=20)

    assert len(text) < 100
    assert "(5,004 characters)" in text
    assert text.endswith("answer: a")


def test_attempts_come_with_the_best_last_and_only_the_best_are_told():
    told = attempts_text(((f"text {i}", i / 100) for i in (7, 50, 3)), most=2)
    assert told == "Score 0.07:\ntext 7\n\nScore 0.5:\ntext 50"


def test_a_program_is_told_by_its_steps_and_the_users_own_source():
    told = program_text(Hops(), "answer.predict")

    assert "- query: question -> query\n" in told
    assert "-> reasoning, answer (this step)" in told
    assert "self.answer(question=question, context=" in told
    assert "class ChainOfThought" not in told
    assert program_text(tf.Predict(QA)) == ""  # the signature says all


def test_a_class_without_readable_source_is_told_by_its_steps_alone():
    names = {"tf": tf, "QA": QA}
    exec("class Typed(tf.Module):\n    def __init__(self):\n        self.say = tf.Predict(QA)\n", names)

    assert program_text(names["Typed"]()).startswith("Steps:\n- say: ")
    assert "__init__" not in program_text(names["Typed"]())


def test_halving_keeps_whole_lines_and_comes_to_an_end():
    assert halved("a\nb\nc\nd") == "a\nb"
    assert halved("a\nb\nc\nd", keep_end=True) == "c\nd"
    assert halved("abcd") == "ab"
    assert halved("a") == ""
