"""SummariseData: what a data set is like, for a proposer that cannot be shown all of it."""

from __future__ import annotations

from tuneful.optimize.propose.describe import examples_text
from tuneful.optimize.propose.proposer import Proposer
from tuneful.optimize.trial import Brief, Job
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.prediction import Prediction
from tuneful.spec.signature import Signature

#: Batches of rows that are read.
MOST_BATCHES = 3


class Summarise(Signature):
    """Describe a data set to somebody who shall write instructions for solving it and sees only a few rows of it.

    Say in a few sentences what the rows are about, what the inputs look like, and what the right outputs look like:
    their form, their length, which values they take. Say what is easily got wrong. Where a summary of earlier rows is
    given, correct and complete it with what the new rows show.
    """

    examples: str = InputField(desc="rows of the data set, with the right outputs")
    earlier: str = InputField(desc="summary of earlier rows")
    summary: str = OutputField(desc="the summary, in at most six sentences")


class SummariseData(Proposer):
    """Summarise some rows, and what was said of earlier ones.

    >>> from tuneful.testing import DummyLM
    >>> summarise = SummariseData().using(lm=DummyLM([{"summary": "Sums of two digits."}]))
    >>> summarise(examples="question: 1+1?").summary
    'Sums of two digits.'

    Args:
        temperature: of the predictor.

    Cost: 1 call for each run; `summary_job` makes one run of each batch of rows.

    Source: Opsahl-Ong et al. (2024), "Optimizing Instructions and Demonstrations for Multi-Stage Language Model
    Programs", section 4.1, and its appendix on the data summary. Deviation: a batch is read together with the summary
    so far, so that the last summary is the result.
    """

    _drivable = True

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__(Summarise, temperature, cuttable=("examples", "earlier"))

    async def forward(self, examples: str, earlier: str = "") -> Prediction:
        """Summarise.

        Args:
            examples: rows; see `describe.examples_text`.
            earlier: the summary so far.
        """
        return await self._ask(examples=examples, earlier=earlier)


def summary_job(
    brief: Brief, number: int, earlier: str, *, name: str = "data summary", size: int = 10, most: int = MOST_BATCHES
) -> Job | None:
    """Return the job that reads a batch of the search rows; None where enough was read.

    Args:
        brief: program and rows.
        number: of the batch, from 0 on.
        earlier: the summary of the batches before; "" where there is none.
        name: of the proposer.
        size: rows of a batch.
        most: batches.
    """
    order = brief.stream("data summary").sample(range(len(brief.trainset)), len(brief.trainset))
    rows = [brief.trainset[i] for i in order[number * size : (number + 1) * size]] if number < most else []
    return Job(name, {"examples": examples_text(rows), "earlier": earlier}) if rows else None
