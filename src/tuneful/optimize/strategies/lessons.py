"""Lessons: which runs of a candidate a reflection is shown. Pure functions of JSON.

What is known of a candidate is its `runs` on rows that are read, in order; the positions of those that were `shown`
already; and the component that is `next` to be improved.

Source: the minibatches of Agrawal et al. (2025), "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement
Learning". Deviations: rows are read until a run is among them from which there is something to learn, where a minibatch
without any is thrown away; those that were not shown yet come first; one run that is right is among them.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneful.optimize.trial import Outcome

Run = Mapping[str, Any]
Notes = dict[str, Any]


def start(component: int = 0) -> Notes:
    """Return what is known of a candidate of which nothing was read."""
    return {"next": component, "runs": [], "shown": []}


@dataclass(frozen=True)
class Lessons:
    """How they are chosen. The names are those of GEPA's arguments."""

    reflection_minibatch_size: int = 3
    skip_perfect_score: bool = True
    add_format_failure_as_feedback: bool = False
    failure_score: float = 0.0
    perfect_score: float = 1.0

    def score(self, outcome: Outcome) -> float | None:
        """Return the score of a run; None where nothing can be said."""
        failed = outcome.status != "ok" and outcome.score is not None
        return self.failure_score if failed else outcome.score

    def run(self, outcome: Outcome) -> dict[str, Any]:
        """Return what is kept of a run; an answer that did not fit the signature is told as feedback."""
        told = outcome.detail
        misfit = (told["error"] or "").rpartition("AdapterParseError: ")[2] if outcome.status == "parse_error" else ""
        return {
            "row": outcome.row,
            "score": self.score(outcome),
            "status": outcome.status,
            "steps": [{name: step[name] for name in ("path", "inputs", "outputs")} for step in outcome.steps],
            "feedback": misfit or told["feedback"],
            "by_step": told.get("feedback_by_step", {}),
            "error": "" if misfit else told["error"],
        }

    def instructive(self, runs: Sequence[Run], steps: Collection[str]) -> list[int]:
        """Return the positions of the runs from which some of the steps may learn something."""
        return [
            i
            for i, run in enumerate(runs)
            if run["score"] is not None
            and (run["score"] < self.perfect_score or not self.skip_perfect_score)
            and (run["status"] != "parse_error" or self.add_format_failure_as_feedback)
            and any(step["path"] in steps for step in run["steps"])
        ]

    def minibatch(
        self, notes: Notes, steps: Collection[str], taken: Collection[int], rng: random.Random, *, more: bool
    ) -> list[int]:
        """Return the positions of the runs to show; none where more are to be read first.

        Args:
            notes: what is known of the candidate.
            steps: those that may be improved.
            taken: positions that are shown in another lesson at the same time.
            rng: where chance comes from.
            more: whether there are more rows to read.
        """
        runs, size = notes["runs"], self.reflection_minibatch_size
        known = self.instructive(runs, steps)
        new = [i for i in known if i not in notes["shown"] and i not in taken]
        if more and not new:
            return []
        right = [i for i, run in enumerate(runs) if i not in known and (run["score"] or 0.0) >= self.perfect_score]
        wrong = size - (size > 2 and bool(right))  # what works must be seen too, or it is lost
        again = [i for i in known if i not in new]
        shown = [*new, *rng.sample(again, len(again))][:wrong]
        return shown + rng.sample(right, min(size - len(shown), len(right)))
