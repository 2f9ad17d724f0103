"""Mutation: which survivors of a race have their instructions rewritten, from which of their runs. Pure functions.

A text that was written from some rows is not judged by them: there a candidate that has it counts as what it was made
from, so that what it has learned by heart gains it nothing.

The state is JSON: `notes` of the candidates, by number (see `lessons`); `seen`, by text, the scores that count on the
rows that it was written from; `lessons`, what the next reflections are on; and how many were `asked` for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tuneful.optimize.propose.describe import attempts_text
from tuneful.optimize.propose.drafts import steps
from tuneful.optimize.propose.reflection import reflection_inputs
from tuneful.optimize.strategies import lessons, race
from tuneful.optimize.strategies.lessons import Lessons
from tuneful.optimize.trial import Brief, Candidate, Job, Outcome

State = dict[str, Any]

#: Survivors that are rewritten after a block.
_MUTANTS = 2
#: Runs of a candidate that are kept to learn from.
_RUNS = 24
_CHOICE = Lessons()


def start() -> State:
    """Return the state in which nothing was run and nothing asked for."""
    return {"notes": {}, "seen": {}, "lessons": [], "asked": 0}


def noted(state: State, found: Sequence[tuple[int, Sequence[Outcome]]], alive: Sequence[int]) -> State:
    """Return the state that knows the latest runs of those candidates that are still in the race."""
    notes = {**state["notes"]}
    for c, outcomes in found:
        own = notes.get(str(c), lessons.start())
        notes[str(c)] = {**own, "runs": [*own["runs"], *map(_CHOICE.run, outcomes)][:_RUNS]}
    return {**state, "notes": {c: own for c, own in notes.items() if int(c) in alive}}


def fair(state: State, candidate: Candidate, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return outcomes of a candidate, with the scores that count: see above."""
    seen: dict[str, Any] = {}
    for value in candidate.values():
        seen |= state["seen"].get(value, {}) if isinstance(value, str) else {}
    return [replace(o, score=seen[str(o.row)]) if str(o.row) in seen else o for o in outcomes]


def chosen(brief: Brief, state: State, running: State) -> State:
    """Return the state that knows what the next reflections are on: runs of the best that show what goes wrong.

    Args:
        brief: program and rows.
        state: what is known of the candidates.
        running: the race.
    """
    free, found, notes = steps(brief, "instructions"), list[State](), {**state["notes"]}
    means, scores = race.means(running), running["scores"]
    for c in sorted(race.alive(running), key=lambda c: (-len(scores[c]), -(means[c] or 0.0), c)):
        own, number = notes.get(str(c)), state["asked"] + len(found)
        if own is None or not free or len(found) == _MUTANTS:
            continue
        rng = brief.stream(f"reflection {number}")
        shown = _CHOICE.minibatch(own, free, (), rng, more=False)
        if not any(i in shown for i in _CHOICE.instructive(own["runs"], free)):
            continue
        ran = {step["path"] for i in shown for step in own["runs"][i]["steps"]}
        turn = own["next"] % len(free)
        step = next(s for s in [*free][turn:] + [*free][:turn] if s in ran)
        found.append({"member": c, "runs": shown, "step": step, "number": number})
        notes[str(c)] = {**own, "shown": [*own["shown"], *shown], "next": [*free].index(step) + 1}
    return {**state, "notes": notes, "lessons": found, "asked": state["asked"] + len(found)}


def jobs(brief: Brief, state: State, candidates: Sequence[Candidate], scores: Sequence[float | None]) -> list[Job]:
    """Return the reflections to make.

    Args:
        brief: program and rows.
        state: what is known of the candidates.
        candidates: those of the race.
        scores: their mean scores.
    """
    found = []
    for lesson in state["lessons"]:
        path = steps(brief, "instructions")[lesson["step"]]
        now = brief.parameters[path].value
        texts = [candidate.get(path, now) for candidate in candidates]
        mine = texts[lesson["member"]]
        best: dict[str, float] = {}
        for text, score in zip(texts, scores, strict=True):
            if score is not None and text != mine:
                best[text] = max(score, best.get(text, score))
        runs = [state["notes"][str(lesson["member"])]["runs"][i] for i in lesson["runs"]]
        shown = [{**run, "labels": brief.trainset[run["row"]].labels().to_dict()} for run in runs]
        given = reflection_inputs(brief, lesson["step"], mine, shown, attempts_text(best.items(), 5))
        found.append(Job("reflection", {**given, "sample": lesson["number"], "step": path}))
    return found


def written(state: State, texts: Sequence[str | None], candidates: Sequence[Candidate]) -> State:
    """Return the state after the reflections: what each text was written from is kept.

    Args:
        state: what is known of the candidates.
        texts: what each reflection wrote; None is one that failed.
        candidates: those of the race.
    """
    seen = {**state["seen"]}
    for lesson, text in zip(state["lessons"], texts, strict=True):
        if text:
            runs = state["notes"][str(lesson["member"])]["runs"]
            own = {str(runs[i]["row"]): runs[i]["score"] for i in lesson["runs"]}
            known: dict[str, Any] = {}
            for value in candidates[lesson["member"]].values():
                known |= state["seen"].get(value, {}) if isinstance(value, str) else {}
            seen[text] = {**seen.get(text, {}), **own, **known}
    return {**state, "seen": seen, "lessons": []}
