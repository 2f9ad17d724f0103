"""Retrieval: what is found, how fast, in how much memory.

    python bench/retrieval.py [--data FOLDER] [--split dev] [--questions 300] [--smollm2] [--lm MODEL] [--only NAME]
    python bench/retrieval.py --million [--passages 1000000] [--only NAME]

The first form: 8,557 paragraphs and the questions of HotPotQA, each with two gold paragraphs; recall is the share of
questions with both of them among the first 5 or 10. `second query` rows fuse, by reciprocal rank, what two queries
find: the question, and either the question with the title of the first passage behind it (no model), or what the
multi-hop program's first predictor asks for when it has read the first three passages (`--lm`). The second form:
passages made of words and lengths drawn from the same corpus by a seeded generator (of 12 words each for the dense
rows, where embedding is not what is measured), and the questions as queries. Each row is a process of its own; memory
is the most that it held, of which Python and the package are about 40 MiB.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from measure import dispatch, emit, number, peak_mib, run_case, table

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared" / "data" / "hotpotqa"


#: Words of a passage in the dense half of the second form: embedding is not what it measures.
SHORT = 12


def rows(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def corpus_of(data):
    return [{"id": row["pid"], "title": row["title"], "text": row["text"]} for row in rows(Path(data, "corpus.jsonl"))]


def recalls(found, questions):
    gold = [set(q["gold_pids"]) for q in questions]
    return {
        f"recall_{k}": 100 * sum(g <= {p.id for p in f[:k]} for f, g in zip(found, gold, strict=True)) / len(gold)
        for k in (5, 10)
    }


def size_mib(path):
    path = Path(path)
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(f.stat().st_size for f in files if f.is_file()) / 2**20


# --- indexes ---


def bm25(corpus, path, **options):
    import tuneful as tf

    return tf.BM25(corpus, path=path, progress=False, **options)


def tantivy(corpus, path):
    import tuneful as tf

    return tf.TantivyBM25(corpus, path=path, progress=False)


def dense(corpus, path, model="local/wordllama"):
    import tuneful as tf

    return tf.Dense(corpus, tf.Embedder(model), path=path)


def late(corpus, path):
    """Compare the static vectors of tokens: what late interaction gives without a model that reads."""
    import numpy as np

    import tuneful as tf
    from tuneful.backends.embed import static

    model = static._loaded(*static._files())

    def tokens(texts):
        encoded = model.tokenizer.encode_batch(texts, add_special_tokens=False)
        return [model.weights[e.ids, :64].astype(np.float32) for e in encoded]

    return tf.LateInteraction(corpus, tokens, path=path)


def smollm2(corpus, path):
    return dense(corpus, path, "local/smollm2")


def hybrid(corpus, path, **options):
    import tuneful as tf

    return tf.Hybrid([bm25(corpus, f"{path}.bm25"), dense(corpus, f"{path}.dense")], **options)


INDEXES = {"BM25": bm25, "tantivy": tantivy, "dense": dense, "late": late, "smollm2": smollm2, "hybrid": hybrid}


# --- HotPotQA ---


def searched(name, data, split, most, options):
    """Build an index and ask every question once."""
    import tuneful as tf

    tf.configure(cache=False)
    corpus, questions = corpus_of(data), rows(Path(data, f"{split}.jsonl"))[:most]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        find = INDEXES[name](corpus, Path(folder, "index"), **options)
        build_s = time.perf_counter() - begun
        retrieve = tf.Retrieve(k=10, rm=find)
        retrieve("warm up")
        begun = time.perf_counter()
        found = [retrieve(q["question"]).passages for q in questions]
        seconds = time.perf_counter() - begun
        disk = sum(size_mib(path) for path in Path(folder).iterdir())
    emit(
        {
            **recalls(found, questions),
            "build_s": build_s,
            "queries_per_s": len(questions) / seconds,
            "peak_mib": peak_mib(),
            "disk_mib": disk,
        }
    )


def second_query(data, split, most, lm=None):
    """Search twice; the second query comes from the first passage's title or from a model that has read three."""
    import tuneful as tf
    from tuneful.modules.hybrid import fused

    corpus, questions = corpus_of(data), rows(Path(data, f"{split}.jsonl"))[:most]
    find = tf.BM25(corpus, progress=False)
    first = [find(q["question"], k=50) for q in questions]
    begun = time.perf_counter()
    if lm is None:
        queries = [f"{q['question']} {f[0].title}" for q, f in zip(questions, first, strict=True)]
    else:
        tf.configure(lm=tf.LM(lm), cache=False)
        ask = tf.ChainOfThought("context: list[str], question -> query", max_tokens=100)
        inputs = [{"context": f[:3], "question": q["question"]} for q, f in zip(questions, first, strict=True)]
        said, failed, _ = ask.batch(inputs, return_failed_examples=True)
        print(f"{len(failed)} answers of {len(inputs)} could not be read", file=sys.stderr)
        queries = [q["question"] if s is None else s.query for q, s in zip(questions, said, strict=True)]
    found = [fused([f, find(query, k=50)], [1, 1], 60) for f, query in zip(first, queries, strict=True)]
    seconds = time.perf_counter() - begun
    emit({**recalls(found, questions), "queries_per_s": len(questions) / seconds, "peak_mib": peak_mib()})


# --- a million ---


def synthetic(data, count, length=None, seed=0):
    """Yield passages with the words and the word frequencies of the corpus, and with its lengths or a given one."""
    texts = [row["text"].split() for row in rows(Path(data, "corpus.jsonl"))]
    words, weights = zip(*Counter(word for text in texts for word in text).items(), strict=True)
    lengths = [len(text) for text in texts]
    source = random.Random(seed)
    drawn = iter(())
    for _ in range(count):
        wanted = length or source.choice(lengths)
        text = []
        while len(text) < wanted:
            if (word := next(drawn, None)) is None:
                drawn = iter(source.choices(words, weights, k=1_000_000))
            else:
                text.append(word)
        yield {"title": " ".join(text[:2]), "text": " ".join(text)}


def timed_queries(find, data, seconds=20.0):
    """Ask the questions until the time is over; return queries a second."""
    questions = [row["question"] for row in rows(Path(data, "dev.jsonl"))]
    find(questions[0], k=10)
    begun = time.perf_counter()
    asked = 0
    while asked < len(questions) and time.perf_counter() - begun < seconds:
        find(questions[asked], k=10)
        asked += 1
    return asked / (time.perf_counter() - begun)


def word_index(engine):
    import tuneful as tf

    return {"bm25": tf.BM25, "tantivy": tf.TantivyBM25}[engine]


def million_words(data, passages, folder, engine):
    path, made_s = Path(folder, engine), 0.0

    def corpus():
        nonlocal made_s
        begun = time.perf_counter()
        for passage in synthetic(data, passages):
            made_s += time.perf_counter() - begun
            yield passage
            begun = time.perf_counter()

    begun = time.perf_counter()
    word_index(engine)(corpus(), path=path, progress=False)
    build_s = time.perf_counter() - begun - made_s
    emit({"build_s": build_s, "disk_mib": size_mib(path), "peak_mib": peak_mib()})


def million_words_search(data, folder, engine):
    find = word_index(engine).load(Path(folder, engine))
    cold = timed_queries(find, data)
    emit({"queries_per_s": cold, "warm_queries_per_s": timed_queries(find, data), "peak_mib": peak_mib()})


def million_dense(data, passages, folder, dimensions):
    import tuneful as tf
    from tuneful.retrieval.dense import Dense

    tf.configure(cache=False)
    corpus = [tf.Passage(p["text"], title=p["title"]) for p in synthetic(data, passages, SHORT)]
    prepared = []
    graph, Dense._prepare = (
        Dense._prepare,
        lambda self, progress: prepared.append(time.perf_counter()) or graph(self, progress=progress),
    )
    begun = time.perf_counter()
    path = Path(folder, "dense")
    tf.Dense(corpus, tf.Embedder("local/wordllama", dimensions=dimensions), path=path, approximate=True)
    emit(
        {
            "build_s": time.perf_counter() - begun,
            "embed_s": prepared[0] - begun,
            "disk_mib": size_mib(path),
            "peak_mib": peak_mib(),
        }
    )


def million_dense_search(data, folder, dimensions, exact):
    import tuneful as tf

    tf.configure(cache=False)
    find = tf.Dense.load(Path(folder, "dense"), tf.Embedder("local/wordllama", dimensions=dimensions))
    figures = {}
    if exact:
        find._graph = None
    else:
        questions = [row["question"] for row in rows(Path(data, "dev.jsonl"))][:50]
        near = [{p.id for p in find(q, k=10)} for q in questions]
        graph, find._graph = find._graph, None
        same = [len(n & {p.id for p in find(q, k=10)}) for n, q in zip(near, questions, strict=True)]
        figures["agreement"] = 10 * sum(same) / len(same)
        find._graph = graph
    emit({"queries_per_s": timed_queries(find, data), "peak_mib": peak_mib(), **figures})


# --- the script ---


def hotpot(options):
    given = {"data": options.data, "split": options.split, "most": options.questions}

    def index(name, **more):
        return lambda: run_case(__file__, "searched", {"name": name, **given, "options": more})

    cases = {
        "BM25": index("BM25"),
        "BM25, tantivy": index("tantivy"),
        "dense, wordllama": index("dense"),
        "hybrid of both": index("hybrid"),
        "hybrid, BM25 counts 5 times": index("hybrid", weights=[5, 1], damping=20),
        "late interaction, wordllama's token vectors": index("late"),
        "BM25, second query: + first title": lambda: run_case(__file__, "second_query", given),
    }
    if options.smollm2:
        cases["dense, SmolLM2's mean"] = index("smollm2")
    if options.lm:
        more = {**given, "lm": options.lm}
        cases[f"BM25, second query: {options.lm}"] = lambda: run_case(__file__, "second_query", more)
    show(
        options,
        cases,
        [
            ("recall@5 %", 11, number("recall_5", ".1f")),
            ("recall@10 %", 12, number("recall_10", ".1f")),
            ("build s", 9, number("build_s", ".2f")),
            ("queries/s", 10, number("queries_per_s", ",.1f")),
            ("peak MiB", 9, number("peak_mib", ",.0f")),
            ("disk MiB", 9, number("disk_mib", ",.1f")),
        ],
    )


def million(options):
    with tempfile.TemporaryDirectory() as folder:
        given = {"data": options.data, "folder": folder}
        built = {**given, "passages": options.passages}
        wide = {"dimensions": options.dimensions}
        dense = f"dense, {options.dimensions} numbers"

        def words(case, more, engine):
            return lambda: run_case(__file__, case, {**more, "engine": engine})

        show(
            options,
            {
                "BM25: build": words("million_words", built, "bm25"),
                "BM25: search the file": words("million_words_search", given, "bm25"),
                "BM25, tantivy: build": words("million_words", built, "tantivy"),
                "BM25, tantivy: search the folder": words("million_words_search", given, "tantivy"),
                f"{dense}: build": lambda: run_case(__file__, "million_dense", {**built, **wide}),
                f"{dense}: search the graph": lambda: run_case(
                    __file__, "million_dense_search", {**given, **wide, "exact": False}
                ),
                f"{dense}: search every vector": lambda: run_case(
                    __file__, "million_dense_search", {**given, **wide, "exact": True}
                ),
            },
            [
                ("build s", 9, number("build_s", ".1f")),
                ("embedding s", 12, number("embed_s", ".1f")),
                ("queries/s", 10, number("queries_per_s", ",.1f")),
                ("again", 8, number("warm_queries_per_s", ",.1f")),
                ("as exact %", 11, number("agreement", ".1f")),
                ("peak MiB", 9, number("peak_mib", ",.0f")),
                ("disk MiB", 9, number("disk_mib", ",.0f")),
            ],
        )


def show(options, cases, columns):
    chosen = {name: case for name, case in cases.items() if options.only in name}
    table(columns, {name: case() for name, case in chosen.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(DATA), help="folder with corpus.jsonl and dev.jsonl")
    parser.add_argument("--split", default="dev", help="which questions: dev or train")
    parser.add_argument("--questions", type=int, default=300, help="at most so many questions")
    parser.add_argument("--smollm2", action="store_true", help="also embeddings of SmolLM2 (minutes)")
    parser.add_argument("--lm", help="a model that asks the second query")
    parser.add_argument("--only", default="", help="only the rows whose name has this in it")
    parser.add_argument("--million", action="store_true", help="the second form")
    parser.add_argument("--passages", type=int, default=1_000_000, help="passages of the second form")
    parser.add_argument("--dimensions", type=int, default=64, help="numbers of a vector in the second form")
    options = parser.parse_args()
    if not Path(options.data, "corpus.jsonl").exists():
        sys.exit(f"the data set is not there: {options.data}")
    (million if options.million else hotpot)(options)


if __name__ == "__main__":
    cases = (
        searched,
        second_query,
        million_words,
        million_words_search,
        million_dense,
        million_dense_search,
    )
    dispatch({case.__name__: case for case in cases}, main)
