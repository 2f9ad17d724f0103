"""ChainOfThought: reason in words before the answer."""

from __future__ import annotations

from typing import Any

from tuneful.program.module import Module
from tuneful.program.predict import Predict
from tuneful.spec.code import Reasoning
from tuneful.spec.fields import OutputField
from tuneful.spec.signature import ensure_signature


class ChainOfThought(Module):
    """Ask for reasoning first, then for the outputs of the signature.

    >>> from tuneful.testing import DummyLM
    >>> answer = ChainOfThought("question -> answer")
    >>> answer.using(lm=DummyLM([{"reasoning": "1 and 1 is 2.", "answer": "2"}]))(question="1+1?").reasoning
    '1 and 1 is 2.'

    Use it where a step needs several facts or steps of arithmetic. Not for plain look-ups or labels with a small
    model: reasoning costs tokens, and a model of a few hundred million parameters seldom gains from it.

    A model that reasons by itself is not asked to do so once more: `prediction.reasoning` holds its own thoughts (""
    where its provider does not show them). Whether it does, its capabilities say, and with some `reasoning_effort`.

    Args:
        signature: a string, a class signature, a typed function or a `Signature`.
        rationale_field: declaration of the reasoning field, in place of the usual one. It is always asked for.
        native: whether the thoughts of a model that reasons by itself are enough; False always asks for the field.
        config: sampling options, as for `Predict`.

    Cost: 1 call for each run.

    Source: Wei et al. (2022), "Chain-of-Thought Prompting Elicits Reasoning in Large Language Models"; here without
    hand-written chains: demos come from a teleprompter (Khattab et al. (2023), section 3).
    """

    _drivable = True

    def __init__(self, signature: Any, rationale_field: Any = None, *, native: bool = True, **config: Any) -> None:
        super().__init__()
        field = rationale_field or OutputField(desc="think step by step towards the answer")
        type_ = Reasoning if native and rationale_field is None else None
        self.predict = Predict(ensure_signature(signature).prepend("reasoning", field, type_), **config)

    async def forward(self, **inputs: Any) -> Any:
        """Ask; see `Predict.forward` for what is raised."""
        return await self.predict.acall(**inputs)
