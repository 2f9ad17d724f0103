"""DIN-SQL: a question becomes a query in four steps: link the schema, say how hard it is, write, correct.

    python examples/din_sql.py [--model scripted] [--data FOLDER] [--rows 3]

The query is run by SQLite, on a copy in memory that cannot be changed; where the database refuses it, the model is
asked again, with the database's own message (`tf.Suggest`). What counts is what the query returns. A model of 135M
parameters writes hardly a query that is right, so a script answers by default, for the rows below. Name a larger model
with `--model`, and a FOLDER with `text2sql_geo/geography.sqlite` and `text2sql_geo/dev.jsonl` (question, sql).

Source: Pourreza and Rafiei (2023), "DIN-SQL: Decomposed In-Context Learning of Text-to-SQL with Self-Correction",
section 4. Deviations: no hand-written examples, no intermediate language, and the last step is told what the database
says.
"""

import argparse
import json
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Literal

import tuneful as tf

SCHEMA = """
CREATE TABLE island (name TEXT, area_km2 REAL, country TEXT);
CREATE TABLE country (name TEXT, capital TEXT);
INSERT INTO island VALUES ('Oland', 1342, 'Sweden'), ('Gotland', 2994, 'Sweden'), ('Saaremaa', 2673, 'Estonia');
INSERT INTO country VALUES ('Sweden', 'Stockholm'), ('Estonia', 'Tallinn');
"""
ROWS = [
    {"question": "How many islands are there?", "sql": "SELECT COUNT(*) FROM island"},
    {
        "question": "What is the capital of the country of Saaremaa?",
        "sql": "SELECT capital FROM country WHERE name = (SELECT country FROM island WHERE name = 'Saaremaa')",
    },
    {
        "question": "Which island is the largest?",
        "sql": "SELECT name FROM island ORDER BY area_km2 DESC LIMIT 1",
    },
]


class Database:
    """A database in memory that only answers, and gives up after two seconds."""

    def __init__(self, path=None):
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        if path is None:
            self._connection.executescript(SCHEMA)
        else:
            with sqlite3.connect(path) as source:
                source.backup(self._connection)
            source.close()
        self._connection.execute("PRAGMA query_only = ON")
        self.schema = "\n".join(
            sql for (sql,) in self._connection.execute("SELECT sql FROM sqlite_master WHERE sql > ''")
        )

    def run(self, sql):
        """Return the rows of a query, counted. Raises sqlite3.Error, with what SQLite has to say."""
        with self._lock:
            ends = time.monotonic() + 2
            self._connection.set_progress_handler(lambda: time.monotonic() > ends, 10_000)
            return Counter(self._connection.execute(sql).fetchmany(10_000))

    def problem(self, sql):
        """Return what is wrong with a query, or None."""
        try:
            self.run(sql)
        except (sqlite3.Error, sqlite3.Warning) as error:
            return str(error)
        return None


class Link(tf.Signature):
    """Name the columns, and the values, that the question speaks of."""

    schema_: str = tf.InputField(prefix="Schema:")
    question: str = tf.InputField()
    links: list[str] = tf.OutputField(desc="as table.column, or table.column = value", max_length=8)


class Classify(tf.Signature):
    """Say how hard the query is, and which smaller questions it takes."""

    schema_: str = tf.InputField(prefix="Schema:")
    question: str = tf.InputField()
    links: list[str] = tf.InputField()
    difficulty: Literal["easy", "join", "nested"] = tf.OutputField(desc="one table, several, or a query in a query")
    sub_questions: list[str] = tf.OutputField(desc="of a nested query; otherwise none", max_length=3)


class Write(tf.Signature):
    """Write one SQLite query that answers the question."""

    schema_: str = tf.InputField(prefix="Schema:")
    question: str = tf.InputField()
    links: list[str] = tf.InputField()
    sql: tf.Code["sql"] = tf.OutputField()


class Correct(tf.Signature):
    """Correct the SQLite query where it does not answer the question; give it as it is where it does."""

    schema_: str = tf.InputField(prefix="Schema:")
    question: str = tf.InputField()
    draft: tf.Code["sql"] = tf.InputField()
    sql: tf.Code["sql"] = tf.OutputField()


class DINSQL(tf.Module):
    def __init__(self, database):
        self._database = database
        nested = tf.Signature(Write).insert(3, "solved", tf.InputField(desc="queries of smaller questions"), list[str])
        self.link = tf.ChainOfThought(Link)
        self.classify = tf.ChainOfThought(Classify)
        self.easy = tf.Predict(Write)
        self.join = tf.ChainOfThought(Write)
        self.nested = tf.ChainOfThought(nested)
        self.correct = tf.Predict(Correct)

    def forward(self, question):
        given = {"schema_": self._database.schema, "question": question}
        links = self.link(**given).links
        kind = self.classify(**given, links=links)
        draft = self.draft(given, links, kind)
        sql = self.correct(**given, draft=draft).sql
        problem = self._database.problem(sql)
        tf.Suggest(problem is None, f"SQLite refuses this query: {problem}. Write one that runs.")
        return tf.Prediction(sql=sql, difficulty=kind.difficulty)

    def draft(self, given, links, kind):
        if kind.difficulty != "nested":
            write = self.easy if kind.difficulty == "easy" else self.join
            return write(**given, links=links).sql
        solved = [f"{q}: {self.join(**{**given, 'question': q}, links=links).sql}" for q in kind.sub_questions]
        return self.nested(**given, links=links, solved=solved).sql


def execution_accuracy(database):
    """Return a metric: whether a query returns the same rows as the right one, in any order."""

    def metric(example, prediction, trace=None):
        problem = database.problem(prediction.sql)
        if problem is not None:
            return tf.Score(0.0, feedback=f"SQLite refuses it: {problem}")
        return database.run(prediction.sql) == database.run(example.sql)

    return metric


def load(folder):
    """Return a database, and rows with `question` and `sql`."""
    if folder is None:
        return Database(), [tf.Example(row).with_inputs("question") for row in ROWS]
    home = Path(folder, "text2sql_geo")
    found = [json.loads(line) for line in (home / "dev.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [tf.Example(question=row["question"], sql=row["sql"]).with_inputs("question") for row in found]
    return Database(home / "geography.sqlite"), rows


def scripted():
    """Return a model that answers for the rows above, in the order of the calls; the second one needs two attempts."""
    count, capital, largest = (row["sql"] for row in ROWS)
    wrong = capital.replace("SELECT country", "SELECT state")
    where = "SELECT country FROM island WHERE name = 'Saaremaa'"
    return tf.testing.DummyLM(
        [
            {"reasoning": "Islands are counted.", "links": ["island.name"]},
            {"reasoning": "One table.", "difficulty": "easy", "sub_questions": []},
            {"sql": count},
            {"sql": count},
            {"reasoning": "A capital, an island.", "links": ["country.capital", "island.name = Saaremaa"]},
            {"reasoning": "First its country.", "difficulty": "nested", "sub_questions": ["Where is Saaremaa?"]},
            {"reasoning": "It stands with the island.", "sql": where},
            {"reasoning": "The country is in the other query.", "sql": wrong},
            {"sql": wrong},
            {"sql": capital},
            {"reasoning": "The area of islands.", "links": ["island.name", "island.area_km2"]},
            {"reasoning": "One table.", "difficulty": "easy", "sub_questions": []},
            {"sql": largest},
            {"sql": largest},
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="scripted")
    parser.add_argument("--data")
    parser.add_argument("--rows", type=int, default=3)
    options = parser.parse_args()
    if options.model == "scripted" and options.data:
        parser.error("the scripted model knows only the rows of this file; name another one with --model.")

    database, rows = load(options.data)
    most = 80 if options.model.startswith("local/") else 1000  # a small model seldom ends by itself
    tf.configure(lm=scripted() if options.model == "scripted" else tf.LM(options.model, max_tokens=most))
    evaluate = tf.Evaluate(devset=rows[: options.rows], metric=execution_accuracy(database), num_threads=1)
    result = evaluate(DINSQL(database))
    print(result)
    for row in result.rows:
        print(f"\n{row.example.question} (score {row.score})")
        if row.prediction is None:
            print(f"  {row.error}")
            continue
        print(f"  {row.prediction.difficulty}: {row.prediction.sql}")
        print(f"  {row.usage.calls} calls{''.join(f', {n} x {kind}' for kind, n in row.trace.noted.items())}")


if __name__ == "__main__":
    main()
