"""A recipe's jobs, done once each: their results are kept in the journal, with what they cost."""

from __future__ import annotations

import logging
import time
from typing import Any

from tuneful.backends.budget import Meter
from tuneful.backends.metered import current_phase, metered, phase
from tuneful.errors import AdapterParseError, LMError, ProposalError
from tuneful.evaluate.rollout import MUST_ACT
from tuneful.optimize.chronicle import Chronicle
from tuneful.optimize.facts import hash_of
from tuneful.optimize.recipe import Recipe
from tuneful.optimize.trial import Brief, Job
from tuneful.program.module import Module
from tuneful.program.trace import recording
from tuneful.store.journal import Journal
from tuneful.wire.response import Usage

_log = logging.getLogger(__name__)


async def result_of(
    job: Job, recipe: Recipe, brief: Brief, journal: Journal, meter: Meter, chronicle: Chronicle
) -> Any:
    """Return the result of a job, from the journal or by doing it; None where its model, or a proposer, gave none.

    Such a failure is not kept, so that a resumed run tries it again; it is counted in the report. So is what did not go
    plainly in a job that succeeded: repair turns, truncated answers.

    Raises what the caller must act on (`MUST_ACT`): without a key, say, every further proposal would fail as well.
    """
    key = hash_of([type(recipe).__qualname__, job.name, dict(job.inputs), recipe.decides(job)])
    record = journal.read(key)
    if record is None and (other := journal.of_others(key)) is not None:
        record = {**other[1], "usage": Usage().to_json()}  # that run has paid for it
        journal.write(key, record)
    with phase(job.name):
        if record is not None and (record["result"] is None or recipe.usable(record["result"])):
            meter.restore(Usage(**record["usage"]), current_phase())
            chronicle.job(job, record.get("noted", {}))
            chronicle.expect(0)  # what was paid before is of use
            return record["result"]
        own, begun = Meter(), time.monotonic()
        with recording(Module()) as asked:
            try:
                with metered(own):
                    result = await recipe.work(brief, job)
            except MUST_ACT:
                raise
            except (AdapterParseError, LMError, ProposalError) as error:
                chronicle.warnings[f"{job.name} failed"] += 1
                traced = error if isinstance(error, ProposalError) else None  # it is somebody's own code
                _log.warning("%s failed: %s", job.name, error, exc_info=traced)
                return None
            finally:
                chronicle.job(job, asked.trace.noted)
    told = {"usage": own.usage.to_json(), "seconds": time.monotonic() - begun, "noted": dict(asked.trace.noted)}
    journal.write(key, {"job": job.name, "result": result, **told})
    return result
