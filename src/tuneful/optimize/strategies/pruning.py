"""Pruning: what of a winner does not matter is dropped: whole levers first, then demos and sentences. Pure functions.

A piece is a parameter that goes back to what it was, `[path]`, or one demo of a set, or one sentence of instructions,
`[path, number]`. A wave is a few versions of the candidate, each without a part of the pieces: halves, quarters, and
what the wave before could spare in several versions at once. They race with the winner over the last rows of its race:
those on which it was chosen least, since it owes some of its score there to luck. The version that spares most is taken
where it is as good as the winner (never as the version before: small losses would add up). Where none is, single pieces
are tried, and then it is over.

Source: Zeller and Hildebrandt (2002), "Simplifying and Isolating Failure-Inducing Input", for halves and then smaller
parts. Deviations: a wave is run side by side; at most `WAVES` of them; what is asked is not a yes or no but whether
scores are as good, for which a loss of `LOSS` of the gain has to be out of question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from tuneful.evaluate.power import ALPHA
from tuneful.evaluate.statistics import compare, compare_all
from tuneful.optimize.strategies import race, selection
from tuneful.optimize.trial import Candidate
from tuneful.program.parameter import Kind

State = dict[str, Any]
Piece = list[Any]
#: What the parameters of a program are, by path: a user's own may have any name, "demos" too.
Kinds = Mapping[str, Kind]

#: Versions of a wave, and waves, at most.
WAVE, WAVES = 6, 4
#: Rows that they are run on, at most.
ROWS = 64
#: The most rollouts, as a share of those before, or as waves, whichever is more.
SHARE, LEAST = 0.5, 2
#: Probability that a version which is as good stops early, at most.
_ALPHA = 0.05
#: Share of the winner's gain that must not be lost.
LOSS = 0.5

#: The end of a sentence: a mark and what does not go on in small letters ("e.g. so"), or the end of the line.
_SENTENCE = re.compile(r".+?(?:[.!?]+(?=\s+[^a-z\s])|[。！？]+|\n|\Z)\s*", re.DOTALL)


def start(winner: int, gained: float, rows: Sequence[int], rollouts: int) -> State:
    """Return the state in which nothing was tried.

    It holds the `winner` of the race, what it `gained`, the version that stands for it `now`, what that has `dropped`,
    the versions that `run`, each with what it drops, their `race` with the winner (the first in it), all that was
    `tried`, and the pieces that could be `spared` besides; `levers` says that whole levers are tried, `fine` that
    single pieces are; `most` is the number of rollouts at which it ends.

    Args:
        winner: its number.
        gained: see `gain`.
        rows: of the race that it has won, in their order.
        rollouts: those so far.
    """
    shared = race.start(1, rows[-ROWS:], block=selection.BLOCK, alpha=_ALPHA)
    most = rollouts + max(int(SHARE * rollouts), LEAST * WAVE * len(shared["rows"]))
    begun = {"winner": winner, "gained": gained, "most": most, "now": winner, "dropped": [], "race": shared}
    return {**begun, "run": [], "tried": [], "spared": [], "levers": True, "fine": False, "waves": 0}


def levers(candidate: Candidate, kinds: Kinds) -> list[Piece]:
    """Return the parameters that a candidate sets. A pool of demos goes with its demos."""
    return [[path] for path in dict.fromkeys(_lever(path, kinds) for path in candidate)]


def pieces(candidate: Candidate, kinds: Kinds) -> list[Piece]:
    """Return the demos and the sentences of a candidate, where there are several.

    >>> kinds = {"instructions": "instructions", "k": "integer"}
    >>> pieces({"instructions": "Think. Count twice, e.g. so.", "k": 3}, kinds)
    [['instructions', 0], ['instructions', 1]]
    """
    found: list[Piece] = []
    for path, value in candidate.items():
        count = len(_parts(kinds[path], value))
        found += [[path, i] for i in range(count)] if count > 1 else []
    return found


def without(candidate: Candidate, dropped: Sequence[Piece], kinds: Kinds) -> Candidate:
    """Return a candidate without some of its pieces.

    >>> kinds = {"instructions": "instructions", "k": "integer"}
    >>> without({"instructions": "Think. Count. Smile.", "k": 3}, [["instructions", 0], ["k"]], kinds)
    {'instructions': 'Count. Smile.'}
    """
    gone = [piece[0] for piece in dropped if len(piece) == 1]
    found: Candidate = {}
    for path, value in candidate.items():
        numbers = [piece[1] for piece in dropped if len(piece) > 1 and piece[0] == path]
        kept = [part for i, part in enumerate(_parts(kinds[path], value)) if i not in numbers]
        if _lever(path, kinds) not in gone:
            found[path] = value if not numbers else "".join(kept).strip() if isinstance(value, str) else kept
    return found


def wave(state: State, candidate: Candidate, kinds: Kinds) -> tuple[State, list[list[Piece]]]:
    """Return the state, and what each version of the next wave drops; none when it is over.

    Demos and sentences are looked at when no lever can be spared any more, and where there was a gain.

    Args:
        state: the pruning.
        candidate: the winner of the race, whole.
        kinds: of the program's parameters.
    """
    whole, single = levers(candidate, kinds), pieces(candidate, kinds)
    order = [*whole, *single]
    while state["waves"] < WAVES:
        known = whole if state["levers"] else single
        rest = [p for p in known if p not in state["dropped"] and [_lever(p[0], kinds)] not in state["dropped"]]
        parts = _split(rest, state["spared"], fine=state["fine"])
        new = [[piece for piece in order if piece in state["dropped"] or piece in part] for part in parts]
        untried = [drops for drops in new if drops not in state["tried"]]
        fresh = [drops for drops in untried if _says_something(without(candidate, drops, kinds), kinds)][:WAVE]
        if fresh:
            return {**state, "waves": state["waves"] + 1, "tried": [*state["tried"], *fresh]}, fresh
        if not state["fine"]:
            state = {**state, "fine": True}
        elif state["levers"] and state["gained"]:
            state = {**state, "levers": False, "fine": False, "spared": []}
        else:
            break
    return state, []


def joined(state: State, versions: Sequence[tuple[int, list[Piece]]]) -> State:
    """Return the state in which versions race with the winner: their numbers, and what each of them drops."""
    begun = {**state["race"], "bets": [], "scores": [], "fallen": [], "looks": 0}
    known = race.credited(race.add(begun, 1 + len(versions)), 0, state["race"]["scores"][0])
    return {**state, "run": [list(one) for one in versions], "race": known}


def told(state: State) -> State:
    """Return the state after a wave: the version that drops most, of those that are as good, is what goes on."""
    passed = as_good(state["race"], state["gained"])
    good = [(c, drops) for i, (c, drops) in enumerate(state["run"], 1) if i in passed]
    if not good:
        return {**state, "spared": [], "fine": True}
    now, dropped = max(good, key=lambda one: (len(one[1]), -one[0]))
    spared = [piece for _, drops in good for piece in drops if piece not in dropped]
    unique = [piece for i, piece in enumerate(spared) if piece not in spared[:i]]
    scores = [s for s in state["race"]["scores"][[c for c, _ in state["run"]].index(now) + 1] if s is not None]
    told = {"score": fmean(scores) if scores else 0.0, "rows": len(scores)}
    return {**state, "now": now, "dropped": dropped, "spared": unique, "fine": False, **told}


def scored(state: State) -> tuple[float, int]:
    """Return the mean score of the version that goes on, and on how many rows."""
    return state["score"], state["rows"]


def as_good(state: State, gained: float) -> list[int]:
    """Return the candidates of a race that are as good as the first, on the rows that it was run on.

    They are where they score no less, or where the interval of the difference leaves out a loss of `LOSS` of the gain.
    """
    first = state["scores"][0]
    whole = {c: state["scores"][c] for c in race.alive(state)[1:] if len(state["scores"][c]) == len(first)}
    found = compare_all(first, list(whole.values())) if whole and 0 in race.alive(state) else []
    least = -LOSS * gained
    return [c for c, one in zip(whole, found, strict=False) if one.difference >= 0 or one.interval[0] >= least]


def gain(winner: Sequence[float | None], original: Sequence[float | None], among: int = 1) -> float:
    """Return the winner's gain on the rows that both were run on, where it is beyond noise; 0 otherwise.

    Args:
        winner, original: scores, row by row.
        among: candidates that it is the best of: by Bonferroni's correction.
    """
    shared = [(a, b) for a, b in zip(original, winner, strict=False) if a is not None and b is not None]
    one = compare([a for a, _ in shared], [b for _, b in shared])
    return one.difference if one.is_better_at(ALPHA / among) else 0.0


def line(state: State, candidate: Candidate, kinds: Kinds) -> str:
    """Return what was dropped of the winner, as a line of the report; "" for nothing."""
    said = [piece[0] for piece in state["dropped"] if len(piece) == 1]
    for path, value in without(candidate, [piece for piece in state["dropped"] if len(piece) == 1], kinds).items():
        if n := sum(len(piece) > 1 and piece[0] == path for piece in state["dropped"]):
            what = f"sentences of {path}" if kinds[path] == "instructions" else "demos"
            of = f" of {path.removesuffix('.demos')}" if path.endswith(".demos") else ""  # none where it is the program
            said.append(f"{n} of {len(_parts(kinds[path], value))} {what}{of}")
    return f"dropped from the winner, as good without: {', '.join(said)}" if said else ""


def rollouts(before: int, n_rows: int) -> int:
    """Return the most rollouts of all waves, for the plan, after so many."""
    rows = min(ROWS, n_rows)
    return min(max(int(SHARE * before), LEAST * WAVE * rows), WAVES * WAVE * rows) + rows


def _split(rest: Sequence[Piece], spared: Sequence[Piece], *, fine: bool) -> list[list[Piece]]:
    """Return parts of the pieces: what could be spared besides, then halves and quarters, or single ones."""
    if fine:
        step = max(1, len(rest) // WAVE)
        return [[piece] for piece in [*rest[::step], *rest] if rest][: 2 * WAVE]
    more = [piece for piece in spared if piece in rest]
    found = [more] if more else []
    for parts in (2, 4):
        size = -(-len(rest) // parts) or 1
        found += [list(rest[i : i + size]) for i in range(0, len(rest), size)]
    return [part for i, part in enumerate(found) if part not in found[:i]]


def _says_something(candidate: Candidate, kinds: Kinds) -> bool:
    return bool(candidate) and not any(kinds[path] == "instructions" and not text for path, text in candidate.items())


def _lever(path: str, kinds: Kinds) -> str:
    return f"{path.removesuffix('demo_pool')}demos" if kinds[path] == "demo_pool" else path


def _parts(kind: Kind, value: Any) -> list[Any]:
    if kind == "instructions":
        return _SENTENCE.findall(value)
    return list(value) if kind == "demos" else []
