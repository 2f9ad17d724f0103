"""Rows, a metric, and a model whose landscape is known: what helps it, and by how much, is planted."""

import pytest

import tuneful as tf
from tuneful.testing import Landscape, SimulatedLM


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
