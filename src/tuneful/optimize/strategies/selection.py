"""Selection: a race among candidates, as trials and outcomes."""

from __future__ import annotations

from collections.abc import Sequence

from tuneful.optimize.strategies import race
from tuneful.optimize.trial import Brief, Candidate, Outcome, Ranked, State, Trial

#: Rows between two looks at the race.
BLOCK = 8


def start(brief: Brief, n_candidates: int, *, most: int | None = None, block: int = BLOCK) -> State:
    """Return a race on the brief's rows, in a random order; see `race.start`.

    Args:
        brief: program and rows.
        n_candidates: how many there are.
        most: rows to race on, where not all of them.
        block: rows between two looks.
    """
    rows = range(len(brief.trainset))
    drawn = brief.stream("race").sample(rows, len(rows))
    return race.start(n_candidates, drawn[:most], block=block)


def trials(
    state: State, candidates: Sequence[Candidate], parents: Sequence[Candidate | None] | None = None
) -> list[Trial]:
    """Return what to run next. A row is run without the demos that were made from it.

    Args:
        state: the race.
        candidates: those in it.
        parents: what each of them was made from.
    """
    made = parents or [None] * len(candidates)
    return [Trial(candidates[c], rows, leave_out=True, parent=made[c]) for c, rows in race.ask(state)]


def told(state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
    """Return the race after the results of what `trials` returned."""
    asked = (c for c, _ in race.ask(state))
    return race.tell(state, {c: [o.score for o in found] for c, (_, found) in zip(asked, results, strict=False)})


def begun(state: State) -> bool:
    """Say whether anybody but the first, the program as it is, has been run in the race."""
    return any(state["scores"][1:])


def leader(state: State) -> int:
    """Return the best of those who are where the race is: few rows flatter one that has joined late."""
    means, front = race.means(state), race.front(state)
    full = [c for c in race.alive(state) if len(state["scores"][c]) >= front]
    return max(full, key=lambda c: (float("-inf") if (mean := means[c]) is None else mean, -c))


def ranked(state: State, candidates: Sequence[Candidate]) -> list[Ranked]:
    """Return the candidates that have run, best first, with their scores on the search rows."""
    means = race.means(state)
    return [
        Ranked(candidates[c], mean, len(state["scores"][c]))
        for c in race.ranking(state)
        if (mean := means[c]) is not None
    ]


def reached(state: State, score: float | None) -> bool:
    """Say whether the leader's mean, on the rows so far, is at least `score`."""
    leader = race.means(state)[race.ranking(state)[0]]
    return score is not None and leader is not None and leader >= score


def line(state: State) -> str:
    """Return how the race went, as a line of the report."""
    n, full = len(state["scores"]), len(state["rows"])
    run = sum(map(len, state["scores"]))
    return f"{n} candidates raced over {full} rows: {len(state['fallen'])} stopped early, {run} of {n * full} rollouts"


def headroom(state: State) -> str:
    """Say what a program would score that is right wherever any candidate is: more is not to be had from these.

    "" where no row is known of the first candidate, the program as it is.
    """
    scores = state["scores"]
    first = len(scores[0])
    rows = [[own[i] for own in scores if len(own) > i and own[i] is not None] for i in range(first)]
    if not first or not all(rows):
        return ""
    own, most = (sum(s or 0.0 for s in scores[0]) / first, sum(map(max, rows)) / first)
    told = f"the program has {100 * own:.0f} %, the best candidate of each row {100 * most:.0f} %"
    return f"on the first {first} rows {told}"
