"""MIPROv2: demo sets, proposed instructions and everything else that may be chosen, by a model of the scores."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from tuneful.errors import MissingExtraError, UsageError
from tuneful.optimize import space
from tuneful.optimize.propose.demos import demo_paths
from tuneful.optimize.propose.grounded import Grounded
from tuneful.optimize.propose.proposing import Proposers, Proposing
from tuneful.optimize.space import Axis, Point, Space
from tuneful.optimize.strategies import race, selection, tpe
from tuneful.optimize.strategies.pool import Pool
from tuneful.optimize.strategies.pooled_race import PooledRace
from tuneful.optimize.trial import Brief, Candidate, Job, Outcome, State, Trial
from tuneful.program.lm import LM
from tuneful.program.module import Module
from tuneful.program.parameter import checked_whole
from tuneful.program.vectors.embedder import Embedder

#: By `auto`: candidates (n), and most rows to choose on.
_AUTO = {"light": (6, 100), "medium": (12, 300), "heavy": (18, 1000)}
#: Points that are proposed at once, from what is known by then.
_WAVE = 4
#: Runs that proposals are shown where the program itself is to show none.
_INFORMING = 3


class MIPROv2(PooledRace, Proposing):
    """Choose instructions and demos of all predictors together, and with them whatever else you allow.

    The program's own successes are drawn into demo sets; a model writes instructions from the data, the program and
    such runs. Then a tree-structured Parzen estimator chooses among the combinations: new ones are proposed where the
    scores were good. The same search chooses the numbers that you declared (`Choice`, `Integer`, `Real`), and adapters,
    models and temperatures that you name. Use it for programs of several predictors, and where a capable model can
    write the instructions (`prompt_model`). With a small model alone, or one predictor and few rows,
    `BootstrapFewShotWithRandomSearch` gets most of it for less. `max_bootstrapped_demos=0, max_labeled_demos=0` chooses
    instructions alone.

    Args:
        metric: judges a run; where the teacher runs, it receives the trace, and may be stricter then.
        prompt_model: LM that writes instructions; None is the configured one.
        teacher_settings: settings in force while the teacher runs, such as {"lm": tf.LM("openai/gpt-4o")}.
        max_bootstrapped_demos: most runs in a demo set.
        max_labeled_demos: most demos of a predictor all together; labelled rows fill what the runs leave.
        auto: "light", "medium" or "heavy": n = 6, 12 or 18 demo sets, half as many instructions (n without demos), at
            most 100, 300 or 1,000 rows to choose on, and max(2 x axes x log2 n, 1.5 n) combinations, where each
            predictor has an axis for demos and one for instructions. None: say n yourself, and all rows count.
        num_candidates: demo sets of a predictor, and its instructions, in place of what `auto` says.
        num_trials: combinations that are tried, in place of what `auto` says.
        num_threads: rollouts in flight; by default the setting.
        max_errors: stop the teacher after so many failed runs. None is no limit.
        init_temperature: temperature of the proposals.
        metric_threshold: least score of a teacher's run that is kept. None keeps every score other than 0.
        minibatch: try a combination on a few rows first; otherwise each is run on all of them.
        minibatch_size: these rows, the same ones for all.
        minibatch_full_eval_steps: combinations that join before all that are still in question run as many rows more.
        program_aware_proposer, data_aware_proposer, tip_aware_proposer, fewshot_aware_proposer: what the proposer is
            shown: the program, a summary of the data, a tip how to write, runs that succeeded.
        view_data_batch_size: rows that are summarised at once.
        numbers: whether the program's own `Choice`, `Integer` and `Real` are chosen too.
        adapters: names of adapters that each predictor may use instead of its own.
        models: LMs that each predictor may use instead of its own, or their names.
        temperatures: temperatures that each predictor may use instead of its own.

    Raises:
        UsageError: `auto` is None and nothing is said in its place; or a number, adapter or model is out of question.
        MissingExtraError: optuna is not installed (`pip install 'tuneful[search]'`).

    Cost: runs of the teacher until the pool is filled, at most one for each row; 3 calls of the prompt model for the
    data, and (instructions - 1) for each predictor; then from combinations x `minibatch_size` to combinations x rows
    runs of the student, mostly below half of that; then 2 runs for each held-out row.

    Source: Opsahl-Ong et al. (2024), "Optimizing Instructions and Demonstrations for Multi-Stage Language Model
    Programs", sections 4 and 5, and DSPy's MIPROv2, whose numbers `auto` has. Deviations: a combination is dropped once
    it is beyond doubt not the best (a race over minibatches that all share), where minibatches are drawn anew for each,
    and the best mean is run in full from time to time; so minibatches are of 16 rows, not 35. The teacher runs once,
    into a pool. No combination is tried twice. A row is never among the demos that it is scored with. The winner is
    compared with the original on rows that the search never saw. One call writes an instruction, where DSPy makes
    three. DSPy's `task_model` is the program's own LM; `num_trials` and what follows `metric_threshold` are arguments
    of `compile` there (and may be given to it here); `seed` is one of `compile` here.
    """

    def __init__(
        self,
        metric: Callable[..., Any] | Module,
        prompt_model: LM | None = None,
        teacher_settings: dict[str, Any] | None = None,
        max_bootstrapped_demos: int = 4,
        max_labeled_demos: int = 4,
        auto: Literal["light", "medium", "heavy"] | None = "light",
        num_candidates: int | None = None,
        num_trials: int | None = None,
        num_threads: int | None = None,
        max_errors: int | None = None,
        init_temperature: float = 1.0,
        metric_threshold: float | None = None,
        *,
        minibatch: bool = True,
        minibatch_size: int = 16,
        minibatch_full_eval_steps: int = 5,
        program_aware_proposer: bool = True,
        data_aware_proposer: bool = True,
        tip_aware_proposer: bool = True,
        fewshot_aware_proposer: bool = True,
        view_data_batch_size: int = 10,
        numbers: bool = True,
        adapters: Sequence[str] = (),
        models: Sequence[LM | str | Mapping[str, Any]] = (),
        temperatures: Sequence[float] = (),
    ) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise MissingExtraError("optuna", "search", type(self).__name__)
        self._n, self._rows = _sizes(auto, num_candidates, num_trials)
        self.metric = metric
        self.prompt_model = prompt_model
        self.teacher_settings = teacher_settings
        self.max_bootstrapped_demos = max_bootstrapped_demos
        self.max_labeled_demos = max_labeled_demos
        self.auto = auto
        self.num_candidates = num_candidates
        self.num_trials = num_trials
        self.num_threads = num_threads
        self.max_errors = max_errors
        self.init_temperature = init_temperature
        self.metric_threshold = metric_threshold
        self.minibatch = minibatch
        self.minibatch_size = checked_whole("minibatch_size", minibatch_size)
        self.minibatch_full_eval_steps = checked_whole("minibatch_full_eval_steps", minibatch_full_eval_steps)
        self.program_aware_proposer = program_aware_proposer
        self.data_aware_proposer = data_aware_proposer
        self.tip_aware_proposer = tip_aware_proposer
        self.fewshot_aware_proposer = fewshot_aware_proposer
        self.view_data_batch_size = view_data_batch_size
        self.numbers = numbers
        self.adapters = space.known_adapters(adapters)
        self.models = space.lm_states(models)
        self.temperatures = space.known_temperatures(temperatures)
        self._shows = bool(max_bootstrapped_demos or max_labeled_demos)
        self._pool = Pool(self._runs(), max_labeled_demos, 1, max_errors, metric_threshold)
        self._grounded = self._grounding()
        self.proposers = Proposers(self._grounded.proposers(init_temperature))

    def _grounding(self) -> Grounded:
        texts = self._n // 2 if self._shows and self.num_candidates is None else self._n
        return Grounded(
            texts - 1,
            self.program_aware_proposer,
            self.data_aware_proposer,
            self.tip_aware_proposer,
            self.fewshot_aware_proposer,
            self.view_data_batch_size,
        )

    # --- the stages: runs of the teacher, proposals, the race ---

    def init(self, brief: Brief) -> State:
        """Return the first state: an empty pool, nothing written, no race."""
        begun: State = {"pool": self._pool.start(brief), "grounded": self._grounded.start(brief), "race": None}
        return self._advanced(brief, {**begun, "points": [], "joined": 0})

    def jobs(self, brief: Brief, state: State) -> list[Job]:
        """Return, once the pool is filled, what the prompt model is to write."""
        if state["race"] is not None or self._pool.ask(brief, state["pool"]):
            return []
        return self._grounded.jobs(brief, state["grounded"], self._sets(brief, state))

    def done(self, brief: Brief, state: State, results: Sequence[tuple[Job, Any]]) -> State:
        """Take what was written."""
        return self._advanced(brief, {**state, "grounded": self._grounded.done(brief, state["grounded"], results)})

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return the teacher's next rows; with all proposals made, the next block of the race."""
        if state["race"] is None:
            return self._pool.ask(brief, state["pool"])
        return selection.trials(state["race"], self._candidates(brief, state))

    def tell(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Fill the pool, or go on with the race."""
        if state["race"] is None:
            return self._advanced(brief, {**state, "pool": self._pool.tell(state["pool"], results)})
        told = selection.told(state["race"], results)
        further = race.front(told) > race.front(state["race"])
        return self._advanced(brief, {**state, "race": told, "joined": 0 if further else state["joined"]})

    def _advanced(self, brief: Brief, state: State) -> State:
        """Begin the race once all is there; let new combinations join it."""
        if state["race"] is None:
            if self._pool.ask(brief, state["pool"]) or state["grounded"]["texts"] is None:
                return state
            points = self._first(brief, state)
            block = self.minibatch_size if self.minibatch else len(brief.trainset)
            begun = selection.start(brief, len(points), most=self._rows, block=block)
            state = {**state, "points": points, "race": begun}
        racing = bool(race.ask(state["race"]))
        room = self.minibatch_full_eval_steps - state["joined"] if racing else _WAVE
        wanted = min(_WAVE, room, self._trials(brief) + 1 - len(state["points"]))
        compared = race.level(state["race"]) and race.front(state["race"])
        if wanted <= 0 or (racing and not compared):
            return state
        new = self._proposed(brief, state)[:wanted]
        joined = {"points": [*state["points"], *new], "joined": state["joined"] + len(new)}
        return {**state, **joined, "race": race.add(state["race"], len(new))}

    # --- points of the space ---

    def _first(self, brief: Brief, state: State) -> list[Point]:
        """Return the program as it is, and it with the first demo sets everywhere."""
        axes = self._space(brief, state)
        shown = [[a.name for a in axes if a.name in demo_paths(brief) and len(a.options) > o] for o in (1, 2)]
        points = [{**space.origin(axes), **dict.fromkeys(names, o)} for o, names in enumerate(shown, 1) if names]
        return [space.origin(axes), *points[: self._trials(brief)]]

    def _proposed(self, brief: Brief, state: State) -> list[Point]:
        """Return new points: where the scores were good, and beside the leader where all of those are known."""
        axes, points = self._space(brief, state), state["points"]
        rng = brief.stream(f"proposals from {len(points)}")
        options: tpe.Space = {axis.name: list(range(len(axis.options))) for axis in axes}
        found: list[Point] = []
        if options:
            found = tpe.propose(options, points, race.means(state["race"]), 2 * _WAVE, rng.getrandbits(32))
            beside = space.neighbours(axes, points[selection.leader(state["race"])])
            found += rng.sample(beside, len(beside))
        return [p for i, p in enumerate(found) if p not in points and p not in found[:i]]

    def _space(self, brief: Brief, state: State) -> Space:
        sets = [{}, *self._sets(brief, state)] if self._shows else []
        axes = [
            Axis.of(path, brief.parameters[path].value, [s.get(path, []) for s in sets]) for path in demo_paths(brief)
        ]
        return space.sized([*axes, *self._grounded.axes(brief, state["grounded"]), *self._others(brief)])

    def _others(self, brief: Brief) -> Space:
        """Return the axes that need neither runs nor proposals."""
        found = space.numbers(brief) if self.numbers else ()
        found += space.each(brief, "adapter", self.adapters) + space.each(brief, "lm", self.models)
        return found + space.sampling(brief, "temperature", self.temperatures)

    def _sets(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the demo sets, beside the empty one."""
        most = self.max_bootstrapped_demos if self._shows else _INFORMING
        return self._pool.sets(brief, state["pool"]["kept"], self._n - 3, most)

    def _candidates(self, brief: Brief, state: State) -> list[Candidate]:
        axes = self._space(brief, state)
        return [space.candidate(axes, point) for point in state["points"]]

    # --- numbers ---

    def _runs(self) -> int:
        """Return how many runs of the teacher are wanted: as many as the sets show all together."""
        if not self._shows:
            return _INFORMING if self.fewshot_aware_proposer else 0
        most = self.max_bootstrapped_demos
        return most + max(0, self._n - 3) * (most + 1) // 2 if most else 0

    def _trials(self, brief: Brief) -> int:
        """Return how many combinations are tried, beside the program as it is."""
        if self.num_trials is not None:
            return self.num_trials
        written = [p for p in brief.parameters.values() if p.kind == "instructions" and not p.frozen]
        axes = len(written) + len(demo_paths(brief)) * self._shows + len(self._others(brief))
        return int(max(2 * axes * math.log2(self._n), 1.5 * self._n))

    def found(self, brief: Brief, state: State) -> list[str]:
        """Say what the teacher gave, what was written, how the race went, and what the leader changes."""
        pool, *raced = super().found(brief, state)
        texts = state["grounded"]["texts"] or {}
        written = f"{sum(map(len, texts.values()))} new instructions for {len(texts)} predictors"
        if state["race"] is None:
            return [pool, written]
        chosen = [name for name, option in state["points"][selection.leader(state["race"])].items() if option]
        return [pool, written, *raced, f"the leader changes {', '.join(chosen) or 'nothing'}"]

    def asks(self, brief: Brief) -> list[LM | Embedder]:
        """Return the LMs of the proposers, and those to choose from."""
        return [*super().asks(brief), *space.lms_of_states(brief, self.models)]

    def proposals(self, brief: Brief) -> dict[str, tuple[int, int]]:
        """Return the calls of the prompt model: for the data, and for the instructions."""
        return self._grounded.calls(brief)

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the fewest and the most rollouts, of teacher and race together."""
        few, many = self._pool.rollouts(brief)
        rows = min(len(brief.trainset), self._rows or len(brief.trainset))
        least, most = race.rollouts(self._trials(brief) + 1, rows, self.minibatch_size if self.minibatch else rows)
        return (few + least, many + most)


def _sizes(auto: str | None, num_candidates: int | None, num_trials: int | None) -> tuple[int, int | None]:
    """Return the number of demo sets, and the most rows to choose on."""
    if auto not in (None, *_AUTO):
        raise UsageError(f"`auto` is {auto!r}; expected one of {', '.join(_AUTO)}, or None.")
    if auto is None and num_candidates is None:
        raise UsageError("with `auto=None`, MIPROv2 needs `num_candidates`, the n of `auto`, and perhaps `num_trials`.")
    for name, given, least in (("num_candidates", num_candidates, 2), ("num_trials", num_trials, 1)):
        if given is not None:
            checked_whole(name, given, least)
    n, rows = _AUTO[auto] if auto is not None else (0, None)
    return num_candidates or n, rows
