"""How often outputs meet a stated constraint, with and without asking again, on the embedded model.

    python bench/constraints.py [--rows 48] [--model local/smollm2] [--cache FILE]

The task is squad (../shared/data from the repository's root; see tasks.py): answer from the context. The constraints:
the answer has at most 5 words, and its words stand in the context. Both are `Suggest`s, so every run ends with an
answer, and what is counted is the final one. One variant may not ask again (`max_backtracks=0`), the other twice.
Greedy; both share the answers to equal requests, so that they differ only by what is asked again. Differences are
paired by row. Rows with contexts of at most 500 characters, since reading them is what takes the time. With `--cache`
a run that was stopped goes on where it was.
"""

import argparse
import json
import logging
import sys

from tabulate import tabulate

import tuneful as tf
from tasks import DATA
from tuneful.evaluate.statistics import compare, mean_interval
from tuneful.spec.normalize import normalize_text

WORDS = 5
LONGEST = 500  # characters of a context


class Answer(tf.Signature):
    """Answer the question with a few words of the context."""

    context: str = tf.InputField()
    question: str = tf.InputField()
    answer: str = tf.OutputField()


def short(answer):
    return 0 < len(answer.split()) <= WORDS


def copied(context, answer):
    return f" {normalize_text(answer)} " in f" {normalize_text(context)} "


class Reader(tf.Module):
    def __init__(self):
        self.answer = tf.Predict(Answer, stop="\n", max_tokens=24)

    def forward(self, context, question):
        found = self.answer(context=context, question=question)
        tf.Suggest(short(found.answer), f"The answer must have at most {WORDS} words. Write fewer words.")
        tf.Suggest(copied(context, found.answer), "The answer must be copied from the context, word for word.")
        return found


MEASURES = {
    "short": lambda _, prediction: short(prediction.answer),
    "copied": lambda example, prediction: copied(example.context, prediction.answer),
    "both": lambda example, prediction: short(prediction.answer) and copied(example.context, prediction.answer),
    "F1 of the answer": lambda example, prediction: tf.metrics.F1(prediction.answer, example.accepted),
}


def rows(count):
    with (DATA / "squad" / "dev.jsonl").open(encoding="utf-8") as file:
        read = [row for row in map(json.loads, file) if len(row["context"]) <= LONGEST][:count]
    return [
        tf.Example(context=r["context"], question=r["question"], accepted=r["answers"]).with_inputs(
            "context", "question"
        )
        for r in read
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--model", default="local/smollm2")
    parser.add_argument("--cache", help="file that keeps the answers; by default they are kept in memory")
    options = parser.parse_args()
    if not (DATA / "squad").exists():
        sys.exit(f"squad is not at {DATA}: nothing was measured.")
    logging.getLogger("tuneful").setLevel(logging.ERROR)  # each suggestion that is not met; they are counted below
    tf.configure(lm=tf.LM(options.model), cache=tf.Cache(options.cache))
    devset = rows(options.rows)
    results = {}
    for most in (0, 2):
        with tf.context(max_backtracks=most):
            results[most] = tf.Evaluate(devset=devset, metric=lambda *_: True, num_threads=2)(Reader())
    print(tabulate(list(compared(results)), headers=["", "without", "with 2", "difference, paired", "wins, losses"]))
    for most, result in results.items():
        answers = (result.usage.calls + result.usage.hits) / len(devset)  # what both had in common came from the cache
        print(f"max_backtracks={most}: {answers:.2f} answers a run; {result.noted}")


def compared(results):
    """Yield a row of the table for each measure."""
    before, after = (results[most].rows for most in (0, 2))
    whole = [(a, b) for a, b in zip(before, after, strict=True) if a.status == b.status == "ok"]
    for name, measure in MEASURES.items():
        pairs = [[float(measure(r.example, r.prediction)) for r in pair] for pair in whole]
        without, with_ = zip(*pairs, strict=True)
        difference = compare(without, with_)
        low, high = difference.interval
        yield (
            name,
            percent(without),
            percent(with_),
            f"{100 * difference.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}), p = {difference.p_value:.3f}",
            f"{difference.wins}, {difference.losses}",
        )


def percent(values):
    low, high = mean_interval(values)
    return f"{100 * sum(values) / len(values):.1f} ({100 * low:.1f} to {100 * high:.1f})"


if __name__ == "__main__":
    main()
