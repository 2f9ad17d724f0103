"""Adapters on a small model: scores, unreadable answers, repairs, calls, tokens and time, beside the peer.

    python bench/small_models.py [--peer PYTHON] [--model smollm2] [--data trec6,sst2] [--rows 100] [--demos 0,10]

Every adapter answers the same rows with the same demos, on the embedded model. The peer answers the first `--peer-rows`
of them, over HTTP to a llama.cpp server with the settings of the embedded model (llama_server.py), as `auto, served`,
the adapter left to tuneful. With `--api-base` all talk to that. A row of the table is a process of its own. Greedy,
the same `max_tokens` for all, response caches off, one example after the other unless `--in-flight` says otherwise. The
peer runs as it comes: its chat adapter, with its second attempt as JSON.

`against` the first row is the mean difference on the rows that both have answered, with its 95 % interval: where that
interval has 0 in it, the two are not told apart. `unread` are the examples that end in a parse error, after repair. A
prompt's first reading fills the prefix cache: `s/example` has it, `median s` does not. The tasks are in tasks.py; sets
that are not there are skipped.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llama_server import LlamaServer
from measure import HOW_TO_PEER, PEER, dispatch, emit, number, run_case, table
from tasks import TASKS

SERVED = "served"  # how the model of our own server is called

# --- cases: one process each ---


def tuneful(task, rows, demos, adapter, in_flight, model, api_base, settings):
    """Run tuneful over a task. `settings` are those of a model in process."""
    import tuneful as tf

    lm = tf.LM(model, api_base=api_base, max_tokens=TASKS[task].max_tokens, num_retries=0, **settings)
    if api_base:
        lm.probe()
    tf.configure(lm=lm, cache=False)
    tf.Predict("question -> answer")(question="Hello?", config={"max_tokens": 1})  # loads and connects
    if adapter != "auto":
        tf.configure(adapter=adapter)
    devset = [tf.Example(row).with_inputs(*TASKS[task].inputs) for row in TASKS[task].rows(rows)]
    evaluate = tf.Evaluate(devset=devset, metric=lambda *_: True, num_threads=in_flight)
    result = evaluate(TASKS[task].program(tf, TASKS[task].demos(demos)))
    emit({"seconds": result.seconds, "records": [tuneful_record(row, TASKS[task].output) for row in result.rows]})


def tuneful_record(row, output):
    steps = list(row.trace)
    answers = [response for step in steps for response in step.responses]
    return {
        "status": row.status,
        "answer": row.prediction[output] if row.status == "ok" else None,
        "error": row.error.rsplit("\n", 1)[-1] if row.error else None,
        "salvages": [name for step in steps for name in step.salvages],
        "repairs": sum(step.repairs for step in steps),
        "calls": row.usage.calls,
        "prompt_tokens": row.usage.prompt_tokens,
        "cached_tokens": row.usage.cached_tokens,
        "completion_tokens": row.usage.completion_tokens,
        "seconds": row.seconds,
        "prompt": [[m.role, m.text] for m in steps[0].request.messages] if steps and steps[0].request else [],
        "texts": [response.text for response in answers],
    }


def dspy(task, rows, demos, in_flight, model, api_base):
    """Run the peer over a task."""
    import logging

    import dspy

    logging.getLogger("dspy").setLevel(logging.CRITICAL)
    key = {"api_key": "x"} if api_base and "OPENAI_API_KEY" not in os.environ else {}
    address = {"api_base": api_base} if api_base else {}
    settings = {"temperature": 0.0, "max_tokens": TASKS[task].max_tokens, "cache": False, **key, **address}
    lm = dspy.LM(model, **settings)
    dspy.configure(lm=lm, adapter=dspy.ChatAdapter())
    lm("Hello?", max_tokens=1)
    program = TASKS[task].program(dspy, TASKS[task].demos(demos))

    def one(row):
        own = lm.copy()  # with a history of its own
        own.history = []
        begun = time.perf_counter()
        with dspy.context(lm=own):
            status, answer, error = dspy_answer(program, {name: row[name] for name in TASKS[task].inputs}, task)
        return dspy_record(status, answer, error, own.history, time.perf_counter() - begun)

    asked, begun = TASKS[task].rows(rows), time.perf_counter()
    with ThreadPoolExecutor(in_flight) as pool:
        records = list(pool.map(one, asked))
    emit({"seconds": time.perf_counter() - begun, "records": records})


def dspy_answer(program, inputs, task):
    from dspy.utils.exceptions import AdapterParseError

    try:
        return "ok", getattr(program(**inputs), TASKS[task].output), None
    except AdapterParseError as error:
        return "parse_error", None, str(error)
    except Exception as error:
        return "infra_error", None, f"{type(error).__name__}: {error}"


def dspy_record(status, answer, error, calls, seconds):
    used = [call["usage"] for call in calls]
    cached = [(use.get("prompt_tokens_details") or {}) for use in used]
    return {
        "status": status,
        "answer": answer,
        "error": error,
        "salvages": [],
        "repairs": max(0, len(calls) - 1),
        "calls": len(calls),
        "prompt_tokens": sum(use.get("prompt_tokens") or 0 for use in used),
        "cached_tokens": sum(dict(details).get("cached_tokens") or 0 for details in cached),
        "completion_tokens": sum(use.get("completion_tokens") or 0 for use in used),
        "seconds": seconds,
        "prompt": [[m["role"], m["content"]] for m in calls[0]["messages"]] if calls else [],
        "texts": [str(call["outputs"][0]) for call in calls],
    }


CASES = {"tuneful": tuneful, "dspy": dspy}

# --- figures ---


def scored(task, found):
    """Give each record its score; None where the model could not be reached, which says nothing."""
    for record, row in zip(found["records"], TASKS[task].rows(len(found["records"])), strict=True):
        record["accepted"] = row[TASKS[task].output]
        record["score"] = None
        if record["status"] in ("ok", "parse_error"):
            ok = record["status"] == "ok"
            record["score"] = TASKS[task].score(record["answer"], record["accepted"]) if ok else 0.0
    return found["records"]


def figures(records, seconds):
    """Return what a row of the table shows."""
    from tuneful.evaluate.statistics import mean_interval

    scores = [r["score"] for r in records]
    counted = [s for s in scores if s is not None]
    n = len(records)
    low, high = mean_interval(counted)
    sums = {key: sum(r[key] for r in records) / n for key in ("calls", "repairs", *_TOKENS)}
    return {
        "n": len(counted),
        "score": 100 * statistics.fmean(counted) if counted else float("nan"),
        "low": 100 * low,
        "high": 100 * high,
        "scores": scores,
        "unread_percent": 100 * sum(r["status"] == "parse_error" for r in records) / n,
        "unreached": n - len(counted),
        "repaired_percent": 100 * sums.pop("repairs"),
        "salvages": dict(Counter(name for r in records for name in r["salvages"])),
        "seconds": seconds / n,
        "median_seconds": statistics.median(r["seconds"] for r in records),
        **sums,
    }


_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens")


def against(name):
    """Return a column's function: the difference to the row `name`, on the rows that both have."""
    from tuneful.evaluate.statistics import compare

    def show(found, rows):
        if name not in rows or rows[name] is found:
            return ""
        both = zip(rows[name]["scores"], found["scores"], strict=False)
        pairs = [(a, b) for a, b in both if a is not None and b is not None]
        told = compare([a for a, _ in pairs], [b for _, b in pairs])
        low, high = told.interval
        return f"{100 * told.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"

    return show


def show(task, demos, rows):
    """Print the table of one task with so many demos."""
    print(f"\n{task}, {demos} demos, max_tokens {TASKS[task].max_tokens}\n")
    columns = [
        ("n", 4, number("n")),
        ("score %", 8, number("score", ".1f")),
        ("95 % interval", 14, lambda found, _: f"{found['low']:.1f} to {found['high']:.1f}"),
        (f"against {next(iter(rows))}", 23, against(next(iter(rows)))),
        ("unread %", 9, number("unread_percent", ".1f")),
        ("repairs %", 10, number("repaired_percent", ".0f")),
        ("calls", 6, number("calls", ".2f")),
        ("s/example", 10, number("seconds", ".2f")),
        ("median s", 9, number("median_seconds", ".2f")),
        ("tokens in", 10, number("prompt_tokens")),
        ("cached", 7, number("cached_tokens")),
        ("out", 5, number("completion_tokens", ".1f")),
    ]
    table(columns, rows)
    for name, found in rows.items():
        salvages = ", ".join(f"{count} x {kind}" for kind, count in sorted(found["salvages"].items()))
        unreached = f"{found['unreached']} not answered and left out" if found["unreached"] else ""
        if salvages or unreached:
            print(f"  {name}: {'; '.join(filter(None, [salvages, unreached]))}")
    sys.stdout.flush()


# --- the run ---


def words(text):
    return [word.strip() for word in text.split(",") if word.strip()]


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="PYTHON", help=f"interpreter of the peer's environment: {HOW_TO_PEER}")
    parser.add_argument("--model", default="smollm2", help="smollm2, a .gguf file, or with --api-base provider/name")
    parser.add_argument("--api-base", help="a server to ask, in place of one of our own")
    parser.add_argument("--data", default=",".join(TASKS), help="data sets, by comma")
    parser.add_argument("--rows", type=int, default=100, help="rows of dev for tuneful (default 100)")
    parser.add_argument("--peer-rows", type=int, default=30, help="rows of dev for the peer (default 30)")
    parser.add_argument("--demos", default="0,10", help="numbers of demos, by comma")
    parser.add_argument("--adapters", help="adapters, by comma (default: compact,json,chat,xml)")
    parser.add_argument("--in-flight", type=int, default=1, help="examples in flight (default 1)")
    parser.add_argument("--threads", type=int, help="threads that compute; by default as the embedded model has it")
    parser.add_argument("--out", type=Path, help="file to which each row's figures are appended, as a line of JSON")
    parser.add_argument("--raw", type=Path, help="folder for prompts and answers, a file for each row")
    found = parser.parse_args()
    for name in words(found.data):
        if name not in TASKS:
            parser.error(f"no task {name}; there are {', '.join(TASKS)}")
    if found.peer:  # not resolved: an environment's interpreter is a link, and the link is what tells it where it lives
        found.peer = os.path.abspath(found.peer)  # noqa: PTH100
    return found


_ADAPTERS = ("compact", "json", "chat", "xml")


def settings(chosen):
    """Return the settings of the model that are not its defaults, in process and in the server."""
    slots = {"slots": chosen.in_flight} if chosen.in_flight > 1 else {}
    return {**slots, **({"threads": chosen.threads} if chosen.threads else {})}


class Run:
    """All rows of all tables, against one server."""

    def __init__(self, chosen, api_base):
        from tuneful.adapters.select import ADAPTERS

        usual = [name for name in _ADAPTERS if name in ADAPTERS]
        self.chosen = chosen
        self.model = chosen.model if chosen.api_base else f"llamacpp/{SERVED}"
        self.api_base = api_base
        self.adapters = words(chosen.adapters) if chosen.adapters else usual

    def candidates(self):
        """Yield name, case, its options and its interpreter."""
        served = {"model": self.model, "api_base": self.api_base}
        embedded = {"model": f"local/{self.chosen.model}", "api_base": None, "settings": settings(self.chosen)}
        rows = self.chosen.rows
        for adapter in self.adapters:  # compact first: the default of a small model
            where = {**served, "settings": {}} if self.chosen.api_base else embedded
            yield adapter, "tuneful", {"adapter": adapter, "rows": rows, **where}, None
        if not self.chosen.api_base:  # as the peer has it: over HTTP
            yield "auto, served", "tuneful", {"adapter": "auto", "rows": rows, **served, "settings": {}}, None
        if self.chosen.peer:
            model = self.chosen.model if self.chosen.api_base else f"openai/{SERVED}"
            own = {"rows": min(self.chosen.rows, self.chosen.peer_rows), **served, "model": model}
            yield PEER, "dspy", own, self.chosen.peer

    def table_of(self, task, demos):
        rows = {}
        load = {"task": task, "demos": demos, "in_flight": self.chosen.in_flight}
        for name, case, own, python in self.candidates():
            found = run_case(__file__, case, {**load, **own}, python)
            records = scored(task, found)
            rows[name] = figures(records, found["seconds"])
            self.keep({"task": task, "demos": demos, "candidate": name, **rows[name]}, records)
        show(task, demos, rows)

    def keep(self, row, records):
        """Print a row as soon as it is there, and write it down."""
        print(
            f"{row['task']}, {row['demos']} demos, {row['candidate']}: {row['score']:.1f} % "
            f"({row['low']:.1f} to {row['high']:.1f}), {row['unread_percent']:.1f} % unread, {row['seconds']:.2f} s",
            flush=True,
        )
        if self.chosen.out:
            with self.chosen.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"model": self.chosen.model, **row}) + "\n")
        if self.chosen.raw:
            self.chosen.raw.mkdir(parents=True, exist_ok=True)
            name = f"{row['task']}-{row['demos']}-{row['candidate'].partition(' ')[0]}.jsonl"
            (self.chosen.raw / name).write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")


def main():
    chosen = options()
    present = [name for name in words(chosen.data) if TASKS[name].folder.is_dir()]
    for name in words(chosen.data):
        if name not in present:
            print(f"{name} skipped: there is no folder {TASKS[name].folder}")
    if not chosen.peer:
        print(f"Without {PEER}: give --peer PYTHON, of an environment made by `{HOW_TO_PEER}`.")
    print(f"{chosen.model}, {chosen.rows} rows, {chosen.in_flight} in flight")
    if chosen.api_base:
        tables(Run(chosen, chosen.api_base), present)
        return
    from tuneful.backends.local.find import NAMED_MODELS, find_model

    path = find_model(chosen.model).resolve()
    chosen.model = chosen.model if chosen.model in NAMED_MODELS else str(path)
    with LlamaServer(path, **settings(chosen)) as server:
        tables(Run(chosen, server.address), present)


def tables(run, names):
    """Print every table."""
    for name in names:
        for demos in map(int, words(run.chosen.demos)):
            run.table_of(name, demos)


if __name__ == "__main__":
    dispatch(CASES, main)
