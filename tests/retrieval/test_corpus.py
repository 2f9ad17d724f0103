"""What a corpus may be, for every index alike."""

import importlib.util

import pytest

import tuneful as tf

pytest.importorskip("numpy")


def lengths(texts):
    return [[len(text), 1.0] for text in texts]


def tokens(texts):
    return [[[len(word), 1.0] for word in text.split()] for text in texts]


INDEXES = {
    "BM25": tf.BM25,
    "Dense": lambda corpus, **rest: tf.Dense(corpus, lengths, **rest),
    "LateInteraction": lambda corpus, **rest: tf.LateInteraction(corpus, tokens, **rest),
}
if importlib.util.find_spec("tantivy") is not None:  # an extra
    INDEXES["TantivyBM25"] = tf.TantivyBM25


@pytest.fixture(params=INDEXES)
def index(request):
    return INDEXES[request.param]


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda rows: (row for row in rows)])
def test_a_list_a_generator_or_any_iterable(index, kind):
    assert len(index(kind(["cat food", "dog food"]))) == 2


def test_texts_have_their_positions_as_ids(index):
    assert {p.id for p in index(["cat food", "dog food"])("food", k=9)} == {0, 1}


def test_mappings_and_passages_bring_title_and_id(index):
    find = index([{"text": "cat food", "title": "Cats", "id": "c"}, tf.Passage("dog food", id="d")])
    found = {p.id: (p.title, p.text) for p in find("food", k=9)}
    assert found == {"c": ("Cats", "cat food"), "d": ("", "dog food")}


def test_passages_have_scores_that_fall(index):
    scores = [p.score for p in index(["cat food", "dog food and food", "food", "bird"])("food", k=9)]
    assert scores == sorted(scores, reverse=True)
    assert all(isinstance(score, float) for score in scores)


@pytest.mark.parametrize("corpus", [[], (), iter(())])
def test_an_empty_corpus_is_a_data_error(index, corpus):
    with pytest.raises(tf.DataError, match="at least one passage, got none"):
        index(corpus)


def test_an_id_that_is_there_twice_is_a_data_error(index):
    with pytest.raises(tf.DataError, match="two passages have the id 'a'; the second is 'two'"):
        index([{"text": "one", "id": "a"}, {"text": "two", "id": "a"}])


@pytest.mark.parametrize(("first", "second", "said"), [("a", None, "has no id"), (None, "a", "has an id")])
def test_ids_are_given_to_all_or_none(index, first, second, said):
    with pytest.raises(tf.DataError, match=f"passage 1 {said}"):
        index([{"text": "one", "id": first}, {"text": "two", "id": second}])


@pytest.mark.parametrize("corpus", ["one text", b"bytes", None, 3, {"text": "one"}])
def test_what_is_no_corpus_is_a_usage_error(index, corpus):
    with pytest.raises(tf.UsageError, match="a corpus is a list"):
        index(corpus)


def test_an_item_that_is_no_passage_is_a_data_error(index):
    with pytest.raises(tf.DataError, match="no passage"):
        index(["one", 2])


@pytest.mark.parametrize("k", [0, -1, True, 1.5, None, "3"])
def test_k_is_a_number_of_passages(index, k):
    with pytest.raises(tf.UsageError, match="`k` is"):
        index(["one"])("one", k=k)


@pytest.mark.parametrize("query", [None, 3, ["one"]])
def test_a_query_is_a_text(index, query):
    with pytest.raises(tf.UsageError, match="a query is a text"):
        index(["one"])(query)


def test_a_k_larger_than_the_corpus_gives_all(index):
    assert len(index(["one", "one two"])("one", k=50)) == 2


def test_an_index_on_file_replaces_what_was_there_and_a_failed_build_does_not(index, tmp_path):
    path = tmp_path / "folder" / "index"
    index(["old words"], path=path)
    index(["new words"], path=path)

    def failing():
        yield "newest words"
        raise OSError("the corpus cannot be read on")

    with pytest.raises(OSError, match="read on"):
        index(failing(), path=path)
    assert [p.name for p in path.parent.iterdir()] == ["index"]
