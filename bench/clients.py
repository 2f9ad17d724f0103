"""The candidates over HTTP: the same questions to the model server, through bare clients and through frameworks.

Each function is a case (see measure.py), and runs in a process of its own. Its libraries are imported inside.
"""

import asyncio
import json
import time
from pathlib import Path

from measure import Stopwatch, dispatch, emit

CLIENTS = Path(__file__)

#: What stands for the question in the body that the bare clients send.
PLACEHOLDER = "@@question@@"


def questions(count, start=0):
    """Return questions that occur nowhere else, as long as a customer's."""
    return [
        f"Parcel number {start + i} left the depot this morning and was due at noon. Where is it now, when will it "
        f"arrive, and what can I do if nobody is at home?"
        for i in range(count)
    ]


# --- bare clients ---


async def spread(ask, asked, in_flight):
    """Ask every question with so many in flight; return the answers."""
    left = iter(asked)

    async def worker():
        return [await ask(question) for question in left]

    parts = await asyncio.gather(*(worker() for _ in range(in_flight)))
    return [answer for part in parts for answer in part]


async def timed(ask, calls, in_flight):
    """Warm up with one question for each connection, then time the others."""
    await spread(ask, questions(in_flight, start=calls), in_flight)
    asked = questions(calls)
    with Stopwatch() as watch:
        answers = await spread(ask, asked, in_flight)
    assert all("completed" in answer for answer in answers)
    emit(watch.figures(calls))


def filled(template, question):
    """Return the body for a question, as the frameworks' own clients have it: as Python objects."""
    *before, last = template["messages"]
    return {**template, "messages": [*before, {**last, "content": last["content"].replace(PLACEHOLDER, question)}]}


def text_of(content):
    return json.loads(content)["choices"][0]["message"]["content"]


def pyreqwest(port, calls, in_flight, template):
    """Time a client that is not installed with tuneful."""
    from pyreqwest.client import ClientBuilder

    async def run():
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        async with ClientBuilder().pool_max_idle_per_host(1024).tcp_nodelay(enabled=True).build() as client:

            async def ask(question):
                request = client.post(url).body_json(filled(template, question))
                response = await request.headers({"authorization": "Bearer x"}).build().send()
                return text_of(bytes(await response.bytes()))

            await timed(ask, calls, in_flight)

    asyncio.run(run())
    time.sleep(0.1)  # its own thread must be done with the last request when Python ends, or the process aborts


def aiohttp(port, calls, in_flight, template):
    import aiohttp

    async def run():
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, headers={"authorization": "Bearer x"}) as session:

            async def ask(question):
                async with session.post(url, json=filled(template, question)) as response:
                    return text_of(await response.read())

            await timed(ask, calls, in_flight)

    asyncio.run(run())


# --- frameworks ---


def metric(_example, prediction, _trace=None):
    return prediction.answer.startswith("Your parcel") and bool(prediction.reasoning)


def tuneful_lm(port, cache):
    import tuneful as tf

    tf.configure(
        lm=tf.LM("openai/m", api_base=f"http://127.0.0.1:{port}/v1", api_key="x", cache=bool(cache)),
        adapter="chat",
        cache=cache or False,
    )


def tuneful_pass(asked, in_flight):
    """Evaluate once; returns the stopwatch."""
    import tuneful as tf

    devset = [tf.Example(question=q).with_inputs("question") for q in asked]
    evaluate = tf.Evaluate(devset=devset, metric=metric, num_threads=in_flight)
    program = tf.ChainOfThought("question -> answer")
    with Stopwatch() as watch:
        result = evaluate(program)
    assert result.score == 100, result.score
    return watch


def tuneful(port, calls, in_flight, cache=None, cold_passes=0):
    """Time tuneful. With `cache` (a file): passes that fill it come first, and every timed call is answered by it."""
    tuneful_lm(port, cache)
    tuneful_pass(questions(in_flight, start=calls), in_flight)
    for _ in range(cold_passes):
        tuneful_pass(questions(calls), in_flight)
    emit(tuneful_pass(questions(calls), in_flight).figures(calls))


def tuneful_body(port):
    """Send one question, the placeholder, so that the server has the body that tuneful sends."""
    import tuneful as tf

    tuneful_lm(port, None)
    tf.ChainOfThought("question -> answer")(question=PLACEHOLDER)
    emit({})


def dspy_lm(port, cache):
    import logging

    import dspy

    logging.getLogger("dspy").setLevel(logging.ERROR)
    if cache:
        dspy.configure_cache(disk_cache_dir=cache)
    lm = dspy.LM("openai/m", api_base=f"http://127.0.0.1:{port}/v1", api_key="x", cache=bool(cache))
    dspy.configure(lm=lm, adapter=dspy.ChatAdapter())


def dspy_pass(asked, in_flight):
    import dspy

    devset = [dspy.Example(question=q).with_inputs("question") for q in asked]
    evaluate = dspy.Evaluate(
        devset=devset, metric=metric, num_threads=in_flight, display_progress=False, display_table=False
    )
    program = dspy.ChainOfThought("question -> answer")
    with Stopwatch() as watch:
        result = evaluate(program)
    assert result.score == 100, result.score
    return watch


def dspy(port, calls, in_flight, cache=None, cold_passes=0):
    """Time DSPy, as `tuneful` does."""
    dspy_lm(port, cache)
    dspy_pass(questions(in_flight, start=calls), in_flight)
    for _ in range(cold_passes):
        dspy_pass(questions(calls), in_flight)
    emit(dspy_pass(questions(calls), in_flight).figures(calls))


CASES = {
    "pyreqwest": pyreqwest,
    "aiohttp": aiohttp,
    "tuneful": tuneful,
    "tuneful_body": tuneful_body,
    "dspy": dspy,
}

if __name__ == "__main__":
    dispatch(CASES, lambda: print("Run by throughput.py and cache.py."))
