"""Grounded: instructions for every predictor, written from the data, the program, and runs that succeeded.

First the data are summarised, batch by batch; then instructions are written side by side. All functions of the state
are pure, and the state is JSON.

Source: Opsahl-Ong et al. (2024), "Optimizing Instructions and Demonstrations for Multi-Stage Language Model Programs",
section 4.1. Deviations: see `SummariseData` and `WriteInstructions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuneful.optimize.propose.data_summary import MOST_BATCHES, SummariseData, summary_job
from tuneful.optimize.propose.describe import examples_text, program_text, rows_of, signature_text
from tuneful.optimize.propose.instructions import TIPS, WriteInstructions, fresh
from tuneful.optimize.space import Axis, Space, sized
from tuneful.optimize.trial import Brief, Candidate, Job, State
from tuneful.program.module import Module
from tuneful.program.parameter import checked_whole

#: Examples that a proposal is shown.
_SHOWN = 3


@dataclass(frozen=True)
class Grounded:
    """What the proposals are written from. The names are those of the recipes' arguments.

    Args:
        number: proposals for each predictor.
        program_aware_proposer: show the outline of the program.
        data_aware_proposer: show a summary of the data.
        tip_aware_proposer: give each proposal a tip how to write.
        fewshot_aware_proposer: show examples: of a demo set, and rows where it has none.
        view_data_batch_size: rows of a batch of the summary.
    """

    number: int
    program_aware_proposer: bool = True
    data_aware_proposer: bool = True
    tip_aware_proposer: bool = True
    fewshot_aware_proposer: bool = True
    view_data_batch_size: int = 10

    def __post_init__(self) -> None:
        checked_whole("view_data_batch_size", self.view_data_batch_size)

    def proposers(self, temperature: float) -> dict[str, Module]:
        """Return the programs that propose, for a recipe's `proposers`."""
        return {"data summary": SummariseData(), "instructions": WriteInstructions(temperature)}

    def calls(self, brief: Brief) -> dict[str, tuple[int, int]]:
        """Return the calls that the proposals take, fewest and most, by the name of the job."""
        steps = len(self._steps(brief))
        if not self.number or not steps:
            return {}
        batches = min(MOST_BATCHES, -(-len(brief.trainset) // self.view_data_batch_size))
        summary = {"data summary": (batches, batches)} if self.data_aware_proposer else {}
        return {**summary, "instructions": (self.number * steps, self.number * steps)}

    def start(self, brief: Brief) -> State:
        """Return the first state: no batch read, nothing written."""
        return {"read": 0, "summary": "", "texts": None if self.number and self._steps(brief) else {}}

    def jobs(self, brief: Brief, state: State, sets: Sequence[Candidate]) -> list[Job]:
        """Return the next batch to summarise; after the last, the instructions to write.

        Args:
            brief: program and rows.
            state: the state.
            sets: demo sets; each proposal is shown examples of another one.
        """
        if state["texts"] is not None:
            return []
        if self.data_aware_proposer:
            batch = summary_job(brief, state["read"], state["summary"], size=self.view_data_batch_size)
            if batch is not None:
                return [batch]
        return [self._job(brief, state, step, i, sets) for step in self._steps(brief) for i in range(self.number)]

    def done(self, brief: Brief, state: State, results: Sequence[tuple[Job, Any]]) -> State:
        """Take the summary, or the instructions; what failed is left out."""
        first, found = results[0]
        if first.name == "data summary":
            summary = state["summary"] if found is None else found["summary"]
            return {**state, "read": state["read"] + 1, "summary": summary}
        texts = {
            path: fresh([r for job, r in results if job.inputs["step"] == step], [brief.parameters[path].value])
            for step, path in self._steps(brief).items()
        }
        return {**state, "texts": texts}

    def axes(self, brief: Brief, state: State) -> Space:
        """Return an axis for each predictor: its instructions as they are, and those that were written."""
        texts = state["texts"] or {}
        return sized(Axis.of(path, brief.parameters[path].value, found) for path, found in texts.items())

    def _steps(self, brief: Brief) -> dict[str, str]:
        """Return the predictors whose instructions are free, with the paths of these."""
        paths = {step: f"{step}.instructions".lstrip(".") for step in brief.signatures}
        return {step: path for step, path in paths.items() if brief.tunable(path)}

    def _job(self, brief: Brief, state: State, step: str, number: int, sets: Sequence[Candidate]) -> Job:
        signature = brief.signatures[step]
        known = {"task": signature_text(signature), "data_summary": state["summary"]}
        if self.program_aware_proposer and brief.student is not None:
            known["program"] = program_text(brief.student, step)
        if self.fewshot_aware_proposer:
            own = [shown for s in sets if (shown := s.get(f"{step}.demos".lstrip(".")))]
            rows = brief.stream(f"shown {number}/{step}").sample(brief.trainset, min(_SHOWN, len(brief.trainset)))
            known["examples"] = examples_text(own[number % len(own)][:_SHOWN] if own else rows_of(signature, rows))
        if self.tip_aware_proposer:
            tips = brief.stream(f"tips/{step}").sample(list(TIPS.values()), len(TIPS))
            known["tip"] = tips[number % len(tips)]
        return Job("instructions", {**known, "sample": number, "step": step})
