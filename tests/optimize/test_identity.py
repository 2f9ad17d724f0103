"""The fingerprint of a program: the same for the same program, another one for whatever decides its answers."""

import pytest

import tuneful as tf
from tuneful.optimize.identity import fingerprint
from tuneful.testing import ScriptedLM


class Hops(tf.Module):
    def __init__(self, hops=2, key=len, names=("a",)):
        self.hops = hops
        self.key = key
        self.names = list(names)
        self.answer = tf.Predict("question -> answer")

    def forward(self, question):
        return self.answer(question=question)


@pytest.fixture(autouse=True)
def lm():
    with tf.context(lm=ScriptedLM([])):
        yield


def test_it_is_the_same_for_copies_and_for_the_same_program_made_again():
    assert fingerprint(Hops()) == fingerprint(Hops()) == fingerprint(Hops().deepcopy())


def longer(text):
    return len(text) + 1


def test_it_changes_with_whatever_decides_an_answer():
    def required(message):
        program = Hops()
        program.answer.require(longer, message)
        return program

    def bounded():
        program = Hops()
        program.answer.max_prompt_tokens = 100
        return program

    def frozen_wording():
        return Hops().with_parameters({"answer.instructions": "Answer."})

    different = [
        Hops(),
        Hops(hops=3),
        Hops(key=longer),
        Hops(names=("b",)),
        required("x"),
        required("y"),
        bounded(),
        frozen_wording(),
    ]
    with tf.context(max_backtracks=1):
        prints = [fingerprint(Hops())]
    assert len({*prints, *map(fingerprint, different)}) == 9


def test_a_compile_leaves_no_trace_in_it():
    program = Hops()
    before = fingerprint(program)
    program.__dict__["_report"] = object()
    assert fingerprint(program) == before
