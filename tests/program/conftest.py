"""Every test begins with nothing configured and an empty history."""

import pytest

from tuneful.program import runtime


@pytest.fixture(autouse=True)
def fresh_runtime(monkeypatch):
    monkeypatch.setattr(runtime, "_configured", {})
    runtime._history.clear()
