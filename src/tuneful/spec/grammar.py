"""The string form of a signature: `"question, context: list[str] -> answer: float"`.

The text is read by position so that every error points at a column. Types are resolved from the syntax tree by
lookup alone: nothing is evaluated and nothing is imported.
"""

from __future__ import annotations

import ast
import builtins
import functools
import keyword
import operator
import re
import typing
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from tuneful.errors import SignatureError, nearest
from tuneful.spec.code import Code, Reasoning, code_in
from tuneful.spec.document import Citation, Citations, Document
from tuneful.spec.fields import MISSING, Field, Role
from tuneful.spec.history import History
from tuneful.spec.media import Audio, File, Image

_BUILTIN_TYPES = (
    "str", "int", "float", "bool", "bytes", "list", "dict", "tuple", "set", "frozenset", "object", "complex",
)  # fmt: skip
_TYPING_NAMES = (
    "Any", "Literal", "Optional", "Union", "List", "Dict", "Tuple", "Set", "FrozenSet", "Sequence", "Mapping",
    "Iterable", "Annotated",
)  # fmt: skip
_TYPE_MAKERS = ("typing", "types", "typing_extensions")  # where the classes of `list[str]`, `int | str`... live
KNOWN_TYPES: dict[str, Any] = {
    **{n: getattr(builtins, n) for n in _BUILTIN_TYPES},
    **{n: getattr(typing, n) for n in _TYPING_NAMES},
    **{kind.__name__: kind for kind in (Image, Audio, File, History, Document, Citation, Code, Reasoning)},
    "Citations": Citations,
    "None": None,
}


def _split(  # noqa: C901 (a scanner is one loop over the characters)
    text: str, start: int, end: int, separator: str
) -> Iterator[tuple[int, int]]:
    """Yield the spans of `text[start:end]` between separators that stand outside brackets and quotes."""
    quote, begin, i = "", start, start
    opened: list[int] = []
    while i < end:
        char = text[i]
        if quote:
            if char == "\\":
                i += 1
            elif char == quote:
                quote = ""
                opened.pop()
        elif char in "'\"":
            quote = char
            opened.append(i)
        elif char in "([{":
            opened.append(i)
        elif char in ")]}":
            if not opened:
                raise SignatureError(f"a `{char}` closes nothing.", text=text, column=i)
            opened.pop()
        elif not opened and text.startswith(separator, i):
            yield begin, i
            i += len(separator) - 1
            begin = i + 1
        i += 1
    if opened:
        raise SignatureError(f"this `{text[opened[-1]]}` is not closed.", text=text, column=opened[-1])
    yield begin, end


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


class TypeReader:
    """Turns the text of a type into the type, by lookup in `names` and in the well-known types."""

    def __init__(self, text: str, names: Mapping[str, Any]) -> None:
        self.text = text
        self.names = names
        self.offset = 0

    def read(self, start: int, end: int) -> Any:
        """Return the type that stands in `text[start:end]`."""
        self.offset = start
        try:
            tree = ast.parse(self.text[start:end], mode="eval").body
        except (SyntaxError, ValueError) as error:  # a ValueError: it holds a null character
            column = start + max(0, (getattr(error, "offset", None) or 1) - 1)
            raise SignatureError(
                f"`{self.text[start:end]}` is not a type.", text=self.text, column=min(column, end)
            ) from error
        return self._resolve(tree)

    def _column(self, node: ast.expr) -> int:
        before = self.text[self.offset :].encode("utf-8", "surrogatepass")[: node.col_offset]  # it counts bytes
        return self.offset + len(before.decode("utf-8", "surrogatepass"))

    def _fail(self, node: ast.expr, message: str) -> SignatureError:
        return SignatureError(message, text=self.text, column=self._column(node))

    def _resolve(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=None):
                return None
            case ast.Constant(value=str() as inner):  # a quoted forward reference
                begin = self._column(node) + 1
                return TypeReader(self.text, self.names).read(begin, begin + len(inner))
            case ast.Name() | ast.Attribute():
                found = self._lookup(node)
                if not _is_type(found):
                    raise self._fail(node, f"`{ast.unparse(node)}` is not a type: it is {found!r:.80}.")
                return found
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return functools.reduce(operator.or_, (self._union_member(left), self._union_member(right)))
            case ast.Subscript(value=value, slice=index):
                return self._subscript(node, self._resolve(value), index)
            case _:
                raise self._fail(node, f"`{ast.unparse(node)}` is not a type.")

    def _union_member(self, node: ast.expr) -> Any:
        found = self._resolve(node)
        return type(None) if found is None else found

    def _lookup(self, node: ast.expr) -> Any:
        """Return what a name, plain or dotted, stands for: a type, or a module or class that holds types."""
        match node:
            case ast.Name(id=name):
                return self._name(node, name)
            case ast.Attribute(value=value, attr=attr):
                owner = self._lookup(value)
                if not isinstance(owner, (type, ModuleType)):
                    raise self._fail(value, f"`{ast.unparse(value)}` is neither a module nor a class.")
                if not hasattr(owner, attr):
                    raise self._fail(node, f"`{ast.unparse(value)}` has no `{attr}`.{nearest(attr, dir(owner))}")
                return getattr(owner, attr)
            case _:
                raise self._fail(node, f"`{ast.unparse(node)}` is not a type.")

    def _name(self, node: ast.expr, name: str) -> Any:
        found = self.names.get(name, MISSING)
        if name in KNOWN_TYPES and not _is_type(found):  # a variable that happens to be called `list` hides nothing
            return KNOWN_TYPES[name]
        if found is not MISSING:
            return found
        if name == "typing":
            return typing
        known = [*KNOWN_TYPES, *self.names]
        raise self._fail(
            node,
            f"unknown type `{name}`.{nearest(name, known)} A type of yours must be in scope where the signature is "
            f"written, or be passed: Signature(..., custom_types={{{name!r}: {name}}}).",
        )

    def _subscript(self, node: ast.expr, owner: Any, index: ast.expr) -> Any:
        items = index.elts if isinstance(index, ast.Tuple) else [index]
        if owner is typing.Literal:
            values = []
            for item in items:
                try:
                    values.append(ast.literal_eval(item))
                except (ValueError, TypeError) as error:
                    raise self._fail(item, "a Literal holds plain values, such as 'yes' or 3.") from error
            return typing.Literal[tuple(values)]
        if owner is Code and isinstance(index, ast.Constant):
            return code_in(index.value)
        if owner is typing.Annotated:
            metadata = [self._metadata(i) for i in items[1:] if not isinstance(i, ast.Constant)]
            found = self._resolve(items[0])
            return typing.Annotated[(found, *metadata)] if metadata else found
        arguments = tuple(Ellipsis if _is_ellipsis(i) else self._resolve(i) for i in items)
        try:
            return owner[arguments[0] if len(arguments) == 1 else arguments]
        except TypeError as error:
            raise self._fail(node, f"`{ast.unparse(node)}` is not a type: {error}.") from error

    def _metadata(self, node: ast.expr) -> Any:
        if not isinstance(node, (ast.Name, ast.Attribute)):
            raise self._fail(
                node,
                f"`{ast.unparse(node)}` would have to be evaluated, which a signature string is not. Declare a "
                "constraint in the field, such as OutputField(ge=0), or give the annotated type a name.",
            )
        return self._lookup(node)


def _is_type(found: Any) -> bool:
    """Whether it can be the type of a field: a class, or what `typing` makes of classes."""
    return found is None or isinstance(found, type) or type(found).__module__ in _TYPE_MAKERS


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is Ellipsis


def read_type(text: str, names: Mapping[str, Any]) -> Any:
    """Return the type written in `text`, resolved against `names`.

    Raises:
        SignatureError: the text is no type, or names an unknown one; it points at the column.
    """
    text = _one_line(text)
    return TypeReader(text, names).read(*_trim(text, 0, len(text)))


def _one_line(text: str) -> str:
    """Return the text with line breaks as blanks, so that a column is a position in it."""
    return re.sub(r"[\r\n]", " ", text)


def _read_field(text: str, start: int, end: int, role: Role, names: Mapping[str, Any]) -> Field:
    parts = list(_split(text, start, end, ":"))
    name_start, name_end = _trim(text, *parts[0])
    name = text[name_start:name_end]
    if not name:
        raise SignatureError("a field name is missing.", text=text, column=min(start, max(len(text) - 1, 0)))
    if not name.isidentifier() or keyword.iskeyword(name):
        raise SignatureError(
            f"`{name}` is not a field name (letters, digits and `_`, no Python keyword).", text=text, column=name_start
        )
    if len(parts) > 2:
        raise SignatureError("a field has one `:`, before its type.", text=text, column=parts[1][1])
    type_: Any = MISSING
    if len(parts) == 2:
        type_start, type_end = _trim(text, *parts[1])
        if type_start == type_end:
            raise SignatureError(f"the type of `{name}` is missing.", text=text, column=parts[0][1])
        type_ = TypeReader(text, names).read(type_start, type_end)
    typed = type_ is not MISSING
    return Field(name=name, role=role, type=type_ if typed else str, typed=typed)


def read_signature(text: str, names: Mapping[str, Any]) -> tuple[Field, ...]:
    """Return the fields of a signature string, inputs first.

    Args:
        text: `"inputs -> outputs"`, fields separated by commas, each with an optional `: type`.
        names: custom types by name, and modules for dotted names.

    Raises:
        SignatureError: points at the column where reading failed.
    """
    text = _one_line(text)
    sides = list(_split(text, 0, len(text), "->"))
    if len(sides) != 2:
        column = sides[1][1] if len(sides) > 2 else len(text)
        raise SignatureError(
            f"a signature has exactly one `->` between inputs and outputs, this one has {len(sides) - 1}: "
            '"question -> answer".',
            text=text,
            column=column,
        )
    fields: dict[str, Field] = {}
    roles: tuple[tuple[Role, tuple[int, int]], ...] = (("input", sides[0]), ("output", sides[1]))
    for role, (start, end) in roles:
        if _trim(text, start, end)[0] >= _trim(text, start, end)[1]:
            raise SignatureError(f"there is no {role} field.", text=text, column=min(start, len(text)))
        for span in _split(text, start, end, ","):
            field = _read_field(text, *span, role, names)
            if field.name in fields:
                raise SignatureError(
                    f"the field `{field.name}` appears twice.", text=text, column=_trim(text, *span)[0]
                )
            fields[field.name] = field
    return tuple(fields.values())
