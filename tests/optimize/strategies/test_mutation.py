"""Mutation: who is rewritten, from what, and that nothing learned by heart counts."""

import tuneful as tf
from tuneful.optimize.strategies import mutation, race
from tuneful.optimize.trial import Brief, Outcome

QA = tf.Predict(tf.Signature("question -> answer", "Answer."))
ROWS = [tf.Example(question=f"q{i}", answer=f"a{i}").with_inputs("question") for i in range(40)]


def brief():
    return Brief(QA.parameters(), {"": QA.signature}, ROWS, 0, student=QA)


def outcome(row, score):
    step = {"path": "", "inputs": {"question": f"q{row}"}, "outputs": {"answer": f"wrote {row}"}}
    detail = {"feedback": f"feedback {row}", "error": ""}
    return Outcome(row, score, "ok", (step,), detail)


def played(scores):
    """Return a race and notes in which each candidate was run on the first rows with such scores."""
    running = race.start(len(scores), range(40), block=8)
    for c, own in enumerate(scores):
        running = race.credited(running, c, own)
    found = [(c, [outcome(row, score) for row, score in enumerate(own)]) for c, own in enumerate(scores)]
    return running, mutation.noted(mutation.start(), found, race.alive(running))


def test_the_best_that_were_run_most_are_rewritten_from_what_went_wrong():
    running, state = played([[0.0] * 8, [1.0] * 6 + [0.0] * 2, [1.0] * 4 + [0.0] * 4, [1.0] * 2])
    state = mutation.chosen(brief(), state, running)

    assert [lesson["member"] for lesson in state["lessons"]] == [1, 2]
    candidates = [{}, {"instructions": "Count."}, {"k": 1}, {}]
    first, second = mutation.jobs(brief(), state, candidates, race.means(running))
    assert first.inputs["sample"] != second.inputs["sample"]
    assert "Instructions: Count." in first.inputs["task"]
    assert "Instructions: Answer." in second.inputs["task"]
    assert "Feedback: feedback 6" in first.inputs["cases"]
    assert "Feedback: feedback 7" in first.inputs["cases"]
    assert "Score 0.5:\nAnswer." not in first.inputs["tried"]  # the best that had it was better
    assert "Answer." in first.inputs["tried"]


def test_where_nothing_went_wrong_nothing_is_written():
    running, state = played([[1.0] * 8, [1.0] * 8])
    assert mutation.chosen(brief(), state, running)["lessons"] == []


def test_a_text_is_not_judged_by_the_rows_that_it_was_written_from():
    running, state = played([[1.0] * 7 + [0.0]])
    state = mutation.chosen(brief(), state, running)
    state = mutation.written(state, ["The answer to q7 is a7."], [{}])
    knows = {"instructions": "The answer to q7 is a7."}
    by_heart = [outcome(6, 1.0), outcome(7, 1.0)]

    assert [o.score for o in mutation.fair(state, knows, by_heart)] == [1.0, 0.0]
    assert [o.score for o in mutation.fair(state, {"instructions": "Count."}, by_heart)] == [1.0, 1.0]

    state = mutation.noted(state, [(0, [outcome(row, 0.0) for row in range(8, 12)])], [0])
    state = mutation.chosen(brief(), state, race.credited(running, 0, [1.0] * 7 + [0.0]))
    state = mutation.written(state, ["Know it."], [knows])
    assert mutation.fair(state, {"instructions": "Know it."}, by_heart)[1].score == 0.0  # it comes from one that knew


def test_what_fails_or_has_fallen_is_forgotten():
    running, state = played([[1.0] * 7 + [0.0]])
    state = mutation.written(mutation.chosen(brief(), state, running), [None], [{}])
    assert (state["lessons"], state["seen"]) == ([], {})
    assert mutation.noted(state, [], [])["notes"] == {}
