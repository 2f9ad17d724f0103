"""Grammars: well-formed for every type, and they accept what the adapter itself writes."""

import re
from itertools import pairwise
from typing import Any, Literal

import pytest
from cases import ABLE, TYPES, City, Color, Level, parse, plan

from tuneful.adapters import gbnf
from tuneful.adapters.compact import CompactAdapter
from tuneful.spec.fields import OutputField
from tuneful.spec.signature import Signature

TOKEN = re.compile(
    r"""\s+|(?P<text>"(?:[^"\\\n]|\\(?:["\\nrt]|x[0-9A-F]{2}))*")|(?P<set>\[\^?(?:[^\]\\]|\\.)+\])"""
    r"""|(?P<name>[a-z][a-z0-9]*)|(?P<count>\{\d+,\d+\}|[*?+])|(?P<mark>[()|])"""
)


def rules_of(grammar):
    """Read a grammar into Python patterns by rule; fails where it is not well-formed."""
    rules = {}
    for line in filter(None, grammar.split("\n")):
        name, body = line.split(" ::= ")
        assert name not in rules
        tokens, at = [], 0
        while at < len(body):
            found = TOKEN.match(body, at)
            assert found, f"{name}: {body[at:]!r}"
            at = found.end()
            if found.lastgroup:
                tokens.append((found.lastgroup, found.group()))
        rules[name] = tokens
    for name, tokens in rules.items():
        assert tokens, name
        kinds = ["bar" if t == "|" else k for k, t in tokens]
        assert kinds[0] not in ("bar", "count")
        assert kinds[-1] != "bar"
        assert ("bar", "bar") not in pairwise(kinds)
        assert all(t in rules for k, t in tokens if k == "name"), name
    return rules


def accepts(grammar, text):
    """Say whether the grammar accepts the text; values are followed two levels deep."""
    rules = rules_of(grammar)

    def pattern(name, depth):
        if depth > 2:
            return "(?!)"
        out = []
        for kind, token in rules[name]:
            if kind == "text":
                raw = token[1:-1].replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\")
                raw = re.sub(r"\\x(..)", lambda m: chr(int(m[1], 16)), raw)
                out.append(f"(?:{re.escape(raw)})")
            elif kind == "name":
                out.append(f"(?:{pattern(token, depth + (token == 'value'))})")
            else:
                out.append({"(": "(?:"}.get(token, token))
        return "".join(out)

    return re.fullmatch(pattern("root", 0), text) is not None


def grammar_of(type_, **constraints):
    signature = Signature({"q": OutputField(), "b": (type_, OutputField(**constraints))}).delete("q")
    return gbnf.lines(signature.output_fields, {"b": "B"})


@pytest.mark.parametrize(
    "type_", [t for t, _ in TYPES] + [Any, list, dict, tuple, tuple[()], bytes, Literal['a"\\\b\n']]
)
def test_grammar_is_well_formed_for_every_type(type_):
    signature = Signature("q -> a, b").with_updated_fields("a", type_)
    for grammar in (gbnf.lines(signature.output_fields, {"a": 'A "x"', "b": "B"}), grammar_of(type_)):
        assert "root" in rules_of(grammar)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (str, "Paris, France"),
        (int, -42),
        (int, 0),
        (float, 2.5),
        (bool, True),
        (Literal["yes", 1], 1),
        (Literal['say "hi"'], 'say "hi"'),
        (Color, Color.RED),
        (Level, Level.HIGH),
        (list[str], ["a", 'b "c"']),
        (list[int], [1, -2]),
        (list[bool], [True]),
        (dict[str, int], {"a": 1}),
        (tuple[int, str], (1, "a")),
        (tuple[float, ...], (1.0, 2.5)),
        (City, City(name="Rome")),
        (City | None, None),
    ],
)
def test_grammar_accepts_what_the_adapter_writes(type_, value):
    adapter = CompactAdapter()
    signature = Signature("q -> a, b").with_updated_fields("a", type_)
    text = adapter.output_text(signature, {"a": value, "b": "x"})
    assert accepts(plan(adapter, signature, ABLE).grammar, text)
    assert not accepts(plan(adapter, signature, ABLE).grammar, text.replace("\n", " "))
    assert parse(adapter, signature, text).salvages == ()


@pytest.mark.parametrize(
    ("type_", "constraints", "good", "bad"),
    [
        (int, {"ge": 1, "le": 5}, ["1", "5"], ["0", "6", "10", "-1", "1.5"]),
        (int, {"gt": 0, "lt": 3}, ["1", "2"], ["0", "3"]),
        (int, {"ge": 0.5, "lt": 2.5}, ["1", "2"], ["0", "3"]),
        (int, {"ge": 0}, ["0", "12"], ["-1", "007", ""]),
        (int, {"le": 5}, ["-7", "5"], ["x", "00"]),
        (int, {"ge": 5, "le": 3}, ["4"], ["x"]),
        (str, {"min_length": 2, "max_length": 3}, ["ab", "abc"], ["a", "abcd", "a\nb", " ab"]),
        (str, {}, ["x" * gbnf.TEXT_LIMIT], ["", "x" * (gbnf.TEXT_LIMIT + 1)]),
        (bool, {}, ["true", "false"], ["yes"]),
        (list[int], {}, ["[]", "[1,2]", "[1, 2]"], ["[1.5]", "[1", "[01]"]),
        (tuple[int, str], {}, ['[1,"a"]'], ["[1]", "[1,2]", '["a",1]']),
        (Color | None, {}, ["red", "null"], ["blue"]),
    ],
)
def test_grammar_accepts_the_type_and_its_bounds_only(type_, constraints, good, bad):
    grammar = grammar_of(type_, **constraints)
    assert [t for t in good if not accepts(grammar, t)] == []
    assert [t for t in bad if accepts(grammar, t)] == []
