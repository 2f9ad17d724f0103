"""Images, sounds and documents as values."""

import copy
import json
import pathlib

import pydantic
import pytest

import tuneful as tf
from tuneful.spec.example import Example
from tuneful.spec.fields import InputField, OutputField
from tuneful.spec.media import Audio, File, Image
from tuneful.spec.signature import Signature
from tuneful.spec.types import adapter_for

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8
WAV = b"RIFF\0\0\0\0WAVEfmt "
PDF = b"%PDF-1.7 ..."


# --- making ---


@pytest.mark.parametrize("address", ["https://example.com/a.png", "http://localhost/a?b=c", "gs://bucket/a.png"])
def test_an_address_is_kept_as_it_is(address):
    assert Image(address) == Image.from_url(address)
    assert (Image(address).url, Image(address).data) == (address, "")


@pytest.mark.parametrize(
    "address", ["", "/etc/passwd", "file:///etc/passwd", "cat.png", "C:\\cat.png", "https://", "https://a b", "data:x"]
)
def test_what_is_no_address_is_refused_and_no_file_is_opened(address, monkeypatch):
    monkeypatch.setattr(pathlib.Path, "open", lambda *_: pytest.fail("a file was opened"))
    monkeypatch.setattr(pathlib.Path, "read_bytes", lambda *_: pytest.fail("a file was read"))
    with pytest.raises(tf.UsageError, match=r"no Image.*from_path"):
        Image(address)
    with pytest.raises(pydantic.ValidationError):
        adapter_for(Image).validate_python(address)


def test_a_data_address_is_taken_over_as_bytes():
    assert Image("data:image/png;base64,iVBORw0KGgoAAAAAAAAAAA==") == Image.from_bytes(PNG)
    assert File("data:text/plain;charset=utf-8,hi%20you").to_bytes() == b"hi you"


@pytest.mark.parametrize(
    ("kind", "data", "media_type"),
    [
        (Image, PNG, "image/png"),
        (Image, b"\xff\xd8\xff\xe0....", "image/jpeg"),
        (Image, b"GIF89a......", "image/gif"),
        (Image, b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (Audio, WAV, "audio/wav"),
        (Audio, b"ID3\x04....", "audio/mpeg"),
        (Audio, b"OggS....", "audio/ogg"),
        (File, PDF, "application/pdf"),
        (File, b"anything", "application/octet-stream"),
    ],
)
def test_the_first_bytes_say_what_it_is(kind, data, media_type):
    made = kind.from_bytes(data)
    assert made.media_type == media_type
    assert made.to_bytes() == data


@pytest.mark.parametrize(
    ("kind", "data", "media_type"),
    [(Image, b"plain text", ""), (Audio, PNG, ""), (Image, PNG, "audio/wav"), (Image, b"", ""), (Image, "text", "")],
)
def test_bytes_of_another_kind_are_refused(kind, data, media_type):
    with pytest.raises(tf.UsageError, match=f"no {kind.__name__}"):
        kind.from_bytes(data, media_type)


@pytest.mark.parametrize(
    ("kind", "name", "data", "media_type"),
    [
        (Image, "a.png", PNG, "image/png"),
        (Image, "wrongly_named.jpg", PNG, "image/png"),
        (Image, "drawing.svg", b"<svg/>", "image/svg+xml"),
        (Audio, "a.wav", WAV, "audio/wav"),
        (File, "report.pdf", PDF, "application/pdf"),
        (File, "table.csv", b"a,b", "text/csv"),
        (File, "letter.docx", b"PK\x03\x04", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (File, "unknown", b"\x00", "application/octet-stream"),
    ],
)
def test_a_file_is_read_with_its_name_and_type(tmp_path, kind, name, data, media_type):
    (tmp_path / name).write_bytes(data)
    made = kind.from_path(tmp_path / name)
    assert (made.to_bytes(), made.media_type, made.name) == (data, media_type, name)
    assert made == kind.from_path(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("text.png", b"not a picture", "is no image"),
        ("text.txt", b"not a picture", "is no image"),
        ("sound.png", WAV, "those of audio/wav"),
        ("empty.png", b"", "is empty"),
        (None, b"", "cannot be read"),
    ],
)
def test_a_file_that_is_no_image_is_a_typed_error(tmp_path, name, data, said):
    if name:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(tf.UsageError, match=said):
        Image.from_path(tmp_path / (name or "missing.png"))


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(tf.UsageError, match="cannot be read"):
        Image.from_path(tmp_path)


# --- a value ---


def test_equal_content_is_equal_whatever_it_is_called():
    one, other = Image.from_bytes(PNG, name="a.png"), Image.from_bytes(PNG, name="b.png")
    assert one == other
    assert len({one, other, Image.from_bytes(PNG + b"\1")}) == 2
    assert Image("https://a.b/c") != File("https://a.b/c")
    assert copy.deepcopy(one) == one


def test_it_cannot_be_changed():
    with pytest.raises(AttributeError):
        Image.from_bytes(PNG).data = ""


def test_its_repr_does_not_hold_the_bytes():
    assert repr(Image.from_bytes(PNG * 1000, name="a.png")) == "Image(a.png, image/png, 16,000 bytes)"
    assert repr(Image("https://a.b/c")) == "Image('https://a.b/c')"


def test_the_bytes_behind_an_address_are_not_here():
    with pytest.raises(tf.UsageError, match="an address"):
        Image("https://a.b/c").to_bytes()


@pytest.mark.parametrize("given", [{"data": "no base64!"}, {"url": "https://a.b", "data": "AAAA"}, {}, {"url": 3}])
def test_parts_that_make_no_sense_are_refused(given):
    with pytest.raises(tf.UsageError, match="no Image"):
        Image(**{"media_type": "image/png", **given})


# --- as the type of a field ---


class Page(pydantic.BaseModel):
    title: str
    pictures: list[Image]


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Image, Image("https://a.b/c.png", media_type="image/png")),
        (Image, Image.from_bytes(PNG, name="a.png")),
        (list[Image], [Image("https://a.b/c"), Image.from_bytes(PNG)]),
        (Image | None, None),
        (File | str, "just text"),
        (dict[str, Audio], {"a": Audio.from_bytes(WAV)}),
        (Page, Page(title="x", pictures=[Image.from_bytes(PNG)])),
    ],
)
def test_json_gives_the_same_value_back(type_, value):
    adapter = adapter_for(type_)
    assert adapter.validate_json(adapter.dump_json(value)) == value
    assert adapter.validate_python(json.loads(json.dumps(Example(x=value).to_dict()["x"]))) == value


def test_its_json_holds_what_is_set():
    assert Example(x=Image("https://a.b/c")).to_dict() == {"x": {"url": "https://a.b/c"}}
    assert Image.from_bytes(b"GIF8").to_json() == {"media_type": "image/gif", "data": "R0lGOA=="}


@pytest.mark.parametrize("value", [3, {"path": "/etc/passwd"}, {"a": 1}, ["https://a.b"], Audio("https://a.b/c")])
def test_a_field_takes_nothing_else(value):
    with pytest.raises(pydantic.ValidationError, match="no Image"):
        adapter_for(Image).validate_python(value)


def test_it_is_a_type_in_every_form_of_a_signature():
    class Caption(Signature):
        image: Image = InputField()
        caption: str = OutputField()

    def describe(image: Image) -> str: ...

    assert Caption.input_fields["image"].type is Image
    assert Signature("image: Image, all: list[Image], sound: Audio | None -> text").fields["all"].type == list[Image]
    assert str(Signature("scan: File -> text")) == "scan: File -> text"
    assert Signature(describe).input_fields["image"].type is Image


def test_a_class_of_the_user_with_that_name_is_the_users():
    class Image:
        pass

    assert Signature("image: Image -> text").fields["image"].type is Image
