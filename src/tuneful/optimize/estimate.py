"""Estimate: a plan, from a few rows that are really rendered and made into tokens. No model is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneful.backends.models import Price
from tuneful.evaluate.power import power_line
from tuneful.optimize.evidence import as_text
from tuneful.optimize.plan import Phase, Plan, Range
from tuneful.optimize.prompts import standing
from tuneful.optimize.recipe import Recipe
from tuneful.program.lm import current_lm
from tuneful.program.module import Module
from tuneful.program.predict import Predict
from tuneful.program.running.runtime import context, settings
from tuneful.spec.example import Example

#: Rows that are rendered for each predictor.
ROWS = 5

#: Tokens of an output field that has no label: from a word to a paragraph of reasoning.
UNKNOWN: Range = (2, 200)

#: Tokens that a model is sent, and writes, for a proposal: nobody knows before what was tried is there to be shown.
PROPOSAL: tuple[Range, Range] = ((100, 6000), (5, 800))

#: Most tokens of what an adapter writes around a field's value.
_AROUND = 12
_CHARS_PER_TOKEN = 4


@dataclass(frozen=True)
class Size:
    """One call of a predictor, in tokens: its prompt, one more demo in it, and its answer; and the model's price."""

    prompt: Range
    demo: int
    answer: Range
    price: Price | None
    exact: bool

    def usd(self, demos: int) -> tuple[float, float] | None:
        """Return what a call costs, with no and with so many more demos; None where the price is not known."""
        if self.price is None:
            return None
        low = self.price.cost_usd(self.prompt[0], 0, self.answer[0])
        return (low, self.price.cost_usd(self.prompt[1] + demos * self.demo, 0, self.answer[1]))


def sizes(program: Module, rows: Sequence[Example]) -> list[Size]:
    """Return the size of a call of each predictor of a program."""
    step = max(1, len(rows) // ROWS)
    shown = [row.to_dict() for row in rows[::step][:ROWS]] or [{}]
    return [_size(standing(predictor), shown) for predictor in program.predictors()]


def _size(predictor: Predict[Any], rows: Sequence[Mapping[str, Any]]) -> Size:
    signature = predictor.signature
    prompts, demos, lows, highs = [], [], [], []
    exact = True
    for row in rows:
        given = {n: row[n] for n in signature.input_fields if row.get(n) is not None}
        rendered = predictor.render(**given)
        prompts.append(rendered.tokens)
        exact = exact and rendered.exact
        demo = {n: row[n] for n in signature.fields if row.get(n) is not None}
        if any(n in demo for n in signature.output_fields) and any(n in demo for n in signature.input_fields):
            twin = predictor.deepcopy()
            twin.demos = [Example(demo), *twin.demos]
            missing = sum(n not in demo for n in signature.fields)
            demos.append(max(0, twin.render(**given).tokens - prompts[-1]) + missing * UNKNOWN[1])
        low, high = _answer(predictor, row)
        lows.append(low)
        highs.append(high)
    lm = predictor.lm or current_lm()
    longest = max(demos, default=max(prompts) + max(highs))
    return Size((min(prompts), max(prompts)), longest, (min(lows), max(highs)), lm.price, exact)


def _answer(predictor: Predict[Any], row: Mapping[str, Any]) -> Range:
    low = high = 0
    for name in predictor.signature.output_fields:
        if row.get(name) is not None:
            length = len(as_text(row[name])) // _CHARS_PER_TOKEN + 1
            low, high = low + max(1, length // 2), high + 2 * length + _AROUND
        else:
            low, high = low + UNKNOWN[0], high + UNKNOWN[1] + _AROUND
    limit = predictor.sampling.max_tokens or (predictor.lm or current_lm()).sampling.max_tokens
    return (low, high) if limit is None else (min(low, limit), min(high, limit))


def estimate(
    recipe: Recipe,
    *,
    student: Module,
    teacher: Module,
    search: Sequence[Example],
    rollouts: Range,
    proposals: Mapping[str, Range],
    compared: int,
    calls_per_run: float | None = None,
) -> Plan:
    """Return what a compile will take.

    Args:
        recipe: what is compiled with.
        student, teacher: the programs.
        search: rows to search on.
        rollouts: fewest and most of the search.
        proposals: fewest and most calls of models that propose, by the name of the job.
        compared: held-out rows that the original and a candidate are compared on.
        calls_per_run: model calls of one run of the program; by default one for each predictor.
    """
    own = sizes(student, search)
    with context(**(recipe.teacher_settings or {})):
        taught = sizes(teacher, search)
    judged = sizes(recipe.metric, ()) if isinstance(recipe.metric, Module) else []
    times = 1.0 if calls_per_run is None else calls_per_run / max(1, len(own))
    demos = most_demos(recipe)
    found = [
        _phase("search", rollouts, [(own, demos), (taught, demos)], judged, times),
        *(_proposals(name, calls, recipe) for name, calls in proposals.items()),
        _phase("comparison", (0 if rollouts[1] else 2 * compared, 2 * compared), [(own, demos)], judged, times),
    ]
    exact = all(s.exact for s in [*own, *taught, *judged])
    said = _assumptions(len(own), len(search), calls_per_run, exact=exact, judged=bool(judged))
    if proposals:
        (low, high), (short, long) = PROPOSAL
        said = (*said, f"proposals: {low:,} to {high:,} tokens sent, {short} to {long} generated, each")
    return Plan(tuple(found), (*said, power_line(compared)))


def _proposals(name: str, calls: Range, recipe: Recipe) -> Phase:
    """Return the phase of a job that asks a model for proposals."""
    price = (getattr(recipe, "prompt_model", None) or current_lm()).price
    ends = [
        (n, n * sent, n * said, None if price is None else n * price.cost_usd(sent, 0, said))
        for n, sent, said in zip(calls, *PROPOSAL, strict=True)
    ]
    (low, sent_low, said_low, usd_low), (high, sent_high, said_high, usd_high) = ends
    usd = None if usd_low is None or usd_high is None else (usd_low, usd_high)
    return Phase(name, (0, 0), (low, high), (sent_low, sent_high), (said_low, said_high), usd)


def _phase(
    name: str, rollouts: Range, runs: Sequence[tuple[Sequence[Size], int]], judged: Sequence[Size], times: float
) -> Phase:
    """Return a phase whose rollouts are each a run of one of some programs (with so many more demos), then judged."""

    def least(what: str) -> float:
        found: float = min(times * sum(getattr(s, what)[0] for s in sizes) for sizes, _ in runs)
        return found

    low, high = rollouts
    each = [sum(s.prompt[1] + demos * s.demo for s in sizes) for sizes, demos in runs]
    per_run = [len(sizes) for sizes, _ in runs]
    prompt = (least("prompt") + sum(s.prompt[0] for s in judged), times * max(each) + sum(s.prompt[1] for s in judged))
    answer = (
        least("answer") + sum(s.answer[0] for s in judged),
        max(times * sum(s.answer[1] for s in sizes) for sizes, _ in runs) + sum(s.answer[1] for s in judged),
    )
    return Phase(
        name,
        rollouts,
        (round(low * (times * min(per_run) + len(judged))), round(high * (times * max(per_run) + len(judged)))),
        (round(low * prompt[0]), round(high * prompt[1])),
        (round(low * answer[0]), round(high * answer[1])),
        _dollars(rollouts, runs, judged, times),
    )


def _dollars(
    rollouts: Range, runs: Sequence[tuple[Sequence[Size], int]], judged: Sequence[Size], times: float
) -> tuple[float, float] | None:
    totals = []
    for own, demos in runs:
        costs = [(s.usd(demos), times) for s in own] + [(s.usd(0), 1.0) for s in judged]
        known = [(weight * c[0], weight * c[1]) for c, weight in costs if c is not None]
        if len(known) != len(costs):
            return None
        totals.append((sum(a for a, _ in known), sum(b for _, b in known)))
    return (rollouts[0] * min(a for a, _ in totals), rollouts[1] * max(b for _, b in totals))


def most_demos(recipe: Recipe) -> int:
    """Return the most demos that a recipe may add to a predictor, by the hyper-parameters that say so."""
    return max(getattr(recipe, name, 0) or 0 for name in ("max_labeled_demos", "max_bootstrapped_demos", "k"))


def _assumptions(
    predictors: int, rows: int, calls_per_run: float | None, *, exact: bool, judged: bool
) -> tuple[str, ...]:
    calls = f"{calls_per_run:g}" if calls_per_run is not None else f"{predictors}, one for each predictor"
    counted = "the model's own tokenizer" if exact else f"{_CHARS_PER_TOKEN} characters to a token"
    said = [
        f"calls of one run of the program: {calls}; plan(..., calls_per_run=...) where it asks more or less often",
        f"prompts of {min(ROWS, rows)} rows, counted by {counted}",
        f"answers as long as the labels, and where there is none, {UNKNOWN[0]} to {UNKNOWN[1]} tokens a field",
        "the most: every rollout is needed, and every prompt shows as many demos as allowed; no cache is deducted",
    ]
    if settings.max_repairs:
        said.append("every answer fits its signature: each that does not takes one call more, the repair turn")
    return (*said, "the metric is a program: its calls are counted too") if judged else tuple(said)
