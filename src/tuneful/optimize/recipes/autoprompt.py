"""AutoPrompt: the words by which the model is shown each field, one field after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tuneful.errors import UsageError
from tuneful.optimize.propose.describe import attempts_text, examples_text, rows_of, signature_text
from tuneful.optimize.propose.proposing import Proposers
from tuneful.optimize.propose.wording import WriteWording, new_words, words_text
from tuneful.optimize.strategies.ascent import Ascent
from tuneful.optimize.trial import Brief, Candidate, Job
from tuneful.program.lm import LM
from tuneful.program.module import Module
from tuneful.program.parameter import checked_whole
from tuneful.spec.signature import Signature

#: Rows that a proposal is shown: the same each time, so that the prefix cache serves them.
_SHOWN = 5


class AutoPrompt(Ascent):
    """Find better labels and descriptions for the fields of each predictor.

    What a field is called and said to hold often decides whether the answer has the right form: `answer` may be a word
    or a paragraph. In each round `breadth` labels and descriptions are proposed for every field; the fields have their
    turns, with the others at their best, and the candidates race. Use it where answers are right in substance and wrong
    in form, and where prompts must stay short: it adds some words, no demos and no further instructions. Names and
    types of fields are never changed, so that the code around a program stays as it is.

    Args:
        metric: judges a run.
        prompt_model: LM that writes the words; None is the configured one.
        fields: which fields: "outputs", "inputs" or "all".
        breadth: words for each field that join in a round; the original ones count in the first one.
        depth: rounds.
        init_temperature: temperature of the proposals.
        num_threads: rollouts in flight; by default the setting.

    Raises:
        UsageError: `breadth` below 2, `depth` below 1, `fields` is none of the three.

    Cost: fields x `breadth` calls of the prompt model a round, at most; from 16 rollouts for each candidate to as many
    as there are rows, with at most fields x `breadth` x `depth` x (`depth` + 1) / 2 candidates; then 2 runs for each
    held-out row.

    Source: Shin et al. (2020), "AutoPrompt: Eliciting Knowledge from Language Models with Automatically Generated
    Prompts", section 2, for prompts found by replacing one piece after the other. Deviations: the pieces are the words
    of fields, where they are single tokens there, and a model proposes them, where gradients do there, which a hosted
    model does not give.
    """

    def __init__(
        self,
        metric: Callable[..., Any] | Module,
        prompt_model: LM | None = None,
        fields: str = "outputs",
        breadth: int = 5,
        depth: int = 2,
        init_temperature: float = 1.0,
        num_threads: int | None = None,
    ) -> None:
        if fields not in tuple(_CHOSEN):
            raise UsageError(f"`fields` is {fields!r}; expected one of {', '.join(map(repr, _CHOSEN))}.")
        self.metric = metric
        self.prompt_model = prompt_model
        self.fields = fields
        self.breadth = checked_whole("breadth", breadth, 2)
        self.depth = checked_whole("depth", depth)
        self.init_temperature = init_temperature
        self.num_threads = num_threads
        self.proposers = Proposers({"wording": WriteWording(init_temperature)})

    _proposal = "wording"

    def _slots(self, brief: Brief) -> list[str]:
        """Return the fields that may be reworded, as the path of the parameter, a colon and the field's name."""
        free = [p.path for p in brief.parameters.values() if p.kind == "wording" and not p.frozen]
        return [f"{path}:{name}" for path in free for name in _CHOSEN[self.fields](_signature(brief, path))]

    def _job(self, brief: Brief, slot: str, attempts: Sequence[tuple[Any, float | None]], sample: int) -> Job:
        path, _, name = slot.rpartition(":")
        signature, now = _signature(brief, path), brief.parameters[path].value[name]
        rows = brief.trainset
        shown = brief.stream(f"shown for {path}").sample(rows, min(_SHOWN, len(rows)))
        given = {
            "task": signature_text(signature),
            "field": name,
            "examples": examples_text(rows_of(signature, shown)),
            "tried": attempts_text((words_text(words or now), score) for words, score in attempts),
        }
        return Job("wording", {**given, "sample": sample})

    def _values(self, brief: Brief, slot: str, results: Sequence[Any], known: Sequence[Any]) -> list[Any]:
        path, _, name = slot.rpartition(":")
        return new_words(results, brief.parameters[path].value[name], known)

    def _candidate(self, brief: Brief, values: Mapping[str, Any]) -> Candidate:
        """Return the wording of each predictor with the new words of its fields."""
        candidate: Candidate = {}
        for slot, words in values.items():
            path, _, name = slot.rpartition(":")
            candidate[path] = {**candidate.get(path, brief.parameters[path].value), name: words}
        return candidate


def _signature(brief: Brief, path: str) -> Signature:
    return brief.signatures[path.removesuffix("wording").removesuffix(".")]


_CHOSEN: dict[str, Callable[[Signature], Mapping[str, Any]]] = {
    "outputs": lambda signature: signature.output_fields,
    "inputs": lambda signature: signature.input_fields,
    "all": lambda signature: signature.fields,
}
