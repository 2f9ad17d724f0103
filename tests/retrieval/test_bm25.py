"""Ranked word search."""

import copy
import math
import pickle
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import tuneful as tf

CORPUS = [
    "Paris is the capital of France.",
    "The Nile is a river in Africa.",
    "Berlin is the capital of Germany, and Germany is a country.",
    "Rivers run to the sea; a river runs.",
    "",
]


@pytest.fixture(scope="module")
def find():
    return tf.BM25(CORPUS)


def test_the_best_passage_comes_first(find):
    assert find("capital of France", k=1) == [CORPUS[0]]
    assert find("Germany", k=5) == [CORPUS[2]]


def test_at_most_k_passages_come_back_and_none_without_a_word_of_the_query(find):
    assert len(find("the", k=2)) == 2
    assert find("capital", k=10) == [CORPUS[0], CORPUS[2]]
    assert find("submarine", k=3) == []


def test_the_order_is_that_of_the_formula():
    """Okapi BM25 with k1 = 1.2 and b = 0.75, computed here by hand over one word."""
    texts = ["cat " + "dog " * n for n in (1, 9, 4)] + ["cat cat cat dog", "dog"] + ["bird"] * 6
    documents = [t.split() for t in texts]
    mean = sum(map(len, documents)) / len(documents)
    holding = sum("cat" in d for d in documents)
    idf = math.log((len(documents) - holding + 0.5) / (holding + 0.5))

    def score(document):
        count = document.count("cat")
        return idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(document) / mean))

    ranked = sorted((t for t in texts if "cat" in t), key=lambda t: -score(t.split()))
    assert tf.BM25(texts)("cat", k=10) == ranked


def test_words_are_stemmed_and_case_and_accents_do_not_count(find):
    assert set(find("RIVER", k=5)) == {CORPUS[1], CORPUS[3]}
    assert tf.BM25(["Élan vital"])("elan") == ["Élan vital"]


def test_equal_passages_come_in_their_order():
    texts = ["same words"] * 5
    assert tf.BM25([*texts, "others here", "and here", "more"])("same", k=3) == texts[:3]


@pytest.mark.parametrize("query", ["", "   ", "?!", "_", "²", "\0"])
def test_a_query_without_words_finds_nothing(find, query):
    assert find(query) == []


@pytest.mark.parametrize(
    "query",
    ['capital" OR "x', "capital AND NOT", "NEAR(capital", "text:capital*", "^capital", "-capital", "capital'; DROP"],
)
def test_a_query_is_words_and_no_query_language(find, query):
    assert set(find(query, k=5)) >= {CORPUS[0], CORPUS[2]}


def test_a_query_may_be_as_long_as_a_passage(find):
    assert find(" ".join(f"word{i}" for i in range(5000)) + " france") == [CORPUS[0]]


def test_many_threads_may_search_at_once(find):
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda i: find("capital of France" if i % 2 else "Nile", 1), range(200)))
    assert found == [[CORPUS[0]] if i % 2 else [CORPUS[1]] for i in range(200)]


def test_copies_share_the_index_and_len_is_its_size(find):
    assert copy.deepcopy([find])[0] is find
    assert len(find) == 5


# --- titles ---


def test_a_word_in_a_title_counts_as_often_as_is_said():
    corpus = [{"text": "the river of the north", "title": "Nile"}, {"text": "the nile of the north", "title": "River"}]
    assert tf.BM25(corpus, title_weight=5)("nile")[0].title == "Nile"
    assert tf.BM25(corpus, title_weight=0.1)("nile")[0].title == "River"


@pytest.mark.parametrize("weight", [-1, "2", None, True, float("nan"), float("inf")])
def test_a_title_weight_is_a_number(weight):
    with pytest.raises(tf.UsageError, match="title_weight"):
        tf.BM25(["one"], title_weight=weight)


# --- files ---


def test_an_index_on_file_finds_what_one_in_memory_finds(find, tmp_path):
    built = tf.BM25(CORPUS, path=tmp_path / "a b%20.sqlite", title_weight=3)
    find.save(tmp_path / "saved")
    for index in (built, tf.BM25.load(tmp_path / "a b%20.sqlite"), tf.BM25.load(str(tmp_path / "saved"))):
        assert len(index) == 5
        found, expected = index("the capital of Germany", k=5), find("the capital of Germany", k=5)
        assert [(p, p.id, p.score) for p in found] == [(p, p.id, p.score) for p in expected]


def test_a_loaded_index_weighs_titles_as_it_was_built_to(tmp_path):
    corpus = [{"text": "the nile of the north", "title": "River"}, {"text": "the river of the north", "title": "Nile"}]
    tf.BM25(corpus, path=tmp_path / "index", title_weight=5)
    assert tf.BM25.load(tmp_path / "index")("nile")[0].title == "Nile"


def test_many_threads_may_search_a_file_at_once(tmp_path):
    find = tf.BM25(CORPUS, path=tmp_path / "index")
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda i: find("capital of France" if i % 2 else "Nile", 1), range(200)))
    assert found == [[CORPUS[0]] if i % 2 else [CORPUS[1]] for i in range(200)]


def test_an_index_on_file_serves_where_nothing_can_be_written(tmp_path):
    folder = tmp_path / "read-only"
    tf.BM25(CORPUS, path=folder / "index")
    folder.chmod(0o555)
    try:
        assert tf.BM25.load(folder / "index")("Nile") == [CORPUS[1]]
        assert [p.name for p in folder.iterdir()] == ["index"]
    finally:
        folder.chmod(0o755)


def test_what_is_no_index_is_a_state_error(tmp_path):
    with pytest.raises(tf.StateError, match=r"there is no index .*missing"):
        tf.BM25.load(tmp_path / "missing")
    (tmp_path / "text").write_text("some text that is no database, and long enough for a header " * 20)
    sqlite3.connect(tmp_path / "empty").execute("CREATE TABLE other (a)")
    for name in ("text", "empty"):
        with pytest.raises(tf.StateError, match="no BM25 index of this version"):
            tf.BM25.load(tmp_path / name)


def test_nothing_is_left_open(tmp_path):
    code = f"import tuneful as tf; find = tf.BM25(['a', 'b'], path={str(tmp_path / 'i')!r}); print(find('a'))"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[Passage('a', id=0, score=1e-06)]\n", "")


# --- large corpora ---


def test_common_words_do_not_count_in_a_large_corpus_unless_there_are_no_others(monkeypatch):
    texts = [f"the number {i}" for i in range(99)] + ["the submarine is yellow and is long"]
    monkeypatch.setattr(tf.BM25, "LARGE", 100)
    find = tf.BM25(texts)
    assert find("the submarine", k=50) == [texts[99]]
    assert len(find("the", k=50)) == 50
    assert len(find("the number", k=50)) == 50
    monkeypatch.setattr(tf.BM25, "LARGE", 101)
    assert len(tf.BM25(texts)("the submarine", k=50)) == 50


# --- in other processes ---


@pytest.mark.parametrize("kept", ["memory", "file"])
def test_it_travels_with_its_passages_or_as_its_file(kept, tmp_path):
    index = tf.BM25(CORPUS, path=tmp_path / "index" if kept == "file" else None)

    data = pickle.dumps(index)

    arrived = pickle.loads(data)
    assert [repr(p) for p in arrived("capital", k=10)] == [repr(p) for p in index("capital", k=10)]
    assert len(arrived) == len(index)
    assert (CORPUS[0].encode() in data) == (kept == "memory")


def test_its_content_says_which_passages_it_has_and_how_titles_count(tmp_path):
    kept = tf.BM25(["a b", "c d"], path=tmp_path / "index.sqlite")
    same = [tf.BM25(["a b", "c d"]), kept, tf.BM25.load(tmp_path / "index.sqlite")]
    others = [tf.BM25(["a b", "c"]), tf.BM25(["c d", "a b"]), tf.BM25(["a b", "c d"], title_weight=3)]

    assert len({index.content_hash() for index in same}) == 1
    assert len({index.content_hash() for index in [kept, *others]}) == 4
