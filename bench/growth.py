"""How cost grows with work: `ChainOfThought` through `Evaluate`, ten and a hundred times the examples.

    python bench/growth.py [--most 100000] [--most-http 10000] [--in-flight 256] [--rounds 1]

On a scripted model, and over HTTP (server.py, no wait, no cache). Linear time is a constant column `us/example`; a flat
footprint is a constant column `KiB kept`: the memory at the end beyond that before the data was made, for each example.
A result keeps its rows: example, prediction, trace, the request that was sent. Each line is a process of its own.
"""

import gc

from clients import metric, questions, tuneful_lm
from measure import Server, Stopwatch, arguments, dispatch, emit, memory_mib, number, rounds, run_case, table
from server import CONTENT


def evaluated(calls, in_flight):
    import tuneful as tf

    program = tf.ChainOfThought("question -> answer")
    warm = [tf.Example(question=q).with_inputs("question") for q in questions(in_flight, start=calls)]
    tf.Evaluate(devset=warm, metric=metric, num_threads=in_flight)(program)
    gc.collect()
    before = memory_mib()
    devset = [tf.Example(question=q).with_inputs("question") for q in questions(calls)]
    evaluate = tf.Evaluate(devset=devset, metric=metric, num_threads=in_flight)
    with Stopwatch() as watch:
        result = evaluate(program)
    assert result.score == 100, result.score
    emit({**watch.figures(calls), "kept_kib": 1024 * (memory_mib() - before) / calls})


def scripted(calls, in_flight):
    import tuneful as tf
    from tuneful.testing import ScriptedLM

    tf.configure(lm=ScriptedLM(lambda _: CONTENT), adapter="chat", cache=False)
    evaluated(calls, in_flight)


def http(port, calls, in_flight):
    tuneful_lm(port, None)
    evaluated(calls, in_flight)


def sizes(most):
    return [size for size in (1_000, 10_000, 100_000, 1_000_000) if size <= most]


def main():
    options = arguments(__doc__, rounds=1, peer=False, most=100_000, most_http=10_000, in_flight=256)
    with Server(0) as server:

        def case(name, size, **extra):
            load = {"calls": size, "in_flight": options.in_flight, **extra}
            return lambda: run_case(__file__, name, load)

        cases = {f"scripted, {size:9,} examples": case("scripted", size) for size in sizes(options.most)}
        cases |= {
            f"HTTP, {size:13,} examples": case("http", size, port=server.port) for size in sizes(options.most_http)
        }
        found = rounds(options.rounds, cases)
    print(f"{options.in_flight} in flight; medians of {options.rounds} rounds.\n")
    columns = [
        ("seconds", 9, number("seconds", ".2f")),
        ("us/example", 11, number("us", ".0f")),
        ("cpu ms/example", 15, number("cpu_ms", ".3f")),
        ("peak MiB", 9, number("peak_mib", ".1f")),
        ("KiB kept/example", 17, number("kept_kib", ".1f")),
    ]
    table(columns, found)


if __name__ == "__main__":
    dispatch({"scripted": scripted, "http": http}, main)
