"""Record: a rollout as JSON values, as the journal keeps it. The loop, the recipes and the report see only these."""

from __future__ import annotations

from typing import Any

from tuneful.evaluate.rollout import Row
from tuneful.optimize.evidence import outputs_of
from tuneful.spec.example import Example
from tuneful.wire.response import Usage


def to_record(row: Row) -> dict[str, Any]:
    """Return the record of a row."""
    steps = [
        {
            "path": s.path,
            "inputs": Example(s.inputs).to_dict(),
            "outputs": Example(s.outputs).to_dict(),
            "model": s.model,
            "noted": s.noted,
            **({"superseded": True} if s.superseded else {}),
            **({"correction": Example(s.correction).to_dict()} if s.correction else {}),
        }
        for s in row.trace
    ]
    return {
        "score": row.score,
        "status": row.status,
        "feedback": row.feedback,
        **({"feedback_by_step": row.feedback_by_step} if row.feedback_by_step else {}),
        "error": row.error,
        "seconds": round(row.seconds, 4),
        "usage": row.usage.to_json(),
        "needs": row.trace.needs.to_json(),
        "outputs": outputs_of(row.prediction),
        "steps": steps,
        **({"events": dict(row.trace.events)} if row.trace.events else {}),
    }


def taken_over(record: dict[str, Any], run: str) -> dict[str, Any]:
    """Return a record of another run for this one's journal: who made it, and that this run paid nothing for it."""
    return {**record, "usage": Usage().to_json(), "from": run}
