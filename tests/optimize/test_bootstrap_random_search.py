"""BootstrapFewShotWithRandomSearch: demo sets from one pool, raced."""

import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM

QA = tf.Predict("question -> answer")


def number_of(request):
    return request.messages[-1].content.rsplit("q", 1)[1].split()[0]


def helped_by(wanted, share=4):
    """A model that is right once the demo `wanted` is shown, and otherwise for one row in `share`."""

    def script(request):
        number = number_of(request)
        shown = any(
            f"q{wanted}\n" in f"{m.content.strip()}\n" or f"q{wanted} " in m.content for m in request.messages[:-1]
        )
        return f"[[ ## answer ## ]] {'a' if shown or int(number) % share == 0 else 'wrong'}{number}"

    return ScriptedLM(script)


def test_the_demo_set_that_helps_is_found_among_the_draws(rows, metric):
    teleprompter = tf.BootstrapRS(metric=metric, max_labeled_demos=0)
    with tf.context(lm=helped_by(wanted=40)):
        compiled = teleprompter.compile(QA, trainset=rows(60), valset=rows(60, start=500))

    assert "q40" in [d.question for d in compiled.demos]
    assert compiled.report.verdict == "better"
    assert compiled.report.best.mean == 1.0


def test_the_teacher_runs_once_for_all_candidates_and_losers_stop_early(rows, metric):
    lm = helped_by(wanted=0)
    teleprompter = tf.BootstrapRS(metric=metric, max_labeled_demos=0)
    with tf.context(lm=lm):
        compiled = teleprompter.compile(QA, trainset=rows(100), valset=rows(20, start=500))

    full = 18 * 100  # without labelled rows there are 18 candidates, and some of them are the same
    searched = len(lm.requests) - 2 * 20
    assert searched < full
    assert "stopped early" in str(compiled.report)


def test_top_gives_the_best_candidates_as_programs_with_their_scores(rows, metric):
    teleprompter = tf.BootstrapRS(metric=metric, max_labeled_demos=0)
    with tf.context(lm=helped_by(wanted=40)):
        report = teleprompter.compile(QA, trainset=rows(60), valset=rows(30, start=500)).report
        best, *others = report.top()
        again = tf.Evaluate(devset=rows(20, start=600), metric=metric)(best.program)

    assert again.score == 100.0
    assert best.score > others[-1].score
    assert len(report.top(3)) == 3
    assert best.program.demos
    assert QA.demos == []


def test_no_row_is_scored_with_the_demo_that_was_made_from_it(rows, metric):
    lm = helped_by(wanted=40)
    with tf.context(lm=lm):
        tf.BootstrapRS(metric=metric, num_candidate_programs=4).compile(QA, trainset=rows(24))

    for request in lm.requests:
        assert request.messages[-1].content not in [m.content for m in request.messages[:-1]]


def test_the_program_as_it_is_is_a_candidate_and_is_returned_where_nothing_is_better(rows, metric):
    def worse_with_demos(request):
        number = number_of(request)
        return f"[[ ## answer ## ]] {'a' if len(request.messages) == 2 or int(number) % 2 else 'wrong'}{number}"

    with tf.context(lm=ScriptedLM(worse_with_demos)):
        compiled = tf.BootstrapRS(metric=metric).compile(QA, trainset=rows(60), valset=rows(20, start=500))

    assert compiled.demos == []
    assert compiled.report.top(1)[0].program.demos == []
    assert compiled.report.verdict == "nothing learned"


def test_a_score_that_is_good_enough_ends_the_search(rows, metric):
    def calls(stop_at_score):
        lm = ScriptedLM(lambda r: f"[[ ## answer ## ]] a{number_of(r)}")
        teleprompter = tf.BootstrapRS(metric=metric, stop_at_score=stop_at_score)
        with tf.context(lm=lm):
            teleprompter.compile(QA, trainset=rows(80), valset=rows(10, start=500))
        return len(lm.requests)

    assert calls(0.95) < calls(None) / 2


def test_the_same_seed_gives_the_same_program_whatever_the_concurrency(rows, metric):
    def state(threads, seed=0):
        teleprompter = tf.BootstrapRS(metric=metric, num_threads=threads, num_candidate_programs=6)
        with tf.context(lm=helped_by(wanted=8)):
            compiled = teleprompter.compile(QA, trainset=rows(40), seed=seed)
        return compiled.report.candidate, [(t.score, t.rows) for t in compiled.report.top()]

    assert state(1) == state(16)
    assert state(1) != state(1, seed=1)


def test_a_compile_that_stopped_goes_on_without_paying_twice(rows, metric, tmp_path):
    teleprompter = tf.BootstrapRS(metric=metric, max_labeled_demos=0, num_candidate_programs=5)

    def compiled(lm, journal, budget=None):
        with tf.context(lm=lm, journal=str(tmp_path / journal)):
            return teleprompter.compile(
                QA, trainset=rows(40), valset=rows(20, start=500), run="r", budget=tf.Budget(calls=budget)
            )

    whole_lm, first_lm, second_lm = helped_by(8), helped_by(8), helped_by(8)
    whole = compiled(whole_lm, "whole")
    assert "budget" in compiled(first_lm, "parts", budget=60).report.stop_reason
    resumed = compiled(second_lm, "parts")

    assert resumed.dump_state()["parameters"] == whole.dump_state()["parameters"]
    assert len(first_lm.requests) + len(second_lm.requests) == len(whole_lm.requests)


def test_plan_brackets_what_is_spent(rows, metric):
    teleprompter = tf.BootstrapRS(metric=metric, num_candidate_programs=4)
    with tf.context(lm=helped_by(wanted=8)):
        plan = teleprompter.plan(QA, trainset=rows(40), valset=rows(20, start=500))
        compiled = teleprompter.compile(QA, trainset=rows(40), valset=rows(20, start=500))

    low, high = plan.total("calls")
    assert low <= compiled.report.usage.calls <= high


def test_a_budget_that_ends_in_the_bootstrap_still_gives_a_report(rows, metric):
    with tf.context(lm=helped_by(wanted=8)):
        compiled = tf.BootstrapRS(metric=metric).compile(QA, trainset=rows(60), budget=tf.Budget(calls=5))

    assert "calls" in compiled.report.stop_reason
    assert compiled.report.top() == []


@pytest.mark.parametrize("wrong", [{"num_candidate_programs": -1}, {"max_bootstrapped_demos": -1}])
def test_hyper_parameters_out_of_range_are_refused(metric, wrong):
    with pytest.raises(tf.UsageError):
        tf.BootstrapRS(metric=metric, **wrong)
