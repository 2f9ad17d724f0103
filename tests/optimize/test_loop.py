"""The loop: budget, journal, held-out split, statistics and report, for every recipe."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM

QA = tf.Predict("question -> answer")


def test_a_planted_gain_is_found_and_reported_with_intervals(rows, metric, landscape):
    with tf.context(lm=landscape(0.3, 0.8)):
        compiled = tf.BootstrapFewShot(metric=metric).compile(QA, trainset=rows(60), valset=rows(100, start=500))

    report = compiled.report
    assert report.verdict == "better"
    assert report.comparison.interval[0] > 0
    assert report.baseline.mean < 0.5 < report.best.mean
    assert report.held_out_rows == 100
    assert compiled.demos
    assert "better by" in str(report)


def test_law_5_the_student_is_not_mutated(rows, metric, landscape):
    student = tf.Predict("question -> answer")
    before = student.dump_state()
    with tf.context(lm=landscape(0.3, 0.9)):
        compiled = tf.BootstrapFewShot(metric=metric).compile(student, trainset=rows(60))

    assert compiled is not student
    assert student.dump_state() == before
    assert student.report is None


def test_law_5_held_out_rows_are_never_seen_by_the_search(rows, metric):
    seen_by_search = []

    class Spy(tf.BootstrapFewShot):
        def init(self, brief):
            seen_by_search.extend(e.question for e in brief.trainset)
            return super().init(brief)

    held_out = rows(30, start=500)
    lm = ScriptedLM(lambda r: f"[[ ## answer ## ]] a{r.messages[-1].content.rsplit('q', 1)[1].split()[0]}")
    with tf.context(lm=lm):
        compiled = Spy(metric=metric).compile(QA, trainset=rows(30), valset=held_out)
        auto = Spy(metric=metric).compile(QA, trainset=rows(60))

    assert not {e.question for e in held_out} & set(seen_by_search)
    assert not {d["question"] for d in compiled.report.candidate["demos"]} & {e.question for e in held_out}
    assert (auto.report.search_rows, auto.report.held_out_rows) == (30, 30)


def test_law_1_same_seed_same_result(rows, metric, landscape):
    def state(seed):
        with tf.context(lm=landscape(0.3, 0.9)):
            compiled = tf.BootstrapFewShot(metric=metric).compile(QA, trainset=rows(60), seed=seed)
            return compiled.dump_state()

    assert state(1) == state(1)
    assert state(1)["parameters"] != state(2)["parameters"]


@pytest.mark.parametrize("calls", [0, 1, 7, 50, 100])
def test_law_3_a_budget_of_calls_is_never_exceeded_and_something_is_returned(rows, metric, landscape, calls):
    lm = landscape(0.3, 0.9)
    with tf.context(lm=lm, num_threads=16):
        compiled = tf.BootstrapFewShot(metric=metric).compile(
            QA, trainset=rows(60), valset=rows(60, start=500), budget=tf.Budget(calls=calls)
        )

    assert len(lm.requests) <= calls
    assert "calls" in compiled.report.stop_reason
    assert isinstance(compiled, tf.Predict)


def test_a_budget_that_ends_before_the_comparison_gives_the_original_back_and_keeps_the_candidate(
    rows, metric, landscape
):
    with tf.context(lm=landscape(0.3, 0.9)):
        compiled = tf.BootstrapFewShot(metric=metric).compile(
            QA, trainset=rows(60), valset=rows(60, start=500), budget=tf.Budget(calls=5)
        )

    assert compiled.report.verdict == "not compared"
    assert compiled.demos == []
    assert compiled.report.candidate["demos"]


def test_law_6_every_repair_retry_salvage_and_failure_is_counted_and_shown(rows, metric):
    def script(request):
        number = request.messages[-1].content.rsplit("q", 1)[-1].split()[0] if len(request.messages) < 4 else "x"
        if "could not be used" in request.messages[-1].content:
            return "[[ ## answer ## ]] 7"
        answers = {
            "0": "no number",
            "1": "[[ ## ANSWER ## ]] 7",
            "2": tf.LMTransportError("cut"),
            "3": "[[ ## answer ## ]] words",
        }
        return answers.get(number, "[[ ## answer ## ]] 7")

    def seven(example, prediction, trace=None):
        return prediction.answer == 7

    with tf.context(lm=ScriptedLM(script)):
        compiled = tf.BootstrapFewShot(metric=seven, max_bootstrapped_demos=6, max_labeled_demos=0).compile(
            tf.Predict("question -> answer: int"), trainset=rows(10)
        )

    noted = compiled.report.warnings
    assert noted["repair turn"] == 2
    assert noted["marker in other case (tolerated)"] == 1
    assert noted["infra error"] == 1
    for kind in noted:
        assert kind in str(compiled.report)


def test_a_metric_that_nothing_meets_is_noted(rows, metric, landscape):
    def letters(example, prediction, trace=None):
        return prediction.answer in [*"letters"]

    with tf.context(lm=landscape(0.3, 0.9)):
        blind, seeing = (
            tf.BootstrapFewShot(metric=one).compile(QA, trainset=rows(30)).report for one in (letters, metric)
        )

    assert blind.warnings["scored 0, and none more"] >= 15
    assert "scored 0, and none more" in str(blind)
    assert "scored 0, and none more" not in seeing.warnings


def test_another_metric_or_model_is_not_answered_from_the_journal(rows, metric, landscape, tmp_path):
    def lenient(example, prediction, trace=None):
        return True

    def calls(lm, judge):
        with tf.context(lm=lm, journal=str(tmp_path / "j.sqlite")):
            tf.BootstrapFewShot(metric=judge).compile(QA, trainset=rows(10), run="one name")
        return len(lm.requests)

    assert calls(landscape(0.9, 0.9), metric) > 0
    assert calls(landscape(0.9, 0.9), metric) == 0
    assert calls(landscape(0.9, 0.9), lenient) > 0
    assert calls(landscape(0.9, 0.9, temperature=0.5), metric) > 0


def test_another_teacher_is_not_answered_from_the_journal(rows, metric, landscape, tmp_path):
    def teach(lm):
        teleprompter = tf.BootstrapFewShot(metric=metric, teacher_settings={"lm": lm}, max_labeled_demos=0)
        with tf.context(lm=landscape(0.9, 0.9), journal=str(tmp_path / "j.sqlite")):
            teleprompter.compile(QA, trainset=rows(10), run="one name")
        return len(lm.requests)

    assert teach(landscape(0.9, 0.9)) > 0
    assert teach(landscape(0.9, 0.9)) == 0
    assert teach(landscape(0.9, 0.9, temperature=0.5)) > 0


def test_a_budget_of_seconds_ends_the_compile(rows, metric, landscape):
    begun = time.monotonic()
    with tf.context(lm=landscape(0.3, 0.9, seconds=0.05), num_threads=2):
        compiled = tf.BootstrapFewShot(metric=metric).compile(QA, trainset=rows(400), budget=tf.Budget(seconds=0.5))

    assert time.monotonic() - begun < 5
    assert "seconds" in compiled.report.stop_reason


def test_a_budget_in_dollars_needs_a_price(rows, metric, landscape):
    lm = landscape(0.3, 0.9, local=False)
    with tf.context(lm=lm), pytest.raises(tf.UsageError, match="price_per_million"):
        tf.BootstrapFewShot(metric=metric).compile(QA, trainset=rows(10), budget=tf.Budget(usd=1))

    assert lm.requests == []


def test_few_rows_and_no_valset_are_searched_whole_and_the_report_says_so(rows, metric, landscape):
    with tf.context(lm=landscape(0.9, 0.9)):
        compiled = tf.BootstrapFewShot(metric=metric).compile(QA, trainset=rows(10))

    assert compiled.report.verdict == "not validated"
    assert "fewer than 20 rows" in str(compiled.report)
    assert compiled.demos


def test_plan_makes_no_call_and_brackets_what_is_spent(rows, metric, landscape):
    lm = landscape(0.3, 0.9)
    teleprompter = tf.BootstrapFewShot(metric=metric)
    with tf.context(lm=lm):
        plan = teleprompter.plan(QA, trainset=rows(60), valset=rows(40, start=500))
        assert lm.requests == []
        compiled = teleprompter.compile(QA, trainset=rows(60), valset=rows(40, start=500))

    low, high = plan.total("calls")
    assert low <= compiled.report.usage.calls <= high
    assert "comparison" in str(plan)


def test_a_saved_program_says_where_it_comes_from(rows, metric, landscape, tmp_path):
    with tf.context(lm=landscape(0.3, 0.9)):
        compiled = tf.BootstrapFewShot(metric=metric).compile(QA, trainset=rows(60))
    compiled.save(tmp_path / "p.json")

    saved = json.loads((tmp_path / "p.json").read_text())
    assert saved["provenance"]["teleprompter"] == "BootstrapFewShot"
    assert saved["provenance"]["best"]["mean"] > saved["provenance"]["baseline"]["mean"]
    loaded = tf.Predict("question -> answer").load(tmp_path / "p.json")
    assert loaded.demos == compiled.demos
    loaded.save(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text())["provenance"] == saved["provenance"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda t, rows: t.compile("no program", trainset=rows(3)), tf.UsageError),
        (lambda t, rows: t.compile(tf.Module(), trainset=rows(3)), tf.UsageError),
        (lambda t, rows: t.compile(QA, trainset=[]), tf.DataError),
        (lambda t, rows: t.compile(QA, trainset=[tf.Example(question="q", answer="a")]), tf.DataError),
        (lambda t, rows: t.compile(QA, trainset=rows(3), valset=[]), tf.DataError),
        (lambda t, rows: t.compile(tf.Predict("topic -> answer"), trainset=rows(3)), tf.InputError),
        (lambda t, rows: tf.BootstrapFewShot(metric=lambda e: 1).compile(QA, trainset=rows(3)), tf.MetricError),
    ],
)
def test_bad_input_is_refused_before_any_call(rows, metric, call, error):
    lm = ScriptedLM(lambda r: "x")
    with tf.context(lm=lm), pytest.raises(error):
        call(tf.BootstrapFewShot(metric=metric), rows)

    assert lm.requests == []


SCRIPT = """
import sys, pathlib
import tuneful as tf
from tuneful.testing import ScriptedLM

log = pathlib.Path(sys.argv[1])

def answer(request):
    asked = request.messages[-1].content
    number = asked.rsplit("q", 1)[1].split()[0]
    with log.open("a") as file:
        file.write(f"{number} {len(request.messages)}\\n")
    right = len(request.messages) > 2 or int(number) % 3 == 0
    return f"[[ ## answer ## ]] {'a' if right else 'no'}{number}"

def rows(a, b):
    return [tf.Example(question=f"q{i}", answer=f"a{i}").with_inputs("question") for i in range(a, b)]

def metric(example, prediction, trace=None):
    return example.answer == prediction.answer

tf.configure(lm=ScriptedLM(answer, seconds=0.01), num_threads=1)
compiled = tf.BootstrapFewShot(metric=metric, max_labeled_demos=0).compile(
    tf.Predict("question -> answer"), trainset=rows(0, 30), valset=rows(100, 160), run="mine"
)
compiled.save(sys.argv[2])
print(compiled.report.replayed, compiled.report.usage.calls)
"""


def test_law_2_a_killed_compile_goes_on_to_the_same_program_and_pays_for_no_finished_rollout_twice(tmp_path):
    def start(folder, log):
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(log), str(folder / "out.json")]
        return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole_log, killed_log = tmp_path / "whole.log", tmp_path / "killed.log"
    with start(whole, whole_log) as process:
        process.communicate(timeout=60)
    for wanted in (5, 30, 70, 110):
        with start(killed, killed_log) as process:
            while process.poll() is None and (
                not killed_log.exists() or len(killed_log.read_text().split("\n")) < wanted
            ):
                time.sleep(0.005)
            os.kill(process.pid, signal.SIGKILL)
    with start(killed, killed_log) as process:
        out, _ = process.communicate(timeout=60)

    assert json.loads((killed / "out.json").read_text()) == json.loads((whole / "out.json").read_text())
    calls, calls_killed = whole_log.read_text().split("\n"), killed_log.read_text().split("\n")
    assert len(calls_killed) - len(calls) <= 4  # at each kill at most the one call in flight is repeated
    replayed, counted = map(int, out.split())
    assert replayed > 50
    assert counted == len(calls) - 1  # what was spent before the kills is in the account


@pytest.mark.parametrize(("kind", "limit"), [("calls", 400), ("tokens", 40_000)])
def test_a_search_leaves_of_the_budget_what_the_comparison_needs(rows, metric, landscape, kind, limit):
    teleprompter = tf.BootstrapFewShotWithRandomSearch(metric=metric, max_bootstrapped_demos=2, max_labeled_demos=2)
    with tf.context(lm=landscape(0.3, 0.9), num_threads=8):
        report = teleprompter.compile(
            QA, trainset=rows(150), valset=rows(80, start=500), budget=tf.Budget(**{kind: limit})
        ).report

    assert report.verdict == "better"
    assert f"the budget's limit on {kind} leaves the comparison" in report.stop_reason
    assert report.baseline.n == report.best.n == 80
    assert {"calls": report.usage.calls, "tokens": report.usage.total_tokens}[kind] <= limit


@pytest.mark.parametrize("make", [tf.BootstrapRS, tf.BootstrapFewShotWithOptuna, tf.Tune])
def test_where_a_budget_leaves_no_room_for_a_race_what_was_bootstrapped_is_compared(rows, metric, landscape, make):
    with tf.context(lm=landscape(0.3, 0.9)):
        report = (
            make(metric).compile(QA, trainset=rows(60), valset=rows(40, start=500), budget=tf.Budget(calls=130)).report
        )

    assert report.verdict == "better"
    assert report.usage.calls <= 130


def test_a_search_of_one_large_wave_leaves_the_comparison_its_share_too(rows, metric, landscape):
    with tf.context(lm=landscape(0.3, 0.9), num_threads=8):
        report = (
            tf.KNNFewShot(2, vectorizer=lambda texts: [[1.0, float(len(text))] for text in texts], metric=metric)
            .compile(QA, trainset=rows(200), valset=rows(40, start=500), budget=tf.Budget(calls=200))
            .report
        )

    assert report.verdict == "better"
    assert report.best.n == 40
    assert "leaves the comparison" in report.stop_reason


@pytest.mark.parametrize(("limit", "threads"), [(70, 1), (99, 8), (100, 64)])
def test_a_budget_that_ends_the_comparison_is_spent_on_rows_that_all_programs_have(
    rows, metric, landscape, limit, threads
):
    teleprompter = tf.BootstrapFewShot(metric=metric, max_bootstrapped_demos=2)
    with tf.context(lm=landscape(0.3, 0.9), num_threads=threads):
        report = teleprompter.compile(
            QA, trainset=rows(60), valset=rows(60, start=500), budget=tf.Budget(calls=limit)
        ).report

    searched = sum(used.calls for phase, used in report.evidence.phases.items() if phase == "search")
    assert report.baseline.n == report.best.n == (limit - searched) // 2
    assert f"during the comparison, after {report.best.n} of 60 rows" in report.stop_reason


def test_candidates_run_side_by_side_up_to_the_threads(rows, metric):
    class Crowd(ScriptedLM):
        def __init__(self):
            self.in_flight = self.most = 0

            async def script(request):
                self.in_flight += 1
                self.most = max(self.most, self.in_flight)
                await asyncio.sleep(0.002)
                self.in_flight -= 1
                return f"[[ ## answer ## ]] {request.messages[-1].content.rsplit('q', 1)[1].split()[0]}"

            super().__init__(script)

    lm = Crowd()
    with tf.context(lm=lm, num_threads=32, cache=False):
        tf.BootstrapRS(metric, max_labeled_demos=4, max_bootstrapped_demos=0, num_candidate_programs=6).compile(
            QA, trainset=rows(60), valset=rows(40, start=500)
        )

    assert 8 < lm.most <= 32  # a look of the race is 8 rows of each candidate


@pytest.mark.parametrize(
    "wrong",
    [
        lambda rows, metric: tf.BootstrapRS(None).compile(QA, trainset=rows(40)),
        lambda rows, metric: tf.Tune(None).compile(QA, trainset=rows(40)),
        lambda rows, metric: tf.BootstrapRS(metric).compile(
            tf.Predict("question -> answer").freeze(), trainset=rows(40)
        ),
        lambda rows, metric: tf.Tune(metric).compile(tf.Module(), trainset=rows(40)),
    ],
)
def test_what_cannot_be_searched_is_refused_before_any_call(rows, metric, landscape, wrong):
    lm = landscape(0.3, 0.9)
    with tf.context(lm=lm), pytest.raises(tf.UsageError, match=r"`metric` is None|frozen|neither a predictor nor"):
        wrong(rows, metric)

    assert not lm.requests


def test_one_row_is_no_comparison(rows, metric, landscape):
    with tf.context(lm=landscape(0.0, 1.0)):
        compiled = tf.BootstrapRS(metric, num_candidate_programs=2).compile(
            QA, trainset=rows(60), valset=rows(1, start=500)
        )

    assert compiled.report.verdict == "not compared"
    assert "1 held-out row with a score of both tell nothing" in compiled.report.advice


def judging(example, prediction, trace=None):
    """A metric that needs something from outside: it is there, or not, or broken, and that is no part of the metric."""
    if os.environ.get("JUDGE") == "down" and example.question in ("q503", "q509"):
        raise ConnectionError("not there") if example.question == "q503" else ValueError("broken")
    return example.answer == prediction.answer


def test_what_failed_for_want_of_a_network_or_by_the_metric_is_tried_again_and_nothing_else(
    rows, landscape, tmp_path, monkeypatch
):
    lm, data = landscape(0.9, 0.9), {"trainset": rows(30), "valset": rows(30, start=500)}
    with tf.context(lm=lm, journal=tmp_path / "journal.sqlite"):
        monkeypatch.setenv("JUDGE", "down")
        first = tf.BootstrapFewShot(judging).compile(QA, **data, run="judged").report
        calls = len(lm.requests)
        monkeypatch.delenv("JUDGE")
        again = tf.BootstrapFewShot(judging).compile(QA, **data, run="judged").report

    assert first.warnings["infra error"] >= 1
    assert first.warnings["metric error"] >= 1
    assert not {"infra error", "metric error"} & again.warnings.keys()
    assert again.comparison.n == 30
    assert len(lm.requests) - calls <= 4  # the two rows, with the original and the candidate
