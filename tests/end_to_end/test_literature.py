"""The programs from the literature do what their papers say, on scripted models and the rows that they bring."""

import importlib.util
import json
import math
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

import tuneful as tf
from tuneful.testing import DummyLM, ScriptedLM
from tuneful.wire.response import Choice, Response, Usage

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_field(**answers):
    """An LM that answers by the output that it is asked for; each answer is a function of the last message."""

    def script(request):
        system, last = request.messages[0].text, request.messages[-1].text
        wanted = [name for name in answers if f"[[ ## {name} ## ]]\n{{" in system]
        return "\n\n".join(f"[[ ## {name} ## ]]\n{answers[name](last)}" for name in wanted)

    return ScriptedLM(script)


def written(folder, name, rows):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("name", ["din_sql", "rarr"])
def test_a_scripted_example_runs_as_a_command(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name])
    before = tf.settings.lm, tf.settings.rm
    try:
        example(name).main()
    finally:
        tf.configure(lm=before[0], rm=before[1])
    assert "score 100 %" in capsys.readouterr().out


# --- multi-hop ---


def test_the_second_query_of_the_multi_hop_program_is_written_from_what_the_first_one_found():
    multi_hop = example("multi_hop")
    corpus, rows = multi_hop.load(None)

    def query(last):
        return "administrative centre of Vestland" if "county of Vestland" in last else "county of the Sognefjord"

    lm = by_field(reasoning=lambda _: "r", query=query, answer=lambda _: "Bergen")
    with tf.context(lm=lm, rm=tf.BM25(corpus)):
        program = multi_hop.MultiHop().with_parameters({"k": 1})
        found = program(question=rows[0].question)
    assert [r.query for r in found.trace.retrievals] == [
        "county of the Sognefjord",
        "administrative centre of Vestland",
    ]
    assert [p.title for p in found.context] == ["Sognefjord", "Vestland"]
    assert multi_hop.gold_found(rows[0], found) == 1.0
    assert multi_hop.answered(rows[0], found)


def test_the_multi_hop_program_reads_the_files_of_hotpotqa(tmp_path):
    multi_hop = example("multi_hop")
    written(tmp_path, "hotpotqa/corpus.jsonl", [{"pid": 0, "title": "A", "text": "a"}])
    written(tmp_path, "hotpotqa/dev.jsonl", [{"question": "q", "answer": "a", "gold_titles": ["A", "B"]}])
    corpus, (row,) = multi_hop.load(tmp_path)
    assert tf.BM25(corpus)("a", k=1)[0].title == "A"
    assert multi_hop.gold_found(row, tf.Prediction(context=tf.BM25(corpus)("a", k=1))) == 0.5


# --- retrieval-augmented generation ---


def test_rag_is_compiled_with_demos_whose_passages_hold_the_answer():
    rag = example("rag")
    corpus, rows = rag.load(None)
    answers = {row.question: row.answer for row in rows}

    def right_from_demos_on(request):
        question = request.messages[-1].text.rsplit("[[ ## question ## ]]\n", 1)[1].split("\n")[0]
        answer = answers[question] if len(request.messages) > 2 or question == rows[0].question else "no idea"
        return f"[[ ## reasoning ## ]]\nr\n\n[[ ## answer ## ]]\n{answer}"

    with tf.context(lm=ScriptedLM(right_from_demos_on), rm=tf.BM25(corpus)):
        evaluate = tf.Evaluate(devset=rows[3:], metric=rag.metric)
        assert evaluate(rag.RAG()).score == 0
        teleprompter = tf.BootstrapFewShot(metric=rag.metric, max_bootstrapped_demos=1, max_labeled_demos=1)
        compiled = teleprompter.compile(rag.RAG(), trainset=rows[:3], valset=rows[3:])
        program = rag.RAG().with_parameters(compiled.report.candidate)
        assert evaluate(program).score == 100
    (demo,) = program.answer.predict.demos
    assert rag.metric(rows[0], tf.Prediction(demo), trace=[])


# --- FLARE ---


def written_tokens(*tokens):
    """An answer of tokens, given as pairs of a text and a probability."""
    logprobs = tuple((token, math.log(probability)) for token, probability in tokens)
    return Response((Choice("".join(t for t, _ in tokens), logprobs=logprobs),), Usage(calls=1), "scripted")


DOUBTFUL = written_tokens(
    ("It", 0.9), (" was", 0.9), (" lit", 0.8), (" in", 0.9), (" 1", 0.9), ("7", 0.1), ("99", 0.9), (".", 1.0)
)  # fmt: skip
SURE = written_tokens(("It was lit in 1656.", 0.9), (" And", 0.01), (" then", 0.9))


def run_flare(lm, **options):
    flare = example("flare")
    corpus, (row, *_) = flare.load(None)
    with tf.context(lm=lm, rm=tf.BM25(corpus), adapter="compact"):
        return flare, row, flare.FLARE(**options)(question=row.question)


def test_flare_searches_with_the_words_it_is_sure_of_where_a_token_is_improbable():
    lm = ScriptedLM([DOUBTFUL, SURE])
    flare, row, found = run_flare(lm, sentences=1)
    assert [r.query for r in found.trace.retrievals] == [f"{row.question} It was lit in"]
    assert found.answer == "It was lit in 1656."
    assert flare.answered(row, found)
    before, after = (request.messages[-1].text for request in lm.requests)
    assert "first lit in 1656" not in before
    assert "first lit in 1656" in after


def test_flare_does_not_search_where_every_token_of_the_sentence_is_probable():
    _, _, found = run_flare(ScriptedLM([SURE]), sentences=1)
    assert not found.trace.retrievals
    assert found.answer == "It was lit in 1656."  # what is improbable comes after the sentence


def test_flare_asks_whether_a_sentence_is_certain_where_there_are_no_log_probabilities():
    _, _, found = run_flare(
        ScriptedLM(["It was lit in 1799.", "false", "It was lit in 1656."]), sentences=1, logprobs=False
    )
    assert [step.path for step in found.trace] == ["write", "certain", "write"]
    assert found.answer == "It was lit in 1656."


def test_flare_ends_with_a_sentence_that_is_repeated():
    _, _, found = run_flare(ScriptedLM([SURE, SURE]), sentences=5)
    assert found.answer == "It was lit in 1656."


# --- DIN-SQL ---


def test_din_sql_asks_the_corrector_again_with_what_the_database_says():
    din_sql = example("din_sql")
    database, rows = din_sql.load(None)
    lm = din_sql.scripted()
    metric = din_sql.execution_accuracy(database)
    with tf.context(lm=lm):
        result = tf.Evaluate(devset=rows, metric=metric, num_threads=1)(din_sql.DINSQL(database))
    assert result.score == 100
    assert result.noted["asked again by a constraint"] == 1
    again = next(r.messages[-1].text for r in lm.requests if "SQLite refuses" in r.messages[-1].text)
    assert "no such column: state" in again
    assert result.rows[1].prediction.difficulty == "nested"
    with tf.context(lm=din_sql.scripted(), max_backtracks=0):
        result = tf.Evaluate(devset=rows[:2], metric=metric, num_threads=1)(din_sql.DINSQL(database))
    assert [row.score for row in result.rows] == [1.0, 0.0]
    assert "no such column" in result.rows[1].feedback


def test_the_database_of_din_sql_cannot_be_changed_and_gives_up(tmp_path):
    din_sql = example("din_sql")
    (tmp_path / "text2sql_geo").mkdir()
    with closing(sqlite3.connect(tmp_path / "text2sql_geo" / "geography.sqlite")) as file:
        file.execute("CREATE TABLE lake (name TEXT)")
        file.execute("INSERT INTO lake VALUES ('Saimaa')")
        file.commit()
    written(tmp_path, "text2sql_geo/dev.jsonl", [{"question": "Which lakes?", "sql": "SELECT name FROM lake"}])
    database, (row,) = din_sql.load(tmp_path)
    assert "CREATE TABLE lake" in database.schema
    assert "readonly" in database.problem("DELETE FROM lake")
    assert database.run(row.sql) == {("Saimaa",): 1}
    assert "interrupted" in database.problem(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT sum(x) FROM n"
    )
    metric = din_sql.execution_accuracy(database)
    assert metric(row, tf.Prediction(sql="SELECT 'Saimaa'"))
    assert not metric(row, tf.Prediction(sql="SELECT name FROM lake LIMIT 0"))


def test_din_sql_is_compiled_although_it_holds_a_database():
    din_sql = example("din_sql")
    database, rows = din_sql.load(None)
    with tf.context(lm=din_sql.scripted()):
        compiled = tf.LabeledFewShot(k=1).compile(din_sql.DINSQL(database), trainset=rows)
    assert {p.demos[0].sql for p in (compiled.easy, compiled.correct)} <= {row.sql for row in rows}


# --- RARR ---


def test_rarr_edits_what_the_evidence_contradicts_and_reports_every_source():
    rarr = example("rarr")
    corpus, rows = rarr.load(None)
    with tf.context(lm=rarr.scripted(), rm=tf.BM25(corpus)):
        result = tf.Evaluate(devset=rows, metric=rarr.right, num_threads=1)(rarr.RARR())
    refuted, supported = (row.prediction for row in result.rows)
    assert refuted.revised == "The Vasa sank in 1628 on her maiden voyage."
    assert [entry["verdict"] for entry in refuted.report] == ["agrees", "revised"]
    assert "maiden voyage" in refuted.report[1]["evidence"]
    assert supported.revised == rows[1].claim
    assert result.score == 100
    assert "91% of the claim is kept" in result.rows[0].feedback


def test_rarr_drops_an_edit_that_keeps_too_little_of_the_claim():
    rarr = example("rarr")
    corpus, (row, *_) = rarr.load(None)
    answers = [
        {"questions": ["On which voyage did the Vasa sink?"]},
        {"reasoning": "r", "verdict": "disagrees"},
        {"reasoning": "r", "revised": "Something else altogether."},
    ]
    with tf.context(lm=DummyLM(answers), rm=tf.BM25(corpus)):
        found = rarr.RARR()(claim=row.claim)
    assert found.revised == row.claim
    assert [entry["verdict"] for entry in found.report] == ["disagrees"]


def test_rarr_reads_the_claims_of_climate_fever_that_evidence_decides(tmp_path):
    evidence = [{"article": "A", "text": "t", "label": "SUPPORTS"}]
    labels = ["SUPPORTS", "NOT_ENOUGH_INFO", "DISPUTED"]
    written(tmp_path, "climate_fever/claims.jsonl", [{"claim": x, "label": x, "evidence": evidence} for x in labels])
    corpus, rows = example("rarr").load(tmp_path)
    assert corpus == ["t"]
    assert [row.claim for row in rows] == ["SUPPORTS"]


# --- constraints ---


def test_the_reader_with_constraints_is_asked_again_until_they_hold():
    constraints = example("constraints")
    corpus, rows = constraints.load(None, 4)
    answers = [
        {"query": "honey " * 30},
        {"query": "bees nectar"},
        {"answer": "From nectar the bees make honey, of course."},
        {"answer": "Wax."},
        {"answer": "honey"},
    ]
    lm = DummyLM(answers)
    with tf.context(lm=lm, rm=tf.BM25(corpus)):
        found = constraints.Reader()(question=rows[1].question)
    assert found.answer == "honey"
    assert constraints.met(rows[1], found)
    assert found.trace.noted["asked again by a constraint"] == 3
    assert "at most 100 characters" in lm.requests[1].messages[-1].text
    assert "copied from the context" in lm.requests[4].messages[-1].text


def test_the_reader_fails_without_a_query_and_goes_on_without_the_rest():
    constraints = example("constraints")
    corpus, rows = constraints.load(None, 1)
    with tf.context(max_backtracks=0, rm=tf.BM25(corpus)):
        with pytest.raises(tf.ConstraintError, match="at most 100 characters"):
            constraints.Reader().using(lm=DummyLM([{"query": "x" * 101}]))(question=rows[0].question)
        lm = DummyLM([{"query": "metal"}, {"answer": "gold and silver and lead and tin"}])
        found = constraints.Reader().using(lm=lm)(question=rows[0].question)
    assert not constraints.met(rows[0], found)
    assert found.trace.noted["suggestion not met"] == 2
