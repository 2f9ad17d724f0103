"""Progress, events and the run's row: what can be seen of a compile while it runs, and of where its demos come from."""

import pytest

import tuneful as tf
from tuneful.optimize.teleprompter import Teleprompter
from tuneful.optimize.trial import Trial
from tuneful.store.runs import Runs

QA = tf.Predict("question -> answer")


class Watcher(tf.Callback):
    def __init__(self):
        self.told = []
        self.calls = []

    def on_compile_start(self, call_id, instance, inputs):
        self.calls.append(call_id)

    def on_compile_progress(self, call_id, progress):
        self.told.append((call_id, progress))


def test_callbacks_hear_how_far_a_compile_is(rows, metric, landscape):
    watcher = Watcher()
    with tf.context(lm=landscape(0.3, 0.9), callbacks=[watcher]):
        compiled = tf.BootstrapFewShot(metric=metric).compile(
            QA, trainset=rows(40), valset=rows(60, start=500), budget=tf.Budget(calls=1000)
        )

    assert {call_id for call_id, _ in watcher.told} == set(watcher.calls)
    told = [progress for _, progress in watcher.told]
    assert list(dict.fromkeys(p.phase for p in told)) == ["search", "comparison"]
    assert [p.usage.calls for p in told] == sorted(p.usage.calls for p in told)
    last = told[-1]
    assert (last.rollouts, last.expected, last.candidates) == (120, 120, 1)
    assert last.best_score == pytest.approx(compiled.report.best.mean)
    assert last.best_interval == pytest.approx(compiled.report.best.interval)
    assert last.usage.calls == compiled.report.usage.calls
    assert last.seconds_left == 0
    assert "of 1,000 calls" in str(last)


def test_the_best_so_far_of_a_search_is_told_with_its_interval(rows, metric, landscape):
    watcher = Watcher()
    with tf.context(lm=landscape(0.3, 0.9), callbacks=[watcher]):
        tf.BootstrapFewShotWithRandomSearch(metric=metric, num_candidate_programs=3).compile(
            QA, trainset=rows(40), valset=rows(20, start=500)
        )

    searching = [p for _, p in watcher.told if p.phase == "search" and p.best_score is not None]
    assert searching
    assert all(p.best_interval[0] <= p.best_score <= p.best_interval[1] for p in searching)
    assert searching[-1].candidates > 2


def test_a_hook_that_raises_changes_nothing(rows, metric, landscape, caplog):
    class Broken(tf.Callback):
        def on_compile_progress(self, call_id, progress):
            raise RuntimeError("mine")

    with tf.context(lm=landscape(0.3, 0.9), callbacks=[Broken()]):
        compiled = tf.BootstrapFewShot(metric=metric).compile(QA, trainset=rows(40), valset=rows(60, start=500))

    assert compiled.report.verdict == "better"
    assert "Broken.on_compile_progress raised" in caplog.text


def test_a_named_run_can_be_looked_at_afterwards(rows, metric, landscape, tmp_path):
    path = tmp_path / "j.sqlite"
    with tf.context(lm=landscape(0.3, 0.9), journal=str(path)):
        compiled = tf.BootstrapFewShot(metric=metric).compile(
            QA, trainset=rows(40), valset=rows(60, start=500), run="mine"
        )
    with Runs(path) as runs:
        run = runs.named("mine")

    assert run.status == "finished"
    assert run.about["teleprompter"] == "BootstrapFewShot"
    assert run.spend["calls"] == compiled.report.usage.calls
    assert run.report["verdict"] == compiled.report.verdict


def test_a_run_that_a_budget_or_an_error_ends_says_so(rows, metric, landscape, tmp_path):
    def wrong(example, prediction, trace=None):
        raise ZeroDivisionError

    path = tmp_path / "j.sqlite"
    with tf.context(lm=landscape(0.3, 0.9), journal=str(path)):
        tf.BootstrapFewShot(metric=metric).compile(QA, trainset=rows(40), budget=tf.Budget(calls=5), run="short")
        with pytest.raises(tf.MetricError):
            tf.BootstrapFewShot(metric=wrong).compile(QA, trainset=rows(40), run="broken")
    with Runs(path) as runs:
        assert runs.named("short").status == runs.named("broken").status == "stopped"
        assert "limit on calls" in runs.named("short").progress
        assert "MetricError" in runs.named("broken").progress


def test_each_demo_says_where_it_comes_from(rows, metric, landscape):
    with tf.context(lm=landscape(0.3, 0.9)):
        compiled = tf.BootstrapFewShot(metric=metric, max_bootstrapped_demos=2, max_labeled_demos=4).compile(
            QA, trainset=rows(40), valset=rows(60, start=500)
        )

    shown = compiled.report.evidence.demos[""]
    assert [d.origin.source for d in shown] == ["run of the teacher"] * 2 + ["labelled row"] * 2
    assert all(d.fields["question"] == f"q{d.origin.row}" for d in shown)
    assert all(d.origin.score == 1 for d in shown[:2])


def test_candidates_stand_below_the_one_they_differ_least_from(rows, metric, landscape):
    with tf.context(lm=landscape(0.3, 0.9)):
        compiled = tf.BootstrapFewShotWithRandomSearch(metric=metric, num_candidate_programs=3).compile(
            QA, trainset=rows(40), valset=rows(20, start=500)
        )

    tried = compiled.report.evidence.tried
    assert len({t.number for t in tried}) == len(tried) > 2
    assert all(t.parent is None or t.parent < t.number for t in tried)
    assert [t.n for t in tried] == sorted((t.n for t in tried), reverse=True)


def test_prompts_that_are_only_looked_at_are_told_to_nobody(rows, metric, landscape):
    class Formats(tf.Callback):
        count = 0

        def on_adapter_format_start(self, call_id, instance, inputs):
            self.count += 1

    formats, lm = Formats(), landscape(0.3, 0.9)
    with tf.context(lm=lm, callbacks=[formats]):
        tf.BootstrapFewShot(metric=metric).compile(QA, trainset=rows(40), valset=rows(20, start=500))

    assert formats.count == len(lm.requests)


def test_a_recipe_may_name_what_a_candidate_was_made_from(rows, metric, landscape):
    first, child = {"instructions": "One."}, {"sampling": {"temperature": 0.5}}

    class Evolving(Teleprompter):
        def __init__(self, metric):
            self.metric = metric

        def ask(self, brief, state):
            if state:
                return []
            return [
                Trial(first, (0, 1)),
                Trial(child, (0, 1), parent=first),
                Trial({"instructions": "Two."}, (0,), parent={}),
            ]

        def tell(self, brief, state, results):
            return {"over": True}

        def finalists(self, brief, state):
            return [child]

    with tf.context(lm=landscape(0.3, 0.9)):
        compiled = Evolving(metric).compile(tf.Predict("question -> answer"), trainset=rows(20))

    numbers = {str(t.candidate): (t.number, t.parent) for t in compiled.report.evidence.tried}
    assert numbers[str(child)][1] == numbers[str(first)][0]
    assert numbers[str(first)][1] is None
    assert numbers[str({"instructions": "Two."})][1] is None
