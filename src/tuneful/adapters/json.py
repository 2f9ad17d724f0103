"""JSONAdapter: inputs and outputs as JSON objects, with a JSON schema where the backend takes one."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

import pydantic

from tuneful.adapters import lark
from tuneful.adapters.base import Adapter, Parsed, Plan, Section, Values
from tuneful.adapters.json_prefix import members_begun
from tuneful.adapters.loose import read_without_marks
from tuneful.adapters.objects import MOST_OPENINGS, read_members, read_object
from tuneful.adapters.prefix import is_text
from tuneful.adapters.thinking import spoken, strip_thinking
from tuneful.adapters.values import absent, describe, outline, to_json_text, without_titles
from tuneful.spec.fields import Field
from tuneful.spec.signature import Signature
from tuneful.wire.capabilities import Capabilities

#: JSON that is no text.
_NO_TEXT = re.compile(r"\s*(?:[{\[]|null\s*\Z)")


class JSONAdapter(Adapter):
    """One JSON object in, one JSON object out; the choice for nested outputs and for models trained on JSON.

    Whatever a user's text holds, it stands inside a JSON string and can open nothing.
    """

    name = "json"

    def constrain(self, signature: Signature, capabilities: Capabilities) -> Plan:
        """Return a plan with the schema of the output object."""
        if capabilities.grammar == "lark":  # a grammar allows no blanks, in which a small model may lose itself
            return Plan(
                signature,
                grammar=lark.json_object(
                    signature.output_fields, lark.shortness(capabilities, signature.output_fields)
                ),
            )
        if not capabilities.json_schema:
            return Plan(signature)
        return Plan(signature, json_schema=json.dumps(output_schema(signature)))

    def system_text(self, plan: Plan) -> str:
        """Return the instructions, the fields and the schema of the answer."""
        signature = plan.signature
        inputs = "\n".join(map(describe, signature.input_fields.values()))
        outputs = "\n".join(map(outline, signature.output_fields.values()))
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
        """Read the first JSON object of the answer that has any of the fields, mending it where needed."""
        outputs = plan.signature.output_fields
        salvages: list[str] = []
        body = strip_thinking(text, salvages, outputs)
        found = read_object(body, outputs, salvages)
        if found is not None:
            read, problems = read_members(found, outputs, salvages)
        else:
            refused = len(outputs) == 1 and _NO_TEXT.match(body) and is_text(next(iter(outputs.values())))
            bare = None if refused else "value without an object"
            read, problems = read_without_marks(body, text, outputs, salvages, bare=bare)
        if found is None and not read and not problems and "{" not in body:
            return Parsed({}, dict.fromkeys(outputs, "the answer is no JSON object"), tuple(salvages))
        if len(read) < len(outputs):
            absent(outputs, read, problems)
            read = {n: read[n] for n in outputs if n in read}
        return Parsed(read, problems, tuple(salvages))

    def partial(self, plan: Plan, text: str) -> list[Section]:
        """Read the members that have begun, as long as the object is sound JSON."""
        outputs = plan.signature.output_fields
        begun = members_begun(spoken(text, outputs), outputs, MOST_OPENINGS)
        return [Section(m.name, m.text if is_text(outputs[m.name]) else "", m.closed) for m in begun]


def _object(fields: dict[str, Field], values: Values) -> str:
    members = [f"{json.dumps(n)}: {to_json_text(f, values[n])}" for n, f in fields.items() if n in values]
    return "{" + ", ".join(members) + "}"


@lru_cache(maxsize=512)
def output_schema(signature: Signature) -> dict[str, Any]:
    """Return the JSON schema of the object that holds a signature's outputs."""
    found: dict[str, Any] = without_titles(_answer_model(signature).model_json_schema(by_alias=True))
    return found


def _answer_model(signature: Signature) -> type[pydantic.BaseModel]:
    fields: dict[str, Any] = {}
    for name, f in signature.output_fields.items():
        fields[f"f_{name}"] = (f.annotation, pydantic.Field(alias=name, description=f.desc or None))
    model: type[pydantic.BaseModel] = pydantic.create_model(
        "Answer", __config__=pydantic.ConfigDict(arbitrary_types_allowed=True), **fields
    )
    return model
