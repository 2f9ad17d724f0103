"""Racing against full evaluation: how often the winner is the same, and for what share of the rollouts.

python bench/racing.py [--runs 100]

Candidates that are right or wrong on rows, with qualities drawn evenly from a range; half of what decides a row is its
own difficulty. `regret` is what the race's winner is behind, in points on the rows.
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


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=int, default=100)
    runs = asked.parse_args().runs
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
