"""Racing against full evaluation: how often the winner is the same, and for what share of the rollouts.

    python bench/racing.py [--runs 100]
    python bench/racing.py --data trec6 [--rows 200] [--held-out 60] [--seeds 3]

The first form has candidates that are right or wrong on rows, with qualities drawn evenly from a range; half of what
decides a row is its own difficulty. `regret` is what the race's winner is behind, in points on the rows.

The second form compiles a task of tasks.py on the embedded model by `BootstrapFewShotWithRandomSearch` with 16 random
candidates, each run on every row: no race. The scores that this gives are then raced over, in `--runs` orders of the
rows, and of the first half of them. A seed draws the rows of train. `cached %` is the share of prompt tokens that the
prefix cache served, `seconds` the compile without a race.
"""

import argparse
import random
import tempfile
from pathlib import Path
from statistics import fmean

from tuneful.optimize.strategies import race, selection

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


def raced(rng, table, n_rows, block):
    """Race over a table of scores; return whether the winner is the same, the share of rollouts, and the regret."""
    state = race.start(len(table), rng.sample(range(n_rows), n_rows), block=block)
    while wanted := race.ask(state):
        state = race.tell(state, {c: [table[c][i] for i in rows] for c, rows in wanted})
    chosen, totals = race.ranking(state)[0], [sum(own[:n_rows]) for own in table]
    share = sum(map(len, state["scores"])) / (len(table) * n_rows)
    # several may be best; which of them is chosen is no difference
    return totals[chosen] == max(totals), share, 100 * (max(totals) - totals[chosen]) / n_rows


def shown(found):
    """Return the means over all races as cells of a table."""
    same, share, regret = zip(*found, strict=True)
    return f"{100 * fmean(same):.0f} | {100 * fmean(share):.0f} | {fmean(regret):.2f}"


# --- on a model ---


def compiled(task, rows, held_out, seed):
    """Return student, search rows, metric, and the report of a compile without a race."""
    import tuneful as tf

    def metric(example, prediction, _trace=None):
        return task.score(prediction[task.output], example[task.output])

    drawn = [tf.Example(row).with_inputs(*task.inputs) for row in task.train(rows + held_out, seed=seed)]
    teleprompter = tf.BootstrapFewShotWithRandomSearch(metric=metric, max_labeled_demos=8, num_candidate_programs=16)
    program, search = task.program(tf, []), drawn[:rows]
    alpha, race.start.__kwdefaults__["alpha"] = race.start.__kwdefaults__["alpha"], 1e-300
    report = teleprompter.compile(program, trainset=search, valset=drawn[rows:], seed=seed).report
    race.start.__kwdefaults__["alpha"] = alpha
    return program, search, metric, report


def scores_of(candidate, program, search, metric):
    """Return the scores of a candidate on the rows, as the compile had them: the cache answers."""
    from tuneful.optimize.leave_out import without_own_demos

    made = program.with_parameters(candidate)
    return [float(metric(e, without_own_demos(made, e)(**e.inputs()))) for e in search]


def on_a_model(name, rows, held_out, seeds, runs):
    """Print the table of a task on the embedded model."""
    import tuneful as tf
    from tasks import TASKS

    task = TASKS[name]
    print("| seed | candidates | rows | same winner % | share of rollouts % | regret, points | its score % |", end="")
    print(" calls | prompt tokens | cached % | seconds |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            cache = tf.Cache(Path(folder) / "calls.sqlite")
            with tf.context(lm=tf.LM("local/smollm2", max_tokens=task.max_tokens), cache=cache):
                *made, report = compiled(task, rows, held_out, seed)
                table = [scores_of(ranked.candidate, *made) for ranked in report.ranked]
        used = report.usage
        for n_rows in (rows // 2, rows):
            found = [raced(random.Random(i), table, n_rows, selection.BLOCK) for i in range(runs)]
            best = 100 * max(fmean(own[:n_rows]) for own in table)
            cached = 100 * used.cached_tokens / used.prompt_tokens
            print(f"| {seed} | {len(table)} | {n_rows} | {shown(found)} | {best:.1f} | {used.calls} "
                  f"| {used.prompt_tokens:,} | {cached:.0f} | {report.seconds:.0f} |", flush=True)  # fmt: skip


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=int, default=100)
    asked.add_argument("--data", help="a task of tasks.py: the second form")
    asked.add_argument("--rows", type=int, default=200)
    asked.add_argument("--held-out", type=int, default=60)
    asked.add_argument("--seeds", type=int, default=3)
    given = asked.parse_args()
    if given.data:
        on_a_model(given.data, given.rows, given.held_out, given.seeds, given.runs)
        return
    print("| candidates | rows | block | qualities | same winner % | share of rollouts % | regret, points |")
    print("|--:|--:|--:|---|--:|--:|--:|")
    for n_candidates, n_rows, block, qualities in SETTINGS:
        found = []
        for seed in range(given.runs):
            rng = random.Random(seed)
            found.append(raced(rng, scores(rng, n_candidates, n_rows, qualities), n_rows, block))
        span = f"{qualities[0]:g} to {qualities[1]:g}"
        print(f"| {n_candidates} | {n_rows} | {block} | {span} | {shown(found)} |", flush=True)


if __name__ == "__main__":
    main()
