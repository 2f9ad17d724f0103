"""Lessons: runs that teach something come first, each once, with one that is right beside them."""

import random

import pytest

from tuneful.optimize.strategies import lessons
from tuneful.optimize.strategies.lessons import Lessons
from tuneful.optimize.trial import Outcome

STEP = {"path": "say", "inputs": {}, "outputs": {}}


def noted(*scores, shown=(), **more):
    runs = [{"row": i, "score": s, "status": "ok", "steps": [STEP], **more} for i, s in enumerate(scores)]
    return {**lessons.start(), "runs": runs, "shown": list(shown)}


def picked(notes, taken=(), *, more=False, choose=None):
    return (choose or Lessons()).minibatch(notes, {"say"}, taken, random.Random(0), more=more)


def test_failures_are_shown_with_one_run_that_is_right():
    assert picked(noted(1, 0, 1, 0, 0, 1))[:2] == [1, 3]
    assert picked(noted(1, 0, 1, 0, 0, 1))[2] in (0, 2, 5)
    assert picked(noted(0, 0, 0, 0)) == [0, 1, 2]
    assert sorted(picked(noted(1, 0, 1))) == [0, 1, 2]


def test_a_small_minibatch_is_of_failures_alone():
    assert picked(noted(1, 0, 0, 0), choose=Lessons(2)) == [1, 2]
    assert picked(noted(1, 0), choose=Lessons(1)) == [1]


def test_more_is_read_while_nothing_new_is_to_be_learned():
    assert picked(noted(1, 1), more=True) == []
    assert picked(noted(1, 0, shown=[1]), more=True) == []
    assert picked(noted(1, 0, 0, shown=[1]), more=True) == [2, 1, 0]


def test_what_was_shown_is_shown_again_once_there_is_nothing_else():
    assert set(picked(noted(0, 0, 1, shown=[0, 1]))) == {0, 1, 2}
    assert picked(noted(0, 0, 1), taken=[0])[0] == 1


@pytest.mark.parametrize(("skip", "known"), [(True, [1]), (False, [0, 1])])
def test_perfect_runs_teach_only_where_they_are_not_skipped(skip, known):
    assert Lessons(skip_perfect_score=skip).instructive(noted(1, 0.5)["runs"], {"say"}) == known


def test_runs_in_which_no_step_ran_that_may_change_teach_nothing():
    assert Lessons().instructive(noted(0)["runs"], {"think"}) == []
    assert Lessons().instructive(noted(None)["runs"], {"say"}) == []


def outcome(status, score, error=None):
    return Outcome(7, score, status, (STEP,), {"error": error, "feedback": None, "steps": [STEP]})


def test_a_failure_has_the_failure_score_and_a_misfit_is_told_as_feedback():
    choose = Lessons(failure_score=-1.0, add_format_failure_as_feedback=True)
    error = "Traceback\ntuneful.errors.AdapterParseError: the answer does not fit: no `x`.\nThe raw answer was:\nhello"
    run = choose.run(outcome("parse_error", 0.0, error))

    assert run["score"] == -1.0
    assert run["feedback"] == "the answer does not fit: no `x`.\nThe raw answer was:\nhello"
    assert not run["error"]
    assert choose.instructive([run], {"say"}) == [0]
    assert Lessons().instructive([run], {"say"}) == []
    assert choose.score(outcome("infra_error", None)) is None
    crashed = choose.run(outcome("program_error", 0.0, "KeyError: 'x'"))
    assert (crashed["feedback"], crashed["error"]) == (None, "KeyError: 'x'")
