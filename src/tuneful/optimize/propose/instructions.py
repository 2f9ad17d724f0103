"""WriteInstructions: new instructions for a step, from what it is, what its data look like, and what was tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tuneful.optimize.propose.proposer import Proposer
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature

#: Ways to write, by name. One for each proposal makes proposals differ more than chance alone does.
TIPS: dict[str, str] = {
    "none": "",
    "creative": "Try a way of putting it that nobody has tried yet.",
    "simple": "Be clear and brief: one or two sentences.",
    "description": "Describe in detail how to get from what is given to the answer.",
    "high_stakes": "Name a situation in which a wrong answer would do great harm, so that care is taken.",
    "persona": "Begin by saying who the model is: an expert in just this.",
}


class Instruct(Signature):
    """Write better instructions for one step of a program. A language model reads them before each case of the step.

    Find out what the step is for, what a right answer looks like and which cases are easily got wrong, and tell the
    model what it needs to know and to do. Where earlier instructions are shown with their scores, keep what the good
    ones do, leave what the bad ones do, and write something that none of them says. A higher score is better.

    The instructions must hold for every case: do not repeat an example or its answer. The names and types of the fields
    are shown to the model anyway. Write the instructions alone, as they shall be read.
    """

    task: str = InputField(desc="the step: its instructions as they are, and its fields")
    program: str = InputField(desc="the program that the step is part of")
    data_summary: str = InputField(desc="what is known of the data")
    examples: str = InputField(desc="cases of the step, or of the program")
    tried: str = InputField(desc="instructions that were tried, with their scores, the best last")
    tip: str = InputField(desc="how to write this time")
    instructions: str = OutputField(desc="the new instructions")


class WriteInstructions(Proposer):
    """Write instructions for a step. Inputs that nothing is known of are "".

    >>> from tuneful.testing import DummyLM
    >>> write = WriteInstructions().using(lm=DummyLM([{"instructions": '"Name the capital."'}]))
    >>> write(task="country -> capital").instructions
    'Name the capital.'

    Args:
        temperature: of the predictor.

    Cost: 1 call for each run.

    Source: Yang et al. (2023), "Large Language Models as Optimizers", section 3, for attempts in order of their scores;
    Opsahl-Ong et al. (2024), "Optimizing Instructions and Demonstrations for Multi-Stage Language Model Programs",
    section 4.1, for what it is grounded in, and for tips. Deviations: one call with all of it, where a call each
    describes program and step there; earlier attempts are shown too.
    """

    _drivable = True

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__(
            Instruct, temperature, cuttable=("program", "data_summary", "examples", "tried"), keep_end=("tried",)
        )

    async def forward(
        self,
        task: str,
        program: str = "",
        data_summary: str = "",
        examples: str = "",
        tried: str = "",
        tip: str = "",
    ) -> Prediction:
        """Write.

        Args:
            task: the step; see `describe.signature_text`.
            program: the outline of the program; see `describe.program_text`.
            data_summary: see `SummariseData`.
            examples: see `describe.examples_text`.
            tried: see `describe.attempts_text`.
            tip: one of `TIPS`, say.
        """
        said = await self._ask(
            task=task, program=program, data_summary=data_summary, examples=examples, tried=tried, tip=tip
        )
        return Prediction({"instructions": bare(said.instructions)})


def bare(text: str) -> str:
    """Return a text without blanks and quotes around all of it, which no instructions need."""
    text = text.strip()
    for quote in ('"', "'", "`"):
        if len(text) > 1 and text[0] == text[-1] == quote and quote not in text[1:-1]:
            text = text[1:-1].strip()
    return text


def fresh(results: Iterable[Mapping[str, Any] | None], known: Iterable[str], name: str = "instructions") -> list[str]:
    """Return the proposals that are new, in order: none is empty, none is known, none comes twice.

    Args:
        results: of the jobs; None is one that failed.
        known: texts that are there already.
        name: the output that holds the proposal.
    """
    seen = set(known)
    found: list[str] = []
    for result in results:
        text = "" if result is None else result[name]
        if text and text not in seen:
            seen.add(text)
            found.append(text)
    return found
