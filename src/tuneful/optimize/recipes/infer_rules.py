"""InferRules: rules that a model finds in solved cases, added to the instructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tuneful.optimize.propose.demos import bootstrapped
from tuneful.optimize.propose.describe import examples_text, rows_of, signature_text
from tuneful.optimize.propose.proposing import Proposers, Proposing
from tuneful.optimize.propose.rules import InduceRules, with_rules
from tuneful.optimize.strategies import selection
from tuneful.optimize.strategies.pool import Pool
from tuneful.optimize.strategies.pooled_race import PooledRace
from tuneful.optimize.trial import Brief, Candidate, Job, Outcome, State, Trial
from tuneful.program.lm import LM
from tuneful.program.module import Module
from tuneful.program.parameter import checked_whole

#: Most cases that a set of rules is made from; each set is made from others, where there are more.
_SHOWN = 40


class InferRules(PooledRace, Proposing):
    """Let a model find the rules of a task in solved cases, and add them to the instructions, beside demos.

    Use it where answers follow rules that nobody wrote down, such as a labelling guideline, and a capable model can
    read them out of the rows (`prompt_model`). The candidates are the program as it is, with demos, and with demos and
    each set of rules; they race on the search rows. Where the proposer is small, the demos carry it:
    `BootstrapFewShotWithRandomSearch` tries more of them.

    Args:
        metric: judges a run; where the teacher runs, it receives the trace, and may be stricter then.
        num_candidates: sets of rules.
        num_rules: most rules in a set.
        num_threads: rollouts in flight; by default the setting.
        teacher_settings: settings in force while the teacher runs, such as {"lm": tf.LM("openai/gpt-4o")}.
        prompt_model: LM that finds the rules; None is the configured one.
        init_temperature: temperature of the proposals.
        max_bootstrapped_demos, max_labeled_demos, max_rounds, max_errors, metric_threshold: see `BootstrapFewShot`.

    Raises:
        UsageError: a number that is too small.

    Cost: runs of the teacher until `max_bootstrapped_demos` succeeded; `num_candidates` calls of the prompt model for
    each predictor; from 16 to rows runs of the student for each of `num_candidates` + 2 candidates; then 2 runs for
    each held-out row.

    Source: DSPy's InferRules; Honovich et al. (2022), "Instruction Induction: From Few Examples to Natural Language
    Task Descriptions", section 2. Deviations: the best candidate is returned, where DSPy returns the last, and
    candidates race; a set of rules is made from up to 40 cases, drawn anew for each, and from runs that succeeded too,
    which show steps that have no labels; candidates without rules are among them. `valset` is for the comparison alone.
    """

    def __init__(
        self,
        metric: Callable[..., Any] | Module,
        num_candidates: int = 10,
        num_rules: int = 10,
        num_threads: int | None = None,
        teacher_settings: dict[str, Any] | None = None,
        *,
        prompt_model: LM | None = None,
        init_temperature: float = 1.0,
        max_bootstrapped_demos: int = 4,
        max_labeled_demos: int = 16,
        max_rounds: int = 1,
        max_errors: int | None = None,
        metric_threshold: float | None = None,
    ) -> None:
        self.metric = metric
        self.num_candidates = checked_whole("num_candidates", num_candidates)
        self.num_rules = checked_whole("num_rules", num_rules)
        self.num_threads = num_threads
        self.teacher_settings = teacher_settings
        self.prompt_model = prompt_model
        self.init_temperature = init_temperature
        self.max_bootstrapped_demos = max_bootstrapped_demos
        self.max_labeled_demos = max_labeled_demos
        self.max_rounds = max_rounds
        self.max_errors = max_errors
        self.metric_threshold = metric_threshold
        self._pool = Pool(max_bootstrapped_demos, max_labeled_demos, max_rounds, max_errors, metric_threshold)
        self.proposers = Proposers({"rules": InduceRules(init_temperature)})

    def init(self, brief: Brief) -> State:
        """Return the first state: an empty pool, no rules, no race."""
        return {"pool": self._pool.start(brief), "rules": None, "race": None}

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return the teacher's next rows; with the rules found, the next block of the race."""
        if state["race"] is None:
            return self._pool.ask(brief, state["pool"])
        return selection.trials(state["race"], self._candidates(brief, state))

    def tell(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Fill the pool, or go on with the race."""
        if state["race"] is None:
            return {**state, "pool": self._pool.tell(state["pool"], results)}
        return {**state, "race": selection.told(state["race"], results)}

    def jobs(self, brief: Brief, state: State) -> list[Job]:
        """Return, once the pool is filled, the work of finding rules: sets of them, for each predictor."""
        if state["rules"] is not None or self._pool.ask(brief, state["pool"]):
            return []
        return [self._job(brief, state, path, i) for path in _free(brief) for i in range(self.num_candidates)]

    def _job(self, brief: Brief, state: State, path: str, sample: int) -> Job:
        step = _step(path)
        signature = brief.signatures[step]
        kept = state["pool"]["kept"]
        runs = bootstrapped(brief, kept).get(f"{path.removesuffix('instructions')}demos", [])
        rows = [row for i, row in enumerate(brief.trainset) if i not in {run["row"] for run in kept}]
        cases = [*runs, *rows_of(signature, rows)]
        shown = brief.stream(f"cases {sample}/{path}").sample(cases, min(_SHOWN, len(cases)))
        given = {"task": signature_text(signature), "examples": examples_text(shown), "number": self.num_rules}
        return Job("rules", {**given, "sample": sample})

    def done(self, brief: Brief, state: State, results: Sequence[tuple[Job, Any]]) -> State:
        """Take the rules, and begin the race. Where a job failed, that set has no rules for that predictor."""
        n = self.num_candidates
        rules = [[] if found is None else found["rules"] for _, found in results]
        by_path = {path: rules[i * n : (i + 1) * n] for i, path in enumerate(_free(brief))}
        state = {**state, "rules": by_path}
        return {**state, "race": selection.start(brief, len(self._candidates(brief, state)))}

    def _candidates(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the program as it is, with demos, and with demos and each set of rules; none twice."""
        demos = self._pool.demos(brief, state["pool"]["kept"])
        found: list[Candidate] = [{}, demos]
        for sets in zip(*state["rules"].values(), strict=True):
            changed = {
                path: with_rules(brief.parameters[path].value, rules)
                for path, rules in zip(state["rules"], sets, strict=True)
                if rules
            }
            found.append({**demos, **changed})
        return [c for i, c in enumerate(found) if c not in found[:i]]

    def found(self, brief: Brief, state: State) -> list[str]:
        """Say what the teacher gave, how many sets of rules there are, and how the race went."""
        first, *others = super().found(brief, state)
        sets = sum(bool(rules) for found in (state["rules"] or {}).values() for rules in found)
        return [first, f"{sets} sets of rules for {len(_free(brief))} predictors", *others]

    def proposals(self, brief: Brief) -> dict[str, tuple[int, int]]:
        """Return the calls of the prompt model."""
        calls = len(_free(brief)) * self.num_candidates
        return {"rules": (calls, calls)}

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the fewest and the most rollouts, of teacher and race together."""
        return self._rollouts(brief, self.num_candidates + 2)


def _free(brief: Brief) -> list[str]:
    """Return the paths of the instructions that may be changed."""
    return [p.path for p in brief.parameters.values() if p.kind == "instructions" and not p.frozen]


def _step(path: str) -> str:
    return path.removesuffix("instructions").removesuffix(".")
