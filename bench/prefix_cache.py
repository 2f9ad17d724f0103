"""The prefix cache of the embedded model: how much of a prompt is computed again, with one prompt and with several.

    python bench/prefix_cache.py [--rounds 1] [--rows 100] [--in-flight 8]

One program with 10 demos over the rows of trec6; then two and four candidates (other demos, the same rows) in turn, as
an evaluation of several candidates sends them: in the order in which they come, and through the queue that sends a
request where the start of its prompt is computed already. Each case is a fresh process with the default slots.
"No store" is without the memory to which the prompt of a slot is copied when it must go, as for large models.
"""

import asyncio
import json
import sys
from pathlib import Path

import measure

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "trec6"
LABELS = ("abbreviation", "description", "entity", "human", "location", "number")


def read(name, count):
    with (DATA / f"{name}.jsonl").open() as rows:
        return [json.loads(row) for _, row in zip(range(count), rows, strict=False)]


def evaluated(candidates, rows, in_flight, overtaking, store):
    """Send all rows through all candidates, in turn, and print what was recomputed."""
    import tuneful as tf
    from tuneful.backends.local.engine import LocalSettings, engine_of

    if not store:
        prepare = LocalSettings.prepare
        LocalSettings.prepare = lambda self, params: (prepare(self, params), setattr(params, "cache_ram_mib", 0))[0]
    lm = tf.LM("local/smollm2", overtaking=overtaking, max_tokens=8)
    signature = tf.Signature(
        f"question -> kind: Literal[{', '.join(map(repr, LABELS))}]", "Say what a question asks for."
    )
    shots, programs = read("train", 10 * candidates), []
    for i in range(candidates):
        program = tf.Predict(signature).using(lm=lm)
        program.demos = [{"question": r["text"], "kind": r["label"]} for r in shots[10 * i : 10 * (i + 1)]]
        programs.append(program)
    questions = [r["text"] for r in read("dev", rows)]

    async def all_of_them():
        gate = asyncio.Semaphore(in_flight)

        async def one(program, question):
            async with gate:
                await program.acall(question=question)

        await asyncio.gather(*(one(p, q) for q in questions for p in programs))

    engine_of(lm._source._settings)  # loaded before the clock starts
    with tf.context(cache=False), tf.track_usage() as meter, measure.Stopwatch() as watch:
        asyncio.run(all_of_them())
    used = meter.usage
    measure.emit(
        {
            "prompt": used.prompt_tokens / used.calls,
            "recomputed": used.recomputed_tokens / used.calls,
            "share": used.recomputed_tokens / used.prompt_tokens,
            "seconds": watch.seconds,
            "per_call": watch.seconds / used.calls,
        }
    )


def main():
    options = measure.arguments(__doc__, peer=False, rounds=1, rows=100, in_flight=8)
    if not DATA.exists():
        sys.exit(f"The rows are not here: {DATA}. Nothing was measured.")
    cases = {}
    for candidates in (1, 2, 4):
        rows = options.rows if candidates == 1 else options.rows // candidates
        for store in (True, False) if candidates > 1 else (True,):
            for overtaking in (0, 32):
                words = {1: "one prompt", 2: "two in turn", 4: "four in turn"}[candidates]
                name = f"{words}, {'the queue' if overtaking else 'first come'}{'' if store else ', no store'}"
                given = {"candidates": candidates, "rows": rows, "in_flight": options.in_flight}
                given |= {"overtaking": overtaking, "store": store}
                cases[name] = lambda given=given: measure.run_case(__file__, "evaluated", given)
    measure.table(
        [
            ("prompt tokens", 14, measure.number("prompt")),
            ("recomputed", 11, measure.number("recomputed", ".1f")),
            ("share", 7, measure.number("share", ".1%")),
            ("seconds", 8, measure.number("seconds", ".1f")),
            ("a call", 8, measure.number("per_call", ".3f")),
        ],
        measure.rounds(options.rounds, cases),
    )


if __name__ == "__main__":
    measure.dispatch({"evaluated": evaluated}, main)
