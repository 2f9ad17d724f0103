"""Callbacks: what they are told, in which order, and that they never harm a run."""

import asyncio
import logging
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

import tuneful as tf
from tuneful.program.watching.callback import BaseCallback, Callback, current_call_id
from tuneful.testing import ScriptedLM

ANSWER = "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"


@dataclass
class Told:
    hook: str
    call_id: str
    parent: str | None
    what: tuple[Any, ...]


@dataclass
class Recorder(Callback):
    """Keeps whatever it is told."""

    told: list[Told] = field(default_factory=list)

    def hooks(self):
        return [t.hook.removeprefix("on_") for t in self.told]

    def of(self, hook):
        return [t for t in self.told if t.hook == f"on_{hook}"]

    def parent_of(self, told):
        return next((t for t in self.told if t.call_id == told.parent and t.hook.endswith("_start")), None)


def _recording(name):
    def hook(self, call_id, *what):
        self.told.append(Told(name, call_id, current_call_id(), what))

    return hook


HOOKS = [name for name in vars(Callback) if name.startswith("on_")]
for name in HOOKS:
    setattr(Recorder, name, _recording(name))


class Sync(tf.Module):
    def __init__(self):
        self.ask = tf.Predict("question -> answer")
        self.seen = []

    def forward(self, question):
        self.seen.append(current_call_id())
        return self.ask(question=question)


class Async(Sync):
    async def forward(self, question):
        self.seen.append(current_call_id())
        first, second = await asyncio.gather(self.ask.acall(question=question), self.ask.acall(question=question))
        assert first.answer == second.answer
        return first


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def lm(recorder):
    lm = ScriptedLM(lambda r: ANSWER)
    tf.configure(lm=lm, callbacks=[recorder])
    return lm


ONE_RUN = [
    "module_start",
    "module_start",
    "adapter_format_start",
    "adapter_format_end",
    "lm_start",
    "lm_end",
    "adapter_parse_start",
    "adapter_parse_end",
    "module_end",
    "module_end",
]


def check_pairs(recorder):
    """Every start has exactly one end, of the same kind and under the same parent."""
    told = [t for t in recorder.told if t.hook != "on_compile_progress"]
    ids = Counter(t.call_id for t in told)
    assert set(ids.values()) == {2}
    by_id = {}
    for t in told:
        if t.call_id in by_id:
            begun = by_id[t.call_id]
            assert t.hook == begun.hook.replace("_start", "_end")
            assert t.parent == begun.parent
        else:
            assert t.hook.endswith("_start")
            by_id[t.call_id] = t


# --- what is told ---


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_run_is_told_from_the_outside_in(recorder, lm, asynchronous):
    program = Sync()
    if asynchronous:
        asyncio.run(program.acall(question="x?"))
    else:
        program(question="x?")

    assert recorder.hooks() == ONE_RUN
    check_pairs(recorder)
    outer, inner = recorder.of("module_start")
    assert outer.what == (program, {"question": "x?"})
    assert inner.what == (program.ask, {"question": "x?"})
    assert outer.parent is None
    assert inner.parent == outer.call_id
    for kind in ("adapter_format_start", "lm_start", "adapter_parse_start"):
        assert recorder.of(kind)[0].parent == inner.call_id
    assert program.seen == [outer.call_id]
    assert current_call_id() is None


def test_the_ends_bring_what_came_out(recorder, lm):
    prediction = Sync()(question="x?")

    assert [t.what[0] for t in recorder.of("module_end")] == [prediction, prediction]
    assert recorder.of("adapter_format_start")[0].what[1]["inputs"] == {"question": "x?"}
    assert recorder.of("adapter_format_end")[0].what[0].messages == lm.requests[0].messages
    parse = recorder.of("adapter_parse_start")[0].what[1]
    assert parse["completion"] == ANSWER
    assert "answer" in parse["signature"].output_fields
    assert recorder.of("adapter_parse_end")[0].what[0].fields == {"answer": "yes"}


def test_a_model_hook_is_given_the_request_as_sent_and_the_response(recorder, lm):
    tf.Predict("question -> answer", max_tokens=7)(question="x?", lm=lm.copy(temperature=0.5))

    asked, request = recorder.of("lm_start")[0].what
    response, exception = recorder.of("lm_end")[0].what
    assert request == lm.requests[0]
    assert (request.sampling.max_tokens, request.sampling.temperature) == (7, 0.5)
    assert asked.model == "scripted"
    assert response.text == ANSWER
    assert response.usage.completion_tokens > 0
    assert not response.hit
    assert exception is None


def test_a_plain_call_of_an_lm_is_told_too(recorder, lm):
    assert lm("hello") == [ANSWER]
    assert recorder.hooks() == ["lm_start", "lm_end"]
    assert recorder.told[0].parent is None


def test_an_answer_from_the_cache_says_so(recorder, tmp_path):
    tf.configure(cache=str(tmp_path / "cache.sqlite"), callbacks=[recorder])
    lm = ScriptedLM(lambda r: ANSWER, cache=True)
    ask = tf.Predict("question -> answer")
    ask(question="x?", lm=lm)
    ask(question="x?", lm=lm)

    first, second = (t.what[0] for t in recorder.of("lm_end"))
    assert (first.hit, second.hit) == (False, True)
    assert (first.charged.calls, second.charged.calls) == (1, 0)


def test_retries_are_in_the_response(recorder):
    tf.configure(callbacks=[recorder])
    lm = ScriptedLM([tf.LMServerError("busy", retry_after_s=0.0), ANSWER], num_retries=1)
    tf.Predict("question -> answer")(question="x?", lm=lm)

    assert recorder.of("lm_end")[0].what[0].usage.retries == 1


def test_a_repair_turn_is_a_second_call_and_a_second_reading(recorder):
    tf.configure(callbacks=[recorder], lm=ScriptedLM(["[[ ## number ## ]]\nmany", "[[ ## number ## ]]\n3"]))
    assert tf.Predict("question -> number: int")(question="x?").number == 3

    assert recorder.hooks().count("lm_start") == 2
    first, second = (t.what[0] for t in recorder.of("adapter_parse_end"))
    assert list(first.problems) == ["number"]
    assert not second.problems
    check_pairs(recorder)


def test_positional_arguments_are_told_by_their_names(recorder, lm):
    Sync()("x?")
    assert recorder.told[0].what[1] == {"question": "x?"}


def test_rendering_writes_a_request_and_asks_nobody(recorder, lm):
    tf.Predict("question -> answer").render(question="x?")
    assert recorder.hooks() == ["adapter_format_start", "adapter_format_end"]


# --- failures ---


def test_a_failure_is_told_to_every_level(recorder):
    error = tf.LMAuthError("no")
    tf.configure(callbacks=[recorder], lm=ScriptedLM([error]))
    with pytest.raises(tf.LMAuthError):
        Sync()(question="x?")

    check_pairs(recorder)
    ends = [*recorder.of("lm_end"), *recorder.of("module_end")]
    assert [t.what for t in ends] == [(None, error)] * 3


def test_arguments_that_do_not_fit_are_told_as_a_failed_run(recorder, lm):
    with pytest.raises(tf.InputError):
        Sync()(query="x?")
    assert isinstance(recorder.of("module_end")[0].what[1], tf.InputError)
    assert lm.requests == []


@pytest.mark.parametrize("program", [Sync, Async])
def test_a_cancelled_run_ends_as_well(recorder, program):
    tf.configure(callbacks=[recorder], lm=ScriptedLM(lambda r: ANSWER, seconds=30))
    example = tf.Example(question="x?", answer="yes").with_inputs("question")
    result = tf.Evaluate(devset=[example], metric=lambda e, p: True, timeout_s=0.1)(program())

    assert result.rows[0].status == "timeout"
    run = recorder.of("module_start")[0].call_id
    ended = next(t for t in recorder.of("module_end") if t.call_id == run)
    assert isinstance(ended.what[1], asyncio.CancelledError)
    assert recorder.of("evaluate_end")[0].what == (result, None)


# --- threads and tasks ---


@pytest.mark.parametrize("program", [Sync, Async])
def test_calls_nest_rightly_with_many_in_flight(recorder, program):
    tf.configure(callbacks=[recorder], lm=ScriptedLM(lambda r: ANSWER, seconds=0.002))
    devset = [tf.Example(question=f"q{i}", answer="yes").with_inputs("question") for i in range(64)]
    tf.Evaluate(devset=devset, metric=lambda e, p: p.answer == e.answer, num_threads=32)(program())

    check_pairs(recorder)
    calls = recorder.of("lm_start")
    assert len(calls) == 64 * (2 if program is Async else 1)
    for call in calls:
        predictor = recorder.parent_of(call)
        run = recorder.parent_of(predictor)
        evaluation = recorder.parent_of(run)
        asked = predictor.what[1]["question"]
        assert run.what[1]["question"] == asked
        assert asked in call.what[1].messages[-1].text.split()
        assert evaluation.hook == "on_evaluate_start"
        assert evaluation.parent is None


def test_two_threads_do_not_see_each_other(lm, recorder):
    barrier = threading.Barrier(2)

    class Waiting(tf.Module):
        def forward(self):
            barrier.wait(5)
            return current_call_id()

    found = []
    threads = [threading.Thread(target=lambda: found.append(Waiting()())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(found)) == 2
    assert {t.parent for t in recorder.told} == {None}


# --- streams ---


async def test_a_stream_is_one_call(recorder, lm):
    request = lm.as_sent(tf.Predict("question -> answer").render(question="x?").request)
    recorder.told.clear()
    inside = [current_call_id() async for _ in lm.stream(request)]

    assert recorder.hooks() == ["lm_start", "lm_end"]
    assert recorder.told[0].what == (lm, request)
    assert recorder.told[1].what[0].text == ANSWER
    assert set(inside) == {None}  # who hears a stream is not part of it


async def test_a_stream_that_is_left_early_has_ended(recorder, lm):
    request = tf.Predict("question -> answer").render(question="x?").request
    recorder.told.clear()
    stream = lm.stream(request)
    await anext(stream)
    await stream.aclose()

    outputs, exception = recorder.of("lm_end")[0].what
    assert outputs is None
    assert isinstance(exception, GeneratorExit)


def test_a_program_that_is_streamed_is_told_as_one_that_is_not(recorder, lm):
    list(Sync().stream(question="x?"))
    assert recorder.hooks() == ONE_RUN
    check_pairs(recorder)


# --- evaluations and compiles ---


def test_an_evaluation_and_a_compile_are_told_with_what_they_return(recorder, lm):
    devset = [tf.Example(question=str(i), answer="yes").with_inputs("question") for i in range(3)]
    metric = tf.metrics.answer_exact_match
    program, evaluate = tf.Predict("question -> answer"), tf.Evaluate(devset=devset, metric=metric)
    result = evaluate(program)
    teleprompter = tf.LabeledFewShot(k=2)
    compiled = teleprompter.compile(program, trainset=devset, seed=3)

    check_pairs(recorder)
    begun, ended = recorder.of("evaluate_start")[0], recorder.of("evaluate_end")[0]
    assert begun.what == (evaluate, {"program": program, "metric": metric, "devset": devset})
    assert ended.what == (result, None)
    begun, ended = recorder.of("compile_start")[0], recorder.of("compile_end")[0]
    assert begun.what[0] is teleprompter
    assert begun.what[1]["student"] is program
    assert (begun.what[1]["trainset"], begun.what[1]["seed"]) == (devset, 3)
    assert ended.what == (compiled, None)


# --- who is told ---


def test_a_context_tells_its_own_callbacks_alone(recorder, lm):
    other = Recorder()
    with tf.context(callbacks=[other]):
        lm("a")
    with tf.context(callbacks=[]):
        lm("b")
    assert other.hooks() == ["lm_start", "lm_end"]
    assert recorder.told == []
    lm("c")
    assert recorder.hooks() == ["lm_start", "lm_end"]


def test_the_end_is_told_to_whoever_was_told_the_start(recorder, lm):
    class Unsetting(tf.Module):
        def forward(self):
            tf.configure(callbacks=[])
            return lm("a")

    Unsetting()()
    assert recorder.hooks() == ["module_start", "module_end"]


def test_several_are_told_in_order(lm):
    order = []

    class Naming(Callback):
        def __init__(self, name):
            self.name = name

        def on_lm_start(self, call_id, instance, inputs):
            order.append(self.name)

    with tf.context(callbacks=(Naming("a"), Naming("b"))):
        lm("hello")
    assert order == ["a", "b"]


def test_the_fields_name_for_it_works():
    assert BaseCallback is Callback


class Broken(Callback):
    def on_lm_start(self, call_id, instance, inputs):
        raise ValueError("a slip of the pen")


def test_a_hook_that_raises_breaks_nothing_and_is_logged_once_aloud(recorder, lm, caplog):
    tf.configure(callbacks=[Broken(), recorder])
    with caplog.at_level(logging.DEBUG, "tuneful.program.watching.callback"):
        assert [Sync()(question="x?").answer for _ in range(3)] == ["yes"] * 3

    assert [r.levelname for r in caplog.records] == ["WARNING", "DEBUG", "DEBUG"]
    assert "Broken.on_lm_start raised" in caplog.text
    assert "a slip of the pen" in caplog.text
    assert "Traceback" in caplog.text
    assert recorder.hooks() == ONE_RUN * 3


def test_a_hook_that_raises_is_logged_for_each_callback_and_each_hook(lm, caplog):
    class Worse(Broken):
        def on_lm_end(self, call_id, outputs, exception=None):
            raise KeyError("more")

    tf.configure(callbacks=[Broken(), Worse()])
    lm("a")
    lm("b")
    assert [r.args[:2] for r in caplog.records if r.levelno == logging.WARNING] == [
        ("Broken", "on_lm_start"),
        ("Worse", "on_lm_start"),
        ("Worse", "on_lm_end"),
    ]


class Unawaited(Callback):
    async def on_lm_end(self, call_id, outputs, exception=None):
        pass


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([Recorder], "it is a class, make an instance"),
        (Recorder(), r"callbacks=\[\.\.\.\]"),
        ("otel", r"callbacks=\[\.\.\.\]"),
        (None, r"callbacks=\[\.\.\.\]"),
        ([print], "no tf.Callback object"),
        ([Unawaited()], "Unawaited.on_lm_end` is an `async def`"),
    ],
)
def test_what_is_no_callback_is_refused_when_it_is_set(value, message):
    with pytest.raises(tf.UsageError, match=message):
        tf.configure(callbacks=value)
    assert tf.settings.callbacks == ()
