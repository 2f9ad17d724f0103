"""MultiChainComparison: several attempts at an answer, compared before a final one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneful.errors import InputError
from tuneful.program.module import Module
from tuneful.program.parameter import checked_whole
from tuneful.program.predict import Predict
from tuneful.program.trace import note_event
from tuneful.spec.code import Reasoning
from tuneful.spec.example import Example
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.prediction import Completions, Prediction
from tuneful.spec.signature import Signature, ensure_signature

#: Fields of an attempt that hold its reasoning; the first that is there counts.
_THOUGHTS = ("rationale", "reasoning")
#: What the model is told of an attempt that could not be read.
_MISSING = "(missing: this attempt could not be read)"


class MultiChainComparison(Module):
    """Show a model M attempts at an answer, reasoning and all, and ask for a better one.

    >>> from tuneful.testing import DummyLM
    >>> compare = MultiChainComparison("question -> answer", M=2)
    >>> attempts = [{"reasoning": "2 and 2 is 4.", "answer": "4"}, {"reasoning": "2 and 2 is 22.", "answer": "22"}]
    >>> lm = DummyLM([{"rationale": "They are added.", "answer": "4"}])
    >>> compare.using(lm=lm)(attempts, question="2+2?").answer
    '4'

    Use it where answers are texts, which no vote can compare. Not with a small model, which seldom sees which attempt
    is wrong: vote with `SelfConsistency`.

    Args:
        signature: what the attempts answer.
        M: attempts.
        temperature: of the comparison.
        config: further sampling options, as for `Predict`.

    Attempts that could not be read are no reason to lose the others: the model is told that one is missing, and the
    trace counts it ("attempt missing"). They are the samples that a prediction of M samples lacks, which has two at
    least, and each None among the attempts, as `batch(..., return_failed_examples=True)` gives.

    Cost: 1 call for each run, beside what the attempts took.

    Source: Yoran et al. (2023), "Answering Questions by Meta-Reasoning over Multiple Chains of Thought", in the form
    that the field knows: the chains are inputs, and no evidence is retrieved for them.
    """

    _drivable = True

    def __init__(self, signature: Any, M: int = 3, temperature: float = 0.7, **config: Any) -> None:  # noqa: N803 (DSPy's)
        super().__init__()
        self.M = checked_whole("M", M)
        asked = ensure_signature(signature)
        self.outputs = tuple(asked.output_fields)
        for number in range(1, self.M + 1):
            field = InputField(desc="an attempt at the answer, which may be wrong")
            asked = asked.append(f"reasoning_attempt_{number}", field, str)
        weighing = OutputField(desc="compare the attempts: where they differ, and which steps are right")
        asked = _instructed(asked.prepend("rationale", weighing, Reasoning))
        self.predict = Predict(asked, temperature=temperature, **config)

    async def forward(self, completions: Any, **inputs: Any) -> Prediction:
        """Compare.

        Args:
            completions: M attempts: predictions or mappings of fields, `Completions`, or a prediction that has several.
                None stands for one that could not be read.
            inputs: what the attempts were given.

        Raises:
            InputError: there are not M attempts, none could be read, or one has none of the outputs. No model was
                called.
        """
        attempts = _rows(completions)
        if isinstance(completions, (Prediction, Completions)) and len(attempts) > 1:  # unreadable samples are not there
            attempts += [None] * (self.M - len(attempts))
        if len(attempts) != self.M:
            raise InputError(
                f"MultiChainComparison compares M={self.M} attempts and got {len(attempts)}. No model was called.",
                field="completions",
            )
        if all(row is None for row in attempts):
            raise InputError(
                f"none of the {self.M} attempts could be read, so there is nothing to compare. No model was called.",
                field="completions",
            )
        told = {f"reasoning_attempt_{i}": self._told(row, i) for i, row in enumerate(attempts, 1)}
        for _ in range(attempts.count(None)):
            note_event("attempt missing")
        found: Prediction = await self.predict.acall(**inputs, **told)
        return found

    def _told(self, row: Mapping[str, Any] | Example | None, number: int) -> str:
        """Return an attempt in words: its reasoning, then its outputs."""
        if row is None:
            return _MISSING
        said = {n: row[n] for n in self.outputs if n in row}
        if not said:
            raise InputError(
                f"attempt {number} has none of the outputs {', '.join(self.outputs)}: {row!r:.120}. "
                "No model was called.",
                field="completions",
            )
        thoughts = next((str(row[n]) for n in _THOUGHTS if n in row and n not in self.outputs and row[n]), "")
        fields = self.predict.signature.output_fields
        return "\n".join([*([thoughts] if thoughts else []), *(f"{fields[n].label}: {v}" for n, v in said.items())])


def _instructed(signature: Signature) -> Signature:
    return signature.append_instructions(
        "You are shown several attempts at this, any of which may be wrong. Compare them and give a better answer."
    )


def _rows(completions: Any) -> list[Any]:
    if isinstance(completions, Prediction):
        completions = completions.completions
    known = isinstance(completions, (Completions, Sequence)) and not isinstance(completions, str)
    if not known or not all(row is None or isinstance(row, (Mapping, Example)) for row in completions):
        raise InputError(
            f"MultiChainComparison takes a list of attempts, got {completions!r:.80}. No model was called.",
            field="completions",
        )
    return list(completions)
