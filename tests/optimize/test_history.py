"""Starting from what other runs have run, and what a resumed run tries again."""

import asyncio

import pytest

import tuneful as tf
from tuneful.store import hold
from tuneful.store.hold import Hold
from tuneful.testing import ScriptedLM

QA = tf.Predict("question -> answer")


@pytest.fixture(autouse=True)
def journal(tmp_path, monkeypatch):
    monkeypatch.setattr(hold, "_PATIENCE_S", 0.1)
    with tf.context(journal=str(tmp_path / "j.sqlite")):
        yield


def compile_with(teleprompter, lm, rows, **given):
    with tf.context(lm=lm):
        return teleprompter.compile(QA, trainset=rows(30), valset=rows(40, start=500), **given)


def test_another_teleprompter_takes_over_what_fits_and_pays_nothing_for_it(rows, metric, landscape):
    first, second = landscape(0.3, 0.9), landscape(0.3, 0.9)
    compile_with(tf.BootstrapFewShot(metric=metric), first, rows, run="old")
    compiled = compile_with(
        tf.BootstrapFewShot(metric=metric, max_bootstrapped_demos=1), second, rows, run="new", history="old"
    )

    report = compiled.report
    assert report.taken_over["old"] >= 40  # the original on the held-out rows, at the least
    assert report.usage.calls == len(second.requests)
    assert "of run 'old'" in str(report)


def test_what_was_taken_over_stays_unpaid_when_the_run_is_started_again(rows, metric, landscape):
    compile_with(tf.BootstrapFewShot(metric=metric), landscape(0.3, 0.9), rows, run="old")
    lm = landscape(0.3, 0.9)
    for _ in range(2):
        compiled = compile_with(tf.BootstrapFewShot(metric=metric), lm, rows, run="new", history=["old"])

    assert lm.requests == []
    assert compiled.report.usage.calls == 0


def test_without_history_runs_are_apart(rows, metric, landscape):
    first, second = landscape(0.3, 0.9), landscape(0.3, 0.9)
    compile_with(tf.BootstrapFewShot(metric=metric), first, rows, run="old")
    compile_with(tf.BootstrapFewShot(metric=metric), second, rows, run="new")

    assert len(first.requests) == len(second.requests) > 0


@pytest.mark.parametrize(
    ("given", "said"), [({"run": "new", "history": "odl"}, "Did you mean"), ({"history": "old"}, "named run")]
)
def test_a_history_that_is_none_is_refused_before_any_call(rows, metric, landscape, given, said):
    compile_with(tf.BootstrapFewShot(metric=metric), landscape(0.3, 0.9), rows, run="old")
    lm = landscape(0.3, 0.9)

    with pytest.raises(tf.UsageError, match=said):
        compile_with(tf.BootstrapFewShot(metric=metric), lm, rows, **given)

    assert lm.requests == []


def test_a_loaded_program_takes_over_what_was_run_of_it_before_it_was_saved(rows, metric, landscape, tmp_path):
    compiled = compile_with(tf.BootstrapFewShot(metric=metric), landscape(0.3, 0.9), rows, run="old")
    compiled.save(tmp_path / "p.json")
    loaded = tf.Predict("question -> answer").load(tmp_path / "p.json")
    with tf.context(lm=landscape(0.3, 0.9)):
        again = tf.BootstrapFewShot(metric=metric).compile(
            loaded, trainset=rows(30), valset=rows(40, start=500), run="new", history="old"
        )

    assert again.report.taken_over["old"] >= 40  # of the program on the held-out rows


def ending(text):
    return lambda example, prediction, trace=None: prediction.answer.endswith(text)


def test_a_run_never_answers_for_a_metric_that_holds_something_else(rows, landscape):
    first, second, third = landscape(0.3, 0.9), landscape(0.3, 0.9), landscape(0.3, 0.9)
    for text, lm in (("1", first), ("2", second), ("1", third)):
        compile_with(tf.BootstrapFewShot(metric=ending(text)), lm, rows, run="mine")

    assert first.requests
    assert second.requests
    assert third.requests == []


class Noting(tf.Module):
    def __init__(self):
        self.seen = []
        self.answer = tf.Predict("question -> answer")

    def forward(self, question):
        self.seen.append(question)
        return self.answer(question=question)


def test_what_a_program_notes_in_itself_while_it_runs_is_no_other_program(rows, metric, landscape):
    lms = [landscape(0.3, 0.9), landscape(0.3, 0.9)]
    for lm in lms:
        with tf.context(lm=lm):
            tf.BootstrapFewShot(metric=metric).compile(
                Noting(), trainset=rows(30), valset=rows(40, start=500), run="mine"
            )

    assert lms[0].requests
    assert lms[1].requests == []


def test_a_named_run_without_a_journal_is_refused_before_any_call(rows, metric, landscape):
    lm = landscape(0.3, 0.9)
    with tf.context(journal=None), pytest.raises(tf.UsageError, match="`journal` is None"):
        compile_with(tf.BootstrapFewShot(metric=metric), lm, rows, run="mine")

    assert lm.requests == []


def test_one_run_is_not_compiled_twice_at_once(rows, metric, landscape, tmp_path):
    lm = landscape(0.3, 0.9)
    with Hold(tmp_path / "j.sqlite", "mine"), pytest.raises(tf.UsageError, match="is being compiled already"):
        compile_with(tf.BootstrapFewShot(metric=metric), lm, rows, run="mine")
    assert lm.requests == []

    for _ in range(2):  # it is let go of at the end
        compile_with(tf.BootstrapFewShot(metric=metric), lm, rows, run="mine")


async def test_of_two_compiles_of_one_run_in_one_process_the_second_is_refused(rows, metric, landscape):
    lm = landscape(0.3, 0.9, seconds=0.1)
    with tf.context(lm=lm):
        first, second = [
            tf.BootstrapFewShot(metric=metric).acompile(QA, trainset=rows(30), run="mine") for _ in range(2)
        ]
        found = await asyncio.gather(first, second, return_exceptions=True)

    assert sum(isinstance(f, tf.UsageError) for f in found) == 1
    assert sum(isinstance(f, tf.Predict) for f in found) == 1


def test_failures_of_the_infrastructure_are_tried_again_and_never_kept(rows, metric, landscape):
    works = landscape(0.3, 0.9)
    broken = {"q501", "q502", "q503"}
    is_down = True

    def script(request):
        asked = request.messages[-1].content
        if is_down and any(f"{q} " in f"{asked} ".replace("\n", " ") for q in broken):
            return tf.LMTransportError("down")
        return works._scripted._script(request)

    def run():
        return compile_with(tf.BootstrapFewShot(metric=metric), ScriptedLM(script), rows, run="mine").report

    first = run()
    is_down = False
    second = run()

    assert first.baseline.statuses["infra_error"] == 3
    assert first.baseline.n == 37
    assert "infra_error" not in second.baseline.statuses
    assert second.baseline.n == 40


def test_a_run_whose_records_fit_nothing_says_so_before_much_is_paid_again(rows, metric, landscape, tmp_path, caplog):
    def stricter(example, prediction, trace=None):
        return metric(example, prediction) and len(prediction.answer) < 100

    with tf.context(lm=landscape(0.3, 0.9), journal=tmp_path / "journal.sqlite"):
        told = [
            tf.BootstrapFewShot(one)
            .compile(tf.Predict("question -> answer"), trainset=rows(30), run="a")
            .report.warnings
            for one in (metric, metric, stricter)
        ]

    assert ["earlier records that do not fit" in warnings for warnings in told] == [False, False, True]
    assert "none is of what it begins with" in caplog.text


def test_rows_on_which_the_metric_raised_are_scored_again_and_paid_for_once(rows, metric, landscape, tmp_path):
    labels = tmp_path / "labels.csv"  # a file, since a value that the metric holds would make it another metric

    def judge(example, prediction, trace=None):
        if not labels.exists() and example.question in ("q501", "q502", "q503"):
            raise FileNotFoundError("labels.csv")
        return metric(example, prediction)

    def run(name):
        lm = landscape(0.3, 0.9, cache=True)
        report = compile_with(tf.BootstrapFewShot(metric=judge), lm, rows, run=name).report
        return report, len(lm.requests)

    first, asked = run("mine")
    failing, asked_of_failing = run("mine")
    labels.touch()
    second, asked_again = run("mine")
    third, _ = run("mine")
    whole, _ = run("other")

    assert first.baseline.statuses["metric_error"] == 3
    assert first.warnings["metric error"] == failing.warnings["metric error"]
    assert "metric_error" not in second.baseline.statuses
    assert second.comparison == whole.comparison
    assert (asked_of_failing, asked_again) == (0, 0)
    assert asked == first.usage.calls == failing.usage.calls == second.usage.calls == third.usage.calls


def test_a_run_that_was_stopped_as_hopeless_is_stopped_again(rows, metric):
    class Broken(tf.Module):
        def __init__(self):
            self.answer = QA

        def forward(self, question):
            raise LookupError("nothing there")

    def run():
        with pytest.raises(tf.EvaluationError, match="nothing there"):
            tf.BootstrapFewShot(metric=metric).compile(Broken(), trainset=rows(30), run="mine")

    run()
    run()
