"""Html: text that is safe to stand in a page. Whatever is not of this type is escaped where it is put in."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

#: Elements that hold nothing.
_WITHOUT_END = frozenset({"meta", "input", "line", "circle", "rect", "polyline", "br"})


#: Characters that no page may hold, as the one that stands for what cannot be shown.
_UNSEEN = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127], "\ufffd")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(content: object) -> Html:
    """Return content as HTML: a plain text escaped, several things one after the other.

    >>> escaped(["<b>", tag("b", "a&b")])
    '&lt;b&gt;<b>a&amp;b</b>'
    """
    if isinstance(content, Html):
        return content
    if content is None:
        return Html("")
    if isinstance(content, (list, tuple)) or (isinstance(content, Iterable) and not isinstance(content, str)):
        return Html("".join(escaped(part) for part in content))
    return Html(html.escape(str(content), quote=True).translate(_UNSEEN))


def tag(name: str, /, *content: object, **attributes: object) -> Html:
    """Return an element. An attribute's `_` stands for `-`, one at its end is dropped; None leaves the attribute out.

    >>> tag("p", "1 < 2", class_="note")
    '<p class="note">1 &lt; 2</p>'
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _WITHOUT_END:
        return Html(f"<{name}{said}/>")  # the shapes of a drawing need the stroke
    return Html(f"<{name}{said}>{escaped(content)}</{name}>")


def table(rows: Sequence[tuple[object, ...]], *, numbers: bool = True) -> Html:
    """Return rows, the head first, as a table that scrolls in its own box where it is wide."""
    head, *body = rows
    align = "numbers" if numbers else "words"
    parts = [
        tag("thead", tag("tr", [tag("th", cell) for cell in head])),
        tag("tbody", [tag("tr", [tag("td", cell) for cell in row]) for row in body]),
    ]
    return tag("div", tag("table", parts, class_=align), class_="scroll")
