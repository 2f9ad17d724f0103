"""Public tools for tests: models that answer by script, and the laws that an adapter of one's own must keep."""

from tuneful.testing.check_adapter import check_adapter
from tuneful.testing.scripted import DummyLM, ScriptedLM

__all__ = ["DummyLM", "ScriptedLM", "check_adapter"]
