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
FINALS = 3


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
        ends = {state["finals"][c]: max(at) + 1 for c, at in race.ask(_final(state))}
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
    gain = sum(own[row] - other[row] for row in state["rows"][:look] if row in own and row in other)
    over = gain < 0 or look == min(len(state["rows"]), LOOKS * BLOCK)
    return {**member, "taken": look, "fate": "better" if gain > 0 else "not better" if over else "tested"}


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
    """Return those that would race at the end, in the order in which they were made."""
    value, better = estimates(state), of_fate(state, "better")
    return sorted(sorted(better, key=lambda i: (-value[i], i))[:FINALS])


def kept(state: State) -> int:
    """Return about how many rollouts the race at the end would take: half of the most, since some stop early."""
    finals = contenders(state)
    missing = [len(state["rows"]) - len(state["members"][i]["scores"]) for i in finals]
    return sum(missing) // 2 if len(finals) > 1 else 0


def leader(state: State) -> int:
    """Return the best member; the program as it is where none is better."""
    value = estimates(state)
    best = max(of_fate(state, "original", "better"), key=lambda i: (value[i], -i))
    if not best or not state["finals"]:
        return best
    final = _final(state)
    first = state["finals"][race.ranking(final)[0]] if final["looks"] else best
    return int(first) if value[first] > value[0] else 0


def _final(state: State) -> State:
    """Return the race at the end, as far as it was run."""
    begun = race.start(len(state["finals"]), range(len(state["rows"])), block=selection.BLOCK)
    return race.played(begun, [state["members"][i]["scores"] for i in state["finals"]])
