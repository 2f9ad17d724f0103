"""Good and cheap: let `tf.compile` choose by itself, keep prompts short, and pick from the front.

    python examples/lean.py [--model local/smollm2] [--to MODEL] [--rows 40] [--calls 300]

The program says in which language a customer writes. How many words of the message it reads is a number of its own
(`tf.Choice`): fewer words are fewer tokens. `tf.compile` searches demos, adapters, wording and that number together.
With `minimize="prompt_tokens"` it returns the cheapest program that is not worse than the best one; `report.front` has
the others, and `report.pick` takes one of them. With `--to` the compiled program moves to another model, where it is
not worse there.
"""

import argparse

import tuneful as tf
from tuneful.demo.program import FindLanguage, messages


class Language(tf.Module):
    def __init__(self):
        self.words = tf.Choice([4, 8, 40], default=40)
        self.find = tf.Predict(FindLanguage, max_tokens=10)

    def forward(self, message):
        return self.find(message=" ".join(message.split()[: self.words]))


def right(example, prediction, trace=None):
    return prediction.language == example.language


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="local/smollm2")
    parser.add_argument("--to", help="a model to move the compiled program to")
    parser.add_argument("--rows", type=int, default=40, help="rows to search on, and as many held out")
    parser.add_argument("--calls", type=int, default=300, help="most calls of the compile")
    given = parser.parse_args()
    train, dev = (rows[: given.rows] for rows in messages())
    tf.configure(lm=tf.LM(given.model))
    lean = tf.Objectives(minimize="prompt_tokens", margin=0.1)
    compiled = tf.compile(
        Language(), train, right, valset=dev, objectives=lean, budget=tf.Budget(calls=given.calls), num_candidates=8
    )
    report = compiled.report
    print(report)
    print("\nThe front:")
    for program in report.front:
        print(f"  {program}")
    if report.weighed:
        best, cheapest = report.pick(), report.pick(minimize="prompt_tokens")
        print(f"\nThe best one reads {best.words} words, the cheapest {cheapest.words}.")
    if given.to:
        moved = tf.recompile(compiled, given.to, trainset=train, valset=dev, metric=right, objectives=lean)
        print(f"\nTo {given.to}: {moved.report.advice}")


if __name__ == "__main__":
    main()
