"""Constraints: what an answer must be and should be, said in Python; where it is not, the model is asked again.

    python examples/constraints.py [--model local/smollm2] [--data FOLDER] [--rows 4]

Three constraints, by three ways to state one: the query of a search is short (`tf.Assert`, in `forward`: a run without
it fails), the answer is short (`suggest`, on the predictor) and stands in a passage (`tf.Suggest`, in `forward`: it
needs to know what was found). A model of 135M parameters plays the parts, and meets some of them.

FOLDER holds `squad/dev.jsonl` (context, question, answers); without it a handful of rows below is used.

Source: Singhvi et al. (2023), "DSPy Assertions: Computational Constraints for Self-Refining Language Model Pipelines".
"""

import argparse
import json
from pathlib import Path

import tuneful as tf

ROWS = [
    (
        "Which metal is liquid at room temperature?",
        ["mercury"],
        "Mercury is a metal that is liquid at room temperature.",
    ),
    ("What do bees make from nectar?", ["honey"], "Bees gather nectar from flowers and make honey from it."),
    ("Who wrote The Magic Mountain?", ["Thomas Mann"], "The Magic Mountain is a novel by Thomas Mann, set in Davos."),
    ("What is the Ariane 5?", ["a rocket"], "The Ariane 5 was a rocket, launched from Kourou in French Guiana."),
]
WORDS = 5  # of an answer
CHARACTERS = 100  # of a query


class Query(tf.Signature):
    """Write a search query for the question."""

    question: str = tf.InputField()
    query: str = tf.OutputField()


class Answer(tf.Signature):
    """Answer the question with a few words of the context."""

    context: list[str] = tf.InputField()
    question: str = tf.InputField()
    answer: str = tf.OutputField()


class Reader(tf.Module):
    def __init__(self):
        self.query = tf.Predict(Query, stop="\n", max_tokens=40)
        self.retrieve = tf.Retrieve(k=1)
        self.answer = tf.Predict(Answer, stop="\n", max_tokens=40)
        self.answer.suggest(is_short, f"The answer must have at most {WORDS} words. Write fewer words.")

    def forward(self, question):
        query = self.query(question=question).query
        tf.Assert(
            len(query) <= CHARACTERS, f"The query must have at most {CHARACTERS} characters. Write a shorter one."
        )
        context = self.retrieve(f"{question} {query}").passages
        answer = self.answer(context=context, question=question).answer
        tf.Suggest(is_copied(answer, context), "The answer must be copied from the context, word for word.")
        return tf.Prediction(answer=answer, context=context)


def is_short(prediction):
    return len(prediction.answer.split()) <= WORDS


def is_copied(answer, passages):
    words = tf.metrics.normalize_text(answer)
    return bool(words) and any(words in tf.metrics.normalize_text(passage) for passage in passages)


def met(example, prediction, trace=None):
    """Say whether both constraints on the answer hold."""
    return is_short(prediction) and is_copied(prediction.answer, prediction.context)


def load(folder, count):
    """Return a corpus, and rows with `question` and `answer`."""
    found = ROWS
    if folder is not None:
        with Path(folder, "squad", "dev.jsonl").open(encoding="utf-8") as file:
            read = [json.loads(line) for line, _ in zip(file, range(count), strict=False)]
        found = [(row["question"], row["answers"], row["context"]) for row in read]
    corpus = list(dict.fromkeys(text for *_, text in found))
    return corpus, [tf.Example(question=q, answer=answer).with_inputs("question") for q, answer, _ in found[:count]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="local/smollm2")
    parser.add_argument("--data")
    parser.add_argument("--rows", type=int, default=4)
    options = parser.parse_args()

    corpus, rows = load(options.data, options.rows)
    tf.configure(lm=tf.LM(options.model), rm=tf.BM25(corpus), num_threads=1)
    for most in (0, 2):
        with tf.context(max_backtracks=most):
            result = tf.Evaluate(devset=rows, metric=met)(Reader())
        print(f"up to {most} further answers: {result}")
    for step in result.rows[0].trace:
        print(f"  {step.path}: {step.outputs}{' (turned down)' if step.superseded else ''}")


if __name__ == "__main__":
    main()
