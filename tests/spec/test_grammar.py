"""The string form: what it means, and where each error points."""

from __future__ import annotations

import collections.abc
import sys
from typing import Annotated, Any, Literal, Optional, Union

import annotated_types
import pytest

from tuneful.errors import SignatureError
from tuneful.spec.grammar import read_signature, read_type


class Passage:
    class Inner:
        pass


Small = Annotated[int, annotated_types.Le(9)]
number = 3


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("str", str),
        ("list[str]", list[str]),
        ("dict[str, list[int]]", dict[str, list[int]]),
        ("tuple[int, ...]", tuple[int, ...]),
        ("tuple[()]", tuple[()]),
        ("Literal['a', \"b, c -> d: e\", -1, None]", Literal["a", "b, c -> d: e", -1, None]),  # noqa: PYI061
        ("int | str", int | str),
        ("float | None", float | None),
        ("Optional[int]", Optional[int]),  # noqa: UP045
        ("Union[int, str]", Union[int, str]),  # noqa: UP007
        ("typing.Optional[str]", Optional[str]),  # noqa: UP045
        ("Any", Any),
        ("None", None),
        ("'list[str]'", list[str]),
        ("Passage", Passage),
        ("list[Passage.Inner]", list[Passage.Inner]),
        ("collections.abc.Sequence[int]", collections.abc.Sequence[int]),
        ("Annotated[int, 'a remark']", int),
        ("Annotated[Small, Passage]", Annotated[Small, Passage]),
        ("  list[\n  str\n]", list[str]),
    ],
)
def test_type_text_means_the_python_type(text, type_):
    assert read_type(text, globals()) == type_


@pytest.mark.parametrize(
    ("text", "pointed"),
    [
        ("question", ""),
        ("a -> b -> c", "-> c"),
        (" -> b", " -> b"),
        ("a -> ", " "),
        ("a, , c -> b", " , c"),
        ("a, 2b -> c", "2b"),
        ("question answer -> c", "question answer"),
        ("class -> c", "class"),
        ("a, b, a -> c", "a -> c"),
        ("a -> b, a", "a"),
        ("a: -> b", ": ->"),
        ("a: int: str -> b", ": str"),
        ("a -> b: list[int", "[int"),
        ("a -> b: Literal['x]", "'x]"),
        ("a) -> b", ") -> b"),
        ("a -> b: int]", "]"),
        ("a -> b: Pasage", "Pasage"),
        ("a, c: dict[str, Pasage] -> b", "Pasage]"),
        ("a -> b: Literal['é'] | Pasage", "Pasage"),
        ("a ->\n  b: list[\n  Pasage]", "Pasage]"),
        ("a -> b: 'Pasage'", "Pasage'"),
        ("a -> b: Passage.Iner", "Passage.Iner"),
        ("a -> b: number", "number"),
        ("a -> b: list[number]", "number]"),
        ("a -> b: number.real", "number.real"),
        ("a -> b: int = 3", "= 3"),
        ("a -> b: 3", "3"),
        ("a -> b: f(int)", "f(int)"),
        ("a -> b: Literal[number]", "number]"),
        ("a -> b: Literal[{[]: 1}]", "{[]"),
        ("a -> b: Optional[int, str]", "Optional[int"),
        ("a -> b: Annotated[int, Le(3)]", "Le(3)"),
        ("a -> b: int\0", "int"),
    ],
)
def test_error_points_at_the_column(text, pointed):
    with pytest.raises(SignatureError) as caught:
        read_signature(text, globals())
    shown = caught.value.text
    assert shown == text.replace("\n", " ")
    assert shown[caught.value.column :].startswith(pointed.replace("\n", " "))
    assert pointed or caught.value.column == len(text)
    *_, line, caret = str(caught.value).split("\n")
    assert caret.index("^") == line.index(shown) + caught.value.column


def test_unknown_type_is_answered_with_the_nearest_and_the_remedy():
    with pytest.raises(SignatureError, match=r"(?s)Did you mean `Passage`\?.*custom_types=\{'Pasage'"):
        read_signature("a -> b: Pasage", globals())


def test_variable_named_like_a_builtin_type_hides_nothing():
    assert read_type("list[str]", {"list": [1, 2], "str": "text"}) == list[str]


def test_class_named_like_a_known_type_is_taken():
    assert read_type("Sequence", {"Sequence": Passage}) is Passage


@pytest.mark.parametrize(
    "type_text",
    [
        "__import__('antigravity')",
        "antigravity.X",
        "(lambda: 1)()",
        "[x for x in y]",
        "list[__import__('antigravity')]",
    ],
)
def test_nothing_is_evaluated_or_imported(type_text):
    with pytest.raises(SignatureError):
        read_signature(f"a -> b: {type_text}", {})
    assert "antigravity" not in sys.modules


def test_properties_and_item_access_of_objects_in_scope_are_not_run():
    ran = []

    class Trap:
        @property
        def kind(self):
            ran.append("property")
            return int

        def __getitem__(self, key):
            ran.append("item")
            return int

    for text in ("trap.kind", "trap[int]"):
        with pytest.raises(SignatureError):
            read_type(text, {"trap": Trap()})
    assert ran == []
