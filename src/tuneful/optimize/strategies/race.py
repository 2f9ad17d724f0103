"""Race: candidates run on shared blocks of rows, and those that are behind beyond doubt stop early.

Fully evaluating every candidate spends most of its rollouts on candidates that were out of question after a few
rows. A race asks for the next block of the same rows for all that are still in it, and drops a candidate when the
paired comparison with the leader says that it would not win on all rows. What is left at the end has been run on all
rows, so its ranking is the one that full evaluation gives.

The error control is over all candidates and all looks together: with a probability of 1 - alpha or more, the candidate
that full evaluation would choose is not dropped. Against each candidate a gambler bets, row by row, that the leader of
the rows before will be ahead of it. If the candidate is the winner on all rows, such bets do not pay on average,
since the rows come in a random order and without replacement; so his wealth ever exceeds 1 / alpha with a probability
of alpha at most (Ville's inequality). When it does, the candidate is dropped. The winner is one candidate, so nothing
has to be corrected for their number, nor for the number of looks. Nothing is assumed of the scores but their range: 0
to 1, or where they lie elsewhere the range seen so far.

Source: Maron and Moore (1994), for races; Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
betting" (JRSS B, 2024), section 5, for betting without replacement. Deviations: the gambler bets on the leader so far,
and always half of what he could lose at most, which in simulation dropped candidates soonest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from tuneful.errors import UsageError

State = dict[str, Any]

#: Share of the largest bet that cannot lose more than everything.
_BET = 0.5

#: Wealth beyond which a gambler stops, so that it stays a finite number.
_RICH = 1e12


def start(n_candidates: int, rows: Sequence[int], *, block: int, alpha: float = 0.25) -> State:
    """Return a race at its beginning.

    Args:
        n_candidates: how many there are. Put simpler ones first: ties go to the earlier candidate.
        rows: indices of the rows, in a random order (`brief.stream(...).sample(...)`): the error control rests on it.
        block: rows between two looks.
        alpha: largest probability of dropping the candidate that full evaluation would choose.

    Cost: see `rollouts`.
    """
    if n_candidates < 0 or block < 1 or not 0 < alpha < 1:
        raise UsageError(
            f"a race needs n_candidates >= 0, block >= 1 and 0 < alpha < 1, got {n_candidates}, {block} and {alpha}."
        )
    begun: State = {"rows": list(rows), "block": block, "alpha": alpha, "looks": 0}
    begun |= {"scores": [], "bets": [], "fallen": [], "credited": []}
    return add(begun, n_candidates)


def add(state: State, n: int) -> State:
    """Return the race with n more candidates.

    They catch up, block by block, and may fall on the way. A candidate that was made by looking at scores on these
    rows has an advantage on them; the error control does not hold for that, so compare the winner on other rows.
    """
    stakes = [{"seen": 0, "wealth": 1.0} for _ in range(n)]
    return {**state, "scores": [*state["scores"], *([] for _ in range(n))], "bets": [*state["bets"], *stakes]}


def credited(state: State, candidate: int, scores: Sequence[float | None]) -> State:
    """Return the race in which a candidate was run on the first rows before it began."""
    known = [list(scores[: len(state["rows"])]) if c == candidate else own for c, own in enumerate(state["scores"])]
    return {**state, "scores": known, "credited": [*state["credited"], candidate]}


def alive(state: State) -> list[int]:
    """Return the candidates that have not fallen."""
    out = {c for c, _ in state["fallen"]}
    return [c for c in range(len(state["scores"])) if c not in out]


def front(state: State) -> int:
    """Return how many rows the race has come to. Who was credited with further ones waits there for the others."""
    racing = alive(state)
    others = [c for c in racing if c not in state["credited"]]
    return max((len(state["scores"][c]) for c in others or racing), default=0)


def level(state: State) -> bool:
    """Say whether nobody who is still in the race has to catch up."""
    return all(len(state["scores"][c]) >= front(state) for c in alive(state))


def ask(state: State) -> list[tuple[int, tuple[int, ...]]]:
    """Return candidates, each with the rows to run it on next; none when the race is over.

    Those that joined late catch up first; then all run the next shared block.
    """
    racing = alive(state)
    if len(racing) < 2:
        return []
    done, furthest = {c: len(state["scores"][c]) for c in racing}, front(state)
    late = [c for c in racing if done[c] < furthest]
    end = furthest if late else furthest + state["block"]
    wanted = {c: tuple(state["rows"][done[c] : min(end, done[c] + state["block"])]) for c in late or racing}
    return [(c, rows) for c, rows in wanted.items() if rows]


def tell(state: State, scores: Mapping[int, Sequence[float | None]]) -> State:
    """Return the race after the scores of what `ask` returned: for each candidate, row by row; None is no score.

    A candidate that was asked for and was not run leaves the race: nobody could pay for it.
    """
    expected = {c: len(rows) for c, rows in ask(state)}
    got = {c: len(new) for c, new in scores.items()}
    if any(expected.get(c) != n for c, n in got.items()):
        raise UsageError(f"a race must be told the scores of what it asked for, {expected} by candidate, got {got}.")
    known = [[*old, *scores.get(c, ())] for c, old in enumerate(state["scores"])]
    state = {**state, "scores": known, "looks": state["looks"] + 1}
    racing = alive(state)
    state["bets"] = [_bet_on(state, c) if c in racing else bet for c, bet in enumerate(state["bets"])]
    behind = ranking(state)[1 : len(racing)]  # the leader stays, whatever was bet
    down = [c for c in behind if state["bets"][c]["wealth"] >= 1 / state["alpha"] or c in expected.keys() - got.keys()]
    return {**state, "fallen": [*state["fallen"], *([c, state["looks"]] for c in sorted(down))]}


def halved(state: State, left: int | None, worth: Sequence[float] | None = None) -> State:
    """Return the race without its worse half, where there is no room for all who are in it on all rows.

    Better that the better half is told apart on more rows than that all stop together. Asked after each look, the field
    halves as soon as the next look of all would take more than one of the rounds' share of what is left, until two are
    left: successive halving (Karnin et al., "Almost Optimal Exploration in Multi-Armed Bandits", 2013). Nobody is
    dropped while some still catch up. What is dropped so was not shown to be worse: no error control holds for it.

    Args:
        state: the race.
        left: rollouts that there is room for; None is no limit.
        worth: what candidates are believed to be worth; by default their order is that of `ranking`.
    """
    if left is None or not level(state):
        return state
    racing = alive(state)
    order = ranking(state)[: len(racing)]
    order = order if worth is None else sorted(order, key=lambda c: -worth[c])
    kept = len(order)
    while kept > 2 and _dear(state, order[:kept], left):
        kept -= kept // 2
    return {**state, "fallen": [*state["fallen"], *([c, state["looks"]] for c in sorted(order[kept:]))]}


def _dear(state: State, racing: Sequence[int], left: int) -> bool:
    """Say whether so few rollouts can neither run all on all rows nor be halved among them round by round."""
    needed = sum(len(state["rows"]) - len(state["scores"][c]) for c in racing)
    rounds = math.ceil(math.log2(len(racing)))
    return needed > left and len(racing) * state["block"] * rounds > left


def played(state: State, known: Sequence[Sequence[float | None]]) -> State:
    """Return the race after all looks for which the scores are known already.

    Args:
        state: the race.
        known: scores of each candidate, in the order of the race's rows, as far as it was run.
    """
    while asked := ask(state):
        begun = {c: len(state["scores"][c]) for c, _ in asked}
        found = {c: known[c][begun[c] : begun[c] + len(rows)] for c, rows in asked}
        if any(len(found[c]) < len(rows) for c, rows in asked):
            break
        state = tell(state, found)
    return state


def means(state: State) -> list[float | None]:
    """Return the mean score of each candidate on the rows that it was run on; None where there is no score."""
    scored = [[s for s in own if s is not None] for own in state["scores"]]
    return [fmean(own) if own else None for own in scored]


def edges(state: State) -> list[float | None]:
    """Return by how much each candidate is ahead of the others on the rows that it was run on; None before any."""
    return [fmean(own) if own else None for own in _ahead(state)]


def noise(state: State) -> list[float]:
    """Return the variance of each candidate's edge that is chance's: the fewer its rows, the more."""
    ahead = _ahead(state)
    off = [s - mean for own in ahead if own for mean in [fmean(own)] for s in own]
    single = sum(s * s for s in off) / max(1, len(off) - len(ahead)) + 1e-6
    return [single / max(1, len(own)) for own in ahead]


def span(state: State) -> float:
    """Return the largest difference that two scores can have."""
    known: list[float] = [s for own in state["scores"] for s in own if s is not None]
    return max([1.0, *known]) - min([0.0, *known])


def _ahead(state: State) -> list[list[float]]:
    """Return by how much each candidate is ahead of the others, on each row that it was run on."""
    scores = state["scores"]
    longest = max(map(len, scores), default=0)
    columns = [[own[i] for own in scores if len(own) > i and own[i] is not None] for i in range(longest)]
    usual = [fmean(column) if column else 0.0 for column in columns]
    return [[s - usual[i] for i, s in enumerate(own) if s is not None] for own in scores]


def ranking(state: State) -> list[int]:
    """Return the candidates, best first: those alive by their mean on shared rows, then the others by when they fell.

    Ties go to the earlier candidate.
    """
    racing = alive(state)
    shared = [row for row in zip(*(state["scores"][c] for c in racing), strict=False) if None not in row]
    on_shared = {c: fmean(column) for c, column in zip(racing, zip(*shared, strict=True), strict=False)}
    mean = [float("-inf") if m is None else m for m in means(state)]
    best_first = sorted(racing, key=lambda c: (-on_shared.get(c, mean[c]), c))
    fallen = sorted(state["fallen"], key=lambda f: (-f[1], -mean[f[0]], f[0]))
    return [*best_first, *(c for c, _ in fallen)]


def rollouts(n_candidates: int, n_rows: int, block: int) -> tuple[int, int]:
    """Return the fewest and the most rollouts of a race, for the plan."""
    return (n_candidates * min(block, n_rows), n_candidates * n_rows) if n_candidates > 1 else (0, 0)


def _bet_on(state: State, candidate: int) -> dict[str, Any]:
    """Return the bets against a candidate, with the rows that it has been run on since."""
    scores, n_rows, wide = state["scores"], len(state["rows"]), span(state)
    seen, wealth, end = state["bets"][candidate]["seen"], state["bets"][candidate]["wealth"], len(scores[candidate])
    rivals = [c for c, own in enumerate(scores) if c != candidate and len(own) > seen]
    leads = {c: sum(_difference(scores, c, candidate, i) for i in range(seen)) for c in rivals}
    for i in range(seen, end):
        leads = {c: lead for c, lead in leads.items() if len(scores[c]) > i}
        rival = max(leads, key=lambda c: leads[c], default=candidate)
        if leads.get(rival, 0.0) > 0:
            due = -leads[rival] / (n_rows - i)  # the mean of what is to come, if the two are equal on all rows
            if due <= -wide:  # not to be caught up with, even by winning all rows that are left
                wealth = _RICH
                break
            gain = (_difference(scores, rival, candidate, i) - due) / (wide + due)
            wealth = min(_RICH, wealth * (1 + _BET * gain))
        leads = {c: lead + _difference(scores, c, candidate, i) for c, lead in leads.items()}
    return {"seen": end, "wealth": wealth}


def _difference(scores: Sequence[Sequence[float | None]], ahead: int, behind: int, i: int) -> float:
    """Return by how much a candidate is ahead of another on the i-th row; 0 where one of them has no score."""
    mine, other = scores[ahead][i], scores[behind][i]
    return 0.0 if mine is None or other is None else mine - other
