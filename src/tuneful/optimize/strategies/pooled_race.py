"""What recipes share that race demo sets from one pool of a teacher's runs: how it ends, and what is told of it."""

from __future__ import annotations

from tuneful.optimize.strategies import race, selection
from tuneful.optimize.strategies.pool import Pool, told
from tuneful.optimize.teleprompter import Teleprompter
from tuneful.optimize.trial import Brief, Candidate, Ranked, State


class PooledRace(Teleprompter):
    """Base of such recipes. Their state holds `pool`, and `race`, which is None until the pool is filled."""

    max_bootstrapped_demos: int
    _pool: Pool

    def _candidates(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the candidates of the race, in its order."""
        raise NotImplementedError(f"{type(self).__name__} must define _candidates()")

    def finalists(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the race's leader; before it has run anything, the runs so far, in order."""
        if state["race"] is None or not selection.begun(state["race"]):
            return [self._pool.demos(brief, state["pool"]["kept"][: self.max_bootstrapped_demos])]
        return [self._candidates(brief, state)[selection.leader(state["race"])]]

    def ranked(self, brief: Brief, state: State) -> list[Ranked]:
        """Return the candidates with their scores, best first."""
        return selection.ranked(state["race"], self._candidates(brief, state)) if state["race"] else []

    def found(self, brief: Brief, state: State) -> list[str]:
        """Say what the teacher gave, and how the race went."""
        return [told(state["pool"]), *([selection.line(state["race"])] if state["race"] else [])]

    def _rollouts(self, brief: Brief, most_candidates: int) -> tuple[int, int]:
        """Return the fewest and the most rollouts of teacher and race together."""
        few, many = self._pool.rollouts(brief)
        least, _ = race.rollouts(2, len(brief.trainset), selection.BLOCK)
        _, most = race.rollouts(most_candidates, len(brief.trainset), selection.BLOCK)
        return (few + least, many + most)
