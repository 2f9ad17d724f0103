"""Demos as candidates: from labelled rows, and from a program's own successful runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneful.optimize.trial import Brief, Candidate
from tuneful.spec.signature import Signature

Demo = dict[str, Any]


def demo_paths(brief: Brief) -> dict[str, Signature]:
    """Return the predictors whose demos may be set: the path of the parameter, and the signature."""
    paths = {f"{path}.demos" if path else "demos": s for path, s in brief.signatures.items()}
    return {p: s for p, s in paths.items() if brief.tunable(p)}


def labelled(
    brief: Brief, k: int, *, stream: str, sample: bool = True, without: Sequence[int] = ()
) -> dict[str, list[Demo]]:
    """Return up to k rows as demos for each predictor, drawn for each from all rows that fit it.

    A row fits a predictor when it has at least one of its inputs and one of its outputs. A row that lacks some
    outputs (the reasoning, say) makes a partial demo.

    Args:
        brief: program and rows.
        k: most demos for a predictor.
        stream: name of the random stream.
        sample: draw at random; otherwise take the first ones.
        without: indices of rows to leave out.
    """
    found: dict[str, list[Demo]] = {}
    rows = [e.to_dict() for i, e in enumerate(brief.trainset) if i not in set(without)]
    for path, signature in demo_paths(brief).items():
        fitting = [d for d in (_restricted(r, signature) for r in rows) if d is not None]
        if sample:
            fitting = brief.stream(f"{stream}/{path}").sample(fitting, min(k, len(fitting)))
        found[path] = fitting[: max(0, k)]
    return found


def _restricted(row: Mapping[str, Any], signature: Signature) -> Demo | None:
    has_input = any(row.get(n) is not None for n in signature.input_fields)
    has_output = any(row.get(n) is not None for n in signature.output_fields)
    if not (has_input and has_output):
        return None
    return {n: row[n] for n in signature.fields if row.get(n) is not None}


def bootstrapped(
    brief: Brief, kept: Sequence[Mapping[str, Any]], *, counterexamples: bool = False
) -> dict[str, list[Demo]]:
    """Return the demos that successful runs give each predictor, by the path that the trace recorded.

    A predictor that ran several times on one example gives one demo: its last run half of the time, an earlier one
    otherwise.

    Args:
        brief: program and rows.
        kept: runs, each with `row` and `steps`.
        counterexamples: put into a demo also the answer that a constraint had turned down, and its message. They are
            shown where the predictor is asked again, whose signature has fields for them, and nowhere else.
    """
    found: dict[str, list[Demo]] = {path: [] for path in demo_paths(brief)}
    signatures = demo_paths(brief)
    for run in kept:
        for path, demos in found.items():
            steps = [s for s in run["steps"] if s["outputs"] and f"{s['path']}.demos".lstrip(".") == path]
            if steps:
                rng = brief.stream(f"several runs/{run['row']}/{path}")
                step = steps[-1] if len(steps) == 1 or rng.random() < 0.5 else rng.choice(steps[:-1])
                known = signatures[path].fields  # a run may have given a step more, such as a hint
                demo = {n: v for n, v in {**step["inputs"], **step["outputs"]}.items() if n in known}
                demos.append({**demo, **(step.get("correction", {}) if counterexamples else {})})
    return found


def joined(*parts: Mapping[str, Sequence[Demo]]) -> Candidate:
    """Return a candidate whose demos are those of the parts, one after the other, none twice."""
    candidate: Candidate = {}
    for path in dict.fromkeys(p for part in parts for p in part):
        demos: list[Demo] = []
        for part in parts:
            demos += [d for d in part.get(path, ()) if d not in demos]
        if demos:
            candidate[path] = demos
    return candidate


def picked(
    brief: Brief, kept: Sequence[Mapping[str, Any]], k: int, *, rows: bool = True, embedder: str | None = None
) -> Candidate:
    """Return the candidate whose demos are picked for each input: pools of runs, and of all rows that tell something.

    Args:
        brief: program and rows.
        kept: runs, each with `row` and `steps`.
        k: demos of a call.
        rows: whether labelled rows without a run are in the pools too.
        embedder: name of the model that measures likeness, where the predictors have no embedder of their own.
    """
    own = bootstrapped(brief, kept)
    count = len(brief.trainset) if rows else 0
    rest = labelled(brief, count, stream="rows", sample=False, without=[run["row"] for run in kept])
    candidate: Candidate = {}
    for path in own:
        found = [*own[path], *rest[path]]
        pool_path = f"{path.removesuffix('demos')}demo_pool"
        if found and brief.tunable(pool_path):
            named = {"embedder": embedder} if embedder is not None else {}
            candidate |= {path: [], pool_path: {"rows": found, "k": k, **named}}
    return candidate
