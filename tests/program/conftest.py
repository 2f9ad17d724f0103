"""Every test begins with nothing configured and an empty history."""

import importlib.util
import sys
from pathlib import Path

import pytest

from tuneful.program.running import runtime

_file = Path(__file__).parents[1] / "backends" / "conftest.py"
_spec = importlib.util.spec_from_file_location("loopback_for_programs", _file)
_loopback = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_loopback)
server, waits = _loopback.server, _loopback.waits  # fixtures: a model server on the loopback interface, and its waits


@pytest.fixture(autouse=True)
def fresh_runtime(monkeypatch):
    monkeypatch.setattr(runtime, "_configured", {"cache": None})  # no file where the tests are run
    runtime._history.clear()
