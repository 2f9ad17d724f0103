"""SelfConsistency: several samples of a program, and the answer that most of them give."""

from __future__ import annotations

from typing import Any

from tuneful.errors import DataError, UsageError
from tuneful.modules.attempt import Attempt, attempted, sampled
from tuneful.modules.chain_of_thought import ChainOfThought
from tuneful.modules.majority import majority
from tuneful.program.module import Module
from tuneful.program.parameter import checked_whole
from tuneful.program.running.concurrency import gather_bounded, in_flight
from tuneful.spec.prediction import Prediction


class SelfConsistency(Module):
    """Run a program n times, sampled anew each time, and return the prediction whose answer is the most frequent one.

    >>> from tuneful.testing import DummyLM
    >>> vote = SelfConsistency("question -> answer", n=3)
    >>> said = [{"reasoning": "r", "answer": a} for a in ("4", "5", "4")]
    >>> vote.using(lm=DummyLM(said))(question="2+2?").answer
    '4'

    Use it where the answer is short and has one form: a number, a label, a name. Not for free text, of which no two
    samples are equal: compare those with `MultiChainComparison`, or rate them with `BestOfN`.

    Args:
        module_or_signature: a program, or a signature, which is asked with `ChainOfThought`.
        n: samples. They run at once, and each is another sample to the response cache too.
        temperature: for the predictors that have none of their own.
        field: the field that votes; by default the last one.

    Raises (when it runs):
        UsageError: all predictors have temperature 0; or the program returns no prediction.

    Cost: n runs of the program. A sample that fails does not vote, and is counted in the trace ("attempt failed");
    where all fail, the last error is raised.

    Source: Wang et al. (2022), "Self-Consistency Improves Chain of Thought Reasoning in Language Models", section 2:
    the unweighted vote. Answers are compared without case, articles and punctuation.
    """

    def __init__(
        self, module_or_signature: Any, n: int = 5, temperature: float = 0.7, field: str | None = None
    ) -> None:
        super().__init__()
        given = module_or_signature
        self.module = given if isinstance(given, Module) else ChainOfThought(given)
        self.n = checked_whole("n", n)
        if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not 0 < temperature <= 5:
            raise UsageError(f"`temperature` is {temperature!r}; expected a number above 0, at most 5.")
        self.temperature = temperature
        self.field = field

    async def forward(self, **inputs: Any) -> Prediction:
        """Run, and vote. `completions` holds all that voted, the winner first."""
        program = sampled(self.module, self.temperature, differing=self.n > 1)

        async def one(number: int) -> Attempt:
            return await attempted(program, inputs, number)

        attempts: list[Attempt] = await gather_bounded(range(1, self.n + 1), one, in_flight(None, program))
        voters = [a for a in attempts if a.error is None]
        if not voters:
            raise attempts[-1].error or AssertionError("an attempt without a prediction has an error")
        winner = majority([_checked(a.prediction, self.field) for a in voters], field=self.field)
        for attempt in attempts:
            if attempt.prediction is not winner:
                attempt.supersede()
        others = [a.prediction for a in voters if a.prediction is not winner]
        return Prediction.from_completions([dict(p.items()) for p in (winner, *others)])


def _checked(prediction: Any, field: str | None) -> Prediction:
    if not isinstance(prediction, Prediction):
        raise UsageError(f"SelfConsistency votes over predictions, and the program returned {prediction!r:.80}.")
    if field is not None and field not in prediction:
        raise DataError(f"the prediction has no field `{field}` to vote with. It has: {', '.join(prediction)}.")
    return prediction
