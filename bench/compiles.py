"""What benchmarks of teleprompters share: a compile in its own process, by tuneful or the peer, and its test answers.

Both ask one llama.cpp server with the settings of the embedded model (llama_server.py), greedy, with the same
`max_tokens` and a response cache that is empty at the start of each compile; what a cache serves is no token. Then the
program answers `test` rows of dev, which no compile has seen. Tasks stand in tasks.py.

A small model hardly ever writes the form that the peer's adapter asks for by default; with `--peer-adapter json` it has
its JSON form, with a schema that the server enforces, as the grammar of our compact form is.
"""

import argparse
import logging
import os
import statistics
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from llama_server import LlamaServer
from measure import HOW_TO_PEER, PEER
from tasks import TASKS, overlap, same, same_number

SERVED = "served"  # how the model of our own server is called

#: Tasks whose score the peer's process can compute too, so that its metric is the same function.
USABLE = [name for name, task in TASKS.items() if task.score in (same, same_number, overlap)]
#: Where a score has degrees (words that overlap), the least of a run that demos are made of.
GOOD = 0.5

#: What a run answers, beside its figures.
ANSWERS = ("returned", "candidate")


class BudgetSpent(BaseException):
    """Ends a peer's compile at its budget. No handler of its own may take it for a run that failed."""


def metric_of(task):
    def metric(example, prediction, trace=None):
        score = task.score(getattr(prediction, task.output, None), example[task.output])
        return score if trace is None else score >= GOOD  # a trace is there where demos are bootstrapped, at both

    return metric


def rows_of(framework, task, rows):
    return [framework.Example(row).with_inputs(*task.inputs) for row in rows]


# --- a compile, in the process of a case ---


def by_tuneful(task, seed, model, api_base, options, compiled):
    """Compile with tuneful, and answer the test rows with what was returned, and with the candidate.

    `compiled` gets the framework, the student, the train rows, and a function that returns an LM with more tokens.
    """
    import tuneful as tf

    def lm(**settings):
        return tf.LM(model, api_base=api_base, num_retries=0, **settings)

    asked = lm(max_tokens=task.max_tokens)
    asked.probe()
    tf.configure(lm=asked, cache="cache.sqlite", num_threads=options["in_flight"], adapter=options["adapter"])
    student, trainset = task.program(tf, []), rows_of(tf, task, task.train(options["rows"], seed))
    begun = time.perf_counter()
    with tf.track_usage() as meter:
        program = compiled(tf, student, trainset, lm)
    report = program.report
    figures = {
        "tokens": meter.usage.total_tokens,
        "seconds": time.perf_counter() - begun,
        "verdict": report.verdict if report else "",
        "stop_reason": report.stop_reason if report else "",
        "returned": _answers_of_tuneful(tf, program, task, options),
    }
    if report and report.candidate and not report.improved:
        figures["candidate"] = _answers_of_tuneful(tf, program.with_parameters(report.candidate), task, options)
    return figures


def _answers_of_tuneful(tf, program, task, options):
    devset = rows_of(tf, task, task.rows(options["test"]))
    result = tf.Evaluate(devset=devset, metric=lambda *_: True, num_threads=options["in_flight"])(program)
    return {
        "answers": [row.prediction[task.output] if row.status == "ok" else None for row in result.rows],
        "statuses": dict(Counter(row.status for row in result.rows)),
        "tokens": sum(row.usage.total_tokens for row in result.rows),
    }


def by_peer(task, seed, model, api_base, options, compiled, limit=None):
    """Compile with the peer, and answer the test rows; see `by_tuneful`.

    At `limit` tokens the next request of the compile raises `BudgetSpent`, which `compiled` deals with.
    """
    import dspy

    sys.path.append(str(Path(__file__).resolve().parents[1] / "src"))  # words are compared by a metric of ours
    logging.getLogger("dspy").setLevel(logging.CRITICAL)
    spent, lock, form = Counter(limit=limit or 0), threading.Lock(), options["peer_adapter"]

    class Counted(dspy.LM):
        """Counts the tokens of all copies; an answer from the cache has none."""

        def __call__(self, *given, **named):
            if 0 < spent["limit"] <= spent["tokens"]:
                raise BudgetSpent
            return super().__call__(*given, **named)

        def update_history(self, entry):
            super().update_history(entry)
            with lock:
                spent["tokens"] += (entry.get("usage") or {}).get("total_tokens") or 0

        if form == "json":  # a server can do what no list says of it
            supports_response_schema = True

            @property
            def supported_params(self):
                return {*super().supported_params, "response_format"}

    key = {"api_key": "x"} if "OPENAI_API_KEY" not in os.environ else {}

    def lm(**settings):
        return Counted(model, **{"api_base": api_base, "num_retries": 0, "temperature": 0.0, **settings}, **key)

    adapter = {"chat": dspy.ChatAdapter, "json": dspy.JSONAdapter}[form]()
    dspy.configure(lm=lm(max_tokens=task.max_tokens), adapter=adapter, num_threads=options["in_flight"])
    dspy.configure(max_errors=10**9)  # by default ten answers that it cannot read end a compile with an exception
    student, trainset = task.program(dspy, []), rows_of(dspy, task, task.train(options["rows"], seed))
    begun = time.perf_counter()
    with redirect_stdout(sys.stderr):  # its bars and prints: the figures have a line of their own
        program, stopped = compiled(dspy, student, trainset, lm)
        for thread in threading.enumerate():  # rows that a compile left behind when it was stopped end at once
            if thread.name.startswith("ThreadPoolExecutor"):
                thread.join(timeout=60)
    figures = {"tokens": spent["tokens"], "seconds": time.perf_counter() - begun, "verdict": "", "stop_reason": stopped}
    spent.clear()
    answered = _answers_of_peer(program, task, options)
    return {**figures, "returned": {**answered, "tokens": spent["tokens"]}}


def _answers_of_peer(program, task, options):
    answers, statuses = [], Counter()

    def one(row):
        try:
            return "ok", getattr(program(**{name: row[name] for name in task.inputs}), task.output)
        except Exception as error:
            return type(error).__name__, None

    with ThreadPoolExecutor(options["in_flight"]) as pool:
        for status, answer in pool.map(one, task.rows(options["test"])):
            answers.append(answer)
            statuses[status] += 1
    return {"answers": answers, "statuses": dict(statuses)}


# --- figures ---


def score_of(task, answers):
    rows = task.rows(len(answers))
    scores = [task.score(a, r[task.output]) if a is not None else 0.0 for a, r in zip(answers, rows, strict=True)]
    return 100 * statistics.fmean(scores)


def interval(values):
    """Return mean and 95 % interval as a text."""
    from tuneful.evaluate.statistics import t_quantile

    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    half = t_quantile(len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.1f} ±{half:.1f}"


def paired(scores, base):
    """Return the mean difference of scores by seed to those of another row, as a text; "" where no seed has both."""
    seeds = sorted(set(scores) & set(base))
    return interval([scores[s] - base[s] for s in seeds]) if seeds else ""


# --- the command line ---


def words(text):
    return [word.strip() for word in text.split(",") if word.strip()]


def arguments(doc):
    """Return a parser with the options that all have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="PYTHON", help=f"interpreter of the peer's environment: {HOW_TO_PEER}")
    parser.add_argument("--model", default="smollm2", help="smollm2, a .gguf file, or with --api-base provider/name")
    parser.add_argument("--api-base", help="a server to ask, in place of one of our own")
    parser.add_argument("--data", default=",".join(USABLE), help="data sets, by comma")
    parser.add_argument("--rows", type=int, default=60, help="rows of train (default 60)")
    parser.add_argument("--test", type=int, default=200, help="rows of dev (default 200)")
    parser.add_argument("--seeds", type=int, default=5, help="draws of train (default 5)")
    parser.add_argument("--labelled", type=int, default=8, help="most demos of a predictor (default 8)")
    parser.add_argument("--adapter", default="auto", help="tuneful's adapter (default auto)")
    parser.add_argument(
        "--peer-adapter",
        choices=("chat", "json"),
        default="chat",
        help="the peer's: its default, or JSON with a schema that the server enforces",
    )
    parser.add_argument("--in-flight", type=int, default=2, help="examples in flight (default 2)")
    parser.add_argument("--out", type=Path, help="file to which each run is appended, as a line of JSON")
    return parser


def parsed(parser, *lists):
    """Return the options; each of `lists` is (name, what there is) of an option with names by comma."""
    found = parser.parse_args()
    for option, known in (("data", USABLE), *lists):
        names = words(getattr(found, option))
        if unknown := [name for name in names if name not in known]:
            parser.error(f"there is no {unknown[0]}; there are {', '.join(known)}")
        setattr(found, option, names)
    found.data = [name for name in found.data if TASKS[name].folder.is_dir()]
    if found.peer:  # not resolved: an environment's interpreter is a link, and the link is what tells it where it lives
        found.peer = os.path.abspath(found.peer)  # noqa: PTH100
    else:
        print(f"Without {PEER}: give --peer PYTHON, of an environment made by `{HOW_TO_PEER} numpy optuna`.")
    return found


def options_of(chosen):
    """Return what the cases are told."""
    adapter = None if chosen.adapter == "auto" else chosen.adapter
    named = ("rows", "test", "labelled", "in_flight", "peer_adapter")
    return {**{name: getattr(chosen, name) for name in named}, "adapter": adapter}


def model_of(chosen, *, peer):
    """Return the model's name for either framework."""
    return chosen.model if chosen.api_base else f"{'openai' if peer else 'llamacpp'}/{SERVED}"


@contextmanager
def model_server(chosen):
    """Serve the model, where no server is named; gives the address."""
    if chosen.api_base:
        yield chosen.api_base
        return
    from tuneful.backends.local.find import NAMED_MODELS, find_model

    path = find_model(chosen.model).resolve()
    chosen.model = chosen.model if chosen.model in NAMED_MODELS else str(path)
    with LlamaServer(path, **({"slots": chosen.in_flight} if chosen.in_flight > 1 else {})) as server:
        yield server.address
