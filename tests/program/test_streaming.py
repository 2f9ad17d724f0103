"""Hearing a program while it runs."""

import asyncio
import gc
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import tuneful as tf
from tuneful.backends.base import Backend
from tuneful.backends.budget import Meter
from tuneful.backends.local import find as local
from tuneful.backends.metered import metered
from tuneful.program.watching.events import FieldEnded, FieldPiece, FieldStarted, Finished, ReasoningPiece, Retracted
from tuneful.program.watching.streaming import streamify
from tuneful.testing import DummyLM, ScriptedLM
from tuneful.wire.response import Choice, Delta, Response


def chat(**fields):
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()) + "\n\n[[ ## completed ## ]]"


def echo(request):
    """Answer a chat prompt of one input with its last line, in three words."""
    return chat(answer=f"so {request.messages[-1].text.splitlines()[-1]} said")


async def collected(events):
    return [event async for event in events]


def told(events, path=None):
    """Return the joined pieces by field, of one predictor or of all."""
    found = {}
    for e in events:
        if isinstance(e, FieldPiece) and path in (None, e.path):
            found[e.field] = found.get(e.field, "") + e.text
    return found


class Steps(tf.Module):
    def __init__(self):
        self.steps = [tf.Predict("question -> answer") for _ in range(2)]

    def forward(self, question):
        first = self.steps[0](question=question).answer
        return self.steps[1](question=first)


class AsyncSteps(Steps):
    async def forward(self, question):
        first = (await self.steps[0].acall(question=question)).answer
        return await self.steps[1].acall(question=first)


class Outer(tf.Module):
    def __init__(self, inner):
        self.inner = inner

    def forward(self, question):
        return self.inner(question=question)


class AsyncOuter(Outer):
    async def forward(self, question):
        return await self.inner.acall(question=question)


PROGRAMS = [Steps, AsyncSteps, lambda: Outer(Steps()), lambda: Outer(AsyncSteps()), lambda: AsyncOuter(Steps())]
each_program = pytest.mark.parametrize("make", PROGRAMS, ids=["sync", "async", "sync-sync", "sync-async", "async-sync"])


# --- what is heard ---


def test_every_field_is_heard_from_its_start_to_its_value():
    lm = ScriptedLM([chat(reasoning="two and two", answer="4")])
    events = list(tf.ChainOfThought("question -> answer: int").using(lm=lm).stream(question="2+2?"))
    assert events[:-1] == [
        FieldStarted("predict", "reasoning"),
        FieldPiece("predict", "reasoning", "two"),
        FieldPiece("predict", "reasoning", " and"),
        FieldPiece("predict", "reasoning", " two"),
        FieldStarted("predict", "answer"),
        FieldEnded("predict", "reasoning", "two and two"),
        FieldEnded("predict", "answer", 4),
    ]
    assert isinstance(events[-1], Finished)
    assert events[-1].prediction.answer == 4


@pytest.mark.parametrize("adapter", ["chat", "compact", "json"])
def test_pieces_come_with_every_adapter_while_the_model_writes(adapter):
    from tuneful.adapters.select import ADAPTERS

    value = "a somewhat longer answer"
    lm = DummyLM([{"answer": value}], adapter=ADAPTERS[adapter], piece=3)
    events = list(tf.Predict("question -> answer").using(lm=lm, adapter=adapter).stream(question="x"))
    assert told(events) == {"answer": value}
    assert sum(isinstance(e, FieldPiece) for e in events) > 5


@each_program
async def test_programs_of_every_make_are_heard_by_blocking_and_by_async_callers(make):
    program = make()
    paths = [p for p, _ in program.named_predictors()]
    lm = ScriptedLM(echo)
    with tf.context(lm=lm):
        plain = await program.acall(question="x")
        heard = await collected(program.astream(question="x"))
        blocking = await asyncio.to_thread(lambda: list(program.stream(question="x")))
        in_the_loop = list(program.stream(question="x"))  # as a notebook does
    for events in (heard, blocking, in_the_loop):
        assert events[:-1] == heard[:-1]
        assert told(events, paths[0]) == {"answer": "so x said"}
        assert told(events, paths[1]) == {"answer": "so so x said said"}
        assert [e.path for e in events if isinstance(e, FieldEnded)] == paths
        found = events[-1].prediction
        assert found == plain
        assert [(s.path, s.inputs, s.outputs, s.request) for s in found.trace] == [
            (s.path, s.inputs, s.outputs, s.request) for s in plain.trace
        ]


async def test_predictors_that_run_at_once_are_told_apart_by_their_path():
    class Both(Steps):
        async def forward(self, question):
            return await asyncio.gather(*(s.acall(question=f"{question}{i}") for i, s in enumerate(self.steps)))

    with tf.context(lm=ScriptedLM(echo, seconds=0.05, piece=4)):
        events = await collected(Both().astream(question="x"))
    for i in range(2):
        assert told(events, f"steps[{i}]") == {"answer": f"so x{i} said"}
    order = [e.path for e in events if isinstance(e, FieldPiece)]
    assert order != sorted(order)  # they took turns
    assert [p.answer for p in events[-1].prediction] == ["so x0 said", "so x1 said"]


def test_thoughts_of_a_reasoning_model_are_heard():
    lm = ScriptedLM([Response((Choice(chat(answer="4"), reasoning="let me see"),))])
    events = list(tf.Predict("question -> answer").using(lm=lm).stream(question="x"))
    assert events[0] == ReasoningPiece("", "let me see")
    assert told(events) == {"answer": "4"}


@pytest.mark.parametrize("result", [None, 3, ["a", "b"], {"k": 1}])
async def test_a_program_may_return_anything(result):
    class Program(tf.Module):
        def forward(self):
            return result

    assert list(Program().stream()) == [Finished(result)]
    assert await collected(Program().astream()) == [Finished(result)]


def test_only_the_first_sample_is_heard_and_no_repair_of_another():
    answers = [chat(answer=1), chat(answer="none of them"), chat(answer=3)]
    lm = ScriptedLM([answers, chat(answer=2)])
    predictor = tf.Predict("question -> answer: int", n=3, temperature=1.0).using(lm=lm)
    events = list(predictor.stream(question="x"))
    assert events[:-1] == [FieldStarted("", "answer"), FieldEnded("", "answer", 1)]
    assert events[-1].prediction.completions.answer == [1, 2, 3]


def test_a_cached_answer_is_heard_in_one_piece(tmp_path):
    lm = ScriptedLM(lambda r: chat(answer="in some words"), cache=True)
    predictor = tf.Predict("question -> answer").using(lm=lm)
    with tf.context(cache=tf.Cache(tmp_path / "cache.sqlite")):
        first, again = (list(predictor.stream(question="x")) for _ in range(2))
    assert [e.text for e in first if isinstance(e, FieldPiece)] == ["in", " some", " words"]
    assert [e.text for e in again if isinstance(e, FieldPiece)] == ["in some words"]
    assert again[-1] == first[-1]
    assert len(lm.requests) == 1


def test_a_streamed_call_is_charged_once():
    with tf.track_usage() as meter:
        list(Steps().using(lm=ScriptedLM(echo)).stream(question="x"))
    assert meter.usage.calls == 2


def test_values_that_are_told_are_not_those_of_the_prediction():
    lm = ScriptedLM([chat(answer='["a"]')])
    *_, ended, finished = tf.Predict("question -> answer: list[str]").using(lm=lm).stream(question="x")
    ended.value.append("b")
    assert finished.prediction.answer == ["a"]


# --- what goes wrong ---


def test_an_answer_that_cannot_be_read_is_retracted_and_comes_again():
    lm = ScriptedLM([chat(answer="plenty", why="so far"), chat(answer=2, why="counted")])
    events = list(tf.Predict("question -> answer: int, why").using(lm=lm).stream(question="x"))
    retracted = next(i for i, e in enumerate(events) if isinstance(e, Retracted))
    assert "`answer`" in events[retracted].reason
    assert told(events[:retracted]) == {"why": "so far"}
    assert told(events[retracted:]) == {"why": "counted"}
    assert [(e.field, e.value) for e in events if isinstance(e, FieldEnded)] == [("answer", 2), ("why", "counted")]
    assert events[-1].prediction.answer == 2


def test_a_repair_that_gives_only_the_wrong_field_ends_the_others_too():
    lm = ScriptedLM([chat(answer="plenty", why="so far"), chat(answer=2)])
    events = list(tf.Predict("question -> answer: int, why").using(lm=lm).stream(question="x"))
    assert {e.field: e.value for e in events if isinstance(e, FieldEnded)} == {"answer": 2, "why": "so far"}
    assert sum(isinstance(e, Retracted) for e in events) == 1
    assert events[-1].prediction.to_dict() == {"answer": 2, "why": "so far"}


def test_an_answer_that_was_cut_off_says_so():
    lm = ScriptedLM([Response((Choice("[[ ## a ## ]]\nx", "length"),)), chat(a="x", b="y")])
    events = list(tf.Predict("q -> a, b", max_tokens=5).using(lm=lm).stream(q="x"))
    assert [e.reason.partition(";")[0] for e in events if isinstance(e, Retracted)] == [
        "the answer was cut off at its most tokens"
    ]
    assert told(events) == {"a": "xx", "b": "y"}


@each_program
async def test_what_the_program_raises_comes_after_the_events_so_far(make):
    program = make()

    def script(request):
        return echo(request) if "so" not in request.messages[-1].text else ValueError("own")

    async def listen(program, heard):
        async for event in program.astream(question="x"):
            heard.append(event)

    heard = []
    with tf.context(lm=ScriptedLM(script)):
        with pytest.raises(ValueError, match="own"):
            await listen(program, heard)
        blocking = program.stream(question="x")
        assert [next(blocking) for _ in heard] == heard
        with pytest.raises(ValueError, match="own"):
            next(blocking)
    assert told(heard) == {"answer": "so x said"}
    assert not any(isinstance(e, Finished) for e in heard)


def test_unreadable_answers_input_errors_and_budgets_raise_as_ever():
    predictor = tf.Predict("question -> answer: int")
    with pytest.raises(tf.AdapterParseError):
        list(predictor.using(lm=ScriptedLM([chat(answer="x"), chat(answer="y")])).stream(question="x"))
    lm = ScriptedLM([])
    with pytest.raises(tf.InputError):
        list(predictor.using(lm=lm).stream(qestion="x"))
    assert lm.requests == []
    with metered(Meter(tf.Budget(calls=1))), pytest.raises(tf.BudgetExceeded):
        list(Steps().using(lm=ScriptedLM(echo)).stream(question="x"))


class Breaking(Backend):
    """Says half of its answer and fails."""

    endpoint = "breaking"

    async def stream(self, request):
        yield Delta("[[ ## answer ## ]]\nhalf of")
        raise tf.LMTransportError("the line broke")


def test_what_a_broken_answer_said_is_taken_back():
    class Fallback(Steps):
        def forward(self, question):
            try:
                return self.steps[0](question=question)
            except tf.LMError:
                return self.steps[1](question=question)

    program = Fallback()
    program.steps[0].lm = tf.LM("breaking", backend=Breaking())
    program.steps[1].lm = ScriptedLM(echo)
    events = list(program.stream(question="x"))
    assert events[:3] == [
        FieldStarted("steps[0]", "answer"),
        FieldPiece("steps[0]", "answer", "half of"),
        Retracted("steps[0]", "the line broke"),
    ]
    assert told(events[3:]) == {"answer": "so x said"}


# --- leaving early ---


class Endless(Backend):
    """Goes on until it is left; `left` says that it was."""

    endpoint = "endless"

    def __init__(self):
        self.left = threading.Event()
        self.calls = 0

    async def stream(self, request):
        self.calls += 1
        try:
            yield Delta("[[ ## answer ## ]]\n")
            while True:
                yield Delta("word ")
                await asyncio.sleep(0.001)
        finally:
            self.left.set()


def endless(make):
    backend = Endless()
    return make().using(lm=tf.LM("endless", backend=backend)), backend


@each_program
def test_leaving_a_blocking_iterator_cancels_the_run(make):
    program, backend = endless(make)
    for event in program.stream(question="x"):
        if isinstance(event, FieldPiece):
            break
    assert backend.left.wait(10)
    events = program.stream(question="x")
    backend.left.clear()
    next(events)
    events.close()
    assert backend.left.wait(10)
    assert list(events) == []
    assert backend.calls == 2


@each_program
async def test_leaving_an_async_iterator_cancels_the_run(make):
    program, backend = endless(make)
    events = program.astream(question="x")
    async for event in events:
        if isinstance(event, FieldPiece):
            break
    await events.aclose()
    assert await asyncio.to_thread(backend.left.wait, 10)
    assert await collected(events) == []


async def test_an_iterator_that_is_dropped_cancels_the_run():
    program, backend = endless(Steps)
    events = program.astream(question="x")
    await anext(events)
    del events
    gc.collect()
    assert await asyncio.to_thread(backend.left.wait, 10)


async def test_a_listener_that_is_cancelled_cancels_the_run():
    program, backend = endless(AsyncSteps)
    started = asyncio.Event()

    async def listen():
        async for _ in program.astream(question="x"):
            started.set()

    task = asyncio.create_task(listen())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(backend.left.wait, 10)


def test_a_program_that_was_left_asks_no_further_model():
    lm = ScriptedLM(echo, seconds=0.02)
    for _ in Steps().using(lm=lm).stream(question="x"):
        break
    lm.copy(n=1)("done")  # takes as long as the rest of the answer would have
    assert [r.messages[-1].text for r in lm.requests[1:]] == ["done"]


def test_an_iterator_that_nobody_began_runs_nothing():
    lm = ScriptedLM(echo)
    program = Steps().using(lm=lm)
    program.stream(question="x").close()
    program.astream(question="x")
    assert lm.requests == []


def test_a_script_that_leaves_early_or_not_at_all_ends_at_once_and_quietly():
    code = """
import asyncio
import tuneful as tf
from tuneful.testing import ScriptedLM

class Program(tf.Module):
    def __init__(self):
        self.a = tf.Predict("q -> a")
    def forward(self, q):
        return self.a(q=q)

class AsyncProgram(Program):
    async def forward(self, q):
        return await self.a.acall(q=q)

def begun(program):
    async def main():
        async for _ in program.astream(q="x"):
            break
    asyncio.run(main())
    for _ in program.stream(q="x"):
        break
    kept = program.stream(q="x")
    next(kept)
    return kept

lm = ScriptedLM(lambda r: "[[ ## a ## ]] " + "x " * 200_000, seconds=600)
kept = [begun(make().using(lm=lm)) for make in (Program, AsyncProgram, lambda: tf.Predict("q -> a"))]
print("left")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("left", "", 0)


# --- where it runs ---


async def test_the_context_is_that_of_the_call():
    one, two = ScriptedLM(echo, model="one"), ScriptedLM(echo, model="two")
    with tf.context(lm=one):
        blocking, heard = Steps().stream(question="x"), Steps().astream(question="x")
    with tf.context(lm=two):
        assert list(blocking)[-1].prediction.trace.steps[0].model == "one"
        assert (await collected(heard))[-1].prediction.trace.steps[0].model == "one"


def test_nothing_is_streamed_where_nobody_listens(monkeypatch):
    monkeypatch.setattr("tuneful.testing.scripted.ScriptedBackend.stream", None)
    assert (
        Steps()(question="x")
        if False
        else Steps().using(lm=ScriptedLM(echo))(question="x").answer == "so so x said said"
    )


def test_a_part_that_a_program_listens_to_is_heard_outside_as_well():
    class Listening(Steps):
        def forward(self, question):
            said = [e.text for e in self.steps[0].stream(question=question) if isinstance(e, FieldPiece)]
            return "|".join(said)

    events = list(Listening().using(lm=ScriptedLM(echo)).stream(question="x"))
    assert told(events, "steps[0]") == {"answer": "so x said"}
    assert events[-1] == Finished("so| x| said")


def test_listening_in_the_blocking_way_inside_an_async_forward_is_a_usage_error():
    class Wrong(Steps):
        async def forward(self, question):
            return list(self.steps[0].stream(question=question))

    with pytest.raises(tf.UsageError, match="blocking"):
        list(Wrong().using(lm=ScriptedLM(echo)).stream(question="x"))


def test_a_slow_listener_misses_nothing():
    words = " ".join(f"w{i}" for i in range(500))
    done = threading.Event()

    class Program(tf.Module):
        def __init__(self):
            self.step = tf.Predict("q -> answer")

        def forward(self, q):
            found = self.step(q=q)
            done.set()
            return found

    events = Program().using(lm=ScriptedLM([chat(answer=words)])).stream(q="x")
    first = next(events)
    assert done.wait(10)  # the program does not wait for its listener
    assert isinstance(first, FieldStarted)
    assert told(events) == {"answer": words}


@pytest.mark.parametrize("make", [Steps, AsyncSteps], ids=["sync", "async"])
def test_many_streams_at_once_do_not_mix(make):
    program = make().using(lm=ScriptedLM(echo, piece=5))

    def one(number):
        return told(program.stream(question=str(number)), "steps[1]")

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(one, range(200)))
    assert found == [{"answer": f"so so {i} said said"} for i in range(200)]


async def test_streamify_is_dspys_name_for_it():
    program = Steps().using(lm=ScriptedLM(echo))
    heard = await collected(streamify(program)(question="x"))
    assert list(streamify(program, async_streaming=False)(question="x")) == heard
    assert told(heard, "steps[0]") == {"answer": "so x said"}


# --- with a real server and a real model ---


class EventServer:
    """Sends the given events, the last few only when `heard` is set; `left` says that the listener has gone."""

    def __init__(self, events, *, endless=False, held_back=0):
        self.left = threading.Event()
        self.heard = threading.Event()
        self.in_time = True
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                try:
                    for event in events[: len(events) - held_back]:
                        self.send(event)
                    if held_back:
                        server.in_time = server.heard.wait(5)
                    for event in events[len(events) - held_back :]:
                        self.send(event)
                    while endless:
                        self.send(events[-1])
                        server.left.wait(0.005)
                except OSError:
                    server.left.set()

            def send(self, event):
                self.wfile.write(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode())

            def log_message(self, format, *args):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()


def chunk(text, finish=None, **delta):
    return {"model": "m", "choices": [{"index": 0, "delta": {"content": text, **delta}, "finish_reason": finish}]}


SAID = ["[[ ## ans", "wer ## ]]\nPar", "is, in", " France", "\n\n[[ ## comp", "leted ## ]]"]


def test_a_server_is_heard_event_by_event_while_it_writes():
    events = [chunk("", reasoning_content="hm"), *map(chunk, SAID), chunk("", "stop"), "[DONE]"]
    heard = []
    with EventServer(events, held_back=4) as server:
        lm = tf.LM("m", api_base=server.url, api_key="secret")
        for event in tf.Predict("question -> answer").using(lm=lm, adapter="chat").stream(question="x"):
            heard.append(event)
            if event == FieldPiece("", "answer", " France"):
                server.heard.set()
        assert server.in_time
    assert heard[:-1] == [
        ReasoningPiece("", "hm"),
        FieldStarted("", "answer"),
        FieldPiece("", "answer", "Par"),
        FieldPiece("", "answer", "is, in"),
        FieldPiece("", "answer", " France"),
        FieldEnded("", "answer", "Paris, in France"),
    ]


@pytest.mark.parametrize("make", [Steps, AsyncSteps], ids=["sync", "async"])
async def test_leaving_early_closes_the_connection(make):
    with EventServer([chunk("[[ ## answer ## ]]\n"), chunk("word ")], endless=True) as server:
        program = make().using(lm=tf.LM("m", api_base=server.url, api_key="secret"), adapter="chat")
        for event in program.stream(question="x"):
            if isinstance(event, FieldPiece):
                break
        assert await asyncio.to_thread(server.left.wait, 10)
        server.left.clear()
        heard = program.astream(question="x")
        while not isinstance(await anext(heard), FieldPiece):
            pass
        await heard.aclose()
        assert await asyncio.to_thread(server.left.wait, 10)


def test_a_stream_that_breaks_off_is_retracted_and_raises():
    with EventServer([chunk("[[ ## answer ## ]]\nhalf")]) as server:
        lm = tf.LM("m", api_base=server.url, api_key="secret")
        events = tf.Predict("question -> answer").using(lm=lm, adapter="chat").stream(question="x")
        heard = [next(events) for _ in range(3)]
        with pytest.raises(tf.LMTransportError):
            next(events)
    assert [type(e) for e in heard] == [FieldStarted, FieldPiece, Retracted]


@pytest.mark.model
@pytest.mark.skipif(not local.is_available(), reason="the embedded model is not installed")
def test_the_embedded_model_is_heard_while_it_writes():
    program = tf.Predict("question -> answer", max_tokens=60).using(lm=tf.LM("local/smollm2"))
    question = "Tell me a story about a spider."
    events = list(program.stream(question=question))
    found = events[-1].prediction
    assert found == program(question=question)
    assert told(events) == {"answer": found.answer}
    assert sum(isinstance(e, FieldPiece) for e in events) >= 2
