"""Evolution: candidates made from one another, each judged against what it was made from; the best race at the end.

A new member must first mend some of the runs that it was made from: few rows, and those on which there is something to
gain. What it gains there may be luck, and it has seen these rows; so it then runs rows that nobody was shown, and must
get ahead of what it was made from, block by block until one of them is. A member that wins is likely to be better, and
not proven to be: in simulation (right or wrong, half of the chance the row's own, half of the runs right), of changes
without effect 17 % win, of those that add 20 points 65 %, at 7 to 10 rollouts each. So a gain on k rows counts for
k / (k + `PRIOR`) of what it seems, the best race on all rows at the end, and the proof is left to rows that the search
never saw.

All functions are pure, and the state is JSON: `rows` that judge, in a random order; `members`; `merges`, how many were
made; `ripe`, whether somebody has won since the last attempt to merge; `finals`, the members that race at the end, or
None. A member has its `values` by parameter path, its `parents` (the first is its rival), its `fate` ("original",
"drafted", "tested", "better", "not better", "undecided"), the rows that it was `shown`, with the scores of its rival
there, how many rows its test has `taken`, and its `scores` on the first of the rows.

Source: Agrawal et al. (2025), "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement Learning", algorithm 1.
Deviation: there a member that mends its three runs (29 % and 61 % of those above do) is run on all rows at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

from tuneful.optimize.strategies import race, selection
from tuneful.optimize.strategies.front import wins
from tuneful.optimize.strategies.lineage import common, merged

State = dict[str, Any]

#: Rows between two looks at a test, and the number of looks after which it is not worth finding out who is ahead.
BLOCK, LOOKS = 8, 4
#: Rows at which half of an observed gain is believed. It is the variance of a difference on a row (about 0.3, of scores
#: of 0 and 1) over that of the gains of changes (about 0.08 squared).
PRIOR = 40
#: Members that race at the end.
FINALS = 8
Z0 = 1.0


def start(rows: Sequence[int]) -> State:
    """Return the state that holds the program as it is, and no more."""
    original = {"values": {}, "parents": [], "fate": "original", "shown": [], "taken": 0, "scores": []}
    return {"rows": list(rows), "members": [original], "merges": 0, "ripe": False, "finals": None}


def joined(
    state: State, values: Mapping[str, Any], parents: Sequence[int], shown: Sequence[tuple[int, float]] = ()
) -> State:
    """Return the state with one more member, which is to be judged.

    Args:
        state: the state.
        values: what it has otherwise than the program.
        parents: what it was made from; it must beat the first of them.
        shown: rows with the scores of that one, whose runs it was made from; it must mend them. Without any, this is
            not asked.
    """
    members = state["members"]
    for i, member in enumerate(members):
        if member["values"] == dict(values):
            if member["fate"] != "not better" or _look(state, i) == member["taken"]:
                return state
            again = {**member, "fate": "tested"} if member["taken"] else {**member, "fate": "drafted", "shown": [list(one) for one in shown]}
            again = again if member["taken"] or shown else {**again, "fate": "tested"}
            return {**state, "members": [*members[:i], again, *members[i + 1 :]]}
    new: State = {"values": dict(values), "parents": list(parents), "fate": "drafted" if shown else "tested"}
    new |= {"shown": [list(one) for one in shown], "taken": 0, "scores": []}
    return {**state, "members": [*state["members"], new]}


def of_fate(state: State, *fates: str) -> list[int]:
    """Return the members of some fates."""
    return [i for i, member in enumerate(state["members"]) if member["fate"] in fates]


def judged(state: State) -> list[int]:
    """Return the members that are being judged."""
    return of_fate(state, "drafted", "tested")


def settled(state: State) -> bool:
    """Say whether new members may join: nobody is being judged, and the end has not begun."""
    return state["finals"] is None and not judged(state)


def scores(state: State, i: int) -> dict[int, float]:
    """Return the scores of a member, by row; without those rows that gave none."""
    own = zip(state["rows"], state["members"][i]["scores"], strict=False)
    return {row: score for row, score in own if score is not None}


def estimates(state: State) -> list[float]:
    """Return what each member would score on all rows: its rival's estimate, and as much of its gain as is believed."""
    known = [scores(state, i) for i in range(len(state["members"]))]
    found = [fmean(known[0].values()) if known[0] else 0.0]
    for member, own in list(zip(state["members"], known, strict=True))[1:]:
        rival = member["parents"][0]
        gains = [score - known[rival][row] for row, score in own.items() if row in known[rival]]
        found.append(found[rival] + sum(gains) / (len(gains) + PRIOR))
    return found


def weights(state: State) -> dict[int, int]:
    """Return on how many rows each of those that stand is best, without those that others cover; see `front.wins`."""
    standing = of_fate(state, "original", "better")
    return dict(zip(standing, wins([scores(state, i) for i in standing]), strict=True))


# --- judging ---


def asked(state: State) -> list[tuple[int, tuple[int, ...]]]:
    """Return members, each with the rows to run it on next: what it was shown, its test, or the race at the end."""
    if drafts := of_fate(state, "drafted"):
        return [(i, tuple(row for row, _ in state["members"][i]["shown"])) for i in drafts]
    ends: dict[int, int] = {}
    for i in of_fate(state, "tested"):
        for who in (state["members"][i]["parents"][0], i):
            ends[who] = max(ends.get(who, 0), _look(state, i))
    if not ends and state["finals"]:
        alive, rows = _final(state)
        ends = dict.fromkeys(alive, rows) if len(alive) > 1 else {}
    wanted = {i: tuple(state["rows"][len(state["members"][i]["scores"]) : end]) for i, end in ends.items()}
    return [(i, rows) for i, rows in wanted.items() if rows]


def _look(state: State, i: int) -> int:
    """Return how many rows a tested member and its rival must have run at the next look."""
    return min(len(state["rows"]), int(state["members"][i]["taken"]) + BLOCK)


def told(state: State, found: Iterable[tuple[int, Sequence[float | None]]]) -> State:
    """Return the state after members were run on what was asked for; what can be decided then is decided."""
    members = [*state["members"]]
    for i, new in found:
        own = members[i]
        if own["fate"] == "drafted":
            gain = sum(score - old for score, (_, old) in zip(new, own["shown"], strict=True) if score is not None)
            members[i] = {**own, "fate": "tested" if gain > 0 else "not better"}
        else:
            members[i] = {**own, "scores": [*own["scores"], *new]}
    state = {**state, "members": members}
    for i in of_fate(state, "tested"):
        members[i] = _decided(state, i)
        state["ripe"] = state["ripe"] or members[i]["fate"] == "better"
    return state


def _decided(state: State, i: int) -> State:
    """Return a tested member with its fate after the last look."""
    member, look = state["members"][i], _look(state, i)
    rival = member["parents"][0]
    if min(len(state["members"][who]["scores"]) for who in (i, rival)) < look:
        return dict(member)
    own, other = scores(state, i), scores(state, rival)
    gains = [own[row] - other[row] for row in state["rows"][:look] if row in own and row in other]
    over = sum(gains) < 0 or look == min(len(state["rows"]), LOOKS * BLOCK)
    ahead = sum(gains) > 0 and sum(gains) >= Z0 * sum(g * g for g in gains) ** .5
    return {**member, "taken": look, "fate": "better" if ahead else "not better" if over else "tested"}


def given_up(state: State) -> State:
    """Return the state in which nobody is judged any more, since nobody can pay for it."""
    open_ = judged(state)
    members = [{**m, "fate": "undecided"} if i in open_ else m for i, m in enumerate(state["members"])]
    return {**state, "members": members}


# --- merging ---


def merge(state: State) -> State:
    """Return the state with a new member that has the changes of two, the best two first; or no longer ripe."""
    value, members = estimates(state), state["members"]
    parents = [member["parents"] for member in members]
    among = sorted((i for i, n in weights(state).items() if n), key=lambda i: (-value[i], i))
    for better, other in combinations(among, 2):
        base = common(parents, better, other)
        if base is not None and value[base] <= value[other]:
            found = merged(*(members[i]["values"] for i in (base, better, other)))
            if found is not None and all(found != member["values"] for member in members):
                return {**joined(state, found, [better, other]), "merges": state["merges"] + 1, "ripe": False}
    return {**state, "ripe": False}


# --- the end ---


def contenders(state: State) -> list[int]:
    """Return those that would be compared at the end, the best first."""
    value = estimates(state)
    return sorted(of_fate(state, "better"), key=lambda i: (-value[i], i))[:FINALS]


def kept(state: State) -> int:
    """Return how many rollouts the comparison at the end would take."""
    alive, total = contenders(state), 0
    run = {i: len(state["members"][i]["scores"]) for i in alive}
    for rows in _rounds(state):
        if len(alive) < 2:
            break
        total += sum(max(0, rows - run[i]) for i in alive)
        run |= {i: max(rows, run[i]) for i in alive}
        alive = alive[: -(-len(alive) // 2)]
    return total


def leader(state: State) -> int:
    """Return the best member; the program as it is where none is better."""
    value = estimates(state)
    alive = _final(state)[0] if state["finals"] else of_fate(state, "better")
    return max([0, *alive], key=lambda i: (value[i], -i))


def _rounds(state: State) -> list[int]:
    """Return how many rows are run by the end of each round of the comparison."""
    found = [2 * BLOCK]
    while found[-1] < len(state["rows"]):
        found.append(2 * found[-1])
    return [*found[:-1], len(state["rows"])]


def _final(state: State) -> tuple[list[int], int]:
    """Return the members that are still compared, and how many rows they are to run by the end of the round."""
    alive, members = list(state["finals"]), state["members"]
    for rows in _rounds(state):
        if len(alive) < 2 or any(len(members[i]["scores"]) < rows for i in alive):
            return alive, rows
        shared = [row for row in zip(*(members[i]["scores"][:rows] for i in alive), strict=True) if None not in row]
        sums = dict(zip(alive, map(sum, zip(*shared, strict=True)), strict=False))
        last = rows == len(state["rows"])
        alive = sorted(alive, key=lambda i: (-sums.get(i, 0.0), i))[: 1 if last else -(-len(alive) // 2)]
    return alive, 0
