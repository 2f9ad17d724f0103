"""`tuneful runs`, as a person types it."""

import pytest

import tuneful as tf
from tuneful.cli.main import main
from tuneful.store.runs import Runs
from tuneful.testing import DummyLM


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "j.sqlite"
    rows = [tf.Example(question=f"q{i}", answer="a").with_inputs("question") for i in range(30)]
    lm = DummyLM({"q": {"answer": "a"}})
    with tf.context(lm=lm, journal=str(path)):
        tf.BootstrapFewShot(metric=lambda e, p, t=None: e.answer == p.answer).compile(
            tf.Predict("question -> answer"), trainset=rows, run="desk"
        )
    return str(path)


def test_runs_are_listed_and_shown(journal, capsys):
    assert main(["runs", "--journal", journal]) == 0
    listed = capsys.readouterr().out
    assert "desk" in listed
    assert "finished" in listed
    assert main(["runs", "--journal", journal, "show", "desk"]) == 0
    shown = capsys.readouterr().out
    assert "verdict" in shown
    assert "no gain" in shown


def test_a_report_is_written_as_a_page(journal, tmp_path, capsys):
    page = tmp_path / "desk.html"
    assert main(["runs", "--journal", journal, "show", "desk", "--html", str(page)]) == 0
    assert page.read_text().startswith("<!doctype html>")


def test_a_run_that_goes_on_shows_how_far_it_is(journal, capsys, tmp_path):
    with Runs(journal) as runs:
        runs.begin("live", {"teleprompter": "BootstrapFewShot", "settings": {}, "seed": 0})
        runs.update("live", "search: 3 of at most 9 rollouts", {"calls": 3})
    assert main(["runs", "--journal", journal, "show", "live"]) == 0
    assert "search: 3 of at most 9" in capsys.readouterr().out
    assert main(["runs", "--journal", journal, "show", "live", "--html", str(tmp_path / "x.html")]) == 1


def test_all_compiles_of_a_name_are_listed_and_shown(journal, tmp_path, capsys):
    with Runs(journal) as runs:
        runs.begin("desk", {"teleprompter": "LabeledFewShot", "settings": {"k": 3}, "seed": 0})
    main(["runs", "--journal", journal])
    listed = capsys.readouterr().out
    page = tmp_path / "desk.html"
    assert main(["runs", "--journal", journal, "show", "desk", "--html", str(page)]) == 0
    shown = capsys.readouterr().out

    assert "BootstrapFewShot" in listed
    assert "LabeledFewShot" in listed
    assert shown.startswith("2 compiles have the name 'desk'")
    assert shown.index("LabeledFewShot(k=3)") < shown.index("verdict")
    assert "report of BootstrapFewShot" in shown
    assert page.exists()


@pytest.mark.parametrize(
    ("arguments", "said"), [(["show", "dsk"], "Did you mean `desk`"), (["show", "zzz"], "no run 'zzz'")]
)
def test_an_unknown_name_is_an_error_that_says_what_there_is(journal, capsys, arguments, said):
    assert main(["runs", "--journal", journal, *arguments]) == 1
    assert said in capsys.readouterr().err


def test_without_a_journal_it_says_how_to_get_one(tmp_path, capsys):
    assert main(["runs", "--journal", str(tmp_path / "none.sqlite")]) == 1
    assert "run='name'" in capsys.readouterr().err
