"""FieldValue: base of the values of our own that stand in fields and write themselves as JSON."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, SchemaSerializer, core_schema


def _written(value: Any) -> Any:
    return value.to_json() if isinstance(value, FieldValue) else value


_WRITER = core_schema.plain_serializer_function_ser_schema(_written)


class FieldValue:
    """A value that a field of its type reads from JSON and writes as JSON.

    Attributes:
        json_schema: what a model is told to write.
    """

    json_schema: ClassVar[dict[str, Any]] = {}

    def to_json(self) -> Any:
        """Return the value as JSON values; `from_json` reads them."""
        raise NotImplementedError(f"{type(self).__name__} must define to_json()")

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Return the value that was written so, or in a form that means the same. Raises ValueError for any other."""
        raise NotImplementedError(f"{cls.__name__} must define from_json()")

    @classmethod
    def _validated(cls, value: Any) -> Self:
        return value if isinstance(value, cls) else cls.from_json(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls._validated, serialization=_WRITER)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return cls.json_schema

    #: How pydantic writes one that it meets where no type was declared.
    __pydantic_serializer__: ClassVar[SchemaSerializer] = SchemaSerializer(
        core_schema.any_schema(serialization=_WRITER)
    )
