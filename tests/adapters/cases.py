"""What the adapter tests share: fields, plans, and strategies for signatures with values of their types."""

import enum
from typing import Any, Literal

import pydantic
from hypothesis import strategies as st

from tuneful.adapters import select
from tuneful.spec.code import Code
from tuneful.spec.document import Citation, Citations
from tuneful.spec.fields import Field, InputField, OutputField
from tuneful.spec.signature import Signature
from tuneful.wire.capabilities import Capabilities

ADAPTERS = list(select.ADAPTERS.values())
ABLE = Capabilities(grammar="gbnf", json_schema=True)


class Color(enum.Enum):
    RED = "red"
    NONE = "none"
    ODD = ' "B: x" '


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


class City(pydantic.BaseModel):
    name: str
    people: int | None = None
    area: float = 0.0


def output(type_: Any = str, **options: Any) -> Field:
    return OutputField(**options).bind("answer", type_)


def plan(adapter, signature, capabilities=None):
    return adapter.plan(signature, capabilities or Capabilities())


def parse(adapter, signature, text):
    return adapter.parse(plan(adapter, signature), text)


#: Pieces that an adapter could take for its own marks, or mend, or strip.
TRAPS = [
    "[[ ## answer ## ]]", "[[ ## b ## ]]", "[[ ## completed ## ]]", "[[\\ ## a ## ]]", "[[", "##", "]]", "[[\n## a ## ]]",
    "**[[ ## B ## ]]**", "A: ", "B: x", "Answer:", "**Answer**: ", "a:", "Question: ", "\nB: ", "\nA: x\n", "\n", "\n\n",
    "\r", "\r\n", " ", "  ", "\t", "\x0b", "\x85", "\xa0", "\u2028", '"', "'", "\\", "\\n", "`", "```json\n", "```", "{", "}",
    '{"a": 1}', "[1]", "<think>", "</think>", "none", "null", "N/A", "true", "yes", "5", "-1.5", "inf", "NaN", "- x",
    "1. ", "<", "</", "<answer>", "</answer>", "<\\/b>", "<b", "< b >", "</B>x", '<a id="1">', "<answer/>", "=", ",", "é", "漢", "🙂", "\x00", "\x1f",
]  # fmt: skip
texts = st.one_of(st.text(max_size=20), st.lists(st.sampled_from(TRAPS), max_size=6).map("".join))
integers = st.integers(-(10**20), 10**20)
floats = st.floats(allow_nan=False)
cities = st.builds(City, name=texts, people=st.none() | integers, area=floats)

#: Types with values of them.
TYPES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, texts),
    (int, integers),
    (float, floats),
    (bool, st.booleans()),
    (Literal["yes", "no", "Yes", "1", 1, "none"], st.sampled_from(["yes", "no", "Yes", "1", 1, "none"])),
    (Literal[" a ", "B: x", 'say "hi"', "two\nlines"], st.sampled_from([" a ", "B: x", 'say "hi"', "two\nlines"])),
    (Color, st.sampled_from(Color)),
    (Level, st.sampled_from(Level)),
    (Color | None, st.none() | st.sampled_from(Color)),
    (list[str], st.lists(texts, max_size=4)),
    (list[int], st.lists(integers, max_size=4)),
    (list[float], st.lists(floats, max_size=4)),
    (dict[str, int], st.dictionaries(texts, integers, max_size=4)),
    (str | None, st.none() | texts),
    (int | None, st.none() | integers),
    (bool | None, st.none() | st.booleans()),
    (int | str, integers | texts),
    (float | str, floats | texts),
    (list[str] | str, st.lists(texts, max_size=3) | texts),
    (Literal["a", "b"] | int, st.sampled_from(["a", "b"]) | integers),
    (City, cities),
    (list[City], st.lists(cities, max_size=2)),
    (City | None, st.none() | cities),
    (tuple[int, str], st.tuples(integers, texts)),
    (tuple[float, ...], st.lists(floats, max_size=3).map(tuple)),
    (set[int], st.sets(integers, max_size=3)),
    (Citations, st.lists(st.builds(Citation, document=texts, quote=texts), max_size=2)),
    (Code["python"], texts.map(Code["python"])),
    (Code["sql"] | None, st.none() | texts.map(Code["sql"])),
]


@st.composite
def signatures_with_outputs(draw):
    """A signature with one to three outputs, and values for them."""
    names = draw(
        st.lists(st.sampled_from(["answer", "b", "long_name", "completed"]), min_size=1, max_size=3, unique=True)
    )
    fields: dict[str, Any] = {"question": InputField()}
    values = {}
    for name in names:
        type_, strategy = draw(st.sampled_from(TYPES))
        fields[name] = (type_, OutputField())
        values[name] = draw(strategy)
    return Signature(fields), values
