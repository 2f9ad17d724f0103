"""A tuned small model against its own few-shot compiled form: scores, prompt lengths and seconds.

    python bench/finetune.py [--data trec6] [--labelled 100] [--rows 500] [--test 200] [--epochs 3]

The embedded model on a task of tasks.py. `few-shot` is compiled by `BootstrapFewShotWithRandomSearch` on `--labelled`
rows. The teacher picks demos for each input among the same rows (`KNNFewShot`). It runs on `--rows` further rows of
train; where it is right, its answer is learned by a LoRA (`BootstrapFinetune`); with `--unlabelled` nobody knows where
it is right, and all of its answers are learned. The compile compares on as many rows of dev as it is then tested on;
the `--test` rows of dev nothing has seen.

`against few-shot` is the mean difference on the same rows with its 95 % interval. `tokens in` and `s/call` are of one
call: the prompt's tokens, those that the prefix cache served (`cached`), and seconds with one call in flight.
"""

import argparse
import time
from pathlib import Path

import tuneful as tf
from measure import table
from tasks import TASKS
from tuneful.evaluate.statistics import compare, mean_interval


def metric_of(task):
    """Return the metric: right, or not known."""

    def metric(example, prediction, _=None):
        if example.get(task.output) is None:
            return True
        return task.score(prediction[task.output], example[task.output])

    return metric


def examples(task, rows, *, labelled=True):
    found = [tf.Example(row) if labelled else tf.Example({n: row[n] for n in task.inputs}) for row in rows]
    return [example.with_inputs(*task.inputs) for example in found]


def answered(program, testset, metric):
    """Return a row of the table: what a program does on the test rows."""
    begun = time.monotonic()
    result = tf.Evaluate(devset=testset, metric=metric, num_threads=1)(program)
    seconds = time.monotonic() - begun
    scores = [row.score or 0.0 for row in result.rows]
    low, high = mean_interval(scores)
    n = len(scores)
    return {
        "scores": scores,
        "score": 100 * sum(scores) / n,
        "low": 100 * low,
        "high": 100 * high,
        "tokens": sum(row.usage.prompt_tokens for row in result.rows) / n,
        "cached": sum(row.usage.cached_tokens for row in result.rows) / n,
        "seconds": seconds / n,
    }


def against(found, rows):
    base = rows["few-shot"]
    if found is base:
        return ""
    told = compare(base["scores"], found["scores"])
    low, high = told.interval
    return f"{100 * told.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="trec6", choices=[n for n, t in TASKS.items() if t.kind is None])
    parser.add_argument("--labelled", type=int, default=100)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--unlabelled", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path(".tuneful/bench-finetune"))
    return parser.parse_args()


def main():
    given = options()
    task, metric = TASKS[given.data], metric_of(TASKS[given.data])
    drawn = task.demos(given.labelled + given.rows, seed=given.seed)
    labelled = examples(task, drawn[: given.labelled])
    further = examples(task, drawn[given.labelled :], labelled=not given.unlabelled)
    compared, testset = (examples(task, task.rows(2 * given.test)[i::2]) for i in range(2))
    tf.configure(lm=tf.LM("local/smollm2", max_tokens=task.max_tokens), cache=tf.Cache(None))
    journal = str(given.folder / "journal.sqlite")
    program = task.program(tf, [])
    with tf.context(journal=journal):
        few_shot = tf.BootstrapFewShotWithRandomSearch(
            metric=metric, max_labeled_demos=8, num_candidate_programs=8
        ).compile(program, trainset=labelled, run=f"few-shot {given.data} {given.seed}", seed=given.seed)
        shown = tf.KNNFewShot(k=8, vectorizer="local/wordllama", max_bootstrapped_demos=0)
        teacher = shown.compile(program, trainset=labelled, seed=given.seed)
        trainer = tf.LocalTrainer(epochs=given.epochs)
        finetune = tf.BootstrapFinetune(metric, trainer=trainer, folder=given.folder / "models")
        begun = time.monotonic()
        tuned = finetune.compile(
            few_shot,
            teacher=teacher,
            trainset=further,
            valset=compared,
            run=f"tuned {given.data} {given.seed} {given.rows} {given.epochs} {given.unlabelled}",
            seed=given.seed,
        )
    print(few_shot.report)
    print(tuned.report)
    print(f"{time.monotonic() - begun:.0f} s for the teacher's runs, the training and the comparison\n", flush=True)
    with tf.context(cache=False):
        programs = {"uncompiled": program, "few-shot": few_shot, "teacher": teacher}
        programs["tuned"] = few_shot.with_parameters(tuned.report.candidate)
        rows = {name: answered(one, testset, metric) for name, one in programs.items()}
    columns = [
        ("n", 4, lambda found, _: str(len(found["scores"]))),
        ("score %", 8, lambda found, _: f"{found['score']:.1f}"),
        ("95 % interval", 14, lambda found, _: f"{found['low']:.1f} to {found['high']:.1f}"),
        ("against few-shot", 23, against),
        ("tokens in", 10, lambda found, _: f"{found['tokens']:.0f}"),
        ("cached", 7, lambda found, _: f"{found['cached']:.0f}"),
        ("s/call", 7, lambda found, _: f"{found['seconds']:.3f}"),
    ]
    table(columns, rows)


if __name__ == "__main__":
    main()
