"""Code and Reasoning: texts of which a signature says what they are."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from tuneful.errors import SignatureError

_WHOLE = re.compile(r"(`{3,}|~{3,})[^\n`]*\n(?:(.*)\n)?[ \t]*\1", re.DOTALL)
_BLOCK = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n(?:(.*?)\n)?(?:[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_TICKS = re.compile(r"`+")


class Code(str):
    r"""Source code, as the type of a field: `solution: tf.Code["python"]`. The value is a text without code fences.

    >>> Code["python"]("```python\nprint(1)\n```")
    'print(1)'
    >>> Code["python"].language
    'python'

    Demos show it in a fence, which is how models write code, and what a model says around the fence is left out. Blank
    lines at the edges are no part of it. Nothing is run: a program that runs code does so in a sandbox.
    """

    __slots__ = ()

    language: str = ""

    def __new__(cls, text: str = "") -> Self:
        """Return the text without fences around all of it."""
        return super().__new__(cls, _bare(text))

    def __class_getitem__(cls, language: str) -> type[Code]:
        return code_in(language)

    @property
    def code(self) -> str:
        """The text, as DSPy names it."""
        return str(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


@lru_cache(maxsize=256)
def code_in(language: str) -> type[Code]:
    """Return the type of code in a language, `Code[language]`. Raises SignatureError for what is no name of one."""
    if not isinstance(language, str) or not re.fullmatch(r"[\w+#.-]+", language):
        raise SignatureError(f"Code takes the name of a language, such as Code['python'], got {language!r}.")
    return type(f"Code[{language!r}]", (Code,), {"language": language, "__slots__": (), "__module__": __name__})


def is_code(annotation: Any) -> bool:
    """Whether a type is `Code`, of whatever language."""
    return isinstance(annotation, type) and issubclass(annotation, Code)


def fenced(code: str) -> str:
    """Return code in a fence that nothing inside of it can close."""
    longest = max((len(ticks) for ticks in _TICKS.findall(code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{getattr(code, 'language', '')}\n{code}\n{fence}"


def first_block(text: str) -> str | None:
    """Return what stands in the first code fence of a text, also in one without an end; None where there is none."""
    found = _BLOCK.search(text)
    return None if found is None else found[2] or ""


def _bare(text: str) -> str:
    """Return a text without fences around all of it. A bare text stays as it is."""
    text = text.replace("\r\n", "\n")
    while (found := _WHOLE.fullmatch(text.strip())) and not _opens(found[1], found[2] or ""):
        text = found[2] or ""
    return text.strip("\n").rstrip()


def _opens(fence: str, inside: str) -> bool:
    """Whether a fence begins or ends within what seemed to be inside of one."""
    return any(line.lstrip().startswith(fence) for line in inside.split("\n"))


class Reasoning(str):
    """The thoughts that lead to an answer, as the type of an output field: `reasoning: tf.Reasoning`.

    A model that reasons by itself is not asked for such a field: its own thoughts become the value, where its provider
    shows them ("" where not). Any other model writes it, as a text. `ChainOfThought` declares one.
    """

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.str_schema()  # inside of other types it is a text like any
