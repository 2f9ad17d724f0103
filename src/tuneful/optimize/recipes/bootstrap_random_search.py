"""BootstrapFewShotWithRandomSearch: many demo sets from one pool of successful runs, raced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tuneful.optimize.strategies import selection
from tuneful.optimize.strategies.pool import Pool
from tuneful.optimize.strategies.pooled_race import PooledRace
from tuneful.optimize.trial import Brief, Candidate, Outcome, State, Trial
from tuneful.program.module import Module


class BootstrapFewShotWithRandomSearch(PooledRace):
    """Draw demo sets at random from the program's own successes, and keep the best. Also called `BootstrapRS`.

    Which demos are shown matters, and nobody can tell beforehand which: this tries. The candidates are the program as
    it is, labelled rows only, the successful runs in order, and then sets of random size and members. They race on the
    search rows: one that is beyond doubt not the best stops early. Use it from some 50 rows on; with fewer,
    `BootstrapFewShot`.

    Args:
        metric: judges a run; where the teacher runs, it receives the trace, and may be stricter then.
        teacher_settings: settings in force while the teacher runs, such as {"lm": tf.LM("openai/gpt-4o")}.
        max_bootstrapped_demos: most runs that a candidate shows.
        max_labeled_demos: most demos of a predictor all together; labelled rows fill what the runs leave.
        max_rounds: attempts of the teacher for a row; those after the first are sampled anew.
        num_candidate_programs: random demo sets, beside the three others.
        num_threads: rollouts in flight; by default the setting.
        max_errors: stop the teacher after so many failed runs. None is no limit.
        stop_at_score: end the search as soon as the best has this mean, in the metric's units, on the rows so far.
        metric_threshold: least score of a teacher's run that is kept. None keeps every score other than 0.
        counterexamples: see `BootstrapFewShot`.

    Cost: a run of the teacher for each run of the pool and each failure, with at most rows x `max_rounds` of them;
    then from candidates x 16 to candidates x rows runs of the student, mostly below half of that; then 2 runs for each
    held-out row.

    Source: Khattab et al. (2023), section 4, and the random search of DSPy. Deviations: the teacher runs once, into a
    pool of as many runs as the candidates show all together, where DSPy runs it for each candidate; candidates are
    raced, where each is run on all rows there; a row is never among the demos that it is scored with; the winner is
    compared with the original on rows that the search never saw.
    """

    def __init__(
        self,
        metric: Callable[..., Any] | Module,
        teacher_settings: dict[str, Any] | None = None,
        max_bootstrapped_demos: int = 4,
        max_labeled_demos: int = 16,
        max_rounds: int = 1,
        num_candidate_programs: int = 16,
        num_threads: int | None = None,
        max_errors: int | None = None,
        stop_at_score: float | None = None,
        metric_threshold: float | None = None,
        counterexamples: bool = False,
    ) -> None:
        self.metric = metric
        self.teacher_settings = teacher_settings
        self.max_bootstrapped_demos = max_bootstrapped_demos
        self.max_labeled_demos = max_labeled_demos
        self.max_rounds = max_rounds
        self.num_candidate_programs = num_candidate_programs
        self.num_threads = num_threads
        self.max_errors = max_errors
        self.stop_at_score = stop_at_score
        self.metric_threshold = metric_threshold
        self.counterexamples = counterexamples
        wanted = max_bootstrapped_demos + num_candidate_programs * (max_bootstrapped_demos + 1) // 2
        wanted = wanted if max_bootstrapped_demos else 0
        self._pool = Pool(
            wanted, max_labeled_demos, max_rounds, max_errors, metric_threshold, counterexamples=counterexamples
        )

    def init(self, brief: Brief) -> State:
        """Return the first state: an empty pool, and no race yet."""
        return self._advanced(brief, {"pool": self._pool.start(brief), "race": None})

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return the teacher's next rows; with the pool filled, the next block of the race."""
        if state["race"] is None:
            return self._pool.ask(brief, state["pool"])
        if selection.reached(state["race"], self.stop_at_score):
            return []
        return selection.trials(state["race"], self._candidates(brief, state))

    def tell(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Fill the pool, or go on with the race."""
        if state["race"] is None:
            return self._advanced(brief, {**state, "pool": self._pool.tell(state["pool"], results)})
        return {**state, "race": selection.told(state["race"], results)}

    def _advanced(self, brief: Brief, state: State) -> State:
        if self._pool.ask(brief, state["pool"]):
            return state
        return {**state, "race": selection.start(brief, len(self._candidates(brief, state)))}

    def _candidates(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the candidates, simpler ones first, none twice."""
        sets = self._pool.sets(brief, state["pool"]["kept"], self.num_candidate_programs, self.max_bootstrapped_demos)
        found = [{}, *sets]
        return [c for i, c in enumerate(found) if c not in found[:i]]

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the fewest and the most rollouts, of teacher and race together."""
        return self._rollouts(brief, self.num_candidate_programs + 3)


#: Its short name.
BootstrapRS = BootstrapFewShotWithRandomSearch
