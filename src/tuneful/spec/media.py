"""Images, sounds and documents as values of fields."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import unquote_to_bytes

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, SchemaSerializer, core_schema

from tuneful.errors import UsageError

#: Addresses that a provider fetches by itself.
_ADDRESS = re.compile(r"(https?|gs)://\S+", re.IGNORECASE)
_DATA_ADDRESS = re.compile(r"data:(?P<type>[^;,]*)(?P<options>(;[^;,]*)*),(?P<data>.*)", re.IGNORECASE | re.DOTALL)

#: (position, bytes that stand there, media type). The first that fits counts.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypheix", "image/heic"),
    (4, b"ftypmif1", "image/heif"),
    (4, b"ftypM4A", "audio/mp4"),
    (8, b"WAVE", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"\xff\xf3", "audio/mpeg"),
    (0, b"\xff\xf2", "audio/mpeg"),
    (0, b"\xff\xf1", "audio/aac"),
    (0, b"\xff\xf9", "audio/aac"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (0, b"%PDF-", "application/pdf"),
)
_SIGNED = frozenset(media_type for _, _, media_type in _SIGNATURES)

#: What Python's own table of file names lacks.
_TYPES_BY_SUFFIX = {
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".md": "text/markdown",
}


def _written(value: Any) -> Any:
    return value.to_json() if isinstance(value, Medium) else value


_WRITER = core_schema.plain_serializer_function_ser_schema(_written)


@dataclass(frozen=True, repr=False)
class Medium:
    """Base of `Image`, `Audio` and `File`: bytes, or an address that is handed to the provider and never fetched here.

    An immutable value, equal by content. In JSON it is an object with what is set of `url`, `media_type`, `data` (the
    bytes in base64) and `name`; a field also takes an address as text. A path on this machine is not an address: only
    `from_path` opens files, so that no text from outside can make a program read one.

    Args:
        url: an address that begins with https://, http:// or gs://, or a data: address, whose bytes are taken over.
        media_type: such as "image/png"; read from the bytes where it is not given.
        data: the bytes in base64.
        name: name of the file, for the provider. Not part of the content.

    Raises:
        UsageError: neither address nor bytes, or something of another kind.
    """

    kind: ClassVar[Literal["image", "audio", "file"]]

    url: str = ""
    _: KW_ONLY
    media_type: str = ""
    data: str = ""
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name in ("url", "media_type", "data", "name"):
            if not isinstance(getattr(self, name), str):
                raise self._wrong(f"`{name}` must be text, got {getattr(self, name)!r:.60}")
        if self.url[:5].lower() == "data:" and not self.data:
            self._take_over(self.url)
        if bool(self.url) == bool(self.data):
            raise self._wrong("give an address, or bytes")
        if self.url and not _ADDRESS.fullmatch(self.url):
            raise self._wrong(f"{self.url[:80]!r} is no address")
        object.__setattr__(self, "media_type", self._checked_type())

    def _take_over(self, address: str) -> None:
        parts = _DATA_ADDRESS.fullmatch(address)
        if parts is None:
            raise self._wrong(f"{address[:40]!r} is no well-formed data: address")
        content = unquote_to_bytes(parts["data"])
        encoded = parts["options"].lower().endswith(";base64")
        found = content.decode("ascii", "replace") if encoded else base64.b64encode(content).decode("ascii")
        object.__setattr__(self, "url", "")
        object.__setattr__(self, "data", found)
        object.__setattr__(self, "media_type", self.media_type or parts["type"].strip().lower())

    def _checked_type(self) -> str:
        media_type = self.media_type
        if self.data:
            try:
                content = base64.b64decode(self.data, validate=True)
                media_type = media_type or _type_of(content)
            except (binascii.Error, ValueError) as error:
                raise self._wrong(f"`data` is no base64 ({error})") from error
            if not media_type and self.kind != "file":
                raise self._wrong("its bytes do not say what they are: give `media_type`")
        if media_type and self.kind != "file" and not media_type.startswith(f"{self.kind}/"):
            raise self._wrong(f"{media_type!r} is no {self.kind}")
        return media_type or ("application/octet-stream" if self.data else "")

    @classmethod
    def _wrong(cls, problem: str) -> UsageError:
        return UsageError(
            f"this is no {cls.__name__}: {problem}. Make one with {cls.__name__}('https://...'), "
            f"{cls.__name__}.from_path(...) or {cls.__name__}.from_bytes(...)."
        )

    # --- making ---

    @classmethod
    def from_url(cls, url: str, media_type: str = "") -> Self:
        """Return it by its address. The provider fetches it; nothing is fetched here."""
        return cls(url, media_type=media_type)

    @classmethod
    def from_bytes(cls, data: bytes, media_type: str = "", name: str = "") -> Self:
        """Return it from its bytes.

        Raises:
            UsageError: there are none, or neither they nor `media_type` say that they are of this kind.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)) or not data:
            raise cls._wrong(f"expected some bytes, got {data!r:.60}")
        return cls(data=base64.b64encode(data).decode("ascii"), media_type=media_type, name=name)

    @classmethod
    def from_path(cls, path: str | Path, media_type: str = "") -> Self:
        """Read a file. What it is, its first bytes say; its name says it where they do not.

        Raises:
            UsageError: the file cannot be read, is empty, or is of another kind.
        """
        source = Path(path)
        try:
            data = source.read_bytes()
        except OSError as error:
            raise UsageError(f"the file {str(source)!r} cannot be read: {error.strerror}.") from error
        if not data:
            raise UsageError(f"the file {str(source)!r} is empty.")
        return cls.from_bytes(data, media_type or cls._type_of_file(source, data), source.name)

    @classmethod
    def _type_of_file(cls, source: Path, data: bytes) -> str:
        by_bytes, by_name = _type_of(data), _type_by_name(source)
        if cls.kind == "file":
            return by_name or by_bytes
        if by_bytes.startswith(f"{cls.kind}/"):
            return by_bytes
        if not by_bytes and by_name.startswith(f"{cls.kind}/") and by_name not in _SIGNED:
            return by_name
        raise UsageError(
            f"the file {str(source)!r} is no {cls.kind}: its first bytes are those of {by_bytes or 'something else'}. "
            f"If it is one all the same, say which: {cls.__name__}.from_path(..., media_type='{cls.kind}/...')."
        )

    # --- looking ---

    def to_bytes(self) -> bytes:
        """Return the bytes. Raises UsageError where only an address is known."""
        if not self.data:
            raise UsageError(f"{self!r} is an address: its bytes are not here.")
        return base64.b64decode(self.data)

    def to_json(self) -> dict[str, str]:
        """Return what is set, as JSON values; a field of this type reads it back."""
        shown = {"url": self.url, "media_type": self.media_type, "data": self.data, "name": self.name}
        return {name: text for name, text in shown.items() if text}

    def __repr__(self) -> str:
        if self.url:
            return f"{type(self).__name__}({self.url!r})"
        size = len(self.data) * 3 // 4 - self.data[-2:].count("=")
        name = f"{self.name}, " if self.name else ""
        return f"{type(self).__name__}({name}{self.media_type}, {size:,} bytes)"

    # --- as the type of a field ---

    @classmethod
    def _validated(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        if isinstance(value, bytes):
            return cls.from_bytes(value)
        if isinstance(value, Mapping) and set(value) <= {"url", "media_type", "data", "name"}:
            return cls(**value)
        raise cls._wrong(f"got {value!r:.60}")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls._validated, serialization=_WRITER)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "format": "uri"}  # what a model can write

    #: How pydantic writes one that it meets where no type was declared.
    __pydantic_serializer__: ClassVar[SchemaSerializer] = SchemaSerializer(
        core_schema.any_schema(serialization=_WRITER)
    )


def _type_of(data: bytes) -> str:
    """Return the media type that the first bytes tell, or ""."""
    for position, mark, media_type in _SIGNATURES:
        if data.startswith(mark, position):
            return media_type
    return ""


def _type_by_name(path: Path) -> str:
    """Return the media type that a name tells, or "". It is the same on every machine: no system table is asked."""
    import mimetypes  # reads files when it is first used

    known = _TYPES_BY_SUFFIX.get(path.suffix.lower())
    return known or mimetypes.MimeTypes().guess_type(path.name)[0] or ""


class Image(Medium):
    """A picture, as the value of a field: `class Caption(tf.Signature): image: tf.Image = tf.InputField()`.

    >>> Image("https://example.com/cat.png")
    Image('https://example.com/cat.png')
    >>> Image.from_bytes(b"GIF89a...")
    Image(image/gif, 9 bytes)
    """

    kind = "image"


class Audio(Medium):
    """A sound, as the value of a field; see `Image`."""

    kind = "audio"


class File(Medium):
    """A document (a PDF, a text, a table), as the value of a field; see `Image`."""

    kind = "file"
