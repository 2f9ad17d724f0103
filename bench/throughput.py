"""Calls a second over HTTP: `ChainOfThought` through `Evaluate`, against bare clients and the peer.

    python bench/throughput.py [--peer PYTHON] [--calls 2000] [--in-flight 256] [--wait-ms 50] [--rounds 5]

The server (server.py) answers each request after `--wait-ms`. The program is `ChainOfThought("question -> answer")`,
every question is another one, caches are off, and every client is a process of its own, warmed by one call for each
connection. `cpu` is processor time of the client's process, all threads; `peak` the most memory it held. The bare
clients send the body that tuneful sends, written and read as JSON by each client's usual means; pyreqwest has a row
where it is installed. The frameworks run as they come, but for what the table needs: 256 examples in flight, no cache,
the chat adapter.
"""

from importlib.util import find_spec

from clients import CLIENTS
from measure import PEER, Server, arguments, dispatch, number, ratio, rounds, run_case, table


def body_of_tuneful():
    """Return the body that tuneful sends, with a placeholder for the question."""
    with Server(0) as server:
        run_case(CLIENTS, "tuneful_body", {"port": server.port})
        return server.get("/last")


def main():
    options = arguments(__doc__, calls=2000, in_flight=256, wait_ms=50)
    template = body_of_tuneful()
    with Server(options.wait_ms) as server:

        def case(name, python=None, **extra):
            load = {"port": server.port, "calls": options.calls, "in_flight": options.in_flight, **extra}
            expected = options.calls + options.in_flight  # with those that warm up
            return lambda: server.counted(lambda: run_case(CLIENTS, name, load, python), expected)

        cases = {"bare aiohttp": case("aiohttp", template=template), "tuneful": case("tuneful")}
        if find_spec("pyreqwest"):
            cases = {"bare pyreqwest": case("pyreqwest", template=template), **cases}
        if options.peer:
            cases[PEER] = case("dspy", options.peer)
        found = rounds(options.rounds, cases)
    print(
        f"{options.calls:,} calls, {options.in_flight} in flight, {options.wait_ms} ms each; medians of "
        f"{options.rounds} rounds. No client can have more than {1000 * options.in_flight / options.wait_ms:,.0f}/s.\n"
    )
    columns = [
        ("calls/s", 9, number("calls_per_s")),
        ("of bare", 9, ratio("calls_per_s", "bare aiohttp")),
        ("of DSPy", 9, ratio("calls_per_s", PEER, ".1f")),
        ("cpu ms/call", 12, number("cpu_ms", ".3f")),
        ("of bare", 9, ratio("cpu_ms", "bare aiohttp")),
        ("peak MiB", 9, number("peak_mib", ".1f")),
    ]
    table(columns, found)


if __name__ == "__main__":
    dispatch({}, main)
