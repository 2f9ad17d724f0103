"""What an answer and its repair say together."""

from __future__ import annotations

from dataclasses import replace

from tuneful.adapters.base import Parsed
from tuneful.spec.signature import Signature


def mended(signature: Signature, first: Parsed, second: Parsed) -> Parsed:
    """Return the fields of the answer to a repair turn, and where it has none, those of the answer before it.

    A field that was read well is never lost: a model that is told of one field's fault often gives only that one again.
    A default, which stands for what an answer leaves out, does not replace a value either.
    """
    fields = dict(second.fields)
    for name, field in signature.output_fields.items():
        if name in first.fields and (name not in fields or (field.optional and fields[name] == field.absent_value())):
            fields[name] = first.fields[name]
    problems = {n: p for n, p in second.problems.items() if n not in fields}
    return replace(second, fields={n: fields[n] for n in signature.output_fields if n in fields}, problems=problems)
