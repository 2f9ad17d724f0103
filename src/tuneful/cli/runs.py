"""`tuneful runs`: the named compiles of a journal, also while they run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tuneful.errors import DataError, nearest
from tuneful.optimize.plan import table
from tuneful.optimize.report import CompileReport
from tuneful.program.running.runtime import DEFAULTS
from tuneful.program.watching.compile_progress import duration
from tuneful.store.runs import Run, Runs


def listed(journal: Path | None) -> str:
    """Return the runs of a journal as a table, the last updated first."""
    with _opened(journal) as runs:
        found = runs.all()
    if not found:
        return "the journal has no named run yet: compile(..., run='name')"
    rows = [("name", "teleprompter", "status", "started", "last sign", "calls", "what")]
    for run in found:
        calls = f"{run.spend.get('calls', 0):,}"
        rows.append(
            (run.name, run.about["teleprompter"], run.status, _clock(run.started), _ago(run), calls, run.progress)
        )
    return table(rows)


def shown(journal: Path | None, name: str, html: Path | None = None) -> str:
    """Return the runs of a name as text, the last started first; with `html`, write its report to that file."""
    with _opened(journal) as runs:
        found = runs.all_named(name)
        known = list(dict.fromkeys(r.name for r in runs.all()))
    if not found:
        raise DataError(f"the journal has no run {name!r}.{nearest(name, known)} It has: {', '.join(known)}.")
    texts = [_shown(run) for run in found]
    if len(found) > 1:
        texts.insert(0, f"{len(found)} compiles have the name {name!r}, the last started first:")
    if html is not None:
        texts.append(_written(found, html))
    return "\n\n".join(texts)


def _written(runs: Sequence[Run], html: Path) -> str:
    """Write the report of the first run that has one to a file."""
    for run in runs:
        if run.report is not None:
            CompileReport.from_json(run.report).save(html)
            return f"report of {run.about['teleprompter']}, started {_clock(run.started)}, written to {html}"
    raise DataError(f"the run {runs[0].name!r} has no report yet: it is {runs[0].status}.")


def _shown(run: Run) -> str:
    lines = [
        f"{run.name}: {run.status}",
        f"  started    {_clock(run.started)}" + (f", {run.starts} times" if run.starts > 1 else ""),
        f"  last sign  {_clock(run.updated)} ({_ago(run)})",
    ]
    if run.report is not None:
        return "\n".join([*lines, str(CompileReport.from_json(run.report))])
    settings = ", ".join(f"{k}={v}" for k, v in run.about["settings"].items() if v is not None)
    lines += [
        f"  compile    {run.about['teleprompter']}({settings}), seed {run.about['seed']}",
        f"  so far     {run.progress or 'nothing yet'}",
    ]
    if run.warnings:
        lines.append("  noted      " + ", ".join(f"{n} x {kind}" for kind, n in sorted(run.warnings.items())))
    if run.status in ("killed", "stopped"):
        lines.append("  to go on   run the same script again: what is in the journal is not paid for twice")
    return "\n".join(lines)


def _opened(journal: Path | None) -> Runs:
    journal = journal or Path(DEFAULTS["journal"])
    if not journal.exists():
        raise DataError(f"there is no journal at {journal}. Name a run, compile(..., run='name'), or give --journal.")
    return Runs(journal)


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _ago(run: Run) -> str:
    return f"{duration(max(0.0, time.time() - run.updated))} ago"
