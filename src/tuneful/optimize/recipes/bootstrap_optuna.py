"""BootstrapFewShotWithOptuna: how many demos each predictor shows, and which, chosen by a model of the scores."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

from tuneful.errors import MissingExtraError
from tuneful.optimize.propose.demos import demo_paths
from tuneful.optimize.strategies import race, selection, tpe
from tuneful.optimize.strategies.pool import Pool
from tuneful.optimize.strategies.pooled_race import PooledRace
from tuneful.optimize.trial import Brief, Candidate, Outcome, State, Trial
from tuneful.program.module import Module
from tuneful.program.parameter import checked_whole

#: Candidates that are proposed at once, from what is known by then.
_WAVE = 4


class BootstrapFewShotWithOptuna(PooledRace):
    """Choose for each predictor how many of the program's own successes it shows, and which, with Optuna's TPE.

    Use it where a program has several predictors, or where you can pay for many candidates: after a few of them, new
    ones are proposed where the scores were good. With few candidates, `BootstrapFewShotWithRandomSearch` is as good
    and needs no extra package. Candidates race as they do there.

    Args:
        metric: judges a run; where the teacher runs, it receives the trace, and may be stricter then.
        teacher_settings: settings in force while the teacher runs, such as {"lm": tf.LM("openai/gpt-4o")}.
        max_bootstrapped_demos: most runs that a predictor shows. The pool that they are chosen from has 4 times as
            many.
        max_labeled_demos: most demos of a predictor all together; labelled rows fill what the runs leave.
        max_rounds: attempts of the teacher for a row; those after the first are sampled anew.
        num_candidate_programs: candidates that are proposed, beside the program as it is.
        num_threads: rollouts in flight; by default the setting.
        max_errors: stop the teacher after so many failed runs. None is no limit.
        metric_threshold: least score of a teacher's run that is kept. None keeps every score other than 0.

    Raises:
        MissingExtraError: optuna is not installed (`pip install 'tuneful[search]'`).

    Cost: runs of the teacher until 4 x `max_bootstrapped_demos` succeeded, at most rows x `max_rounds`; then from
    candidates x 16 to candidates x rows runs of the student; then 2 runs for each held-out row.

    Source: Khattab et al. (2023), section 4; the tree-structured Parzen estimator of Bergstra et al. (2011), as Optuna
    has it (multivariate, with a constant liar within a wave of 4). Deviations from DSPy: several demos for a predictor,
    where it chooses one; seeded; raced; `max_demos` of its `compile` is `max_bootstrapped_demos`.
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
        metric_threshold: float | None = None,
    ) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise MissingExtraError("optuna", "search", type(self).__name__)
        self.metric = metric
        self.teacher_settings = teacher_settings
        self.max_bootstrapped_demos = max_bootstrapped_demos
        self.max_labeled_demos = max_labeled_demos
        self.max_rounds = max_rounds
        self.num_candidate_programs = checked_whole("num_candidate_programs", num_candidate_programs, 2)
        self.num_threads = num_threads
        self.max_errors = max_errors
        self.metric_threshold = metric_threshold
        self._pool = Pool(4 * max_bootstrapped_demos, max_labeled_demos, max_rounds, max_errors, metric_threshold)

    def init(self, brief: Brief) -> State:
        """Return the first state: an empty pool, no race, nothing proposed."""
        return self._advanced(brief, {"pool": self._pool.start(brief), "race": None, "points": []})

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return the teacher's next rows; with the pool filled, the next block of the race."""
        if state["race"] is None:
            return self._pool.ask(brief, state["pool"])
        return selection.trials(state["race"], self._candidates(brief, state))

    def tell(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Fill the pool, or go on with the race; where it is over, let new candidates join it."""
        if state["race"] is None:
            return self._advanced(brief, {**state, "pool": self._pool.tell(state["pool"], results)})
        return self._advanced(brief, {**state, "race": selection.told(state["race"], results)})

    def _advanced(self, brief: Brief, state: State) -> State:
        """Begin the race once the pool is filled; propose more once those in the race have run."""
        if state["race"] is None:
            if self._pool.ask(brief, state["pool"]):
                return state
            points = [self._point(brief, state, 0), self._point(brief, state, self.max_bootstrapped_demos)]
            begun = selection.start(brief, 1 + len(points))
            return {**state, "race": begun, "points": points}
        missing = min(_WAVE, self.num_candidate_programs - len(state["points"]))
        if race.ask(state["race"]) or missing <= 0 or not state["pool"]["kept"]:
            return state
        scores = race.means(state["race"])[1:]
        seed = brief.stream(f"proposals from {len(state['points'])}").getrandbits(32)
        new = tpe.propose(self._space(brief, state), state["points"], scores, missing, seed)
        return {**state, "race": race.add(state["race"], missing), "points": [*state["points"], *new]}

    # --- the space: a count for each predictor, and a run of the pool for each place ---

    def _space(self, brief: Brief, state: State) -> tpe.Space:
        runs = len(state["pool"]["kept"])
        most = min(self.max_bootstrapped_demos, runs)
        space: tpe.Space = {}
        for path in demo_paths(brief):
            space[f"{path} count"] = (0, most)
            space |= {f"{path} {place}": list(range(runs)) for place in range(most)}
        return space

    def _point(self, brief: Brief, state: State, count: int) -> tpe.Point:
        """Return the point that shows the first `count` runs in order, everywhere."""
        space = self._space(brief, state)
        return {n: min(count, s[1]) if isinstance(s, tuple) else int(n.rpartition(" ")[2]) for n, s in space.items()}

    def _candidate(self, brief: Brief, state: State, point: tpe.Point) -> Candidate:
        candidate: Candidate = {}
        for path in demo_paths(brief):
            places = [point[f"{path} {place}"] for place in range(point[f"{path} count"])]
            runs = [state["pool"]["kept"][i] for i in dict.fromkeys(places)]
            demos = self._pool.demos(brief, runs).get(path)
            if demos:
                candidate[path] = demos
        return candidate

    def _candidates(self, brief: Brief, state: State) -> list[Candidate]:
        return [{}, *(self._candidate(brief, state, point) for point in state["points"])]

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the fewest and the most rollouts, of teacher and race together."""
        return self._rollouts(brief, self.num_candidate_programs + 1)
