"""What a function takes, as a tool: the JSON schema that a model is shown, and the check of what it gave."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_type_hints

import pydantic

from tuneful.adapters.values import problems_of, without_titles
from tuneful.errors import InputError, UsageError
from tuneful.spec.signature import Signature

#: A model may write 3 where a text is expected, and "3" where a number is; what is unknown is refused.
_CONFIG = pydantic.ConfigDict(arbitrary_types_allowed=True, coerce_numbers_to_str=True, extra="forbid")
_OPEN = pydantic.ConfigDict(arbitrary_types_allowed=True, coerce_numbers_to_str=True, extra="allow")


class Arguments:
    """The arguments of a tool.

    Args:
        name: name of the tool, for messages.
        schema: JSON schema of the arguments: an object.
        model: pydantic's check of them, or None where whoever runs the tool checks them.
    """

    def __init__(self, name: str, schema: Mapping[str, Any], model: type[pydantic.BaseModel] | None = None) -> None:
        self._name = name
        self.schema = dict(schema)
        self._model = model

    @classmethod
    def of(cls, function: Callable[..., Any], name: str) -> Arguments:
        """Return the arguments of a function, by its types. One without a type takes any value.

        Raises:
            UsageError: an argument cannot be given by name, or its type has no JSON form.
        """
        fields: dict[str, Any] = {}
        hints = _hints(function, name)
        config = _CONFIG
        for parameter in _shape(function, name).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                config = _OPEN
                continue
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
                raise UsageError(
                    f"the tool `{name}` has an argument `{parameter}` that cannot be given by name, and a model names "
                    "every argument. Make it an ordinary one: a list, say, in place of `*args`."
                )
            default = ... if parameter.default is parameter.empty else parameter.default
            declared = (hints.get(parameter.name, Any), pydantic.Field(default, alias=parameter.name))
            fields[f"f_{parameter.name}"] = declared
        return cls._declared(name, fields, config)

    @classmethod
    def of_signature(cls, signature: Signature, name: str) -> Arguments:
        """Return the inputs of a signature as arguments: their types, constraints, defaults and descriptions.

        Raises:
            UsageError: the type of an input has no JSON form.
        """
        fields: dict[str, Any] = {}
        for field in signature.input_fields.values():
            default = field.absent_value() if field.optional else ...
            declared = pydantic.Field(default, alias=field.name, description=field.desc or None)
            fields[f"f_{field.name}"] = (field.annotation, declared)
        return cls._declared(name, fields, _CONFIG)

    @classmethod
    def _declared(cls, name: str, fields: dict[str, Any], config: pydantic.ConfigDict) -> Arguments:
        """Return arguments as pydantic's fields declare them. Raises UsageError for one without a JSON form."""
        model: type[pydantic.BaseModel] = pydantic.create_model(name, __config__=config, **fields)
        try:
            schema = without_titles(model.model_json_schema(by_alias=True))
        except pydantic.errors.PydanticInvalidForJsonSchema as error:
            raise UsageError(
                f"the tool `{name}` has an argument that cannot be written as JSON: {error.message}. Give it a type "
                "that can (a text, a number, a list, a pydantic model), and make the rest inside of the function."
            ) from error
        return cls(name, schema, model)

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function takes them: checked, and made what its types say.

        Raises:
            InputError: some are missing, unknown or of another type. The tool was not called.
        """
        if self._model is None:
            return dict(given)
        try:
            read = self._model.model_validate(dict(given), by_alias=True)
        except pydantic.ValidationError as error:
            raise InputError(
                f"wrong arguments for the tool `{self._name}`: {problems_of(error)}. It takes: {self.outline}. "
                "It was not called."
            ) from error
        named = {name.removeprefix("f_"): getattr(read, name) for name in read.model_fields_set & _fields_of(read)}
        return {**named, **(read.model_extra or {})}

    @property
    def outline(self) -> str:
        """The names of the arguments, those that may be absent with a question mark."""
        required = self.schema.get("required", ())
        names = [n if n in required else f"{n}?" for n in self.schema.get("properties", {})]
        return ", ".join(names) or "nothing"


def _fields_of(model: pydantic.BaseModel) -> set[str]:
    return set(type(model).model_fields)


def _shape(function: Callable[..., Any], name: str) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the tool `{name}` does not say what it takes ({error}). Wrap it in a function that does, or give "
            "`parameters`, the JSON schema of its arguments."
        ) from error


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    target = inspect.unwrap(function.func if isinstance(function, partial) else function)
    if not inspect.isroutine(target):
        target = target.__init__ if isinstance(target, type) else target.__call__  # type: ignore[misc]
    try:
        return get_type_hints(target, include_extras=True)
    except (NameError, TypeError) as error:
        raise UsageError(
            f"the types of the tool `{name}` cannot be read: {error}. Types must be in scope where it is defined."
        ) from error
