"""TwoStepAdapter: a model answers in its own words, and a second one extracts the typed outputs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar

from tuneful.adapters.base import Adapter, Ask, Parsed, Plan, Section
from tuneful.adapters.compact import CompactAdapter
from tuneful.adapters.values import type_text
from tuneful.errors import UsageError
from tuneful.spec.fields import Field, InputField
from tuneful.spec.signature import Signature
from tuneful.spec.types import choices
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.response import Choice


class TwoStepAdapter(CompactAdapter):
    """The predictor's model answers freely; a second, cheaper one reads the outputs out of what it said.

    For reasoning models, which think better when they need not keep to a form. The first prompt holds instructions,
    inputs and what is wanted, in plain words. The second call is that of an ordinary predictor: it has the schema or
    the grammar that its backend enforces, and its own repair turn. Both are in the step's responses and usage, and
    every budget sees both. A listener hears the thoughts of the first model, and the fields from the second.

    Args:
        extraction_lm: the `tf.LM` that extracts. DSPy's name, `extraction_model`, is accepted too.
        extractor: its adapter, or the name of one; "auto" picks by what it can do.

    Raises:
        UsageError: no LM, or two.

    Cost: 2 calls; 1 more for each further sample, and 1 for an extraction that needed a repair turn.
    """

    name = "two_step"
    asks: ClassVar[bool] = True

    def __init__(
        self, extraction_lm: Any = None, extractor: Adapter | str = "auto", *, extraction_model: Any = None
    ) -> None:
        given = [lm for lm in (extraction_lm, extraction_model) if lm is not None]
        if len(given) != 1 or not hasattr(given[0], "complete"):
            raise UsageError(
                f"TwoStepAdapter takes one LM for the extraction, got {given or 'none'}. "
                "Write TwoStepAdapter(tf.LM('openai/gpt-4o-mini'))."
            )
        self.extraction_lm = given[0]
        self.extractor = extractor

    def constrain(self, signature: Signature, capabilities: Capabilities) -> Plan:
        """Return a plan that enforces nothing."""
        return Plan(signature)

    def system_text(self, plan: Plan) -> str:
        """Return the instructions and what the answer should say, in words."""
        wanted = "\n".join(f"- {_described(f)}" for f in plan.signature.output_fields.values())
        return (
            f"{plan.signature.instructions}\n\nAnswer in your own words, in any form. Your answer should say:\n{wanted}"
        )

    def partial(self, plan: Plan, text: str) -> list[Section]:
        """Say nothing: the fields come from the second model."""
        return []

    async def finish(self, plan: Plan, choice: Choice, ask: Ask) -> Parsed:
        """Have the second model extract the outputs."""
        extraction, given = _extraction(plan.signature)
        return await ask(self.extraction_lm, extraction, {given: choice.text}, self.extractor)

    def __repr__(self) -> str:
        return f"TwoStepAdapter({self.extraction_lm!r}, extractor={self.extractor!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TwoStepAdapter) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[Any, ...]:
        return id(self.extraction_lm), self.extractor


@lru_cache(maxsize=512)
def _extraction(signature: Signature) -> tuple[Signature, str]:
    """Return the signature of the second call, and the name of its input."""
    given = "text"
    while given in signature.fields:
        given += "_"
    found = signature.prepend(given, InputField(desc="an answer, in somebody's own words"), str)
    for name in signature.input_fields:
        found = found.delete(name)
    return found.with_instructions(
        "Extract the fields from the text. Take over what it says, and add nothing of your own."
    ), given


_WORDS = ((int, "a whole number"), (float, "a number"), (bool, "yes or no"), (str, ""))


def _described(field: Field) -> str:
    """Return what an output is, in words."""
    options = choices(field.type)
    if options:
        kind = "one of " + ", ".join(str(o) for o in options)
    else:
        words = next((words for kind, words in _WORDS if field.type is kind), None)
        kind = type_text(field).replace("JSON that fits", "what this schema names:") if words is None else words
    details = [d for d in (kind, field.constraint_text, field.desc) if d]
    return f"{field.label}: {'; '.join(details)}" if details else field.label
