"""Ranked word search for large corpora."""

import copy
import json
import math
import pickle
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import tuneful as tf
from tuneful.retrieval import tantivy as engine

pytest.importorskip("tantivy", reason="the extra `tantivy` is not installed")

CORPUS = [
    "Paris is the capital of France.",
    "The Nile is a river in Africa.",
    "Berlin is the capital of Germany, and Germany is a country.",
    "Rivers run to the sea; a river runs.",
    "",
]


@pytest.fixture(scope="module")
def find():
    return tf.TantivyBM25(CORPUS)


def told(passages):
    return [(p, p.id, p.title, p.score) for p in passages]


def test_the_best_passage_comes_first_with_id_title_and_score(find):
    assert find("capital of France", k=1) == [CORPUS[0]]
    assert find("Germany", k=5) == [CORPUS[2]]
    titled = tf.TantivyBM25([{"text": "a river", "title": "Nile", "id": "n1"}, {"text": "a city", "id": "p1"}])
    (best,) = titled("nile")
    assert (best.text, best.id, best.title) == ("a river", "n1", "Nile")
    assert best.score > 0
    assert titled("city")[0].title == ""


def test_at_most_k_passages_come_back_and_none_without_a_word_of_the_query(find):
    assert len(find("the", k=2)) == 2
    assert find("capital", k=10**9) == [CORPUS[0], CORPUS[2]]
    assert find("submarine", k=3) == []


def test_the_order_is_that_of_the_formula():
    """Okapi BM25 with k1 = 1.2 and b = 0.75, computed here by hand over one word."""
    texts = ["cat " + "dog " * n for n in (1, 9, 4)] + ["cat cat cat dog", "dog"] + ["bird"] * 6
    documents = [t.split() for t in texts]
    mean = sum(map(len, documents)) / len(documents)
    holding = sum("cat" in d for d in documents)
    idf = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))

    def score(document):
        count = document.count("cat")
        return idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(document) / mean))

    found = tf.TantivyBM25(texts)("cat", k=10)
    assert found == sorted((t for t in texts if "cat" in t), key=lambda t: -score(t.split()))
    assert [p.score for p in found] == pytest.approx([score(p.split()) for p in found], rel=1e-5)


@pytest.mark.parametrize("query", ["RIVER", "rivers", "Élan", "capitals of germany", "a country's capital"])
def test_words_are_cut_folded_and_stemmed_as_in_bm25(query):
    corpus = [*CORPUS, "élan vital", "snake_case"]
    assert set(tf.TantivyBM25(corpus)(query, k=9)) == set(tf.BM25(corpus)(query, k=9))


@pytest.mark.parametrize("query", ["", "   ", "?!", "_", "\0"])
def test_a_query_without_words_finds_nothing(find, query):
    assert find(query) == []


@pytest.mark.parametrize(
    "query", ['capital" OR "x', "capital AND NOT", "words:capital*", "-capital", "capital'; DROP", "\ud800 capital"]
)
def test_a_query_is_words_and_no_query_language(find, query):
    assert set(find(query, k=5)) >= {CORPUS[0], CORPUS[2]}


def test_a_query_may_be_as_long_as_a_passage(find):
    assert find(" ".join(f"word{i}" for i in range(5000)) + " france") == [CORPUS[0]]


def test_equal_passages_come_in_their_order_however_the_index_was_cut(monkeypatch):
    """The engine writes in parts, by several threads, and keeps no order among them."""
    monkeypatch.setattr(engine, "_threads", lambda: 4)
    source = random.Random(0)
    texts = [source.choice(["the same words", "other words"]) for _ in range(3000)]
    same = [i for i, text in enumerate(texts) if text == "the same words"]
    for _ in range(3):
        index = tf.TantivyBM25(texts)
        assert [p.id for p in index("same", k=7)] == same[:7]
        assert [p.id for p in index("same", k=200)] == same[:200]


def test_many_threads_may_search_at_once(find):
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda i: find("capital of France" if i % 2 else "Nile", 1), range(200)))
    assert found == [[CORPUS[0]] if i % 2 else [CORPUS[1]] for i in range(200)]


def test_copies_share_the_index_and_len_is_its_size(find):
    assert copy.deepcopy([find])[0] is find
    assert len(find) == 5


def test_it_is_a_retriever_of_programs(find):
    with tf.context(rm=find):
        assert tf.Retrieve(k=1)("Nile").passages == [CORPUS[1]]


def test_a_word_in_a_title_counts_as_often_as_is_said():
    corpus = [{"text": "the river of the north", "title": "Nile"}, {"text": "the nile of the north", "title": "River"}]
    assert tf.TantivyBM25(corpus, title_weight=5)("nile")[0].title == "Nile"
    assert tf.TantivyBM25(corpus, title_weight=0)("nile")[0].text == "the nile of the north"


def test_a_corpus_may_be_streamed_and_a_bar_shows(monkeypatch):
    shown = []
    monkeypatch.setattr(
        "tuneful.retrieval.corpus.progress_bar",
        lambda total, title, display: (
            shown.append((total, title, display))
            or pytest.importorskip("tuneful.progress").progress_bar(total, title, display=False)
        ),
    )
    assert len(tf.TantivyBM25(f"text {i}" for i in range(50))) == 50
    tf.TantivyBM25(CORPUS, progress=False)
    assert shown == [(None, "TantivyBM25", True), (5, "TantivyBM25", False)]


# --- folders ---


def test_an_index_in_a_folder_finds_what_the_first_one_finds(find, tmp_path):
    tf.TantivyBM25(CORPUS, path=tmp_path / "a b%20")
    find.save(tmp_path / "deep" / "saved")
    for path in (tmp_path / "a b%20", str(tmp_path / "deep" / "saved")):
        index = tf.TantivyBM25.load(path)
        assert len(index) == 5
        assert told(index("the capital of Germany", k=5)) == told(find("the capital of Germany", k=5))


def test_an_index_that_is_there_is_replaced_and_anything_else_is_left(tmp_path):
    path = tmp_path / "index"
    tf.TantivyBM25(CORPUS, path=path)
    with pytest.raises(tf.DataError):
        tf.TantivyBM25([{"text": "a", "id": 1}, {"text": "b", "id": 1}], path=path)
    assert len(tf.TantivyBM25.load(path)) == 5  # a build that fails leaves the one that is there
    assert len(tf.TantivyBM25(["another"], path=path)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["index"]
    (tmp_path / "notes").mkdir()
    for write in (lambda p: tf.TantivyBM25(CORPUS, path=p), tf.TantivyBM25(["x"]).save):
        with pytest.raises(tf.UsageError, match="is no index; it is left"):
            write(tmp_path / "notes")


def _cut(folder):
    largest = max(folder.glob("*.store"), key=lambda f: f.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-3])


def _lost(folder):
    next(folder.glob("*.idx")).unlink()


def _garbled(folder):
    (folder / "meta.json").write_text("{" + " " * ((folder / "meta.json").stat().st_size - 1))


def _counted(folder):
    about = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**about, "passages": 7}))


@pytest.mark.parametrize("damage", [_cut, _lost, _garbled, _counted])
def test_a_damaged_index_is_a_state_error_that_says_what_to_do(damage, tmp_path):
    tf.TantivyBM25(CORPUS, path=tmp_path / "index")
    damage(tmp_path / "index")
    with pytest.raises(tf.StateError, match=r"is damaged: .*Build it anew"):
        tf.TantivyBM25.load(tmp_path / "index")


@pytest.mark.parametrize(
    "content", [None, "text", "[1]", '{"kind": "dense", "format": 1}', '{"kind": "tantivy", "format": 99}']
)
def test_what_is_no_index_of_this_version_is_a_state_error(content, tmp_path):
    if content is not None:
        (tmp_path / "index").mkdir()
        (tmp_path / "index" / "index.json").write_text(content)
    with pytest.raises(tf.StateError, match="there is no index of this version"):
        tf.TantivyBM25.load(tmp_path / "index")


def test_nothing_is_left_open_or_behind(tmp_path):
    code = "import tuneful as tf; find = tf.TantivyBM25(['a', 'b']); print(find('a'))"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env={"TMPDIR": str(tmp_path), "PATH": ""})
    assert done.stderr == ""
    assert done.stdout.startswith("[Passage('a', id=0, score=")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", ["temporary", "folder"])
def test_it_travels_with_its_passages_or_as_its_folder(kept, tmp_path):
    index = tf.TantivyBM25(CORPUS, path=tmp_path / "index" if kept == "folder" else None)
    data = pickle.dumps(index)
    arrived = pickle.loads(data)
    assert told(arrived("capital", k=10)) == told(index("capital", k=10))
    assert (len(data) < 1000) == (kept == "folder")


# --- what cannot be ---


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: tf.TantivyBM25([]), tf.DataError, "at least one passage"),
        (lambda: tf.TantivyBM25(iter(())), tf.DataError, "at least one passage"),
        (lambda: tf.TantivyBM25("text"), tf.UsageError, "a corpus is a list"),
        (lambda: tf.TantivyBM25([{"text": "a", "id": 1}, {"text": "b", "id": 1}]), tf.DataError, "two passages"),
        (lambda: tf.TantivyBM25(["a"], title_weight=0.5), tf.UsageError, "title_weight"),
        (lambda: tf.TantivyBM25(["a"], title_weight=-1), tf.UsageError, "title_weight"),
        (lambda: tf.TantivyBM25(["a"])("a", k=0), tf.UsageError, "`k` is 0"),
        (lambda: tf.TantivyBM25(["a"])(7), tf.UsageError, "a query is a text"),
    ],
)
def test_bad_input_is_a_typed_error(make, error, said):
    with pytest.raises(error, match=said):
        make()


@pytest.mark.parametrize("make", [lambda: tf.TantivyBM25(CORPUS), lambda: tf.TantivyBM25.load("x")])
def test_without_the_package_the_error_says_how_to_install_it(make, monkeypatch):
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(tf.MissingExtraError, match=r"pip install 'tuneful\[tantivy\]'"):
        make()


def test_its_content_says_which_passages_it_has_and_how_titles_count(tmp_path):
    kept = tf.TantivyBM25(["a b", "c d"], path=tmp_path / "index")
    same = [tf.TantivyBM25(["a b", "c d"]), kept, tf.TantivyBM25.load(tmp_path / "index")]
    others = [
        tf.TantivyBM25(["a b", "c"]),
        tf.TantivyBM25(["c d", "a b"]),
        tf.TantivyBM25(["a b", "c d"], title_weight=3),
    ]

    assert len({index.content_hash() for index in same}) == 1
    assert len({index.content_hash() for index in [kept, *others]}) == 4
