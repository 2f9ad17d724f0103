"""LabeledFewShot: labelled rows as demos."""

from __future__ import annotations

from tuneful.optimize.propose.demos import joined, labelled
from tuneful.optimize.teleprompter import Teleprompter
from tuneful.optimize.trial import Brief, Candidate, State
from tuneful.program.parameter import checked_whole


class LabeledFewShot(Teleprompter):
    """Show each predictor up to k labelled rows.

    The first thing to try, and the baseline of the others. Not for steps whose outputs have no labels: bootstrap
    those.

    Args:
        k: most demos for each predictor.
        sample: draw rows at random, for each predictor anew; otherwise take the first ones.

    Cost: no model call.

    Source: Khattab et al. (2023), section 4. Here every predictor draws from all rows, and a row that lacks the
    predictor's fields is not shown to it.
    """

    selects = False

    def __init__(self, k: int = 16, sample: bool = True) -> None:
        self.k = checked_whole("k", k, 0)
        self.sample = sample

    def finalists(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the one candidate."""
        return [joined(labelled(brief, self.k, stream="labelled", sample=self.sample))]

    def found(self, brief: Brief, state: State) -> list[str]:
        """Say how many demos each predictor got."""
        candidate = self.finalists(brief, state)[0]
        steps = {path: path.removesuffix("demos").rstrip(".") for path in candidate}
        return [
            f"{len(demos)} labelled demos for {f'`{steps[path]}`' if steps[path] else 'the program'}"
            for path, demos in candidate.items()
        ]
