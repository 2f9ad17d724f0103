"""The examples run, on the embedded model, as a reader would run them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
DATA = ROOT.parent / "shared" / "data"  # public data sets; no part of the project

#: Examples that read a data set, and how few rows of it: the embedded model is slow, and some of it beyond it.
REAL_ROWS = {"constraints": 2, "din_sql": 1, "flare": 2, "multi_hop": 2, "rag": 2, "rarr": 1}


@pytest.mark.model
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_example_runs(path, tmp_path):
    done = subprocess.run([sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "llama" not in done.stderr


@pytest.mark.model
@pytest.mark.skipif(not DATA.exists(), reason=f"no data sets at {DATA}")
@pytest.mark.parametrize(("name", "rows"), REAL_ROWS.items())
def test_an_example_runs_on_real_rows(name, rows, tmp_path):
    words = [
        str(ROOT / "examples" / f"{name}.py"),
        "--model",
        "local/smollm2",
        "--data",
        str(DATA),
        "--rows",
        str(rows),
    ]
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr
    assert "score" in done.stdout
    assert "infra_error" not in done.stdout
    assert "metric_error" not in done.stdout
