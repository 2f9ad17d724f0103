"""InduceRules: what rows with right answers have in common, as rules to follow."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tuneful.optimize.propose.proposer import Proposer
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature

#: What stands before a rule in a list.
_MARK = re.compile(r"^\s*(?:[-*•]|\(?\d+[.):]|#+|rule\s+\d+\s*[.:])\s*", re.IGNORECASE)


class Induce(Signature):
    """Find the rules by which the right answers of a task come from what is given, from solved cases.

    Compare the cases: what do those with the same answer share, what decides between two answers, which form do all
    answers have? Write rules that help with cases that are not among these: each says what to do, or when to answer
    what. No rule is about a single case. The most useful rules come first.
    """

    task: str = InputField(desc="the task: its instructions and its fields")
    examples: str = InputField(desc="cases with their right answers")
    number: int = InputField(desc="how many rules, at most")
    rules: str = OutputField(desc="the rules, one on each line")


class InduceRules(Proposer):
    r"""Write rules from solved cases.

    >>> from tuneful.testing import DummyLM
    >>> induce = InduceRules().using(lm=DummyLM([{"rules": "1. Add both numbers.\n2. Write digits."}]))
    >>> induce(task="question -> answer", examples="question: 1+1?\nanswer: 2").rules
    ['Add both numbers.', 'Write digits.']

    Args:
        temperature: of the predictor.

    Cost: 1 call for each run.

    Source: Honovich et al. (2022), "Instruction Induction: From Few Examples to Natural Language Task Descriptions",
    section 2, with rules in place of one instruction.
    """

    _drivable = True

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__(Induce, temperature, cuttable=("examples",))

    async def forward(self, task: str, examples: str, number: int = 10) -> Prediction:
        """Write.

        Args:
            task: the step; see `describe.signature_text`.
            examples: cases with right answers; see `describe.examples_text`.
            number: most rules.
        """
        said = await self._ask(task=task, examples=examples, number=number)
        lines = (_MARK.sub("", line).strip() for line in said.rules.splitlines())
        return Prediction({"rules": list(dict.fromkeys(line for line in lines if line))[:number]})


def with_rules(instructions: str, rules: Sequence[str]) -> str:
    """Return instructions with rules after them; without any rule, as they are."""
    if not rules:
        return instructions
    return "\n".join([f"{instructions}\n\nFollow these rules:", *(f"- {rule}" for rule in rules)])
