"""Every block of Python in the documents runs, in order."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("name", "said"), [("guide.md", "better by"), ("models.md", "median")])
def test_a_document_runs(tmp_path, name, said):
    text = (DOCS / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    script = tmp_path / "document.py"
    script.write_text("\n".join(blocks), encoding="utf-8")

    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert len(blocks) >= 5
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
