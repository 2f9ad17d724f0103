"""Random demo search, the honest baseline: labelled rows drawn at random, the best mean on the search rows wins.

It proposes nothing, races nothing, and holds nothing out.
"""

from statistics import fmean

import tuneful as tf
from tuneful.optimize.propose.demos import joined, labelled
from tuneful.optimize.trial import Ranked, Trial


class RandomDemos(tf.Teleprompter):
    """Run `num_candidates` sets of `k` rows each, drawn at random, on all rows, and take the best.

    A row is run without the demo that is made from it.
    """

    def __init__(self, metric, k=8, num_candidates=1000):
        self.metric, self.k, self.num_candidates = metric, k, num_candidates

    def best(self, student, rows, **run):
        """Return the program with the best set. No comparison decides: the one row that is held out tells nothing."""
        report = self.compile(student, trainset=rows[1:], valset=rows[:1], **run).report
        return student.with_parameters(report.candidate)

    def _candidate(self, brief, i):
        return joined(labelled(brief, self.k, stream=f"set {i}"))

    def init(self, brief):
        return {"scores": []}

    def ask(self, brief, state):
        done = len(state["scores"])
        rows = tuple(range(len(brief.trainset)))
        return [Trial(self._candidate(brief, done), rows, leave_out=True)] if done < self.num_candidates else []

    def tell(self, brief, state, results):
        return {"scores": [*state["scores"], *(fmean(o.score or 0.0 for o in found) for _, found in results)]}

    def ranked(self, brief, state):
        order = sorted(enumerate(state["scores"]), key=lambda pair: -pair[1])
        return [Ranked(self._candidate(brief, i), score, len(brief.trainset)) for i, score in order]

    def finalists(self, brief, state):
        return [one.candidate for one in self.ranked(brief, state)[:1]]

    def rollouts(self, brief):
        return (len(brief.trainset), self.num_candidates * len(brief.trainset))
