"""Figures: intervals and the learning curve as drawings, the candidates as a tree."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tuneful.optimize.evidence import Point, Tried
from tuneful.optimize.page.html import Html, tag
from tuneful.optimize.report import CompileReport
from tuneful.optimize.verdict import Measured

_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 12, 36


def percent(score: float | None) -> str:
    """Return a score for people."""
    return "none" if score is None or math.isnan(score) else f"{100 * score:.1f} %"


def intervals(report: CompileReport) -> Html:
    """Return original and best candidate on the held-out rows, as bars with their intervals."""
    if report.baseline is None or report.best is None:
        return Html("")
    highest = max(
        1.0, *(b for m in (report.baseline, report.best) for b in (m.mean, m.interval[1]) if math.isfinite(b))
    )
    rows = [_bar("original", report.baseline, highest, "old"), _bar("best candidate", report.best, highest, "new")]
    return tag("div", rows, class_="bars")


def _bar(name: str, measured: Measured, highest: float, kind: str) -> Html:
    def place(score: float) -> float:
        return 100 * min(1.0, max(0.0, score / highest))

    low, high = (place(b) for b in measured.interval)
    width = 0.0 if math.isnan(measured.mean) else place(measured.mean)
    drawing = [
        tag("i", class_=f"fill {kind}", style=f"width:{width:.1f}%"),
        tag("i", class_="interval", style=f"left:{low:.1f}%;width:{high - low:.1f}%"),
    ]
    span = f"{percent(measured.interval[0])} to {percent(measured.interval[1])}"
    said = [tag("b", percent(measured.mean)), tag("small", f" 95 % interval {span}, {measured.n} rows")]
    return tag("div", tag("span", name), tag("div", drawing, class_="bar"), tag("span", said), class_="row")


def curve(points: Sequence[Point]) -> Html:
    """Return the trials of the search by what was spent, and the best candidate so far as a line."""
    shown = [p for p in points if p.score is not None]
    if not shown:
        return tag("p", "The search measured nothing: this teleprompter makes its candidate without running any.")
    by_tokens = any(p.tokens for p in shown)
    most = max(p.tokens if by_tokens else p.calls for p in shown) or 1
    top = max(1.0, *(p.score or 0.0 for p in shown))

    def x(point: Point) -> float:
        return _LEFT + (point.tokens if by_tokens else point.calls) / most * (_WIDTH - _LEFT - _RIGHT)

    def y(score: float) -> float:
        return _TOP + (1 - max(0.0, score) / top) * (_HEIGHT - _TOP - _BOTTOM)

    drawing: list[Html] = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = y(share * top)
        drawing.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=f"{at:.1f}", y2=f"{at:.1f}", class_="grid"))
        drawing.append(tag("text", f"{100 * share * top:.0f} %", x=_LEFT - 6, y=f"{at + 4:.1f}", text_anchor="end"))
    unit = "tokens" if by_tokens else "calls"
    for share in (0.0, 0.5, 1.0):
        at = _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        told = f"{share * most:,.0f}" + (f" {unit} spent" if share == 1 else "")
        drawing.append(tag("text", told, x=f"{at:.1f}", y=_HEIGHT - 12, text_anchor=anchor))
    steps: list[str] = []
    for point in shown:
        if point.best is not None:
            steps += [f"{x(point):.1f},{steps[-1].split(',')[1]}"] if steps else []
            steps.append(f"{x(point):.1f},{y(point.best):.1f}")
    if steps:
        drawing.append(tag("polyline", points=" ".join(steps), class_="best"))
    for point in shown:
        score = point.score or 0.0
        told = f"{point.who}: {percent(score)} on {point.n} rows, {point.calls:,} calls, {point.tokens:,} tokens so far"
        dot = tag("title", told)
        drawing.append(
            tag("g", dot, tag("circle", cx=f"{x(point):.1f}", cy=f"{y(score):.1f}", r=4, class_=f"dot {point.who}"))
        )
    picture = tag("svg", drawing, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label="learning curve")
    return tag("figure", picture, tag("figcaption", _legend(shown)))


def _legend(shown: Sequence[Point]) -> list[Html]:
    said = []
    if any(p.who == "student" for p in shown):
        said.append(tag("span", tag("i", class_="key student"), " a trial of a candidate", class_="legend"))
    if any(p.who == "teacher" for p in shown):
        said.append(tag("span", tag("i", class_="key teacher"), " a trial of the teacher", class_="legend"))
    if any(p.best is not None for p in shown):
        said.append(tag("span", tag("i", class_="key line"), " the best candidate so far", class_="legend"))
    return said


def tree(tried: Sequence[Tried], best: dict[str, object]) -> Html:
    """Return the candidates as a tree: each below the earlier one that it differs least from."""
    if not tried:
        return tag("p", "No candidate was scored during the search; there was one to compare, or none.")
    by_parent: dict[int | None, list[Tried]] = {}
    for one in tried:
        parent = one.parent if one.parent in {t.number for t in tried} else None
        by_parent.setdefault(parent, []).append(one)
    first = next((t for t in tried if not t.candidate), None)
    roots = [t for t in by_parent.get(None, []) if t.candidate]
    root = tag("span", tag("b", "the original program"), _measure(first) if first else None)
    return tag("div", tag("ul", tag("li", root, _branch(roots, by_parent, best)), class_="tree"), class_="scroll")


def _branch(children: Sequence[Tried], by_parent: dict[int | None, list[Tried]], best: dict[str, object]) -> Html:
    if not children:
        return Html("")
    items = []
    for one in children:
        name = [tag("b", f"candidate {one.number}"), _measure(one)]
        chosen = tag("span", "best", class_="chip win") if one.candidate == best else None
        changed = tag("small", f" {_changed(one.candidate)}")
        items.append(tag("li", name, chosen, changed, _branch(by_parent.get(one.number, []), by_parent, best)))
    return tag("ul", items)


def _measure(one: Tried) -> Html:
    low, high = one.interval
    span = f" ({percent(low)} to {percent(high)})" if math.isfinite(low) else ""
    return tag("span", f" {percent(one.score)}{span} on {one.n} search rows ")


def _changed(candidate: dict[str, object]) -> str:
    parts = [f"{len(v)} in {path}" if isinstance(v, (list, tuple)) else path for path, v in candidate.items()]
    return ", ".join(parts)
