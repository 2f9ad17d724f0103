"""Evaluation over a data set: every row has an outcome, and nothing is scored that says nothing."""

import asyncio
import csv
import errno
import json
import socket
import sys
import threading
import time

import pytest
from asked import QA, exact

import tuneful as tf
from tuneful.testing import ScriptedLM


def rows(n, **more):
    return [tf.Example(question=f"q{i}", answer=f"a{i}", **more).with_inputs("question") for i in range(n)]


def number(request):
    return request.messages[-1].content.rsplit("q", 1)[1].split()[0]


def echo(request):
    return f"[[ ## answer ## ]] a{number(request)}"


def test_score_is_per_cent_with_an_interval_and_rows_in_order():
    lm = ScriptedLM(lambda r: echo(r) if int(number(r)) % 2 else "[[ ## answer ## ]] no")

    with tf.context(lm=lm):
        result = tf.Evaluate(devset=rows(40), metric=exact)(QA)

    assert result.score == 50.0
    assert result.interval[0] < 50 < result.interval[1]
    assert result.n == 40
    assert [r.example.question for r in result.rows] == [f"q{i}" for i in range(40)]
    assert result.rows[3].prediction.answer == "a3"
    assert result.results[3][2] == 1.0
    assert result.usage.calls == 40


def test_infrastructure_failures_are_reported_apart_and_never_scored():
    def script(request):
        return tf.LMServerError("down") if number(request) == "3" else echo(request)

    with tf.context(lm=ScriptedLM(script)):
        result = tf.Evaluate(devset=rows(10), metric=exact)(QA)

    assert result.score == 100.0
    assert result.n == 9
    assert result.rows[3].status == "infra_error"
    assert result.rows[3].score is None
    assert "down" in result.rows[3].error
    assert "1 infra_error" in repr(result)


def test_an_unparsable_answer_counts_as_the_failure_score():
    signature = "question -> answer: int"

    with tf.context(
        lm=ScriptedLM(lambda r: "[[ ## answer ## ]] " + ("words" if "q1" in r.messages[1].content else "7"))
    ):
        result = tf.Evaluate(devset=rows(4), metric=lambda e, p: p.answer == 7)(tf.Predict(signature))

    assert [r.status for r in result.rows] == ["ok", "parse_error", "ok", "ok"]
    assert result.score == 75.0
    assert result.noted["repair turn"] == 1
    assert "1 x repair turn" in repr(result)


def test_a_metric_that_raises_on_some_rows_leaves_them_out():
    def metric(example, prediction):
        if example.question == "q4":
            raise ZeroDivisionError("in my metric")
        return True

    with tf.context(lm=ScriptedLM(echo)):
        result = tf.Evaluate(devset=rows(6), metric=metric, num_threads=1)(QA)

    assert result.rows[4].status == "metric_error"
    assert "in my metric" in result.rows[4].error
    assert result.n == 5


def test_a_metric_that_always_raises_stops_the_run_at_once_with_its_traceback():
    lm = ScriptedLM(echo)

    def metric(example, prediction):
        return prediction.no_such_field

    with tf.context(lm=lm), pytest.raises(tf.MetricError, match="no_such_field") as caught:
        tf.Evaluate(devset=rows(100), metric=metric, num_threads=2)(QA)

    assert len(lm.requests) <= 5
    assert isinstance(caught.value.__cause__, AttributeError)


def test_a_program_that_always_raises_stops_the_run_and_keeps_its_rows():
    class Broken(tf.Module):
        def forward(self, question):
            raise RuntimeError("my bug")

    with pytest.raises(tf.EvaluationError, match="my bug") as caught:
        tf.Evaluate(devset=rows(50), metric=exact)(Broken())

    assert 3 <= len(caught.value.rows) <= 50


def test_constraints_that_every_first_answer_breaks_do_not_stop_it_since_the_program_is_whole():
    class Strict(tf.Module):
        def __init__(self):
            self.answer = tf.Predict("question -> answer")

        def forward(self, question):
            found = self.answer(question=question)
            tf.Assert(found.answer not in ("a0", "a1", "a2"), "Give another answer.")
            return found

    with tf.context(lm=ScriptedLM(echo), num_threads=1):
        result = tf.Evaluate(devset=rows(5), metric=exact)(Strict())
    assert result.statuses == {"program_error": 3, "ok": 2}
    assert result.score == 40


def test_an_example_past_its_deadline_is_cancelled_and_the_others_are_not():
    async def script(request):
        if number(request) == "2":
            await asyncio.sleep(60)
        return echo(request)

    begun = time.monotonic()
    with tf.context(lm=ScriptedLM(script)):
        result = tf.Evaluate(devset=rows(5), metric=exact, timeout_s=0.5)(QA)

    assert time.monotonic() - begun < 20
    assert [r.status for r in result.rows] == ["ok", "ok", "timeout", "ok", "ok"]


def test_num_threads_bounds_what_is_in_flight():
    flying, most, lock = 0, 0, threading.Lock()

    async def script(request):
        nonlocal flying, most
        with lock:
            flying += 1
            most = max(most, flying)
        await asyncio.sleep(0.01)
        with lock:
            flying -= 1
        return echo(request)

    with tf.context(lm=ScriptedLM(script)):
        tf.Evaluate(devset=rows(30), metric=exact, num_threads=3)(QA)

    assert most == 3


async def test_evaluation_runs_inside_a_running_loop():
    with tf.context(lm=ScriptedLM(echo)):
        result = await tf.Evaluate(devset=rows(5), metric=exact).acall(QA)

    assert result.score == 100.0


def test_blocking_evaluations_in_many_threads_do_not_disturb_one_another():
    scores = {}

    def work(i):
        lm = ScriptedLM(echo if i % 2 else lambda r: "[[ ## answer ## ]] no")
        with tf.context(lm=lm):
            scores[i] = tf.Evaluate(devset=rows(10), metric=exact)(QA).score

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()

    assert scores == {i: 100.0 if i % 2 else 0.0 for i in range(8)}


def test_the_metric_sees_the_trace_of_the_run():
    def metric(example, prediction, trace=None):
        assert trace is None
        return [s.path for s in prediction.trace] == ["predict"]

    with tf.context(lm=ScriptedLM(lambda r: "[[ ## reasoning ## ]] so\n[[ ## answer ## ]] x")):
        assert tf.Evaluate(devset=rows(3), metric=metric)(tf.ChainOfThought("question -> answer")).score == 100.0


def test_compare_is_paired_on_the_same_examples():
    devset = rows(30)
    with tf.context(lm=ScriptedLM(lambda r: "[[ ## answer ## ]] no")):
        bad = tf.Evaluate(devset=devset, metric=exact)(QA)
    with tf.context(lm=ScriptedLM(echo)):
        good = tf.Evaluate(devset=devset, metric=exact)(QA)

    assert bad.compare(good).better
    with pytest.raises(tf.DataError, match="same examples"):
        bad.compare(tf.EvaluationResult(good.rows[:5]))


def test_rows_are_saved_as_csv_and_json_in_utf_8(tmp_path):
    devset = [tf.Example(question="q0 é", answer="a0").with_inputs("question")]
    with tf.context(lm=ScriptedLM(lambda r: "[[ ## answer ## ]] ü")):
        tf.Evaluate(devset=devset, metric=exact, save_as_csv=tmp_path / "r.csv", save_as_json=tmp_path / "r.json")(QA)

    (row,) = csv.DictReader((tmp_path / "r.csv").read_text(encoding="utf-8").splitlines())
    saved = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert (row["question"], row["predicted_answer"], row["score"]) == ("q0 é", "ü", "0.0")
    assert saved["rows"][0]["predicted_answer"] == "ü"


def test_halves_of_characters_are_saved_as_escapes(tmp_path):
    devset = [tf.Example(question="q0 \ud83d", answer="a0").with_inputs("question")]
    with tf.context(lm=ScriptedLM(lambda r: "[[ ## answer ## ]] \ud83d")):
        tf.Evaluate(devset=devset, metric=exact, save_as_csv=tmp_path / "r.csv", save_as_json=tmp_path / "r.json")(QA)

    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["rows"][0]["predicted_answer"] == "\ud83d"
    assert "q0 \\ud83d" in (tmp_path / "r.csv").read_text(encoding="utf-8")


def test_display_table_prints_rows_and_progress_is_silent_when_piped(capsys):
    with tf.context(lm=ScriptedLM(echo)):
        tf.Evaluate(devset=rows(3), metric=exact, display_table=2, display_progress=True)(QA)

    captured = capsys.readouterr()
    assert "q1" in captured.out
    assert "q2" not in captured.out
    assert captured.err == ""


@pytest.mark.parametrize(
    ("devset", "message"),
    [([], "empty"), ([tf.Example(question="q")], "with_inputs"), ([{"question": "q"}], "not an Example")],
)
def test_unusable_examples_are_refused_before_any_call(devset, message):
    with pytest.raises(tf.DataError, match=message):
        tf.Evaluate(devset=devset, metric=exact)


def test_examples_that_do_not_fit_the_program_are_refused_before_any_call():
    class Program(tf.Module):
        def forward(self, topic):
            return None

    lm = ScriptedLM(echo)
    with tf.context(lm=lm):
        with pytest.raises(tf.DataError, match="topic"):
            tf.Evaluate(devset=rows(2), metric=exact)(Program())
        with pytest.raises(tf.InputError, match="no value for input field `city`"):
            tf.Evaluate(devset=rows(2), metric=exact)(tf.Predict("question, city -> answer"))

    assert lm.requests == []


def test_max_errors_stops_the_run():
    lm = ScriptedLM(lambda r: echo(r) if number(r) in {"0", "1", "2"} else tf.LMServerError("down"))
    with tf.context(lm=lm), pytest.raises(tf.EvaluationError, match="max_errors=2") as caught:
        tf.Evaluate(devset=rows(60), metric=exact, num_threads=1, max_errors=2)(QA)

    assert len(caught.value.rows) == 6


def test_a_budget_stops_an_evaluation():
    from tuneful.backends.budget import Meter
    from tuneful.backends.metered import metered

    lm = ScriptedLM(echo)
    with tf.context(lm=lm), metered(Meter(tf.Budget(calls=5))), pytest.raises(tf.BudgetExceeded):
        tf.Evaluate(devset=rows(60), metric=exact)(QA)

    assert len(lm.requests) == 5


def test_a_deadline_also_cancels_the_calls_of_a_plain_forward():
    outcomes = []

    async def script(request):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            outcomes.append("cancelled")
            raise

    class Plain(tf.Module):
        def __init__(self):
            self.step = tf.Predict("question -> answer")

        def forward(self, question):
            try:
                return self.step(question=question)
            finally:  # a careless program goes on all the same
                self.step(question="again")

    lm = ScriptedLM(script)
    begun = time.monotonic()
    with tf.context(lm=lm):
        result = tf.Evaluate(devset=rows(2), metric=exact, timeout_s=0.3)(Plain())
    while len(outcomes) < 2 and time.monotonic() - begun < 10:
        time.sleep(0.01)

    assert [r.status for r in result.rows] == ["timeout", "timeout"]
    assert outcomes == ["cancelled", "cancelled"]
    assert len(lm.requests) == 2  # nothing more was sent


class Asking(tf.Module):
    """Asks, after what the test has it do with the question."""

    def __init__(self, first):
        self.first = first
        self.answer = tf.Predict("question -> answer")

    def forward(self, question):
        self.first(question)
        return self.answer(question=question)


class AskingLater(Asking):
    async def forward(self, question):
        self.first(question)
        return await self.answer.acall(question=question)


def leaving(question):
    if question == "q3":
        sys.exit("enough")


@pytest.mark.parametrize("kind", [Asking, AskingLater])
def test_code_that_calls_sys_exit_fails_its_row_alone(kind):
    def metric(example, prediction, trace=None):
        if example.question == "q5":
            sys.exit(1)
        return exact(example, prediction)

    async def metric_later(example, prediction, trace=None):
        return metric(example, prediction)

    for one in (metric, metric_later):
        with tf.context(lm=ScriptedLM(echo)):
            result = tf.Evaluate(devset=rows(20), metric=one, num_threads=4)(kind(leaving))
        assert {i: row.status for i, row in enumerate(result.rows) if row.status != "ok"} == {
            3: "program_error",
            5: "metric_error",
        }
        assert "SystemExit: enough" in result.rows[3].error


@pytest.mark.parametrize("kind", [Asking, AskingLater])
def test_sys_exit_outside_of_an_evaluation_is_the_callers_and_the_next_call_goes_on(kind):
    program = kind(leaving)
    with tf.context(lm=ScriptedLM(echo)):
        with pytest.raises(SystemExit, match="enough"):
            program(question="q3")
        with pytest.raises(SystemExit, match="enough"):
            tf.Parallel(num_threads=2)([(program, {"question": q}) for q in ("q1", "q3")])
        assert program(question="q4").answer == "a4"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConnectionError("refused"), "infra_error"),
        (TimeoutError("the search took too long"), "infra_error"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "infra_error"),
        (socket.gaierror(-3, "Temporary failure in name resolution"), "infra_error"),
        (FileNotFoundError("passages.txt"), "program_error"),
        (ValueError("no"), "program_error"),
    ],
)
def test_the_network_of_the_users_own_code_is_infrastructure_and_a_missing_file_is_not(error, status):
    def failing(question):
        if question == "q3":
            raise error

    def judging(example, prediction, trace=None):
        failing(example.question)
        return exact(example, prediction)

    with tf.context(lm=ScriptedLM(echo)):
        in_program = tf.Evaluate(devset=rows(8), metric=exact)(Asking(failing))
        in_metric = tf.Evaluate(devset=rows(8), metric=judging)(QA)

    assert in_program.rows[3].status == status
    assert in_metric.rows[3].status == status.replace("program", "metric")
    assert in_program.score == (100.0 if status == "infra_error" else 87.5)


def test_which_rows_are_the_first_is_not_for_threads_to_say():
    """Rows 3, 4 and 5 fail at once; the first three take their time, and are right."""

    async def slow(example, prediction, trace=None):
        if int(example.question[1:]) in (3, 4, 5):
            raise ValueError("no")
        await asyncio.sleep(0.05)
        return exact(example, prediction)

    with tf.context(lm=ScriptedLM(echo)):
        result = tf.Evaluate(devset=rows(12), metric=slow, num_threads=12)(QA)

    assert [row.status for row in result.rows].count("metric_error") == 3


# --- the first rows are the first ones of the data set, whichever is done first ---


def slow_at(*numbers):
    """Return a script that answers some rows after all others."""

    async def script(request):
        if int(number(request)) in numbers:
            await asyncio.sleep(0.3)
        return echo(request)

    return script


def broken_but_for(*questions):
    def metric(example, prediction):
        if example.question in questions:
            return True
        raise LookupError(example.question)

    return metric


def test_a_run_whose_first_row_is_fine_goes_on_also_where_that_row_is_done_last():
    with tf.context(lm=ScriptedLM(slow_at(0))):
        result = tf.Evaluate(devset=rows(6), metric=broken_but_for("q0"), num_threads=6)(QA)

    assert result.statuses == {"ok": 1, "metric_error": 5}


@pytest.mark.parametrize("slow", [0, 1, 2])
def test_a_hopeless_run_stops_with_its_first_failure_whichever_is_done_first(slow):
    with tf.context(lm=ScriptedLM(slow_at(slow))), pytest.raises(tf.MetricError, match="LookupError: q0"):
        tf.Evaluate(devset=rows(6), metric=broken_but_for("q3", "q4", "q5"), num_threads=6)(QA)


@pytest.mark.parametrize("slow", [0, 2, 4])
def test_max_errors_stops_at_the_same_row_whatever_the_timing(slow):
    with tf.context(lm=ScriptedLM(slow_at(slow))), pytest.raises(tf.EvaluationError, match="LookupError: q4") as caught:
        tf.Evaluate(devset=rows(8), metric=broken_but_for("q0", "q2"), num_threads=8, max_errors=2)(QA)

    assert [r.example.question for r in caught.value.rows] == ["q0", "q1", "q2", "q3", "q4"]
