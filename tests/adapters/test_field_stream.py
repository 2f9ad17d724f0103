"""Answers that are still being written: what is told piece by piece is true of the whole."""

import json
from itertools import groupby, pairwise

import pytest
from cases import TRAPS, parse, plan, signatures_with_outputs, texts
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tuneful.adapters.base import Adapter, Parsed, Section
from tuneful.adapters.field_stream import FieldStream
from tuneful.adapters.select import ADAPTERS
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.signature import Signature

each_adapter = pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=lambda a: a.name)
quick = settings(max_examples=150, deadline=None, database=None)
cuts = st.one_of(st.just(1), st.integers(2, 9), st.lists(st.integers(0, 60), max_size=8))


def pieces_of(text, cut):
    """Cut a text: into pieces of one length, or at given places."""
    if isinstance(cut, int):
        return [text[i : i + cut] for i in range(0, len(text), cut)]
    places = sorted({0, len(text), *(c for c in cut if c < len(text))})
    return [text[a:b] for a, b in pairwise(places)]


def streamed(adapter, signature, text, cut=10**9):
    """Return what was told while the text came, and at its end."""
    stream = FieldStream(adapter, plan(adapter, signature))
    live = [change for piece in pieces_of(text, cut) for change in stream.feed(piece)]
    return joined(live), joined(live + stream.close(parse(adapter, signature, text)))


def joined(changes):
    """Return the changes with neighbouring pieces of a field as one."""
    rows = []
    for (kind, field), group in groupby(changes, key=lambda c: c[:2]):
        found = [c[2] for c in group]
        rows += [(kind, field, "".join(found))] if kind == "piece" else [(kind, field, v) for v in found]
    return rows


def text_of(changes, field):
    return "".join(c[2] for c in changes if c[:2] == ("piece", field))


def values_of(changes):
    return {field: value for kind, field, value in changes if kind == "ended"}


def answers(adapter, signature, values, junk):
    """Return answers in good form and in bad."""
    written = adapter.output_text(signature, values)
    half = written[: len(written) // 2]
    fenced = f"Here it is:\n```json\n{written}\n```"
    return [
        written,
        junk,
        junk + written,
        written + junk,
        half,
        half + junk,
        fenced,
        f"<think>{junk}</think>\n{written}",
    ]


# --- the laws ---


@each_adapter
@quick
@given(case=signatures_with_outputs(), junk=texts, cut=cuts)
def test_what_is_told_does_not_depend_on_where_the_answer_is_cut(adapter, case, junk, cut):
    signature, values = case
    for text in answers(adapter, signature, values, junk):
        whole_live, whole = streamed(adapter, signature, text)
        live, all_ = streamed(adapter, signature, text, cut)
        assert repr(all_) == repr(whole)  # a NaN equals itself here
        assert live == whole_live


@each_adapter
@settings(quick, max_examples=250)
@given(case=signatures_with_outputs(), cut=cuts)
def test_the_pieces_of_a_text_are_its_value(adapter, case, cut):
    signature, values = case
    _, changes = streamed(adapter, signature, adapter.output_text(signature, values), cut)
    assert values_of(changes) == values
    for name, field in signature.output_fields.items():
        assert text_of(changes, name) == ((values[name] or "") if field.type in (str, str | None) else "")


@each_adapter
@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("spec", ["question -> answer", "question -> answer, b", "a -> b, a_: str | None, answer"])
def test_every_trap_is_streamed_as_it_is_read(adapter, trap, spec):
    signature = Signature(spec)
    for text in (trap, trap + trap, f"x\n{trap}\ny", f"{trap} {trap}", f"x {trap}\n{trap}x"):
        values = dict.fromkeys(signature.output_fields, text)
        _, changes = streamed(adapter, signature, adapter.output_text(signature, values), 1)
        assert {name: text_of(changes, name) for name in values} == values


@each_adapter
@settings(quick, max_examples=250)
@given(case=signatures_with_outputs(), junk=texts, cut=cuts)
@example(case=(Signature("q -> answer, b"), {"answer": "x", "b": "y"}), junk='", "answer": "z"}', cut=1)
def test_any_text_is_streamed_without_an_error_and_ends_with_what_was_read(adapter, case, junk, cut):
    signature, values = case
    for text in answers(adapter, signature, values, junk):
        _, changes = streamed(adapter, signature, text, cut)
        parsed = parse(adapter, signature, text)
        assert repr(dict(sorted(values_of(changes).items()))) == repr(dict(sorted(parsed.fields.items())))
        started = [field for kind, field, _ in changes if kind == "started"]
        ended = [field for kind, field, _ in changes if kind == "ended"]
        assert len(started) == len(set(started))
        assert ended == [field for field in started if field in parsed.fields]
        for kind, field, _ in changes:
            assert kind == "started" or changes.index(("started", field, "")) < changes.index((kind, field, _))


@pytest.mark.parametrize("name", ["chat", "compact", "xml"])
@quick
@given(case=signatures_with_outputs(), junk=texts, cut=cuts)
def test_also_in_a_badly_formed_answer_the_pieces_are_the_value(name, case, junk, cut):
    signature, values = case
    for text in answers(ADAPTERS[name], signature, values, junk):
        _, changes = streamed(ADAPTERS[name], signature, text, cut)
        for field, value in values_of(changes).items():
            if signature.output_fields[field].type is str:
                assert text_of(changes, field) == value


@each_adapter
@pytest.mark.parametrize("text", ["[" * 9999, '{"answer": ' * 3000, '{"answer": ' + "1" * 6000 + "}", "{", '"', "\\"])
def test_runaway_answers_are_streamed_without_an_error(adapter, text):
    for signature in (Signature("q -> answer"), Signature("q -> answer, b: list[str]")):
        for answer in (text, f"Answer: {text}\nB: {text}", f"[[ ## answer ## ]]\n{text}"):
            streamed(adapter, signature, answer, 997)


# --- how soon ---


TWO = Signature("question -> reasoning, answer")


@pytest.mark.parametrize(
    ("name", "beginning", "told"),
    [
        ("chat", "[[ ## reasoning ## ]]\nTwo spiders", "Two spiders"),
        ("chat", "[[ ## reasoning ## ]]\nTwo spiders \n", "Two spiders"),
        ("chat", "[[ ## reasoning ## ]]\nTwo\n[[ ## ans", "Two"),
        ("chat", "[[ ## reasoning ## ]]\nTwo\n[[ not a marker", "Two\n[[ not a marker"),
        ("chat", "[[ ## reasoning ## ]]\nTwo [[\\", "Two [["),
        ("chat", "[[ ## reasoning ## ]]\nTwo [[\\ ## x", "Two [[ ## x"),
        ("chat", '[[ ## reasoning ## ]]\n"Two', ""),
        ("chat", '[[ ## reasoning ## ]]\n"Two" means', '"Two" means'),
        ("chat", '[[ ## reasoning ## ]]\n"Two\nlines', '"Two\nlines'),
        ("chat", "<think>[[ ## reasoning ## ]] no</think>[[ ## reasoning ## ]] yes", "yes"),
        ("chat", "<think>[[ ## reasoning ## ]]\nno", ""),
        ("compact", "Reasoning: Two spiders", "Two spiders"),
        ("compact", "Reasoning: Two\nAnsw", "Two"),
        ("compact", "Reasoning: Two\nAnswers", "Two\nAnswers"),
        ("compact", "Reasoning: Two\n  spiders", "Two"),  # another line may show that the indent belongs to the text
        ("compact", "Reasoning: Two\n  spiders\nand", "Two\n  spiders\nand"),
        ("xml", "<reasoning>Two spiders", "Two spiders"),
        ("xml", "<reasoning>\nTwo spiders \n", "Two spiders"),
        ("xml", "<reasoning>Two</reas", "Two"),
        ("xml", "<reasoning>Two <answ", "Two"),
        ("xml", "<reasoning>Two <answers", "Two <answers"),
        ("xml", "<reasoning>Two <<answer>", "Two <"),
        ("xml", "<reasoning>Two <\\answer", "Two"),
        ("xml", "<reasoning>Two <\\answer> and <", "Two <answer> and"),
        ("xml", "<reasoning>Two <answer>or</answer> three", "Two"),  # the end of the text, or part of it
        ("xml", "<reasoning>Two <answer>or</answer> three</reasoning>", "Two <answer>or</answer> three"),
        ("xml", "<think><reasoning>no</think><reasoning>yes", "yes"),
        ("json", '{"reasoning": "Two spi', "Two spi"),
        ("json", '{"reasoning": "Two \\', "Two "),
        ("json", '{"reasoning": "Two \\u00e', "Two "),
        ("json", '{"reasoning": "Two \\ud83d\\ude', "Two "),
        ("json", '{"reasoning": "Two \\ud83d\\ude42', "Two 🙂"),
        ("json", '{"reasoning": "Two \\ud83d, ', "Two \ud83d, "),
        ("json", '{"reasoning": "Two \\\\ud83d', "Two \\ud83d"),
        ("json", 'With {braces}:\n```json\n{"n": [{"reasoning": 1}], "reasoning": "Two', "Two"),
        ("json", '{"reasoning": "Two\nlines', "Two"),  # no sound JSON; what follows may be mended in any way
    ],
)
def test_text_is_told_as_soon_as_it_is_certain(name, beginning, told):
    for cut in (1, 10**9):
        live, _ = streamed(ADAPTERS[name], TWO, beginning, cut)
        assert text_of(live, "reasoning") == told


def test_a_lone_output_of_the_compact_adapter_is_told_once_it_cannot_be_a_label():
    compact, one = ADAPTERS["compact"], Signature("question -> answer")
    assert [streamed(compact, one, t)[0] for t in ("Ans", "Answer", "**Answer** :", "<thi")] == [[]] * 4
    assert streamed(compact, one, '"Par')[0] == [("started", "answer", ""), ("piece", "answer", "Par")]
    assert text_of(streamed(compact, one, "Answers vary")[0], "answer") == "Answers vary"
    assert text_of(streamed(compact, one, "**Answer** : Paris is")[0], "answer") == "Paris is"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("chat", "[[ ## a ## ]]\nx\n[[ ## n ## ]]\n4"),
        ("compact", "A: x\nN: 4"),
        ("json", '{"a": "x", "n": 4}'),
        ("xml", "<a>x</a><n>4"),
    ],
)
def test_a_field_starts_before_its_value_is_there(name, text):
    adapter = ADAPTERS[name]
    live, all_ = streamed(adapter, Signature("q -> a, n: int"), text, 1)
    assert live == [("started", "a", ""), ("piece", "a", "x"), ("started", "n", "")]
    assert all_[3:] == [("ended", "a", "x"), ("ended", "n", 4)]


@each_adapter
def test_most_of_a_long_text_is_told_while_it_comes(adapter):
    value = " ".join(f"word{i}" for i in range(500))
    for signature in (Signature("q -> answer"), Signature("q -> answer, b"), Signature("q -> b, answer: str | None")):
        written = adapter.output_text(signature, {"answer": value, "b": "x"})
        live, _ = streamed(adapter, signature, written, 7)
        assert len(text_of(live, "answer")) > len(value) - 20


# --- edges ---


def test_a_none_is_no_text():
    signature = Signature("q -> a, b: str | None")
    for adapter in ADAPTERS.values():
        for value in (None, "nonesuch", "no"):
            _, changes = streamed(adapter, signature, adapter.output_text(signature, {"a": "x", "b": value}), 1)
            assert (text_of(changes, "b"), values_of(changes)["b"]) == (value or "", value)


def test_an_output_that_is_left_out_is_told_with_its_default():
    signature = Signature("q -> a, b: int | None, c").with_updated_fields("c", default="none given")
    for adapter in ADAPTERS.values():
        _, changes = streamed(adapter, signature, adapter.output_text(signature, {"a": "x"}), 1)
        assert values_of(changes) == {"a": "x", "b": None, "c": "none given"}
        assert text_of(changes, "c") == "none given"


def test_a_key_that_comes_twice_is_told_once_and_its_end_counts():
    _, changes = streamed(ADAPTERS["json"], Signature("q -> answer"), '{"answer": "one", "answer": "two"}', 1)
    assert (text_of(changes, "answer"), values_of(changes)) == ("one", {"answer": "two"})


def test_labels_that_hold_a_colon_are_read_at_the_end():
    class Odd(Signature):
        q: str = InputField()
        a: str = OutputField(label="Note")
        b: str = OutputField(label="Note: more")

    compact = ADAPTERS["compact"]
    values = {"a": "x", "b": "y"}
    live, all_ = streamed(compact, Odd, compact.output_text(Odd, values), 1)
    assert (live, values_of(all_)) == ([], parse(compact, Odd, compact.output_text(Odd, values)).fields)


class Shouted(Adapter):
    """A custom adapter that knows nothing of streaming."""

    name = "shouted"

    def parse(self, plan, text):
        return Parsed({n: text.lower() for n in plan.signature.output_fields}, {})


def test_an_adapter_that_cannot_be_heard_tells_everything_at_the_end():
    live, all_ = streamed(Shouted(), Signature("q -> answer"), "HELLO THERE", 3)
    assert live == []
    assert all_ == [("started", "answer", ""), ("piece", "answer", "hello there"), ("ended", "answer", "hello there")]


class Fickle(Shouted):
    """A custom adapter that changes its mind."""

    def partial(self, plan, text):
        return [
            Section("answer", text if len(text) < 7 else "other", closed=False),
            Section("nobody", "x", closed=True),
        ]


def test_what_was_told_stays_told_whatever_an_adapter_makes_of_the_rest():
    _, changes = streamed(Fickle(), Signature("q -> answer"), "hello there", 3)
    assert changes == [
        ("started", "answer", ""),
        ("piece", "answer", "hello there"),
        ("ended", "answer", "hello there"),
    ]
    _, changes = streamed(Fickle(), Signature("q -> answer"), "HELLO THERE", 3)
    assert changes == [("started", "answer", ""), ("piece", "answer", "HELLO "), ("ended", "answer", "hello there")]


def test_a_json_answer_with_escapes_in_every_place_is_told_in_whole_characters():
    signature = Signature("q -> answer")
    value = 'a "b" \\ / \b\f\n\r\t é 漢 🙂 \u2028'
    for ensure_ascii in (True, False):
        text = json.dumps({"answer": value}, ensure_ascii=ensure_ascii)
        live, _ = streamed(ADAPTERS["json"], signature, text, 1)
        assert text_of(live, "answer") == value
