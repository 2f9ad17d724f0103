"""The named runs of a journal: how far each is, and what came of it."""

import sqlite3
import subprocess
import sys

import pytest

from tuneful.store.runs import Runs

ABOUT = {"teleprompter": "BootstrapFewShot", "settings": {"k": 1}, "seed": 0}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


def test_a_run_is_followed_from_its_start_to_its_report(path):
    with Runs(path) as runs, Runs(path) as reader:
        runs.begin("mine", ABOUT)
        assert reader.named("mine").status == "running"

        runs.update("mine", "search: 3 of at most 9 rollouts", {"calls": 3})
        assert reader.named("mine").progress.startswith("search: 3")
        assert reader.named("mine").spend == {"calls": 3}

        runs.end(
            "mine", "finished", "finished", spend={"calls": 9}, warnings={"retry": 2}, report={"verdict": "better"}
        )
        found = reader.named("mine")
    assert (found.status, found.spend, found.warnings) == ("finished", {"calls": 9}, {"retry": 2})
    assert found.report == {"verdict": "better"}
    assert found.about == ABOUT
    assert found.updated >= found.started


def test_the_same_run_again_counts_its_starts_and_keeps_its_beginning(path):
    with Runs(path) as runs:
        runs.begin("mine", ABOUT)
        first = runs.named("mine")
        runs.begin("mine", ABOUT)
        again = runs.named("mine")
        runs.begin("mine", {**ABOUT, "seed": 1})
        other = runs.named("mine")

    assert (first.starts, again.starts, other.starts) == (1, 2, 1)
    assert again.started == first.started < other.started


def test_a_report_stays_until_there_is_another(path):
    with Runs(path) as runs:
        runs.begin("mine", ABOUT)
        runs.end("mine", "finished", "finished", spend={}, warnings={}, report={"verdict": "better"})
        runs.begin("mine", ABOUT)
        runs.end("mine", "stopped", "no key", spend={}, warnings={}, report=None)
        found = runs.named("mine")

    assert (found.status, found.progress, found.report) == ("stopped", "no key", {"verdict": "better"})


def test_another_compile_of_the_name_gets_a_row_of_its_own(path):
    other = {**ABOUT, "teleprompter": "LabeledFewShot"}
    with Runs(path) as runs:
        for about, verdict in ((ABOUT, "better"), (other, "no gain")):
            runs.begin("mine", about)
            runs.end("mine", "finished", "finished", spend={}, warnings={}, report={"verdict": verdict})
        both = runs.all_named("mine")
        assert [(r.about, r.report["verdict"]) for r in both] == [(other, "no gain"), (ABOUT, "better")]
        assert len(runs.all()) == 2

        runs.begin("mine", ABOUT)
        runs.update("mine", "search", {})
        assert runs.named("mine").about == ABOUT
        assert runs.named("mine").progress == "search"
        assert runs.all_named("mine")[1].report == {"verdict": "no gain"}


def test_rows_of_a_journal_in_which_a_name_had_one_are_taken_over(path):
    with Runs(path) as runs:
        runs.begin("old", ABOUT)
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE run AS SELECT * FROM compile")
        db.execute("DELETE FROM compile")
    db.close()

    for _ in range(2):
        with Runs(path) as runs:
            assert [r.name for r in runs.all()] == ["old"]


def test_a_run_whose_process_is_gone_was_killed(path):
    code = f"from tuneful.store.runs import Runs; Runs({str(path)!r}).begin('gone', {ABOUT!r}); import os; os._exit(9)"
    subprocess.run([sys.executable, "-c", code])
    with Runs(path) as runs:
        runs.begin("here", ABOUT)
        assert runs.named("gone").status == "killed"
        assert runs.named("here").status == "running"


def test_the_last_updated_comes_first_and_an_unknown_name_is_none(path):
    with Runs(path) as runs:
        runs.begin("one", ABOUT)
        runs.begin("two", ABOUT)
        runs.end("one", "stopped", "interrupted", spend={}, warnings={}, report=None)

        assert [r.name for r in runs.all()] == ["one", "two"]
        assert runs.named("three") is None


def test_updates_within_a_second_are_one(path):
    with Runs(path) as runs:
        runs.begin("mine", ABOUT)
        runs.update("mine", "first", {})
        runs.update("mine", "second", {})
        assert runs.named("mine").progress == "first"
