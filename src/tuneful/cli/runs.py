"""`tuneful runs`: the named compiles of a journal, also while they run."""

from __future__ import annotations

import time
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
    """Return a run as text; with `html`, write its report to that file."""
    with _opened(journal) as runs:
        run = runs.named(name)
        known = [r.name for r in runs.all()]
    if run is None:
        raise DataError(f"the journal has no run {name!r}.{nearest(name, known)} It has: {', '.join(known)}.")
    report = None if run.report is None else CompileReport.from_json(run.report)
    if html is not None:
        if report is None:
            raise DataError(f"the run {name!r} has no report yet: it is {run.status}.")
        report.save(html)
    settings = ", ".join(f"{k}={v}" for k, v in run.about["settings"].items() if v is not None)
    lines = [
        f"{run.name}: {run.status}" + (f", report written to {html}" if html is not None else ""),
        f"  started    {_clock(run.started)}" + (f", {run.starts} times" if run.starts > 1 else ""),
        f"  last sign  {_clock(run.updated)} ({_ago(run)})",
    ]
    if report is not None:
        return "\n".join([*lines, str(report)])
    lines += [
        f"  compile    {run.about['teleprompter']}({settings}), seed {run.about['seed']}",
        f"  so far     {run.progress or 'nothing yet'}",
    ]
    if run.warnings:
        lines.append("  noted      " + ", ".join(f"{n} x {kind}" for kind, n in sorted(run.warnings.items())))
    if run.status == "killed":
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
