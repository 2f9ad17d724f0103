"""BootstrapFewShotWithOptuna: how many demos each predictor shows, and which."""

import importlib.util

import pytest

import tuneful as tf
from tuneful.optimize.strategies import tpe
from tuneful.testing import ScriptedLM

QA = tf.Predict("question -> answer")


def numbers(messages):
    return [int(m.text.rsplit("q", 1)[1].split()[0]) for m in messages if m.role == "user"]


def few_but_high(request):
    """A model that is helped by one or two demos with a number of 8 or more, and confused by other numbers of demos."""
    *shown, asked = numbers(request.messages)
    right = asked % 4 == 0 or (len(shown) in (1, 2) and min(shown) >= 8)
    return f"[[ ## answer ## ]] {'a' if right else 'wrong'}{asked}"


def compiled_by(lm, rows, metric, **settings):
    teleprompter = tf.BootstrapFewShotWithOptuna(metric=metric, **{"max_labeled_demos": 0, **settings})
    with tf.context(lm=lm):
        return teleprompter.compile(QA, trainset=rows(40), valset=rows(60, start=500))


def test_it_finds_how_many_demos_and_which(rows, metric):
    compiled = compiled_by(ScriptedLM(few_but_high), rows, metric, num_candidate_programs=24)

    assert compiled.report.verdict == "better"
    assert len(compiled.demos) in (1, 2)
    assert all(int(d.question[1:]) >= 8 for d in compiled.demos)


def test_the_same_seed_gives_the_same_search_and_no_output(rows, metric, capfd):
    def tops():
        report = compiled_by(ScriptedLM(few_but_high), rows, metric, num_candidate_programs=10).report
        return [(t.score, t.rows, [d.question for d in t.program.demos]) for t in report.top()]

    assert tops() == tops()
    assert "study" not in capfd.readouterr().err


def test_predictors_have_counts_and_demos_of_their_own(rows, metric):
    class Steps(tf.Module):
        def __init__(self):
            self.think = tf.Predict("question -> hint")
            self.answer = tf.Predict("question, hint -> answer")

        def forward(self, question):
            return self.answer(question=question, hint=self.think(question=question).hint)

    def script(request):
        number = request.messages[-1].content.rsplit("q", 1)[-1].split()[0]
        if "hint ## ]]" in request.messages[-1].content:
            return f"[[ ## answer ## ]] {'a' if int(number) % 2 else 'wrong'}{number}"
        return f"[[ ## hint ## ]] hint for q{number}"

    teleprompter = tf.BootstrapFewShotWithOptuna(metric=metric, max_labeled_demos=0, num_candidate_programs=8)
    with tf.context(lm=ScriptedLM(script)):
        report = teleprompter.compile(Steps(), trainset=rows(40), valset=rows(20, start=500)).report

    shapes = {(len(t.program.think.demos), len(t.program.answer.demos)) for t in report.top()}
    assert any(a != b for a, b in shapes)
    assert all(max(shape) <= 4 for shape in shapes)


def test_a_search_that_stopped_goes_on_to_the_same_result(rows, metric, tmp_path):
    def run(lm, journal, calls=None):
        teleprompter = tf.BootstrapFewShotWithOptuna(metric=metric, max_labeled_demos=0, num_candidate_programs=8)
        with tf.context(lm=lm, journal=str(tmp_path / journal)):
            return teleprompter.compile(
                QA, trainset=rows(40), valset=rows(20, start=500), run="r", budget=tf.Budget(calls=calls)
            )

    whole_lm, first, second = (ScriptedLM(few_but_high) for _ in range(3))
    whole = run(whole_lm, "whole")
    run(first, "parts", calls=120)
    resumed = run(second, "parts")

    assert resumed.dump_state()["parameters"] == whole.dump_state()["parameters"]
    assert len(first.requests) + len(second.requests) == len(whole_lm.requests)


def test_where_no_run_succeeds_nothing_is_proposed(rows, metric):
    compiled = compiled_by(ScriptedLM(lambda r: "[[ ## answer ## ]] no"), rows, metric)

    assert compiled.demos == []


def test_without_the_package_it_says_what_to_install_before_any_call(metric, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(tf.MissingExtraError, match=r"tuneful\[search\]"):
        tf.BootstrapFewShotWithOptuna(metric=metric)


def test_proposals_go_where_the_scores_were_good():
    def worth(point):
        return 0.5 * (point["count"] == 3) + 0.5 * (point["member"] in (6, 7))

    space = {"count": (0, 4), "member": list(range(10))}
    tried = [{"count": c, "member": m} for c in range(5) for m in range(10)]
    proposed = [tpe.propose(space, tried, [worth(p) for p in tried], 4, seed) for seed in range(10)]

    by_chance = sum(map(worth, tried)) / len(tried)
    assert sum(worth(p) for four in proposed for p in four) / 40 > 2 * by_chance
    assert proposed[0] == tpe.propose(space, tried, [worth(p) for p in tried], 4, 0)


def test_what_is_not_known_of_a_point_is_left_out():
    space = {"count": (0, 4)}
    assert tpe.propose(space, [{"count": 1}], [None], 3, 5) == tpe.propose(space, [], [], 3, 5)
