"""Rebuilt: what holds connections, locks or loaded models, and is made anew where it arrives in another process."""

from __future__ import annotations

import uuid
from typing import Any, Self
from weakref import WeakKeyDictionary, WeakValueDictionary

from tuneful.errors import UsageError

#: Arguments that hold secrets. Another process has a key of its own; headers it cannot have.
_KEY, _HEADERS = "api_key", "headers"

#: Names of the objects of this process that have travelled or arrived, and the objects by their names.
_names: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
_here: WeakValueDictionary[str, Any] = WeakValueDictionary()


class Rebuilt:
    """Base of what travels to another process as the arguments of its constructor, and is made by them there.

    One that arrives several times is one object there, so that its connections are kept. Keys do not travel: `api_key`
    is left out, and what is made there reads the environment that it finds.
    """

    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Note the arguments, but no secrets."""
        made = super().__new__(cls)
        given = {k: v for k, v in kwargs.items() if k != _KEY and (k != _HEADERS or v)}
        made.__dict__["_made_with"] = (args, {k: list(v) if k == _HEADERS else v for k, v in given.items()})
        return made

    def _beside(self) -> dict[str, Any]:
        """Return what has changed since it was made, for `__setstate__`. Raises UsageError for what cannot travel."""
        return {}

    def __reduce__(self) -> tuple[Any, ...]:
        args, kwargs = self._made_with
        if _HEADERS in kwargs:
            raise UsageError(
                f"{self!r} was made with `headers` ({', '.join(kwargs[_HEADERS])}), which may hold secrets and are not "
                "sent to another process. Use a backend of your own that reads them where it runs."
            )
        name = _here_as(self, _names.get(self) or uuid.uuid4().hex)
        return _rebuilt, (name, type(self), args, kwargs), self._beside()

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin


def _here_as(thing: Rebuilt, name: str) -> str:
    _names[thing] = name
    _here[name] = thing
    return name


def _rebuilt(name: str, kind: type[Rebuilt], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Rebuilt:
    found: Rebuilt | None = _here.get(name)
    if found is None:
        found = kind(*args, **kwargs)
        _here_as(found, name)
    return found
