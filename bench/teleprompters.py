"""Teleprompters on a small model, beside the peer's of the same name: held-out scores at equal token budgets.

    python bench/teleprompters.py [--peer PYTHON] [--data trec6,sst2] [--rows 60] [--test 200] [--seeds 5]

A seed draws `--rows` of train. The peer compiles on them as it comes; tuneful compiles on the same rows, and may spend
as many tokens as the peer did (without a peer: no limit). Both ask one llama.cpp server with the settings of the
embedded model (llama_server.py), greedy, with the same `max_tokens` and a response cache that is empty at the start of
each compile; what a cache serves is no token. Every run is a process of its own. Then the programs answer the same
`--test` rows of dev, which no compile has seen.

`score` is the mean over the seeds, with its 95 % interval over them (Student's t); `gain` is that against the program
before the compile, and `against` that against the peer, both paired by seed. tuneful has two rows: what `compile`
returned, which is the original where a gain could be noise or the budget ended before the comparison, and the candidate
that the search preferred. `ktok` are thousands of tokens of the compile, `tok/test` those of an answer.

The peer's interpreter: {how} numpy optuna. Tasks stand in tasks.py; sets that are not there are skipped.
"""

import argparse
import json
import os
import statistics
import sys
import threading
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llama_server import LlamaServer
from measure import HOW_TO_PEER, PEER, dispatch, emit, run_case, table
from tasks import TASKS, same, same_number

__doc__ = __doc__.format(how=HOW_TO_PEER)

SERVED = "served"  # how the model of our own server is called

#: What is compared, by the name that both give it. `stacked` is a bootstrap of a bootstrap.
RECIPES = (
    "uncompiled",
    "LabeledFewShot",
    "BootstrapFewShot",
    "stacked",
    "BootstrapFewShotWithRandomSearch",
    "BootstrapFewShotWithOptuna",
    "KNNFewShot",
    "Ensemble",
)

#: Tasks whose score needs nothing of tuneful, so that the peer's metric is the same function.
USABLE = [name for name, task in TASKS.items() if task.score in (same, same_number)]

_DIMENSIONS = 256


def vectors(texts):
    """Embed texts as counts of hashed letter trigrams: the same for both, and without a model."""
    found = []
    for text in texts:
        counts = [0.0] * _DIMENSIONS
        for i in range(len(text) - 2):
            counts[zlib.crc32(text[i : i + 3].lower().encode()) % _DIMENSIONS] += 1
        found.append(counts)
    return found


def metric_of(task):
    def metric(example, prediction, _trace=None):
        return bool(task.score(getattr(prediction, task.output, None), example[task.output]))

    return metric


def compiled_by(framework, recipe, task, options, student, trainset, *, programs, **run):
    """Return a compiled program, by either framework: names and arguments are the same.

    `programs` gives the best candidates of a random search; `run` are further arguments of `compile`.
    """
    metric, few = metric_of(task), {"max_bootstrapped_demos": 4, "max_labeled_demos": options["labelled"]}
    search = {**few, "num_candidate_programs": options["candidates"], "num_threads": options["in_flight"]}
    match recipe:
        case "LabeledFewShot":
            return framework.LabeledFewShot(k=options["labelled"]).compile(student, trainset=trainset, **run)
        case "BootstrapFewShot":
            return framework.BootstrapFewShot(metric=metric, **few).compile(student, trainset=trainset, **run)
        case "stacked":
            once = framework.BootstrapFewShot(metric=metric, **few).compile(student, trainset=trainset, **run)
            again = framework.BootstrapFewShot(metric=metric, **few)
            return again.compile(student, teacher=once, trainset=trainset, **run)
        case "BootstrapFewShotWithRandomSearch" | "Ensemble":
            chosen = framework.BootstrapFewShotWithRandomSearch(metric=metric, **search)
            found = chosen.compile(student, trainset=trainset, **run)
            if recipe == "Ensemble":
                return framework.Ensemble(reduce_fn=framework.majority).compile(programs(found))
            return found
        case "BootstrapFewShotWithOptuna":
            from_ = framework if hasattr(framework, recipe) else framework.teleprompt
            chosen = from_.BootstrapFewShotWithOptuna(metric=metric, **search)
            return chosen.compile(student, trainset=trainset, **({} if "budget" in run else {"max_demos": 4}), **run)
        case "KNNFewShot":
            shown = {"metric": metric, "max_labeled_demos": options["labelled"]}
            embedder = framework.Embedder(vectors)
            return framework.KNNFewShot(4, trainset, embedder, **shown).compile(student, **run)
    return student


def rows_of(framework, task, rows):
    return [framework.Example(row).with_inputs(*task.inputs) for row in rows]


# --- cases: one process each ---


def tuneful(task, recipe, seed, model, api_base, tokens, options):
    """Compile with tuneful, and answer the test rows with what was returned, and with the candidate."""
    import tuneful as tf

    task = TASKS[task]
    lm = tf.LM(model, api_base=api_base, max_tokens=task.max_tokens, num_retries=0)
    lm.probe()
    tf.configure(lm=lm, cache="cache.sqlite", num_threads=options["in_flight"], adapter=options["adapter"])
    student, trainset = task.program(tf, []), rows_of(tf, task, task.demos(options["rows"], seed))
    compiles = 2 if recipe == "stacked" else 1
    budget = tf.Budget(tokens=tokens // compiles if tokens else None)
    begun = time.perf_counter()
    with tf.track_usage() as meter:
        program = compiled_by(
            tf, recipe, task, options, student, trainset, budget=budget, seed=seed,
            programs=lambda found: [c.program for c in found.report.top(3)] or [student],
        ) if recipe != "uncompiled" else student  # fmt: skip
    report = program.report
    figures = {
        "tokens": meter.usage.total_tokens,
        "seconds": time.perf_counter() - begun,
        "verdict": report.verdict if report else "",
        "stop_reason": report.stop_reason if report else "",
        "returned": tuneful_answers(tf, program, task, options),
    }
    if report and report.candidate and not report.improved:
        figures["candidate"] = tuneful_answers(tf, program.with_parameters(report.candidate), task, options)
    emit(figures)


def tuneful_answers(tf, program, task, options):
    devset = rows_of(tf, task, task.rows(options["test"]))
    result = tf.Evaluate(devset=devset, metric=lambda *_: True, num_threads=options["in_flight"])(program)
    return {
        "answers": [row.prediction[task.output] if row.status == "ok" else None for row in result.rows],
        "statuses": dict(Counter(row.status for row in result.rows)),
        "tokens": sum(row.usage.total_tokens for row in result.rows),
    }


def dspy(task, recipe, seed, model, api_base, options):
    """Compile with the peer, and answer the test rows."""
    import importlib.util
    import logging

    needed = {"BootstrapFewShotWithOptuna": "optuna", "KNNFewShot": "numpy"}.get(recipe)
    if needed and importlib.util.find_spec(needed) is None:
        emit({"skipped": f"the peer's {recipe} needs {needed}"})
        return
    import dspy
    import dspy.teleprompt

    logging.getLogger("dspy").setLevel(logging.CRITICAL)
    spent, lock = Counter(), threading.Lock()

    class Counted(dspy.LM):
        """Counts the tokens of all copies; an answer from the cache has none."""

        def update_history(self, entry):
            super().update_history(entry)
            with lock:
                spent["tokens"] += (entry.get("usage") or {}).get("total_tokens") or 0

    task = TASKS[task]
    key = {"api_key": "x"} if "OPENAI_API_KEY" not in os.environ else {}
    lm = Counted(model, api_base=api_base, temperature=0.0, max_tokens=task.max_tokens, num_retries=0, **key)
    dspy.configure(lm=lm, adapter=dspy.ChatAdapter(), num_threads=options["in_flight"])
    student, trainset = task.program(dspy, []), rows_of(dspy, task, task.demos(options["rows"], seed))
    begun = time.perf_counter()
    program = compiled_by(
        dspy, recipe, task, options, student, trainset,
        programs=lambda found: [c["program"] for c in found.candidate_programs[:3]],
    )  # fmt: skip
    figures = {"tokens": spent["tokens"], "seconds": time.perf_counter() - begun, "verdict": "", "stop_reason": ""}
    spent.clear()
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
    emit({**figures, "returned": {"answers": answers, "statuses": dict(statuses), "tokens": spent["tokens"]}})


CASES = {"tuneful": tuneful, "dspy": dspy}

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


def paired(found, base):
    """Return the mean difference to another row, paired by seed, as a text."""
    seeds = sorted(set(found["scores"]) & set((base or {}).get("scores", {})))
    return interval([found["scores"][s] - base["scores"][s] for s in seeds]) if seeds and found is not base else ""


def mean_of(key, scale=1.0):
    return lambda found, _: f"{statistics.fmean(found[key]) / scale:,.0f}" if found[key] else ""


class Bench:
    """All runs of one data set."""

    def __init__(self, name, chosen, api_base):
        self.task, self.chosen = TASKS[name], chosen
        self.options = {
            "rows": chosen.rows,
            "test": chosen.test,
            "labelled": chosen.labelled,
            "candidates": chosen.candidates,
            "in_flight": chosen.in_flight,
            "adapter": None if chosen.adapter == "auto" else chosen.adapter,
        }
        self.api_base = api_base
        self.rows = {}

    def run(self):
        for recipe in self.chosen.recipes:
            for seed in range(1 if recipe == "uncompiled" else self.chosen.seeds):
                self.seed(recipe, seed)
        self.show()

    def seed(self, recipe, seed):
        peer = self.case(PEER, "dspy", recipe, seed, None, self.chosen.peer) if self.chosen.peer else None
        tokens = peer["tokens"] if peer and peer["tokens"] else None
        self.case("tuneful", "tuneful", recipe, seed, tokens, None)

    def case(self, name, case, recipe, seed, tokens, python):
        own = self.chosen.model if self.chosen.api_base else f"{'openai' if python else 'llamacpp'}/{SERVED}"
        load = {"task": self.task.name, "recipe": recipe, "seed": seed, "model": own, "api_base": self.api_base}
        limit = {} if python else {"tokens": tokens}
        found = run_case(__file__, case, {**load, **limit, "options": self.options}, python)
        if "skipped" in found:
            print(f"{recipe}, {name}: {found['skipped']}", flush=True)
            return None
        for kind in ("returned", "candidate"):
            shown = found.get(kind) or found["returned"]
            label = f"{name} {kind}" if case == "tuneful" else name
            if kind == "candidate" and (case == "dspy" or recipe in ("uncompiled", "LabeledFewShot", "Ensemble")):
                continue
            row = self.rows.setdefault((recipe, label), {"scores": {}, "tokens": [], "answer": [], "seconds": []})
            row["scores"][seed] = score_of(self.task, shown["answers"])
            row["tokens"].append(found["tokens"])
            row["answer"].append(shown["tokens"] / len(shown["answers"]))
            row["seconds"].append(found["seconds"])
            row.setdefault("verdicts", Counter())[found["verdict"]] += 1
            self.keep({"task": self.task.name, "recipe": recipe, "who": label, "seed": seed, "budget": tokens,
                       "score": row["scores"][seed], **{k: v for k, v in found.items() if k not in CASE_ANSWERS},
                       "statuses": shown["statuses"], "tokens_per_answer": row["answer"][-1]})  # fmt: skip
        return found

    def keep(self, line):
        print(f"{line['task']}, {line['recipe']}, seed {line['seed']}, {line['who']}: {line['score']:.1f} %, "
              f"{line['tokens']:,} tokens {line['verdict']} {line['stop_reason']}", flush=True)  # fmt: skip
        if self.chosen.out:
            with self.chosen.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"model": self.chosen.model, **self.options, **line}) + "\n")

    def show(self):
        print(f"\n{self.task.name}: {self.chosen.rows} of train, {self.chosen.test} of dev, {self.chosen.seeds} seeds")
        every = {f"{recipe}, {who}": found for (recipe, who), found in self.rows.items()}

        def gain(found, _):
            who = "tuneful returned" if "tuneful" in found["who"] else PEER
            start = self.rows.get(("uncompiled", who))
            base = start and {"scores": dict.fromkeys(range(self.chosen.seeds), start["scores"][0])}
            return "" if found["recipe"] == "uncompiled" else paired(found, base)

        for (recipe, who), found in self.rows.items():
            found.update(recipe=recipe, who=who)
        columns = [
            ("score", 12, lambda found, _: interval(list(found["scores"].values()))),
            ("gain", 12, gain),
            ("against", 12, lambda f, _: paired(f, self.rows.get((f["recipe"], PEER))) if f["who"] != PEER else ""),
            ("ktok", 8, mean_of("tokens", 1000)),
            ("tok/test", 9, mean_of("answer")),
            ("s", 6, mean_of("seconds")),
            ("verdicts", 40, lambda f, _: ", ".join(f"{n} x {v}" for v, n in f["verdicts"].items() if v)),
        ]
        table(columns, every)
        print(flush=True)


CASE_ANSWERS = ("returned", "candidate")

# --- the run ---


def words(text):
    return [word.strip() for word in text.split(",") if word.strip()]


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="PYTHON", help=f"interpreter of the peer's environment: {HOW_TO_PEER}")
    parser.add_argument("--model", default="smollm2", help="smollm2, a .gguf file, or with --api-base provider/name")
    parser.add_argument("--api-base", help="a server to ask, in place of one of our own")
    parser.add_argument("--data", default=",".join(USABLE), help="data sets, by comma")
    parser.add_argument("--recipes", default=",".join(RECIPES), help="teleprompters, by comma")
    parser.add_argument("--rows", type=int, default=60, help="rows of train (default 60)")
    parser.add_argument("--test", type=int, default=200, help="rows of dev (default 200)")
    parser.add_argument("--seeds", type=int, default=5, help="draws of train (default 5)")
    parser.add_argument("--candidates", type=int, default=6, help="random candidates of a search (default 6)")
    parser.add_argument("--labelled", type=int, default=8, help="most demos of a predictor (default 8)")
    parser.add_argument("--adapter", default="auto", help="tuneful's adapter (default auto); the peer has its chat one")
    parser.add_argument("--in-flight", type=int, default=2, help="examples in flight (default 2)")
    parser.add_argument("--out", type=Path, help="file to which each run is appended, as a line of JSON")
    found = parser.parse_args()
    found.recipes = words(found.recipes)
    for what, known in ((words(found.data), USABLE), (found.recipes, RECIPES)):
        if unknown := [name for name in what if name not in known]:
            parser.error(f"there is no {unknown[0]}; there are {', '.join(known)}")
    if found.peer:  # not resolved: an environment's interpreter is a link, and the link is what tells it where it lives
        found.peer = os.path.abspath(found.peer)  # noqa: PTH100
    return found


def main():
    chosen = options()
    if not chosen.peer:
        print(f"Without {PEER}: give --peer PYTHON, of an environment made by `{HOW_TO_PEER} numpy optuna`.")
    names = [name for name in words(chosen.data) if TASKS[name].folder.is_dir()]
    if chosen.api_base:
        benches(names, chosen, chosen.api_base)
        return
    from tuneful.backends.local.find import NAMED_MODELS, find_model

    path = find_model(chosen.model).resolve()
    chosen.model = chosen.model if chosen.model in NAMED_MODELS else str(path)
    with LlamaServer(path, **({"slots": chosen.in_flight} if chosen.in_flight > 1 else {})) as server:
        benches(names, chosen, server.address)


def benches(names, chosen, api_base):
    for name in names:
        Bench(name, chosen, api_base).run()


if __name__ == "__main__":
    sys.exit(dispatch(CASES, main))
