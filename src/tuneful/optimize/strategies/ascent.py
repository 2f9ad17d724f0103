"""Ascent: one part of a program after the other is improved by proposals of a model, all in one race.

What a recipe changes are slots: the instructions of a predictor, say, or the words of a field. In each round a model
proposes values for every slot, knowing what was tried with which score. Then the slots have their turns: the leader of
the race with other values in this slot joins the race, and whoever leads when it has come to its end is what the next
turn starts from.

Source: coordinate ascent, as in DSPy's COPRO; proposals from attempts and their scores as in Yang et al. (2023), "Large
Language Models as Optimizers", section 3. Deviation: candidates race on shared blocks of rows, where each is run on
all rows there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneful.optimize.propose.proposing import Proposing
from tuneful.optimize.strategies import race, selection
from tuneful.optimize.trial import Brief, Candidate, Job, Outcome, Ranked, State, Trial


class Ascent(Proposing):
    """Base of such recipes.

    State: `round`; `turn`, the number of the slot that is next, or None while proposals are wanted; `options`, the
    values by slot, without the one that the program has; `points`, the candidates of the race, each as the index of its
    option by slot; `parents`, what each of them was made from; `race`; `over`, whether no more proposals are wanted.

    Attributes:
        breadth: values of a slot that join in a round; the value as it is counts in the first one.
        depth: rounds.
    """

    breadth: int
    depth: int

    # --- what a recipe says ---

    def _slots(self, brief: Brief) -> list[str]:
        """Return the names of the slots."""
        raise NotImplementedError

    def _job(self, brief: Brief, slot: str, attempts: Sequence[tuple[Any, float | None]], sample: int) -> Job:
        """Return the job that proposes a value for a slot.

        Args:
            brief: program and rows.
            slot: its name.
            attempts: values that were tried, with their mean scores; None is the value as it is.
            sample: number of the proposal in this round.
        """
        raise NotImplementedError

    def _values(self, brief: Brief, slot: str, results: Sequence[Any], known: Sequence[Any]) -> list[Any]:
        """Return the new values among the results of jobs."""
        raise NotImplementedError

    def _candidate(self, brief: Brief, values: Mapping[str, Any]) -> Candidate:
        """Return the candidate that has these values in these slots."""
        raise NotImplementedError

    #: Name of the jobs.
    _proposal: str

    def proposals(self, brief: Brief) -> dict[str, tuple[int, int]]:
        """Return the calls of the prompt model: those of the first round, and of all."""
        slots = len(self._slots(brief))
        return {self._proposal: (slots * (self.breadth - 1), slots * self.breadth * self.depth)}

    # --- ask and tell ---

    def init(self, brief: Brief) -> State:
        """Return the first state: the program as it is, alone in the race."""
        begun: State = {"round": 0, "turn": None, "options": {slot: [] for slot in self._slots(brief)}}
        begun |= {"points": [{}], "parents": [None], "race": selection.start(brief, 1)}
        return {**begun, "over": not begun["options"]}

    def jobs(self, brief: Brief, state: State) -> list[Job]:
        """Return the proposals of the next round."""
        if state["turn"] is not None or state["over"]:
            return []
        tried = {slot: self._attempts(state, slot) for slot in state["options"]}
        return [self._job(brief, slot, tried[slot], sample) for slot in tried for sample in range(self._wanted(state))]

    def _wanted(self, state: State) -> int:
        return self.breadth if state["round"] else self.breadth - 1

    def done(self, brief: Brief, state: State, results: Sequence[tuple[Job, Any]]) -> State:
        """Take the proposals; where none is new, the search is over."""
        options: dict[str, list[Any]] = {}
        wanted = self._wanted(state)
        for i, (slot, known) in enumerate(state["options"].items()):
            own = [result for _, result in results[i * wanted : (i + 1) * wanted]]
            options[slot] = [*known, *self._values(brief, slot, own, known)]
        if options == state["options"]:
            return {**state, "over": True}
        return self._advanced({**state, "options": options, "turn": 0})

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return the next block of the race."""
        candidates = self._candidates(brief, state)
        parents = [None if p is None else candidates[p] for p in state["parents"]]
        return selection.trials(state["race"], candidates, parents)

    def tell(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Go on with the race; where it has come to its end, with the next slot."""
        return self._advanced({**state, "race": selection.told(state["race"], results)})

    def _advanced(self, state: State) -> State:
        """Give slots their turns until there is something to run, or proposals are wanted."""
        slots = list(state["options"])
        while state["turn"] is not None and not race.ask(state["race"]):
            if state["turn"] == len(slots):
                done = state["round"] + 1
                return {**state, "turn": None, "round": done, "over": done == self.depth}
            state = self._joined(state, slots[state["turn"]])
        return state

    def _joined(self, state: State, slot: str) -> State:
        """Return the state in which the leader with every other value in a slot is in the race."""
        leader = selection.leader(state["race"])
        beside = {name: option for name, option in state["points"][leader].items() if name != slot}
        others = [beside, *({**beside, slot: option} for option in range(len(state["options"][slot])))]
        new = [point for point in others if point not in state["points"]]
        return {
            **state,
            "turn": state["turn"] + 1,
            "points": [*state["points"], *new],
            "parents": [*state["parents"], *(leader for _ in new)],
            "race": race.add(state["race"], len(new)),
        }

    def _attempts(self, state: State, slot: str) -> list[tuple[Any, float | None]]:
        """Return the values of a slot that were tried, each with its mean score where it was run on most rows."""
        found: dict[int, tuple[int, float]] = {}
        for point, mean, scores in zip(
            state["points"], race.means(state["race"]), state["race"]["scores"], strict=True
        ):
            if mean is not None:
                option = point.get(slot, -1)
                found[option] = max(found.get(option, (0, mean)), (len(scores), mean))
        return [(None if option < 0 else state["options"][slot][option], mean) for option, (_, mean) in found.items()]

    def _candidates(self, brief: Brief, state: State) -> list[Candidate]:
        return [
            self._candidate(brief, {slot: state["options"][slot][option] for slot, option in point.items()})
            for point in state["points"]
        ]

    # --- the result ---

    def finalists(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the race's leader."""
        return [self._candidates(brief, state)[selection.leader(state["race"])]]

    def ranked(self, brief: Brief, state: State) -> list[Ranked]:
        """Return the candidates with their scores, best first."""
        return selection.ranked(state["race"], self._candidates(brief, state))

    def found(self, brief: Brief, state: State) -> list[str]:
        """Say what was proposed, how the race went, and which slots the leader changes."""
        if not state["options"]:
            return ["there is nothing to change: all of it is frozen"]
        proposed = ", ".join(f"{len(values)} for {slot}" for slot, values in state["options"].items())
        changed = ", ".join(state["points"][selection.leader(state["race"])])
        return [
            f"new proposals in {state['round']} of {self.depth} rounds: {proposed}",
            selection.line(state["race"]),
            f"the leader changes {changed or 'nothing'}",
        ]

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the fewest and the most rollouts of the race."""
        slots, rows = len(self._slots(brief)), len(brief.trainset)
        times = self.depth if slots == 1 else self.depth * (self.depth + 1) // 2
        most = race.rollouts(1 + slots * self.breadth * times, rows, selection.BLOCK)[1] if slots else 0
        return (race.rollouts(2, rows, selection.BLOCK)[0] if slots else 0, most)
