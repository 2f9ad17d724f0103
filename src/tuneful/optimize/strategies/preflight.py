"""Pre-flight: what a few dozen runs of the program as it is say about whether compiling can pay. Pure functions.

They come before anything else is paid for, and are the first rollouts of the race. A program that leaves nothing to
gain is left as it is; where there is something, it is said whether the held-out rows could tell it from noise.

The state is JSON: `ends`, whether a program that leaves nothing to gain ends the search; `scores` on the first rows of
the race; and `again`, those of a second run of some of them, which says how much of a difference between two candidates
is chance: there is none where sampling is greedy.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from tuneful.evaluate.power import ASSUMED_SPREAD, rows_needed
from tuneful.evaluate.statistics import mean_interval
from tuneful.optimize.trial import Brief, Candidate, Outcome, Trial
from tuneful.program.lm import current_lm
from tuneful.program.module import Module

State = dict[str, Any]

#: Rows that are run, and how many of them twice.
ROWS, TWICE = 32, 16
#: A mean score from which there is nothing left to gain.
PERFECT = 0.995


def start(brief: Brief) -> State:
    """Return the state in which nothing was run. Where costs count, a perfect program may still become cheaper."""
    return {"ends": not brief.objectives.minimized, "scores": None, "again": []}


def trials(brief: Brief, state: State, candidate: Candidate, rows: Sequence[int]) -> list[Trial]:
    """Return the runs; none once they were made.

    Args:
        brief: program and rows.
        state: the pre-flight.
        candidate: the program as it is.
        rows: of the race, in its order.
    """
    if state["scores"] is not None:
        return []
    found = [Trial(candidate, tuple(rows[:ROWS]), leave_out=True)]
    if brief.student is not None and not greedy(brief.student):
        found.append(Trial(candidate, tuple(rows[:TWICE]), sample=1, leave_out=True))
    return found


def told(state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
    """Return the state after the results of the trials."""
    first, *again = [[o.score for o in outcomes] for _, outcomes in results]
    return {**state, "scores": first, "again": again[0] if again else []}


def greedy(program: Module) -> bool:
    """Say whether two runs of a program give the same, since no predictor of it samples."""
    for predictor in program.predictors():
        lm = predictor.lm or current_lm()
        own, default = predictor.sampling, lm.sampling
        temperature = default.temperature if own.temperature is None else own.temperature
        if temperature or max(own.n, default.n) > 1 or "temperature" in lm.capabilities.refuses:
            return False
    return True


def over(state: State) -> bool:
    """Say whether there is nothing to gain. Of scores beyond 1 nobody knows where they end."""
    scores = _scored(state)
    return bool(scores) and bool(state["ends"]) and fmean(scores) >= PERFECT and max(scores) <= 1


def tellable(brief: Brief, score: float, noise: float = 0.0) -> float | None:
    """Return the smallest gain over a program of this score that the held-out rows find; None where they find none.

    Programs that have nothing in common differ where one is right and the other wrong, so a larger gain differs on more
    rows; not more than usual is assumed.

    Args:
        brief: it says how many rows are held out.
        score: from 0 to 1.
        noise: mean squared difference of two runs of the same program.
    """

    def found(gain: float) -> bool:
        differ = score * (1 - score - gain) + (score + gain) * (1 - score)
        return rows_needed(gain, max(noise, min(ASSUMED_SPREAD, differ))) <= brief.held_out

    gains = [points / 1000 for points in range(1, 1 + math.floor(1000 * (1 - score)))]
    first = bisect_left(gains, 1, key=found)
    return gains[first] if first < len(gains) else None


def settled(brief: Brief, original: float, best: float) -> bool:
    """Say whether the best candidate's gain can be told, and what one more could add to it cannot.

    Args:
        brief: it says how many rows are held out.
        original, best: mean scores of the program as it is and of the best candidate.
    """
    if not 0 <= original <= best <= 1:
        return False
    if best >= PERFECT:
        return True
    own = tellable(brief, original)
    return own is not None and best - original >= own and tellable(brief, best) is None


def line(brief: Brief, state: State) -> str:
    """Return score, noise and headroom as a line of the report."""
    scores = _scored(state)
    if not scores:
        return "pre-flight: no run of the program gave a score"
    low, high = (100 * bound for bound in mean_interval(scores))
    said = f"pre-flight: the program has {100 * fmean(scores):.0f} % on {len(scores)} rows"
    said += f" (95 % interval {low:.0f} to {high:.0f})"
    if state["again"]:
        differ = sum(a != b for a, b in zip(state["scores"], state["again"], strict=False))
        said += f", two runs differ on {differ} of {len(state['again'])}"
    return f"{said}; {_outlook(brief, state, scores)}"


def _outlook(brief: Brief, state: State, scores: Sequence[float]) -> str:
    if over(state):
        return "nothing is left to gain, so nothing else was run"
    if not brief.held_out:
        return "no row is held out, so no gain can be proved"
    score = fmean(scores)
    if not 0 <= score <= 1:
        return "what the held-out rows prove is not known beforehand for scores beyond 0 to 1"
    left, gain = f"{100 * (1 - score):.0f} points are left to gain", tellable(brief, score, _noise(state))
    if gain is None:
        return f"{left}, and {brief.held_out} held-out rows are too few to prove it: more of them would be needed"
    return f"{left}, and {brief.held_out} held-out rows prove {100 * gain:.0f} or more: compiling can pay"


def _scored(state: State) -> list[float]:
    return [s for s in state["scores"] or () if s is not None]


def _noise(state: State) -> float:
    """Return the mean squared difference of two runs of the same program; 0 where there is none to know of."""
    pairs = zip(state["scores"] or (), state["again"], strict=False)
    squares = [(a - b) ** 2 for a, b in pairs if a is not None and b is not None]
    return fmean(squares) if squares else 0.0
