"""The two case studies of the DSPy paper, for any model: programs times compilers, as tables.

    python bench/paradigm.py --lm local/smollm2 [--only gsm8k] [--train 40] [--dev 60] [--test 100] [--folder FOLDER]
    python bench/paradigm.py --lm openai/NAME --api-base http://... --programs cot,reflection --compilers none,bootstrap

GSM8K: `vanilla` (a step), `cot` (a chain of thought), `reflection` (three sampled chains, compared). HotPotQA:
`vanilla` (closed book), `cot` (with passages of one search), `react` (an agent that searches), `multi-hop` (search,
read, search again, answer). Compilers: `none`; `few-shot` (LabeledFewShot, without reasoning); `bootstrap`
(BootstrapRS); `bootstrap-twice` (what that found is the teacher); `ensemble` (its best candidates vote). As in the
paper a row is what the compiler prefers; whether `compile` would return it stands under `noted`: the verdict on the
`--dev` rows.

A row has the mean on the `--test` rows with its 95 % interval, and the `lift`: the paired difference to the program's
first row that the paper has. `found` is the share of questions for which both gold passages were retrieved. `calls` and
`ktok` (thousands of tokens) are those of the compile, in which an answer that an earlier one has paid for counts
nothing; `bootstrap-twice` has the second one's alone, and `ensemble` shares that of `bootstrap`. `calls/q` and `tok/q`
are those of a test question, whoever paid. `--budget-tokens` is the most for one compile.

`published` are the paper's own lifts, on its dev sets, with the models that it names; nothing of that is run here. It
compares five chains, and searches Wikipedia's abstracts with ColBERTv2, where this searches 8,557 of them with BM25.

A run that was stopped, by `kill -9` too, is run again and goes on: compiles are named runs in FOLDER/journal.sqlite
(`tuneful runs` shows them), finished rows are kept there too, and calls in FOLDER/calls.sqlite. Asked again are only
answers of a row in the making that were cut off at `--max-tokens`. The data is that of tasks.py.

Source: Khattab et al. (2023), "DSPy: Compiling Declarative Language Model Calls into Self-Improving Pipelines",
sections 6 and 7.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tuneful as tf
from measure import number, table
from tasks import HOTPOTQA, TASKS, Task, lines
from tuneful.evaluate.statistics import compare_all, mean_interval
from tuneful.optimize.facts import hash_of
from tuneful.optimize.identity import fingerprint, metric_fingerprint
from tuneful.store.journal import Journal
from tuneful.wire.response import Usage

COMPILERS = ("none", "few-shot", "bootstrap", "bootstrap-twice", "ensemble")
CHAINS = 3
HOPS = 2
PASSAGES = 3  # of each search
DEMOS = {"max_bootstrapped_demos": 4, "max_labeled_demos": 8}

# --- programs ---

SOLVE = tf.Signature("question -> answer: float", TASKS["gsm8k"].instructions)
ANSWER = tf.Signature("question -> answer", HOTPOTQA.instructions)
READ = tf.Signature("context: list[str], question -> answer", HOTPOTQA.instructions)
SEARCH = tf.Signature(
    "context: list[str], question -> query", "Write a search query for what is still missing to answer the question."
)


class Reflection(tf.Module):
    def __init__(self):
        self.attempt = tf.ChainOfThought(SOLVE, n=CHAINS, temperature=0.7)
        self.compare = tf.MultiChainComparison(SOLVE, M=CHAINS)

    def forward(self, question):
        read = list(self.attempt(question=question).completions)  # fewer, where one could not be read
        return self.compare([read[i % len(read)] for i in range(CHAINS)], question=question)


class Reader(tf.Module):
    def __init__(self):
        self.retrieve = tf.Retrieve(k=PASSAGES)
        self.answer = tf.ChainOfThought(READ)

    def forward(self, question):
        context = self.retrieve(question).passages
        return tf.Prediction(answer=self.answer(context=context, question=question).answer, context=context)


def search(query: str) -> str:
    """Search Wikipedia. Returns the passages that fit best, each with its title."""
    return "\n".join(tf.Retrieve(k=PASSAGES)(query).passages)


class Agent(tf.Module):
    def __init__(self):
        self.agent = tf.ReAct(ANSWER, tools=[search], max_iters=5)

    def forward(self, question):
        found = self.agent(question=question)
        return tf.Prediction(answer=found.answer, context=[o for step in found.trajectory for o in step.observations])


class MultiHop(tf.Module):
    def __init__(self):
        self.queries = [tf.ChainOfThought(SEARCH) for _ in range(HOPS)]
        self.retrieve = tf.Retrieve(k=PASSAGES)
        self.answer = tf.ChainOfThought(READ)

    def forward(self, question):
        context = []
        for next_query in self.queries:
            found = self.retrieve(next_query(context=context, question=question).query).passages
            context = list(dict.fromkeys([*context, *found]))
        return tf.Prediction(answer=self.answer(context=context, question=question).answer, context=context)


# --- studies ---


@dataclass(frozen=True)
class Study:
    """A task, its programs, and the paper's scores on its dev set, in per cent: of GPT-3.5 and of Llama2-13b-chat."""

    task: Task
    programs: Mapping[str, Callable[[], tf.Module]]
    published: Mapping[tuple[str, str], tuple[float, float]]
    note: str = ""

    def base(self, program):
        """Return the compiler that the lifts of a program are over."""
        return next(c for c in COMPILERS if (program, c) in self.published)


STUDIES = {
    "gsm8k": Study(
        TASKS["gsm8k"],
        {"vanilla": partial(tf.Predict, SOLVE), "cot": partial(tf.ChainOfThought, SOLVE), "reflection": Reflection},
        {
            ("vanilla", "none"): (24.0, 7.0),
            ("vanilla", "few-shot"): (33.1, 4.3),
            ("vanilla", "bootstrap"): (44.0, 28.0),
            ("vanilla", "bootstrap-twice"): (64.7, 37.3),
            ("vanilla", "ensemble"): (62.7, 39.0),
            ("cot", "none"): (50.0, 26.7),
            ("cot", "few-shot"): (63.0, 27.3),
            ("cot", "bootstrap"): (80.3, 43.3),
            ("cot", "ensemble"): (88.3, 43.7),
            ("reflection", "none"): (65.0, 36.7),
            ("reflection", "few-shot"): (71.7, 36.3),
            ("reflection", "bootstrap"): (83.0, 44.3),
            ("reflection", "ensemble"): (86.7, 49.0),
        },
    ),
    "hotpotqa": Study(
        HOTPOTQA,
        {"vanilla": partial(tf.Predict, ANSWER), "cot": Reader, "react": Agent, "multi-hop": MultiHop},
        {
            ("vanilla", "few-shot"): (34.3, 27.5),
            ("cot", "few-shot"): (36.4, 34.5),
            ("cot", "bootstrap"): (42.3, 38.3),
            ("react", "none"): (20.3, 20.0),
            ("react", "bootstrap"): (31.0, 24.7),
            ("react", "bootstrap-twice"): (39.0, 40.0),
            ("multi-hop", "few-shot"): (36.9, 34.7),
            ("multi-hop", "bootstrap"): (48.7, 42.0),
            ("multi-hop", "ensemble"): (54.7, 50.0),
        },
        "Published, both passages found: cot 36.0 %; multi-hop with few-shot 38.3 (GPT-3.5) and 32.0 (Llama2-13b), "
        "with bootstrap 47.0 and 48.3.",
    ),
}


def both_found(row):
    """Say whether the gold passages were all retrieved. A run that failed gave none."""
    text = "\n".join(["", *(row.prediction.context if row.prediction is not None else ())])
    return all(f"\n{title} | " in text for title in row.example.gold_titles)


def metric_of(task):
    """Return the metric. While demos are gathered, a program that searches must have found the answer too."""

    def metric(example, prediction, trace=None):
        right = bool(task.score(prediction.answer, example.answer))
        searched = trace is not None and "context" in prediction
        return right and (not searched or tf.metrics.answer_passage_match(example, prediction))

    return metric


def examples(rows):
    """Return rows as examples. How a person reasoned is left out: the paper's demos find their own reasoning."""
    return [tf.Example({k: v for k, v in r.items() if k != "reasoning"}).with_inputs("question") for r in rows]


class Bench:
    """One study with one model."""

    def __init__(self, name, chosen):
        self.name, self.chosen, self.study = name, chosen, STUDIES[name]
        task = self.study.task
        self.metric = metric_of(task)
        every = task.rows(None)  # of the same file, so that neither of the two moves where the other grows
        self.test, self.dev = examples(every[: chosen.test]), examples(every[::-1][: chosen.dev])
        self.train = examples(task.demos(chosen.train))
        if len(every) < chosen.test + chosen.dev or len(self.train) < chosen.train:
            sys.exit(f"{name} has {len(every)} rows for --dev and --test together, and {len(self.train)} for --train.")

    def run(self):
        """Run every cell, print each as soon as it is there, and all of them in the end."""
        found = {}
        for program in (name for name in self.study.programs if name in self.chosen.programs):
            for compiler in (name for name in COMPILERS if name in self.chosen.compilers):
                cell = self.cell(program, compiler) | {"program": program, "compiler": compiler}
                found[f"{program}, {compiler}"] = cell
                print(f"{self.name}, {program}, {compiler}: {percent(cell.get('scores'))} {cell['noted']}", flush=True)
        if found:
            show(self, found)

    def cell(self, program, compiler):
        """Return the figures of a cell; an error is one of them, so that the others are still run."""
        try:
            made, report = self.compiled(program, compiler)
            figures = self.answers(made)
        except Exception as error:
            why = error.__cause__ if isinstance(error, tf.EvaluationError) and error.__cause__ else error
            return {"noted": f"{type(why).__name__}: {str(why).partition(chr(10))[0]:.160}"}
        noted = [f"{n} {status}" for status, n in figures["statuses"].items() if status != "ok"]
        if report:
            noted = [report.verdict, *([report.stop_reason] if report.stop_reason != "finished" else []), *noted]
            figures |= {"compile_calls": report.usage.calls, "ktok": report.usage.total_tokens / 1000}
        return figures | {"noted": ", ".join(noted)}

    def compiled(self, program, compiler):
        """Return the program that a compiler prefers, and its report; what is in the journal is read from there."""
        student = self.study.programs[program]()
        search = tf.BootstrapRS(metric=self.metric, num_candidate_programs=self.chosen.candidates, **DEMOS)
        match compiler:
            case "none":
                return student, None
            case "few-shot":
                return self.compile(tf.LabeledFewShot(k=DEMOS["max_labeled_demos"]), student, program, compiler)
            case "bootstrap":
                return self.compile(search, student, program, compiler)
            case "bootstrap-twice":
                once, _ = self.compiled(program, "bootstrap")
                return self.compile(search, student, program, compiler, teacher=once)
        _, report = self.compiled(program, "bootstrap")
        members = [candidate.program for candidate in report.top(self.chosen.members)]
        if not members:
            raise tf.UsageError(f"no candidate was scored ({report.stop_reason}), so there is none that could vote.")
        return tf.Ensemble(reduce_fn=partial(tf.majority, field="answer")).compile(members), report

    def compile(self, teleprompter, student, program, compiler, **more):
        run = f"{self.chosen.lm}, {self.name}, {program}, {compiler}"
        more |= {"trainset": self.train, "valset": self.dev, "budget": tf.Budget(tokens=self.chosen.budget_tokens)}
        report = teleprompter.compile(student, run=run, **more).report
        if report.stop_reason.startswith("interrupted"):
            sys.exit("Stopped. Run it again to go on.")
        return student.with_parameters(report.candidate), report

    def answers(self, program):
        """Return how a program does on the test rows, from the journal where it is there."""
        rows = [example.content_hash() for example in self.test]
        key = hash_of([fingerprint(program), metric_fingerprint(self.metric), rows])
        with Journal(tf.settings.journal, f"{self.chosen.lm}, {self.name}, test rows") as journal:
            found = journal.read(key)
            if found is None:
                found = measured(tf.Evaluate(devset=self.test, metric=self.metric, display_progress=True)(program))
                if None not in found["scores"]:  # rows whose model could not be reached are tried again
                    journal.write(key, found)
        return found


def measured(result):
    """Return the figures of an evaluation. What a run before this one has paid for counts too."""
    answers = [answer for row in result.rows for step in row.trace for answer in step.responses]
    usage = sum((answer.usage for answer in answers), Usage())
    searches = any(row.prediction is not None and "context" in row.prediction for row in result.rows)
    return {
        "scores": [row.score for row in result.rows],
        "found": [both_found(row) for row in result.rows if row.score is not None] if searches else [],
        "statuses": result.statuses,
        "calls": usage.calls / len(result.rows),
        "tokens": usage.total_tokens / len(result.rows),
    }


# --- tables ---


def percent(values):
    """Return mean and 95 % interval as a text."""
    counted = [float(v) for v in values or () if v is not None]
    if not counted:
        return ""
    low, high = mean_interval(counted)
    return f"{100 * sum(counted) / len(counted):.1f} ({100 * low:.1f} to {100 * high:.1f})"


def show(bench, found):
    """Print the table of a study."""
    study, chosen = bench.study, bench.chosen

    def base(cell):
        return (cell["program"], study.base(cell["program"]))

    def lift(cell, _):
        start = found.get(", ".join(base(cell)), {})
        if cell is start or not (cell.get("scores") and start.get("scores")):
            return ""
        told = compare_all(start["scores"], [cell["scores"]])[0]
        low, high = (100 * bound for bound in told.interval)
        return f"{100 * told.difference:+.1f} ({low:+.1f} to {high:+.1f})"

    def published(model):
        def show(cell, _):
            own = study.published.get((cell["program"], cell["compiler"]))
            start = study.published[base(cell)]
            return "" if own in (None, start) else f"{own[model] - start[model]:+.1f}"

        return show

    searches = any(cell.get("found") for cell in found.values())
    columns = [
        ("right %", 21, lambda cell, _: percent(cell.get("scores"))),
        *([("found %", 21, lambda cell, _: percent(cell.get("found")))] if searches else []),
        ("lift", 23, lift),
        ("published: GPT-3.5", 18, published(0)),
        ("Llama2-13b", 10, published(1)),
        ("calls", 6, number("compile_calls")),
        ("ktok", 7, number("ktok", ",.1f")),
        ("calls/q", 7, number("calls", ".1f")),
        ("tok/q", 7, number("tokens")),
        (" noted", 0, lambda cell, _: f" {cell['noted']}"),
    ]
    print(f"\n{bench.name}, {chosen.lm}: {chosen.train} of train, {chosen.dev} of dev, {chosen.test} of test\n")
    table(columns, found)
    print(study.note, flush=True)


# --- the run ---


def some_of(known):
    """Return what reads a list of names, by comma."""

    def read(text):
        found = [word.strip() for word in text.split(",") if word.strip()]
        if unknown := [word for word in found if word not in known]:
            raise argparse.ArgumentTypeError(f"there is no {unknown[0]}; there are {', '.join(known)}")
        return found

    return read


def options():
    programs = tuple(dict.fromkeys(name for study in STUDIES.values() for name in study.programs))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", default="local/smollm2", help="provider/name (default local/smollm2)")
    parser.add_argument("--api-base", help="address of a server of your own")
    parser.add_argument("--max-tokens", type=int, default=512, help="most tokens of an answer (default 512)")
    parser.add_argument("--only", choices=STUDIES, help="one of the two studies")
    parser.add_argument("--programs", type=some_of(programs), default=programs, help="by comma")
    parser.add_argument("--compilers", type=some_of(COMPILERS), default=COMPILERS, help="by comma")
    parser.add_argument("--train", type=int, default=40, help="rows that are searched on (default 40)")
    parser.add_argument("--dev", type=int, default=60, help="rows of the verdicts (default 60)")
    parser.add_argument("--test", type=int, default=100, help="rows of the table (default 100)")
    parser.add_argument("--candidates", type=int, default=6, help="random candidates of a search (default 6)")
    parser.add_argument("--members", type=int, default=5, help="candidates that vote in an ensemble (default 5)")
    parser.add_argument("--budget-tokens", type=int, help="most tokens of a compile")
    parser.add_argument("--in-flight", type=int, default=8, help="examples in flight (default 8)")
    parser.add_argument("--folder", type=Path, default=Path(".tuneful/paradigm"), help="where runs and calls are kept")
    return parser.parse_args()


def main():
    chosen = options()
    lm = tf.LM(chosen.lm, api_base=chosen.api_base, max_tokens=chosen.max_tokens)
    if chosen.api_base:
        lm.probe()
    journal, calls = (str(chosen.folder / name) for name in ("journal.sqlite", "calls.sqlite"))
    tf.configure(lm=lm, journal=journal, cache=calls, num_threads=chosen.in_flight)
    for name in [chosen.only] if chosen.only else STUDIES:
        if not STUDIES[name].task.folder.is_dir():
            print(f"{name} skipped: there is no folder {STUDIES[name].task.folder}")
            continue
        if name == "hotpotqa":
            tf.configure(rm=tf.BM25(lines(name, "corpus")))
        Bench(name, chosen).run()


if __name__ == "__main__":
    main()
