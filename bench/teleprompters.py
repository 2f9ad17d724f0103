"""Teleprompters on a small model, beside the peer's of the same name: held-out scores at equal token budgets.

    python bench/teleprompters.py [--peer PYTHON] [--data trec6,sst2] [--rows 60] [--test 200] [--seeds 5]

A seed draws `--rows` of train. The peer compiles on them as it comes; tuneful compiles on the same rows, and may spend
as many tokens as the peer did (without a peer: no limit). Both ask one llama.cpp server with the settings of the
embedded model (llama_server.py), greedy, with the same `max_tokens` and a response cache that is empty at the start of
each compile; what a cache serves is no token. Every run is a process of its own. Then the programs answer the same
`--test` rows of dev, which no compile has seen. `--out` keeps each run as a line of JSON, and what stands there is not
run again: a stopped bench goes on.

`score` is the mean over the seeds, with its 95 % interval over them (Student's t); `gain` is that against the program
before the compile, and `against` that against the peer, both paired by seed. tuneful has two rows: what `compile`
returned, which is the original where a gain could be noise or the budget ended before the comparison, and the candidate
that the search preferred. `ktok` are thousands of tokens of the compile, `tok/test` those of an answer.

The peer's interpreter: {how} numpy optuna. Tasks stand in tasks.py; sets that are not there are skipped.
"""

import json
import sys
import zlib
from collections import Counter
from statistics import fmean

from compiles import (
    ANSWERS,
    arguments,
    by_peer,
    by_tuneful,
    interval,
    metric_of,
    model_of,
    model_server,
    options_of,
    paired,
    parsed,
    score_of,
)
from measure import HOW_TO_PEER, PEER, dispatch, emit, run_case, table
from tasks import TASKS

__doc__ = __doc__.format(how=HOW_TO_PEER)

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


# --- cases: one process each ---


def tuneful(task, recipe, seed, model, api_base, tokens, options):
    compiles = 2 if recipe == "stacked" else 1

    def compiled(tf, student, trainset, _):
        if recipe == "uncompiled":
            return student
        return compiled_by(
            tf, recipe, TASKS[task], options, student, trainset, seed=seed,
            budget=tf.Budget(tokens=tokens // compiles if tokens else None),
            programs=lambda found: [c.program for c in found.report.top(3)] or [student],
        )  # fmt: skip

    emit(by_tuneful(TASKS[task], seed, model, api_base, options, compiled))


def dspy(task, recipe, seed, model, api_base, options):
    import importlib.util

    needed = {"BootstrapFewShotWithOptuna": "optuna", "KNNFewShot": "numpy"}.get(recipe)
    if needed and importlib.util.find_spec(needed) is None:
        emit({"skipped": f"the peer's {recipe} needs {needed}"})
        return

    def compiled(dspy, student, trainset, _):
        import dspy.teleprompt

        programs = lambda found: [c["program"] for c in found.candidate_programs[:3]]  # noqa: E731
        return compiled_by(dspy, recipe, TASKS[task], options, student, trainset, programs=programs), ""

    emit(by_peer(TASKS[task], seed, model, api_base, options, compiled))


CASES = {"tuneful": tuneful, "dspy": dspy}

# --- figures ---


def mean_of(key, scale=1.0):
    return lambda found, _: f"{fmean(found[key]) / scale:,.0f}" if found[key] else ""


class Bench:
    """All runs of one data set."""

    def __init__(self, name, chosen, api_base):
        self.task, self.chosen = TASKS[name], chosen
        self.options = {**options_of(chosen), "candidates": chosen.candidates}
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
        """Return a run's first line, from `--out` where it stands there; the figures of all join the table."""
        run = {"model": self.chosen.model, **self.options, "task": self.task.name, "recipe": recipe, "seed": seed}
        labels = (name,) if case == "dspy" else tuple(f"{name} {kind}" for kind in ANSWERS)
        found = self.known({**run, "budget": tokens}, labels)
        if not found:
            own = model_of(self.chosen, peer=bool(python))
            load = {"task": self.task.name, "recipe": recipe, "seed": seed, "model": own, "api_base": self.api_base}
            limit = {} if python else {"tokens": tokens}
            made = run_case(__file__, case, {**load, **limit, "options": self.options}, python)
            if "skipped" in made:
                print(f"{recipe}, {name}: {made['skipped']}", flush=True)
                return None
            alone = case == "dspy" or recipe in ("uncompiled", "LabeledFewShot", "Ensemble")
            found = [
                self.line({**run, "budget": tokens}, label, made, made.get(kind) or made["returned"])
                for label, kind in zip(labels, ANSWERS, strict=False)
                if kind == "returned" or not alone
            ]
        for line in found:
            self.add(line)
        return found[0]

    def known(self, run, labels):
        """Return the lines of `--out` that are of this run."""
        if not (self.chosen.out and self.chosen.out.exists()):
            return []
        lines = [json.loads(line) for line in self.chosen.out.read_text("utf-8").splitlines()]
        return [line for line in lines if line["who"] in labels and run.items() <= line.items()]

    def line(self, run, label, made, shown):
        """Return the figures of a run, and keep them."""
        figures = {
            "score": score_of(self.task, shown["answers"]),
            **{k: v for k, v in made.items() if k not in ANSWERS},
        }
        each = shown["tokens"] / len(shown["answers"])
        line = {**run, "who": label, **figures, "statuses": shown["statuses"], "tokens_per_answer": each}
        if self.chosen.out:
            with self.chosen.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        return line

    def add(self, line):
        print(f"{line['task']}, {line['recipe']}, seed {line['seed']}, {line['who']}: {line['score']:.1f} %, "
              f"{line['tokens']:,} tokens {line['verdict']} {line['stop_reason']}", flush=True)  # fmt: skip
        empty = {"scores": {}, "tokens": [], "answer": [], "seconds": [], "verdicts": Counter()}
        row = self.rows.setdefault((line["recipe"], line["who"]), empty)
        row["scores"][line["seed"]] = line["score"]
        row["tokens"].append(line["tokens"])
        row["answer"].append(line["tokens_per_answer"])
        row["seconds"].append(line["seconds"])
        row["verdicts"][line["verdict"]] += 1

    def show(self):
        print(f"\n{self.task.name}: {self.chosen.rows} of train, {self.chosen.test} of dev, {self.chosen.seeds} seeds")
        every = {f"{recipe}, {who}": found for (recipe, who), found in self.rows.items()}

        def gain(found, _):
            who = "tuneful returned" if "tuneful" in found["who"] else PEER
            start = self.rows.get(("uncompiled", who))
            base = dict.fromkeys(range(self.chosen.seeds), start["scores"][0]) if start else {}
            return "" if found["recipe"] == "uncompiled" else paired(found["scores"], base)

        def against(found, _):
            peer = self.rows.get((found["recipe"], PEER))
            return paired(found["scores"], peer["scores"]) if peer and found is not peer else ""

        for (recipe, who), found in self.rows.items():
            found.update(recipe=recipe, who=who)
        columns = [
            ("score", 12, lambda found, _: interval(list(found["scores"].values()))),
            ("gain", 12, gain),
            ("against", 12, against),
            ("ktok", 8, mean_of("tokens", 1000)),
            ("tok/test", 9, mean_of("answer")),
            ("s", 6, mean_of("seconds")),
            ("verdicts", 40, lambda f, _: ", ".join(f"{n} x {v}" for v, n in f["verdicts"].items() if v)),
        ]
        table(columns, every)
        print(flush=True)


# --- the run ---


def main():
    parser = arguments(__doc__)
    parser.add_argument("--recipes", default=",".join(RECIPES), help="teleprompters, by comma")
    parser.add_argument("--candidates", type=int, default=6, help="random candidates of a search (default 6)")
    chosen = parsed(parser, ("recipes", RECIPES))
    with model_server(chosen) as api_base:
        for name in chosen.data:
            Bench(name, chosen, api_base).run()


if __name__ == "__main__":
    sys.exit(dispatch(CASES, main))
