"""Reflect: better instructions for a step, from runs of it and what was said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tuneful.optimize.propose.advice import run_text, steps_text
from tuneful.optimize.propose.describe import cut, program_text
from tuneful.optimize.propose.instructions import bare
from tuneful.optimize.propose.proposer import Proposer
from tuneful.optimize.trial import Brief
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature

#: Most characters of what the metric says of a case.
_FEEDBACK_CHARS = 2_000


class Improve(Signature):
    """Improve the instructions of one step of a program, from cases in which the program was run.

    A language model reads the instructions before each case of the step. First find out what went wrong, and why: what
    did the model not know, which rule did it miss, which form was wanted? What is said of a case often tells. Then
    write instructions that keep what works and say all that the model needs to do better: facts and rules that hold for
    other cases too, how to go about it, which form is right. Where other instructions were tried, do not repeat what
    did not help; a higher score is better.

    Most cases are not among these: do not give the answer of a single case. The names and types of the fields are shown
    to the model anyway. Write the instructions alone, as they shall be read.
    """

    task: str = InputField(desc="the step: its instructions as they are, and its fields")
    program: str = InputField(desc="the program that the step is part of")
    cases: str = InputField(desc="what each step was given and wrote, and what is said of the result")
    tried: str = InputField(desc="instructions that were tried in place of these, with their scores")
    diagnosis: str = OutputField(desc="what went wrong in the cases, and why")
    instructions: str = OutputField(desc="the new instructions")


class Reflect(Proposer):
    """Write better instructions for a step, from its runs and what the metric says of them.

    Use it where the metric gives feedback in words, or the rows have labels; with scores alone there is little to
    reflect on, and `WriteInstructions` writes as well.

    >>> from tuneful.testing import DummyLM
    >>> said = {"diagnosis": "It wrote a sentence.", "instructions": "Write the number alone."}
    >>> reflect = Reflect().using(lm=DummyLM([said]))
    >>> reflect(task="question -> answer", cases="answer: It is 2. Score 0: only the number").instructions
    'Write the number alone.'

    Args:
        temperature: of the predictor.

    Cost: 1 call for each run.

    Source: Agrawal et al. (2025), "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement Learning", section
    3.2. Deviations: the model writes down what went wrong before it writes instructions; it sees the program, the whole
    run and not the step alone, and what was tried already and did not help.
    """

    _drivable = True

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__(Improve, temperature, cuttable=("program", "cases", "tried"))

    async def forward(self, task: str, cases: str, program: str = "", tried: str = "") -> Prediction:
        """Write.

        Args:
            task: the step; see `advice.steps_text`.
            cases: see `cases_text`.
            program: the outline of the program; see `describe.program_text`.
            tried: see `describe.attempts_text`.
        """
        said = await self._ask(task=task, program=program, cases=cases, tried=tried)
        return Prediction({"diagnosis": said.diagnosis, "instructions": bare(said.instructions)})


def reflection_inputs(
    brief: Brief, step: str, now: str, cases: Iterable[Mapping[str, Any]], tried: str
) -> dict[str, Any]:
    """Return what a reflection is given.

    Args:
        brief: the program.
        step: path of the predictor whose instructions are to be improved.
        now: these, as they are.
        cases: runs; see `cases_text`.
        tried: what was tried in their place, as text.
    """
    return {
        "task": steps_text({step: brief.signatures[step].with_instructions(now)}),
        "program": "" if brief.student is None else program_text(brief.student, step),
        "cases": cases_text(cases, step),
        "tried": tried,
    }


def cases_text(cases: Iterable[Mapping[str, Any]], step: str) -> str:
    """Return runs of a program, each with what the metric says of it; the right labels where it says nothing.

    >>> run = {"steps": [{"path": "", "inputs": {"question": "1+1?"}, "outputs": {"answer": "3"}}], "score": 0.0}
    >>> print(cases_text([{**run, "labels": {"answer": "2"}}], ""))
    Case 1
    Step program
      given question: 1+1?
      wrote answer: 3
    Score 0
    Right is answer: 2

    Args:
        cases: `steps`, `score`, `labels`, and perhaps `feedback`, the metric's words on single steps `by_step`, and the
            `error` that ended the run.
        step: path of the step that is to be improved.
    """
    return "\n\n".join(f"Case {i}\n{_case_text(case, step)}" for i, case in enumerate(cases, 1))


def _case_text(case: Mapping[str, Any], step: str) -> str:
    said = case.get("by_step", {}).get(step) or case.get("feedback")
    right = [f"Right is {name}: {cut(value)}" for name, value in case["labels"].items()]
    told = [f"Feedback: {cut(said, _FEEDBACK_CHARS)}"] if said else right
    return "\n".join([run_text({**case, "feedback": None}), *told])
