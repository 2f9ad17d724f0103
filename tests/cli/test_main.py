"""The commands, as a person types them."""

import json

import pytest

from tuneful.cli.main import main


def test_without_a_command_the_usage_is_shown(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_cached_answers_are_shown_exported_loaded_and_cleared(tmp_path, capsys):
    path, other, exported = (str(tmp_path / n) for n in ("a.sqlite", "b.sqlite", "answers.jsonl"))
    entry = {"key": "k", "response": {"choices": [{"text": "x"}], "usage": {"calls": 1}, "model": "m"}}
    (tmp_path / "some.jsonl").write_text(json.dumps(entry) + "\n")

    assert main(["cache", "load", str(tmp_path / "some.jsonl"), "--path", path]) == 0
    assert main(["cache", "export", exported, "--path", path]) == 0
    assert main(["cache", "load", exported, "--path", other]) == 0
    assert main(["cache", "show", "--path", other]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 answers,")
    assert main(["cache", "clear", "--path", other]) == 0
    assert main(["cache", "show", "--path", other]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("0 answers,")


def test_an_error_of_the_package_is_one_line_and_exit_status_1(tmp_path, capsys):
    (tmp_path / "wrong.jsonl").write_text("no json\n")
    assert main(["cache", "load", str(tmp_path / "wrong.jsonl"), "--path", str(tmp_path / "a.sqlite")]) == 1
    assert capsys.readouterr().err.startswith("tuneful: line 1 of")
