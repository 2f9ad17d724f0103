"""Retrieval by one vector a passage."""

import copy
import json
import pickle
import signal
import subprocess
import sys
import textwrap

import cloudpickle
import pytest

import tuneful as tf
from tuneful.retrieval import dense, vector_folder

np = pytest.importorskip("numpy")


def by_letters(texts):
    """A vector that counts letters: texts of the same letters point the same way."""
    return np.array([[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts], np.float32)


CORPUS = ["a cat", "two dogs", "three birds", "cats and dogs", ""]


class Counting:
    """An embedder that notes what it was asked, and breaks when it was asked for more than it may be."""

    def __init__(self, most=10**9):
        self.asked = []
        self.most = most

    def __call__(self, texts):
        if len(self.asked) + len(texts) > self.most:
            raise KeyboardInterrupt
        self.asked += texts
        return by_letters(texts)


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(vector_folder, "BATCH", 2)


# --- searching ---


def test_the_nearest_by_cosine_come_first_with_their_cosines():
    find = tf.Dense(CORPUS, by_letters)
    query = by_letters(["dogs two"])[0]
    vectors = by_letters(CORPUS[:4])
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    found = find("dogs two", k=4)
    assert [p.id for p in found] == [int(i) for i in np.argsort(-cosines)]
    assert [p.score for p in found] == pytest.approx(sorted(map(float, cosines), reverse=True), abs=1e-5)


def test_the_length_of_a_vector_does_not_count():
    assert tf.Dense(["aaaaaaaab", "ab"], by_letters)("ab", k=1) == ["ab"]


def test_equal_passages_come_in_their_order():
    assert [p.id for p in tf.Dense(["ab", "ba", "ab", "c"], by_letters)("ab", k=3)] == [0, 1, 2]


def test_a_query_that_means_nothing_to_the_embedder_finds_nothing():
    assert tf.Dense(CORPUS, by_letters)("123") == []


def test_title_and_text_are_embedded():
    embedder = Counting()
    tf.Dense([{"title": "Pets", "text": "a cat"}], embedder)
    assert embedder.asked == ["Pets | a cat"]


def test_queries_may_be_embedded_in_another_way():
    embedder = Counting()
    find = tf.Dense(
        CORPUS, embedder, query_embedder=lambda texts: by_letters([t.removeprefix("query: ") for t in texts])
    )
    assert find("query: three birds", k=1) == ["three birds"]
    assert embedder.asked == CORPUS


def test_a_tuneful_embedder_serves_and_so_do_async_functions_in_one():
    async def embed(texts):
        return by_letters(texts)

    assert tf.Dense(CORPUS, tf.Embedder(embed))("birds", k=1) == ["three birds"]


def test_copies_share_the_index():
    find = tf.Dense(CORPUS, by_letters)
    assert copy.deepcopy([find])[0] is find
    assert len(find) == 5


# --- embedders that are none ---


async def asynchronous(texts):
    return by_letters(texts)


@pytest.mark.parametrize(
    ("embedder", "said"),
    [
        (None, "takes an embedder"),
        ("local/wordllama", r"tf\.Embedder\('local/wordllama'\)"),
        (asynchronous, r"tf\.Embedder\(function\)"),
        (lambda texts: None, "no such array|array of shape|float"),
        (lambda texts: [["a"]] * len(texts), "could not convert"),
        (lambda texts: by_letters(texts)[1:], "for 5 texts"),
        (lambda texts: by_letters(texts)[0], "for 5 texts"),
        (lambda texts: by_letters(texts) / 0 * 0, "no finite numbers"),
        (lambda texts: [[1.0], [1.0, 2.0]], "one vector for each text"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_no_embedder_is_a_usage_error(embedder, said):
    with pytest.raises(tf.UsageError, match=said):
        tf.Dense(CORPUS, embedder)


def test_vectors_that_change_their_length_are_a_usage_error(small_batches):
    widths = iter([3, 4, 5])
    with pytest.raises(tf.UsageError, match="of these lengths: 3, 4"):
        tf.Dense(CORPUS, lambda texts: np.ones((len(texts), next(widths))))


def test_a_query_vector_of_another_length_is_a_usage_error():
    find = tf.Dense(CORPUS, by_letters, query_embedder=lambda texts: np.ones((1, 3)))
    with pytest.raises(tf.UsageError, match="vectors of 3 numbers, and the index has vectors of 26"):
        find("a")


# --- files ---


def ranked(find, query="dogs and cats"):
    return [(p, p.id, p.title, round(p.score, 5)) for p in find(query, k=4)]


def test_built_saved_and_loaded_it_finds_the_same(tmp_path, small_batches):
    corpus = [{"id": f"p{i}", "title": "T" * (i % 2), "text": text} for i, text in enumerate(CORPUS)]
    find = tf.Dense(corpus, by_letters)
    find.save(tmp_path / "saved")
    built = tf.Dense(iter(corpus), by_letters, path=tmp_path / "built")
    for index in (built, *(tf.Dense.load(tmp_path / name, by_letters) for name in ("saved", "built"))):
        assert ranked(index) == ranked(find)
        assert len(index) == 5
    built.save(tmp_path / "built")  # over the very files that it reads
    assert ranked(tf.Dense.load(tmp_path / "built", by_letters)) == ranked(find)


def test_the_vectors_of_a_loaded_index_stay_on_disk_and_nothing_there_is_a_pickle(tmp_path):
    tf.Dense(CORPUS, by_letters, path=tmp_path / "index")
    assert isinstance(tf.Dense.load(tmp_path / "index", by_letters)._vectors, np.memmap)
    names = sorted(p.name for p in (tmp_path / "index").iterdir())
    assert names == ["counts.i32", "index.json", "passages.sqlite", "vectors.f32"]
    assert json.loads((tmp_path / "index" / "index.json").read_text())["embedder"] == "by_letters"


def test_another_embedder_is_refused(tmp_path):
    path = tmp_path / "index"
    tf.Dense(CORPUS, by_letters, path=path)

    def other(texts):
        return by_letters(texts)

    with pytest.raises(tf.StateError, match=r"built with the embedder `by_letters`.*loaded with `.*other`"):
        tf.Dense.load(path, other)
    other.__qualname__ = "by_letters"
    assert len(tf.Dense.load(path, other)) == 5

    def changed(texts):
        return by_letters(texts)[:, ::-1]

    changed.__qualname__ = "by_letters"
    with pytest.raises(tf.StateError, match="gives other vectors now"):
        tf.Dense.load(path, changed)


def test_a_named_model_is_known_by_its_name_and_not_asked(tmp_path):
    class Named(Counting):
        model = name = "openai/small"

    tf.Dense(CORPUS, Named(), path=tmp_path / "index")
    again = Named()
    tf.Dense.load(tmp_path / "index", again)
    assert again.asked == []
    again.name = "openai/small (8 dimensions)"
    with pytest.raises(tf.StateError, match="8 dimensions"):
        tf.Dense.load(tmp_path / "index", again)


def test_what_is_no_index_or_damaged_is_a_state_error(tmp_path):
    with pytest.raises(tf.StateError, match="is no index"):
        tf.Dense.load(tmp_path / "missing", by_letters)
    tf.LateInteraction(CORPUS[:4], lambda texts: [by_letters(t.split()) for t in texts], path=tmp_path / "late")
    with pytest.raises(tf.StateError, match="a late interaction index"):
        tf.Dense.load(tmp_path / "late", by_letters)
    tf.Dense(CORPUS, by_letters, path=tmp_path / "index")
    for name in ("vectors.f32", "counts.i32"):
        file = tmp_path / "index" / name
        whole = file.read_bytes()
        for damaged in (whole[:-4], b""):
            file.write_bytes(damaged)
            with pytest.raises(tf.StateError, match="damaged"):
                tf.Dense.load(tmp_path / "index", by_letters)
        file.write_bytes(whole)
    (tmp_path / "index" / "passages.sqlite").unlink()
    with pytest.raises(tf.StateError, match="damaged"):
        tf.Dense.load(tmp_path / "index", by_letters)


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    embedder = Counting()
    with pytest.raises(tf.UsageError, match="is no index; it is left as it is"):
        tf.Dense(CORPUS, embedder, path=tmp_path / "photos")
    assert embedder.asked == []


# --- a build that was ended ---


def test_a_build_that_was_ended_goes_on_where_it_was(tmp_path, small_batches):
    with pytest.raises(KeyboardInterrupt):
        tf.Dense(CORPUS, Counting(most=4), path=tmp_path / "index")
    again = Counting()
    find = tf.Dense(CORPUS, again, path=tmp_path / "index")
    assert again.asked == CORPUS[4:]
    assert ranked(find) == ranked(tf.Dense(CORPUS, by_letters))
    assert [p.name for p in tmp_path.iterdir()] == ["index"]


def test_a_build_of_another_corpus_begins_anew(tmp_path, small_batches):
    with pytest.raises(KeyboardInterrupt):
        tf.Dense(CORPUS, Counting(most=4), path=tmp_path / "index")
    again = Counting()
    tf.Dense([*CORPUS[:4], "another"], again, path=tmp_path / "index")
    assert again.asked == [*CORPUS[:4], "another"]


def test_a_build_that_is_killed_while_it_writes_pays_for_no_kept_batch_again(tmp_path):
    script = """
    import os, signal, sys
    import numpy as np
    import tuneful as tf
    from tuneful.retrieval import vector_folder
    vector_folder.BATCH = 10
    asked = 0
    def embed(texts):
        global asked
        asked += len(texts)
        if asked > int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return np.array([[len(t), 1.0, i] for i, t in enumerate(texts)])
    tf.Dense([f"text {i}" for i in range(100)], embed, path=sys.argv[1])
    print(asked)
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "index")]
    assert subprocess.run([*command, "60"]).returncode == -signal.SIGKILL
    with (tmp_path / ".index.partial" / "vectors.f32").open("ab") as file:
        file.write(b"half a row")
    done = subprocess.run([*command, "1000"], capture_output=True, text=True)
    assert done.stdout.split() == ["40"], done.stderr


# --- approximate ---


def test_the_graph_finds_nearly_what_the_exact_search_finds(tmp_path):
    pytest.importorskip("usearch")
    random = np.random.default_rng(0)
    table = {str(i): random.normal(size=16) for i in range(3000)}

    def embed(texts):
        return [table[text] for text in texts]

    exact = tf.Dense(list(table)[:2900], embed, approximate=False)
    built = tf.Dense(list(table)[:2900], embed, path=tmp_path / "index", approximate=True)
    for index in (built, tf.Dense.load(tmp_path / "index", embed)):
        assert index._graph is not None
        queries = list(table)[2900:]
        found = [({p.id: p.score for p in index(q, k=10)}, {p.id: p.score for p in exact(q, k=10)}) for q in queries]
        assert np.mean([len(near.keys() & best.keys()) for near, best in found]) > 9.5
        for near, best in found:  # which ones it misses is chance: several threads build it
            assert all(near[i] == pytest.approx(best[i], abs=1e-6) for i in near.keys() & best.keys())


def test_large_corpora_are_searched_in_a_graph_where_nobody_says(monkeypatch):
    pytest.importorskip("usearch")
    monkeypatch.setattr(tf.Dense, "EXACT_UP_TO", 4)
    assert tf.Dense(CORPUS, by_letters)._graph is not None
    assert tf.Dense(CORPUS, by_letters, approximate=False)._graph is None
    assert tf.Dense(CORPUS[:4], by_letters)._graph is None


def test_without_the_extra_the_error_comes_before_anything_is_embedded(monkeypatch):
    monkeypatch.setattr(dense.importlib.util, "find_spec", lambda name: None if name == "usearch" else object())
    embedder = Counting()
    with pytest.raises(tf.MissingExtraError, match=r"tuneful\[ann\]"):
        tf.Dense(CORPUS, embedder, approximate=True)
    assert embedder.asked == []


# --- in other processes ---


@pytest.mark.parametrize("kept", ["memory", "folder"])
@pytest.mark.parametrize("approximate", [False, True])
def test_it_travels_with_its_vectors_or_as_its_folder(kept, approximate, tmp_path):
    pytest.importorskip("usearch")
    path = tmp_path / "index" if kept == "folder" else None
    index = tf.Dense(CORPUS, by_letters, path, approximate=approximate)

    data = cloudpickle.dumps(index)

    arrived = pickle.loads(data)
    assert [repr(p) for p in arrived("dogs", k=3)] == [repr(p) for p in index("dogs", k=3)]
    assert (arrived._graph is not None) == approximate
    assert (b"three birds" in data) == (kept == "memory")


def test_its_content_says_which_passages_and_vectors_it_has(tmp_path):
    def embed(texts):
        return [[float(len(text)), 1.0] for text in texts]

    kept = tf.Dense(["a", "bb"], embed, path=tmp_path / "index")
    same = [tf.Dense(["a", "bb"], embed), kept, tf.Dense.load(tmp_path / "index", embed)]
    others = [tf.Dense(["a", "cc"], embed), tf.Dense(["a", "bb"], lambda texts: [[1.0, 1.0] for _ in texts])]

    assert len({index.content_hash() for index in same}) == 1
    assert len({index.content_hash() for index in [kept, *others]}) == 3
