"""COPRO: instructions that a model proposes, one predictor after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tuneful.errors import UsageError
from tuneful.optimize.propose.describe import attempts_text, examples_text, program_text, rows_of, signature_text
from tuneful.optimize.propose.instructions import TIPS, WriteInstructions, fresh
from tuneful.optimize.propose.proposing import Proposers
from tuneful.optimize.strategies.ascent import Ascent
from tuneful.optimize.trial import Brief, Candidate, Job
from tuneful.program.lm import LM
from tuneful.program.module import Module
from tuneful.program.parameter import checked_whole

#: Rows that a proposal is shown: the same each time, so that the prefix cache serves them.
_SHOWN = 5


class COPRO(Ascent):
    """Let a model write instructions, keep the best, and let it write better ones from what was tried.

    In each round `breadth` instructions are proposed for every predictor, from its fields, some rows, the program, and
    the best attempts so far with their scores. The predictors have their turns, with the others at their best; the
    candidates race. Use it where the rules of a task are to be found and a capable model can write them down
    (`prompt_model`). Where the model is small, demonstrations are the safer lever: `BootstrapFewShotWithRandomSearch`.
    To choose demos and instructions together, `MIPROv2`.

    Args:
        prompt_model: LM that writes instructions; None is the configured one.
        metric: judges a run.
        breadth: instructions for each predictor that join in a round; the original counts in the first one.
        depth: rounds.
        init_temperature: temperature of the proposals.
        num_threads: rollouts in flight; by default the setting.

    Raises:
        UsageError: no metric, `breadth` below 2, `depth` below 1.

    Cost: predictors x `breadth` calls of the prompt model a round, at most; with one predictor, `breadth` x `depth`
    candidates; with several, predictors x `breadth` x `depth` x (`depth` + 1) / 2, since older proposals have another
    turn when the other predictors have changed. From 16 rollouts for each candidate to as many as there are rows; then
    2 runs for each held-out row.

    Source: DSPy's COPRO; Yang et al. (2023), "Large Language Models as Optimizers", section 3. Deviations: candidates
    race, where each is run on all rows there; the proposer also sees fields, rows and the program, and each proposal
    gets a tip how to write; there is no proposal for prefixes, which are wording (`AutoPrompt`); `eval_kwargs` of
    DSPy's `compile` is `num_threads`.
    """

    def __init__(
        self,
        prompt_model: LM | None = None,
        metric: Callable[..., Any] | Module | None = None,
        breadth: int = 10,
        depth: int = 3,
        init_temperature: float = 1.4,
        num_threads: int | None = None,
    ) -> None:
        if metric is None:
            raise UsageError("COPRO chooses by a metric and got none: COPRO(metric=...).")
        self.prompt_model = prompt_model
        self.metric = metric
        self.breadth = checked_whole("breadth", breadth, 2)
        self.depth = checked_whole("depth", depth)
        self.init_temperature = init_temperature
        self.num_threads = num_threads
        self.proposers = Proposers({"instructions": WriteInstructions(init_temperature)})

    _proposal = "instructions"

    def _slots(self, brief: Brief) -> list[str]:
        """Return the paths of the instructions that are free."""
        return [p.path for p in brief.parameters.values() if p.kind == "instructions" and not p.frozen]

    def _job(self, brief: Brief, slot: str, attempts: Sequence[tuple[Any, float | None]], sample: int) -> Job:
        step = slot.removesuffix("instructions").removesuffix(".")
        signature = brief.signatures[step]
        rows = brief.trainset
        shown = brief.stream(f"shown for {step}").sample(rows, min(_SHOWN, len(rows)))
        now = brief.parameters[slot].value
        given = {
            "task": signature_text(signature),
            "program": "" if brief.student is None else program_text(brief.student, step),
            "examples": examples_text(rows_of(signature, shown)),
            "tried": attempts_text((now if text is None else text, score) for text, score in attempts),
            "tip": list(TIPS.values())[sample % len(TIPS)],
        }
        return Job("instructions", {**given, "sample": sample})

    def _values(self, brief: Brief, slot: str, results: Sequence[Any], known: Sequence[Any]) -> list[Any]:
        return fresh(results, [brief.parameters[slot].value, *known])

    def _candidate(self, brief: Brief, values: Mapping[str, Any]) -> Candidate:
        return dict(values)
