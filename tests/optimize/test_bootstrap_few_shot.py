"""BootstrapFewShot: the program's own successes as demos."""

import asyncio
import random

import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM


class TwoSteps(tf.Module):
    def __init__(self):
        self.think = tf.Predict("question -> hint")
        self.answer = tf.Predict("question, hint -> answer")

    def forward(self, question):
        return self.answer(question=question, hint=self.think(question=question).hint)


def two_steps(request):
    number = request.messages[-1].content.rsplit("q", 1)[-1].split()[0]
    if "hint ## ]]" in request.messages[-1].content:
        return f"[[ ## answer ## ]] {'a' if int(number) % 2 else 'wrong'}{number}"
    return f"[[ ## hint ## ]] hint for q{number}"


def test_steps_that_nobody_labelled_get_demos_from_successful_runs_only(rows, metric):
    with tf.context(lm=ScriptedLM(two_steps)):
        compiled = tf.BootstrapFewShot(metric=metric, max_labeled_demos=0).compile(TwoSteps(), trainset=rows(12))

    assert [d.hint for d in compiled.think.demos] == [f"hint for q{i}" for i in (1, 3, 5, 7)]
    assert [d.answer for d in compiled.answer.demos] == ["a1", "a3", "a5", "a7"]
    assert "4 runs kept of 8 tried (4 x score too low)" in str(compiled.report)


def test_the_result_does_not_depend_on_timing_or_concurrency(rows, metric):
    def compiled_with(threads, jitter):
        async def script(request):
            await asyncio.sleep(random.random() * jitter)
            return two_steps(request)

        with tf.context(lm=ScriptedLM(script), num_threads=threads):
            return tf.BootstrapFewShot(metric=metric).compile(TwoSteps(), trainset=rows(18), seed=3).dump_state()

    assert compiled_with(1, 0.0) == compiled_with(16, 0.01) == compiled_with(5, 0.005)


def test_no_more_runs_than_needed_are_spent_when_all_succeed(rows, metric):
    lm = ScriptedLM(lambda r: f"[[ ## answer ## ]] a{r.messages[-1].content.rsplit('q', 1)[1].split()[0]}")
    with tf.context(lm=lm):
        tf.BootstrapFewShot(metric=metric).compile(tf.Predict("question -> answer"), trainset=rows(19))

    assert len(lm.requests) == 4


def test_a_row_is_never_among_the_demos_of_its_own_run(rows, metric):
    lm = ScriptedLM(lambda r: "[[ ## answer ## ]] no")
    with tf.context(lm=lm):
        tf.BootstrapFewShot(metric=metric).compile(tf.Predict("question -> answer"), trainset=rows(10))

    for request in lm.requests:
        own = request.messages[-1].content
        assert len(request.messages) > 2
        assert own not in [m.content for m in request.messages[:-1]]


def test_labelled_rows_fill_up_and_are_not_the_kept_ones(rows, metric):
    with tf.context(lm=ScriptedLM(two_steps)):
        compiled = tf.BootstrapFewShot(metric=metric, max_labeled_demos=6).compile(TwoSteps(), trainset=rows(18))

    questions = [d["question"] for d in compiled.answer.demos]
    assert questions[:4] == ["q1", "q3", "q5", "q7"]
    assert len(questions) == len(set(questions)) == 6
    assert len(compiled.think.demos) == 4  # no row has a hint, so nothing can fill these up


def test_a_threshold_of_zero_is_a_threshold(rows):
    with tf.context(lm=ScriptedLM(two_steps)):
        all_of_them = tf.BootstrapFewShot(metric=lambda e, p: 0.0, metric_threshold=0.0, max_labeled_demos=0)

        assert len(all_of_them.compile(TwoSteps(), trainset=rows(6)).think.demos) == 4


def test_without_a_metric_every_run_that_ends_is_kept_and_labels_are_not_needed():
    unlabelled = [tf.Example(question=f"q{i}").with_inputs("question") for i in range(6)]
    with tf.context(lm=ScriptedLM(two_steps)):
        compiled = tf.BootstrapFewShot(max_bootstrapped_demos=2).compile(TwoSteps(), trainset=unlabelled)

    assert len(compiled.think.demos) == 2


class Judge(tf.Module):
    """A metric that asks a model."""

    def __init__(self):
        self.judge = tf.Predict("asked, said -> score: float")

    def forward(self, example, prediction, trace=None):
        return self.judge(asked=example.question, said=prediction.answer)


def test_another_lm_teaches_also_a_student_that_is_bound_and_is_not_the_metrics(rows):
    big, small = ScriptedLM(two_steps, model="big"), ScriptedLM(two_steps, model="small")
    judge = ScriptedLM(lambda request: "[[ ## score ## ]] 1", model="judge")
    with tf.context(lm=judge):
        teleprompter = tf.BootstrapFewShot(metric=Judge(), teacher_settings={"lm": big}, max_bootstrapped_demos=2)
        compiled = teleprompter.compile(TwoSteps().using(lm=small), trainset=rows(12))

    assert len(compiled.think.demos) >= 2
    assert len(big.requests) == 2 * len(judge.requests) == 4
    assert not small.requests


def test_a_teacher_that_was_given_keeps_the_lm_that_it_has(rows, metric):
    own, other, small = (ScriptedLM(two_steps, model=name) for name in ("own", "other", "small"))
    teacher = TwoSteps()
    teacher.think.set_lm(own)
    with tf.context(lm=small):
        teleprompter = tf.BootstrapFewShot(metric=metric, teacher_settings={"lm": other})
        teleprompter.compile(TwoSteps(), trainset=rows(12), teacher=teacher)

    assert len(own.requests) == len(other.requests) > 0
    assert not small.requests


def test_another_lm_teaches_through_teacher_settings(rows, metric):
    big, small = ScriptedLM(two_steps, model="big"), ScriptedLM(lambda r: "[[ ## hint ## ]] ?", model="small")
    with tf.context(lm=small):
        teleprompter = tf.BootstrapFewShot(metric=metric, teacher_settings={"lm": big})
        compiled = teleprompter.compile(TwoSteps(), trainset=rows(12))

    assert len(compiled.think.demos) == 4
    assert small.requests == []
    assert compiled.report.models == ["big"]


def test_a_compiled_program_is_student_and_teacher_again(rows, metric):
    with tf.context(lm=ScriptedLM(two_steps)):
        once = tf.BootstrapFewShot(metric=metric, max_labeled_demos=0).compile(TwoSteps(), trainset=rows(12))
        twice = tf.BootstrapFewShot(metric=metric, max_labeled_demos=0, max_bootstrapped_demos=2)
        again = twice.compile(once, teacher=once, trainset=rows(12, start=20))

    assert [d.hint for d in again.think.demos] == ["hint for q21", "hint for q23"]
    assert [d.hint for d in once.think.demos][0] == "hint for q1"


def test_later_rounds_try_the_failed_rows_anew(rows, metric):
    def script(request):
        number = request.messages[-1].content.rsplit("q", 1)[1].split()[0]
        return f"[[ ## answer ## ]] {'a' if request.sampling.rollout_id == 1 else 'no'}{number}"

    lm = ScriptedLM(script)
    with tf.context(lm=lm):
        teleprompter = tf.BootstrapFewShot(metric=metric, max_rounds=2, max_labeled_demos=0)
        compiled = teleprompter.compile(tf.Predict("question -> answer"), trainset=rows(5))

    assert len(compiled.demos) == 4
    assert [r.sampling.rollout_id for r in lm.requests] == [0] * 5 + [1] * 5


def test_a_frozen_predictor_keeps_its_demos(rows, metric):
    student = TwoSteps()
    student.freeze("think.*")
    with tf.context(lm=ScriptedLM(two_steps)):
        compiled = tf.BootstrapFewShot(metric=metric, max_labeled_demos=0).compile(student, trainset=rows(12))

    assert compiled.think.demos == []
    assert len(compiled.answer.demos) == 4


def test_failed_runs_do_not_lose_anything_and_are_told_by_kind(rows, metric):
    def script(request):
        if "q2" in request.messages[-1].content:
            return tf.LMServerError("down")
        return two_steps(request)

    with tf.context(lm=ScriptedLM(script)):
        compiled = tf.BootstrapFewShot(metric=metric, max_labeled_demos=0).compile(TwoSteps(), trainset=rows(12))

    assert compiled.report.warnings["infra error"] == 1
    assert "1 x infra_error" in str(compiled.report)
    assert len(compiled.think.demos) == 4


def test_a_metric_that_always_raises_stops_the_compile(rows):
    lm = ScriptedLM(two_steps)
    with tf.context(lm=lm), pytest.raises(tf.MetricError, match="no field `nope`"):
        tf.BootstrapFewShot(metric=lambda e, p: e.nope).compile(TwoSteps(), trainset=rows(100))

    assert len(lm.requests) <= 20


def test_a_strange_teacher_is_refused_before_any_call(rows, metric):
    lm = ScriptedLM(two_steps)
    with tf.context(lm=lm), pytest.raises(tf.UsageError, match="shares no predictor"):
        tf.BootstrapFewShot(metric=metric).compile(
            TwoSteps(), teacher=tf.Predict("question -> answer"), trainset=rows(9)
        )

    assert lm.requests == []


@pytest.mark.parametrize("wrong", [{"max_rounds": 0}, {"max_bootstrapped_demos": -1}, {"max_labeled_demos": -2}])
def test_hyper_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(tf.UsageError, match=next(iter(wrong))):
        tf.BootstrapFewShot(**wrong)
