"""Rows, a metric, and a model whose landscape is known: what helps it, and by how much, is planted."""

import re

import pytest

import tuneful as tf
from tuneful.testing import Landscape, ScriptedLM, SimulatedLM


def make_rows(n, start=0):
    return [tf.Example(question=f"q{i}", answer=f"a{i}").with_inputs("question") for i in range(start, start + n)]


def exact(example, prediction, trace=None):
    return example.answer == prediction.answer


@pytest.fixture
def rows():
    return make_rows


@pytest.fixture
def metric():
    return exact


@pytest.fixture
def landscape():
    """A model that is right with probability `zero_shot`, or `with_demos` once the prompt shows any."""

    def make(zero_shot, with_demos, seed=0, **options):
        gains = Landscape(base=zero_shot, any_demo=with_demos - zero_shot, difficulty=0.0, seed=seed)
        return SimulatedLM(make_rows(700), gains, **options)

    return make


@pytest.fixture
def writer():
    """A prompt model whose sample number i writes the i-th text, into all fields that are asked for."""

    def make(*texts):
        def write(request):
            number = request.sampling.rollout_id
            text = texts[number] if number < len(texts) else f"Attempt {number}."
            asked = re.findall(r"^\[\[ ## (\w+) ## \]\]\n\{", request.messages[0].text, re.MULTILINE)
            return "\n\n".join(f"[[ ## {name} ## ]]\n{text}" for name in asked)

        return ScriptedLM(write)

    return make
