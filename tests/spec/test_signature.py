"""Signatures: three forms, one immutable value."""

import copy
import dataclasses
import enum
import pickle
from typing import Annotated, Literal, NamedTuple, TypedDict

import pydantic
import pytest

from tuneful.errors import SignatureError
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.signature import Signature, ensure_signature, make_signature


class Color(enum.Enum):
    RED = "red"


class QA(Signature):
    """Answer from the context."""

    context: list[str] = InputField(desc="passages")
    question: str = InputField()
    answer: str = OutputField(desc="a few words")


class Plain(Signature):
    question = InputField()
    answer = OutputField()


def types_of(signature):
    return {n: f.type for n, f in signature.fields.items()}


# --- forms ---


def test_string_form_gives_names_roles_and_types_in_order():
    s = Signature("question, context: list[str] -> answer: float, label: Literal['a', 'b'] | None")
    assert list(s.input_fields) == ["question", "context"]
    assert list(s.output_fields) == ["answer", "label"]
    assert types_of(s) == {
        "question": str,
        "context": list[str],
        "answer": float,
        "label": Literal["a", "b"] | None,
    }
    assert not s.fields["question"].typed
    assert s.fields["context"].typed
    assert s.instructions == "Given the fields `question`, `context`, produce the fields `answer`, `label`."


def test_outputs_that_differ_in_case_only_are_told_before_any_call():
    with pytest.raises(SignatureError, match="`a` and `A` differ in case only"):
        Signature("q -> a, A")
    assert list(Signature("a -> A").fields) == ["a", "A"]  # an input is not read from an answer


def test_string_form_finds_types_of_the_callers_scope():
    class Local(pydantic.BaseModel):
        x: int

    s = Signature("a: Color -> b: list[Local], c: pydantic.BaseModel")
    assert types_of(s) == {"a": Color, "b": list[Local], "c": pydantic.BaseModel}


def test_custom_types_win_over_the_scope():
    s = Signature("a -> b: Color, c: Other", custom_types={"Color": int, "Other": float})
    assert types_of(s) == {"a": str, "b": int, "c": float}


def test_class_form_takes_docstring_types_and_wording():
    assert isinstance(QA, Signature)
    assert QA.name == "QA"
    assert QA.instructions == "Answer from the context."
    assert str(QA) == "context: list[str], question: str -> answer: str"
    assert QA.fields["answer"].desc == "a few words"


def test_class_form_without_annotations_leaves_fields_untyped():
    assert [f.typed for f in Plain.fields.values()] == [False, False]
    assert Plain.instructions == "Given the fields `question`, produce the fields `answer`."


def test_class_form_inherits_and_overrides():
    class Longer(QA):
        answer: int = OutputField(ge=0)
        why: str = OutputField()

    assert list(Longer.fields) == ["context", "question", "answer", "why"]
    assert Longer.fields["answer"].type is int
    assert Longer.instructions == QA.instructions
    assert QA.fields["answer"].type is str
    assert "why" not in QA.fields


def test_class_form_inherits_from_several_signatures():
    class Both(QA, Plain):
        """Both."""

        extra: int = OutputField()

    assert list(Both.fields) == ["context", "question", "answer", "extra"]


def test_inherited_default_instructions_name_the_new_fields_too():
    class More(Plain):
        why = OutputField()

    assert More.instructions == "Given the fields `question`, produce the fields `answer`, `why`."


def test_class_form_refuses_what_is_no_field():
    with pytest.raises(SignatureError, match="`limit` in signature `Bad`"):

        class Bad(Signature):
            a = InputField()
            b = OutputField()
            limit = 3

    with pytest.raises(SignatureError, match="no output field"):

        class NoOutput(Signature):
            a = InputField()

    with pytest.raises(SignatureError, match="`b` in signature `Bare`"):

        class Bare(Signature):
            a = InputField()
            b: str


def test_postponed_annotations_of_a_class_form_are_resolved():
    source = (
        "from __future__ import annotations\n"
        "from tuneful.spec.fields import InputField, OutputField\n"
        "from tuneful.spec.signature import Signature\n"
        "def make():\n"
        "    class Local: pass\n"
        "    class Form(Signature):\n"
        "        a: list[Local] = InputField()\n"
        "        b: Small | None = OutputField()\n"
        "    return Local, Form\n"
    )
    small = Annotated[int, pydantic.Field(le=9)]
    scope = {"__name__": "a_user_module", "Small": small}
    exec(compile(source, "user.py", "exec", dont_inherit=True), scope)
    local, form = scope["make"]()
    assert types_of(form) == {"a": list[local], "b": small | None}
    with pytest.raises(pydantic.ValidationError):
        form.fields["b"].adapter.validate_python(10)


def test_function_form_takes_parameters_docstring_and_defaults():
    def summarise(text: str, limit: int = 3) -> list[str]:
        """Summarise the text."""

    s = Signature(summarise)
    assert str(s) == "text: str, limit: int -> summarise: list[str]"
    assert s.instructions == "Summarise the text."
    assert s.fields["limit"].default == 3


class Row(TypedDict):
    city: str
    people: Annotated[int, pydantic.Field(ge=0)]


@dataclasses.dataclass
class Record:
    city: str
    people: int


class Pair(NamedTuple):
    city: str
    people: int


@pytest.mark.parametrize("returned", [Row, Record, Pair])
def test_function_form_spreads_a_record_over_outputs(returned):
    def look_up(question: str): ...

    look_up.__annotations__["return"] = returned
    s = Signature(look_up)
    assert list(s.output_fields) == ["city", "people"]
    if returned is Row:
        with pytest.raises(pydantic.ValidationError):
            s.fields["people"].adapter.validate_python(-1)


def test_function_form_refuses_none_and_star_arguments():
    def nothing(a: str) -> None: ...

    def stars(*a: str) -> str: ...

    with pytest.raises(SignatureError, match="returns None"):
        Signature(nothing)
    with pytest.raises(SignatureError, match=r"`\*a` of `stars`"):
        Signature(stars)


def test_mapping_form_and_the_function_that_makes_signatures():
    s = make_signature({"a": InputField(), "b": (int, OutputField(ge=1))}, "Do.", "Named")
    assert (s.name, s.instructions, str(s)) == ("Named", "Do.", "a -> b: int")
    with pytest.raises(SignatureError, match="`a` must be declared"):
        Signature({"a": str})


def test_a_field_of_another_signature_is_known_by_the_name_it_gets():
    points = Signature({"essay": InputField(), "points": (int, OutputField(ge=1))}).output_fields["points"]
    assert Signature({"essay": InputField(), "mark": points}).output_fields["mark"].constraints == points.constraints
    assert str(QA.append("mark", points)).endswith("mark: int")


def test_other_values_are_refused():
    with pytest.raises(SignatureError, match="not int: 3"):
        Signature(3)


def test_ensure_signature_returns_the_same_object_unless_instructions_change():
    assert ensure_signature(QA) is QA
    assert ensure_signature(QA, "Other.").instructions == "Other."
    assert ensure_signature("a -> b").fields.keys() == {"a", "b"}


# --- a value ---


def test_signature_cannot_be_changed():
    for change in (lambda: setattr(QA, "instructions", "x"), lambda: delattr(QA, "instructions")):
        with pytest.raises(SignatureError, match="immutable"):
            change()
    QA.fields.clear()
    QA.output_fields.clear()
    with pytest.raises(dataclasses.FrozenInstanceError):
        QA.fields["answer"].desc = "x"
    assert QA.instructions == "Answer from the context."
    assert list(QA.output_fields) == ["answer"]


def test_equality_includes_types_wording_and_constraints_but_not_the_name():
    one = Signature("a -> b: int")
    assert one == Signature("a -> b: int")
    assert one.with_name("Other").equals(one)
    assert hash(one.with_name("Other")) == hash(one)
    for other in (
        Signature("a -> b: float"),
        Signature("a: str -> b: int"),
        Signature("a -> b: int", "Other."),
        one.with_updated_fields("b", desc="x"),
        one.with_updated_fields("b", ge=0),
        "a -> b: int",
    ):
        assert one != other


def test_copies_are_the_signature_itself_and_pickling_keeps_it():
    s = Signature("a -> b: int")
    assert copy.copy(s) is s
    assert copy.deepcopy(s) is s
    again = pickle.loads(pickle.dumps(s))
    assert again == s
    assert not again.fields["a"].optional


def test_interface_hash_sees_types_and_constraints_and_not_the_wording():
    s = Signature("a -> b: int")
    assert s.with_instructions("x").with_updated_fields("b", desc="y").interface_hash == s.interface_hash
    assert s.with_updated_fields("b", float).interface_hash != s.interface_hash
    assert s.with_updated_fields("b", ge=1).interface_hash != s.interface_hash


# --- deriving ---


def test_deriving_returns_new_signatures_and_leaves_the_first_alone():
    before = QA.dump_state()
    assert QA.with_instructions("New.").instructions == "New."
    assert QA.append_instructions("More.").instructions == "Answer from the context.\n\nMore."
    assert QA.with_updated_fields("answer", int, desc="n", prefix="Number: ", ge=2).fields["answer"].label == "Number"
    assert list(QA.append("why", OutputField()).output_fields) == ["answer", "why"]
    assert list(QA.prepend("why", OutputField()).output_fields) == ["why", "answer"]
    assert list(QA.insert(1, "hint", InputField(), int).input_fields) == ["context", "hint", "question"]
    assert QA.insert(1, "hint", InputField(), int).fields["hint"].type is int
    assert list(QA.delete("context").fields) == ["question", "answer"]
    assert QA.dump_state() == before


def test_default_instructions_follow_the_fields_and_own_ones_stay():
    s = Signature("a -> b")
    assert s.append("c", OutputField()).instructions == "Given the fields `a`, produce the fields `b`, `c`."
    assert QA.append("c", OutputField()).instructions == QA.instructions


def test_updating_keeps_other_constraints():
    s = Signature("a -> b: int").with_updated_fields("b", ge=0).with_updated_fields("b", le=9)
    assert s.fields["b"].constraint_text == "at least 0, at most 9"


@pytest.mark.parametrize(
    ("derive", "message"),
    [
        (lambda: QA.delete("anser"), "Did you mean `answer`"),
        (lambda: QA.append("answer", OutputField()), "already"),
        (lambda: QA.append("x", "text"), "InputField"),
        (lambda: QA.insert(5, "x", InputField()), "out of range"),
        (lambda: QA.insert(-4, "x", InputField()), "out of range"),
        (lambda: QA.with_updated_fields("answer", descr="x"), "no option `descr`"),
    ],
)
def test_deriving_wrongly_is_an_error_that_says_what_to_do(derive, message):
    with pytest.raises(SignatureError, match=message):
        derive()


# --- state ---


def test_state_is_keyed_by_name_and_survives_reordering():
    one = Signature("a, b -> c").with_updated_fields("a", desc="first").with_updated_fields("b", desc="second")
    other = Signature("b, a -> c").load_state(one.with_instructions("Tuned.").dump_state())
    assert other.instructions == "Tuned."
    assert {n: f.desc for n, f in other.fields.items()} == {"b": "second", "a": "first", "c": ""}


def test_state_of_a_field_that_is_gone_is_an_error():
    with pytest.raises(SignatureError, match="no field `b`"):
        Signature("a -> c").load_state(Signature("a, b -> c").dump_state())
