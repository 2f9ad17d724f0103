"""Proposing: what teleprompters share that ask a model for proposals, by programs of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneful.errors import AdapterParseError, LMError, ProposalError, UsageError
from tuneful.evaluate.rollout import raise_if_must_act
from tuneful.optimize.identity import fingerprint
from tuneful.optimize.propose.proposal import checked_proposal
from tuneful.optimize.teleprompter import Teleprompter
from tuneful.optimize.trial import Brief, Job
from tuneful.program.lm import LM, lms_of
from tuneful.program.module import Module
from tuneful.program.running.runtime import context, rollout
from tuneful.program.vectors.embedder import Embedder


class Proposers(dict[str, Module]):
    """The programs that propose, by name. Each can be replaced; none can be added, since nobody would ask it."""

    def __setitem__(self, name: str, proposer: Module) -> None:
        """Replace a proposer.

        Raises:
            UsageError: there is none of that name, or it is no program.
        """
        if name not in self:
            raise UsageError(f"no proposer is called {name!r} here; those that are asked: {', '.join(self)}.")
        if not isinstance(proposer, Module):
            raise UsageError(f"a proposer is a program, a tf.Module; `proposers[{name!r}]` is {proposer!r:.80}.")
        super().__setitem__(name, proposer)


class Proposing(Teleprompter):
    """Base of such teleprompters. A job's name is the proposer's, its inputs are the proposer's, `sample` and `step`.

    Proposers are ordinary programs: declared by signatures, and so compiled like any other where somebody has rows
    for them: `teleprompter.proposers["instructions"] = compiled`.

    Attributes:
        prompt_model: the LM that proposes; None is the configured one.
        proposers: the programs that propose, by name.
    """

    prompt_model: LM | None = None
    proposers: Proposers

    def settings(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        return {name: value for name, value in super().settings().items() if name != "proposers"}

    async def work(self, brief: Brief, job: Job) -> Mapping[str, Any]:
        """Ask the proposer; return its outputs as JSON.

        Another `sample` is another answer to the same inputs; `step` is for the recipe alone.

        Raises:
            AdapterParseError, LMError: the model failed.
            ProposalError: the proposer raised, or gave something that is no proposal.
        """
        inputs = {name: value for name, value in job.inputs.items() if name not in ("sample", "step")}
        proposer = self.proposers[job.name]
        with context(**self._ambient()), rollout(job.inputs.get("sample", 0)):
            try:
                return checked_proposal(job.name, await proposer.acall(**inputs))
            except (AdapterParseError, LMError, ProposalError):
                raise
            except (Exception, SystemExit) as error:  # a proposer may be the user's own code
                raise_if_must_act(error)
                said = f"the proposer `{job.name}` raised {type(error).__name__}: {error}"
                raise ProposalError(said, proposer=job.name) from error

    def asks(self, brief: Brief) -> list[LM | Embedder]:
        """Return the LMs of the proposers that may be asked."""
        asked = [self.proposers[name] for name in self.proposals(brief) if name in self.proposers]
        return list(lms_of(asked, self.prompt_model))

    def decides(self, job: Job) -> Any:
        """Return the proposer: its code, its parameters and its model."""
        with context(**self._ambient()):
            return fingerprint(self.proposers[job.name])

    def _ambient(self) -> dict[str, Any]:
        return {"lm": self.prompt_model} if self.prompt_model is not None else {}
