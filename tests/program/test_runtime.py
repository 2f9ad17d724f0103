"""Ambient state: configure, context, settings, meters, history."""

import asyncio
import contextvars
import gc
import io
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import tuneful as tf
from tuneful.backends.metered import phase
from tuneful.program.running import runtime
from tuneful.testing import ScriptedLM


def named(name):
    return ScriptedLM(lambda r: f"[[ ## answer ## ]]\n{name}", model=name)


ASK = tf.Predict("question -> answer")


def answer():
    return ASK(question="x").answer


# --- settings ---


def test_context_goes_over_configure_and_configure_over_the_defaults():
    assert (tf.settings.num_threads, tf.settings.lm) == (8, None)
    tf.configure(num_threads=3)
    assert tf.settings.num_threads == 3
    with tf.context(num_threads=5):
        with tf.context(max_repairs=0):
            assert (tf.settings.num_threads, tf.settings.max_repairs) == (5, 0)
        assert tf.settings.max_repairs == 1
    assert tf.settings.num_threads == 3


def test_a_context_holds_only_what_it_was_given():
    with tf.context(num_threads=5):
        tf.configure(max_repairs=0, num_threads=2)
        assert (tf.settings.max_repairs, tf.settings.num_threads) == (0, 5)
    assert tf.settings.num_threads == 2


def test_none_in_a_context_hides_what_is_configured():
    tf.configure(adapter="json")
    with tf.context(adapter=None):
        assert tf.settings.adapter is None
    assert tf.settings.adapter == "json"


def test_a_context_ends_with_an_exception_too():
    with pytest.raises(KeyError), tf.context(num_threads=5):
        raise KeyError
    assert tf.settings.num_threads == 8


def test_get_gives_a_default_for_what_is_not_there():
    assert tf.settings.get("lm", "none") == "none"
    assert tf.settings.get("nothing", 3) == 3
    assert tf.settings.get("num_threads", 3) == 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"llm": None}, "Did you mean `lm`"),
        ({"lm": "openai/gpt-4o-mini"}, r"tf\.LM\('openai/gpt-4o-mini'\)"),
        ({"num_threads": 0}, "num_threads"),
        ({"num_threads": "4"}, "num_threads"),
        ({"max_repairs": 2}, "max_repairs"),
        ({"history_size": -1}, "history_size"),
        ({"history_size": "many"}, "history_size"),
    ],
)
def test_a_bad_value_is_a_usage_error_that_changes_nothing(values, message):
    before = repr(tf.settings)
    with pytest.raises(tf.UsageError, match=message):
        tf.configure(adapter="json", **values)
    with pytest.raises(tf.UsageError, match=message), tf.context(**values):
        pass
    assert repr(tf.settings) == before


def test_settings_are_not_set_by_attribute():
    with pytest.raises(tf.UsageError, match=r"tf\.configure\(lm=\.\.\.\)"):
        tf.settings.lm = None


def test_an_unknown_setting_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Did you mean `adapter`"):
        tf.settings.adaptor


# --- threads and tasks ---


def test_configure_may_be_called_from_any_thread():
    thread = threading.Thread(target=lambda: tf.configure(lm=named("a")))
    thread.start()
    thread.join()
    assert answer() == "a"


async def test_configure_may_be_called_from_any_task():
    async def set_it():
        tf.configure(lm=named("a"))

    await asyncio.create_task(set_it())
    assert (await ASK.acall(question="x")).answer == "a"


def test_configure_inside_forward_holds_at_once():
    class Configuring(tf.Module):
        def forward(self):
            tf.configure(lm=named("b"))
            return answer()

    tf.configure(lm=named("a"))
    assert Configuring()() == "b"
    assert answer() == "b"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_context_reaches_every_thread_and_task_that_works_for_it(asynchronous):
    class Sync(tf.Module):
        def forward(self):
            return answer()

    class Async(tf.Module):
        async def forward(self):
            results = await asyncio.gather(ASK.acall(question="x"), ASK.acall(question="y"))
            return {r.answer for r in results} | {await Sync().acall()}

    tf.configure(lm=named("outer"))
    with tf.context(lm=named("inner")):
        assert Sync()() == "inner"
        assert (asyncio.run(Async().acall()) if asynchronous else Async()()) == {"inner"}
    assert answer() == "outer"


def test_contexts_of_threads_do_not_mix():
    barrier = threading.Barrier(8)

    def one(number):
        with tf.context(lm=named(str(number))):
            barrier.wait(5)
            return answer()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(8))) == [str(i) for i in range(8)]


async def test_contexts_of_tasks_do_not_mix():
    async def one(number):
        with tf.context(lm=named(str(number))):
            await asyncio.sleep(0.001 * (8 - number))
            return (await ASK.acall(question="x")).answer

    assert await asyncio.gather(*map(one, range(8))) == [str(i) for i in range(8)]


# --- track_usage ---


def test_usage_counts_concurrent_work_too():
    tf.configure(lm=named("a"))
    with tf.track_usage() as meter:
        ASK.batch([{"question": str(i)} for i in range(20)], num_threads=5)
    assert meter.usage.calls == 20
    assert meter.usage.total_tokens > 0
    assert set(meter.by_model()) == {"a"}
    answer()
    assert meter.usage.calls == 20


def test_scopes_count_side_by_side():
    tf.configure(lm=named("a"))
    with tf.track_usage() as outer:
        answer()
        with tf.track_usage() as inner:
            answer()
    assert (outer.usage.calls, inner.usage.calls) == (2, 1)


class SyncProgram(tf.Module):
    """A plain forward of two calls."""

    def forward(self, question):
        ASK(question=question)
        return ASK(question=f"{question} again")


class AsyncProgram(tf.Module):
    """An asynchronous forward of two calls at once."""

    async def forward(self, question):
        return (await asyncio.gather(ASK.acall(question=question), ASK.acall(question=f"{question} again")))[0]


@pytest.mark.parametrize("program", [SyncProgram, AsyncProgram])
def test_usage_of_threads_at_once_does_not_mix(program):
    tf.configure(lm=ScriptedLM(lambda r: "[[ ## answer ## ]]\nyes", seconds=0.001))
    barrier = threading.Barrier(8)

    def one(number):
        barrier.wait(5)
        with tf.track_usage() as meter:
            for i in range(number):
                program()(question=str(i))
        return meter.usage.calls

    with tf.track_usage() as everything, ThreadPoolExecutor(8) as pool:
        context = contextvars.copy_context()
        counts = list(pool.map(lambda n: context.copy().run(one, n), range(8)))
    assert counts == [2 * n for n in range(8)]
    assert everything.usage.calls == sum(counts)


@pytest.mark.parametrize("program", [SyncProgram, AsyncProgram])
async def test_usage_of_tasks_at_once_does_not_mix(program):
    tf.configure(lm=ScriptedLM(lambda r: "[[ ## answer ## ]]\nyes", seconds=0.001))

    async def one(number):
        with tf.track_usage() as meter:
            await asyncio.gather(*[program().acall(question=str(i)) for i in range(number)])
        return meter.usage.calls

    with tf.track_usage() as everything:
        counts = await asyncio.gather(*map(one, range(8)))
    assert counts == [2 * n for n in range(8)]
    assert everything.usage.calls == sum(counts)


@pytest.mark.parametrize("program", [SyncProgram, AsyncProgram])
def test_usage_of_an_evaluation_is_that_of_its_rows(program):
    tf.configure(lm=ScriptedLM(lambda r: "[[ ## answer ## ]]\nyes", seconds=0.001))
    devset = [tf.Example(question=str(i), answer="yes").with_inputs("question") for i in range(40)]
    with tf.track_usage() as meter:
        result = tf.Evaluate(devset=devset, metric=tf.metrics.answer_exact_match, num_threads=32)(program())
    assert [row.usage.calls for row in result.rows] == [2] * 40
    assert meter.usage.calls == 80
    assert meter.usage.total_tokens == sum(row.usage.total_tokens for row in result.rows)


def test_a_block_inside_a_program_counts_that_part():
    counts = []

    class Counting(tf.Module):
        def forward(self):
            answer()
            with tf.track_usage() as part:
                ASK.batch([{"question": str(i)} for i in range(5)])
            counts.append(part.usage.calls)
            return answer()

    tf.configure(lm=named("a"))
    with tf.track_usage() as whole:
        Counting().batch([{}] * 4)
    assert counts == [5] * 4
    assert whole.usage.calls == 28


def test_usage_is_told_apart_by_model_and_by_phase():
    cheap, dear = named("cheap"), named("dear")
    with tf.track_usage() as meter:
        ASK(question="x", lm=cheap)
        with phase("search"):
            ASK.batch([{"question": str(i), "lm": dear} for i in range(6)])
            with phase("check"):
                ASK(question="x", lm=cheap)
    assert {m: u.calls for m, u in meter.by_model().items()} == {"cheap": 2, "dear": 6}
    assert {p: u.calls for p, u in meter.by_phase().items()} == {"": 1, "search": 6, "check": 1}
    total = meter.usage
    assert sum(u.total_tokens for u in meter.by_phase().values()) == total.total_tokens
    assert sum(u.total_tokens for u in meter.by_model().values()) == total.total_tokens


def test_a_retry_is_counted_and_what_failed_costs_nothing():
    lm = ScriptedLM([tf.LMServerError("busy", retry_after_s=0.0), "[[ ## answer ## ]]\nyes"], num_retries=1)
    with tf.track_usage() as meter:
        ASK(question="x", lm=lm)
    assert (meter.usage.calls, meter.usage.retries) == (1, 1)


# --- memory ---


def test_memory_does_not_grow_with_the_calls():
    tf.configure(lm=ScriptedLM(lambda r: "[[ ## answer ## ]]\nyes"))
    tf.settings.lm._scripted.requests = Forgetful()

    def blocks_after(calls):
        with tf.track_usage() as meter:
            for i in range(calls):
                ASK(question=f"number {i}")
        assert meter.usage.calls == calls
        gc.collect()
        return sys.getallocatedblocks()

    before = blocks_after(2_000)  # whatever is kept once is kept now
    assert blocks_after(10_000) - before < 2_000


class Forgetful(list):
    """The requests that a scripted model keeps, for a test in which nothing must."""

    def append(self, item):
        pass


# --- repetitions ---


def test_a_repetition_sends_other_requests():
    lm = named("a")
    with tf.context(lm=lm):
        answer()
        with runtime.rollout(2):
            assert runtime.current_rollout() == 2
            answer()
        answer()
    first, second, third = lm.requests
    assert first.key() == third.key() != second.key()
    assert second.sampling.resolved().temperature > 0
    assert first.sampling.resolved().temperature == 0


# --- history ---


def shown(n=1):
    out = io.StringIO()
    tf.inspect_history(n, out)
    return out.getvalue()


def test_the_last_calls_are_shown_whole():
    tf.configure(lm=named("a"))
    ASK(question="how many?")
    text = shown()
    assert "--- a ---" in text
    assert "[user]" in text
    assert "how many?" in text
    assert "[answer, stop]" in text
    assert "1 calls" in text


def test_without_calls_it_says_so(capsys):
    tf.inspect_history()
    assert capsys.readouterr().out == "No calls yet.\n"


def test_the_history_is_bounded():
    tf.configure(lm=named("a"))
    for i in range(25):
        ASK(question=f"number-{i}.")
    assert len(runtime._history) == 10
    assert [f"number-{i}." in shown(100) for i in (14, 15, 24)] == [False, True, True]
    assert shown(2).count("--- a ---") == 2
    tf.configure(history_size=3)
    answer()
    assert len(runtime._history) == 3


def test_the_history_can_be_turned_off_under_many_threads():
    tf.configure(lm=named("a"), history_size=0)

    def one(number):
        return asyncio.run(ASK.acall(question=str(number))).answer

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(one, range(100))) == {"a"}
    assert len(runtime._history) == 0
    assert shown() == "No calls yet.\n"


def test_looking_at_the_history_while_it_grows_does_no_harm():
    tf.configure(lm=named("a"), history_size=50)
    stop = threading.Event()

    def look():
        while not stop.is_set():
            shown(50)
        return True

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        ASK.batch([{"question": str(i)} for i in range(200)])
        stop.set()
        assert looking.result(10)


def test_attempts_of_attempts_are_repetitions_of_their_own():
    from tuneful.program.running.runtime import attempt, current_rollout, rollout

    seen = []
    for repetition in range(3):
        with rollout(repetition):
            for one in (1, 2):
                with attempt(one):
                    seen.append(current_rollout())
                    for two in (1, 2):
                        with attempt(two):
                            seen.append(current_rollout())
    assert len(set(seen)) == len(seen) == 18
    assert current_rollout() == 0
