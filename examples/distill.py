"""Distillation: an ensemble of two-step programs becomes one short call of a small model.

    python examples/distill.py [--teacher openai/gpt-4.1-mini] [--student local/smollm2] [--epochs 3] [--folder FOLDER]

The messages to a shop go to one of three teams. The teacher is three programs of two steps (what is the matter; who
deals with it) that put the first step in different words, and vote: six calls for a message. It runs on messages with
labels and without. Where there is a label, the metric drops what is wrong; where there is none, the vote is taken at
its word, mistakes included. What is left trains one `Predict` of the small model, asked once and without demos.

Without `--teacher` the strong model is played by a script that is wrong about one matter in six, so that the example
runs anywhere. It takes a minute or two on two cores, for eighteen steps of training. What so few can show is that
a small model which had no idea of the teams gets one. It is one seed and 24 messages, in sentences that it never saw
but by the same author: the interval is wide, and real messages differ more. Take hundreds of rows for a real task.
"""

import argparse
import hashlib
import itertools
import tempfile
from pathlib import Path
from typing import Literal

import tuneful as tf
from tuneful.testing import ScriptedLM

THINGS = ["lamp", "tent"]
#: How customers write, by the team that deals with it. The last `UNSEEN` of each are kept for the held-out rows.
SENTENCES = {
    "delivery": [
        "Where is my {}? It should be here since Monday.",
        "The tracking of my {} has not moved for a week.",
        "The {} was left at my neighbour's door, and he denies it.",
        "Please send the {} to my office instead.",
        "The courier says that he has brought the {}. He has not.",
        "Can the {} be here before the weekend?",
        "Do you ship the {} to Norway?",
        "The {} came a month late.",
        "Your driver could not find the house with the {}.",
        "Nobody came with the {} today, though I waited.",
        "When will the {} arrive?",
        "I have moved. Which address will the {} go to?",
        "The {} is still in your depot, says the tracking.",
    ],
    "payment": [
        "I was charged twice for the {}.",
        "The invoice for the {} has the wrong name on it.",
        "May I pay for the {} in three parts?",
        "The {} is cheaper on your page today. Do I get the difference?",
        "My voucher was not taken off the price of the {}.",
        "What does the {} cost with tax?",
        "Please refund the {}, I have sent it back.",
        "I paid for the {} by bank transfer. Has it come?",
        "My bank says that you took too much for the {}.",
        "My card was refused when I bought the {}.",
        "I still wait for the refund of the {}.",
        "Can I have a receipt for the {}?",
        "The bill for the {} is higher than the price I saw.",
    ],
    "repair": [
        "The {} does not switch on any more.",
        "One leg of the {} is broken.",
        "The {} makes a strange noise when it is warm.",
        "Which screws do I need to put the {} together?",
        "There is a hole in the {}. Can you mend it?",
        "How do I clean the {}?",
        "The {} smells burnt.",
        "I need a spare part for my {}.",
        "Water gets into the {}.",
        "The {} fell, and now it has a crack.",
        "There is a part missing in the box of the {}.",
        "The {} has stopped working after two days.",
        "How do I fix the {} to the wall?",
    ],
}
UNSEEN = 4
#: The first steps of the teacher's members.
ANGLES = [
    "Say in a few words what the customer wants.",
    "Name the problem behind the message.",
    "Say what has to be done next.",
]


class Route(tf.Signature):
    """Choose the team that deals with the message."""

    message: str = tf.InputField()
    team: Literal["delivery", "payment", "repair"] = tf.OutputField()


class TwoSteps(tf.Module):
    def __init__(self, angle):
        self.matter = tf.Predict(tf.Signature("message -> matter", angle))
        self.team = tf.Predict(Route.insert(0, "matter", tf.InputField(), type_=str))

    def forward(self, message):
        return tf.Prediction(team=self.team(message=message, matter=self.matter(message=message).matter).team)


def script():
    """Return a model that knows the teams, and takes one matter in six for another."""
    teams = {s.format(t): team for team, sentences in SENTENCES.items() for s in sentences for t in THINGS}

    def answer(request):
        asked = request.messages[-1].text
        if (matter := next((team for team in SENTENCES if f"a matter of {team}" in asked), None)) is not None:
            return f"[[ ## team ## ]] {matter}"
        right = next(team for message, team in teams.items() if message in asked)
        chance = int(hashlib.sha256((request.messages[0].text + asked).encode()).hexdigest(), 16)
        others = [team for team in SENTENCES if team != right]
        return f"[[ ## matter ## ]] a matter of {others[chance % 2] if chance % 6 == 0 else right}"

    return ScriptedLM(answer)


def rows():
    """Return the rows to learn from, every third without its label, and the held-out ones."""

    def made(part):
        pairs = [(team, sentence) for team, sentences in SENTENCES.items() for sentence in sentences[part]]
        rows = [{"message": s.format(thing), "team": team} for (team, s), thing in itertools.product(pairs, THINGS)]
        return [tf.Example(row).with_inputs("message") for row in rows]

    known, held_out = made(slice(-UNSEEN)), made(slice(-UNSEEN, None))
    return [row if i % 3 else row.without("team") for i, row in enumerate(known)], held_out


def right(example, prediction, trace=None):
    """Compare the labels that a row has: one without them is taken as the teacher answers it."""
    return all(prediction[name] == label for name, label in example.labels().items())


def shown(name, score, interval, usage):
    """Print what a program does on the held-out rows, and what one row of them takes."""
    low, high = interval
    print(f"{name:<30}{score:>5.1f} % ({low:.1f} to {high:.1f}){usage.calls:>8.0f}{usage.prompt_tokens:>11.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", help="a strong model; by default a script plays it")
    parser.add_argument("--student", default="local/smollm2")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--folder", help="where the model goes; by default a temporary folder")
    options = parser.parse_args()

    folder = Path(options.folder or tempfile.mkdtemp())
    tf.configure(lm=tf.LM(options.student, max_tokens=10), cache=False)
    strong = tf.LM(options.teacher) if options.teacher else script()
    teacher = tf.EnsembledProgram([TwoSteps(angle).using(lm=strong) for angle in ANGLES])
    student = tf.Predict(Route)
    trainset, held_out = rows()

    trainer = tf.LocalTrainer(epochs=options.epochs, learning_rate=3e-3)
    distill = tf.BootstrapFinetune(right, learn="answers", trainer=trainer, folder=folder / "models")
    compiled = distill.compile(student, teacher=teacher, trainset=trainset, valset=held_out)
    report = compiled.report
    print("what was kept, what was not and why, and how the training went:")
    print("\n".join(f"  {line}" for line in report.found))
    print(f"verdict: {report.advice}\n")

    one = held_out[0].inputs()
    judged = tf.Evaluate(devset=held_out, metric=right)(teacher)
    print(f"{len(held_out)} held-out messages, in sentences that were not learned:")
    print(f"{'':<30}{'score':>7} (95 % interval){'calls':>7}{'tokens in':>11}")
    shown("the teacher", judged.score, judged.interval, teacher(**one).trace.usage)
    tuned = student.with_parameters(report.candidate)  # also where it was not found to be better
    for name, found, program in [("before", report.baseline, student), ("distilled", report.best, tuned)]:
        interval = [100 * end for end in found.interval]
        shown(f"the small model, {name}", 100 * found.mean, interval, program(**one).trace.usage)

    compiled.save(folder / "program.json")
    print(f"\nsaved: {folder / 'program.json'}")


if __name__ == "__main__":
    main()
