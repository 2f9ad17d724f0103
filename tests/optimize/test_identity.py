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


def test_a_saved_and_loaded_program_is_the_same_one(tmp_path):
    program = Hops().with_parameters({"answer.demos": [{"question": "q", "answer": "a"}], "answer.adapter": "json"})
    program.freeze("answer.instructions")
    program.__dict__["_provenance"] = {"teleprompter": "none"}
    program.save(tmp_path / "p.json")

    assert fingerprint(Hops().load(tmp_path / "p.json")) == fingerprint(program)
    assert fingerprint(program) != fingerprint(Hops())


def test_an_adapter_is_the_same_by_its_name_and_as_an_object():
    def with_adapter(adapter):
        program = Hops()
        program.answer.adapter = adapter
        return fingerprint(program)

    assert with_adapter("json") == with_adapter(tf.JSONAdapter())
    assert with_adapter("json>chat") == with_adapter(tf.FallbackAdapter(["json", tf.ChatAdapter()]))
    assert with_adapter("json") != with_adapter("chat")
