"""Multi-hop question answering: search, read, search again with what was read, answer.

    python examples/multi_hop.py [--model local/smollm2] [--data FOLDER] [--rows 3]

FOLDER holds `hotpotqa/corpus.jsonl` (pid, title, text) and `hotpotqa/dev.jsonl` (question, answer, gold_titles);
without it a handful of rows below is used. A model of 135M parameters plays the parts; it gains nothing from reasoning
in words, so there the steps are plain predictors.

Source: Khattab et al. (2023), "DSPy: Compiling Declarative Language Model Calls into Self-Improving Pipelines", the
multi-hop program of sections 6 and 7. It is compiled as `rag.py` shows.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import tuneful as tf

CORPUS = {
    "Sognefjord": "The Sognefjord is the longest fjord of Norway. It lies in the county of Vestland.",
    "Vestland": "Vestland is a county of Norway. Its administrative centre is the city of Bergen.",
    "Bergen": "Bergen is a city on the west coast of Norway, known for the wharf of Bryggen.",
    "Saimaa": "Lake Saimaa is the largest lake of Finland. It lies in the region of South Karelia.",
    "South Karelia": "South Karelia is a region of Finland. Its capital is the city of Lappeenranta.",
    "Hekla": "Mount Hekla is a volcano in the south of Iceland, near the village of Hella.",
    "Gota canal": "The Gota canal crosses Sweden. It was designed by Baltzar von Platen.",
    "Baltzar von Platen": "Baltzar von Platen was a Swedish count, born on the island of Rugen.",
}
QUESTIONS = [
    ("What is the administrative centre of the county of the Sognefjord?", "Bergen", ["Sognefjord", "Vestland"]),
    ("What is the capital of the region of Lake Saimaa?", "Lappeenranta", ["Saimaa", "South Karelia"]),
    ("On which island was the designer of the Gota canal born?", "Rugen", ["Gota canal", "Baltzar von Platen"]),
]


class NextQuery(tf.Signature):
    """Write a search query for what is still missing to answer the question."""

    context: list[str] = tf.InputField(desc="what was found so far")
    question: str = tf.InputField()
    query: str = tf.OutputField()


class Answer(tf.Signature):
    """Answer the question in a few words."""

    context: list[str] = tf.InputField(desc="passages that may hold facts")
    question: str = tf.InputField()
    answer: str = tf.OutputField(desc="a few words")


class MultiHop(tf.Module):
    def __init__(self, hops=2, step=tf.ChainOfThought):
        self.k = tf.Choice([1, 2, 3, 5], default=2)  # the user's own number is a parameter
        self.queries = [step(NextQuery) for _ in range(hops)]  # each hop has demos of its own
        self.retrieve = tf.Retrieve()
        self.answer = step(Answer)

    def forward(self, question):  # plain Python: loops, exceptions, print, a debugger
        context = []
        for next_query in self.queries:
            query = next_query(context=context, question=question).query
            found = self.retrieve(query, k=self.k).passages
            context = list(dict.fromkeys([*context, *found]))  # a passage that is found twice stays one
        answer = self.answer(context=context, question=question).answer
        return tf.Prediction(answer=answer, context=context)


def answered(example, prediction, trace=None):
    return tf.metrics.answer_exact_match(example, prediction)


def gold_found(example, prediction, trace=None):
    """Say which share of the gold paragraphs was found."""
    titles = {passage.title for passage in prediction.context}
    return sum(title in titles for title in example.gold_titles) / len(example.gold_titles)


def load(folder):
    """Return a corpus, and rows with `question`, `answer` and `gold_titles`."""
    if folder is None:
        corpus = [{"title": title, "text": text} for title, text in CORPUS.items()]
        found = [dict(zip(("question", "answer", "gold_titles"), row, strict=True)) for row in QUESTIONS]
    else:
        corpus, found = (lines(Path(folder, "hotpotqa", name)) for name in ("corpus.jsonl", "dev.jsonl"))
    return corpus, [tf.Example(row).with_inputs("question") for row in found]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="local/smollm2")
    parser.add_argument("--data")
    parser.add_argument("--rows", type=int, default=3)
    options = parser.parse_args()

    corpus, rows = load(options.data)
    tf.configure(lm=tf.LM(options.model), rm=tf.BM25(corpus))
    small = options.model.startswith("local/")
    program = MultiHop(step=partial(tf.Predict, stop="\n", max_tokens=40) if small else tf.ChainOfThought)
    result = tf.Evaluate(devset=rows[: options.rows], metric=answered)(program)
    print(result)
    for row in result.rows:
        print(f"\n{row.example.question}")
        for search in row.trace.retrievals:
            print(f"  searched {search.query!r}: {', '.join(p.title for p in search.passages) or 'nothing'}")
        if row.prediction is not None:
            print(f"  answered {row.prediction.answer!r} (wanted {row.example.answer!r})")
            print(f"  gold paragraphs found: {gold_found(row.example, row.prediction):.0%}")


if __name__ == "__main__":
    main()
