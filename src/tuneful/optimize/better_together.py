"""BetterTogether: several teleprompters one after the other, each on what the one before has found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tuneful.errors import UsageError
from tuneful.optimize.recipe import Recipe
from tuneful.optimize.recipes.bootstrap_finetune import BootstrapFinetune
from tuneful.optimize.recipes.bootstrap_random_search import BootstrapFewShotWithRandomSearch
from tuneful.optimize.teleprompter import Teleprompter
from tuneful.optimize.trial import Brief, Candidate, Job, Outcome, State, Trial
from tuneful.program.lm import LM
from tuneful.program.module import Module
from tuneful.program.vectors.embedder import Embedder

_ARROW = "->"


class BetterTogether(Teleprompter):
    """Tune prompts, then weights, then prompts again, in any order; every stage starts from the one before.

    The program after each stage is compared with the original on the held-out rows, and the best of them is returned:
    a stage that did harm is left out. Use it where both demos and training pay by themselves.

    Args:
        metric: judges the stages' results on the held-out rows.
        prompt_optimizer: the stage "p"; by default `BootstrapFewShotWithRandomSearch(metric)`.
        weight_optimizer: the stage "w"; by default `BootstrapFinetune(metric)`.
        strategy: names of stages with arrows between them.
        optimizers: further stages, by the names that the strategy calls them.

    Raises:
        UsageError: a stage that there is not, or stages whose teachers need different settings.

    Cost: those of the stages, and (stages + 1) runs for each held-out row.

    Source: Soylu et al. (2024), "Fine-Tuning and Prompt Optimization: Two Great Steps that Work Better Together".
    Deviations: a tuned model's prompts may have demos again after the stage that tunes prompts; of several stages that
    tune weights ("w -> p -> w") each trains the plain base anew, on the runs of the program as the stage before has
    left it: see `BootstrapFinetune`.
    """

    def __init__(
        self,
        metric: Callable[..., Any] | Module,
        prompt_optimizer: Teleprompter | None = None,
        weight_optimizer: Teleprompter | None = None,
        *,
        strategy: str = "p -> w -> p",
        **optimizers: Teleprompter,
    ) -> None:
        self.metric = metric
        self.strategy = strategy
        known: dict[str, Teleprompter] = {
            "p": prompt_optimizer or BootstrapFewShotWithRandomSearch(metric),
            "w": weight_optimizer or BootstrapFinetune(metric),
            **optimizers,
        }
        for name, stage in known.items():
            if not isinstance(stage, Teleprompter):
                raise UsageError(f"BetterTogether: `{name}` is {stage!r:.80}; expected a teleprompter, a stage.")
        names = [name.strip() for name in str(strategy).split(_ARROW)]
        for name in names:
            if name not in known:
                raise UsageError(
                    f"the strategy {strategy!r} has a stage {name!r}; there are {', '.join(known)}. "
                    "Give it by name: BetterTogether(metric, NAME=teleprompter, strategy=...)."
                )
        self._stages: list[Recipe] = [known[name] for name in names]
        settings = [s.teacher_settings for s in self._stages if s.teacher_settings is not None]
        if any(s != settings[0] for s in settings):
            raise UsageError("the stages have different `teacher_settings`; give all of them the same, or none.")
        self.teacher_settings = settings[0] if settings else None
        self.num_threads = next((s.num_threads for s in self._stages if s.num_threads), None)

    def settings(self) -> dict[str, Any]:
        """Return the strategy, and the settings of its stages."""
        stages = [[type(s).__name__, s.settings()] for s in self._stages]
        return {**super().settings(), "stages": stages}

    # --- one stage after the other ---

    def init(self, brief: Brief) -> State:
        """Return the first stage's first state."""
        return self._begun(brief, {"stage": 0, "base": {}, "after": [], "said": [], "inner": {}})

    def jobs(self, brief: Brief, state: State) -> list[Job]:
        """Return the jobs of the stage."""
        if (stage := self._stage(state)) is None:
            return []
        found = stage.jobs(self._brief(brief, state), state["inner"])
        return [Job(job.name, {"stage": state["stage"], "base": state["base"], "inputs": job.inputs}) for job in found]

    async def work(self, brief: Brief, job: Job) -> Any:
        """Let the stage do its job."""
        return await self._stages[job.inputs["stage"]].work(self._brief(brief, job.inputs), _inner(job))

    def decides(self, job: Job) -> Any:
        """Return what decides the result for the stage."""
        stage = self._stages[job.inputs["stage"]]
        return [type(stage).__qualname__, stage.decides(_inner(job))]

    def usable(self, result: Any) -> bool:
        """Ask the stages."""
        return all(stage.usable(result) for stage in self._stages if type(stage).usable is not Recipe.usable)

    def done(self, brief: Brief, state: State, results: Sequence[tuple[Job, Any]]) -> State:
        """Hand the results on."""
        stage = self._stages[state["stage"]]
        inner = stage.done(self._brief(brief, state), state["inner"], [(_inner(job), r) for job, r in results])
        return self._on(brief, {**state, "inner": inner})

    def ask(self, brief: Brief, state: State) -> list[Trial]:
        """Return the trials of the stage, on top of what the stages before have found."""
        if (stage := self._stage(state)) is None:
            return []
        found = stage.ask(self._brief(brief, state), state["inner"])
        return [_on_top(trial, state["base"], own=brief.own_teacher) for trial in found]

    def tell(self, brief: Brief, state: State, results: Sequence[tuple[Trial, Sequence[Outcome]]]) -> State:
        """Hand the results on, as of the trials that the stage asked for."""
        stage, own = self._stages[state["stage"]], self._brief(brief, state)
        asked = stage.ask(own, state["inner"])
        inner = stage.tell(own, state["inner"], [(t, o) for t, (_, o) in zip(asked, results, strict=False)])
        return self._on(brief, {**state, "inner": inner})

    def finalists(self, brief: Brief, state: State) -> list[Candidate]:
        """Return the program after each stage, the last first; of a stage that was stopped, what it has."""
        last = self._after(brief, state) if self._stage(state) is not None else {}
        found = [last, *reversed(state["after"])]
        return [c for i, c in enumerate(found) if c and c not in found[:i]]

    def found(self, brief: Brief, state: State) -> list[str]:
        """Return what each stage says."""
        said = list(state["said"])
        if (stage := self._stage(state)) is not None:
            said += self._said(stage, brief, state)
        return said

    def rollouts(self, brief: Brief) -> tuple[int, int]:
        """Return the sums of the stages."""
        ranges = [stage.rollouts(brief) for stage in self._stages]
        return (sum(low for low, _ in ranges), sum(high for _, high in ranges))

    def proposals(self, brief: Brief) -> dict[str, tuple[int, int]]:
        """Return the sums of the stages."""
        found: dict[str, tuple[int, int]] = {}
        for stage in self._stages:
            for name, (low, high) in stage.proposals(brief).items():
                before = found.get(name, (0, 0))
                found[name] = (before[0] + low, before[1] + high)
        return found

    def asks(self, brief: Brief) -> list[LM | Embedder]:
        """Return those of the stages."""
        return [model for stage in self._stages for model in stage.asks(brief)]

    # --- parts ---

    def _stage(self, state: Mapping[str, Any]) -> Recipe | None:
        return self._stages[state["stage"]] if state["stage"] < len(self._stages) else None

    def _brief(self, brief: Brief, state: Mapping[str, Any]) -> Brief:
        """Return what the stage sees: the program as the stages before have left it, and chance of its own."""
        if not state["base"]:
            return replace(brief, seed=brief.seed + state["stage"])
        assert brief.student is not None
        return brief.of(brief.student.with_parameters(state["base"]), seed=brief.seed + state["stage"])

    def _begun(self, brief: Brief, state: State) -> State:
        stage = self._stage(state)
        begun = state if stage is None else {**state, "inner": stage.init(self._brief(brief, state))}
        return begun if stage is None else self._on(brief, begun)

    def _on(self, brief: Brief, state: State) -> State:
        """Return the state, with the next stage begun where this one has nothing more to do."""
        stage = self._stages[state["stage"]]
        own = self._brief(brief, state)
        if stage.jobs(own, state["inner"]) or stage.ask(own, state["inner"]):
            return state
        base = self._after(brief, state)
        said = [*state["said"], *self._said(stage, brief, state)]
        after = [*state["after"], base]
        return self._begun(
            brief, {"stage": state["stage"] + 1, "base": base, "after": after, "said": said, "inner": {}}
        )

    def _after(self, brief: Brief, state: State) -> Candidate:
        """Return the program as the stage leaves it: what it likes best, on top of what was there."""
        stage = self._stages[state["stage"]]
        best = next(iter(stage.finalists(self._brief(brief, state), state["inner"])), {})
        return {**state["base"], **best}

    def _said(self, stage: Recipe, brief: Brief, state: State) -> list[str]:
        name = f"stage {state['stage'] + 1}, {type(stage).__name__}"
        return [f"{name}: {line}" for line in stage.found(self._brief(brief, state), state["inner"])]


def _inner(job: Job) -> Job:
    return Job(job.name, job.inputs["inputs"])


def _on_top(trial: Trial, base: Candidate, *, own: bool) -> Trial:
    """Return a trial with the stages' values below its own; a teacher that is another program stays as it is."""
    if trial.who == "teacher" and not own:
        return trial
    return replace(trial, candidate={**base, **trial.candidate})
