"""The main job, on the embedded model."""

import json
import subprocess
import sys

import pytest

from tuneful.demo.program import messages


def test_the_data_set_is_sound():
    train, held_out = messages()

    assert (len(train), len(held_out)) == (320, 160)
    assert len({e.message for e in (*train, *held_out)}) == 480
    assert all(e.product in e.message for e in (*train, *held_out))
    for language in ("english", "french", "german", "spanish"):
        assert sum(e.language == language for e in held_out) >= 30


@pytest.mark.model
def test_the_demo_compiles_saves_and_shows_how_to_go_on(tmp_path):
    command = [sys.executable, "-m", "tuneful.cli.main", "demo", "--rows", "16", "--out", "desk.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for part in (
        "The plan",
        "original",
        "compiled",
        "What was learned",
        "Unparsable answers: 0",
        "To load and call it",
    ):
        assert part in done.stdout
    saved = json.loads((tmp_path / "desk.json").read_text(encoding="utf-8"))
    assert saved["provenance"]["models"] == ["local/smollm2"]
