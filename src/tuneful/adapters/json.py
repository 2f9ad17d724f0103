"""JSONAdapter: inputs and outputs as JSON objects, with a JSON schema where the backend takes one."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from typing import Any, ClassVar

import json_repair
import pydantic

from tuneful.adapters.base import Adapter, Parsed, Plan, Section, Values
from tuneful.adapters.chat import spoken, strip_thinking
from tuneful.adapters.json_prefix import members_begun
from tuneful.adapters.prefix import is_text
from tuneful.adapters.values import (
    ValueProblem,
    absent,
    describe,
    load_json,
    problems_of,
    read_value,
    to_json_text,
    without_titles,
)
from tuneful.spec.fields import Field
from tuneful.spec.signature import Signature
from tuneful.wire.capabilities import Capabilities

#: Opening braces that are tried: enough for those in the words before the object.
_MOST_OPENINGS = 20


class JSONAdapter(Adapter):
    """One JSON object in, one JSON object out; the choice for nested outputs and for models trained on JSON.

    Whatever a user's text holds, it stands inside a JSON string and can open nothing.
    """

    name: ClassVar[str] = "json"

    def constrain(self, signature: Signature, capabilities: Capabilities) -> Plan:
        """Return a plan with the schema of the output object."""
        if not capabilities.json_schema:
            return Plan(signature)
        return Plan(signature, json_schema=json.dumps(output_schema(signature)))

    def system_text(self, plan: Plan) -> str:
        """Return the instructions, the fields and the schema of the answer."""
        signature = plan.signature
        inputs = "\n".join(map(describe, signature.input_fields.values()))
        outputs = "\n".join(f"- {f.describe()}" for f in signature.output_fields.values())
        schema = json.dumps(output_schema(signature), ensure_ascii=False)
        return (
            f"{signature.instructions}\n\nYou are given a JSON object with:\n{inputs}\n\n"
            f"You answer with one JSON object and nothing else, with:\n{outputs}\n\nIts JSON schema is:\n{schema}"
        )

    def input_text(self, signature: Signature, values: Values) -> str:
        """Return the given inputs as a JSON object."""
        return _object(signature.input_fields, values)

    def output_text(self, signature: Signature, values: Values) -> str:
        """Return the outputs as a JSON object."""
        return _object(signature.output_fields, values)

    def parse(self, plan: Plan, text: str) -> Parsed:
        """Read the first JSON object of the answer, mending it where needed."""
        outputs = plan.signature.output_fields
        salvages: list[str] = []
        found = _read_object(strip_thinking(text, salvages), outputs, salvages)
        read: dict[str, Any] = {}
        problems: dict[str, str] = {}
        if found is None:
            problems = dict.fromkeys(outputs, "the answer is no JSON object")
            return Parsed({}, problems, tuple(salvages))
        by_name = {n.casefold(): v for n, v in found.items()}
        for name, field in outputs.items():
            if name in found or name.casefold() in by_name:
                value = found[name] if name in found else by_name[name.casefold()]
                _read_member(field, value, read, problems, salvages)
        absent(outputs, read, problems)
        return Parsed({n: read[n] for n in outputs if n in read}, problems, tuple(salvages))

    def partial(self, plan: Plan, text: str) -> list[Section]:
        """Read the members that have begun, as long as the object is sound JSON."""
        outputs = plan.signature.output_fields
        begun = members_begun(spoken(text), outputs, _MOST_OPENINGS)
        return [Section(m.name, m.text if is_text(outputs[m.name]) else "", m.closed) for m in begun]


def _object(fields: dict[str, Field], values: Values) -> str:
    members = [f"{json.dumps(n)}: {to_json_text(f, values[n])}" for n, f in fields.items() if n in values]
    return "{" + ", ".join(members) + "}"


def _read_member(field: Field, value: Any, read: dict[str, Any], problems: dict[str, str], salvages: list[str]) -> None:
    try:
        read[field.name] = field.adapter.validate_json(json.dumps(value))
        return
    except pydantic.ValidationError as error:
        problem = problems_of(error)
    try:
        if value is None:
            raise ValueProblem(problem)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        read[field.name] = read_value(field, text, salvages)
        if text is not value:
            salvages.append("value of another type")
    except ValueProblem:
        problems[field.name] = problem


def _read_object(text: str, names: Collection[str], salvages: list[str]) -> dict[str, Any] | None:
    with suppress(ValueError):
        whole = load_json(text)
        return whole if isinstance(whole, dict) else None
    if "{" not in text:
        return None
    salvages.append("json mended")
    for opening in islice(re.finditer(r"\{", text), _MOST_OPENINGS):
        with suppress(ValueError, RecursionError):
            found, _ = json.JSONDecoder().raw_decode(text, opening.start())
            if any(n in found for n in names):
                return dict(found)
    mended: Any = None
    with suppress(ValueError):
        mended = json_repair.loads(text[text.index("{") :], skip_json_loads=True)
    if isinstance(mended, list):
        mended = next((m for m in mended if isinstance(m, dict)), None)
    return mended if isinstance(mended, dict) else None


@lru_cache(maxsize=512)
def output_schema(signature: Signature) -> dict[str, Any]:
    """Return the JSON schema of the object that holds a signature's outputs."""
    fields: dict[str, Any] = {}
    for name, f in signature.output_fields.items():
        fields[f"f_{name}"] = (f.annotation, pydantic.Field(alias=name, description=f.desc or None))
    model = pydantic.create_model("Answer", __config__=pydantic.ConfigDict(arbitrary_types_allowed=True), **fields)
    schema = model.model_json_schema(by_alias=True)
    found: dict[str, Any] = without_titles(schema)
    return found
