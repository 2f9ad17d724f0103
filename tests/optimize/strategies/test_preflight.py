"""Pre-flight: what the first runs say."""

from dataclasses import dataclass, replace

import pytest

import tuneful as tf
from tuneful.optimize.objectives import Objectives
from tuneful.optimize.strategies import preflight
from tuneful.optimize.trial import Brief
from tuneful.testing import ScriptedLM
from tuneful.wire.capabilities import Capabilities

QA = tf.Predict("question -> answer")


@dataclass
class Ran:
    score: float


def brief(held_out=100, student=QA):
    return Brief({}, {}, (), 0, student=student, held_out=held_out)


def flown(right, rows=32, again=()):
    return {"ends": True, "scores": [1.0] * right + [0.0] * (rows - right), "again": list(again)}


def test_the_program_is_run_on_the_first_rows_once_and_twice_where_it_samples():
    with tf.context(lm=ScriptedLM([])):
        (only,) = preflight.trials(brief(), preflight.start(brief()), {"k": 1}, range(100, 200))
        first, second = preflight.trials(
            brief(student=QA.using(temperature=0.7)), preflight.start(brief()), {}, range(50)
        )
        assert preflight.trials(brief(), flown(3), {}, range(50)) == []

    assert (only.candidate, only.rows, only.leave_out) == ({"k": 1}, tuple(range(100, 132)), True)
    assert (first.sample, len(first.rows), second.sample, len(second.rows)) == (0, 32, 1, 16)


def test_what_samples():
    reasoner = ScriptedLM([], capabilities=Capabilities(refuses=frozenset({"temperature"})))
    with tf.context(lm=ScriptedLM([])):
        assert preflight.greedy(QA)
        assert preflight.greedy(QA.using(temperature=0))
        assert not preflight.greedy(QA.using(n=3))
        assert not preflight.greedy(QA.using(lm=reasoner))
    with tf.context(lm=ScriptedLM([], temperature=1)):
        assert not preflight.greedy(QA)
        assert preflight.greedy(QA.using(temperature=0))


@pytest.mark.parametrize(
    ("state", "held_out", "said"),
    [
        (flown(16), 100, "50 % on 32 rows (95 % interval 34 to 66); 50 points are left to gain, and 100 held-out rows"),
        (flown(16), 100, "prove 15 or more: compiling can pay"),
        (flown(30), 40, "6 points are left to gain, and 40 held-out rows are too few to prove it: more of them"),
        (flown(0), 50, "100 points are left to gain, and 50 held-out rows prove 15 or more: compiling can pay"),
        ({**flown(0), "scores": [40.0, 60.0]}, 50, "not known beforehand for scores beyond 0 to 1"),
        (flown(16), 0, "no row is held out, so no gain can be proved"),
        (flown(16), 3, "3 held-out rows are too few to prove it"),
        (flown(32), 100, "nothing is left to gain, so nothing else was run"),
        (flown(2, 4, again=[1.0, 0.0, 0.0, 0.0]), 100, "two runs differ on 1 of 4;"),
        ({"ends": True, "scores": [None], "again": []}, 100, "no run of the program gave a score"),
    ],
)
def test_what_is_said(state, held_out, said):
    assert said in preflight.line(brief(held_out), state)
    assert preflight.over(state) == (state == flown(32))


def test_no_more_candidates_are_needed_once_what_they_could_add_cannot_be_proved():
    assert preflight.settled(brief(100), 0.5, 0.95)
    assert not preflight.settled(brief(100), 0.5, 0.7)  # there is more to gain
    assert not preflight.settled(brief(100), 0.9, 0.95)  # nothing is proved yet
    assert not preflight.settled(brief(0), 0.5, 0.95)
    assert preflight.settled(brief(0), 0.5, 1.0)
    assert not preflight.settled(brief(100), 1.5, 4.0)  # nobody knows where such scores end


def test_a_perfect_program_may_still_become_cheaper():
    lean = replace(brief(), objectives=Objectives("prompt_tokens"))
    assert preflight.over(preflight.told(preflight.start(brief()), [(None, [Ran(1.0)] * 32)]))
    assert not preflight.over(preflight.told(preflight.start(lean), [(None, [Ran(1.0)] * 32)]))
