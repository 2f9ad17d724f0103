"""A model whose landscape is known: what helps it, and by how much, is planted."""

import hashlib

import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM


def chance(*parts):
    """A number in [0, 1) that depends on the parts alone."""
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:12], 16) / 16**12


class Landscape:
    """Answers a question rightly with probability `zero_shot`, or `with_demos` once the prompt shows demos."""

    def __init__(self, zero_shot, with_demos, seed=0):
        self.zero_shot, self.with_demos, self.seed = zero_shot, with_demos, seed

    def __call__(self, request):
        asked = request.messages[-1].content
        number = asked.rsplit("q", 1)[1].split()[0]
        shown = len(request.messages) > 2
        right = chance(self.seed, asked, shown, len(request.messages)) < (self.with_demos if shown else self.zero_shot)
        return f"[[ ## answer ## ]] {'a' if right else 'wrong'}{number}"


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
    def make(zero_shot, with_demos, seed=0, **options):
        return ScriptedLM(Landscape(zero_shot, with_demos, seed), **options)

    return make
