"""Evolution: candidates made from one another, each judged against what it was made from; the best race at the end.

All are run on the same rows in the same order, each as far as its judgement takes. A candidate is tested in a duel; one
that wins may be improved in turn, and merged with others. All functions are pure, and the state is JSON:

`rows`, in a random order; `members`, each with its `values` by parameter path, its `parents` (the first is the one that
it must beat), its `fate` ("original", "tested", "better", "not better", "undecided") and its `scores` on the first of
the rows; `merges`, how many were made; `ripe`, whether somebody has won since the last attempt to merge; `finals`, the
numbers of those that race at the end, or None.

Source: see `GEPA`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from tuneful.optimize.strategies import duel, race, selection
from tuneful.optimize.strategies.front import wins
from tuneful.optimize.strategies.lineage import common, merged, worth

State = dict[str, Any]

#: Candidates that race at the end.
FINALS = 3


def start(rows: Sequence[int]) -> State:
    """Return the state that holds the program as it is, and no more."""
    original = {"values": {}, "parents": [], "fate": "original", "begun": 0, "tested": 0, "ran": [], "scores": []}
    return {"rows": list(rows), "members": [original], "merges": 0, "ripe": False, "finals": None}


def joined(
    state: State, values: Mapping[str, Any], parents: Sequence[int], shown: Sequence[tuple[int, float]] = ()
) -> State:
    """Return the state with one more member, which is to be tested.

    Args:
        state: the state.
        values: what it has otherwise than the program.
        parents: what it was made from; it must beat the first of them.
    """
    rival = state["members"][parents[0]]
    begun = (rival["begun"] + rival["tested"]) % len(state["rows"])
    new = {"values": dict(values), "parents": list(parents), "fate": "drafted" if shown else "tested", "begun": begun, "tested": 0, "shown": [list(s) for s in shown]}
    return {**state, "members": [*state["members"], {**new, "ran": [], "scores": []}]}


def scores(member: Mapping[str, Any]) -> dict[int, float | None]:
    """Return the scores of a member, by row."""
    return dict(zip(member["ran"], member["scores"], strict=True))


def _arena(state: State, i: int) -> list[int]:
    """Return the rows of a member's duel, in order: first those after the duel of what it was made from."""
    begun = state["members"][i]["begun"]
    return [*state["rows"][begun:], *state["rows"][:begun]]


def of_fate(state: State, *fates: str) -> list[int]:
    """Return the members of some fates."""
    return [i for i, member in enumerate(state["members"]) if member["fate"] in fates]


def estimates(state: State) -> list[float]:
    """Return what each member would score on all rows, as far as that is known."""
    return worth([scores(member) for member in state["members"]])


def weights(state: State) -> dict[int, int]:
    """Return on how many rows each of those that stand is best, without those that others cover; see `front.wins`."""
    standing = of_fate(state, "original", "better")
    known = [scores(state["members"][i]) for i in standing]
    found = wins([{row: score for row, score in own.items() if score is not None} for own in known])
    return dict(zip(standing, found, strict=True))


# --- judging ---


def asked(state: State) -> list[tuple[int, tuple[int, ...]]]:
    """Return members, each with the rows to run it on next: for the duels, then for the race at the end."""
    if drafts := of_fate(state, "drafted"):
        return [(i, tuple(row for row, _ in state["members"][i]["shown"])) for i in drafts]
    wanted: dict[int, list[int]] = {}
    for i in of_fate(state, "tested"):
        member = state["members"][i]
        rows = _arena(state, i)[: duel.following(member["tested"])]
        for who in (member["parents"][0], i):
            wanted[who] = [*dict.fromkeys([*wanted.get(who, ()), *rows])]
    if not wanted and state["finals"]:
        wanted = {state["finals"][c]: list(rows) for c, rows in race.ask(_final(state))}
    new = {i: tuple(row for row in rows if row not in set(state["members"][i]["ran"])) for i, rows in wanted.items()}
    return [(i, rows) for i, rows in new.items() if rows]


def told(state: State, found: Iterable[tuple[int, Sequence[int], Sequence[float | None]]]) -> State:
    """Return the state after members were run on rows, with their scores; the duels that are over are decided."""
    members = [*state["members"]]
    for i, rows, new in found:
        own = members[i]
        if own["fate"] == "drafted":
            gain = sum(s - old for s, (_, old) in zip(new, own["shown"], strict=True) if s is not None)
            members[i] = {**own, "fate": "tested" if gain > 0 else "not better"}
            continue
        members[i] = {**own, "ran": [*own["ran"], *rows[: len(new)]], "scores": [*own["scores"], *new]}
    state = {**state, "members": members}
    for i in of_fate(state, "tested"):
        arena, own, rival = _arena(state, i), scores(members[i]), scores(members[members[i]["parents"][0]])
        n = min(len(arena), duel.following(members[i]["tested"]))
        if all(row in own and row in rival for row in arena[:n]):
            said = duel.verdict([rival[row] for row in arena[:n]], [own[row] for row in arena[:n]], len(arena))
            members[i] = {**members[i], "tested": n, "fate": "tested" if said == "open" else said}
            state["ripe"] = state["ripe"] or said == "better"
    return state


def given_up(state: State) -> State:
    """Return the state in which nobody is tested any more, since nobody can pay for it."""
    members = [{**m, "fate": "undecided"} if m["fate"] in ("drafted", "tested") else m for m in state["members"]]
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
    """Return how many rollouts the race at the end would take at the most."""
    finals = contenders(state)
    missing = [len(state["rows"]) - len(state["members"][i]["ran"]) for i in finals]
    return sum(missing) if len(finals) > 1 else 0


def leader(state: State) -> int:
    """Return the best member; the program as it is where none is better."""
    among = of_fate(state, "better")
    if state["finals"]:
        among = [state["finals"][c] for c in race.alive(_final(state))]
    value = estimates(state)
    return max([0, *among], key=lambda i: (value[i], -i))


def _final(state: State) -> State:
    begun = race.start(len(state["finals"]), state["rows"], block=selection.BLOCK)
    known = [scores(state["members"][i]) for i in state["finals"]]
    upto = [next((n for n, row in enumerate(state["rows"]) if row not in own), len(state["rows"])) for own in known]
    return race.played(begun, [[own[row] for row in state["rows"][:n]] for own, n in zip(known, upto, strict=True)])
