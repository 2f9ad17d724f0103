"""The demo's program, metric and data: messages to a shop, in four languages, sorted and summarised into fields."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Literal

from tuneful.evaluate.metrics.exact import em_score
from tuneful.evaluate.score import Score
from tuneful.program.module import Module
from tuneful.program.predict import Predict
from tuneful.spec.example import Example
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature

#: Rows of the data set that the search may see; the others are held out.
SEARCH_ROWS = 320


class FindLanguage(Signature):
    """Say in which language the customer writes."""

    message: str = InputField()
    language: Literal["english", "french", "german", "spanish"] = OutputField()


class FindProduct(Signature):
    """Name the product that the customer writes about, in the words of the message."""

    message: str = InputField()
    language: str = InputField()
    product: str = OutputField(max_length=60)


class FrontDesk(Module):
    """Which desk answers a message (by its language), and about which product."""

    def __init__(self) -> None:
        super().__init__()
        self.find_language = Predict(FindLanguage, max_tokens=40)
        self.find_product = Predict(FindProduct, max_tokens=40)

    async def forward(self, message: str) -> Prediction:
        """Find the language, then the product."""
        language = (await self.find_language.acall(message=message)).language
        product = (await self.find_product.acall(message=message, language=language)).product
        return Prediction(language=language, product=product)


def fields_right(example: Example, prediction: Prediction, trace: Any = None) -> Score:  # noqa: ARG001
    """Return the share of the two fields that are right."""
    parts = {
        "language": float(prediction.language == example.language),
        "product": float(em_score(prediction.product, example.product)),
    }
    return Score(sum(parts.values()) / len(parts), parts=parts)


def messages() -> tuple[list[Example], list[Example]]:
    """Return the rows to search on and the held-out rows."""
    text = resources.files("tuneful.demo").joinpath("messages.jsonl").read_text(encoding="utf-8")
    rows = [Example(json.loads(line)).with_inputs("message") for line in text.splitlines()]
    return rows[:SEARCH_ROWS], rows[SEARCH_ROWS:]
