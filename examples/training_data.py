"""Training data from a program's runs: on rows with labels, with some of them, and with none.

    python examples/training_data.py [--model local/smollm2] [--folder FOLDER]

A small program sorts messages to a shop. Its teacher is the same program, shown a few labelled rows as demos. It runs
on all rows; where a row has labels, the metric compares those that it has, and where it has none, the teacher is taken
at its word. What is kept becomes prompts and completions in the form in which the small model will be asked, without
the demos: the files can be trained on.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Literal

import tuneful as tf

SHOWN = [  # to the teacher, as demos
    ("My printer only prints black pages.", "printer", True),
    ("Which phone has the best camera?", "phone", False),
    ("The laptop does not start any more, and I need it today!", "laptop", True),
    ("Is there a printer that prints on both sides?", "printer", False),
]
LABELLED = [
    ("How heavy is the smallest laptop?", "laptop", False),
    ("Paper gets stuck in it, page after page.", "printer", True),
    ("My phone fell into the water and stays black.", "phone", True),
    ("Does the phone come in green?", "phone", False),
]
PARTLY = [  # somebody has noted the product, and nothing else
    ("The screen of my laptop flickers.", "laptop"),
    ("Can I pay for the phone in two parts?", "phone"),
]
UNLABELLED = ["The battery of my phone is empty after an hour.", "Do you buy old laptops?"]


class Product(tf.Signature):
    """Say which product the message is about."""

    message: str = tf.InputField()
    product: Literal["printer", "phone", "laptop"] = tf.OutputField()


class Broken(tf.Signature):
    """Say whether the customer's own product is broken."""

    message: str = tf.InputField()
    product: str = tf.InputField()
    broken: bool = tf.OutputField()


class Sorter(tf.Module):
    def __init__(self):
        self.product = tf.Predict(Product)
        self.broken = tf.Predict(Broken)

    def forward(self, message):
        product = self.product(message=message).product
        return tf.Prediction(product=product, broken=self.broken(message=message, product=product).broken)


def right(example, prediction, trace=None):
    """Compare the labels that a row has."""
    return all(prediction[name] == label for name, label in example.labels().items())


def rows():
    """Return the rows for the demos, and those to run on."""
    shown, labelled = (
        [tf.Example(message=m, product=p, broken=b).with_inputs("message") for m, p, b in part]
        for part in (SHOWN, LABELLED)
    )
    partly = [tf.Example(message=m, product=p).with_inputs("message") for m, p in PARTLY]
    return shown, [*labelled, *partly, *(tf.Example(message=m).with_inputs("message") for m in UNLABELLED)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="local/smollm2")
    parser.add_argument("--folder", help="where the files go; by default a temporary folder")
    options = parser.parse_args()

    tf.configure(lm=tf.LM(options.model, max_tokens=20))
    shown, everything = rows()
    student = Sorter()
    teacher = tf.LabeledFewShot(k=4).compile(student, trainset=shown)

    found = tf.finetune.to_dataset(student, everything, metric=right, teacher=teacher)
    print(found.summary())
    for path, part in found.by_path().items():
        example = part.examples[0]
        print(f"\n--- `{path}` learns {len(part)} answers, such as {example.completion!r} to:")
        print("\n".join(f"[{m.role}] {m.text}" for m in example.messages))

    folder = Path(options.folder or tempfile.mkdtemp())
    learned, held_out = found.split(0.2)
    for name, part in (("training", learned), ("held_out", held_out)):
        part.save(folder / f"{name}.jsonl")
    print(f"\n{len(learned)} examples to learn from, {len(held_out)} to measure the loss on, in {folder}")


if __name__ == "__main__":
    main()
