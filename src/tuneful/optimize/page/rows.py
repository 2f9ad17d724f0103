"""Rows: held-out rows one by one, with what both programs made of each; demos with where they come from; diffs."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence

from tuneful.optimize.evidence import Answer, Demo, Pair
from tuneful.optimize.page.html import Html, tag

_WORDS = {"win": "win", "loss": "loss", "same": "same score", "unknown": "not comparable"}


def pairs(found: Sequence[Pair], left_out: int) -> Html:
    """Return held-out rows, wins and losses first, with buttons and a field that filter them."""
    if not found:
        return tag("p", "No rows were compared.")
    count = Counter[str](p.change for p in found)
    buttons = [_button("all", f"all {len(found)}", pressed=True)]
    buttons += [_button(kind, f"{word} {count[kind]}") for kind, word in _WORDS.items() if count[kind]]
    field = tag("input", type="search", placeholder="find in rows", id="find", aria_label="find in rows")
    order = list(_WORDS)
    ranked = sorted(enumerate(found, 1), key=lambda p: order.index(p[1].change))
    more = tag("p", f"{left_out:,} further rows are not kept in the report.") if left_out else None
    return Html(
        tag("div", buttons, field, class_="filter")
        + tag("div", [_pair(n, p) for n, p in ranked], id="rows")
        + (more or "")
    )


def _button(kind: str, text: str, *, pressed: bool = False) -> Html:
    return tag("button", text, type="button", data_show=kind, aria_pressed=str(pressed).lower())


def _pair(number: int, pair: Pair) -> Html:
    gist = " / ".join(" ".join(text.split())[:90] for text in pair.inputs.values())
    scores = f"{_score(pair.original)} to {_score(pair.best)}"
    head = tag(
        "summary",
        tag("span", _WORDS[pair.change], class_=f"chip {pair.change}"),
        tag("span", scores, class_="scores"),
        tag("span", gist or f"row {number}", class_="gist"),
    )
    given = [fields(pair.inputs, "inputs"), fields(pair.labels, "labels: what is right")]
    both = [_answer(pair.original, "original"), _answer(pair.best, "best candidate")]
    body = tag("div", tag("div", given, class_="two"), tag("div", both, class_="two"), class_="body")
    return tag("details", head, body, class_="pair", data_kind=pair.change)


def _score(answer: Answer) -> str:
    return "none" if answer.score is None else f"{answer.score:.3g}"


def _answer(answer: Answer, name: str) -> Html:
    state = "" if answer.status == "ok" else f", {answer.status.replace('_', ' ')}"
    shown = dict(answer.outputs)
    if answer.feedback:
        shown["feedback" if answer.status == "ok" else "what happened"] = answer.feedback
    return fields(shown, f"{name}: score {_score(answer)}{state}")


def fields(values: Mapping[str, str], title: str) -> Html:
    """Return fields with their names, in a box."""
    shown = [Html(tag("dt", name) + tag("dd", text)) for name, text in values.items()]
    return tag("section", tag("h4", title), tag("dl", shown) if shown else tag("p", "nothing", class_="quiet"))


def demos(found: Mapping[str, Sequence[Demo]]) -> Html:
    """Return the demos of each predictor, each with where it comes from."""
    if not any(found.values()):
        return tag("p", "The best candidate has no demos.")
    return Html(
        "".join(
            tag("details", tag("summary", tag("b", path or "the program"), f": {len(shown)} demos"), _shown(shown))
            for path, shown in found.items()
        )
    )


def _shown(found: Sequence[Demo]) -> list[Html]:
    return [fields(d.fields, f"{number}. from a {d.origin}") for number, d in enumerate(found, 1)]


def prompts(found: Mapping[str, tuple[str, str]]) -> Html:
    """Return what changed in the prompt of each predictor, line by line."""
    return Html("".join(_diff(path, *texts) for path, texts in found.items()) or tag("p", "No prompt is known."))


def _diff(path: str, before: str, after: str) -> Html:
    name = tag("b", path or "the program")
    if before == after:
        return tag("details", tag("summary", name, ": unchanged"), tag("pre", before))
    lines = []
    added = removed = 0
    for line in difflib.ndiff(before.splitlines(), after.splitlines()):
        sign, text = line[0], line[2:]
        if sign == "?":
            continue
        added, removed = added + (sign == "+"), removed + (sign == "-")
        kind = {"+": "add", "-": "cut"}.get(sign)
        lines.append(tag("span", f"{sign} {text}\n", class_=kind))
    return tag("details", tag("summary", name, f": {added} lines more, {removed} lines less"), tag("pre", lines))
