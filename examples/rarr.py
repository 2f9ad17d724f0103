"""RARR: find out what supports a claim, and change as little of it as the evidence demands; with an attribution report.

    python examples/rarr.py [--model scripted] [--data FOLDER] [--rows 2]

Whether evidence and a claim agree is beyond a model of 135M parameters (it runs, and agrees or not by chance), so a
script answers by default, for the rows below. Name a larger model with `--model`, and a FOLDER with
`climate_fever/claims.jsonl` (claim, label, evidence), whose evidence sentences are then the corpus.

Source: Gao et al. (2022), "RARR: Researching and Revising What Language Models Say, Using Language Models": questions,
retrieval and agreement (section 3.1 and 3.2), edits that change too much are dropped, the report, and the measure of
preservation. Deviations: passages come from BM25; attribution is shown and not judged by a model of entailment.
"""

import argparse
import json
from difflib import SequenceMatcher
from pathlib import Path
from typing import Literal

import tuneful as tf

ROWS = [
    {
        "claim": "The Vasa sank in 1628 on her third voyage.",
        "label": "REFUTES",
        "evidence": ["The warship Vasa sank in 1628.", "The Vasa sank on her maiden voyage, after 1,300 metres."],
    },
    {
        "claim": "The Mary Rose sank in 1545.",
        "label": "SUPPORTS",
        "evidence": ["The Mary Rose sank in the Solent in 1545.", "The Mary Rose was raised in 1982."],
    },
]


class Questions(tf.Signature):
    """Write questions that check every part of the claim."""

    claim: str = tf.InputField()
    questions: list[str] = tf.OutputField(min_length=1, max_length=4)


class Agreement(tf.Signature):
    """Say whether the evidence and the claim give the same answer to the question."""

    claim: str = tf.InputField()
    question: str = tf.InputField()
    evidence: str = tf.InputField()
    verdict: Literal["agrees", "disagrees", "irrelevant"] = tf.OutputField()


class Edit(tf.Signature):
    """Rewrite the claim so that it agrees with the evidence, and change nothing else."""

    claim: str = tf.InputField()
    question: str = tf.InputField()
    evidence: str = tf.InputField()
    revised: str = tf.OutputField(max_length=400)


class RARR(tf.Module):
    def __init__(self):
        thought = tf.OutputField(desc="what each of them says", max_length=300)
        self.k = tf.Choice([1, 2, 3], default=1)
        self.least_kept = tf.Real(0.0, 1.0, default=0.5)  # of the claim, in an edit that counts
        self.ask = tf.Predict(Questions)
        self.retrieve = tf.Retrieve()
        self.agree = tf.ChainOfThought(Agreement, thought)
        self.edit = tf.ChainOfThought(Edit, thought)

    def forward(self, claim):
        revised, report = claim, []
        for question in self.ask(claim=claim).questions:
            for evidence in self.retrieve(question, k=self.k).passages:
                given = {"claim": revised, "question": question, "evidence": evidence}
                verdict = self.agree(**given).verdict
                if verdict == "disagrees":
                    edited = self.edit(**given).revised
                    if preserved(revised, edited) >= self.least_kept:
                        revised, verdict = edited, "revised"
                report.append({"question": question, "evidence": evidence, "verdict": verdict})
        return tf.Prediction(revised=revised, report=report)


def preserved(before, after):
    """Return how much of a text an edit keeps, from 0 to 1: the share of its characters."""
    blocks = SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / max(len(before), len(after), 1)


def right(example, prediction, trace=None):
    """Score 1 for a refuted claim that was changed, and for a supported one that was left; say what is kept."""
    changed = prediction.revised != example.claim
    kept = preserved(example.claim, prediction.revised)
    return tf.Score(changed == (example.label == "REFUTES"), feedback=f"{kept:.0%} of the claim is kept")


def load(folder):
    """Return a corpus, and rows with `claim` and `label`, of which the evidence says something."""
    rows = ROWS if folder is None else lines(Path(folder, "climate_fever", "claims.jsonl"))
    texts = [item if isinstance(item, str) else item["text"] for row in rows for item in row["evidence"]]
    told = [row for row in rows if row["label"] in ("SUPPORTS", "REFUTES")]
    devset = [tf.Example(claim=row["claim"], label=row["label"]).with_inputs("claim") for row in told]
    return list(dict.fromkeys(texts)), devset


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def scripted():
    """Return a model that answers for the two rows above, in the order of the calls."""
    third, year = "On which voyage did the Vasa sink?", "In which year did the Mary Rose sink?"
    return tf.testing.DummyLM(
        [
            {"questions": ["In which year did the warship Vasa sink?", third]},
            {"reasoning": "Both say 1628.", "verdict": "agrees"},
            {"reasoning": "A maiden voyage is the first, not the third.", "verdict": "disagrees"},
            {"reasoning": "It was the maiden voyage.", "revised": "The Vasa sank in 1628 on her maiden voyage."},
            {"questions": [year]},
            {"reasoning": "Both say 1545.", "verdict": "agrees"},
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="scripted")
    parser.add_argument("--data")
    parser.add_argument("--rows", type=int, default=2)
    options = parser.parse_args()
    if options.model == "scripted" and options.data:
        parser.error("the scripted model knows only the rows of this file; name another one with --model.")

    corpus, rows = load(options.data)
    tf.configure(lm=scripted() if options.model == "scripted" else tf.LM(options.model), rm=tf.BM25(corpus))
    result = tf.Evaluate(devset=rows[: options.rows], metric=right, num_threads=1)(RARR())
    print(result)
    for row in result.rows:
        print(f"\n{row.example.claim} ({row.example.label})")
        if row.prediction is None:
            print(f"  {row.error}")
            continue
        print(f"  now: {row.prediction.revised} ({row.feedback})")
        for entry in row.prediction.report:
            print(f"  {entry['verdict']}: {entry['question']} <- {entry['evidence']}")


if __name__ == "__main__":
    main()
