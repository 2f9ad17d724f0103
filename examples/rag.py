"""Retrieve, then answer; compiled with BootstrapFewShot, with the answer and the passages scored apart.

    python examples/rag.py [--model local/smollm2] [--data FOLDER] [--rows 10]

FOLDER holds `hotpotqa/corpus.jsonl` (pid, title, text) and `hotpotqa/train.jsonl` (question, answer); without it a
handful of rows below is used. Half of the rows are for training, half tell whether that helped. A model of 135M
parameters plays the part; it gains nothing from reasoning in words, so there the step is a plain predictor.

Source: Lewis et al. (2020), "Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks", as a program with a
frozen retriever (Khattab et al. (2023), section 3); passage recall is that of Karpukhin et al. (2020).
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path

import tuneful as tf

CORPUS = [
    "The Danube rises in the Black Forest and flows into the Black Sea.",
    "The Rhine rises in Switzerland and flows into the North Sea.",
    "The Po rises in Piedmont and flows into the Adriatic Sea.",
    "The Volga is the longest river of Europe and flows into the Caspian Sea.",
    "The capital of Slovenia is Ljubljana, on the river Ljubljanica.",
    "The capital of Latvia is Riga, on the river Daugava.",
    "The capital of Serbia is Belgrade, where the Sava meets the Danube.",
    "Mount Triglav is the highest mountain of Slovenia.",
]
QUESTIONS = {
    "Into which sea does the Danube flow?": "Black Sea",
    "What is the capital of Slovenia?": "Ljubljana",
    "Into which sea does the Po flow?": "Adriatic Sea",
    "What is the capital of Latvia?": "Riga",
    "Into which sea does the Rhine flow?": "North Sea",
    "What is the capital of Serbia?": "Belgrade",
    "Into which sea does the Volga flow?": "Caspian Sea",
    "Which is the highest mountain of Slovenia?": "Triglav",
    "On which river is Riga?": "Daugava",
    "Where does the Po rise?": "Piedmont",
}


class Answer(tf.Signature):
    """Answer the question in a few words."""

    context: list[str] = tf.InputField(desc="passages that may hold facts")
    question: str = tf.InputField()
    answer: str = tf.OutputField(desc="a few words")


class RAG(tf.Module):
    def __init__(self, step=tf.ChainOfThought):
        self.k = tf.Choice([1, 3, 5], default=3)
        self.retrieve = tf.Retrieve()
        self.answer = step(Answer)

    def forward(self, question):
        context = self.retrieve(question, k=self.k).passages
        return tf.Prediction(answer=self.answer(context=context, question=question).answer, context=context)


def metric(example, prediction, trace=None):
    """Score the answer; while demos are gathered, want it to stand in a passage too."""
    found = tf.metrics.answer_passage_match(example, prediction)
    return tf.metrics.answer_exact_match(example, prediction) and (trace is None or found)


def load(folder):
    """Return a corpus, and rows with `question` and `answer`."""
    if folder is None:
        corpus, found = CORPUS, [{"question": question, "answer": answer} for question, answer in QUESTIONS.items()]
    else:
        corpus, found = (lines(Path(folder, "hotpotqa", name)) for name in ("corpus.jsonl", "train.jsonl"))
    return corpus, [tf.Example(row).with_inputs("question") for row in found]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def report(name, result):
    recall = [tf.metrics.answer_passage_match(r.example, r.prediction) for r in result.rows if r.prediction]
    print(f"{name}: {result}")
    print(f"{name}: the passages hold the answer of {sum(recall)} of {len(recall)} rows")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="local/smollm2")
    parser.add_argument("--data")
    parser.add_argument("--rows", type=int, default=10)
    options = parser.parse_args()

    corpus, rows = load(options.data)
    rows = rows[: options.rows]
    train, dev = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    tf.configure(lm=tf.LM(options.model), rm=tf.BM25(corpus))

    small = options.model.startswith("local/")
    make = partial(RAG, partial(tf.Predict, stop="\n", max_tokens=40) if small else tf.ChainOfThought)

    evaluate = tf.Evaluate(devset=dev, metric=metric)
    report("as written", evaluate(make()))

    teleprompter = tf.BootstrapFewShot(metric=metric, max_bootstrapped_demos=2, max_labeled_demos=2)
    compiled = teleprompter.compile(make(), trainset=train, valset=dev, budget=tf.Budget(usd=2, seconds=900))
    print(compiled.report)  # against the original, with intervals, cost, stop reason, verdict

    with tempfile.TemporaryDirectory() as folder:
        compiled.save(Path(folder, "rag.json"))
        report("returned", evaluate(make().load(Path(folder, "rag.json"))))


if __name__ == "__main__":
    main()
