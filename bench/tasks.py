"""Tasks for small models: seven public data sets, their signatures, their demos, and how an answer scores.

The data is no part of the project. A folder for each set, with train.jsonl and dev.jsonl (fields in brackets), is
looked for in `../shared/data` from the repository's root: gsm8k (question, solution, answer), trec6, banking77 and sst2
(text, label), squad (context, question, answers), text2sql_geo (question, sql; schemas.jsonl, geography.sqlite),
hotpotqa (question, answer, gold_titles; corpus.jsonl). Signatures are built from a framework that is passed in, so that
tuneful and the peer are asked for the same.
"""

import json
import random
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_TABLES = "{tables}"
_SQL_SECONDS = 2.0
_MOST_SQL_ROWS = 5000


@dataclass(frozen=True)
class Task:
    """One data set as a task.

    Args:
        name: its folder.
        instructions: what the signature says.
        inputs: names of the text inputs.
        output: name of the output.
        read: from a row of the data to field values, the accepted answers under `output`; None leaves the row out.
        score: (answer, accepted) -> 0 to 1.
        kind: type of the output; None: one of the labels that the data has.
        max_tokens: most tokens of an answer, the same for all candidates.
        reasons: whether the step is a `ChainOfThought`; `read` then gives `reasoning` too.
    """

    name: str
    instructions: str
    inputs: tuple[str, ...]
    output: str
    read: Callable[[dict[str, Any]], dict[str, Any] | None]
    score: Callable[[Any, Any], float]
    kind: Any = str
    max_tokens: int = 64
    reasons: bool = False

    @property
    def folder(self):
        return DATA / self.name

    def program(self, framework, demos):
        """Return the step, of tuneful or of the peer: the names are the same."""
        fields = {name: (str, framework.InputField()) for name in self.inputs}
        kind = self.kind or Literal[tuple(labels(self.name))]
        instructions = (
            self.instructions.replace(_TABLES, tables()) if _TABLES in self.instructions else self.instructions
        )
        signature = framework.Signature({**fields, self.output: (kind, framework.OutputField())}, instructions)
        program = (framework.ChainOfThought if self.reasons else framework.Predict)(signature)
        for _, predictor in program.named_predictors():
            predictor.demos = [framework.Example(demo) for demo in demos]
        return program

    def _read(self, part):
        return [values for row in lines(self.name, part) if (values := self.read(row)) is not None]

    def rows(self, count, seed=0):
        """Return a sample of dev; a smaller one is the beginning of a larger one."""
        found = self._read("dev")
        random.Random(seed).shuffle(found)
        return found[:count]

    def train(self, count, seed=0):
        """Return a sample of train as it comes, each row with one accepted answer."""
        found = self._read("train")
        random.Random(seed).shuffle(found)
        return [{**row, self.output: first(row[self.output])} for row in found[:count]]

    def demos(self, count, seed=0):
        """Return a sample of train, with as many of each label as of any other where there are labels."""
        found = self._read("train")
        random.Random(seed).shuffle(found)
        if self.kind is None:
            found = in_turn(found, self.output)
        chosen = [{**row, self.output: first(row[self.output])} for row in found[:count]]
        random.Random(seed).shuffle(chosen)
        return chosen


def in_turn(rows, output):
    """Return the rows with the first of each label in front, then the second of each, and so on."""
    seen = Counter()
    places = []
    for row in rows:
        places.append(seen[row[output]])
        seen[row[output]] += 1
    return [row for _, row in sorted(zip(places, rows, strict=True), key=lambda pair: pair[0])]


def first(answers):
    return answers[0] if isinstance(answers, list) else answers


@lru_cache(maxsize=32)
def lines(name, part):
    """Return the rows of a file of the data."""
    return [json.loads(line) for line in (DATA / name / f"{part}.jsonl").read_text("utf-8").splitlines()]


def labels(name):
    """Return the labels of a data set, in order."""
    return sorted({row["label"] for row in lines(name, "train")})


# --- scores: run where tuneful is installed, for the peer's answers too ---


def same(answer, accepted):
    return float(answer == accepted)


def overlap(answer, accepted):
    """F1 of words, against the nearest of the accepted answers."""
    from tuneful.evaluate.metrics import F1

    return float(F1(str(answer), accepted))


def matches(answer, accepted):
    """Exact match of a short answer, after the normalisation of SQuAD."""
    from tuneful.evaluate.metrics import em_score

    return float(em_score(str(answer), accepted))


def same_number(answer, accepted):
    """Compare as numbers; of a text, the last number in it."""
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", str(answer))
    return float(bool(found) and abs(float(found[-1].replace(",", "")) - accepted) < 1e-6)


def same_result(answer, accepted):
    """Run both queries: the same rows, in any order. A query that fails or takes too long is wrong."""
    wanted, got = query(accepted), query(unfenced(str(answer)))
    return float(wanted is not None and wanted == got)


def unfenced(text):
    found = re.search(r"```(?:sql)?\s*(.*?)(?:```|\Z)", text, re.DOTALL | re.IGNORECASE)
    return found[1] if found else text


@lru_cache(maxsize=4096)
def query(sql):
    """Return the rows that a query gives, counted, or None where it fails."""
    deadline = time.monotonic() + _SQL_SECONDS
    path = DATA / "text2sql_geo" / "geography.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
        database.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
        try:
            return Counter(database.execute(sql).fetchmany(_MOST_SQL_ROWS))
        except (sqlite3.Error, sqlite3.Warning, ValueError):
            return None


# --- the tasks ---


def labelled(source, output):
    return lambda row: {source: row["text"], output: row["label"]}


def without_annotations(solution):
    """Return a solution of gsm8k as one paragraph, without the calculator's marks."""
    return " ".join(re.sub(r"<<.*?>>", "", solution).split())


def read_gsm8k(row):
    return {
        "question": row["question"],
        "reasoning": without_annotations(row["solution"]),
        "answer": float(row["answer"].replace(",", "")),
    }


def read_sql(row):
    """Return a question and its query; None where the query gives no rows, as many wrong ones do."""
    return {"question": row["question"], "sql": row["sql"]} if query(row["sql"]) else None


def tables():
    """Return the tables of the database, one a line."""
    (schema,) = lines("text2sql_geo", "schemas")
    found = []
    for ddl in schema["ddl"]:
        table, *columns = re.findall(r'"(\w+)"', ddl)
        found.append(f"{table}({', '.join(columns)})")
    return "\n".join(found)


TASKS = {
    task.name: task
    for task in (
        Task(
            "trec6",
            "Say what kind of thing the question asks for.",
            ("question",),
            "kind",
            labelled("question", "kind"),
            same,
            kind=None,
        ),
        Task(
            "sst2",
            "Say whether the sentence, from a film review, is positive or negative.",
            ("sentence",),
            "sentiment",
            labelled("sentence", "sentiment"),
            same,
            kind=None,
        ),
        Task(
            "squad",
            "Answer the question with a few words of the context.",
            ("context", "question"),
            "answer",
            lambda row: {"context": row["context"], "question": row["question"], "answer": row["answers"]},
            overlap,
        ),
        Task(
            "banking77",
            "Say what the customer of a bank wants.",
            ("message",),
            "intent",
            labelled("message", "intent"),
            same,
            kind=None,
        ),
        Task(
            "gsm8k",
            "Solve the problem.",
            ("question",),
            "answer",
            read_gsm8k,
            same_number,
            kind=float,
            max_tokens=384,
            reasons=True,
        ),
        Task(
            "text2sql_geo",
            f"Write one SQLite query that answers the question. Names are in lower case. Tables:\n{_TABLES}",
            ("question",),
            "sql",
            read_sql,
            same_result,
            max_tokens=160,
        ),
    )
}

#: By itself it is closed book, which small models cannot do: `paradigm.py` has programs that search its corpus.
HOTPOTQA = Task(
    "hotpotqa",
    "Answer the question in a few words.",
    ("question",),
    "answer",
    lambda row: {"question": row["question"], "answer": row["answer"], "gold_titles": row["gold_titles"]},
    matches,
)
