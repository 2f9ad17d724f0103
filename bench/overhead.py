"""What the framework itself costs: calls of a model that answers at once, scripted and over HTTP.

    python bench/overhead.py [--peer PYTHON] [--calls 2000] [--in-flight 8] [--rounds 5]

`blocking`: `Predict("question -> answer")`, one call after the other. `async`: the same by `await program.acall(...)`.
`Evaluate`: `ChainOfThought("question -> answer")` over as many examples, calls a second. The scripted model is
tuneful's `ScriptedLM`; the peer's is a subclass of its `BaseLM` and, in a row of its own, an engine (its newer
interface). Over HTTP, server.py answers without a wait, and a bare client stands beside. Caches are off.
"""

import asyncio
import json
from types import SimpleNamespace

from clients import dspy_lm, metric, questions, tuneful_lm
from measure import PEER, Server, Stopwatch, arguments, dispatch, emit, number, ratio, rounds, run_case, table
from server import CONTENT

WARM_UP = 200
ANSWER = "[[ ## answer ## ]]\n" + CONTENT.partition("[[ ## answer ## ]]\n")[2]


def content_for(prompt):
    """Return what the model says: with reasoning where it is asked for that field."""
    return CONTENT if "reasoning" in prompt else ANSWER


def measured(calls, in_flight, framework):
    """Time the three ways to call; the two frameworks have the same names for all of it."""
    predict, figures = framework.Predict("question -> answer"), {}
    for question in questions(WARM_UP, start=calls):
        predict(question=question)
    asked = questions(calls)
    with Stopwatch() as watch:
        for question in asked:
            answer = predict(question=question).answer
            assert answer.startswith("Your parcel")
    figures["blocking_us"] = watch.figures(calls)["us"]

    async def one_by_one(asked):
        with Stopwatch() as watch:
            for question in asked:
                await predict.acall(question=question)
        return watch.figures(len(asked))["us"]

    async def warm_and_timed():
        await one_by_one(questions(WARM_UP, start=calls))
        return await one_by_one(asked)

    figures["async_us"] = asyncio.run(warm_and_timed())

    devset = [framework.Example(question=q).with_inputs("question") for q in asked]
    program = framework.ChainOfThought("question -> answer")
    for part in (devset[:WARM_UP], devset):
        evaluate = framework.Evaluate(devset=part, metric=metric, num_threads=in_flight, display_progress=False)
        with Stopwatch() as watch:
            result = evaluate(program)
        assert result.score == 100, result.score
    figures["evaluate_per_s"] = watch.figures(calls)["calls_per_s"]
    emit(figures)


def tuneful(calls, in_flight):
    import tuneful as tf
    from tuneful.testing import ScriptedLM

    lm = ScriptedLM(lambda request: content_for(request.messages[0].text))
    tf.configure(lm=lm, adapter="chat", cache=False)
    measured(calls, in_flight, tf)


def _dspy(calls, in_flight, lm):
    import logging

    import dspy

    logging.getLogger("dspy").setLevel(logging.ERROR)
    dspy.configure(lm=lm, adapter=dspy.ChatAdapter())
    measured(calls, in_flight, dspy)


def dspy_subclass(calls, in_flight):
    import dspy

    class Model(dspy.BaseLM):
        def forward(self, prompt=None, messages=None, **kwargs):
            message = SimpleNamespace(role="assistant", content=content_for(messages[0]["content"]), tool_calls=None)
            choice = SimpleNamespace(index=0, message=message, finish_reason="stop")
            usage = {"prompt_tokens": 184, "completion_tokens": 203, "total_tokens": 387}
            return SimpleNamespace(choices=[choice], usage=usage, model="m")

        async def aforward(self, prompt=None, messages=None, **kwargs):
            return self.forward(prompt, messages, **kwargs)

    _dspy(calls, in_flight, Model("m", cache=False))


def dspy_engine(calls, in_flight):
    import dspy
    from dspy.lm15 import Message, Response, TextPart, Usage

    class Engine:
        def complete(self, request):
            system = request.system if isinstance(request.system, str) else "".join(p.text for p in request.system)
            message = Message.assistant([TextPart(content_for(system))])
            usage = Usage(input_tokens=184, output_tokens=203, total_tokens=387)
            return Response(id=None, model="m", message=message, finish_reason="stop", usage=usage)

    class AsyncEngine:
        async def complete(self, request):
            return Engine().complete(request)

    _dspy(calls, in_flight, dspy.LM("m", engine=Engine(), async_engine=AsyncEngine(), cache=False))


def bare_http(port, calls, in_flight):
    """Time a client of HTTP: blocking, asynchronous, and asynchronous with as many in flight as `Evaluate` has.

    It has no blocking calls of its own: they run on an event loop in the caller's thread, one after the other.
    """
    import aiohttp

    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    asked = [{"model": "m", "messages": [{"role": "user", "content": "x" * 700 + q}]} for q in questions(calls)]
    figures = {}

    async def ask(session, body):
        async with session.post(url, json=body) as response:
            return json.loads(await response.read())

    async def one_by_one(session, bodies):
        for body in bodies:
            await ask(session, body)

    async def run(session):
        await one_by_one(session, asked[:WARM_UP])
        with Stopwatch() as watch:
            await one_by_one(session, asked)
        figures["async_us"] = watch.figures(calls)["us"]
        with Stopwatch() as watch:
            left = iter(asked)
            await asyncio.gather(*(one_by_one(session, left) for _ in range(in_flight)))
        figures["evaluate_per_s"] = watch.figures(calls)["calls_per_s"]

    async def opened():
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    with asyncio.Runner() as runner:
        session = runner.run(opened())
        for part in (asked[:WARM_UP], asked):
            with Stopwatch() as watch:
                for body in part:
                    runner.run(ask(session, body))
        figures["blocking_us"] = watch.figures(calls)["us"]
        runner.run(run(session))
        runner.run(session.close())
    emit(figures)


def tuneful_http(port, calls, in_flight):
    import tuneful as tf

    tuneful_lm(port, None)
    measured(calls, in_flight, tf)


def dspy_http(port, calls, in_flight):
    import dspy

    dspy_lm(port, None)
    measured(calls, in_flight, dspy)


CASES = {
    "tuneful": tuneful,
    "dspy_subclass": dspy_subclass,
    "dspy_engine": dspy_engine,
    "bare_http": bare_http,
    "tuneful_http": tuneful_http,
    "dspy_http": dspy_http,
}


def show(title, found, unit):
    print(f"\n{title}\n")
    columns = [
        ("blocking us/call", 17, number("blocking_us")),
        (f"of {unit}", 11, ratio("blocking_us", unit, ".1f")),
        ("async us/call", 14, number("async_us")),
        (f"of {unit}", 11, ratio("async_us", unit, ".1f")),
        ("Evaluate calls/s", 17, number("evaluate_per_s")),
        (f"of {unit}", 11, ratio("evaluate_per_s", unit)),
    ]
    table(columns, found)


def main():
    options = arguments(__doc__, calls=2000, in_flight=8)
    with Server(0) as server:

        def case(name, python=None, **extra):
            load = {"calls": options.calls, "in_flight": options.in_flight, **extra}
            return lambda: run_case(__file__, name, load, python)

        scripted = {"tuneful": case("tuneful")}
        http = {"bare": case("bare_http", port=server.port), "tuneful, HTTP": case("tuneful_http", port=server.port)}
        if options.peer:
            scripted[PEER] = case("dspy_subclass", options.peer)
            scripted[f"{PEER}, engine"] = case("dspy_engine", options.peer)
            http[f"{PEER}, HTTP"] = case("dspy_http", options.peer, port=server.port)
        found = rounds(options.rounds, scripted | http)
    print(f"{options.calls:,} calls, {options.in_flight} in flight in Evaluate; medians of {options.rounds} rounds.")
    show("On a scripted model:", {name: found[name] for name in scripted}, "tuneful")
    show("Over HTTP, beside the bare client (aiohttp):", {name: found[name] for name in http}, "bare")


if __name__ == "__main__":
    dispatch(CASES, main)
