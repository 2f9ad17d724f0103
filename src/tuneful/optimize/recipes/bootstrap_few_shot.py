"""BootstrapFewShot: the program's own successes as demos."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tuneful.errors import UsageError
from tuneful.optimize.propose.demos import bootstrapped, joined, labelled
from tuneful.optimize.teleprompter import Teleprompter
from tuneful.optimize.trial import Brief, Candidate, Outcome, State, Trial
from tuneful.program.module import Module


class BootstrapFewShot(Teleprompter):
    """Run a teacher on training rows; where the metric likes the result, every step of the run becomes a demo.

    So steps in the middle of a program get demos although nobody labelled them. Rows are tried in order, several at
    once, until enough have succeeded; how many run at once never changes which are kept.

    Args:
        metric: judges a run; it receives the trace, and may be stricter then. None accepts every run.
        metric_threshold: least score of a run that is kept. None keeps every run with a score other than 0.
        teacher_settings: settings in force while the teacher runs, such as {"lm": tf.LM("openai/gpt-4o")}.
        max_bootstrapped_demos: most runs to keep.
        max_labeled_demos: most demos of a predictor all together; labelled rows fill what the runs leave. The teacher
            is shown as many labelled rows itself, unless it brings demos of its own.
        max_rounds: attempts for a row; those after the first are sampled anew.
        max_errors: stop after so many failed runs. None is no limit.

    Cost: from `max_bootstrapped_demos` to rows x `max_rounds` runs of the teacher, then 2 runs of the student for
    each held-out row.

    Source: Khattab et al. (2023), section 4. Deviations: all rows are tried once before any is tried again; a row is
    never among the demos that the teacher sees when it is tried; the result is compared with the original.
    """

    def __init__(
        self,
        metric: Callable[..., Any] | Module | None = None,
        metric_threshold: float | None = None,
        teacher_settings: dict[str, Any] | None = None,
        max_bootstrapped_demos: int = 4,
        max_labeled_demos: int = 16,
        max_rounds: int = 1,
        max_errors: int | None = None,
    ) -> None:
        for name, value in (
            ("max_bootstrapped_demos", max_bootstrapped_demos),
            ("max_labeled_demos", max_labeled_demos),
            ("max_rounds", max_rounds - 1),
        ):
            if value < 0:
                raise UsageError(f"`{name}` is too small.")
        self.metric = metric
        self.metric_threshold = metric_threshold
        self.teacher_settings = teacher_settings
        self.max_bootstrapped_demos = max_bootstrapped_demos
        self.max_labeled_demos = max_labeled_demos
        self.max_rounds = max_rounds
        self.max_errors = max_errors

    def init(self, brief: Brief) -> State:
        """Return the first state: nothing tried, nothing kept."""
        return {"round": 0, "tried": 0, "queue": list(range(len(brief.trainset))), "failed": [], "kept": [], "why": {}}

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return the next wave of rows: as many as are likely to give the runs that are still missing."""
        missing = self.max_bootstrapped_demos - len(state["kept"])
        errors = sum(n for status, n in state["why"].items() if status.endswith(("error", "timeout")))
        too_many = self.max_errors is not None and errors > self.max_errors
        if missing <= 0 or not state["queue"] or too_many:
            return []
        rate = max(len(state["kept"]), 1) / max(state["tried"], 1)
        rows = tuple(state["queue"][: math.ceil(missing / rate)])
        return [
            Trial(
                self._teacher_demos(brief),
                rows,
                who="teacher",
                sample=state["round"],
                leave_out=True,
                bootstrapping=True,
            )
        ]

    def tell(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Keep the runs that succeeded, in the order of the rows; queue the others for the next round."""
        ((trial, outcomes),) = results
        kept, failed = list(state["kept"]), list(state["failed"])
        why: Counter[str] = Counter(state["why"])
        for outcome in outcomes:
            if self._succeeded(outcome):
                kept.append({"row": outcome.row, "score": outcome.score, "steps": _plain(outcome.steps)})
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

    def finalists(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the one candidate: kept runs first, labelled rows after them."""
        own = bootstrapped(brief, state["kept"])
        rows = [run["row"] for run in state["kept"]]
        fill = labelled(brief, self.max_labeled_demos, stream="fill", without=rows)
        shown = {p: demos[: max(0, self.max_labeled_demos - len(own.get(p, ())))] for p, demos in fill.items()}
        return [joined(own, shown)]

    def found(self, brief: Brief, state: State) -> list[str]:
        """Say how many runs were tried and kept, and why the others were not."""
        why = ", ".join(f"{n} x {reason}" for reason, n in state["why"].items())
        return [f"{len(state['kept'])} runs kept of {state['tried']} tried" + (f" ({why})" if why else "")]

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the fewest and the most runs of the teacher."""
        return (min(self.max_bootstrapped_demos, len(brief.trainset)), len(brief.trainset) * self.max_rounds)

    def _teacher_demos(self, brief: Brief) -> Candidate:
        if brief.teacher_has_demos or self.max_labeled_demos == 0:
            return {}
        return joined(labelled(brief, self.max_labeled_demos, stream="teacher"))

    def _succeeded(self, outcome: Outcome) -> bool:
        if outcome.status != "ok":
            return False
        if self.metric is None:
            return True
        score = outcome.score or 0.0
        return score != 0 if self.metric_threshold is None else score >= self.metric_threshold


def _plain(steps: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"path": s["path"], "inputs": s["inputs"], "outputs": s["outputs"]} for s in steps]
