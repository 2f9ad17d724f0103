"""A better order of many passages."""

import pytest

import tuneful as tf
from tuneful.testing import DummyLM, ScriptedLM

WORDS = ["a", "bbbb", "cc", "ddd"]


def fixed(query, k):
    return [tf.Passage(w, id=w, score=1.0) for w in WORDS][:k]


def lengths(query, passages):
    return [len(p.text) for p in passages]


async def asynchronous(query, passages):
    return lengths(query, passages)


@pytest.mark.parametrize("ranker", [lengths, asynchronous])
def test_the_order_is_that_of_the_scores(ranker):
    found = tf.Rerank(fixed, ranker, k=3)("q").passages
    assert [(p.id, p.score) for p in found] == [("bbbb", 4.0), ("ddd", 3.0), ("cc", 2.0)]


def test_equal_scores_keep_the_order_of_the_retriever():
    assert tf.Rerank(fixed, lambda q, ps: [0] * len(ps), k=4)("q").passages == WORDS


def test_it_looks_at_more_than_it_returns_and_stands_wherever_a_retriever_does():
    assert tf.Rerank(fixed, lengths, k0=3)("q", k=1).passages == ["bbbb"]
    assert tf.Rerank(fixed, lengths, k0=1)("q", k=1).passages == ["a"]
    assert tf.Retrieve(k=1, rm=tf.Rerank(fixed, lengths))("q").passages == ["bbbb"]
    with tf.context(rm=fixed):
        assert tf.Rerank(ranker=lengths)("q", k=1).passages == ["bbbb"]


@pytest.mark.parametrize(
    "scores", [None, 3, [1, 2], ["high"] * 4, [1, 2, 3, float("nan")], [1, 2, 3, None], [1, 2, 3, 4, 5]]
)
def test_scores_that_are_none_are_a_usage_error(scores):
    with pytest.raises(tf.UsageError, match="a ranker returns a"):
        tf.Rerank(fixed, lambda q, ps: scores)("q")


def test_a_ranker_that_raises_is_a_typed_error():
    with pytest.raises(tf.RetrieverError, match="KeyError for the query 'my query'"):
        tf.Rerank(fixed, lambda q, ps: {}["x"])("my query")


# --- by a language model ---


def by_model(*orders, **options):
    lm = DummyLM([{"order": list(order)} for order in orders])
    return tf.Rerank(fixed, k=4, **options).using(lm=lm), lm


def test_a_model_orders_by_number_in_one_call():
    find, lm = by_model([2, 4, 1, 3])
    assert find("my query").passages == ["bbbb", "ddd", "a", "cc"]
    assert len(lm.requests) == 1
    sent = lm.requests[0].messages[-1].text
    assert "my query" in sent
    assert "2. bbbb" in sent


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ([3], ["cc", "a", "bbbb", "ddd"]),
        ([4, 4, 9, 3], ["ddd", "cc", "a", "bbbb"]),
        ([], WORDS),
    ],
)
def test_what_an_answer_leaves_out_follows_in_the_order_of_the_retriever(order, expected):
    assert by_model(order)[0]("q").passages == expected


def test_an_answer_that_cannot_be_read_leaves_the_order_and_is_counted(caplog):
    lm = ScriptedLM(lambda request: "I would rather not say.")
    prediction = tf.Rerank(fixed, k=4).using(lm=lm, adapter="chat")("q")
    assert prediction.passages == WORDS
    assert prediction.trace.noted["order not read"] == 1
    assert prediction.trace.steps[0].error is not None
    assert "cannot be read" in caplog.text


def test_an_error_of_the_model_comes_out():
    with pytest.raises(tf.LMServerError):
        tf.Rerank(fixed).using(lm=ScriptedLM([tf.LMServerError("down")]))("q")


def test_one_passage_or_none_costs_no_call():
    lm = ScriptedLM([])
    assert tf.Rerank(lambda q, k: ["one"]).using(lm=lm)("q").passages == ["one"]
    assert tf.Rerank(lambda q, k: []).using(lm=lm)("q").passages == []


def test_its_predictor_is_tunable_saved_and_loaded_wherever_it_stands(tmp_path):
    program = tf.Retrieve(rm=tf.Rerank(fixed, k0=tf.Choice([2, 4], default=4)))
    assert {"rm.k0", "rm.order.instructions", "rm.order.demos"} <= {*program.parameters()}
    tuned = program.with_parameters({"rm.order.instructions": "Order them.", "rm.k0": 2})
    tuned.save(tmp_path / "p.json")
    loaded = tf.Retrieve(rm=tf.Rerank(fixed, k0=tf.Choice([2, 4], default=4))).load(tmp_path / "p.json")
    assert loaded.rm.order.signature.instructions == "Order them."
    with tf.context(lm=DummyLM([{"order": [2, 1]}])):
        prediction = loaded("q", k=2)
    assert prediction.passages == ["bbbb", "a"]
    assert [step.path for step in prediction.trace] == ["rm.order"]
    assert [r.path for r in prediction.trace.retrievals] == ["", "rm"]


@pytest.mark.parametrize("options", [{"k": 0}, {"k0": 0}, {"ranker": 3}, {"retriever": "bm25"}])
def test_settings_are_checked(options):
    with pytest.raises(tf.UsageError):
        tf.Rerank(**options)
