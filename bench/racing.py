"""Racing against full evaluation: how often the winner is the same, and for what share of the rollouts.

    python bench/racing.py [--runs 100]
    python bench/racing.py --data trec6 [--rows 100] [--held-out 60] [--seeds 3]

The first form has candidates that are right or wrong on rows, with qualities drawn evenly from a range; half of what
decides a row is its own difficulty. `regret` is what the race's winner is behind, in points on the rows.

The second form compiles a task of tasks.py on the embedded model by `BootstrapFewShotWithRandomSearch` with 16 random
candidates, raced; then again with every candidate run on every row. A seed draws the rows of train. `rollouts` are
those of the race alone, `cached %` the share of prompt tokens that the prefix cache served, `seconds` the whole raced
compile.
"""

import argparse
import random
from statistics import fmean

from tuneful.optimize.strategies import race

#: Candidates, rows, block, and the range of qualities.
SETTINGS = [
    (16, 100, 10, (0.3, 0.75)),
    (16, 200, 5, (0.3, 0.75)),
    (16, 200, 10, (0.3, 0.75)),
    (16, 200, 20, (0.3, 0.75)),
    (16, 400, 20, (0.3, 0.75)),
    (8, 200, 10, (0.4, 0.7)),
    (32, 200, 20, (0.2, 0.8)),
    (16, 100, 10, (0.5, 0.5)),
]


def scores(rng, n_candidates, n_rows, qualities):
    hard = [rng.random() for _ in range(n_rows)]
    quality = [rng.uniform(*qualities) for _ in range(n_candidates)]
    return [[float((h if rng.random() < 0.5 else rng.random()) < q) for h in hard] for q in quality]


def raced(seed, n_candidates, n_rows, block, qualities):
    """Return whether the winner is the same, the share of rollouts, and the regret."""
    rng = random.Random(seed)
    table = scores(rng, n_candidates, n_rows, qualities)
    state = race.start(n_candidates, rng.sample(range(n_rows), n_rows), block=block)
    while wanted := race.ask(state):
        state = race.tell(state, {c: [table[c][i] for i in rows] for c, rows in wanted})
    chosen = race.ranking(state)[0]
    best = max(range(n_candidates), key=lambda c: (sum(table[c]), -c))
    share = sum(map(len, state["scores"])) / (n_candidates * n_rows)
    return chosen == best, share, 100 * (sum(table[best]) - sum(table[chosen])) / n_rows


# --- on a model ---


def compiled(task, rows, held_out, seed, *, drop):
    """Return the report of a compile, and the race's rollouts."""
    import tuneful as tf

    race.start.__kwdefaults__["alpha"] = 0.1 if drop else 1e-300
    drawn = [tf.Example(row).with_inputs(*task.inputs) for row in task.demos(rows + held_out, seed=seed)]
    teleprompter = tf.BootstrapFewShotWithRandomSearch(
        metric=lambda example, prediction, _: task.score(prediction[task.output], example[task.output]),
        max_labeled_demos=8,
        num_candidate_programs=16,
    )
    program = task.program(tf, [])
    return teleprompter.compile(program, trainset=drawn[:rows], valset=drawn[rows:], seed=seed).report


def on_a_model(name, rows, held_out, seeds):
    """Print the table of a task on the embedded model."""
    import tuneful as tf
    from tasks import TASKS

    task = TASKS[name]
    print(
        "| seed | candidates | rollouts, raced | all rows | share % | same winner | its score %, raced | all rows |",
        end="",
    )
    print(" calls | prompt tokens | cached % | seconds |\n|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|")
    for seed in range(seeds):
        with tf.context(lm=tf.LM("local/smollm2", max_tokens=task.max_tokens), cache=tf.Cache(None)):
            raced = compiled(task, rows, held_out, seed, drop=True)
            full = compiled(task, rows, held_out, seed, drop=False)
        ran, every = (sum(r.rows for r in report.ranked) for report in (raced, full))
        same = "yes" if raced.ranked[0].candidate == full.ranked[0].candidate else "no"
        used = raced.usage
        print(
            f"| {seed} | {len(full.ranked)} | {ran} | {every} | {100 * ran / every:.0f} | {same} "
            f"| {100 * raced.ranked[0].score:.1f} | {100 * full.ranked[0].score:.1f} | {used.calls} "
            f"| {used.prompt_tokens:,} | {100 * used.cached_tokens / used.prompt_tokens:.0f} | {raced.seconds:.0f} |",
            flush=True,
        )


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=int, default=100)
    asked.add_argument("--data", help="a task of tasks.py: the second form")
    asked.add_argument("--rows", type=int, default=100)
    asked.add_argument("--held-out", type=int, default=60)
    asked.add_argument("--seeds", type=int, default=3)
    given = asked.parse_args()
    if given.data:
        on_a_model(given.data, given.rows, given.held_out, given.seeds)
        return
    runs = given.runs
    print("| candidates | rows | block | qualities | same winner % | share of rollouts % | regret, points |")
    print("|--:|--:|--:|---|--:|--:|--:|")
    for n_candidates, n_rows, block, qualities in SETTINGS:
        same, share, regret = zip(
            *(raced(seed, n_candidates, n_rows, block, qualities) for seed in range(runs)), strict=True
        )
        span = f"{qualities[0]:g} to {qualities[1]:g}"
        figures = f"{100 * fmean(same):.0f} | {100 * fmean(share):.0f} | {fmean(regret):.2f}"
        print(f"| {n_candidates} | {n_rows} | {block} | {span} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
