"""Retrieval by one vector a token."""

import pytest

import tuneful as tf
from tuneful.retrieval import late_interaction, vector_folder

np = pytest.importorskip("numpy")

RANDOM = np.random.default_rng(1)
TABLE = {
    word: RANDOM.normal(size=8)
    for word in ["red", "green", "blue", "car", "bus", "bike", "fast", "slow", "big", "small", "old", "new"]
}


def tokens(texts):
    return [np.array([TABLE[word] for word in text.split() if word in TABLE]) for text in texts]


CORPUS = [" ".join(RANDOM.choice(list(TABLE), size=size)) for size in (1, 5, 2, 9, 3, 7, 4, 2)]


def max_sim(query, text):
    """The formula, word by word."""

    def unit(word):
        return TABLE[word] / np.linalg.norm(TABLE[word])

    return sum(max(float(unit(q) @ unit(t)) for t in text.split()) for q in query.split())


@pytest.mark.parametrize("block", [1, 6, 500_000])
def test_the_order_and_the_scores_are_those_of_the_formula(monkeypatch, block):
    monkeypatch.setattr(late_interaction, "_BLOCK", block)
    found = tf.LateInteraction(CORPUS, tokens)("fast red bike", k=8)
    expected = sorted(((max_sim("fast red bike", text), -i) for i, text in enumerate(CORPUS)), reverse=True)
    assert [p.id for p in found] == [-i for _, i in expected]
    assert [p.score for p in found] == pytest.approx([score for score, _ in expected], abs=1e-5)


def test_passages_without_tokens_are_never_found_and_take_nothing_from_others():
    find = tf.LateInteraction(["unknown", "red car", "other", "blue car", "words"], tokens)
    assert find("blue car", k=5) == ["blue car", "red car"]
    assert find("unknown words") == []


def test_built_saved_and_loaded_it_finds_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_folder, "BATCH", 3)
    find = tf.LateInteraction(CORPUS, tokens)
    find.save(tmp_path / "saved")
    tf.LateInteraction(CORPUS, tokens, path=tmp_path / "built")
    for name in ("saved", "built"):
        again = tf.LateInteraction.load(tmp_path / name, tokens)("fast red bike", k=8)
        assert [(p.id, p.score) for p in again] == [(p.id, p.score) for p in find("fast red bike", k=8)]


def test_a_build_that_was_ended_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_folder, "BATCH", 2)
    asked = []

    def embed(texts, most=100):
        if len(asked) >= most:
            raise KeyboardInterrupt
        asked.extend(texts)
        return tokens(texts)

    def breaking(texts):
        return embed(texts, most=4)

    breaking.__qualname__ = embed.__qualname__
    with pytest.raises(KeyboardInterrupt):
        tf.LateInteraction(CORPUS, breaking, path=tmp_path / "index")
    find = tf.LateInteraction(CORPUS, embed, path=tmp_path / "index")
    assert asked == CORPUS
    assert find("red", k=8) == tf.LateInteraction(CORPUS, tokens)("red", k=8)


@pytest.mark.parametrize(
    ("embedder", "said"),
    [
        (lambda texts: None, "one array of shape"),
        (lambda texts: tokens(texts)[1:], "one array of shape"),
        (lambda texts: [[1.0, 2.0]] * len(texts), "one array of shape"),
        (lambda texts: [np.ones((2, 3 + i)) for i in range(len(texts))], "one array of shape"),
        (lambda texts: [np.full((2, 3), np.nan)] * len(texts), "no finite numbers"),
        (lambda texts: [np.ones((0, 3))] * len(texts), "of these lengths: 0"),
    ],
)
def test_what_gives_no_token_vectors_is_a_usage_error(embedder, said):
    with pytest.raises(tf.UsageError, match=said):
        tf.LateInteraction(CORPUS, embedder)
