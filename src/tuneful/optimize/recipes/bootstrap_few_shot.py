"""BootstrapFewShot: the program's own successes as demos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tuneful.optimize.strategies.pool import Pool, told
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
        counterexamples: where a constraint of the program turned an answer down and the run recovered, the demo shows
            that answer and the constraint's message too, whenever the predictor is asked again.

    Cost: from `max_bootstrapped_demos` to rows x `max_rounds` runs of the teacher, then 2 runs of the student for
    each held-out row.

    Source: Khattab et al. (2023), section 4; counterexamples: Singhvi et al. (2023), section 5. Deviations: all rows
    are tried once before any is tried again; a row is never among the demos that the teacher sees when it is tried; the
    result is compared with the original. A counterexample is one demo of the predictor, which shows the answer that was
    turned down only where the predictor is asked again.
    """

    selects = False

    def __init__(
        self,
        metric: Callable[..., Any] | Module | None = None,
        metric_threshold: float | None = None,
        teacher_settings: dict[str, Any] | None = None,
        max_bootstrapped_demos: int = 4,
        max_labeled_demos: int = 16,
        max_rounds: int = 1,
        max_errors: int | None = None,
        counterexamples: bool = False,
    ) -> None:
        self.metric = metric
        self.metric_threshold = metric_threshold
        self.teacher_settings = teacher_settings
        self.max_bootstrapped_demos = max_bootstrapped_demos
        self.max_labeled_demos = max_labeled_demos
        self.max_rounds = max_rounds
        self.max_errors = max_errors
        self.counterexamples = counterexamples
        self._pool = Pool(
            max_bootstrapped_demos,
            max_labeled_demos,
            max_rounds,
            max_errors,
            metric_threshold,
            judged=metric is not None,
            counterexamples=counterexamples,
        )

    def init(self, brief: Brief) -> State:
        """Return the first state: an empty pool."""
        return self._pool.start(brief)

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return the next wave of rows for the teacher."""
        return self._pool.ask(brief, state)

    def tell(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Keep the runs that succeeded."""
        return self._pool.tell(state, results)

    def finalists(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the one candidate: kept runs first, labelled rows after them."""
        return [self._pool.demos(brief, state["kept"])]

    def found(self, brief: Brief, state: State) -> list[str]:
        """Say how many runs were tried and kept, and why the others were not."""
        return [told(state)]

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the fewest and the most runs of the teacher."""
        return self._pool.rollouts(brief)
