"""Pool: a teacher's successful runs, gathered once, from which demo sets are drawn.

Rows are tried in order, several at once, until enough have succeeded; how many run at once never changes which are
kept. All functions of the state are pure, and the state is JSON.

Source: Khattab et al. (2023), "DSPy: Compiling Declarative Language Model Calls into Self-Improving Pipelines",
section 4. Deviations: all rows are tried once before any is tried again; a row is never among the demos that the
teacher sees when it is tried; recipes that need many demo sets draw them from one pool, where the paper runs the
teacher anew for each.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuneful.backends.budget import Budget
from tuneful.errors import UsageError
from tuneful.optimize.propose.demos import bootstrapped, joined, labelled
from tuneful.optimize.trial import Brief, Candidate, Outcome, State, Trial

#: Rows of the first wave under a budget.
_FIRST = 8


@dataclass(frozen=True)
class Pool:
    """How a pool is gathered. The names are those of the recipes' arguments.

    Args:
        max_bootstrapped_demos: most runs to keep.
        max_labeled_demos: most demos of a predictor all together; the teacher is shown as many labelled rows itself,
            unless it brings demos of its own.
        max_rounds: attempts for a row; those after the first are sampled anew.
        max_errors: stop after so many failed runs. None is no limit.
        metric_threshold: least score of a run that is kept. None keeps every run with a score other than 0.
        judged: whether there is a metric; without one, every run that ends is kept.
        counterexamples: keep in a demo also the answer that a constraint had turned down, and its message.
        answers: keep what the whole run answered, beside its steps.
    """

    max_bootstrapped_demos: int = 4
    max_labeled_demos: int = 16
    max_rounds: int = 1
    max_errors: int | None = None
    metric_threshold: float | None = None
    judged: bool = True
    counterexamples: bool = False
    answers: bool = False

    def __post_init__(self) -> None:
        for name, least in (("max_bootstrapped_demos", 0), ("max_labeled_demos", 0), ("max_rounds", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(f"`{name}` is {value!r}; expected a whole number of at least {least}.")

    # --- gathering ---

    def start(self, brief: Brief) -> State:
        """Return the first state: nothing tried, nothing kept."""
        return {"round": 0, "tried": 0, "queue": list(range(len(brief.trainset))), "failed": [], "kept": [], "why": {}}

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return the next wave of rows: as many as are likely to give the runs that are still missing.

        Under a budget the first waves are small, and later ones no larger than all before them: what a run costs is
        known only then, and the comparison is to be left its share.
        """
        missing = self.max_bootstrapped_demos - len(state["kept"])
        errors = sum(n for status, n in state["why"].items() if status.endswith(("error", "timeout")))
        too_many = self.max_errors is not None and errors > self.max_errors
        if missing <= 0 or not state["queue"] or too_many:
            return []
        rate = max(len(state["kept"]), 1) / max(state["tried"], 1)
        wave = math.ceil(missing / rate)
        if brief.budget != Budget():
            wave = min(wave, max(_FIRST, state["tried"]))
        rows = tuple(state["queue"][:wave])
        shown = {} if brief.teacher_has_demos else joined(labelled(brief, self.max_labeled_demos, stream="teacher"))
        return [Trial(shown, rows, who="teacher", sample=state["round"], leave_out=True, bootstrapping=True)]

    def tell(self, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Keep the runs that succeeded, in the order of the rows; queue the others for the next round."""
        ((trial, outcomes),) = results
        kept, failed = list(state["kept"]), list(state["failed"])
        why: Counter[str] = Counter(state["why"])
        for outcome in outcomes:
            if self._succeeded(outcome):
                answer = {"outputs": outcome.detail["outputs"]} if self.answers else {}
                kept.append({"row": outcome.row, "score": outcome.score, "steps": plain(outcome.steps), **answer})
            else:
                failed.append(outcome.row)
                why[outcome.status if outcome.status != "ok" else "score too low"] += 1
        queue = [r for r in state["queue"] if r not in trial.rows]
        last = state["round"] + 1 >= self.max_rounds
        return {
            "round": state["round"] + (0 if queue else 1),
            "tried": state["tried"] + len(trial.rows),
            "queue": queue or ([] if last else failed),
            "failed": failed if queue or last else [],
            "kept": kept[: self.max_bootstrapped_demos],
            "why": dict(why),
        }

    def _succeeded(self, outcome: Outcome) -> bool:
        if outcome.status != "ok":
            return False
        if not self.judged:
            return True
        score = outcome.score or 0.0
        return score != 0 if self.metric_threshold is None else score >= self.metric_threshold

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the fewest and the most runs of the teacher, for the plan."""
        most = len(brief.trainset) * self.max_rounds if self.max_bootstrapped_demos else 0
        return (min(self.max_bootstrapped_demos, len(brief.trainset)), most)

    # --- drawing ---

    def demos(self, brief: Brief, kept: Sequence[dict[str, Any]], *, stream: str = "fill") -> Candidate:
        """Return the candidate that shows runs, and labelled rows after them up to `max_labeled_demos`.

        Args:
            brief: program and rows.
            kept: runs of the pool, in the order in which they are shown.
            stream: name of the random stream that draws the labelled rows.
        """
        own = bootstrapped(brief, kept, counterexamples=self.counterexamples)
        fill = labelled(brief, self.max_labeled_demos, stream=stream, without=[run["row"] for run in kept])
        shown = {p: demos[: max(0, self.max_labeled_demos - len(own.get(p, ())))] for p, demos in fill.items()}
        return joined(own, shown)

    def sets(self, brief: Brief, kept: Sequence[dict[str, Any]], number: int, most: int) -> list[Candidate]:
        """Return demo sets: labelled rows only, the first runs in order, and draws of random size and members.

        Args:
            brief: program and rows.
            kept: runs of the pool.
            number: how many are drawn.
            most: most runs in a set.
        """
        found = [joined(labelled(brief, self.max_labeled_demos, stream="labelled"))]
        found.append(self.demos(brief, kept[:most]))
        for draw in range(number if kept and most else 0):
            rng = brief.stream(f"draw {draw}")
            size = min(rng.randint(1, most), len(kept))
            found.append(self.demos(brief, rng.sample(kept, size), stream=f"draw {draw}"))
        return found


def told(state: State) -> str:
    """Return how many runs were tried and kept, and why the others were not, as a line of the report."""
    why = ", ".join(f"{n} x {reason}" for reason, n in state["why"].items())
    return f"{len(state['kept'])} runs kept of {state['tried']} tried" + (f" ({why})" if why else "")


def plain(steps: Sequence[Any]) -> list[dict[str, Any]]:
    """Return what demos need of a run's steps; those that the program did not use are left out."""
    used = [s for s in steps if not s.get("superseded")]
    return [{n: s[n] for n in ("path", "inputs", "outputs", "noted", "correction") if n in s} for s in used]
