"""The nearest examples."""

import asyncio

import pytest

import tuneful as tf

ROWS = [tf.Example(word=w, label=i).with_inputs("word") for i, w in enumerate(("aaaa", "bbbb", "aabb", "aaab"))]


class Counts:
    """A vectorizer that counts letters, and its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, texts):
        self.calls.append(list(texts))
        return [[t.removeprefix("word: ").count(c) for c in "ab"] for t in texts]


async def asynchronous(texts):
    return Counts()(texts)


@pytest.mark.parametrize("vectorizer", [Counts(), asynchronous, tf.Embedder(Counts())])
def test_the_nearest_come_first(vectorizer):
    assert [e.word for e in tf.KNN(3, ROWS, vectorizer)(word="aa")] == ["aaaa", "aaab", "aabb"]


def test_length_does_not_count_and_among_equals_the_earliest_comes_first():
    found = tf.KNN(4, ROWS, lambda texts: [[1.0, 0.0]] * len(texts))(word="x")
    assert [e.label for e in found] == [0, 1, 2, 3]
    assert tf.KNN(1, ROWS, lambda texts: [[0.0, 0.0]] * len(texts))(word="x")[0].label == 0


async def test_the_trainset_is_embedded_once_also_by_calls_at_once():
    vectorizer = Counts()
    knn = tf.KNN(1, ROWS, vectorizer)
    assert vectorizer.calls == []
    found = await asyncio.gather(*(knn.acall(word="bb") for _ in range(5)))
    assert {f[0].word for f in found} == {"bbbb"}
    assert vectorizer.calls.count([f"word: {e.word}" for e in ROWS]) == 1
    assert len(vectorizer.calls) == 6


def test_labels_are_not_looked_at():
    vectorizer = Counts()
    tf.KNN(1, ROWS, vectorizer)(word="aa")
    assert not any("label" in text for call in vectorizer.calls for text in call)


def test_it_chooses_demos_inside_a_program():
    from tuneful.testing import ScriptedLM

    class Shown(tf.Module):
        def __init__(self):
            self.knn = tf.KNN(2, ROWS, Counts())
            self.ask = tf.Predict("word -> label: int")

        async def forward(self, word):
            return await self.ask.acall(word=word, demos=await self.knn.acall(word=word))

    lm = ScriptedLM(["[[ ## label ## ]] 1"])
    Shown().deepcopy().using(lm=lm)(word="bb")
    asked = [m.content for m in lm.requests[0].messages if m.role == "user"]
    assert [a.split()[-1] for a in asked] == ["bbbb", "aabb", "bb"]


def test_an_embedding_that_fails_is_tried_again_at_the_next_call():
    attempts = []

    def sometimes(texts):
        attempts.append(texts)
        if len(attempts) == 1:
            raise RuntimeError("down")
        return Counts()(texts)

    knn = tf.KNN(1, ROWS, sometimes)
    with pytest.raises(RuntimeError, match="down"):
        knn(word="aa")
    assert knn(word="aa")[0].word == "aaaa"


@pytest.mark.parametrize(
    "junk", [lambda t: None, lambda t: [[1.0]], lambda t: [[]] * len(t) + [[1]], lambda t: ["x"] * len(t), lambda t: 5]
)
def test_what_gives_no_vectors_is_a_usage_error(junk):
    with pytest.raises(tf.UsageError, match="one vector for each text"):
        tf.KNN(1, ROWS, junk)(word="x")


def test_vectors_of_another_length_are_a_usage_error():
    with pytest.raises(tf.UsageError, match="lengths 2 and 1"):
        tf.KNN(1, ROWS, lambda texts: [[1.0] * min(len(texts), 2)] * len(texts))(word="x")


def test_wrong_arguments_are_said_before_anything_is_embedded():
    with pytest.raises(tf.DataError, match="`k` is 5, and the trainset has 4"):
        tf.KNN(5, ROWS, Counts())
    with pytest.raises(tf.DataError, match="with_inputs"):
        tf.KNN(1, [tf.Example(word="x")], Counts())
    with pytest.raises(tf.UsageError, match="`k` is 0"):
        tf.KNN(0, ROWS, Counts())
    with pytest.raises(tf.UsageError, match="vectorizer"):
        tf.KNN(1, ROWS, "openai/text-embedding-3-small")
    with pytest.raises(tf.InputError):
        tf.KNN(1, ROWS, Counts())()
