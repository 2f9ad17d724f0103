"""Page: a compile report as one HTML file, without any request to a network."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

from tuneful.optimize.objectives import SHOWN, figure
from tuneful.optimize.page import figures, rows, words
from tuneful.optimize.page.html import Html, table, tag
from tuneful.optimize.report import CompileReport
from tuneful.program.watching.compile_progress import duration

#: Nothing is loaded from anywhere, whatever the data says.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)

#: The colour of a verdict.
_TONES = {"better": "good", "not worse": "good", "not validated": "open", "not compared": "open"}


def page(report: CompileReport) -> str:
    """Return the page."""
    title = f"Compile report: {report.teleprompter}"
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", title),
        tag("style", Html(_file("style.css"))),
    ]
    body = tag("main", _top(report), [_section(name, said, part) for name, said, part in _parts(report)])
    script = tag("script", Html(_file("script.js")))
    return "<!doctype html>\n" + tag("html", tag("head", head), tag("body", body, script), lang="en") + "\n"


def _file(name: str) -> str:
    return resources.files("tuneful.optimize.page").joinpath(name).read_text(encoding="utf-8")


def _section(name: str, said: str, part: Html) -> Html:
    return tag("section", tag("h2", name), tag("p", said, class_="said") if said else None, part)


def _top(report: CompileReport) -> Html:
    tone = _TONES.get(report.verdict, "same")
    facts = [
        ("teleprompter", f"{report.teleprompter}{f', run {report.run!r}' if report.run else ''}"),
        ("rows", f"{report.search_rows} to search on, {report.held_out_rows} held out"),
        ("models", ", ".join(report.models) or "none was asked"),
        ("spent", _spent(report)),
        ("stopped", report.stop_reason),
    ]
    said = tag("p", words.VERDICTS[report.verdict], class_="said")
    listed = tag("dl", [Html(tag("dt", k) + tag("dd", v)) for k, v in facts], class_="facts")
    verdict = tag("h1", _capital(report.advice), ".")
    return tag(
        "header",
        tag("p", "Compile report", class_="quiet"),
        verdict,
        said,
        figures.intervals(report),
        listed,
        class_=tone,
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _spent(report: CompileReport) -> str:
    usage = report.usage
    cost = "cost unknown" if usage.cost_usd is None else f"${usage.cost_usd:.4f}"
    tokens = f"{usage.prompt_tokens:,} tokens sent, {usage.completion_tokens:,} generated"
    return f"{usage.calls:,} calls, {tokens}, {cost}, {duration(report.seconds)}"


def _parts(report: CompileReport) -> Iterable[tuple[str, str, Html]]:
    evidence = report.evidence
    compared = report.comparison
    said = f"{compared.wins} wins and {compared.losses} losses on {compared.n} rows. " if compared is not None else ""
    yield (
        "Row by row",
        f"{said}Rows that the search never saw. Open one to see both answers side by side.",
        rows.pairs(evidence.pairs, evidence.left_out.get("held-out rows", 0)),
    )
    yield (
        "Prompts",
        "What each step sends, for a sample input: the original against the best candidate.",
        rows.prompts(evidence.prompts),
    )
    yield (
        "Demos",
        "Worked examples in the best candidate's prompts, and where each comes from.",
        rows.demos(evidence.demos),
    )
    yield (
        "What a run takes",
        "Programs that were compared on the held-out rows, and the mean costs of a run. No other beats the front.",
        _weighed(report),
    )
    yield (
        "The search",
        "Scores on search rows, by what was spent until then.",
        Html(figures.curve(evidence.curve) + _list(report.found)),
    )
    yield (
        "Candidates",
        "What the search has measured. Each stands below the earlier candidate that it differs least from.",
        figures.tree(evidence.tried, report.candidate),
    )
    yield "Cost", "What each phase used, against the plan.", _cost(report)
    yield "Warnings", "", _warnings(report)
    yield "Settings", "", _settings(report)
    yield "Words", "", tag("dl", [Html(tag("dt", k) + tag("dd", v)) for k, v in words.GLOSSARY.items()])


def _list(lines: list[str]) -> Html:
    return tag("ul", [tag("li", line) for line in lines]) if lines else Html("")


def _cost(report: CompileReport) -> Html:
    phases = report.evidence.phases
    if report.evidence.plan is not None:
        plan = report.evidence.plan
        return Html(table(plan.against(phases)) + _list([_capital(a) for a in plan.assumptions]))
    found: list[tuple[object, ...]] = [("phase", "calls", "prompt tokens", "completion tokens")]
    found += [(name, f"{u.calls:,}", f"{u.prompt_tokens:,}", f"{u.completion_tokens:,}") for name, u in phases.items()]
    return table(found)


def _weighed(report: CompileReport) -> Html:
    if not report.weighed:
        return tag("p", "Nothing was compared.")
    heads = [name.replace("_", " ") for name in SHOWN]
    found: list[tuple[object, ...]] = [("program", "on the front", "score", "95 % interval", *heads)]
    front = report.front
    for i, one in enumerate(report.weighed):
        name = "original" if i == 0 else "best candidate" if one.candidate == report.candidate else f"candidate {i}"
        low, high = (figures.percent(b) for b in one.measured.interval)
        costs = ("unknown" if (c := one.costs[cost]) is None else figure(cost, c) for cost in SHOWN)
        place = "yes" if one in front else ""
        found.append((name, place, figures.percent(one.measured.mean), f"{low} to {high}", *costs))
    return table(found)


def _warnings(report: CompileReport) -> Html:
    if not report.warnings:
        return tag("p", "None: every answer could be read at once, and nothing failed.")
    found: list[tuple[object, ...]] = [("how often", "what", "what it means")]
    found += [(f"{n:,}", kind, words.meaning(kind)) for kind, n in sorted(report.warnings.items())]
    return table(found, numbers=False)


def _settings(report: CompileReport) -> Html:
    found: list[tuple[object, ...]] = [("setting", "value")]
    found += [(name, str(value)) for name, value in {**report.settings, "seed": report.seed}.items()]
    found.append(("hash of the data", report.data_hash))
    return tag("details", tag("summary", "Settings of the teleprompter"), table(found, numbers=False))
