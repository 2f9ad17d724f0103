"""WriteWording: another label and description for a field, as the model is shown it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tuneful.optimize.propose.instructions import bare
from tuneful.optimize.propose.proposer import Proposer
from tuneful.spec.fields import Field, InputField, OutputField
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature

#: The words of a field: `label` and `desc`.
Words = dict[str, str]

#: Most characters of a label, and of a description.
_LABEL_CHARS = 60
_DESC_CHARS = 300
#: Most values that are named as the ones to choose from, and their characters; each must have occurred so often.
_CLASSES, _CLASSES_CHARS, _OFTEN = 100, 2_000, 3
#: Most words of an answer of which a description says how short it is.
_FEW_WORDS = 5


class Reword(Signature):
    """Choose better words for one field of a task. A language model reads them beside the field, in every case.

    The label is what the field is called, in one to four words. The description says in one short sentence what stands
    in it: for a field that is to be written, exactly which form is right (a word, a number, one of which values) and
    what does not belong in it. Where earlier words are shown with their scores, say something that they do not; a
    higher score is better. The words must hold for every case: do not give an answer away.
    """

    task: str = InputField(desc="the task: its instructions and all of its fields")
    examples: str = InputField(desc="cases of the task")
    field: str = InputField(desc="name of the field to find words for")
    tried: str = InputField(desc="words that were tried, with their scores, the best last")
    label: str = OutputField(desc="the label")
    description: str = OutputField(desc="the description, one short sentence")


class WriteWording(Proposer):
    """Write a label and a description for a field.

    >>> from tuneful.testing import DummyLM
    >>> write = WriteWording().using(lm=DummyLM([{"label": "Capital:", "description": "The city's name alone."}]))
    >>> found = write(task="country -> capital", field="capital")
    >>> found.label, found.description
    ('Capital', "The city's name alone.")

    Args:
        temperature: of the predictor.

    Cost: 1 call for each run.
    """

    _drivable = True

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__(Reword, temperature, cuttable=("examples", "tried"), keep_end=("tried",))

    async def forward(self, task: str, field: str, examples: str = "", tried: str = "") -> Prediction:
        """Write.

        Args:
            task: the step; see `describe.signature_text`.
            field: name of the field.
            examples: see `describe.examples_text`.
            tried: see `describe.attempts_text`.
        """
        said = await self._ask(task=task, examples=examples, field=field, tried=tried)
        label, description = _line(said.label).rstrip(" :."), _line(said.description)
        return Prediction(
            {
                "label": label if len(label) <= _LABEL_CHARS else "",
                "description": description if len(description) <= _DESC_CHARS else "",
            }
        )


def _line(text: str) -> str:
    return bare(" ".join(text.split()))


def new_words(results: Iterable[Mapping[str, Any] | None], now: Words, known: Iterable[Words]) -> list[Words]:
    """Return the words that are new, in order: each differs from those of the field, and from those known.

    Where a proposal has no label or no description that can be used, the field keeps its own.

    Args:
        results: of the jobs; None is one that failed.
        now: the words of the field as it is.
        known: words that were proposed before.
    """
    seen, found = [now, *known], list[Words]()
    for result in results:
        if result is not None:
            words = {"label": result["label"] or now["label"], "desc": result["description"] or now["desc"]}
            if words not in seen:
                seen.append(words)
                found.append(words)
    return found


def from_labels(field: Field, labels: Sequence[Any]) -> list[Words]:
    """Return words for a text field that its labels suggest, with no model asked: its values, or its form.

    Where a few values come again and again, they are named. What is always a number, a word or a few words is said to
    be one. A field of another type than text says all that by its type.

    >>> from tuneful.spec.signature import Signature
    >>> (field,) = Signature("text -> mood").output_fields.values()
    >>> [words["desc"] for words in from_labels(field, ["good", "bad", "good", "good", "bad", "bad"])]
    ['one of: bad, good', 'one word']

    Args:
        field: the field.
        labels: its values in the rows.
    """
    texts = [text.strip() for text in labels if isinstance(text, str) and text.strip()]
    if field.type is not str or not texts or len(texts) < len(labels):
        return []
    values, found = sorted(set(texts)), list[str]()
    named = ", ".join(values)
    if 1 < len(values) <= _CLASSES and len(named) <= _CLASSES_CHARS and len(texts) >= _OFTEN * len(values):
        found.append(f"one of: {named}")
    most = max(len(text.split()) for text in texts)
    if all(text.replace(",", "").lstrip("+-").replace(".", "", 1).isdigit() for text in texts):
        found.append("a number alone")
    elif most <= _FEW_WORDS:
        found.append("one word" if most == 1 else f"at most {most} words")
    said = f"{field.desc}; " if field.desc else ""
    return [{"label": field.label, "desc": f"{said}{form}"} for form in found]


def words_text(words: Words) -> str:
    """Return the words of a field as they are shown among attempts."""
    return f"label: {words['label']}\ndescription: {words['desc'] or 'none'}"
