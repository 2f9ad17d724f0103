"""Ranked word search."""

import copy
import math
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


def test_k_below_1_is_a_usage_error(find):
    with pytest.raises(tf.UsageError, match="`k` is 0"):
        find("capital", k=0)


def test_an_empty_corpus_is_a_data_error():
    with pytest.raises(tf.DataError, match="at least one passage"):
        tf.BM25([])


def test_many_threads_may_search_at_once(find):
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda i: find("capital of France" if i % 2 else "Nile", 1), range(200)))
    assert found == [[CORPUS[0]] if i % 2 else [CORPUS[1]] for i in range(200)]


def test_copies_share_the_index_and_len_is_its_size(find):
    assert copy.deepcopy([find])[0] is find
    assert len(find) == 5
