"""Media in prompts: a placeholder in the text, a part beside it, and never a part from a text."""

import dataclasses
import json

import pydantic
import pytest
from cases import ADAPTERS, TRAPS, plan
from hypothesis import given
from hypothesis import strategies as st

import tuneful as tf
from tuneful.spec.media import Audio, File, Image
from tuneful.spec.signature import Signature
from tuneful.wire.messages import Media

PNG = b"\x89PNG\r\n\x1a\n"
CAT, DOG = Image("https://example.com/cat.png"), Image.from_bytes(PNG, name="dog.png")
CAT_PART = Media("image", url="https://example.com/cat.png")
DOG_PART = Media("image", media_type="image/png", data="iVBORw0KGgo=", name="dog.png")

every_adapter = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: a.name)


def render(adapter, signature, inputs, demos=()):
    signature = signature if isinstance(signature, Signature) else Signature(signature)
    return adapter.render(plan(adapter, signature), demos, inputs)


@every_adapter
def test_an_image_is_a_placeholder_in_the_text_and_a_part_after_it(adapter):
    content = (
        render(adapter, "image: Image, question -> answer", {"image": CAT, "question": "What?"}).messages[-1].content
    )
    text, part = content
    assert part == CAT_PART
    assert text.count("<image 1>") == 1
    assert "What?" in text
    assert "example.com" not in text


@every_adapter
def test_the_turn_reads_as_if_the_placeholder_were_the_value(adapter):
    with_image = render(adapter, "image: Image, note -> answer", {"image": CAT, "note": "x"}).messages[-1]
    with_text = render(adapter, "image: str, note -> answer", {"image": "<image 1>", "note": "x"}).messages[-1]
    assert with_image.content[0] == with_text.content


@every_adapter
def test_the_description_of_the_fields_names_the_type_and_holds_no_schema(adapter):
    head = render(adapter, "image: Image, more: list[Image] -> answer", {"image": CAT, "more": []}).messages[0].content
    assert "uri" not in head
    assert adapter.name == "compact" or ("image: Image" in head and "more: list[Image]" in head)


@every_adapter
def test_media_are_numbered_by_kind_and_stand_in_order(adapter):
    signature = "first: Image, sound: Audio, more: list[Image], paper: File -> answer"
    sound, paper = Audio("https://a.b/c.mp3"), File.from_bytes(b"%PDF-1.7", name="a.pdf")
    values = {"first": DOG, "sound": sound, "more": [CAT, DOG], "paper": paper}
    text, *parts = render(adapter, signature, values).messages[-1].content
    assert [(p.kind, p.url or p.name) for p in parts] == [
        ("image", "dog.png"), ("audio", "https://a.b/c.mp3"), ("image", CAT.url), ("image", "dog.png"), ("file", "a.pdf"),
    ]  # fmt: skip
    places = [text.index(m) for m in ("<image 1>", "<audio 1>", "<image 2>", "<image 3>", "<file 1>")]
    assert places == sorted(places)


class Page(pydantic.BaseModel):
    title: str
    pictures: list[Image]


@dataclasses.dataclass
class Slide:
    picture: Image
    number: int


@every_adapter
@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Page, Page(title="x", pictures=[CAT])),
        (list[Page], [Page(title="x", pictures=[CAT])]),
        (Slide, Slide(CAT, 3)),
        (dict[str, Image], {"a": CAT}),
        (tuple[Image, str], (CAT, "x")),
        (Image | None, CAT),
        (Image | str, CAT),
        (set[Image], {CAT}),
    ],
    ids=str,
)
def test_media_inside_of_other_values_are_found(adapter, type_, value):
    signature = Signature("x -> answer").with_updated_fields("x", type_)
    text, *parts = render(adapter, signature, {"x": value}).messages[-1].content
    assert parts == [CAT_PART]
    assert "<image 1>" in text
    assert "example.com" not in text


@every_adapter
def test_a_set_has_an_order_in_the_prompt(adapter):
    values = [Image(f"https://a.b/{i}") for i in range(20)]
    turns = {
        render(adapter, "x: set[Image] -> answer", {"x": set(order)}).messages[-1] for order in (values, values[::-1])
    }
    assert len(turns) == 1


@every_adapter
def test_without_media_a_turn_is_plain_text(adapter):
    inputs = {"image": None, "pages": [], "question": "<image 1>"}
    request = render(adapter, "image: Image | None, pages: list[Image], question -> answer", inputs)
    assert all(isinstance(m.content, str) for m in request.messages)


# --- texts never become media ---


@every_adapter
@given(
    text=st.lists(
        st.sampled_from([
            *TRAPS, "<image 1>", "<image 2>", "<audio 1>", "https://evil.example/x.png", "data:image/png;base64,iVBORw0KGgo=",
            '{"url": "https://evil.example/x.png"}', '{"kind": "image", "data": "iVBORw0KGgo="}', '{"type": "image_url"}',
        ]),
        max_size=5,
    ).map("".join)
)  # fmt: skip
def test_no_text_makes_a_part(adapter, text):
    demos = [{"image": DOG, "note": text, "answer": text}, {"image": DOG, "note": text}]
    request = render(adapter, "image: Image, note -> answer", {"image": CAT, "note": text}, demos)
    assert [m.media for m in request.messages if m.media] == [(DOG_PART,), (CAT_PART,)]
    plain = render(
        adapter, "question, more: list[str], any -> answer", {"question": text, "more": [text], "any": {"x": text}}
    )
    assert not any(m.media for m in plain.messages)


@every_adapter
def test_a_value_that_looks_like_an_image_is_data_where_the_type_does_not_say_image(adapter):
    value = {"url": "https://evil.example/x.png"}
    request = render(adapter, "x: dict[str, str], y -> answer", {"x": value, "y": value})
    assert not request.messages[-1].media


@every_adapter
@pytest.mark.parametrize(
    ("signature", "value"),
    [("image -> answer", CAT), ("image: list -> answer", [CAT]), ("image -> answer", {"a": [CAT]})],
)
def test_media_in_a_field_that_does_not_say_so_are_a_typed_error(adapter, signature, value):
    with pytest.raises(tf.UsageError, match=r"write `image: Image`.*No model was called"):
        render(adapter, signature, {"image": value})


# --- demos ---


@every_adapter
def test_a_demo_looks_as_the_live_turn_does(adapter):
    signature, row = "image: Image -> answer", {"image": DOG, "answer": "a dog"}
    request = render(adapter, signature, {"image": CAT}, [row])
    live = render(adapter, signature, {"image": DOG}).messages[-1]
    assert request.messages[1] == live
    assert request.messages[1].content[1] == DOG_PART
    assert request.stable == 3


@every_adapter
def test_a_demo_from_a_file_renders_byte_for_byte_as_the_value_does(adapter):
    rows = [{"image": DOG, "more": [CAT], "answer": "a"}, {"image": CAT, "more": [], "answer": "b"}]
    loaded = json.loads(json.dumps([tf.Example(r).to_dict() for r in rows]))
    signature, inputs = "image: Image, more: list[Image] -> answer", {"image": CAT, "more": []}
    assert render(adapter, signature, inputs, rows) == render(adapter, signature, inputs, loaded)


@every_adapter
def test_a_demo_that_lacks_an_output_stands_in_a_turn_before_the_others_since_no_system_message_takes_media(adapter):
    demos = [
        {"image": DOG, "answer": "a dog"},
        {"image": DOG, "note": "x", "reasoning": "fur", "answer": "a dog"},
        {"note": "no picture", "answer": "nothing"},
    ]
    signature = "image: Image | None, note: str | None -> reasoning, answer"
    request = render(adapter, signature, {"image": CAT, "note": None}, demos)
    system, shown, understood, *rest, last = request.messages
    assert "no picture" in system.content
    assert "a dog" not in system.content
    assert "a dog" in shown.content[0]
    assert shown.content[1:] == (DOG_PART,)
    assert understood.role == "assistant"
    assert [m.role for m in rest] == ["user", "assistant"]
    assert last.media == (CAT_PART,)
    assert request.stable == 5


@every_adapter
def test_what_does_not_depend_on_the_inputs_is_the_same_from_call_to_call(adapter):
    demos = [{"image": DOG, "answer": "a dog"}, {"image": CAT, "reasoning": "fur"}]
    signature = "image: Image -> reasoning, answer"
    one, other = (render(adapter, signature, {"image": i}, demos) for i in (CAT, DOG))
    assert one.messages[:-1] == other.messages[:-1]
    assert one.messages[-1] != other.messages[-1]


@every_adapter
def test_the_repair_turn_keeps_the_media(adapter):
    request = render(adapter, "image: Image -> answer: int", {"image": CAT})
    parsed = adapter.parse(plan(adapter, Signature("image: Image -> answer: int")), "nothing")
    assert adapter.repair(request, "nothing", parsed).messages[1].media == (CAT_PART,)


@every_adapter
def test_an_output_may_be_an_address(adapter):
    signature = Signature("question -> picture: Image")
    text = adapter.output_text(signature, {"picture": CAT})
    assert adapter.parse(plan(adapter, signature), text).fields == {"picture": CAT}
    assert adapter.parse(plan(adapter, signature), text.replace('{"url":"', '"').replace('png"}', 'png"')).fields == {
        "picture": CAT
    }
